//! Rules of TCP, TLS and UDP listeners. What their backends speak is not known, so nothing is sent to them; whether the
//! socket is bound, the backends are valid, and their endpoints take a connection is looked up.

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use tokio::task::JoinSet;

use super::{
    CONCURRENCY, backend,
    judge::Judge,
    probe::reachable,
    row::{Row, row_kind},
    send,
};
use crate::{
    dataplane::outcome::Reason,
    plan::{ListenerPlan, ListenerProtocol, Plan, RulePlan},
    view::View,
};

/// Does a listener take something else than requests?
pub fn is_layer4(protocol: ListenerProtocol) -> bool {
    !matches!(protocol, ListenerProtocol::Http | ListenerProtocol::Https)
}

/// A rule at a listener.
struct Place<'a> {
    socket: SocketAddr,
    listener: &'a ListenerPlan,
    rule: &'a RulePlan,
}

/// A row for each rule of layer 4 that is `wanted` (by `namespace/route` and `namespace/gateway/listener`).
pub async fn rows(
    plan: &Plan,
    view: &View,
    judge: &mut Judge<'_>,
    wanted: impl Fn(&str, &str) -> bool,
    patience: Duration,
) -> Vec<Row> {
    let mut places: Vec<Place> = places(plan).collect();
    places.retain(|place| wanted(&place.rule.route, &place.listener.key));
    // One of the addresses that a listener is at stands for all.
    let mut seen = BTreeSet::new();
    places.retain(|place| seen.insert((place.rule.kind, &place.listener.key, &place.rule.route, place.rule.index)));
    reach(&places, judge, patience).await;
    places.iter().map(|place| place.row(view, judge)).collect()
}

fn places(plan: &Plan) -> impl Iterator<Item = Place<'_>> {
    let sockets = plan.sockets.iter().chain(&plan.datagram_sockets);
    let listeners = sockets.flat_map(|(socket, of)| of.listeners.iter().map(|listener| (*socket, listener)));
    listeners.filter(|(_, listener)| is_layer4(listener.protocol)).flat_map(|(socket, listener)| {
        let rules = listener.hosts.iter().flat_map(|host| &host.rules);
        rules.map(move |rule| Place { socket, listener, rule })
    })
}

/// Finds out which endpoints take a connection; of UDP nobody can say.
async fn reach(places: &[Place<'_>], judge: &mut Judge<'_>, patience: Duration) {
    let streams = places.iter().filter(|place| place.listener.protocol != ListenerProtocol::Udp);
    let backends = streams.flat_map(|place| backend::used(place.rule));
    let mut waiting: BTreeSet<SocketAddr> =
        backends.flat_map(|backend| judge.backends.addresses(backend).to_vec()).collect();
    let mut under_way = JoinSet::new();
    loop {
        while under_way.len() < CONCURRENCY
            && let Some(endpoint) = waiting.pop_first()
        {
            under_way.spawn(async move { (endpoint, send::refusal(endpoint, patience).await) });
        }
        match under_way.join_next().await {
            Some(Ok((endpoint, refusal))) => judge.backends.unreachable.extend(refusal.map(|why| (endpoint, why))),
            Some(Err(_)) => {}
            None => return,
        }
    }
}

impl Place<'_> {
    fn row(&self, view: &View, judge: &Judge<'_>) -> Row {
        let Place { socket, listener, rule } = self;
        let row = Row {
            kind: row_kind(rule.kind),
            route: rule.route.clone(),
            rule: Some(rule.index),
            rule_name: rule.name.clone(),
            listener: listener.key.clone(),
            address: Some(reachable(*socket)),
            answer: judge.backends.serving(rule),
            notes: judge.backends.notes(rule),
            ..Row::default()
        };
        let is_udp = listener.protocol == ListenerProtocol::Udp;
        let socket = view.sockets.iter().find(|view| view.address == *socket && view.is_udp() == is_udp);
        if let Some(problem) = socket.and_then(|socket| socket.problem.clone()) {
            return row.failed("SocketNotBound", problem, "free the address, or change the port");
        }
        let fate = |_| if is_udp { "of the sessions are dropped" } else { "of the connections are reset" }.to_owned();
        let findings = judge.findings(rule);
        if let Some(wrong) = judge.backends.unserved_share(rule, &findings, fate) {
            return row.wrong(wrong);
        }
        if backend::used(rule).next().is_none() {
            let message = "the rule has no backend with a weight above 0";
            return row.failed(Reason::NoBackend.word(), message, "give one a weight");
        }
        let looked = match is_udp {
            _ if backend::used(rule).any(|one| judge.backends.is_by_name(one)) => {
                "a backend is reached by its name, which is not looked up here; only clients of its protocol can say more"
            }
            true => "its backends have endpoints; whether somebody is there, only datagrams of its protocol would say",
            false => "its endpoints take connections; only clients of its protocol can say more",
        };
        row.skipped("NotHttp", looked)
    }
}
