//! What can be set of the kernel path.

use std::{fs, ops::RangeInclusive, path::PathBuf, time::Duration};

use super::{
    attach::How,
    maps::{LAYOUT, Told},
};

/// Where pins are unless told otherwise.
pub const PINS: &str = "/sys/fs/bpf/gapi";

/// Settings of the kernel path.
#[derive(Clone, Debug)]
pub struct Settings {
    /// A directory on a bpffs; made when it is not there, its parent is.
    pub pins: PathBuf,
    /// Source ports toward backends: nothing else on this machine may use them for connections of its own.
    pub ports: RangeInclusive<u16>,
    /// Connections to remember; each has two entries. Taken when the table is made, which outlives the process.
    pub connections: u32,
    /// For the choice by hash: machines with the same value choose alike.
    pub seed: u32,
    /// How long the silence of a connection may last: before it is answered, ...
    pub tcp_opening: Duration,
    pub tcp_idle: Duration,
    /// ... when one side has sent its FIN, ...
    pub tcp_half_closed: Duration,
    /// ... when both have, or one a RST.
    pub tcp_closed: Duration,
    pub udp_idle: Duration,
    pub udp_answered: Duration,
    /// `None`: tcx where the kernel has it.
    pub how: Option<How>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            pins: PINS.into(),
            ports: 61_000..=65_535,
            connections: 131_072,
            seed: 0,
            tcp_opening: Duration::from_secs(30),
            // As nf_conntrack has it.
            tcp_idle: Duration::from_secs(5 * 24 * 3600),
            tcp_half_closed: Duration::from_secs(3600),
            tcp_closed: Duration::from_secs(60),
            udp_idle: Duration::from_secs(30),
            udp_answered: Duration::from_secs(120),
            how: None,
        }
    }
}

impl Settings {
    /// As the programs read it.
    pub(super) fn told(&self) -> Told {
        let nanoseconds = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let tcp = [self.tcp_opening, self.tcp_idle, self.tcp_half_closed, self.tcp_closed];
        let shortest = tcp.into_iter().chain([self.udp_idle, self.udp_answered]).min();
        let settle = shortest.unwrap_or_default() / 8;
        Told {
            layout: LAYOUT,
            seed: self.seed,
            port_low: *self.ports.start(),
            port_high: *self.ports.end(),
            zero: 0,
            settle: nanoseconds(settle.min(Duration::from_secs(1))),
            tcp_opening: nanoseconds(self.tcp_opening),
            tcp_idle: nanoseconds(self.tcp_idle),
            tcp_half_closed: nanoseconds(self.tcp_half_closed),
            tcp_closed: nanoseconds(self.tcp_closed),
            udp_idle: nanoseconds(self.udp_idle),
            udp_answered: nanoseconds(self.udp_answered),
        }
    }

    /// That the ports are not gapi's own, if so.
    pub(super) fn overlap(&self) -> Option<String> {
        let read = |name: &str| fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).unwrap_or_default();
        overlap(&self.ports, &read("ip_local_port_range"), &read("ip_local_reserved_ports"))
    }
}

/// Whether ports are also given out by the kernel: `range` and `reserved` are as the sysctls have them.
fn overlap(ports: &RangeInclusive<u16>, range: &str, reserved: &str) -> Option<String> {
    let (low, high) = (ports.start(), ports.end());
    let mut ends = range.split_whitespace().filter_map(|end| end.parse::<u16>().ok());
    let given_out = ends.next()?..=ends.next()?;
    let is_reserved = |port: &u16| {
        reserved.trim().split(',').any(|part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            matches!((first.parse::<u16>(), last.parse::<u16>()), (Ok(first), Ok(last)) if (first..=last).contains(port))
        })
    };
    let both = |port: &u16| given_out.contains(port) && !is_reserved(port);
    let shared = ports.clone().find(both)?;
    Some(format!(
        "source ports {low}-{high}: the kernel gives {shared} to connections of this machine too \
         (net.ipv4.ip_local_port_range is {}-{}); choose others, or add {low}-{high} to net.ipv4.ip_local_reserved_ports",
        given_out.start(),
        given_out.end(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_that_the_host_uses_are_told() {
        let told = |ports, reserved| overlap(&ports, "32768\t60999\n", reserved);
        assert_eq!(told(61_000..=65_535, "\n"), None);
        assert_eq!(told(30_000..=32_767, ""), None);
        let why = told(60_000..=61_000, "").expect("they overlap");
        assert!(why.contains("gives 60000") && why.contains("32768-60999") && why.contains("reserved_ports"), "{why}");
        assert_eq!(told(60_000..=61_000, "8080,60000-60500,60501-60999\n"), None);
        assert!(told(60_000..=61_000, "60000-60500").expect("they overlap").contains("gives 60501"));
        assert_eq!(overlap(&(1..=2), "", ""), None);
    }
}
