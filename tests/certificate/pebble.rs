//! Pebble, the test server of Let's Encrypt, and its DNS server: real programs on ports of their own.
//!
//! They are looked for on the PATH and in `~/.cache/gapi-pebble/bin`; where they are not, and Go is, they are built there.

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, OnceLock},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use rustls::{
    ClientConfig,
    pki_types::{CertificateDer, pem::PemObject},
};
use serde_json::{Value, json};

use super::harness::trusting;
use crate::support::{Authority, Client, Directory, free_port, loopback, wait};

const VERSION: &str = "v2.10.1";
/// Identifier and key of an external account, as Pebble's own examples have them.
pub const EXTERNAL: (&str, &str) = ("kid-1", "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W");

/// A server, and what it is started with.
pub struct Pebble {
    directory: Directory,
    authority: Authority,
    acme: u16,
    management: u16,
    /// Another's name server; its own, which knows every name, where there is none.
    name_server: Option<SocketAddr>,
    /// Does it now and then take an old proof for a new order?
    reuse: bool,
    dns: u16,
    pub http: u16,
    pub tls: u16,
    external: bool,
    /// Seconds.
    validity: u64,
    /// Seconds that it takes to look at a challenge.
    sleep: u64,
    alternates: usize,
    children: Vec<Child>,
}

/// Where the programs are; none where they cannot be had.
fn programs() -> Option<PathBuf> {
    static FOUND: OnceLock<Option<PathBuf>> = OnceLock::new();
    FOUND
        .get_or_init(|| {
            let has =
                |directory: &Path| directory.join("pebble").exists() && directory.join("pebble-challtestsrv").exists();
            let path = std::env::var_os("PATH").unwrap_or_default();
            let own = PathBuf::from(std::env::var_os("HOME")?).join(".cache/gapi-pebble/bin");
            let mut known = std::env::split_paths(&path).chain([own.clone()]);
            known.find(|directory| has(directory)).or_else(|| {
                for name in ["pebble", "pebble-challtestsrv"] {
                    let package = format!("github.com/letsencrypt/pebble/v2/cmd/{name}@{VERSION}");
                    let built = Command::new("go").args(["install", &package]).env("GOBIN", &own).status();
                    if !built.is_ok_and(|status| status.success()) {
                        return None;
                    }
                }
                Some(own)
            })
        })
        .clone()
}

impl Pebble {
    /// A server that is not started yet; none, loudly, where this machine has no Pebble and no Go to build it.
    pub fn new() -> Option<Pebble> {
        if programs().is_none() {
            eprintln!("SKIPPED: neither pebble nor go is there; install Go, or Debian's package pebble");
            return None;
        }
        Some(Pebble {
            directory: Directory::new(),
            authority: Authority::new(),
            acme: free_port(),
            management: free_port(),
            name_server: None,
            reuse: true,
            dns: free_port(),
            http: free_port(),
            tls: free_port(),
            external: false,
            validity: 90 * 24 * 3600,
            sleep: 0,
            alternates: 0,
            children: Vec::new(),
        })
    }

    /// External accounts are asked for.
    pub fn external(mut self) -> Pebble {
        self.external = true;
        self
    }

    /// Names are looked up there.
    pub fn name_server(mut self, address: SocketAddr) -> Pebble {
        self.name_server = Some(address);
        self
    }

    /// What was proven once is proven again in each order.
    pub fn forgetful(mut self) -> Pebble {
        self.reuse = false;
        self
    }

    pub fn validity(mut self, seconds: u64) -> Pebble {
        self.validity = seconds;
        self
    }

    pub fn sleep(mut self, seconds: u64) -> Pebble {
        self.sleep = seconds;
        self
    }

    /// So many chains more than the default one.
    pub fn alternates(mut self, count: usize) -> Pebble {
        self.alternates = count;
        self
    }

    /// The directory's URL.
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}/dir", self.acme)
    }

    /// `caBundle` of an issuer for it.
    pub fn bundle(&self) -> String {
        STANDARD.encode(self.authority.pem())
    }

    /// `spec.acme` of an issuer for it, with these solvers.
    pub fn issuer(&self, solvers: &Value) -> Value {
        let mut acme = json!({
            "server": self.url(), "email": "admin@example.com",
            "caBundle": self.bundle(),
            // Without one Pebble takes any.
            "profile": "default", "privateKeySecretRef": {"name": "account-key"}, "solvers": solvers,
        });
        if self.external {
            acme["externalAccountBinding"] =
                json!({"keyID": EXTERNAL.0, "keySecretRef": {"name": "external", "key": "secret"}});
        }
        json!({"acme": acme})
    }

    /// Starts it, strict, with nonces refused now and then.
    pub fn start(&mut self) {
        let directory = self.directory.path().to_owned();
        let at = |name: &str| directory.join(name);
        let pair = self.authority.sign(&["127.0.0.1", "localhost"]);
        fs::write(at("cert.pem"), &pair.certificate).expect("writable");
        fs::write(at("key.pem"), &pair.key).expect("writable");
        let mut config = json!({
            "listenAddress": format!("127.0.0.1:{}", self.acme),
            "managementListenAddress": format!("127.0.0.1:{}", self.management),
            "certificate": at("cert.pem"), "privateKey": at("key.pem"),
            "httpPort": self.http, "tlsPort": self.tls, "ocspResponderURL": "",
            "externalAccountBindingRequired": self.external,
            "domainBlocklist": ["blocked.example"],
            "retryAfter": {"authz": 1, "order": 1},
            "keyAlgorithm": "ecdsa",
            "profiles": {
                "default": {"description": "as asked for", "validityPeriod": self.validity},
                "short": {"description": "six days", "validityPeriod": 518_400},
            },
        });
        if self.external {
            config["externalAccountMACKeys"][EXTERNAL.0] = json!(EXTERNAL.1);
        }
        fs::write(at("config.json"), json!({ "pebble": config }).to_string()).expect("writable");
        if self.children.is_empty() && self.name_server.is_none() {
            let dns = format!("127.0.0.1:{}", self.dns);
            let arguments = ["-dnsserver", &dns, "-defaultIPv4", "127.0.0.1", "-defaultIPv6", ""];
            let none = ["-http01", "", "-https01", "", "-tlsalpn01", "", "-doh", "", "-management", ""];
            self.spawn("pebble-challtestsrv", &[&arguments[..], &none].concat());
        }
        let (config, dns) = (at("config.json"), self.name_server.unwrap_or(loopback(self.dns)).to_string());
        self.spawn("pebble", &["-config", config.to_str().expect("ASCII"), "-strict", "-dnsserver", &dns]);
        let own = self.authority.client(&[]);
        wait("pebble answers", Duration::from_secs(30), || {
            Client::tls(loopback(self.acme), "localhost", &own).is_ok_and(|mut c| c.get("localhost", "/dir").is_ok())
        });
    }

    /// Ends the ACME server; it forgets everything.
    pub fn stop(&mut self) {
        if self.children.len() > usize::from(self.name_server.is_none())
            && let Some(mut child) = self.children.pop()
        {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    fn spawn(&mut self, name: &str, arguments: &[&str]) {
        let path = programs().expect("it was found").join(name);
        let log = File::options().create(true).append(true).open(self.directory.path().join(name));
        let log = log.expect("writable");
        let sleep = if self.sleep == 0 {
            ("PEBBLE_VA_NOSLEEP", "1".to_owned())
        } else {
            ("PEBBLE_VA_SLEEPTIME", self.sleep.to_string())
        };
        let child = Command::new(path)
            .args(arguments)
            .env("PEBBLE_WFE_NONCEREJECT", "10")
            .env("PEBBLE_ALTERNATE_ROOTS", self.alternates.to_string())
            .env(sleep.0, sleep.1)
            .env("PEBBLE_AUTHZREUSE", if self.reuse { "50" } else { "0" })
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be shared"))
            .stderr(log)
            .spawn();
        self.children.push(child.unwrap_or_else(|error| panic!("{name}: {error}")));
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("pebble")).unwrap_or_default()
    }

    /// How many orders were made, those of refused nonces left out.
    pub fn orders(&self) -> usize {
        self.log().matches("Added order ").count()
    }

    /// A client that trusts what it issues.
    pub fn trust(&self) -> Arc<ClientConfig> {
        self.trust_root(0)
    }

    /// A client that trusts one of the roots alone; 0 is the default chain's.
    pub fn trust_root(&self, number: usize) -> Arc<ClientConfig> {
        trusting(&self.root(number))
    }

    /// The common name of a root.
    pub fn root_name(&self, number: usize) -> String {
        let pem = self.root(number);
        let root = CertificateDer::from_pem_slice(pem.as_bytes()).expect("PEM");
        let (_, root) = x509_parser::parse_x509_certificate(&root).expect("a certificate");
        root.subject().iter_common_name().next().expect("it has one").as_str().expect("text").to_owned()
    }

    /// The PEM text of a root.
    fn root(&self, number: usize) -> String {
        let own = self.authority.client(&[]);
        let mut client = Client::tls(loopback(self.management), "localhost", &own).expect("it answers");
        client.get("localhost", &format!("/roots/{number}")).expect("it answers").text()
    }
}

impl Drop for Pebble {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("--- log of pebble ---\n{}", lines[lines.len().saturating_sub(60)..].join("\n"));
        }
    }
}
