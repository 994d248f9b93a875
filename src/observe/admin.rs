//! How do the commands speak to the daemon? One JSON request line and one JSON answer line over a Unix socket.
//!
//! The protocol knows nothing of what is asked: both types are the caller's. Every read, write and wait has a deadline
//! and every size a bound, so that no client can hold, fill or stop the daemon.

use std::{
    fmt,
    future::Future,
    io::{self, Read, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    sync::Semaphore,
    time::timeout,
};

/// Name of the socket in the runtime directory.
pub const SOCKET: &str = "gapi.sock";

/// A request line is at most this long.
const MAX_REQUEST: usize = 64 << 10;
/// An answer is at most this long: what a directory at the bounds of *parse* can hold.
const MAX_ANSWER: u64 = 1 << 30;
/// Clients served at a time; more wait in the socket's queue.
const MAX_CLIENTS: usize = 32;
/// For a request line to come, from the connect on.
const REQUEST_DEADLINE: Duration = Duration::from_secs(5);
/// For the daemon to find the answer: a reload waits for a pass.
pub const HANDLER_DEADLINE: Duration = Duration::from_secs(60);
/// For the answer to be taken.
const ANSWER_DEADLINE: Duration = Duration::from_secs(30);
/// For the daemon to take a connection, on the client's side.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);

/// What an answer line holds.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
enum Envelope<A> {
    Answer(A),
    /// Why the request got none.
    Error(String),
}

/// Binds the admin socket of `runtime_dir`, mode 0660. What stands there from an earlier daemon is replaced.
///
/// # Errors
/// Those of the file system; the path is longer than a Unix socket's may be; a daemon listens there.
pub fn bind(runtime_dir: &Path) -> io::Result<UnixListener> {
    let path = runtime_dir.join(SOCKET);
    if std::os::unix::net::UnixStream::connect(&path).is_ok() {
        return Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "another gapi listens there; stop it, or choose another --runtime-dir",
        ));
    }
    // Bound under another name first, so that the socket is never there with other permissions than its own.
    let unready = runtime_dir.join(".gapi.sock");
    match std::fs::remove_file(&unready) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&unready)?;
    std::fs::set_permissions(&unready, std::fs::Permissions::from_mode(0o660))?;
    std::fs::rename(&unready, &path)?;
    Ok(listener)
}

/// Answers requests with what `handler` says, until dropped. Belongs on the control runtime.
pub async fn serve<Q, A, F>(listener: UnixListener, handler: impl Fn(Q) -> F + Send + Sync + 'static)
where
    Q: DeserializeOwned + Send + 'static,
    A: Serialize + Send + 'static,
    F: Future<Output = A> + Send + 'static,
{
    let handler = Arc::new(handler);
    let clients = Arc::new(Semaphore::new(MAX_CLIENTS));
    loop {
        let Ok(permit) = clients.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let handler = handler.clone();
                tokio::spawn(async move {
                    if let Err(error) = exchange(stream, &*handler).await {
                        tracing::debug!(%error, "admin client failed");
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                // Out of file descriptors, mostly: they come back.
                tracing::warn!(%error, "admin socket cannot accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// One request and its answer.
async fn exchange<Q, A, F>(mut stream: UnixStream, handler: &impl Fn(Q) -> F) -> io::Result<()>
where
    Q: DeserializeOwned,
    A: Serialize,
    F: Future<Output = A>,
{
    let line = timeout(REQUEST_DEADLINE, read_line(&mut stream)).await.map_err(|_| io::ErrorKind::TimedOut)?;
    let request = line.and_then(|line| serde_json::from_slice(&line).map_err(io::Error::from));
    let envelope = match request {
        Ok(request) => match timeout(HANDLER_DEADLINE, handler(request)).await {
            Ok(answer) => Envelope::Answer(answer),
            Err(_) => Envelope::Error(format!("no answer within {} seconds", HANDLER_DEADLINE.as_secs())),
        },
        Err(error) => Envelope::Error(format!("the request cannot be read: {error}")),
    };
    let mut answer = serde_json::to_vec(&envelope)?;
    answer.push(b'\n');
    timeout(ANSWER_DEADLINE, stream.write_all(&answer)).await.map_err(|_| io::ErrorKind::TimedOut)?
}

async fn read_line(stream: &mut UnixStream) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let read = stream.read(&mut buffer).await?;
        let chunk = &buffer[..read];
        let end = chunk.iter().position(|byte| *byte == b'\n');
        line.extend_from_slice(&chunk[..end.unwrap_or(read)]);
        if line.len() > MAX_REQUEST {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("longer than {MAX_REQUEST} bytes")));
        }
        if end.is_some() {
            return Ok(line);
        }
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Why a call brought no answer.
#[derive(Debug)]
pub enum CallError {
    /// Nobody answers at this path.
    Unreachable(PathBuf, io::Error),
    /// The daemon answers, but not the question.
    Refused(String),
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CallError::Unreachable(path, error) if error.kind() == io::ErrorKind::PermissionDenied => {
                write!(f, "no permission for {}: be root or a member of its group", path.display())
            }
            CallError::Unreachable(path, error) if error.kind() == io::ErrorKind::NotFound => {
                write!(f, "no daemon runs: there is no {}", path.display())
            }
            CallError::Unreachable(path, error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                write!(f, "no daemon runs: nobody listens at {}", path.display())
            }
            CallError::Unreachable(path, error) if error.kind() == io::ErrorKind::TimedOut => {
                write!(f, "the daemon at {} does not answer in time", path.display())
            }
            CallError::Unreachable(path, error) => write!(f, "no daemon answers at {}: {error}", path.display()),
            CallError::Refused(reason) => write!(f, "the daemon refused: {reason}"),
        }
    }
}

impl std::error::Error for CallError {}

/// Asks the daemon of `runtime_dir`. Blocks until the answer is there, at most for `patience`.
///
/// # Errors
/// [`CallError`] says whether there is a daemon at all.
pub fn call<Q: Serialize, A: DeserializeOwned>(
    runtime_dir: &Path,
    request: &Q,
    patience: Duration,
) -> Result<A, CallError> {
    let path = runtime_dir.join(SOCKET);
    let line = transfer(&path, request, patience).map_err(|error| CallError::Unreachable(path, error))?;
    match serde_json::from_slice(&line) {
        Ok(Envelope::Answer(answer)) => Ok(answer),
        Ok(Envelope::Error(reason)) => Err(CallError::Refused(reason)),
        Err(error) => Err(CallError::Refused(format!("its answer cannot be read ({error}); is it of this version?"))),
    }
}

/// Sends the request line and reads the answer line.
fn transfer(path: &Path, request: &impl Serialize, patience: Duration) -> io::Result<Vec<u8>> {
    let deadline = Instant::now() + patience;
    let mut stream = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    stream.connect_timeout(&SockAddr::unix(path)?, CONNECT_DEADLINE)?;
    stream.set_write_timeout(Some(REQUEST_DEADLINE))?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut answer = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let left = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero());
        stream.set_read_timeout(Some(left.ok_or(io::ErrorKind::TimedOut)?))?;
        let read = match stream.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(io::ErrorKind::TimedOut.into()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        answer.extend_from_slice(&buffer[..read]);
        if answer.ends_with(b"\n") {
            answer.pop();
            return Ok(answer);
        }
        if answer.len() as u64 > MAX_ANSWER {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the answer is too long"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream as Client;

    const PATIENCE: Duration = Duration::from_secs(10);

    /// A server that doubles numbers, on a thread that ends with the test process.
    fn doubling(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("gapi-admin-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("temporary directory");
        let (ready, started) = std::sync::mpsc::channel();
        let at = dir.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
            runtime.block_on(async {
                let listener = bind(&at).expect("binds");
                ready.send(()).expect("waited for");
                serve(listener, |number: u64| async move { number * 2 }).await;
            });
        });
        started.recv().expect("the server starts");
        dir
    }

    #[test]
    fn answers_and_replaces_a_stale_socket() {
        let dir = std::env::temp_dir().join(format!("gapi-admin-{}-answers", std::process::id()));
        std::fs::create_dir_all(&dir).expect("temporary directory");
        drop(std::os::unix::net::UnixListener::bind(dir.join(SOCKET)));
        assert!(matches!(call::<u64, u64>(&dir, &1, PATIENCE), Err(CallError::Unreachable(..))));
        let dir = doubling("answers");
        assert_eq!(call::<u64, u64>(&dir, &21, PATIENCE).expect("answers"), 42);
        let mode = std::fs::metadata(dir.join(SOCKET)).expect("is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o660);
        std::fs::remove_dir_all(dir).expect("cleans up");
    }

    #[test]
    fn bad_clients_hurt_nobody() {
        let dir = doubling("bad");
        let path = dir.join(SOCKET);
        let idle: Vec<Client> = (0..8).map(|_| Client::connect(&path).expect("connects")).collect();
        let mut long = Client::connect(&path).expect("connects");
        let mut answer = String::new();
        // The server may close before all of it is taken.
        let _ = long.write_all(&vec![b'1'; MAX_REQUEST + 4096]);
        let _ = long.read_to_string(&mut answer);
        assert!(answer.is_empty() || answer.contains("longer than"), "{answer}");
        let mut nonsense = Client::connect(&path).expect("connects");
        nonsense.write_all(b"{]\n").expect("is taken");
        answer.clear();
        nonsense.read_to_string(&mut answer).expect("is answered");
        assert!(answer.starts_with(r#"{"error":"the request cannot be read"#), "{answer}");
        drop(Client::connect(&path));
        assert!(matches!(call::<&str, u64>(&dir, &"x", PATIENCE), Err(CallError::Refused(_))));
        assert_eq!(call::<u64, u64>(&dir, &1, PATIENCE).expect("still answers"), 2);
        drop(idle);
        std::fs::remove_dir_all(dir).expect("cleans up");
    }

    #[test]
    fn a_daemon_that_hangs_is_given_up() {
        let dir = std::env::temp_dir().join(format!("gapi-admin-{}-hangs", std::process::id()));
        std::fs::create_dir_all(&dir).expect("temporary directory");
        let path = dir.join(SOCKET);
        let _ = std::fs::remove_file(&path);
        let _silent = std::os::unix::net::UnixListener::bind(&path).expect("binds");
        let error = call::<u64, u64>(&dir, &1, Duration::from_millis(50)).expect_err("nobody answers");
        assert!(matches!(error, CallError::Unreachable(_, error) if error.kind() == io::ErrorKind::TimedOut));
        std::fs::remove_dir_all(dir).expect("cleans up");
    }

    #[test]
    fn no_daemon_is_told_apart() {
        let error = call::<u64, u64>(Path::new("/nonexistent"), &1, PATIENCE).expect_err("nobody there");
        assert_eq!(error.to_string(), "no daemon runs: there is no /nonexistent/gapi.sock");
    }
}
