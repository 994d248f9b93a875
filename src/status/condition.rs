//! `Accepted` and `Programmed` of Gateways and their listeners: what the manifests and what the sockets say.

use std::net::SocketAddr;

use crate::{
    api::{Condition, condition::*},
    graph::{Gateway, Listener, problem},
};

use super::report::Published;

/// `Accepted` and `Programmed` of one listener.
pub(super) struct ListenerState {
    pub accepted: Condition,
    pub programmed: Condition,
}

/// The state of a listener of `gateway`.
pub(super) fn listener(gateway: &Gateway, listener: &Listener, published: &Published) -> ListenerState {
    let accepted = listener.accepted();
    if let Some(programmed) = listener.unprogrammed() {
        return ListenerState { accepted, programmed };
    }
    if !gateway.is_served() {
        let (reason, message) = match gateway.refused.is_empty() {
            true => (LISTENER_NOT_BOUND, "The Gateway has no address"),
            false => (LISTENER_INVALID, "The Gateway is not accepted"),
        };
        return ListenerState { accepted, programmed: reason.with(message) };
    }
    let sockets: Vec<SocketAddr> = gateway.bind.iter().map(|ip| SocketAddr::new(*ip, listener.spec.port)).collect();
    let socket = |address| published.socket(&listener.spec.protocol, address);
    let failures: Vec<String> = sockets.iter().filter_map(|address| failure(socket(address)?)).collect();
    if !failures.is_empty() {
        let message = problem::bounded(&failures.join(". "));
        return ListenerState {
            accepted: LISTENER_PORT_UNAVAILABLE.with(message.clone()),
            programmed: LISTENER_NOT_BOUND.with(message),
        };
    }
    if sockets.iter().any(|address| socket(address).is_none()) {
        let programmed = LISTENER_PENDING.with("The sockets are not bound yet");
        return ListenerState { accepted, programmed };
    }
    let addresses: Vec<String> = sockets.iter().map(ToString::to_string).collect();
    let programmed = LISTENER_PROGRAMMED.with(format!("Served at {}", addresses.join(", ")));
    ListenerState { accepted, programmed }
}

fn failure(socket: &Result<(), String>) -> Option<String> {
    let error = socket.as_ref().err()?;
    Some(format!("{error}; it is tried again every few seconds"))
}

/// `Accepted` of a Gateway: whether its configuration makes sense, wherever it can be bound.
pub(super) fn accepted(gateway: &Gateway) -> Condition {
    let listeners = &gateway.listeners;
    let bad: Vec<String> = listeners
        .iter()
        .filter(|listener| !listener.is_accepted())
        .map(|listener| format!("listener {}: {}", listener.spec.name, listener.accepted().message))
        .collect();
    let text = problem::bounded(&bad.join(". "));
    let good = match bad.len() {
        0 if !gateway.unsupported.is_empty() => {
            problem::condition(&gateway.unsupported, GATEWAY_ACCEPTED.with(String::new()))
        }
        0 => GATEWAY_ACCEPTED.with("The Gateway is valid"),
        count if count < listeners.len() => GATEWAY_ACCEPTED_IN_PART.with(text),
        _ => GATEWAY_LISTENERS_NOT_VALID.with(text),
    };
    problem::condition(&gateway.refused, good)
}

/// `Programmed` of a Gateway, given its listeners' states.
pub(super) fn programmed(gateway: &Gateway, accepted: &Condition, listeners: &[ListenerState]) -> Condition {
    if !gateway.refused.is_empty() {
        return GATEWAY_INVALID.with(accepted.message.clone());
    }
    let unusable = gateway.unassigned.iter().filter(|problem| problem.reason == GATEWAY_ADDRESS_NOT_USABLE);
    if unusable.clone().next().is_some() {
        return problem::condition(unusable, GATEWAY_PROGRAMMED.with(String::new()));
    }
    if gateway.bind.is_empty() {
        return problem::condition(
            &gateway.unassigned,
            GATEWAY_ADDRESS_NOT_ASSIGNED.with("There is no address to bind"),
        );
    }
    let count = |status: &str| listeners.iter().filter(|state| state.programmed.status == status).count();
    let texts = || {
        let bad = gateway.listeners.iter().zip(listeners).filter(|(_, state)| state.programmed.status != "True");
        let texts: Vec<String> = bad
            .map(|(listener, state)| format!("listener {}: {}", listener.spec.name, state.programmed.message))
            .collect();
        problem::bounded(&texts.join(". "))
    };
    match (count("True"), count("Unknown")) {
        (0, 0) if listeners.iter().any(|state| state.programmed.reason == LISTENER_NOT_BOUND.name) => {
            GATEWAY_NOT_BOUND.with(texts())
        }
        (0, 0) => GATEWAY_INVALID.with(texts()),
        (0, _) => GATEWAY_PENDING.with(texts()),
        (served, _) if served == listeners.len() => GATEWAY_PROGRAMMED.with("All listeners are served"),
        (served, _) => {
            let message = format!("{served} of {} listeners are served. {}", listeners.len(), texts());
            GATEWAY_PROGRAMMED.with(problem::bounded(&message))
        }
    }
}
