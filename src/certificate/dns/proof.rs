//! The DNS-01 challenges of one order: all records first, then a look at each, then they wait for the server.

use std::{sync::Arc, time::Duration};

use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::{
    authority::{Resolvers, nameserver},
    provider::Provider,
    record::{Note, Presented, Record},
};
use crate::{
    certificate::{
        event::{Failure, Link},
        task::Job,
    },
    graph::issuance::{Issuer, issuer::Acme},
};

/// How long a record is looked for.
const PATIENCE: Duration = Duration::from_secs(300);
/// After this time servers that say nothing are passed over, where all others have it.
const SILENCE: Duration = Duration::from_secs(30);
/// Between looks.
const LOOK: Duration = Duration::from_secs(2);
/// In place of looks no longer than this is waited.
const MAX_WAIT: Duration = Duration::from_secs(3600);

/// What is proven by DNS in an order.
pub struct Proofs<'a> {
    job: &'a Job,
    issuer: &'a Issuer,
    acme: &'a Acme,
    link: &'a Link,
    put: Vec<Put>,
}

/// A challenge whose record is up.
struct Put {
    /// As the order has it.
    identifier: String,
    presented: Presented,
    resolvers: Resolvers,
    wait: Option<Duration>,
}

impl<'a> Proofs<'a> {
    pub fn new(job: &'a Job, issuer: &'a Issuer, acme: &'a Acme, link: &'a Link) -> Proofs<'a> {
        Proofs { job, issuer, acme, link, put: Vec::new() }
    }

    /// Is this name proven so?
    pub fn has(&self, identifier: &str) -> bool {
        self.put.iter().any(|put| put.identifier == identifier)
    }

    /// Puts the record of a challenge up, by the solver of that number.
    ///
    /// # Errors
    /// What keeps it from being there, with the solver's field.
    pub async fn put(
        &mut self,
        solver: usize,
        identifier: &str,
        token: &str,
        authorization: &str,
        value: String,
    ) -> Result<(), Failure> {
        let told = |why: String| {
            Failure::local(format!("{identifier}: {}: spec.acme.solvers[{solver}].dns01.{why}", self.issuer.key))
        };
        let written = &self.acme.spec.solvers[solver];
        let dns01 = written.dns01.as_ref().unwrap_or(&Value::Null);
        let resolvers = self.resolvers(dns01).map_err(told)?;
        let provider = Provider::open(dns01, &self.acme.secrets, self.issuer.is_cluster()).await.map_err(told)?;
        let domain = identifier.strip_prefix("*.").unwrap_or(identifier).to_ascii_lowercase();
        let mut name = format!("_acme-challenge.{domain}");
        let unseen = |why: String| Failure::local(format!("{identifier}: {why}"));
        if dns01["cnameStrategy"] == "Follow" {
            self.link.step(format!("the CNAME of {name} is followed"));
            name = resolvers.follow(&name).await.map_err(unseen)?;
        }
        let zone = match provider.zone() {
            None => String::new(),
            Some(Some(zone)) => zone.trim_end_matches('.').to_owned(),
            Some(None) => {
                self.link.step(format!("the zone of {name} is looked for"));
                resolvers.zone(&name).await.map_err(unseen)?
            }
        };
        self.link.step(format!("the TXT record {name} is made"));
        let (token, authorization) = (token.to_owned(), authorization.to_owned());
        let record = Record { domain, name, zone, value, token, authorization };
        let note = Note::new(&self.issuer.key, dns01, record);
        let presented = self.job.records.present(Arc::new(provider), note).await.map_err(told)?;
        let wait = written.wait_instead_of_self_check;
        self.put.push(Put { identifier: identifier.to_owned(), presented, resolvers, wait });
        Ok(())
    }

    /// Returns when every record can be seen.
    ///
    /// # Errors
    /// One of them cannot.
    pub async fn seen(&self) -> Result<(), Failure> {
        let start = Instant::now();
        for put in &self.put {
            match put.wait {
                Some(wait) => {
                    let left = wait.min(MAX_WAIT).saturating_sub(start.elapsed());
                    let name = &put.presented.record().name;
                    self.link.step(format!("{name} is given {} s, by waitInsteadOfSelfCheck", wait.as_secs()));
                    sleep(left).await;
                }
                None => self.look(put, start).await?,
            }
        }
        Ok(())
    }

    async fn look(&self, put: &Put, start: Instant) -> Result<(), Failure> {
        let Record { domain, value, .. } = put.presented.record();
        let name = format!("_acme-challenge.{domain}");
        let mut last = String::new();
        loop {
            let said = match put.resolvers.look(&name, value).await {
                Ok(answers) if answers.complete() => return Ok(()),
                Ok(answers) if answers.complete_but_for_silence() && start.elapsed() > SILENCE => return Ok(()),
                Ok(answers) => answers.to_string(),
                Err(why) => why,
            };
            let told = format!("the TXT record {name} is waited for: {said}");
            if start.elapsed() > PATIENCE {
                let remedy = "look whether the provider changes the zone that these servers serve";
                let minutes = PATIENCE.as_secs() / 60;
                return Err(Failure::local(format!("{told}; it was not there after {minutes} minutes: {remedy}")));
            }
            if told != last {
                self.link.step(told.clone());
                last = told;
            }
            sleep(LOOK).await;
        }
    }

    fn resolvers(&self, dns01: &Value) -> Result<Resolvers, String> {
        let mut resolvers = self.job.resolvers.clone();
        let written = dns01["nameservers"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let own: Vec<_> =
            written.map(nameserver).collect::<Result<_, _>>().map_err(|why| format!("nameservers: {why}"))?;
        if !own.is_empty() {
            resolvers.recursive = own;
        }
        Ok(resolvers)
    }
}
