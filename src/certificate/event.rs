//! What tasks tell the engine.

use std::time::Duration;

use tokio::sync::{mpsc::UnboundedSender, oneshot};

use super::{acme::Registered, decide::Cause, store::Order};
use crate::{api::ObjectKey, graph::issuance::RenewalInfo, manifest::Object, plan::TlsChallengePlan};

/// Why an issuance failed.
#[derive(Clone, Debug)]
pub struct Failure {
    pub cause: Cause,
    pub message: String,
    /// What the issuer asked for.
    pub retry_after: Option<Duration>,
    /// The issuer wants to be asked nothing at all for a while.
    pub busy: bool,
    /// The server does not know the account: it is registered anew.
    pub account_gone: bool,
}

impl Failure {
    pub fn new(cause: Cause, message: impl Into<String>) -> Failure {
        let message = message.into();
        Failure { cause, message, retry_after: None, busy: cause == Cause::Unreachable, account_gone: false }
    }

    pub fn local(message: impl Into<String>) -> Failure {
        Failure::new(Cause::Local, message)
    }
}

/// A challenge that is to be answered.
#[derive(Clone, Debug)]
pub enum Challenge {
    /// HTTP-01: what is answered at the token's path (RFC 8555, 8.3).
    Http { token: String, authorization: String },
    /// TLS-ALPN-01: the certificate shown for the name (RFC 8737).
    Tls { name: String, certificate: TlsChallengePlan },
}

/// A certificate was issued and is kept.
#[derive(Debug)]
pub struct Done {
    pub secret: Object,
    /// What was asked for.
    pub request: String,
    /// How the Secret was to be written.
    pub form: String,
    pub remark: String,
}

pub enum Event {
    /// What is being waited for.
    Step {
        task: Task,
        step: String,
    },
    /// An order was made, or is gone.
    Order {
        task: Task,
        order: Option<Box<Order>>,
    },
    /// The challenge is to be answered; the sender hears when it is, or why it cannot be.
    Present {
        task: Task,
        challenge: Challenge,
        done: oneshot::Sender<Result<(), String>>,
    },
    Issued {
        task: Task,
        done: Box<Done>,
    },
    Failed {
        task: Task,
        failure: Failure,
    },
    /// Always the last of a task.
    Ended {
        task: Task,
    },
    /// The Secret was written in another form.
    Rewritten {
        task: Task,
        done: Box<Done>,
    },
    /// An account was registered, or not.
    Account {
        issuer: ObjectKey,
        digest: String,
        result: Result<Registered, Failure>,
    },
    /// Renewal information, or when to ask again where there is none.
    RenewalInfo {
        certificate: ObjectKey,
        result: Result<RenewalInfo, Duration>,
    },
}

/// A task: its Certificate, and a number of its own.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Task {
    pub certificate: ObjectKey,
    pub number: u64,
}

/// How a task speaks.
pub struct Link {
    pub task: Task,
    pub events: UnboundedSender<Event>,
}

impl Link {
    pub fn tell(&self, event: Event) {
        // Without an engine nobody is left to hear.
        let _ = self.events.send(event);
    }

    pub fn step(&self, step: impl Into<String>) {
        self.tell(Event::Step { task: self.task.clone(), step: step.into() });
    }

    /// Has a challenge answered; returns when it is. It is answered until the task ends.
    ///
    /// # Errors
    /// Why it cannot be.
    pub async fn present(&self, challenge: Challenge) -> Result<(), String> {
        let (done, heard) = oneshot::channel();
        self.tell(Event::Present { task: self.task.clone(), challenge, done });
        heard.await.unwrap_or_else(|_| Err("gapi is stopping".into()))
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.tell(Event::Ended { task: self.task.clone() });
    }
}
