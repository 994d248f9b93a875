//! What DNS says: where a name leads, which zone it is in, and whether the zone's servers have a record.

use std::{
    collections::BTreeSet,
    fmt,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use hickory_resolver::{
    TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolverConfig, ResolverOpts},
    net::{NetError, runtime::TokioRuntimeProvider},
    proto::rr::{RData, Record, RecordType},
};
use tokio::task::JoinSet;

/// How long a server may take to answer, asked twice.
const ANSWER: Duration = Duration::from_secs(4);
/// Aliases one after another.
const MAX_ALIASES: usize = 10;
/// Servers of a zone that are asked, and addresses of one.
const MAX_SERVERS: usize = 16;
const MAX_ADDRESSES: usize = 4;

/// Whom to ask.
#[derive(Clone, Debug, Default)]
pub struct Resolvers {
    /// Recursive servers; those of the system where there are none.
    pub recursive: Vec<SocketAddr>,
    /// Records are looked for there, not at the servers of the zone.
    pub only: bool,
}

/// An IP address with or without a port: 53 where there is none.
///
/// # Errors
/// It is neither.
pub fn nameserver(text: &str) -> Result<SocketAddr, String> {
    let text = text.trim();
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = text.parse().or_else(|_| bare.parse().map(|ip: IpAddr| SocketAddr::new(ip, 53)));
    address.map_err(|_| format!("{text:?} is no IP address with or without a port, like 192.0.2.1:53"))
}

/// What one server says of a record.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Answer {
    Has,
    /// It has so many others.
    Lacks(usize),
    Silent(String),
}

/// What every server says, by name and address.
#[derive(Clone, Debug, Default)]
pub struct Answers(Vec<(String, Answer)>);

impl Answers {
    /// Every server has it.
    pub fn complete(&self) -> bool {
        !self.0.is_empty() && self.0.iter().all(|(_, answer)| *answer == Answer::Has)
    }

    /// Every server that says anything has it.
    pub fn complete_but_for_silence(&self) -> bool {
        let has = self.0.iter().any(|(_, answer)| *answer == Answer::Has);
        has && !self.0.iter().any(|(_, answer)| matches!(answer, Answer::Lacks(_)))
    }
}

impl fmt::Display for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (server, answer)) in self.0.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            match answer {
                Answer::Has => write!(f, "{comma}{server} has it"),
                Answer::Lacks(0) => write!(f, "{comma}{server} does not have it"),
                Answer::Lacks(others) => write!(f, "{comma}{server} does not have it, but {others} other(s)"),
                Answer::Silent(why) => write!(f, "{comma}{server}: {why}"),
            }?;
        }
        Ok(())
    }
}

impl Resolvers {
    /// Where CNAMEs lead from `name`; `name` itself where there is none.
    ///
    /// # Errors
    /// No answer, a loop, or too many.
    pub async fn follow(&self, name: &str) -> Result<String, String> {
        let resolver = self.resolver()?;
        let mut name = name.trim_end_matches('.').to_ascii_lowercase();
        let mut seen = BTreeSet::from([name.clone()]);
        for _ in 0..MAX_ALIASES {
            let answers = ask(&resolver, &name, RecordType::CNAME).await;
            let answers = answers.map_err(|error| self.told(&format!("the CNAME of {name}"), &error))?;
            let target = answers.iter().find_map(|record| match &record.data {
                RData::CNAME(target) if is_of(record, &name) => Some(plain(&target.0.to_ascii())),
                _ => None,
            });
            let Some(target) = target else { return Ok(name) };
            if !seen.insert(target.clone()) {
                return Err(format!("the CNAMEs of {name} lead back to {target}: correct them"));
            }
            name = target;
        }
        Err(format!("more than {MAX_ALIASES} CNAMEs lead to {name}: write fewer"))
    }

    /// The zone that `name` is in: the nearest name above that has a SOA record.
    ///
    /// # Errors
    /// No answer, or there is none.
    pub async fn zone(&self, name: &str) -> Result<String, String> {
        let resolver = self.resolver()?;
        let mut at = name.trim_end_matches('.');
        loop {
            let answers = ask(&resolver, at, RecordType::SOA).await;
            let answers = answers.map_err(|error| self.told(&format!("the zone of {at}"), &error))?;
            if answers.iter().any(|record| record.record_type() == RecordType::SOA && is_of(record, at)) {
                return Ok(at.to_ascii_lowercase());
            }
            match at.split_once('.') {
                Some((_, rest)) if rest.contains('.') || !rest.is_empty() => at = rest,
                _ => return Err(format!("no zone was found that {name} is in, by {}", self.words())),
            }
        }
    }

    /// Which servers have the TXT record `value` at `name`, or where that leads.
    ///
    /// # Errors
    /// It is not known whom to ask.
    pub async fn look(&self, name: &str, value: &str) -> Result<Answers, String> {
        let name = self.follow(name).await?;
        let servers = if self.only { self.own() } else { self.authorities(&name).await? };
        let mut asking = JoinSet::new();
        for (server, addresses) in servers {
            let (name, value, recursive) = (name.clone(), value.to_owned(), self.only);
            asking.spawn(async move { one(server, addresses, recursive, &name, &value).await });
        }
        let mut answers = Answers(asking.join_all().await);
        answers.0.sort_by(|one, other| one.0.cmp(&other.0));
        Ok(answers)
    }

    /// The recursive servers, each by itself; those of the system together.
    fn own(&self) -> Vec<(String, Vec<SocketAddr>)> {
        match self.recursive.as_slice() {
            [] => vec![(self.words(), Vec::new())],
            servers => servers.iter().map(|server| (server.to_string(), vec![*server])).collect(),
        }
    }

    /// The servers of the zone that `name` is in.
    async fn authorities(&self, name: &str) -> Result<Vec<(String, Vec<SocketAddr>)>, String> {
        let zone = self.zone(name).await?;
        let resolver = self.resolver()?;
        let answers = ask(&resolver, &zone, RecordType::NS).await;
        let answers = answers.map_err(|error| self.told(&format!("the servers of zone {zone}"), &error))?;
        let hosts = answers.iter().filter_map(|record| match &record.data {
            RData::NS(host) => Some(plain(&host.0.to_ascii())),
            _ => None,
        });
        let hosts: BTreeSet<String> = hosts.take(MAX_SERVERS).collect();
        if hosts.is_empty() {
            return Err(format!("zone {zone} has no NS records, by {}", self.words()));
        }
        let mut lookups = JoinSet::new();
        for host in hosts {
            let resolver = resolver.clone();
            lookups.spawn(async move {
                let addresses = resolver.lookup_ip(format!("{host}.")).await;
                let addresses = addresses.iter().flat_map(|found| found.iter());
                let addresses = addresses.take(MAX_ADDRESSES).map(|address| SocketAddr::new(address, 53)).collect();
                (host, addresses)
            });
        }
        Ok(lookups.join_all().await)
    }

    fn resolver(&self) -> Result<TokioResolver, String> {
        let builder = match self.recursive.as_slice() {
            [] => TokioResolver::builder_tokio().map_err(|error| format!("/etc/resolv.conf: {error}"))?,
            servers => TokioResolver::builder_with_config(config(servers), TokioRuntimeProvider::default()),
        };
        let mut options = options();
        options.use_hosts_file = hickory_resolver::config::ResolveHosts::Never;
        builder.with_options(options).build().map_err(|error| error.to_string())
    }

    fn words(&self) -> String {
        match self.recursive.as_slice() {
            [] => "the resolvers of /etc/resolv.conf".to_owned(),
            servers => servers.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(", "),
        }
    }

    fn told(&self, what: &str, error: &NetError) -> String {
        format!("{what} was not found by {}: {error}; see --dns01-recursive-nameservers", self.words())
    }
}

/// Asks a server at its addresses, one after another until one answers; the system's resolvers where there are none.
async fn one(server: String, addresses: Vec<SocketAddr>, recursive: bool, name: &str, value: &str) -> (String, Answer) {
    if addresses.is_empty() && !recursive {
        return (server, Answer::Silent("the name has no address".into()));
    }
    let system = addresses.is_empty();
    let mut tries: Vec<Option<SocketAddr>> = addresses.into_iter().map(Some).collect();
    if system {
        tries.push(None);
    }
    let mut last = Answer::Silent("it was not asked".into());
    for address in tries {
        let shown = match address {
            Some(address) if !recursive => format!("{server} ({})", address.ip()),
            _ => server.clone(),
        };
        let answer = txt(address, recursive, name, value).await;
        if !matches!(answer, Answer::Silent(_)) {
            return (shown, answer);
        }
        last = answer;
    }
    (server, last)
}

async fn txt(address: Option<SocketAddr>, recursive: bool, name: &str, value: &str) -> Answer {
    let builder = match address {
        Some(address) => TokioResolver::builder_with_config(config(&[address]), TokioRuntimeProvider::default()),
        None => match TokioResolver::builder_tokio() {
            Ok(builder) => builder,
            Err(error) => return Answer::Silent(error.to_string()),
        },
    };
    let mut options = options();
    options.recursion_desired = recursive;
    let resolver = match builder.with_options(options).build() {
        Ok(resolver) => resolver,
        Err(error) => return Answer::Silent(error.to_string()),
    };
    match ask(&resolver, name, RecordType::TXT).await {
        Err(error) => Answer::Silent(error.to_string()),
        Ok(records) => {
            let texts = records.iter().filter_map(|record| match &record.data {
                RData::TXT(txt) => Some(txt.txt_data.concat()),
                _ => None,
            });
            let texts: Vec<Vec<u8>> = texts.collect();
            if texts.iter().any(|text| text == value.as_bytes()) { Answer::Has } else { Answer::Lacks(texts.len()) }
        }
    }
}

/// The records of an answer; none where there are none, or no such name.
async fn ask(resolver: &TokioResolver, name: &str, kind: RecordType) -> Result<Vec<Record>, NetError> {
    match resolver.lookup(format!("{name}."), kind).await {
        Ok(lookup) => Ok(lookup.answers().to_vec()),
        Err(error) if error.is_no_records_found() => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn config(servers: &[SocketAddr]) -> ResolverConfig {
    let server = |address: &SocketAddr| {
        let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].into_iter().map(|mut connection| {
            connection.port = address.port();
            connection
        });
        NameServerConfig::new(address.ip(), true, connections.collect())
    };
    ResolverConfig::from_parts(None, Vec::new(), servers.iter().map(server).collect())
}

fn options() -> ResolverOpts {
    let mut options = ResolverOpts::default();
    options.timeout = ANSWER;
    options.attempts = 2;
    // A record that was not there may be there now.
    options.cache_size = 0;
    options
}

fn is_of(record: &Record, name: &str) -> bool {
    plain(&record.name.to_ascii()) == plain(name)
}

fn plain(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_addresses_with_or_without_a_port() {
        let read = |text| nameserver(text).map(|address| address.to_string()).ok();
        assert_eq!(read("192.0.2.1").as_deref(), Some("192.0.2.1:53"));
        assert_eq!(read("192.0.2.1:5353").as_deref(), Some("192.0.2.1:5353"));
        assert_eq!(read("2001:db8::1").as_deref(), Some("[2001:db8::1]:53"));
        assert_eq!(read("[2001:db8::1]").as_deref(), Some("[2001:db8::1]:53"));
        assert_eq!(read("[2001:db8::1]:5353").as_deref(), Some("[2001:db8::1]:5353"));
        for wrong in ["", "dns.example", "https://dns.example/query", "192.0.2.1:0x", "192.0.2.1:99999"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_each_server_says_is_told() {
        let of = |answers: &[Answer]| {
            Answers(answers.iter().enumerate().map(|(i, answer)| (format!("ns{i}"), answer.clone())).collect())
        };
        let silent = Answer::Silent("timed out".into());
        assert!(of(&[Answer::Has, Answer::Has]).complete());
        assert!(!of(&[]).complete() && !of(&[]).complete_but_for_silence());
        assert!(!of(&[Answer::Has, silent.clone()]).complete());
        assert!(of(&[Answer::Has, silent.clone()]).complete_but_for_silence());
        assert!(!of(std::slice::from_ref(&silent)).complete_but_for_silence());
        assert!(!of(&[Answer::Has, Answer::Lacks(0), silent.clone()]).complete_but_for_silence());
        let told = of(&[Answer::Has, Answer::Lacks(0), Answer::Lacks(2), silent]).to_string();
        assert_eq!(told, "ns0 has it, ns1 does not have it, ns2 does not have it, but 2 other(s), ns3: timed out");
    }
}
