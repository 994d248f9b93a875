//! What of a layer-4 listener is carried on another way than through these threads.
//!
//! Where the kernel path carries a part of a listener's endpoints, the connections that come here are mostly those whose
//! turn it was for one of the others. Were all endpoints theirs to choose from, the weights would not be kept.

use std::{collections::BTreeSet, fmt, net::SocketAddr, sync::Arc};

use crate::snapshot::ListenerProtocol;

/// Endpoints that are reached on another way.
pub type Endpoints = Arc<BTreeSet<SocketAddr>>;

/// A connection, or a session of UDP, that has come here.
#[derive(Clone, Copy, Debug)]
pub struct Arrived {
    pub protocol: ListenerProtocol,
    /// The bound address of its listener.
    pub socket: SocketAddr,
    pub client: SocketAddr,
    /// What the client spoke to.
    pub local: SocketAddr,
}

type Ask = dyn Fn(&Arrived) -> Option<Endpoints> + Send + Sync;

/// Whom to ask.
#[derive(Clone, Default)]
pub struct Elsewhere(Option<Arc<Ask>>);

impl Elsewhere {
    /// `ask` names the endpoints whose turn it was not; none when all are to be chosen from.
    pub fn new(ask: impl Fn(&Arrived) -> Option<Endpoints> + Send + Sync + 'static) -> Elsewhere {
        Elsewhere(Some(Arc::new(ask)))
    }

    pub(super) fn of(&self, arrived: &Arrived) -> Option<Endpoints> {
        self.0.as_ref()?(arrived)
    }
}

impl fmt::Debug for Elsewhere {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if self.0.is_some() { "Elsewhere(asked)" } else { "Elsewhere(nothing)" })
    }
}
