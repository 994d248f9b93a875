//! Where one message ends and the next begins (RFC 9112, RFC 9113): a corpus of requests and answers, most of them
//! malformed or ambiguous, over raw sockets through the real binary. Its backend keeps every byte: it must see nothing,
//! or one message that all readers take the same way, and no client may ever get what was meant for another.

#[path = "framing/corpus.rs"]
mod corpus;
#[path = "framing/h2.rs"]
mod h2;
mod support;

use std::{
    fmt::Write as _,
    io::Write,
    net::SocketAddr,
    sync::Arc,
    thread::sleep,
    time::{Duration, Instant},
};

use corpus::{Case, Step};
use support::{
    Backend, Client, Gapi, Message, Reply,
    client::{Answer, NoAnswer},
    free_port,
    http2::{self, Outcome},
    loopback, manifest,
};

/// Answers with the method and target of the request.
fn echo() -> Backend {
    Backend::start(|request, _| {
        let body = format!("{} {}", request.method(), request.target());
        match request.method() {
            "HEAD" => Reply::Bytes(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes()),
            _ => Reply::ok(&body),
        }
    })
}

struct Stage {
    gapi: Gapi,
    backend: Backend,
    address: SocketAddr,
}

impl Stage {
    fn new(backend: Backend) -> Stage {
        let port = free_port();
        let gapi = Gapi::serve(&[("gate.yaml", manifest::simple(port, backend.address))]);
        Stage { gapi, backend, address: loopback(port) }
    }

    /// Waits until the backend is not in the middle of a request.
    fn settle(&self) {
        let start = Instant::now();
        let busy = || self.backend.connections().iter().any(|c| c.unfinished > 0 && !c.closed && c.fault.is_none());
        while busy() && start.elapsed() < Duration::from_secs(3) {
            sleep(Duration::from_millis(2));
        }
    }

    /// What is wrong with the backend's side whatever the case was.
    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut connections = self.backend.connections();
        if connections.iter().any(|connection| connection.unfinished > 0 && !connection.closed) {
            // It may have read the beginning only now, and the end of the connection is on its way.
            self.settle();
            connections = self.backend.connections();
        }
        for connection in connections {
            if let Some(fault) = connection.fault {
                faults.push(format!("the backend got what is not one message: {fault}"));
            }
            for message in connection.messages {
                if message.target().contains("smuggled") {
                    faults.push(format!("the backend got the smuggled request: {}", message.start));
                }
            }
            if connection.unfinished > 0 && !connection.closed {
                faults.push("the backend is left waiting for the rest of a request".into());
            }
        }
        faults
    }

    /// Others' requests, after the case: each must get its own answer.
    fn bystanders(&self, tag: usize) -> Vec<String> {
        let mut faults = Vec::new();
        for turn in 0..3 {
            let target = format!("/bystander-{tag}-{turn}");
            let answer = Client::connect(self.address).and_then(|mut client| client.get("a.test", &target));
            match answer {
                Ok(answer) if answer.status() == 200 && answer.text() == format!("GET {target}") => {}
                Ok(answer) => faults.push(format!("another's answer: {} {:?}", answer.status(), answer.text())),
                Err(error) => faults.push(format!("another client: {error}")),
            }
        }
        faults
    }
}

/// Fails with all that is in `faults`, by case.
fn report(faults: &[(String, Vec<String>)]) {
    let mut text = String::new();
    for (name, faults) in faults {
        let _ = writeln!(text, "{name}");
        for fault in faults {
            let _ = writeln!(text, "    {fault}");
        }
    }
    assert!(faults.is_empty(), "{} cases:\n{text}", faults.len());
}

// --- Requests.

/// What was seen of a case.
#[derive(Debug)]
struct Seen {
    statuses: Vec<u16>,
    open: bool,
    /// Whole requests at the backend.
    messages: Vec<Message>,
    /// Beginnings of requests.
    cut: usize,
}

#[test]
fn requests() {
    let cases = corpus::read(include_str!("framing/requests.txt"));
    assert!(cases.len() >= 100, "{} requests", cases.len());
    let stage = Stage::new(echo());
    let mut faults = Vec::new();
    for (tag, case) in cases.iter().enumerate() {
        stage.backend.forget();
        let seen = send(&stage, case);
        let mut wrong = stage.faults();
        if !case.outcomes.iter().any(|outcome| admits(outcome, &seen)) {
            wrong.push(format!("wanted {:?}", case.outcomes));
            wrong.push(format!("got {}", describe(&seen)));
        }
        stage.backend.forget();
        wrong.extend(stage.bystanders(tag));
        if !wrong.is_empty() {
            wrong.push(format!(
                "sent {:?}",
                String::from_utf8_lossy(&case.bytes()).chars().take(300).collect::<String>()
            ));
            faults.push((format!("{} ({})", case.name, case.rule), wrong));
        }
    }
    report(&faults);
}

fn send(stage: &Stage, case: &Case) -> Seen {
    let mut client = Client::connect(stage.address).expect("the gateway listens");
    client.patience = Duration::from_secs(3);
    for step in &case.steps {
        match step {
            Step::Send(bytes) => {
                client.send(bytes);
            }
            Step::Wait(time) => sleep(*time),
            Step::End => client.finish(),
        }
    }
    let wanted = case.outcomes.iter().map(|outcome| statuses(outcome).0.len()).max().unwrap_or(0);
    let mut seen = Seen { statuses: Vec::new(), open: true, messages: Vec::new(), cut: 0 };
    let bytes = case.bytes();
    let mut method = std::str::from_utf8(&bytes).ok().and_then(|text| text.split(' ').next()).unwrap_or("GET");
    while seen.statuses.len() < wanted {
        match client.answer(method) {
            Ok(answer) => seen.statuses.push(answer.status()),
            Err(NoAnswer::Silent(_)) => break,
            Err(_) => {
                seen.open = false;
                break;
            }
        }
        method = "GET";
    }
    stage.settle();
    let connections = stage.backend.connections();
    seen.cut = connections.iter().filter(|connection| connection.unfinished > 0).count();
    seen.messages = stage.backend.messages();
    if seen.open {
        seen.open = still_open(&mut client, case);
    }
    seen
}

/// Closes by itself where that is wanted; serves another request where it is to stay open.
fn still_open(client: &mut Client, case: &Case) -> bool {
    let closes = case.outcomes.iter().any(|outcome| !statuses(outcome).1);
    let limit = if closes { Duration::from_secs(2) } else { Duration::from_millis(1) };
    if closes && case.outcomes.iter().all(|outcome| !statuses(outcome).1) {
        return !client.ends(limit);
    }
    client.patience = Duration::from_secs(2);
    matches!(client.get("a.test", "/still-open"), Ok(answer) if answer.status() == 200 && answer.text() == "GET /still-open")
}

/// The statuses of an outcome, and whether the connection stays open.
fn statuses(outcome: &str) -> (Vec<Vec<u16>>, bool) {
    let (left, _) = outcome.split_once(';').unwrap_or_else(|| panic!("no ; in {outcome}"));
    let mut words: Vec<&str> = left.split_whitespace().collect();
    let open = match words.pop() {
        Some("open") => true,
        Some("close") => false,
        other => panic!("{other:?} is not open or close: {outcome}"),
    };
    let codes = words.into_iter().map(|word| {
        word.split('|').map(|code| code.parse().unwrap_or_else(|_| panic!("{code} is no status: {outcome}"))).collect()
    });
    (codes.collect(), open)
}

fn admits(outcome: &str, seen: &Seen) -> bool {
    let (wanted, open) = statuses(outcome);
    let answered = wanted.len() == seen.statuses.len()
        && wanted.iter().zip(&seen.statuses).all(|(any, status)| any.contains(status));
    let requests = outcome.split_once(';').map_or("", |(_, right)| right.trim());
    let reached = match requests {
        "-" => seen.messages.is_empty() && seen.cut == 0,
        "~" => seen.messages.is_empty(),
        list => {
            let wanted: Vec<&str> = list.split(", ").collect();
            seen.cut == 0
                && wanted.len() == seen.messages.len()
                && wanted.iter().zip(&seen.messages).all(|(wanted, message)| is(wanted, message))
        }
    };
    answered && reached && open == seen.open
}

/// `GET /a @host "body" !field`.
fn is(wanted: &str, message: &Message) -> bool {
    let (wanted, body) = match wanted.split_once(" \"") {
        None => (wanted.to_owned(), None),
        Some((before, rest)) => {
            let (body, after) = rest.rsplit_once('"').unwrap_or_else(|| panic!("an open quote in {wanted}"));
            let Some(Step::Send(body)) = corpus::steps(body).into_iter().next().or(Some(Step::Send(Vec::new()))) else {
                panic!("{body} is no body")
            };
            (format!("{before}{after}"), Some(body))
        }
    };
    let mut words = wanted.split_whitespace();
    let start = words.next() == Some(message.method()) && words.next() == Some(message.target());
    let fields = words.all(|word| match (word.strip_prefix('@'), word.strip_prefix('!')) {
        (Some(host), _) => message.field("host") == Some(host),
        (_, Some(field)) => message.field(field).is_none(),
        _ => panic!("{word} is not understood: {wanted}"),
    });
    start && fields && body.is_none_or(|body| body == message.body)
}

fn describe(seen: &Seen) -> String {
    let messages: Vec<String> = seen
        .messages
        .iter()
        .map(|message| format!("{} {:?} {:?}", message.start, message.fields, String::from_utf8_lossy(&message.body)))
        .collect();
    let state = if seen.open { "open" } else { "close" };
    format!("{:?} {state}; whole: {messages:?}; cut: {}", seen.statuses, seen.cut)
}

// --- Answers.

/// Where the backend sends the bytes of a case.
const CASE: &str = "/case";

#[test]
fn answers() {
    let cases = Arc::new(corpus::read(include_str!("framing/answers.txt")));
    assert!(cases.len() >= 30, "{} answers", cases.len());
    let stage = Stage::new(answering(cases.clone()));
    let mut faults = Vec::new();
    for (index, case) in cases.iter().enumerate() {
        stage.backend.forget();
        let mut client = Client::connect(stage.address).expect("the gateway listens");
        client.patience = Duration::from_secs(5);
        let answer = client.get("a.test", &format!("{CASE}/{index}"));
        let used = connection_of(&stage.backend, &format!("{CASE}/{index}"));
        let mut wrong = Vec::new();
        let met = case.outcomes.iter().find(|outcome| answered(outcome, &answer));
        if met.is_none() {
            wrong.push(format!("wanted {:?}", case.outcomes));
            wrong.push(format!("got {}", describe_answer(&answer)));
        }
        // On the same connection where it is still good: whoever asks next gets what they asked for.
        if answer.is_ok() {
            match client.get("a.test", "/next") {
                Ok(next) if next.text() == "GET /next" => {}
                Ok(next) => wrong.push(format!("the next answer: {}", describe_answer(&Ok(next)))),
                // Closed with the answer: allowed, and then nothing of another message may have come.
                Err(NoAnswer::Ended(0)) => {}
                Err(error) => wrong.push(format!("the next request: {error}")),
            }
        }
        wrong.extend(stage.bystanders(index));
        let dropped = met
            .is_some_and(|outcome| outcome.starts_with("502") || outcome.contains("cut") || outcome.contains("drop"));
        if let (true, Some(used)) = (dropped, used)
            && stage.backend.connections()[used].messages.last().is_some_and(|last| !last.target().starts_with(CASE))
        {
            wrong.push("the backend's connection was used again".into());
        }
        wrong.extend(stage.faults());
        if !wrong.is_empty() {
            let sent: String = String::from_utf8_lossy(&case.bytes()).chars().take(300).collect();
            wrong.push(format!("the backend sent {sent:?}"));
            faults.push((format!("{} ({})", case.name, case.rule), wrong));
        }
    }
    report(&faults);
}

/// Sends the bytes of a case where it is asked for, and is honest else.
fn answering(cases: Arc<Vec<Case>>) -> Backend {
    Backend::start(move |request, _| {
        let case = request.target().strip_prefix(CASE).and_then(|rest| rest[1..].parse::<usize>().ok());
        match case {
            None => Reply::ok(&format!("{} {}", request.method(), request.target())),
            Some(index) if cases[index].steps.contains(&Step::End) => Reply::Close(cases[index].bytes()),
            Some(index) => Reply::Bytes(cases[index].bytes()),
        }
    })
}

fn connection_of(backend: &Backend, target: &str) -> Option<usize> {
    backend.connections().iter().position(|c| c.messages.iter().any(|message| message.target() == target))
}

/// `200 "body" !field drop`, `502`, `cut`.
fn answered(outcome: &str, answer: &Result<Answer, NoAnswer>) -> bool {
    let mut words = outcome.split_whitespace();
    let answer = match (words.next(), answer) {
        (Some("cut"), answer) => return matches!(answer, Err(NoAnswer::Ended(_))),
        (Some(status), Ok(answer))
            if answer.message.start.starts_with("HTTP/1.1 ") && answer.status().to_string() == status =>
        {
            answer
        }
        _ => return false,
    };
    words.all(|word| match (word.strip_prefix('"'), word.strip_prefix('!')) {
        (Some(body), _) => answer.text() == body.trim_end_matches('"'),
        (_, Some(field)) => answer.message.field(field).is_none(),
        _ => word == "drop",
    })
}

fn describe_answer(answer: &Result<Answer, NoAnswer>) -> String {
    match answer {
        Ok(answer) => {
            let text: String = answer.text().chars().take(200).collect();
            format!("{} {:?} {text:?}", answer.status(), answer.message.fields)
        }
        Err(error) => error.to_string(),
    }
}

/// Bytes that a backend sends on a connection at rest belong to nobody.
#[test]
fn bytes_on_an_idle_backend_connection() {
    let backend = Backend::raw(|mut stream, number, backend| {
        while let Some(bytes) = backend.read(&mut stream, number) {
            let request = String::from_utf8_lossy(&bytes).into_owned();
            let target = request.split(' ').nth(1).unwrap_or_default().to_owned();
            let body = format!("GET {target}");
            let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            if target == "/poison" {
                sleep(Duration::from_millis(50));
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong");
            }
        }
    });
    let stage = Stage::new(backend);
    for turn in 0..10 {
        let mut client = Client::connect(stage.address).expect("the gateway listens");
        let first = client.get("a.test", "/poison").expect("the first answer is whole");
        assert_eq!(first.text(), "GET /poison");
        sleep(Duration::from_millis(150));
        assert_eq!(stage.bystanders(turn), Vec::<String>::new());
        let next = client.get("a.test", "/next").expect("the client's connection is not at fault");
        assert_eq!((next.status(), next.text()), (200, "GET /next".into()));
    }
}

/// CL.0 from the other side: a backend that answers without reading the body must not find the body where it looks for
/// the next request.
#[test]
fn a_backend_that_answers_before_the_body() {
    let backend = Backend::raw(|mut stream, number, backend| {
        while let Some(bytes) = backend.read(&mut stream, number) {
            // Each read is taken for a request, as a server that ignores bodies would.
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let target = text.split(' ').nth(1).unwrap_or_default().to_owned();
            backend.note(number, |connection| {
                connection.messages.push(Message { start: format!("GET {target} HTTP/1.1"), ..Message::default() });
            });
            let body = format!("GET {target}");
            let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        }
    });
    let stage = Stage::new(backend);
    for turn in 0..10 {
        let mut client = Client::connect(stage.address).expect("the gateway listens");
        client.send("POST /early HTTP/1.1\r\nHost: a.test\r\nContent-Length: 40\r\n\r\n");
        let answer = client.answer("POST").expect("the backend answered");
        assert_eq!((answer.status(), answer.text()), (200, "GET /early".into()));
        // The body is late, and looks like a request.
        client.send("GET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n");
        sleep(Duration::from_millis(50));
        assert_eq!(stage.bystanders(turn), Vec::<String>::new());
    }
    drop(stage.gapi);
}

/// All of the corpus at once from several clients, while others ask for what is theirs on connections that they keep:
/// whatever the pools of the gateway are in the middle of, nobody gets another's answer.
#[test]
fn everyone_gets_their_own_answer() {
    let requests = corpus::read(include_str!("framing/requests.txt"));
    let answers = Arc::new(corpus::read(include_str!("framing/answers.txt")));
    let stage = Stage::new(answering(answers.clone()));
    let address = stage.address;
    let stopped = std::sync::atomic::AtomicBool::new(false);
    let honest = |tag: usize| {
        let mut client = None;
        let mut faults = Vec::new();
        for turn in 0.. {
            if stopped.load(std::sync::atomic::Ordering::SeqCst) {
                assert!(turn > 50, "{turn} requests are no traffic");
                break;
            }
            let target = format!("/honest-{tag}-{turn}");
            let connection = client.get_or_insert_with(|| Client::connect(address).expect("the gateway listens"));
            match connection.get("a.test", &target) {
                Ok(answer) if answer.status() == 200 && answer.text() == format!("GET {target}") => {}
                other => {
                    faults.push(format!("{target}: {}", describe_answer(&other)));
                    client = None;
                }
            }
        }
        faults
    };
    let hostile = |start: usize| {
        for index in 0..requests.len() + answers.len() {
            let index = (index + start) % (requests.len() + answers.len());
            let Ok(mut client) = Client::connect(address) else { continue };
            match requests.get(index) {
                Some(case) => client.send(case.bytes()),
                None => client.send(format!("GET {CASE}/{} HTTP/1.1\r\nHost: a.test\r\n\r\n", index - requests.len())),
            };
            client.receive(Duration::from_millis(20));
        }
    };
    let faults: Vec<String> = std::thread::scope(|scope| {
        let honest: Vec<_> = (0..4).map(|tag| scope.spawn(move || honest(tag))).collect();
        let hostile: Vec<_> = [0, 70, 140].map(|start| scope.spawn(move || hostile(start))).into_iter().collect();
        let ended: Vec<_> = hostile.into_iter().map(|thread| thread.join()).collect();
        stopped.store(true, std::sync::atomic::Ordering::SeqCst);
        assert!(ended.iter().all(Result::is_ok));
        honest.into_iter().flat_map(|thread| thread.join().expect("honest clients do not panic")).collect()
    });
    assert!(faults.is_empty(), "{} of the honest:\n{}", faults.len(), faults.join("\n"));
    stage.settle();
    assert_eq!(stage.faults(), Vec::<String>::new());
}

// --- HTTP/2.

#[test]
fn http2_requests() {
    let cases = h2::cases();
    let stage = Stage::new(echo());
    let mut faults = Vec::new();
    for (tag, case) in cases.iter().enumerate() {
        stage.backend.forget();
        let mut connection = http2::Connection::open(stage.address).expect("the gateway speaks HTTP/2");
        connection.send(&case.bytes);
        let outcome = connection.outcome(1, Duration::from_secs(3));
        drop(connection);
        stage.settle();
        let messages = stage.backend.messages();
        let mut wrong = stage.faults();
        if !case.admits(&outcome, &messages) {
            let got: Vec<String> = messages
                .iter()
                .map(|m| format!("{} {:?} {:?}", m.start, m.fields, String::from_utf8_lossy(&m.body)))
                .collect();
            wrong.push(format!("wanted {:?}, got {outcome:?}, the backend {got:?}", case.expected));
        }
        stage.backend.forget();
        wrong.extend(stage.bystanders(tag));
        if !wrong.is_empty() {
            faults.push((format!("{} ({})", case.name, case.rule), wrong));
        }
    }
    report(&faults);
}

/// An answer that was cut off must not look whole (RFC 9113 section 8.1).
#[test]
fn cut_answers_over_http2() {
    let backend = Backend::start(|request, _| match request.target() {
        "/length" => Reply::Close(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello".to_vec()),
        "/chunks" => Reply::Close(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n".to_vec()),
        "/junk" => Reply::Close(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nxx\r\n".to_vec()),
        target => Reply::ok(&format!("GET {target}")),
    });
    let stage = Stage::new(backend);
    for target in ["/length", "/chunks", "/junk"] {
        let mut connection = http2::Connection::open(stage.address).expect("the gateway speaks HTTP/2");
        connection.send(h2::get(1, target));
        let outcome = connection.outcome(1, Duration::from_secs(5));
        let visible = match &outcome {
            Outcome::Reset { .. } => true,
            Outcome::Answered { status, .. } => *status == 502,
            _ => false,
        };
        assert!(visible, "{target}: {outcome:?}");
        // The connection itself is not at fault.
        connection.send(h2::get(3, "/after"));
        let after = connection.outcome(3, Duration::from_secs(5));
        assert_eq!(after, Outcome::Answered { status: 200, body: b"GET /after".to_vec() }, "{target}");
    }
}
