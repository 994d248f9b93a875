//! Where the deny programs are attached: XDP in the driver of a network card that can, else tc at ingress, as a tcx link or,
//! on kernels before 6.6, as a filter of clsact.

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    path::{Path, PathBuf},
};

#[cfg(test)]
use aya::programs::{TestRunOptions, TestRunResult};
use aya::{
    Ebpf, EbpfError,
    maps::{Map, MapError},
    programs::{
        LinkOrder, ProgramError, SchedClassifier, TcAttachType, Xdp, XdpMode,
        links::{FdLink, LinkError, PinnedLink},
        tc::{self, NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle},
    },
};

use crate::kernel::{load::load, netlink::Netlink};

/// Below it each daemon has a directory for its links in each network.
pub const PINS: &str = "/sys/fs/bpf/gapi-deny";
/// Of the filter at clsact: before what forwards.
const PRIORITY: u16 = 1;
const HANDLE: TcHandle = TcHandle::new(0, 0xdead);
const XDP: &str = "gapi_deny_xdp";
const TC: &str = "gapi_deny_tc";

/// How a program is attached.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Hook {
    /// Run by the driver.
    Xdp,
    Tc,
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Hook::Xdp => "XDP",
            Hook::Tc => "tc",
        })
    }
}

/// An interface and what became of it.
pub struct Attached {
    pub interface: String,
    /// Or why the programs are not there; it is tried again.
    pub hook: Result<Hook, String>,
    link: Option<Link>,
}

/// That a program is attached: for as long as this lives, or longer where it is pinned or a filter of clsact.
enum Link {
    Fd { _held: FdLink, pin: Option<PathBuf> },
    Filter(SchedClassifierLink),
}

impl Link {
    fn detach(self) {
        // Without its pin, or as a filter, it goes when dropped.
        if let Link::Fd { pin: Some(pin), .. } = &self {
            _ = fs::remove_file(pin);
        }
    }

    /// Leaves the program attached, as far as it can be.
    fn leave(self) {
        if let Link::Filter(filter) = self {
            std::mem::forget(filter);
        }
    }
}

/// The programs, and the interfaces that they are attached to.
pub struct Hooks {
    ebpf: Ebpf,
    /// Does the kernel take the program for XDP?
    xdp: bool,
    /// Where links are pinned; none where nothing can be.
    pins: Option<PathBuf>,
    attached: BTreeMap<u32, Attached>,
}

impl Hooks {
    /// Loads the programs of `ebpf`. That for XDP is not needed.
    pub fn new(mut ebpf: Ebpf, pins: &Path) -> Result<Hooks, EbpfError> {
        load(|| tc(&mut ebpf)?.load())?;
        let loaded = load(|| xdp(&mut ebpf)?.load());
        if let Err(error) = &loaded {
            tracing::debug!(%error, "deny list not by XDP");
        }
        Ok(Hooks { ebpf, xdp: loaded.is_ok(), pins: place(pins), attached: BTreeMap::new() })
    }

    /// A map of the programs, which have it as well.
    pub fn take_map(&mut self, name: &str) -> Result<Map, MapError> {
        self.ebpf.take_map(name).ok_or_else(|| MapError::InvalidName { name: name.to_owned() })
    }

    pub fn attached(&self) -> impl Iterator<Item = &Attached> {
        self.attached.values()
    }

    /// Attaches the programs to interfaces that have come, to none unless they are `wanted`.
    pub fn follow(&mut self, wanted: bool) {
        if !wanted {
            std::mem::take(&mut self.attached).into_values().filter_map(|one| one.link).for_each(Link::detach);
            return;
        }
        let interfaces = match interfaces() {
            Ok(interfaces) => interfaces,
            Err(error) => return tracing::warn!(%error, "interfaces cannot be listed"),
        };
        let gone: Vec<u32> = self.attached.keys().copied().filter(|index| !interfaces.contains_key(index)).collect();
        for index in gone {
            self.attached.remove(&index).and_then(|one| one.link).into_iter().for_each(Link::detach);
        }
        for (index, interface) in interfaces {
            match self.attached.get_mut(&index) {
                Some(attached) if attached.hook.is_ok() => attached.interface = interface,
                _ => self.attach(index, interface),
            }
        }
    }

    /// Leaves the programs where they are.
    pub fn leave(self) {
        self.attached.into_values().filter_map(|one| one.link).for_each(Link::leave);
    }

    #[cfg(test)]
    pub fn test_run(&self, hook: Hook, options: TestRunOptions<'_>) -> Result<TestRunResult, ProgramError> {
        use aya::programs::TestRun;
        let program = |name| self.ebpf.program(name).ok_or(ProgramError::NotLoaded);
        match hook {
            Hook::Xdp => <&Xdp>::try_from(program(XDP)?)?.test_run(options),
            Hook::Tc => <&SchedClassifier>::try_from(program(TC)?)?.test_run(options),
        }
    }

    fn attach(&mut self, index: u32, interface: String) {
        let attached = self.attach_xdp(index, &interface).or_else(|not_by_xdp| {
            tracing::debug!(%interface, error = %not_by_xdp, "deny list not by XDP");
            self.attach_tc(index, &interface)
        });
        let (hook, link) = match attached {
            Ok((hook, link)) => (Ok(hook), Some(link)),
            Err(error) => (Err(reasons(&error)), None),
        };
        match (&hook, self.attached.get(&index)) {
            (Ok(hook), _) => tracing::info!(%interface, %hook, "deny list attached"),
            // It went meanwhile.
            (Err(_), None) if interfaces().is_ok_and(|now| !now.contains_key(&index)) => return,
            // Once.
            (Err(error), None) => {
                tracing::warn!(%interface, %error, "deny list not attached: only in user space there")
            }
            _ => {}
        }
        self.attached.insert(index, Attached { interface, hook, link });
    }

    fn attach_xdp(&mut self, index: u32, interface: &str) -> Result<(Hook, Link), ProgramError> {
        if !self.xdp || !is_card(interface) {
            return Err(ProgramError::NotLoaded);
        }
        let pin = self.pin("xdp", index);
        let program = xdp(&mut self.ebpf)?;
        if let Some(earlier) = pin.as_deref().and_then(earlier)
            && let Ok(earlier) = earlier.try_into()
            && let Ok(id) = program.attach_to_link(earlier)
        {
            let held = program.take_link(id)?.try_into().map_err(no_link)?;
            return Ok((Hook::Xdp, Link::Fd { _held: held, pin }));
        }
        let id = program.attach_to_if_index(index, XdpMode::Driver)?;
        let held = program.take_link(id)?.try_into().map_err(no_link)?;
        Ok((Hook::Xdp, pinned(held, pin)?))
    }

    fn attach_tc(&mut self, index: u32, interface: &str) -> Result<(Hook, Link), ProgramError> {
        let pin = self.pin("tc", index);
        let program = tc(&mut self.ebpf)?;
        if let Some(earlier) = pin.as_deref().and_then(earlier)
            && let Ok(earlier) = earlier.try_into()
            && let Ok(id) = program.attach_to_link(earlier)
        {
            let held = program.take_link(id)?.try_into().map_err(no_link)?;
            return Ok((Hook::Tc, Link::Fd { _held: held, pin }));
        }
        let first = TcAttachOptions::TcxOrder(LinkOrder::first());
        match program.attach_with_options(interface, TcAttachType::Ingress, first) {
            Ok(id) => {
                let held = program.take_link(id)?.try_into().map_err(no_link)?;
                Ok((Hook::Tc, pinned(held, pin)?))
            }
            // Before 6.6.
            Err(_) => Ok((Hook::Tc, Link::Filter(attach_filter(program, interface)?))),
        }
    }

    fn pin(&self, hook: &str, index: u32) -> Option<PathBuf> {
        self.pins.as_ref().map(|pins| pins.join(format!("{hook}-{index}")))
    }
}

/// A filter at the interface's clsact, instead of that of an earlier run.
fn attach_filter(program: &mut SchedClassifier, interface: &str) -> Result<SchedClassifierLink, ProgramError> {
    // It may be there; if it cannot be, the next call says so.
    _ = tc::qdisc_add_clsact(interface);
    let earlier = SchedClassifierLink::attached(interface, TcAttachType::Ingress, PRIORITY, HANDLE, None);
    let replaced = earlier.map_err(tc::TcError::from).map_err(ProgramError::from);
    let id = replaced.and_then(|earlier| program.attach_to_link(earlier)).or_else(|_| {
        let options = NlOptions { priority: PRIORITY, handle: HANDLE, classid: None };
        program.attach_with_options(interface, TcAttachType::Ingress, TcAttachOptions::Netlink(options))
    })?;
    program.take_link(id)
}

/// Takes the programs of every run off: those that are pinned, in any network, and filters in this one.
///
/// # Errors
/// The pins cannot be listed or removed.
pub fn detach_all() -> io::Result<()> {
    match fs::remove_dir_all(PINS) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    for interface in interfaces()?.into_values() {
        // Where there is no filter of the name, nothing is to be done.
        _ = tc::qdisc_detach_program(&interface, TcAttachType::Ingress, TC);
    }
    Ok(())
}

fn tc(ebpf: &mut Ebpf) -> Result<&mut SchedClassifier, ProgramError> {
    ebpf.program_mut(TC).ok_or(ProgramError::NotLoaded)?.try_into()
}

fn xdp(ebpf: &mut Ebpf) -> Result<&mut Xdp, ProgramError> {
    ebpf.program_mut(XDP).ok_or(ProgramError::NotLoaded)?.try_into()
}

/// The link that an earlier run pinned.
fn earlier(pin: &Path) -> Option<FdLink> {
    PinnedLink::from_pin(pin).ok().map(FdLink::from)
}

fn no_link(error: LinkError) -> ProgramError {
    io::Error::other(error).into()
}

/// Keeps a link beyond this process, where there is a place for it.
fn pinned(link: FdLink, pin: Option<PathBuf>) -> Result<Link, ProgramError> {
    let Some(pin) = pin else { return Ok(Link::Fd { _held: link, pin: None }) };
    // That of an interface that has gone, and whose number came again.
    _ = fs::remove_file(&pin);
    let link = link.pin(&pin).map_err(io::Error::other)?;
    Ok(Link::Fd { _held: link.into(), pin: Some(pin) })
}

/// A directory for pins, if it is on a file system that has them.
fn place(pins: &Path) -> Option<PathBuf> {
    const BPF_FS_MAGIC: rustix::fs::FsWord = 0xcafe_4a11;
    let made = fs::create_dir_all(pins);
    let is_bpf = rustix::fs::statfs(pins).is_ok_and(|system| system.f_type == BPF_FS_MAGIC);
    if let Err(error) = &made {
        tracing::debug!(path = %pins.display(), %error, "no place for pins");
    }
    is_bpf.then(|| pins.to_owned())
}

/// Is it a network card? Packets of other interfaces have become socket buffers by the time that XDP sees them, so that it is
/// no gain, and the others pay: the peer of a veth sends no long segments any more, a third of its throughput is left.
fn is_card(interface: &str) -> bool {
    Path::new("/sys/class/net").join(interface).join("device").exists()
}

/// Interfaces but loopback, by their number.
fn interfaces() -> io::Result<BTreeMap<u32, String>> {
    let all = Netlink::open()?.interfaces()?.into_iter();
    Ok(all.filter(|one| !one.is_loopback).map(|one| (one.index, one.name)).collect())
}

/// An error with what caused it.
fn reasons(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
