//! BIND asked by dig, and iperf3, on machines of their own: with the kernel path between them, and without.

use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;

use crate::{
    dns,
    process::{Server, program, run, scratch},
    stage::{PORT, Stage, Way, on_both},
};

/// Both listeners with the same endpoint.
fn serve(stage: &Stage, port: u16) {
    let endpoint = [(stage.backend_ip(), port).into()];
    stage.serve("UDP", &[(1, Some(&endpoint))]);
    stage.serve("TCP", &[(1, Some(&endpoint))]);
}

/// What a command said on the client's machine.
fn say(stage: &Stage, name: &str, words: &str) -> String {
    let mut command = Command::new(program(name));
    command.args(words.split_whitespace());
    stage.client.run(move || run(command, Vec::new())).text()
}

#[test]
fn dig_asks_by_udp_and_by_tcp() {
    on_both(&[], |stage| {
        let directory = scratch();
        let (path, on) = (directory.path().to_owned(), (stage.backend_ip(), 5300).into());
        let _named = stage.backend.run(move || dns::named(&path, on));
        serve(stage, 5300);
        let to = stage.gateway();
        let ask = |words: &str| say(stage, "dig", &format!("-r @{} -p {PORT} +tries=1 +timeout=20 {words}", to.ip()));
        assert_eq!(ask("www.example.test A +short +notcp"), "192.0.2.1\n");
        assert_eq!(ask("www.example.test A +short +tcp"), "192.0.2.1\n");
        // A datagram in fragments, and one that is cut and asked for again over TCP.
        assert_eq!(dns::string_bytes(&ask("big.example.test TXT +bufsize=4096 +short +notcp +ignore")), dns::BIG);
        assert!(ask("big.example.test TXT +noedns").contains("Truncated, retrying in TCP mode"));
        let zone = ask("example.test AXFR +noall +answer +onesoa");
        assert_eq!(zone.lines().filter(|line| line.starts_with("host-")).count(), dns::HOSTS);
        if stage.way == Way::Kernel {
            assert!(stage.carried("UDP") >= 3 && stage.carried("TCP") >= 3);
        }
    });
}

#[test]
fn iperf3_measures_both_ways() {
    on_both(&[], |stage| {
        let directory = scratch();
        let log = directory.path().join("log");
        let _server = stage.backend.run(|| {
            let mut iperf3 = Command::new(program("iperf3"));
            iperf3.args(["--server", "--port", "5201", "--forceflush"]);
            Server::start(iperf3, log, Signal::KILL).wait_until(|server| server.log().contains("listening"))
        });
        serve(stage, 5201);
        let to = stage.gateway();
        let bytes = |words: &str| {
            let said = say(stage, "iperf3", &format!("--client {} --port {PORT} --json --time 1 {words}", to.ip()));
            let said: Value = serde_json::from_str(&said).expect("JSON");
            let sum = ["sum_received", "sum"].iter().find_map(|sum| said["end"][sum]["bytes"].as_u64());
            sum.unwrap_or_else(|| panic!("{said:#}"))
        };
        for words in ["", "--reverse", "--udp --bitrate 20M", "--udp --bitrate 20M --reverse"] {
            assert!(bytes(words) > 100_000, "{words}");
        }
        if stage.way == Way::Kernel {
            assert!(stage.carried("TCP") >= 6 && stage.carried("UDP") >= 2);
        }
    });
}
