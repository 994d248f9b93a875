//! DNS-01 by the APIs of providers, in front of doubles that do to BIND what they are told: the certificates are real.

use std::{
    fmt::Write as _,
    fs,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use aws_lc_rs::{digest, hmac};
use serde_json::{Value, json};

use super::{
    bind::{Bind, nsupdate},
    dns_double::{self, Asked},
    dns01::{assert_secret, secret, site, start, wait_until_gone, wait_until_told, wanted},
    harness::{LIMIT, wait_until_ready},
    pebble::Pebble,
};
use crate::support::{Authority, manifest::file, wait};

const NAME: &str = "_acme-challenge.a.example";
const TOKEN: &str = "a-token/of+the=provider";

fn servers(more: &[&str]) -> Option<(Bind, Pebble)> {
    let bind = Bind::start(&[("example", more), ("proofs.test", &[])])?;
    let mut pebble = Pebble::new()?.name_server(bind.address()).forgetful();
    pebble.start();
    Some((bind, pebble))
}

/// The set of TXT records at a name is to be these.
fn replace(server: SocketAddr, name: &str, values: &[String]) {
    let mut lines = format!("delete {name} TXT\n");
    values.iter().for_each(|value| _ = writeln!(lines, "add {name} 60 TXT {value}"));
    nsupdate(server, &lines);
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Vec<&'a str> {
    text.split(before).skip(1).filter_map(|rest| Some(rest.split_once(after)?.0)).collect()
}

const ACCESS_KEY: (&str, &str) = ("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY");

/// AWS's signature, version 4, over what was asked, by its documentation.
fn signature(asked: &Asked, region: &str) -> Option<String> {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let hash = |text: &str| hex(digest::digest(&digest::SHA256, text.as_bytes()).as_ref());
    let sign =
        |key: &[u8], text: &str| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec();
    let date = asked.field("x-amz-date");
    let day = date.get(..8)?;
    let signed = between(asked.field("authorization"), "SignedHeaders=", ",").first()?.to_string();
    if !["host", "x-amz-date"].iter().all(|name| signed.split(';').any(|other| other == *name)) {
        return None;
    }
    let mut query: Vec<&str> = asked.query().split('&').filter(|pair| !pair.is_empty()).collect();
    query.sort_unstable();
    let fields: String = signed.split(';').map(|name| format!("{name}:{}\n", asked.field(name))).collect();
    let canonical = [&asked.method, asked.path(), &query.join("&"), &fields, &signed, &hash(&asked.body)].join("\n");
    let scope = format!("{day}/{region}/route53/aws4_request");
    let text = ["AWS4-HMAC-SHA256", date, &scope, &hash(&canonical)].join("\n");
    let key = [day, region, "route53", "aws4_request"]
        .iter()
        .fold(format!("AWS4{}", ACCESS_KEY.1).into_bytes(), |key, part| sign(&key, part));
    let credential = format!("AWS4-HMAC-SHA256 Credential={}/{scope}", ACCESS_KEY.0);
    Some(format!("{credential}, SignedHeaders={signed}, Signature={}", hex(&sign(&key, &text))))
}

/// Route 53, as far as it takes: two zones, of which one is the right one, and record sets.
fn route53(server: SocketAddr, changes: Arc<AtomicUsize>) -> SocketAddr {
    let sets: Mutex<Vec<String>> = Mutex::default();
    dns_double::http(move |asked| {
        if signature(asked, "eu-west-1").is_none_or(|right| right != asked.field("authorization")) {
            let text = "<ErrorResponse><Error><Code>SignatureDoesNotMatch</Code></Error></ErrorResponse>";
            return (403, text.into());
        }
        let mut sets = sets.lock().expect("nobody panics");
        let values = |sets: &[String]| {
            let item = |value: &String| format!("<ResourceRecord><Value>\"{value}\"</Value></ResourceRecord>");
            sets.iter().map(item).collect::<String>()
        };
        match (asked.method.as_str(), asked.path()) {
            ("GET", "/2013-04-01/hostedzonesbyname") => {
                let zone = |id: &str, name: &str| {
                    format!(
                        "<HostedZone><Id>/hostedzone/{id}</Id><Name>{name}</Name><CallerReference>x</CallerReference>\
                         <Config><PrivateZone>false</PrivateZone></Config></HostedZone>"
                    )
                };
                let zones = [zone("ZOTHER", "other."), zone("ZRIGHT", "example.")].concat();
                (
                    200,
                    format!(
                        "<ListHostedZonesByNameResponse><HostedZones>{zones}</HostedZones><IsTruncated>false\
                    </IsTruncated><MaxItems>100</MaxItems></ListHostedZonesByNameResponse>"
                    ),
                )
            }
            ("GET", "/2013-04-01/hostedzone/ZRIGHT/rrset") => {
                let set = match sets.is_empty() {
                    true => String::new(),
                    false => format!(
                        "<ResourceRecordSet><Name>{NAME}.</Name><Type>TXT</Type><TTL>10</TTL>\
                         <ResourceRecords>{}</ResourceRecords></ResourceRecordSet>",
                        values(&sets)
                    ),
                };
                (
                    200,
                    format!(
                        "<ListResourceRecordSetsResponse><ResourceRecordSets>{set}</ResourceRecordSets>\
                    <IsTruncated>false</IsTruncated><MaxItems>100</MaxItems></ListResourceRecordSetsResponse>"
                    ),
                )
            }
            ("POST", path) if path.trim_end_matches('/') == "/2013-04-01/hostedzone/ZRIGHT/rrset" => {
                assert!(asked.body.contains(&format!("<Name>{NAME}.</Name>")), "{}", asked.body);
                let written = between(&asked.body, "<Value>", "</Value>");
                let written = written.iter().map(|value| value.replace("&quot;", "").replace('"', ""));
                *sets = if asked.body.contains("<Action>DELETE") { Vec::new() } else { written.collect() };
                changes.fetch_add(1, Ordering::Relaxed);
                replace(server, NAME, &sets);
                (200, "<ChangeResourceRecordSetsResponse/>".into())
            }
            _ => (404, String::new()),
        }
    })
}

#[test]
fn route53_is_asked_with_a_right_signature() {
    let Some((bind, pebble)) = servers(&[]) else { return };
    let changes = Arc::new(AtomicUsize::new(0));
    let address = route53(bind.address(), changes.clone());
    let dns01 = json!({"route53": {
        "region": "eu-west-1", "accessKeyID": ACCESS_KEY.0,
        "secretAccessKeySecretRef": {"name": "aws", "key": "secret"},
    }});
    let mut documents = site(&pebble, &dns01, &["a.example", "*.a.example"]);
    let wrong = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYANOTHERKEY";
    documents.push(secret("aws", "secret", wrong));
    let endpoint = format!("AWS_ENDPOINT_URL_ROUTE_53=http://{address}");
    let gapi = start(&bind, &documents).under(&["env", &endpoint]).serve();
    wait_until_told(&gapi, &["solvers[0].dns01.route53", NAME, "403", "SignatureDoesNotMatch", "access key"]);
    assert_secret(&gapi, wrong);
    documents.pop();
    documents.push(secret("aws", "secret", &format!("{}\n", ACCESS_KEY.1)));
    gapi.put("site.yaml", file(&documents));
    wait_until_ready(&gapi, "default/site");
    wait_until_gone(&gapi, &bind, NAME);
    assert_eq!(changes.load(Ordering::Relaxed), 4, "two records were added and removed");
    assert_secret(&gapi, ACCESS_KEY.1);
}

/// Cloudflare's API at its own name, in front of which stands a proxy.
#[test]
fn cloudflare_is_asked_with_a_token_or_the_global_key() {
    let Some((bind, pebble)) = servers(&[]) else { return };
    let (authority, server) = (Authority::new(), bind.address());
    let records: Mutex<Vec<(usize, String)>> = Mutex::default();
    let (next, by_key) = (AtomicUsize::new(1), Arc::new(AtomicUsize::new(0)));
    let keyed = by_key.clone();
    let proxy = dns_double::proxy(&authority, "api.cloudflare.com", move |asked| {
        let failed = |status, text: &str| {
            (status, json!({"success": false, "errors": [{"code": 1000, "message": text}], "result": null}).to_string())
        };
        let done = |result: Value| (200, json!({"success": true, "errors": [], "result": result}).to_string());
        let by_key = (asked.field("x-auth-email"), asked.field("x-auth-key")) == ("me@example.com", TOKEN);
        if asked.field("authorization") != format!("Bearer {TOKEN}") && !by_key {
            return failed(403, "Invalid access token");
        }
        let mut records = records.lock().expect("nobody panics");
        let values = |records: &[(usize, String)]| records.iter().map(|(_, value)| value.clone()).collect::<Vec<_>>();
        let path = asked.path().strip_prefix("/client/v4").unwrap_or_default();
        match (asked.method.as_str(), path) {
            ("GET", "/zones") if asked.query().contains("name=example") => {
                done(json!([{"id": "zone1", "name": "example"}]))
            }
            ("GET", "/zones") => done(json!([])),
            ("GET", "/zones/zone1/dns_records") => {
                let item = |(id, value): &(usize, String)| json!({"id": id.to_string(), "name": NAME, "type": "TXT", "content": format!("\"{value}\"")});
                done(records.iter().map(item).collect())
            }
            ("POST", "/zones/zone1/dns_records") => {
                let body: Value = serde_json::from_str(&asked.body).expect("JSON");
                assert_eq!((&body["name"], &body["type"]), (&json!(NAME), &json!("TXT")));
                let value = body["content"].as_str().expect("a text").trim_matches('"').to_owned();
                records.push((next.fetch_add(1, Ordering::Relaxed), value));
                if by_key {
                    keyed.fetch_add(1, Ordering::Relaxed);
                }
                replace(server, NAME, &values(&records));
                done(json!({"id": "1", "name": NAME}))
            }
            ("DELETE", path) => {
                records.retain(|(id, _)| !path.ends_with(&format!("/dns_records/{id}")));
                replace(server, NAME, &values(&records));
                done(json!({"id": "1", "name": NAME}))
            }
            _ => failed(404, "not found"),
        }
    });
    let dns01 = json!({"cloudflare": {"apiTokenSecretRef": {"name": "cf", "key": "token"}}});
    let mut documents = site(&pebble, &dns01, &["a.example", "*.a.example"]);
    documents.push(secret("cf", "token", "another-token-that-is-wrong"));
    let start = start(&bind, &documents);
    let roots = start.root().join("roots.pem");
    fs::write(&roots, authority.pem()).expect("writable");
    let variables = [format!("HTTPS_PROXY=http://{proxy}"), format!("SSL_CERT_FILE={}", roots.display())];
    let gapi = start.under(&["env", &variables[0], &variables[1]]).serve();
    wait_until_told(
        &gapi,
        &["solvers[0].dns01.cloudflare", NAME, "HTTP 403", "Invalid access token", "token may edit"],
    );
    assert_secret(&gapi, "another-token-that-is-wrong");
    documents.pop();
    documents.push(secret("cf", "token", TOKEN));
    gapi.put("site.yaml", file(&documents));
    wait_until_ready(&gapi, "default/site");
    wait_until_gone(&gapi, &bind, NAME);
    assert_eq!(by_key.load(Ordering::Relaxed), 0);
    // The global key, and what it says when that is wrong.
    let cloudflare =
        json!({"cloudflare": {"email": "me@example.com", "apiKeySecretRef": {"name": "cf", "key": "token"}}});
    let mut documents = site(&pebble, &cloudflare, &["a.example", "*.a.example"]);
    documents[2]["spec"]["secretName"] = json!("another");
    documents.push(secret("cf", "token", "another-key-that-is-wrong"));
    gapi.put("site.yaml", file(&documents));
    wait_until_told(&gapi, &["solvers[0].dns01.cloudflare", NAME, "Invalid access token", "apiKeySecretRef"]);
    documents.pop();
    documents.push(secret("cf", "token", TOKEN));
    gapi.put("site.yaml", file(&documents));
    wait_until_ready(&gapi, "default/site");
    wait_until_gone(&gapi, &bind, NAME);
    assert_eq!(by_key.load(Ordering::Relaxed), 2);
    assert_secret(&gapi, TOKEN);
}

/// A provider by its webhook: PowerDNS's API.
#[test]
fn a_webhook_of_our_own_is_a_provider_by_its_name() {
    let Some((bind, pebble)) = servers(&[]) else { return };
    let server = bind.address();
    let records: Mutex<Vec<String>> = Mutex::default();
    let address = dns_double::http(move |asked| {
        if asked.field("x-api-key") != TOKEN {
            return (401, String::new());
        }
        if !asked.path().starts_with("/api/v1/servers/box/zones/example.") {
            return (404, String::new());
        }
        let mut records = records.lock().expect("nobody panics");
        if asked.method == "PATCH" {
            let body: Value = serde_json::from_str(&asked.body).expect("JSON");
            let change = &body["rrsets"][0];
            assert_eq!(change["name"], format!("{NAME}."));
            let written = change["records"].as_array().into_iter().flatten();
            let texts = written.filter_map(|record| Some(record["content"].as_str()?.trim_matches('"').to_owned()));
            *records = texts.collect();
            replace(server, NAME, &records);
            return (204, String::new());
        }
        let items = records.iter().map(|value| json!({"content": format!("\"{value}\""), "disabled": false}));
        let items: Vec<Value> = items.collect();
        let sets = match items.is_empty() {
            true => json!([]),
            false => json!([{"name": format!("{NAME}."), "type": "TXT", "ttl": 60, "records": items}]),
        };
        (200, json!({"rrsets": sets}).to_string())
    });
    let config = json!({
        "endpoint": format!("http://{address}"), "serverName": "box", "ttl": 60,
        "apiKeySecretRef": {"name": "pdns", "key": "key"},
    });
    let dns01 = json!({"webhook": {"groupName": "gapi.dev", "solverName": "pdns", "config": config}});
    let mut documents = site(&pebble, &dns01, &["a.example", "*.a.example"]);
    documents.push(secret("pdns", "key", TOKEN));
    let gapi = start(&bind, &documents).serve();
    wait_until_ready(&gapi, "default/site");
    wait_until_gone(&gapi, &bind, NAME);
    assert_secret(&gapi, TOKEN);
}

/// acme-dns: the name is an alias into its zone, and nothing is removed there.
#[test]
fn acme_dns_is_told_by_the_account_of_the_name() {
    let alias = "d420c923.proofs.test";
    let Some((bind, pebble)) = servers(&[&format!("_acme-challenge.a CNAME {alias}.")]) else { return };
    let server = bind.address();
    let values: Mutex<Vec<String>> = Mutex::default();
    let address = dns_double::http(move |asked| {
        let body: Value = serde_json::from_str(&asked.body).unwrap_or_default();
        if (asked.path(), asked.field("x-api-user"), asked.field("x-api-key")) != ("/update", "user", TOKEN) {
            return (401, "{\"error\": \"forbidden\"}".into());
        }
        assert_eq!(body["subdomain"], "d420c923");
        let mut values = values.lock().expect("nobody panics");
        values.push(body["txt"].as_str().expect("a text").to_owned());
        let keep = values.len().saturating_sub(2);
        values.drain(..keep);
        replace(server, alias, &values);
        (200, body.to_string())
    });
    let accounts = json!({"a.example": {
        "username": "user", "password": TOKEN, "subdomain": "d420c923", "fulldomain": alias, "allowfrom": [],
    }});
    let dns01 = json!({"acmeDNS": {
        "host": format!("http://{address}"), "accountSecretRef": {"name": "acme-dns", "key": "accounts.json"},
    }});
    let mut documents = site(&pebble, &dns01, &["a.example", "*.a.example"]);
    documents.push(secret("acme-dns", "accounts.json", &accounts.to_string()));
    let gapi = start(&bind, &documents).serve();
    wait_until_ready(&gapi, "default/site");
    let notes = || fs::read_dir(gapi.state().join("dns01")).map_or(0, |entries| entries.count());
    wait("nothing is noted", LIMIT, || notes() == 0);
    assert_secret(&gapi, TOKEN);
    // A name without an account.
    documents[2] = wanted(&["b.example"]);
    gapi.put("site.yaml", file(&documents));
    wait_until_told(&gapi, &["acmeDNS.accountSecretRef", "no account for b.example"]);
}

/// An API that takes its time does not hold anything else up, and is told.
#[test]
fn an_api_that_does_not_answer_is_told() {
    let Some((bind, pebble)) = servers(&[]) else { return };
    let address = dns_double::http(|_| {
        std::thread::sleep(Duration::from_secs(600));
        (200, String::new())
    });
    let config = json!({"endpoint": format!("http://{address}"), "apiKeySecretRef": {"name": "pdns", "key": "key"}});
    let dns01 = json!({"webhook": {"groupName": "gapi.dev", "solverName": "pdns", "config": config}});
    let mut documents = site(&pebble, &dns01, &["a.example"]);
    documents.push(secret("pdns", "key", TOKEN));
    let gapi = start(&bind, &documents).serve();
    let at = address.to_string();
    wait_until_told(&gapi, &["solvers[0].dns01.webhook gapi.dev pdns", &at, NAME]);
    assert_eq!(gapi.ask(&["get", "certificates"]).code, 0);
}
