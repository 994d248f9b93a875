//! BIND: the real name server, in a directory of its own. It listens at a port of 127.0.0.1 alone, so a relay gives it
//! port 53 of an address of 127.0.0.0/8.

use std::{
    fmt::Write as _,
    fs::{self, File},
    io::Write as _,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU8, Ordering},
    thread,
    time::Duration,
};

use crate::support::{Directory, free_port, loopback, wait};

/// Name, algorithm and secret of the key that may change zones.
pub const KEY: (&str, &str) = ("gapi", "bm9ib2R5IGlzIHRvIHNlZSB0aGlzIHNlY3JldCBrZXk=");

/// A server of some zones.
pub struct Bind {
    directory: Directory,
    address: SocketAddr,
    child: Option<Child>,
}

impl Bind {
    /// Serves these zones, each with its NS records (name and address) and further records, one a line. None, loudly,
    /// where this machine has no BIND.
    pub fn start(zones: &[(&str, &[&str])]) -> Option<Bind> {
        Bind::start_at(address(), zones)
    }

    /// The same, at an address that was chosen before, so that zones can name it.
    pub fn start_at(address: SocketAddr, zones: &[(&str, &[&str])]) -> Option<Bind> {
        let named = ["/usr/sbin/named", "/usr/bin/named"].into_iter().find(|path| fs::exists(path).unwrap_or(false));
        let Some(named) = named else {
            eprintln!("SKIPPED: named is not there; install Debian's packages bind9 and bind9-dnsutils");
            return None;
        };
        let directory = Directory::new();
        let path = directory.path();
        let own = if address.port() == 53 { loopback(free_port()) } else { address };
        if own != address {
            relay(address, own);
        }
        let mut text = format!(
            "options {{ directory \"{0}\"; pid-file \"{0}/pid\"; session-keyfile \"{0}/session.key\";\n\
             listen-on port {1} {{ {2}; }}; listen-on-v6 {{ none; }}; recursion yes; dnssec-validation no;\n\
             allow-transfer {{ none; }}; notify no; minimal-responses yes; }};\n\
             controls {{ }};\nkey \"{3}\" {{ algorithm hmac-sha256; secret \"{4}\"; }};\n",
            path.display(),
            own.port(),
            own.ip(),
            KEY.0,
            KEY.1,
        );
        // With a root of its own it asks nobody else, whatever it is asked: no question leaves this machine.
        text.push_str("zone \".\" { type primary; file \"root.zone\"; };\n");
        let root = format!("$TTL 5\n@ SOA ns hostmaster 1 60 60 600 1\n@ NS ns\nns A {}\n", address.ip());
        fs::write(path.join("root.zone"), root).expect("writable");
        for (zone, records) in zones {
            let _ = writeln!(
                text,
                "zone \"{zone}\" {{ type primary; file \"{zone}.zone\"; allow-update {{ key \"{}\"; }}; }};",
                KEY.0
            );
            let mut lines = format!("$TTL 5\n@ SOA ns hostmaster 1 60 60 600 1\nns A {}\n", address.ip());
            if !records.iter().any(|record| record.starts_with("@ NS")) {
                lines.push_str("@ NS ns\n");
            }
            records.iter().for_each(|record| lines = format!("{lines}{record}\n"));
            fs::write(path.join(format!("{zone}.zone")), lines).expect("writable");
        }
        fs::write(path.join("named.conf"), text).expect("writable");
        let log = File::create(path.join("log")).expect("writable");
        let child = Command::new(named)
            .args(["-g", "-c"])
            .arg(path.join("named.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("named runs");
        let bind = Bind { directory, address, child: Some(child) };
        wait("named answers", Duration::from_secs(30), || {
            zones.iter().all(|(zone, _)| !bind.dig("SOA", zone).is_empty())
        });
        Some(bind)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The answers to a question, one a line.
    pub fn dig(&self, kind: &str, name: &str) -> String {
        let port = self.address.port().to_string();
        let server = format!("@{}", self.address.ip());
        let ran = Command::new("dig")
            .args([&server, "-p", &port, "+short", "+norecurse", "+time=2", "+tries=2", kind, name])
            .output()
            .expect("dig is there: Debian's package bind9-dnsutils");
        if ran.status.success() { String::from_utf8_lossy(&ran.stdout).into_owned() } else { String::new() }
    }

    /// The values of the TXT records at a name.
    pub fn txt(&self, name: &str) -> Vec<String> {
        self.dig("TXT", name).lines().map(|line| line.trim_matches('"').to_owned()).collect()
    }

    /// `nsupdate` with these lines.
    pub fn update(&self, lines: &str) {
        nsupdate(self.address, lines);
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// A program as `exec` wants it: it does what it is told by nsupdate.
    pub fn program(&self) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let path = self.directory.path().join("dns");
        let text = format!(
            "#!/bin/sh\nset -e\necho \"$@\" >> {0}/calls\ncase $1 in\npresent) what=\"add $2 60 TXT $3\" ;;\n\
             cleanup) what=\"delete $2 TXT $3\" ;;\nesac\n\
             printf 'server {1} {2}\\n%s\\nsend\\n' \"$what\" | nsupdate -v -y hmac-sha256:{3}:\"$TSIG\"\n",
            self.directory.path().display(),
            self.address.ip(),
            self.address.port(),
            KEY.0,
        );
        fs::write(&path, text).expect("writable");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("ours");
        path
    }

    /// How the program was called.
    pub fn calls(&self) -> String {
        fs::read_to_string(self.directory.path().join("calls")).unwrap_or_default()
    }

    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// By TCP: over UDP it may ask twice, and undo what was done in between.
pub fn nsupdate(server: SocketAddr, lines: &str) {
    let mut child = Command::new("nsupdate")
        .args(["-v", "-y", &format!("hmac-sha256:{}:{}", KEY.0, KEY.1)])
        .stdin(Stdio::piped())
        .spawn()
        .expect("nsupdate is there: Debian's package bind9-dnsutils");
    let text = format!("server {} {}\n{lines}\nsend\n", server.ip(), server.port());
    child.stdin.take().expect("it is piped").write_all(text.as_bytes()).expect("it reads");
    assert!(child.wait().expect("it ends").success(), "{lines}");
}

/// An address of the loopback network where port 53 is free; another port where this user may not have it.
pub fn address() -> SocketAddr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let process = std::process::id().to_be_bytes();
    for _ in 0..200 {
        let last = NEXT.fetch_add(1, Ordering::Relaxed).clamp(1, 254);
        let address = SocketAddr::from(([127, process[2] | 0x80, process[3], last], 53));
        if UdpSocket::bind(address).is_ok() && TcpListener::bind(address).is_ok() {
            return address;
        }
    }
    SocketAddr::from(([127, 0, 0, 1], free_port()))
}

/// Carries questions that come to `from` on to `to`, until the test program ends.
fn relay(from: SocketAddr, to: SocketAddr) {
    let socket = UdpSocket::bind(from).expect("it was free");
    thread::spawn(move || {
        let mut bytes = [0; 65_535];
        while let Ok((length, client)) = socket.recv_from(&mut bytes) {
            let (question, socket) = (bytes[..length].to_vec(), socket.try_clone().expect("a socket can be shared"));
            thread::spawn(move || {
                let Ok(own) = UdpSocket::bind("127.0.0.1:0") else { return };
                let _ = own.set_read_timeout(Some(Duration::from_secs(5)));
                let mut bytes = [0; 65_535];
                if own.send_to(&question, to).is_ok()
                    && let Ok(length) = own.recv(&mut bytes)
                {
                    let _ = socket.send_to(&bytes[..length], client);
                }
            });
        }
    });
    let listener = TcpListener::bind(from).expect("it was free");
    thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            thread::spawn(move || {
                let Ok(mut server) = TcpStream::connect(to) else { return };
                let (Ok(mut back), Ok(mut forth)) = (server.try_clone(), client.try_clone()) else { return };
                thread::spawn(move || {
                    let _ = std::io::copy(&mut back, &mut forth);
                    let _ = forth.shutdown(Shutdown::Both);
                });
                let _ = std::io::copy(&mut client, &mut server);
                let _ = server.shutdown(Shutdown::Both);
            });
        }
    });
}

impl Drop for Bind {
    fn drop(&mut self) {
        self.stop();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("--- log of named ---\n{}", lines[lines.len().saturating_sub(40)..].join("\n"));
        }
    }
}
