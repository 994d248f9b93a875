//! gRPC's own client for Python makes all kinds of calls to `gapi echo`.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use crate::{
    call::backend,
    stage::{HOST, Routes, service},
};

const VERSION: &str = "1.85.3";

/// A Python that has grpcio, in a place of its own where it is kept; none where there is no Python or no package.
fn python() -> Option<PathBuf> {
    let place = Path::new(&std::env::var_os("HOME")?).join(".cache/gapi-grpcio");
    let python = place.join("bin/python3");
    let runs = |command: &mut Command| command.stdout(Stdio::null()).status().is_ok_and(|status| status.success());
    let has = || runs(Command::new(&python).args(["-c", "import grpc"]).stderr(Stdio::null()));
    if !has() {
        let package = format!("grpcio=={VERSION}");
        let made = runs(Command::new("python3").args(["-m", "venv"]).arg(&place))
            && runs(Command::new(&python).args(["-m", "pip", "install", "--quiet", "--only-binary=:all:", &package]));
        if !made || !has() {
            return None;
        }
    }
    Some(python)
}

/// The program, for as long as the value lives.
struct Echo(Child, SocketAddr);

impl Echo {
    fn start() -> Echo {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gapi"));
        command.args(["echo", "--name", "pod-1", "--listen", "127.0.0.1:0"]).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the program runs");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("is piped")).read_line(&mut line).expect("says where it listens");
        let address = line.trim().strip_prefix("listening on ").expect("says so").parse().expect("an address");
        Echo(child, address)
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_client_of_another_author() {
    let Some(python) = python() else {
        eprintln!("SKIPPED: no Python that can have grpcio; install python3-venv, and let pip reach its index");
        return;
    };
    let echo = Echo::start();
    let hanging = backend(|_, respond, _| async move {
        std::future::pending::<()>().await;
        drop(respond);
    });
    let served = Routes::default()
        .backend("echo", &[echo.1])
        .rule(service("/gapi.test.Echo"), &["echo"])
        .backend("nobody", &[])
        .rule(service("/gapi.test.Nobody"), &["nobody"])
        .backend("hanging", &[hanging])
        .rule(service("/gapi.test.Hanging"), &["hanging"])
        .start();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/grpc/client.py");
    let ran = Command::new(python).arg(script).args([&served.address.to_string(), HOST]).output().expect("it runs");
    let said = String::from_utf8(ran.stdout).expect("text");
    let wanted = "unary: b'hello' from pod-1, OK ''
large: True
server stream: [b'again', b'again', b'again']
client stream: b'abc'
both stream: [b'one', b'two', b'three']
many: True
cancelled: CANCELLED
no match: UNIMPLEMENTED 'no route matches this request'
no endpoint: UNAVAILABLE 'the backend has no ready endpoint'
hanging: DEADLINE_EXCEEDED
";
    assert_eq!(said, wanted, "{}", String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success());
}
