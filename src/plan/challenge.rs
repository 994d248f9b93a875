//! ACME challenges that are to be answered.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::{IpAddr, SocketAddr},
};

use serde::{Deserialize, Serialize};

use super::{Plan, SocketPlan};

/// The challenges that are pending.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct ChallengePlan {
    /// HTTP-01: the key authorization by token, answered on every socket without TLS.
    pub http: BTreeMap<String, String>,
    /// TLS-ALPN-01: what is shown by server name, on every socket with TLS.
    pub tls: BTreeMap<String, TlsChallengePlan>,
}

/// A certificate and its key, in DER.
#[derive(Clone, Deserialize, Eq, PartialEq, Serialize)]
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
    /// Answers `challenges`. HTTP-01 comes in at `port`: a socket is made at each address that is bound and has none
    /// there; at `bind` where nothing is bound.
    pub fn answer(&mut self, challenges: ChallengePlan, port: u16, bind: &[IpAddr]) {
        if !challenges.http.is_empty() {
            let bound: BTreeSet<IpAddr> = self.sockets.keys().map(SocketAddr::ip).collect();
            let addresses = if bound.is_empty() { bind.iter().copied().collect() } else { bound };
            let missing: Vec<IpAddr> = addresses.into_iter().filter(|ip| !self.listens(*ip, port)).collect();
            let sockets = missing.into_iter().map(|ip| (SocketAddr::new(ip, port), SocketPlan::default()));
            self.sockets.extend(sockets);
        }
        self.challenges = challenges;
    }

    /// Is there a socket for this address and port, its own or that of all addresses?
    fn listens(&self, ip: IpAddr, port: u16) -> bool {
        let takes = |own: IpAddr| own == ip || own.is_unspecified() && own.is_ipv4() == ip.is_ipv4();
        self.sockets.keys().any(|address| address.port() == port && takes(address.ip()))
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
        let two = ["127.0.0.1:80", "127.0.0.1:443", "127.0.0.2:443"];
        assert_eq!(addresses(&two, 80), ["127.0.0.1:80", "127.0.0.1:443", "127.0.0.2:80", "127.0.0.2:443"]);
        assert_eq!(addresses(&["0.0.0.0:80", "127.0.0.2:443"], 80), ["0.0.0.0:80", "127.0.0.2:443"]);
        assert_eq!(addresses(&[], 80), ["127.0.0.9:80"]);
    }
}
