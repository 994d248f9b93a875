//! Reload under traffic: more than a hundred edits of every kind while clients of every kind ask for what all versions of
//! the configuration serve. None of their requests may fail, and every edit must take effect.

mod support;

use std::{
    net::{SocketAddr, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, sleep},
    time::Duration,
};

use rustix::process::Signal;
use serde_json::{Value, json};
use support::{
    Authority, Backend, Client, Gapi, Reply, free_port,
    gapi::Start,
    http2::{self, Outcome},
    loopback,
    manifest::{file, gateway, http, https, prefix, route, secret, service},
    wait,
};

const HOST: &str = "steady.test";

/// What never goes away: two listeners, one name, one path.
struct Stage {
    gapi: Gapi,
    authority: Authority,
    plain: SocketAddr,
    secure: SocketAddr,
    backends: [Backend; 3],
}

impl Stage {
    fn new() -> Stage {
        let authority = Authority::new();
        let backends = ["one", "two", "three"].map(Backend::named);
        let (plain, secure) = (free_port(), free_port());
        let listeners = [http("http", plain), https("https", secure, Some(HOST), "steady-tls")];
        let gapi = Start::new()
            .file("gateway.yaml", file(&[gateway("gate", &listeners)]))
            .file("steady.yaml", file(&[steady_route(0, &[prefix("/", "steady")])]))
            .file("service.yaml", file(&service("steady", &[backends[0].address])))
            .file("tls.yaml", file(&[secret("steady-tls", &authority.sign(&[HOST]))]))
            .serve();
        Stage { gapi, authority, plain: loopback(plain), secure: loopback(secure), backends }
    }
}

/// The route of the steady traffic; `edit` shows in a field of the answer.
fn steady_route(edit: usize, rules: &[Value]) -> Value {
    let mut route = route("steady", "gate", &[HOST], rules);
    for rule in route["spec"]["rules"].as_array_mut().expect("rules are a list") {
        rule["filters"] = json!([{
            "type": "ResponseHeaderModifier",
            "responseHeaderModifier": {"set": [{"name": "X-Edit", "value": edit.to_string()}]},
        }]);
    }
    route
}

/// Requests that run until told to stop, and what went wrong with them.
struct Traffic {
    stopped: Arc<AtomicBool>,
    served: Arc<AtomicUsize>,
    edit: Arc<AtomicUsize>,
    failures: Arc<Mutex<Vec<String>>>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Traffic {
    fn new() -> Traffic {
        Traffic {
            stopped: Arc::default(),
            served: Arc::default(),
            edit: Arc::default(),
            failures: Arc::default(),
            threads: Vec::new(),
        }
    }

    /// A client that runs until the end. `ask` sends one request and says what went wrong.
    fn add<S: Send + 'static>(
        &mut self,
        name: &'static str,
        mut state: S,
        mut ask: impl FnMut(&mut S) -> Result<(), String> + Send + 'static,
    ) {
        let (stopped, served) = (self.stopped.clone(), self.served.clone());
        let (edit, failures) = (self.edit.clone(), self.failures.clone());
        self.threads.push(thread::spawn(move || {
            while !stopped.load(Ordering::SeqCst) {
                match ask(&mut state) {
                    Ok(()) => served.fetch_add(1, Ordering::SeqCst),
                    Err(error) => {
                        let edit = edit.load(Ordering::SeqCst);
                        failures.lock().expect("no client panics").push(format!("{name}, edit {edit}: {error}"));
                        0
                    }
                };
                sleep(Duration::from_millis(3));
            }
        }));
    }

    fn end(self) -> (usize, Vec<String>) {
        self.stopped.store(true, Ordering::SeqCst);
        for thread in self.threads {
            thread.join().expect("no client panics");
        }
        (self.served.load(Ordering::SeqCst), self.failures.lock().expect("no client panics").clone())
    }
}

/// One request on a connection that is kept as long as the gateway keeps it.
fn on_kept(client: &mut Option<Client>, open: impl Fn() -> Result<Client, String>) -> Result<(), String> {
    let connection = match client {
        Some(connection) => connection,
        None => client.insert(open()?),
    };
    let answer = connection.get(HOST, "/").map_err(|error| error.to_string());
    let closes = answer.as_ref().map_or(true, |answer| answer.message.field("connection") == Some("close"));
    if closes {
        *client = None;
    }
    match answer?.status() {
        200 => Ok(()),
        status => Err(format!("status {status}")),
    }
}

/// One stream on a connection that is kept until the gateway says that it leaves.
fn on_http2(kept: &mut Option<(http2::Connection, u32)>, address: SocketAddr) -> Result<(), String> {
    loop {
        let (connection, stream) = match kept {
            Some(kept) => kept,
            None => kept.insert((http2::Connection::open(address).map_err(|error| error.to_string())?, 1)),
        };
        let fields: [(&[u8], &[u8]); 4] =
            [(b":method", b"GET"), (b":scheme", b"http"), (b":authority", HOST.as_bytes()), (b":path", b"/")];
        let flags = http2::END_HEADERS | http2::END_STREAM;
        connection.send(http2::frame(http2::HEADERS, flags, *stream, &http2::block(&fields)));
        let outcome = connection.outcome(*stream, Duration::from_secs(5));
        let (leaves, unserved) = match connection.last_stream {
            Some(last) => (true, last < *stream),
            None => (false, false),
        };
        *stream += 2;
        if leaves {
            *kept = None;
        }
        match outcome {
            Outcome::Answered { status: 200, .. } => return Ok(()),
            // RFC 9113 section 6.8: it was not looked at, and goes to the next connection.
            _ if unserved => {}
            other => {
                *kept = None;
                return Err(format!("{other:?}"));
            }
        }
    }
}

fn start_traffic(stage: &Stage) -> Traffic {
    let mut traffic = Traffic::new();
    let (plain, secure) = (stage.plain, stage.secure);
    let config = stage.authority.client(&["http/1.1"]);
    traffic.add("kept connection", None, move |client| {
        on_kept(client, || Client::connect(plain).map_err(|error| error.to_string()))
    });
    traffic.add("new connection", (), move |()| {
        on_kept(&mut None, || Client::connect(plain).map_err(|error| error.to_string()))
    });
    let kept = config.clone();
    traffic.add("kept TLS connection", None, move |client| {
        on_kept(client, || Client::tls(secure, HOST, &kept).map_err(|error| error.to_string()))
    });
    traffic.add("new TLS connection", (), move |()| {
        on_kept(&mut None, || Client::tls(secure, HOST, &config).map_err(|error| error.to_string()))
    });
    traffic.add("HTTP/2 connection", None, move |kept| on_http2(kept, plain));
    traffic
}

/// How an edit comes to be read.
#[derive(Clone, Copy, Debug)]
enum By {
    Reload,
    Watch,
    Hangup,
}

/// Applies one edit after the other. Each waits until it shows.
struct Editor<'a> {
    stage: &'a Stage,
    traffic: &'a Traffic,
    count: usize,
}

impl Editor<'_> {
    /// `shows` says whether the edit is in force. `broken`: reload is to complain.
    fn edit(&mut self, what: &str, broken: bool, apply: impl FnOnce(&Gapi), mut shows: impl FnMut() -> bool) {
        self.count += 1;
        self.traffic.edit.store(self.count, Ordering::SeqCst);
        let gapi = &self.stage.gapi;
        apply(gapi);
        let by = [By::Reload, By::Watch, By::Hangup][self.count % 3];
        let what = format!("edit {}, {what}, by {by:?}", self.count);
        match by {
            By::Reload => {
                let ran = gapi.reload();
                assert_eq!(ran.code, i32::from(broken), "{what}: {}", ran.text);
                assert!(shows(), "{what}: reload returned, and it is not in force: {}", ran.text);
            }
            By::Watch => wait(&what, Duration::from_secs(10), shows),
            By::Hangup => {
                gapi.signal(Signal::HUP);
                wait(&what, Duration::from_secs(10), shows);
            }
        }
    }

    /// One of every kind, with values of `turn`'s own.
    fn turn(&mut self, turn: usize) {
        self.routes(turn);
        self.endpoints(turn);
        self.certificates();
        self.listeners(turn);
        self.broken_files(turn);
        self.moves();
    }

    fn routes(&mut self, turn: usize) {
        let plain = self.stage.plain;
        let name = format!("extra-{turn}");
        let host = format!("{name}.test");
        let found = |path: &str| status(plain, &host, path);
        let write = |path: &str| file(&[route(&name, "gate", &[&host], &[prefix(path, "steady")])]);
        let place = format!("{name}.yaml");
        self.edit("a route comes", false, |gapi| gapi.put(&place, write("/old")), || found("/old") == Some(200));
        self.edit(
            "its path changes",
            false,
            |gapi| gapi.put(&place, write("/new")),
            || found("/new") == Some(200) && found("/old") == Some(404),
        );
        // Every other one stays, so that the configuration grows.
        if turn.is_multiple_of(2) {
            self.edit("it goes", false, |gapi| gapi.take(&place), || found("/new") == Some(404));
        }
    }

    fn endpoints(&mut self, turn: usize) {
        let [one, two, three] = &self.stage.backends;
        let (plain, next) = (self.stage.plain, [two, three, one][turn % 3]);
        let names = || (0..8).filter_map(|_| body(plain)).collect::<Vec<_>>();
        let wanted = ["two", "three", "one"][turn % 3];
        self.edit(
            "the endpoint changes",
            false,
            |gapi| gapi.put("service.yaml", file(&service("steady", &[next.address]))),
            || names().iter().all(|name| name == wanted),
        );

        // A backend of its own that comes, takes all, and goes away once it has none.
        let passing = Backend::start(|_, _| Reply::ok("passing"));
        let address = passing.address;
        self.edit(
            "a backend comes",
            false,
            |gapi| gapi.put("service.yaml", file(&service("steady", &[address]))),
            || names().iter().all(|name| name == "passing"),
        );
        self.edit(
            "it goes",
            false,
            |gapi| gapi.put("service.yaml", file(&service("steady", &[next.address, one.address]))),
            || names().iter().all(|name| name != "passing"),
        );
        // Requests that were on their way to it have ended by now.
        sleep(Duration::from_millis(100));
        drop(passing);

        let mut rule = prefix("/", "steady");
        rule["backendRefs"] =
            json!([{"name": "steady", "port": 80, "weight": turn + 1}, {"name": "steady", "port": 80, "weight": 1}]);
        let edit = self.count + 1;
        let text = file(&[steady_route(edit, &[rule])]);
        self.edit(
            "weights",
            false,
            |gapi| gapi.put("steady.yaml", text),
            || edit_field(plain) == Some(edit.to_string()),
        );
    }

    fn certificates(&mut self) {
        let pair = self.stage.authority.sign(&[HOST]);
        let config = self.stage.authority.client(&["http/1.1"]);
        let (secure, der) = (self.stage.secure, pair.der.clone());
        self.edit(
            "the certificate changes",
            false,
            |gapi| gapi.put("tls.yaml", file(&[secret("steady-tls", &pair)])),
            || Client::tls(secure, HOST, &config).is_ok_and(|client| client.certificate.as_ref() == Some(&der)),
        );
    }

    fn listeners(&mut self, turn: usize) {
        let stage = self.stage;
        let side = free_port();
        let (plain, secure) = (stage.plain, stage.secure);

        // On a port of its own.
        let name = format!("side-{turn}");
        let place = format!("{name}.yaml");
        let documents =
            file(&[gateway(&name, &[http("http", side)]), route(&name, &name, &[], &[prefix("/", "steady")])]);
        self.edit(
            "a port comes",
            false,
            |gapi| gapi.put(&place, documents),
            || status(loopback(side), "any.test", "/") == Some(200),
        );

        // On a port that is there, of another Gateway, for another name.
        let host = format!("door-{turn}.test");
        let door = format!("door-{turn}");
        let door_place = format!("{door}.yaml");
        let mut listener = http("http", plain.port());
        listener["hostname"] = json!(host);
        let documents = file(&[gateway(&door, &[listener]), route(&door, &door, &[], &[prefix("/", "steady")])]);
        self.edit(
            "a hostname comes to a shared port",
            false,
            |gapi| gapi.put(&door_place, documents),
            || status(plain, &host, "/") == Some(200),
        );

        // With a certificate of its own beside the steady one.
        let tls_host = format!("tls-{turn}.test");
        let tls_name = format!("tls-{turn}");
        let tls_place = format!("{tls_name}.yaml");
        let pair = stage.authority.sign(&[&tls_host]);
        let documents = file(&[
            gateway(&tls_name, &[https("https", secure.port(), Some(&tls_host), &tls_name)]),
            secret(&tls_name, &pair),
            route(&tls_name, &tls_name, &[], &[prefix("/", "steady")]),
        ]);
        let config = stage.authority.client(&["http/1.1"]);
        let tls_status = || {
            let mut client = Client::tls(secure, &tls_host, &config).ok()?;
            Some(client.get(&tls_host, "/").ok()?.status())
        };
        self.edit("a TLS name comes", false, |gapi| gapi.put(&tls_place, documents), || tls_status() == Some(200));

        self.edit("the port goes", false, |gapi| gapi.take(&place), || TcpStream::connect(loopback(side)).is_err());
        self.edit("the hostname goes", false, |gapi| gapi.take(&door_place), || status(plain, &host, "/") != Some(200));
        self.edit("the TLS name goes", false, |gapi| gapi.take(&tls_place), || tls_status() != Some(200));
    }

    fn broken_files(&mut self, turn: usize) {
        let stage = self.stage;
        let complains = || stage.gapi.ask(&["status"]).code == 1;
        let content = || stage.gapi.ask(&["status"]).code == 0;
        let place = format!("broken-{turn}.yaml");
        let broken = [
            "kind: [\n",
            "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: broken}\nspec: {rulez: []}\n",
            "apiVersion: v1\nkind: Service\nmetadata: {name: broken}\nspec: {ports: [{port: eighty}]}\n",
        ][turn % 3];
        let text = format!("# {turn}\n{broken}");
        self.edit("a broken file comes", true, |gapi| gapi.put(&place, text), complains);
        self.edit("it goes", false, |gapi| gapi.take(&place), content);

        // The steady route itself: its last accepted version goes on.
        let before = edit_field(self.stage.plain);
        let mut route = steady_route(9999, &[prefix("/", "steady")]);
        route["spec"]["rules"][0]["weight"] = json!(turn);
        self.edit(
            "the steady route breaks",
            true,
            |gapi| gapi.put("steady.yaml", file(&[route])),
            || stage.gapi.ask(&["status"]).code == 1,
        );
        assert_eq!(edit_field(self.stage.plain), before, "the last accepted version is served");
        let edit = self.count + 1;
        let text = file(&[steady_route(edit, &[prefix("/", "steady")])]);
        self.edit(
            "it is mended",
            false,
            |gapi| gapi.put("steady.yaml", text),
            || edit_field(stage.plain) == Some(edit.to_string()) && content(),
        );
    }

    /// The same objects in another file: nothing changes, and nothing may be missing in between.
    fn moves(&mut self) {
        let stage = self.stage;
        std::fs::create_dir_all(stage.gapi.config().join("moved")).expect("the directory is writable");
        let before = edit_field(stage.plain);
        for (from, to) in [("steady.yaml", "moved/steady.yaml"), ("moved/steady.yaml", "steady.yaml")] {
            let rename = |gapi: &Gapi| {
                std::fs::rename(gapi.config().join(from), gapi.config().join(to)).expect("the file is there");
            };
            self.edit("the steady route moves", false, rename, || stage.gapi.ask(&["status"]).code == 0);
            assert_eq!(edit_field(stage.plain), before);
        }
    }
}

fn status(address: SocketAddr, host: &str, target: &str) -> Option<u16> {
    Some(Client::connect(address).ok()?.get(host, target).ok()?.status())
}

/// The version of the steady route that is in force.
fn edit_field(address: SocketAddr) -> Option<String> {
    Client::connect(address).ok()?.get(HOST, "/").ok()?.message.field("x-edit").map(str::to_owned)
}

fn body(address: SocketAddr) -> Option<String> {
    Some(Client::connect(address).ok()?.get(HOST, "/").ok()?.text())
}

#[test]
fn a_hundred_edits_under_traffic() {
    let stage = Stage::new();
    let traffic = start_traffic(&stage);
    let mut editor = Editor { stage: &stage, traffic: &traffic, count: 0 };
    for turn in 0..6 {
        editor.turn(turn);
    }
    let edits = editor.count;
    let (served, failures) = traffic.end();
    println!("{served} requests served in {edits} edits");
    assert!(edits >= 100, "{edits} edits");
    assert!(served >= 10 * edits, "{served} requests in {edits} edits are no traffic");
    assert!(failures.is_empty(), "{} of {} failed:\n{}", failures.len(), served + failures.len(), failures.join("\n"));
}

/// All of it at once: the directory is replaced file by file as fast as it can be written.
#[test]
fn a_burst_under_traffic() {
    let stage = Stage::new();
    let traffic = start_traffic(&stage);
    for edit in 1..=200 {
        stage.gapi.put("steady.yaml", file(&[steady_route(edit, &[prefix("/", "steady")])]));
        let name = format!("extra-{}", edit % 20);
        let host = format!("{name}.test");
        stage.gapi.put(&format!("{name}.yaml"), file(&[route(&name, "gate", &[&host], &[prefix("/", "steady")])]));
    }
    wait("the last edit is in force", Duration::from_secs(10), || edit_field(stage.plain).as_deref() == Some("200"));
    let (served, failures) = traffic.end();
    assert!(failures.is_empty(), "{} of {} failed:\n{}", failures.len(), served + failures.len(), failures.join("\n"));
}

/// Neither is one that is removed and written anew, as a checkout does it.
#[test]
fn checkouts_under_traffic() {
    let stage = Stage::new();
    let config = stage.gapi.config();
    let traffic = start_traffic(&stage);
    let places = ["steady.yaml", "other.yaml"].map(|place| config.join(place));
    for turn in 0..20 {
        let [from, to] = [turn, turn + 1].map(|turn| &places[turn % places.len()]);
        let text = std::fs::read(from).expect("the file is there");
        std::fs::remove_file(from).expect("the file is there");
        sleep(Duration::from_millis(10));
        std::fs::write(to, text).expect("the directory is writable");
        sleep(Duration::from_millis(40));
    }
    assert_eq!(stage.gapi.reload().code, 0);
    let (served, failures) = traffic.end();
    assert!(failures.is_empty(), "{} of {} failed:\n{}", failures.len(), served + failures.len(), failures.join("\n"));
}

/// A file on its way from one directory to another is never nowhere.
#[test]
fn moves_under_traffic() {
    let stage = Stage::new();
    let config = stage.gapi.config();
    // One that is read before the file's first place, and one that is read after it.
    for directory in ["a", "z"] {
        std::fs::create_dir(config.join(directory)).expect("the directory is writable");
    }
    let traffic = start_traffic(&stage);
    let places = ["steady.yaml", "a/steady.yaml", "z/steady.yaml"].map(|place| config.join(place));
    for turn in 0..300 {
        let [from, to] = [turn, turn + 1].map(|turn| &places[turn % places.len()]);
        std::fs::rename(from, to).expect("the file is there");
        sleep(Duration::from_millis(3));
    }
    assert_eq!(stage.gapi.reload().code, 0);
    let (served, failures) = traffic.end();
    assert!(failures.is_empty(), "{} of {} failed:\n{}", failures.len(), served + failures.len(), failures.join("\n"));
}
