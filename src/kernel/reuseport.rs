//! Connections handed out to the workers in turn: `ebpf/reuseport.bpf.c`, attached to the sockets that share an address.
//!
//! The kernel's own choice is a hash over addresses and ports: even on average, and 40 to 60 for a hundred connections. What
//! is attached belongs to the sockets, not to this process: it stays with those that a service manager keeps, and the next
//! run puts its own in its place.

use std::{
    error::Error,
    io, iter,
    net::TcpListener,
    thread,
    time::{Duration, Instant},
};

use aya::{
    Ebpf, EbpfError, EbpfLoader,
    maps::{MapError, ReusePortSockArray},
    programs::{ProgramError, SkReuseport},
};

use super::load::load;

/// The object of `ebpf/reuseport.bpf.c`.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/reuseport.bpf.o"));

const SOCKETS: &str = "reuseport_sockets";
const PROGRAM: &str = "gapi_reuseport";
/// How long the kernel may take to let go of sockets whose program was an earlier run's.
const PATIENCE: Duration = Duration::from_secs(2);
const AGAIN: Duration = Duration::from_millis(10);

/// Has the connections of one address handed out to `listeners`, which share it, in turn. Where the kernel does not take the
/// program, its hash goes on choosing.
pub fn share_out(listeners: &[TcpListener]) {
    match attach(listeners) {
        Ok(()) => {}
        // Those of an earlier run are still in the array of that one, which the kernel clears in its own time.
        Err(error) if is_busy(&error) => attach_later(listeners),
        Err(error) => tell(&error),
    }
}

fn attach(listeners: &[TcpListener]) -> Result<(), EbpfError> {
    let [first, _, ..] = listeners else { return Ok(()) };
    let count = u32::try_from(listeners.len()).unwrap_or(u32::MAX);
    let mut ebpf = EbpfLoader::new().override_global("sockets", &count, true).load(OBJECT)?;
    load(|| program(&mut ebpf)?.load())?;
    // There is none where no run was before.
    _ = SkReuseport::detach(first);
    let missing = || MapError::InvalidName { name: SOCKETS.to_owned() };
    let mut sockets: ReusePortSockArray<_> = ebpf.take_map(SOCKETS).ok_or_else(missing)?.try_into()?;
    for (index, listener) in (0..).zip(listeners) {
        sockets.set(index, listener, 0)?;
    }
    program(&mut ebpf)?.attach(first)?;
    Ok(())
}

fn program(ebpf: &mut Ebpf) -> Result<&mut SkReuseport, ProgramError> {
    ebpf.program_mut(PROGRAM).ok_or(ProgramError::NotLoaded)?.try_into()
}

fn attach_later(listeners: &[TcpListener]) {
    let Ok(listeners) = listeners.iter().map(TcpListener::try_clone).collect::<io::Result<Vec<_>>>() else { return };
    let again = move || {
        let start = Instant::now();
        loop {
            thread::sleep(AGAIN);
            match attach(&listeners) {
                Err(error) if is_busy(&error) && start.elapsed() < PATIENCE => {}
                Err(error) => return tell(&error),
                Ok(()) => return tracing::debug!(after = ?start.elapsed(), "connections are shared out anew"),
            }
        }
    };
    if let Err(error) = thread::Builder::new().name("reuseport".to_owned()).spawn(again) {
        tracing::debug!(%error, "no thread");
    }
}

fn is_busy(error: &EbpfError) -> bool {
    let EbpfError::MapError(MapError::SyscallError(error)) = error else { return false };
    error.io_error.raw_os_error() == Some(libc::EBUSY)
}

fn tell(error: &EbpfError) {
    let causes = iter::successors(error.source(), |cause| (*cause).source());
    let error = causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"));
    tracing::debug!(%error, "connections are shared out by the kernel's hash");
}
