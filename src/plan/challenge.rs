//! ACME challenges that are to be answered.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::{IpAddr, SocketAddr},
};

use serde::{Deserialize, Serialize};

use super::{Plan, SocketPlan};

/// The challenges that are pending.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct ChallengePlan {
    /// HTTP-01: the key authorization by token, answered on every socket without TLS.
    pub http: BTreeMap<String, String>,
    /// TLS-ALPN-01: what is shown by server name, on every socket with TLS.
    pub tls: BTreeMap<String, TlsChallengePlan>,
}

/// A certificate and its key, in DER.
#[derive(Clone, Deserialize, PartialEq, Serialize)]
pub struct TlsChallengePlan {
    #[serde(skip)]
    pub certificate: Vec<u8>,
    #[serde(skip)]
    pub key: Vec<u8>,
}

impl fmt::Debug for TlsChallengePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsChallengePlan")
    }
}

impl ChallengePlan {
    pub fn is_empty(&self) -> bool {
        self.http.is_empty() && self.tls.is_empty()
    }
}

impl Plan {
    /// Answers `challenges`. HTTP-01 comes in at `port`: where no socket has it, one is made at each address that is
    /// bound, else at `bind`.
    pub fn answer(&mut self, challenges: ChallengePlan, port: u16, bind: &[IpAddr]) {
        let has = |plan: &Plan| plan.sockets.keys().any(|address| address.port() == port);
        if !challenges.http.is_empty() && !has(self) {
            let bound: BTreeSet<IpAddr> = self.sockets.keys().map(SocketAddr::ip).collect();
            let addresses = if bound.is_empty() { bind.iter().copied().collect() } else { bound };
            let sockets = addresses.into_iter().map(|ip| (SocketAddr::new(ip, port), SocketPlan::default()));
            self.sockets.extend(sockets);
        }
        self.challenges = challenges;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending() -> ChallengePlan {
        ChallengePlan { http: [("t".to_owned(), "a".to_owned())].into(), tls: BTreeMap::new() }
    }

    fn addresses(bound: &[&str], port: u16) -> Vec<String> {
        let mut plan = Plan::default();
        for address in bound {
            plan.sockets
                .insert(address.parse().expect("an address"), SocketPlan { tls: true, ..SocketPlan::default() });
        }
        plan.answer(pending(), port, &["127.0.0.9".parse().expect("an address")]);
        plan.sockets.keys().map(ToString::to_string).collect()
    }

    #[test]
    fn a_socket_is_made_only_where_there_is_none() {
        assert_eq!(addresses(&["0.0.0.0:443", "0.0.0.0:8443"], 80), ["0.0.0.0:80", "0.0.0.0:443", "0.0.0.0:8443"]);
        assert_eq!(addresses(&["127.0.0.1:80", "127.0.0.1:443"], 80), ["127.0.0.1:80", "127.0.0.1:443"]);
        assert_eq!(addresses(&[], 80), ["127.0.0.9:80"]);
    }
}
