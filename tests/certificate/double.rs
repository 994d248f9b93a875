//! A small ACME server for what Pebble does not show: what it was asked for, limits, how many orders were under way at
//! once. It believes every signature, and every name is proven already.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, MutexGuard},
    thread,
    time::Duration,
};

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    pki_types::{PrivateKeyDer, pem::PemObject},
};
use serde_json::{Value, json};

use crate::support::{Authority, loopback};

/// A problem that is answered: status, type (RFC 8555, 6.7), detail, and seconds of `Retry-After`.
pub type Refusal = (u16, &'static str, &'static str, Option<u64>);

/// What the server saw, and what it is to do.
#[derive(Default)]
pub struct State {
    /// Path and payload of each POST.
    pub asked: Vec<(String, Value)>,
    /// Path of each other request.
    pub read: Vec<String>,
    /// Whatever is asked is answered so.
    pub refuses_all: Option<Refusal>,
    /// Orders with this name in them are answered so.
    pub refuses: BTreeMap<String, Refusal>,
    /// How long it takes to issue.
    pub delay: Duration,
    /// When the first certificate had best be renewed, from when that is asked.
    pub window: Option<(Duration, Duration)>,
    orders: Vec<Order>,
    /// Orders made whose certificate was not fetched yet.
    open: usize,
    pub most_open: usize,
}

#[derive(Clone, Default)]
struct Order {
    identifiers: Value,
    replaces: Value,
    csr: Vec<u8>,
}

impl State {
    /// The payloads of the requests to a path.
    pub fn payloads(&self, path: &str) -> Vec<Value> {
        self.asked.iter().filter(|(asked, _)| asked == path).map(|(_, payload)| payload.clone()).collect()
    }

    /// The request for the certificate of the order with this number, counted from 0: DER.
    pub fn request(&self, number: usize) -> Vec<u8> {
        self.orders[number].csr.clone()
    }
}

pub struct Double {
    address: SocketAddr,
    authority: Arc<Authority>,
    state: Arc<Mutex<State>>,
}

impl Double {
    pub fn new() -> Double {
        let authority = Arc::new(Authority::new());
        let state = Arc::<Mutex<State>>::default();
        let listener = TcpListener::bind(loopback(0)).expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let config = tls(&authority);
        let double = Double { address, authority, state };
        let (authority, state) = (double.authority.clone(), double.state.clone());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (config, authority, state) = (config.clone(), authority.clone(), state.clone());
                thread::spawn(move || {
                    let session = ServerConnection::new(config).expect("the configuration is right");
                    // A client that went away is no fault.
                    let _ = serve(StreamOwned::new(session, stream), address, &authority, &state);
                });
            }
        });
        double
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread panicked")
    }

    /// `spec` of an issuer for it.
    pub fn issuer(&self) -> Value {
        json!({"acme": {
            "server": format!("https://{}/dir", self.address), "caBundle": STANDARD.encode(self.authority.pem()),
            "privateKeySecretRef": {"name": "account-key"}, "solvers": [{"http01": {"ingress": {}}}],
        }})
    }
}

fn tls(authority: &Authority) -> Arc<ServerConfig> {
    let pair = authority.sign(&["127.0.0.1"]);
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).expect("PEM");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has TLS 1.2 and 1.3")
        .with_no_client_auth()
        .with_single_cert(vec![pair.der.into()], key)
        .expect("the key fits");
    Arc::new(config)
}

/// One request of a connection.
fn serve(
    mut stream: StreamOwned<ServerConnection, TcpStream>,
    address: SocketAddr,
    authority: &Authority,
    state: &Mutex<State>,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(&mut stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split(' ').map(str::to_owned);
    let (Some(method), Some(path)) = (words.next(), words.next()) else { return Ok(()) };
    let mut length = 0;
    loop {
        let mut field = String::new();
        reader.read_line(&mut field)?;
        match field.trim().split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.trim().parse().unwrap_or(0);
            }
            Some(_) => {}
            None => break,
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let signed: Value = serde_json::from_slice(&body).unwrap_or_default();
    let payload = URL_SAFE_NO_PAD.decode(signed["payload"].as_str().unwrap_or_default()).unwrap_or_default();
    let payload: Value = serde_json::from_slice(&payload).unwrap_or_default();
    let delay = {
        let mut state = state.lock().expect("no thread panicked");
        match method.as_str() {
            "POST" => state.asked.push((path.clone(), payload.clone())),
            _ => state.read.push(path.clone()),
        }
        if path.starts_with("/finalize/") { state.delay } else { Duration::ZERO }
    };
    thread::sleep(delay);
    let answer = answer(&path, &payload, address, authority, &mut state.lock().expect("no thread panicked"));
    let (status, head, body) = answer;
    let body = if method == "HEAD" { String::new() } else { body };
    let length = body.len();
    let nonce = "Replay-Nonce: abc\r\nConnection: close";
    write!(stream, "HTTP/1.1 {status} x\r\n{head}{nonce}\r\nContent-Length: {length}\r\n\r\n{body}")?;
    stream.conn.send_close_notify();
    stream.flush()
}

/// Status, header fields and body.
fn answer(
    path: &str,
    payload: &Value,
    address: SocketAddr,
    authority: &Authority,
    state: &mut State,
) -> (u16, String, String) {
    let url = |rest: &str| format!("https://{address}{rest}");
    let plain = |body: Value| (200, String::new(), body.to_string());
    if let Some(refusal) = state.refuses_all {
        return refuse(refusal);
    }
    let mut words = path.trim_start_matches('/').split('/');
    let (kind, number) = (words.next().unwrap_or_default(), words.next().and_then(|text| text.parse::<usize>().ok()));
    match (kind, number) {
        ("dir", _) => plain(json!({
            "newNonce": url("/nonce"), "newAccount": url("/account"), "newOrder": url("/order"),
            "renewalInfo": url("/renewal"),
        })),
        ("nonce", _) => plain(json!(null)),
        ("account", None) => {
            (201, format!("Location: {}\r\n", url("/account/1")), json!({"status": "valid"}).to_string())
        }
        ("account", Some(_)) => plain(json!({"status": "valid"})),
        ("order", None) => {
            let names = payload["identifiers"].as_array().into_iter().flatten();
            let mut names = names.filter_map(|identifier| identifier["value"].as_str());
            if let Some(refusal) = names.find_map(|name| state.refuses.get(name)) {
                return refuse(*refusal);
            }
            state.open += 1;
            state.most_open = state.most_open.max(state.open);
            let (identifiers, replaces) = (payload["identifiers"].clone(), payload["replaces"].clone());
            state.orders.push(Order { identifiers, replaces, csr: Vec::new() });
            let number = state.orders.len() - 1;
            (201, format!("Location: {}\r\n", url(&format!("/order/{number}"))), order(state, number, url).to_string())
        }
        ("order", Some(number)) => plain(order(state, number, url)),
        ("finalize", Some(number)) => {
            state.orders[number].csr =
                URL_SAFE_NO_PAD.decode(payload["csr"].as_str().expect("text")).expect("base64url");
            plain(order(state, number, url))
        }
        ("certificate", Some(number)) => {
            state.open -= 1;
            (200, String::new(), authority.issue(&state.orders[number].csr))
        }
        ("renewal", _) => match state.window.filter(|_| state.orders.len() == 1) {
            Some((start, end)) => {
                let time = |after: Duration| (jiff::Timestamp::now() + after).to_string();
                let window = json!({"suggestedWindow": {"start": time(start), "end": time(end)}});
                (200, "Retry-After: 21600\r\n".into(), window.to_string())
            }
            None => refuse((404, "malformed", "nothing is known of it", None)),
        },
        _ => refuse((404, "malformed", "there is no such thing", None)),
    }
}

fn order(state: &State, number: usize, url: impl Fn(&str) -> String) -> Value {
    let order = &state.orders[number];
    let mut document = json!({
        "status": if order.csr.is_empty() { "ready" } else { "valid" },
        "identifiers": order.identifiers, "authorizations": [], "finalize": url(&format!("/finalize/{number}")),
    });
    if order.replaces.is_string() {
        document["replaces"] = order.replaces.clone();
    }
    if !order.csr.is_empty() {
        document["certificate"] = json!(url(&format!("/certificate/{number}")));
    }
    document
}

fn refuse((status, kind, detail, retry_after): Refusal) -> (u16, String, String) {
    let head = retry_after.map(|seconds| format!("Retry-After: {seconds}\r\n")).unwrap_or_default();
    let problem = json!({"type": format!("urn:ietf:params:acme:error:{kind}"), "detail": detail, "status": status});
    (status, head, problem.to_string())
}
