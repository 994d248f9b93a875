//! A PostgreSQL server behind a TCPRoute, asked by psql.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
};

use rustix::process::Signal;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::{
    process::{PATIENCE, Server, begin, program, route, run, scratch, service, to, unprivileged},
    support::{Directory, Gapi, free_port, loopback, manifest, wait},
};

/// Row after row of the same look, and no two the same: 60 bytes each.
const ROWS: usize = 200_000;

struct Database {
    // Ends before its directory.
    _server: Server,
    _directory: Directory,
    own: u16,
    gapi: Gapi,
    port: u16,
}

impl Database {
    fn start() -> Database {
        let directory = scratch();
        let data = directory.path().join("data");
        let mut initdb = unprivileged(&program("initdb"), "KILL");
        initdb.args(["--auth=trust", "--username=gapi", "--encoding=UTF8", "--locale=C", "--no-sync", "-D"]).arg(&data);
        initdb.current_dir(directory.path());
        run(initdb, Vec::new());
        let own = free_port();
        let mut postgres = unprivileged(&program("postgres"), "QUIT");
        postgres.current_dir(directory.path()).arg("-D").arg(&data);
        for setting in [
            &format!("port={own}"),
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            // What it holds is as short-lived as the test.
            "fsync=off",
            "full_page_writes=off",
            "autovacuum=off",
        ] {
            postgres.args(["-c", setting]);
        }
        // SIGQUIT: at once, with all that it started.
        let server = Server::start(postgres, directory.path().join("log"), Signal::QUIT)
            .wait_until(|server| server.log().contains("ready to accept connections"));
        let port = free_port();
        let gapi = Gapi::serve(&[
            ("gateway.yaml", manifest::file(&[gateway(port)])),
            (
                "route.yaml",
                manifest::file(&[route("TCPRoute", "database", "database", &json!({"rules": to("database")}))]),
            ),
            (
                "service.yaml",
                manifest::file(&service("database", &[("sql", "TCP", Some("postgresql"), loopback(own))])),
            ),
        ]);
        Database { _server: server, _directory: directory, own, gapi, port }
    }

    /// psql with the gateway as its server.
    fn psql(&self) -> Command {
        psql(self.port)
    }

    /// What a statement answers.
    fn ask(&self, statement: &str) -> String {
        let mut psql = self.psql();
        psql.args(["-c", statement]);
        run(psql, Vec::new()).text().trim().to_owned()
    }

    /// The same, past the gateway.
    fn ask_directly(&self, statement: &str) -> String {
        let mut psql = psql(self.own);
        psql.args(["-c", statement]);
        run(psql, Vec::new()).text().trim().to_owned()
    }
}

fn gateway(port: u16) -> serde_json::Value {
    manifest::gateway("gate", &[json!({"name": "database", "protocol": "TCP", "port": port})])
}

/// Without a person's settings; answers alone, unaligned; an error ends it.
fn psql(port: u16) -> Command {
    let mut psql = Command::new(program("psql"));
    psql.args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", &port.to_string()]);
    psql.args(["-U", "gapi", "-d", "postgres"]).env("PGCONNECT_TIMEOUT", "30");
    for variable in ["PGSSLMODE", "PGOPTIONS", "PGSERVICE", "PGHOSTADDR", "PGPASSWORD"] {
        psql.env_remove(variable);
    }
    psql
}

/// A psql that stays, with a statement a line.
struct Session {
    child: Child,
    lines: Receiver<String>,
}

impl Session {
    fn start(mut psql: Command) -> Session {
        let mut child =
            psql.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().expect("psql runs");
        let (sender, lines) = channel();
        let out = BufReader::new(child.stdout.take().expect("is piped"));
        std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Session { child, lines }
    }

    fn say(&mut self, statement: &str) {
        let stdin = self.child.stdin.as_mut().expect("is piped");
        stdin.write_all(format!("{statement}\n").as_bytes()).expect("psql is there");
    }

    fn hear(&self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("psql answers")
    }

    fn ask(&mut self, statement: &str) -> String {
        self.say(statement);
        self.hear()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn statements_and_bulk_both_ways() {
    let database = Database::start();
    assert_eq!(database.ask("SELECT 6 * 7"), "42");
    let several = database.ask("SELECT string_agg(n::text, ',') FROM generate_series(1, 5) AS n");
    assert_eq!(several, "1,2,3,4,5");

    // In: what PostgreSQL itself makes of it is what was sent.
    let rows: String = (0..ROWS).map(|n| format!("{n}\t{:050}\n", n.wrapping_mul(2_654_435_761) % 1_000_003)).collect();
    database.ask("CREATE UNLOGGED TABLE bulk (n int PRIMARY KEY, payload text)");
    let mut copy = database.psql();
    copy.args(["-c", "COPY bulk FROM STDIN"]);
    run(copy, rows.clone().into_bytes());
    assert_eq!(database.ask_directly("SELECT count(*) FROM bulk"), ROWS.to_string());
    let theirs = database.ask_directly(
        r"SELECT encode(sha256(convert_to(string_agg(n || E'\t' || payload || E'\n', '' ORDER BY n), 'UTF8')), 'hex') FROM bulk",
    );
    assert_eq!(theirs, digest(rows.as_bytes()), "what was stored");

    // Out: to the byte.
    let mut copy = database.psql();
    copy.args(["-c", "COPY (SELECT * FROM bulk ORDER BY n) TO STDOUT"]);
    let back = run(copy, Vec::new()).out;
    assert_eq!((back.len(), digest(&back)), (rows.len(), digest(rows.as_bytes())), "what came back");
}

/// psql cancels by a connection of its own, which has to find the same server.
#[test]
fn a_statement_is_cancelled() {
    let database = Database::start();
    let mut sleeping = database.psql();
    sleeping.args(["-c", "SELECT pg_sleep(3600)"]);
    let sleeping = begin(sleeping, Vec::new());
    const ASLEEP: &str =
        "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query = 'SELECT pg_sleep(3600)'";
    wait("the statement runs", PATIENCE, || database.ask_directly(ASLEEP) == "1");
    sleeping.signal(Signal::INT);
    let said = sleeping.finish();
    assert!(said.errors.contains("canceling statement due to user request"), "{said:?}");
    wait("nobody is asleep", PATIENCE, || database.ask_directly(ASLEEP) == "0");
    assert_eq!(database.ask("SELECT 1"), "1");
}

/// One that goes away in the middle of a transaction leaves nothing behind.
#[test]
fn who_leaves_is_missed() {
    let database = Database::start();
    database.ask("CREATE TABLE ledger (n int)");
    let mut session = Session::start(database.psql());
    session.say("BEGIN; INSERT INTO ledger VALUES (1);");
    assert_eq!(session.ask("SELECT count(*) FROM ledger;"), "1");
    drop(session);
    wait("the server notices", PATIENCE, || {
        database.ask_directly("SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'") == "0"
    });
    assert_eq!(database.ask("SELECT count(*) FROM ledger"), "0");
}

#[test]
fn a_session_is_held_over_reloads() {
    let database = Database::start();
    let mut listening = Session::start(database.psql());
    listening.say("LISTEN news;");
    let id = listening.ask("SELECT pg_backend_pid();");

    // New connections lead to another Service, where nobody is, and the old one is gone with its endpoints.
    let elsewhere = route("TCPRoute", "database", "database", &json!({"rules": to("elsewhere")}));
    let nobody = service("elsewhere", &[("sql", "TCP", None, loopback(free_port()))]);
    let services = fs::read(database.gapi.config().join("service.yaml")).expect("just written");
    database.gapi.take("service.yaml");
    database.gapi.put("route.yaml", manifest::file(&[[elsewhere].as_slice(), &nobody].concat()));
    assert_eq!(database.gapi.reload().code, 0);
    let mut refused = database.psql();
    refused.args(["-c", "SELECT 1"]);
    assert_eq!(begin(refused, Vec::new()).finish().code, Some(2), "a new connection leads nowhere");
    assert_eq!(listening.ask("SELECT pg_backend_pid();"), id);

    let back = route("TCPRoute", "database", "database", &json!({"rules": to("database")}));
    database.gapi.put("service.yaml", services);
    database.gapi.put("route.yaml", manifest::file(&[back]));
    assert_eq!(database.gapi.reload().code, 0);
    let notifier: i32 =
        database.ask("SELECT pg_notify('news', 'it rains'); SELECT pg_backend_pid()").parse().expect("an id");
    assert_ne!(id, notifier.to_string());
    // psql prints what it was told when it has something else to do.
    let mut said = Vec::new();
    wait("the notification", PATIENCE, || {
        said.push(listening.ask("SELECT 'nothing';"));
        said.iter().any(|line| line.contains("it rains"))
    });
    let told = said.iter().find(|line| line.contains("it rains")).expect("just seen");
    assert!(told.contains("\"news\"") && told.contains(&format!("PID {notifier}")), "{told}");
}
