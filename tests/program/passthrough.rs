//! An HTTPS site of nginx with its own certificate, passed through on the port on which gapi serves HTTPS itself.

use std::{
    fs,
    net::TcpStream,
    path::{Path, PathBuf},
    process::Command,
};

use rustix::process::Signal;
use serde_json::json;

use crate::{
    process::{PATIENCE, Said, Server, begin, program, route, run, scratch, service, to, unprivileged, write},
    support::{Authority, Backend, Directory, Gapi, Reply, free_port, loopback, manifest, wait},
};

const SITE: &str = "site.example.com";
const OWN: &str = "own.example.com";

struct Both {
    // Ends before its directory.
    _site: Server,
    directory: Directory,
    _backend: Backend,
    gapi: Gapi,
    port: u16,
}

impl Both {
    fn start() -> Both {
        let directory = scratch();
        let path = directory.path();
        // Three authorities that know nothing of each other: a mixed-up certificate is refused.
        let (site, own, people) = (Authority::new(), Authority::new(), Authority::new());
        let (site_pair, own_pair, person) = (site.sign(&[SITE]), own.sign(&[OWN]), people.sign(&["visitor"]));
        for (name, text) in [
            ("site-ca.pem", site.pem()),
            ("own-ca.pem", own.pem()),
            ("people-ca.pem", people.pem()),
            ("site.pem", site_pair.certificate),
            ("site-key.pem", site_pair.key),
            ("person.pem", person.certificate),
            ("person-key.pem", person.key),
        ] {
            write(path, name, text);
        }
        let own_port = free_port();
        let server = nginx(path, own_port);
        let backend = Backend::start(|request, _| Reply::ok(&format!("gapi's own, {}", request.target())));
        let port = free_port();
        let mut documents = vec![
            manifest::gateway(
                "gate",
                &[
                    json!({"name": "pass", "protocol": "TLS", "port": port, "hostname": SITE, "tls": {"mode": "Passthrough"}}),
                    manifest::https("https", port, Some(OWN), "own-tls"),
                ],
            ),
            manifest::secret("own-tls", &own_pair),
            route("HTTPRoute", "own", "https", &json!({"rules": to("own")})),
        ];
        documents.extend(service("site", &[("https", "TCP", Some("https"), loopback(own_port))]));
        documents.extend(service("own", &[("http", "TCP", None, backend.address)]));
        let site = route("TLSRoute", "site", "pass", &json!({"hostnames": [SITE], "rules": to("site")}));
        let gapi = Gapi::serve(&[("all.yaml", manifest::file(&documents)), ("site.yaml", manifest::file(&[site]))]);
        Both { _site: server, directory, _backend: backend, gapi, port }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn url(&self, name: &str, target: &str) -> String {
        format!("https://{name}:{}{target}", self.port)
    }

    /// curl, which trusts one authority alone.
    fn curl(&self, authority: &str, words: &[&str]) -> Command {
        let mut curl = Command::new(program("curl"));
        curl.args(["-q", "-sS", "--noproxy", "*", "--max-time", "50", "--connect-to"]);
        curl.arg(format!("::127.0.0.1:{}", self.port)).arg("--cacert").arg(self.file(authority)).args(words);
        curl
    }

    fn get(&self, authority: &str, words: &[&str]) -> Said {
        run(self.curl(authority, words), Vec::new())
    }
}

/// A site that says who it is, what came by, and takes certificates of clients.
fn nginx(path: &Path, port: u16) -> Server {
    let root = path.join("root");
    fs::create_dir(&root).expect("the directory is writable");
    write(&root, "large", large());
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path {0}/{name};\n", path.join("temporary").display()))
        .concat();
    fs::create_dir(path.join("temporary")).expect("the directory is writable");
    let config = format!(
        "daemon off; worker_processes 1; error_log stderr; pid {0}/pid;
        events {{ worker_connections 256; }}
        http {{
            access_log off; {temporary}
            server {{
                listen 127.0.0.1:{port} ssl http2;
                ssl_certificate {0}/site.pem; ssl_certificate_key {0}/site-key.pem;
                ssl_client_certificate {0}/people-ca.pem; ssl_verify_client optional; ssl_protocols TLSv1.2 TLSv1.3;
                root {1};
                location /hello {{ return 200 \"nginx's own, $ssl_server_name $ssl_protocol $ssl_client_verify\\n\"; }}
            }}
        }}",
        path.display(),
        root.display()
    );
    let config = write(path, "nginx.conf", config);
    // Without privilege it has to own what it writes to.
    for name in ["root", "temporary"] {
        fs::set_permissions(path.join(name), std::os::unix::fs::PermissionsExt::from_mode(0o777)).expect("our own");
    }
    let mut nginx = unprivileged(&program("nginx"), "TERM");
    nginx.args(["-e", "stderr", "-c"]).arg(config).arg("-p").arg(path);
    Server::start(nginx, path.join("log"), Signal::TERM).wait_until(|_| TcpStream::connect(loopback(port)).is_ok())
}

/// 12 MiB that do not repeat.
fn large() -> Vec<u8> {
    (0..3 << 20_u32).flat_map(|n: u32| n.wrapping_mul(2_654_435_761).to_be_bytes()).collect()
}

#[test]
fn each_name_has_its_own_certificate() {
    let both = Both::start();
    let site = both.url(SITE, "/hello");
    let own = both.url(OWN, "/hello");
    for version in ["1.3", "1.2"] {
        let said = both.get("site-ca.pem", &["--tls-max", version, &site]).text();
        assert_eq!(said, format!("nginx's own, {SITE} TLSv{version} NONE\n"));
        assert_eq!(both.get("own-ca.pem", &["--tls-max", version, &own]).text(), "gapi's own, /hello");
    }
    // 60: the certificate is not to be trusted.
    for (authority, url) in [("own-ca.pem", &site), ("site-ca.pem", &own)] {
        let said = begin(both.curl(authority, &[url]), Vec::new()).finish();
        assert_eq!(said.code, Some(60), "{said:?}");
    }
    // 35: the handshake failed.
    let stranger = both.url("stranger.example.com", "/");
    let said = begin(both.curl("site-ca.pem", &["-k", &stranger]), Vec::new()).finish();
    assert_eq!(said.code, Some(35), "{said:?}");
}

/// Only who has the key of the site can see that a client has a certificate.
#[test]
fn what_client_and_site_agree_on_is_theirs() {
    let both = Both::start();
    let (certificate, key) = (both.file("person.pem"), both.file("person-key.pem"));
    let person = ["--cert", certificate.to_str().expect("ASCII"), "--key", key.to_str().expect("ASCII")];
    let said = both.get("site-ca.pem", &[&person[..], &[&both.url(SITE, "/hello")]].concat());
    assert!(said.text().ends_with("SUCCESS\n"), "{said:?}");

    for (asked, word) in [("--http2", "2"), ("--http1.1", "1.1")] {
        for (authority, name) in [("site-ca.pem", SITE), ("own-ca.pem", OWN)] {
            let url = both.url(name, "/hello");
            let said =
                both.get(authority, &[asked, "-o", "/dev/null", "-w", "%{http_version} %{ssl_verify_result}", &url]);
            assert_eq!(said.text(), format!("{word} 0"), "{asked} {name}");
        }
    }
}

#[test]
fn a_large_answer_is_whole_also_over_a_reload() {
    let both = Both::start();
    let url = both.url(SITE, "/large");
    let large = large();
    assert!(both.get("site-ca.pem", &[&url]).out == large, "another answer");

    // Under way while its route goes away.
    let file = both.file("answer");
    let words = ["--limit-rate", "4M", "-o", file.to_str().expect("ASCII"), &url];
    let slow = begin(both.curl("site-ca.pem", &words), Vec::new());
    let length = || fs::metadata(&file).map_or(0, |file| file.len());
    wait("the answer begins", PATIENCE, || length() > 0);
    both.gapi.take("site.yaml");
    let ran = both.gapi.reload();
    assert_eq!(ran.code, 0, "{}", ran.text);
    let refused = begin(both.curl("site-ca.pem", &[&url]), Vec::new()).finish();
    assert_eq!(refused.code, Some(35), "{refused:?}");
    assert!(length() < large.len() as u64, "it came too fast to be under way");
    let said = slow.finish();
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(fs::read(&file).expect("curl wrote it") == large, "another answer");
}
