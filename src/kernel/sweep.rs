//! Ends what has to end: entries whose time is over, and connections of listeners and endpoints that have left, when
//! they had their time to end by themselves.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use aya::maps::{MapError, PerCpuValues};

use super::{
    Path,
    maps::{Connection, Protocol, Told, Traffic, Tuple, flag},
};

/// Since when what has left has left.
#[derive(Default)]
pub struct Drain {
    services: BTreeMap<u32, Instant>,
    endpoints: BTreeMap<u32, Instant>,
}

impl Path {
    /// Looks at every entry once; call it every few seconds. `drain` is how long connections of a listener that left, and
    /// sessions of an endpoint that left, go on. How many entries it removed.
    ///
    /// # Errors
    /// When a map cannot be read or written.
    pub fn sweep(&mut self, drain: Duration) -> Result<usize, MapError> {
        self.retired.end_after(drain, &mut self.netlink);
        let now = Instant::now();
        let (clock, told) = (monotonic(), self.settings.told());
        let mut over = Vec::new();
        let mut named = BTreeSet::new();
        let mut services = BTreeSet::new();
        self.entries.each(|tuple, connection| {
            let left_service = !self.generations.has_service(connection.service);
            let left_endpoint = self.generations.is_departed(connection.endpoint);
            if left_service {
                services.insert(connection.service);
            }
            let has_drained = |since: Option<&Instant>| since.is_some_and(|since| now.duration_since(*since) >= drain);
            let is_udp = tuple.protocol == Protocol::Udp as u8;
            let ends = is_over(&tuple, &connection, &told, clock)
                || left_service && has_drained(self.drain.services.get(&connection.service))
                || left_endpoint && is_udp && has_drained(self.drain.endpoints.get(&connection.endpoint));
            if ends {
                over.push((tuple, connection));
            } else {
                named.insert(connection.endpoint);
            }
        })?;
        for (tuple, connection) in &over {
            for tuple in [*tuple, connection.other_way(tuple.protocol)] {
                self.entries.remove(&tuple, connection)?;
            }
        }
        self.drain.services.retain(|service, _| services.contains(service));
        services.into_iter().for_each(|service| _ = self.drain.services.entry(service).or_insert(now));
        let departed: BTreeSet<u32> = self
            .generations
            .endpoints()
            .keys()
            .copied()
            .filter(|number| self.generations.is_departed(*number))
            .collect();
        self.drain.endpoints.retain(|endpoint, _| departed.contains(endpoint));
        departed.into_iter().for_each(|endpoint| _ = self.drain.endpoints.entry(endpoint).or_insert(now));
        for number in self.generations.free(&named)? {
            let processors = self.traffic.get(&number, 0)?.len();
            let nothing = PerCpuValues::try_from(vec![Traffic::default(); processors]).map_err(MapError::IoError)?;
            self.traffic.set(number, nothing, 0)?;
        }
        Ok(over.len())
    }
}

/// The same rule as in `ebpf/connection.h`.
fn is_over(tuple: &Tuple, connection: &Connection, told: &Told, clock: u64) -> bool {
    let is = |flag| connection.is(flag);
    let lifetime = if tuple.protocol == Protocol::Udp as u8 {
        if is(flag::ANSWERED | flag::IN_USER_SPACE) { told.udp_answered } else { told.udp_idle }
    } else if is(flag::RESET) || is(flag::FIN_OF_CLIENT) && is(flag::FIN_OF_BACKEND) {
        told.tcp_closed
    } else if is(flag::FIN_OF_CLIENT | flag::FIN_OF_BACKEND) {
        told.tcp_half_closed
    } else if is(flag::ANSWERED) {
        told.tcp_idle
    } else {
        told.tcp_opening
    };
    clock.saturating_sub(connection.seen) > lifetime
}

/// The clock of the programs.
fn monotonic() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
