//! How an exchange ended: a reason, whose fault, the status that says so, and whether sending again is safe.

use http::StatusCode;

/// Who has to mend it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    Backend,
    Client,
    /// The configuration, or gapi itself.
    Gateway,
    Nobody,
}

impl Fault {
    /// As the access log prints it.
    pub fn word(self) -> &'static str {
        match self {
            Fault::Backend => "backend",
            Fault::Client => "client",
            Fault::Gateway => "gateway",
            Fault::Nobody => "none",
        }
    }
}

/// Writes the enum and its table of words, faults, statuses and texts.
macro_rules! reasons {
    ($($(#[$doc:meta])* $reason:ident: $fault:ident, $status:ident, $word:literal, $text:literal;)*) => {
        /// Why an exchange ended as it did. The access log prints [`Reason::word`], counters are kept for each.
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
        pub enum Reason { $($(#[$doc])* $reason,)* }

        impl Reason {
            /// All of them, in the order of their counters.
            pub const ALL: &'static [Reason] = &[$(Reason::$reason,)*];

            /// As logs and counters name it.
            pub fn word(self) -> &'static str {
                match self { $(Reason::$reason => $word,)* }
            }

            pub fn fault(self) -> Fault {
                match self { $(Reason::$reason => Fault::$fault,)* }
            }

            /// The status of gapi's own answer.
            pub fn status(self) -> StatusCode {
                match self { $(Reason::$reason => StatusCode::$status,)* }
            }

            /// The body of gapi's own answer.
            pub fn text(self) -> &'static str {
                match self { $(Reason::$reason => concat!($text, "\n"),)* }
            }
        }
    };
}

reasons! {
    /// The backend's answer, or one that a filter gives, went out whole.
    Answered: Nobody, OK, "answered", "";
    /// The backend ended its answer before it was whole.
    AnswerCut: Backend, BAD_GATEWAY, "answer-cut", "the backend's answer was cut off";
    BackendClosed: Backend, BAD_GATEWAY, "backend-closed", "the backend closed the connection without an answer";
    /// A connection of TCP or TLS that the backend broke.
    BackendReset: Backend, BAD_GATEWAY, "backend-reset", "the backend broke the connection";
    BackendStalled: Backend, GATEWAY_TIMEOUT, "backend-stalled", "the backend did not answer in time";
    BackendTimeout: Backend, GATEWAY_TIMEOUT, "backend-request-timeout", "the backend did not answer in time";
    BadAnswer: Backend, BAD_GATEWAY, "bad-answer", "the backend's answer is malformed";
    BadBody: Client, BAD_REQUEST, "bad-body", "the request's body is malformed or was cut off";
    BadFields: Client, BAD_REQUEST, "bad-fields", "a field of the request is malformed";
    BadFraming: Client, BAD_REQUEST, "bad-framing", "the request's length is ambiguous";
    /// Not a request, or one that may be read in two ways.
    BadHead: Client, BAD_REQUEST, "bad-head", "the request's head is malformed";
    BadHost: Client, BAD_REQUEST, "bad-host", "the request needs exactly one well-formed host";
    BadTarget: Client, BAD_REQUEST, "bad-target", "the request's target is malformed or ambiguous";
    /// The client went away before its answer was whole.
    ClientGone: Client, BAD_REQUEST, "client-gone", "";
    ClientStalled: Client, REQUEST_TIMEOUT, "client-stalled", "the request's body did not arrive in time";
    CodingNotServed: Client, NOT_IMPLEMENTED, "coding-not-served", "only the chunked transfer coding is served";
    ConnectFailed: Backend, BAD_GATEWAY, "connect-failed", "no endpoint of the backend could be reached";
    ConnectTimeout: Backend, GATEWAY_TIMEOUT, "connect-timeout", "no endpoint of the backend could be reached in time";
    /// A call of gRPC took longer than its client gave it.
    DeadlinePassed: Backend, GATEWAY_TIMEOUT, "deadline-passed", "the call was not answered before its deadline";
    /// A connection of TCP or TLS that was idle for too long, or one or a session of UDP whose listener, endpoint or
    /// gateway left.
    GatewayEnded: Gateway, SERVICE_UNAVAILABLE, "gateway-ended", "the gateway ended the connection";
    /// No TLS connection came about, so there is no answer either.
    HandshakeFailed: Client, BAD_REQUEST, "handshake-failed", "";
    HeadTimeout: Client, REQUEST_TIMEOUT, "head-timeout", "the request's head did not arrive in time";
    HeadTooLarge: Client, REQUEST_HEADER_FIELDS_TOO_LARGE, "head-too-large", "the request's head has too many or too long fields";
    /// A backendRef that does not resolve.
    InvalidBackend: Gateway, INTERNAL_SERVER_ERROR, "invalid-backend", "the backend of this route is not valid";
    MethodNotServed: Client, NOT_IMPLEMENTED, "method-not-served", "this method is not served here";
    Misdirected: Client, MISDIRECTED_REQUEST, "misdirected", "this connection was made for another host";
    /// Every weight is zero, or the rule has no backendRefs.
    NoBackend: Gateway, INTERNAL_SERVER_ERROR, "no-backend", "this route has no backend";
    NoEndpoint: Backend, SERVICE_UNAVAILABLE, "no-endpoint", "the backend has no ready endpoint";
    NoRoute: Client, NOT_FOUND, "no-route", "no route matches this request";
    /// A connection of TCP or TLS that both sides ended.
    Relayed: Nobody, OK, "relayed", "";
    RequestTimeout: Backend, GATEWAY_TIMEOUT, "request-timeout", "the request was not answered in time";
    /// A rule that cannot be served, or a rewrite that leads nowhere.
    RuleBroken: Gateway, INTERNAL_SERVER_ERROR, "rule-broken", "the rule for this request cannot be served";
    /// The session of UDP that was silent for longest, where there were more than there may be.
    SessionEvicted: Gateway, SERVICE_UNAVAILABLE, "session-evicted", "there were too many sessions";
    /// How sessions of UDP end: nobody has said anything for a while.
    SessionIdle: Nobody, OK, "session-idle", "";
    TargetTooLong: Client, URI_TOO_LONG, "target-too-long", "the request's target is too long";
    /// The backend refused the stream before processing it.
    Unprocessed: Backend, BAD_GATEWAY, "unprocessed", "the backend refused the request unprocessed";
    /// A 101 that nobody asked for, or for another protocol.
    UpgradeNotAgreed: Backend, BAD_GATEWAY, "upgrade-not-agreed", "the backend changed to a protocol that was not asked for";
    /// A WebSocket to a backend of HTTP/2, which would need an extended CONNECT (RFC 8441).
    UpgradeNotServed: Gateway, BAD_GATEWAY, "upgrade-not-served", "WebSockets are not served to a backend of HTTP/2";
}

impl Reason {
    /// Did certainly nothing of the request reach an application, so that any request may be sent again?
    pub fn is_unprocessed(self) -> bool {
        matches!(self, Reason::ConnectFailed | Reason::ConnectTimeout | Reason::NoEndpoint | Reason::Unprocessed)
    }

    /// Does the client's HTTP/1 connection end with gapi's answer? After every fault of the client's that leaves doubt
    /// where its next request begins.
    pub fn closes(self) -> bool {
        self.fault() == Fault::Client && !matches!(self, Reason::NoRoute | Reason::Misdirected)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn words_are_unique_and_failures_have_error_statuses() {
        let words: HashSet<_> = Reason::ALL.iter().map(|reason| reason.word()).collect();
        assert_eq!(words.len(), Reason::ALL.len());
        let failures = Reason::ALL.iter().filter(|reason| reason.fault() != Fault::Nobody);
        for reason in failures {
            assert!(reason.status().as_u16() >= 400, "{reason:?}");
            assert_eq!(reason.status().is_client_error(), reason.fault() == Fault::Client && reason.status() != 501);
        }
    }
}
