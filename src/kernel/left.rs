//! What the programs left to user space of listeners that they carry in part, so that it keeps to its own part.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
};

use arc_swap::{ArcSwap, ArcSwapOption};
use aya::maps::{HashMap, MapData};

use super::{
    maps::{Connection, Protocol, Tuple, address, flag},
    select::Selected,
};

/// Endpoints that the programs carry, of each listener that has others too.
type Divided = BTreeMap<(Protocol, SocketAddr), Arc<BTreeSet<SocketAddr>>>;

/// Told by the thread that keeps the programs, asked by those that serve.
#[derive(Default)]
pub struct Left {
    divided: ArcSwap<Divided>,
    connections: ArcSwapOption<HashMap<MapData, Tuple, Connection>>,
}

impl Left {
    /// The endpoints of the listener bound to `socket` whose turn it was not when the programs left this connection to user
    /// space; none when they did not: it came another way, or is here for another reason.
    pub fn endpoints(
        &self,
        protocol: Protocol,
        socket: SocketAddr,
        client: SocketAddr,
        local: SocketAddr,
    ) -> Option<Arc<BTreeSet<SocketAddr>>> {
        let carried = self.divided.load().get(&(protocol, socket))?.clone();
        let tuple = Tuple {
            from: address(client.ip()),
            to: address(local.ip()),
            from_port: client.port().to_be_bytes(),
            to_port: local.port().to_be_bytes(),
            protocol: protocol as u8,
            zero: [0; 3],
        };
        let connection = self.connections.load().as_ref()?.get(&tuple, 0).ok()?;
        connection.is(flag::IN_USER_SPACE).then_some(carried)
    }

    pub(super) fn watch(&self, connections: HashMap<MapData, Tuple, Connection>) {
        self.connections.store(Some(Arc::new(connections)));
    }

    /// The programs carry these.
    pub fn divide(&self, selected: &[Selected]) {
        let carried = |one: &Selected| one.shares.iter().filter_map(|share| share.to).map(|to| to.address).collect();
        let in_part = selected.iter().filter(|one| one.is_in_kernel() && !one.user.is_empty());
        let divided = in_part.map(|one| ((one.protocol, one.socket), Arc::new(carried(one))));
        self.divided.store(Arc::new(divided.collect()));
    }
}
