//! The deny list: clients that are not served, whatever they ask for. Not part of a snapshot, which changes with the
//! manifests: it has a cell of its own.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv4Subnets, Ipv6Net, Ipv6Subnets};

/// Addresses of this machine's own, which are never denied.
const LOOPBACK_V4: (u32, u32) = (0x7f00_0000, 0x7fff_ffff);
const LOOPBACK_V6: (u128, u128) = (1, 1);

/// Prefixes whose clients are denied. Never has an address of loopback.
///
/// Cost of [`DenyList::contains`]: a binary search. Memory: 8 bytes for a prefix of IPv4, 32 for one of IPv6.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct DenyList {
    v4: Ranges<u32>,
    v6: Ranges<u128>,
}

impl DenyList {
    /// Prefixes in any order, which may overlap.
    pub fn new(prefixes: impl IntoIterator<Item = IpNet>) -> DenyList {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for prefix in prefixes {
            match prefix {
                IpNet::V4(net) => v4.push((net.network().to_bits(), net.broadcast().to_bits())),
                IpNet::V6(net) => v6.push((net.network().to_bits(), net.broadcast().to_bits())),
            }
        }
        DenyList { v4: Ranges::without(v4, LOOPBACK_V4), v6: Ranges::without(v6, LOOPBACK_V6) }
    }

    /// Is a client of this address denied? One of IPv4 is so in either spelling.
    pub fn contains(&self, client: IpAddr) -> bool {
        match client.to_canonical() {
            IpAddr::V4(address) => self.v4.contain(address.to_bits()),
            IpAddr::V6(address) => self.v6.contain(address.to_bits()),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.v4.starts.is_empty() && self.v6.starts.is_empty()
    }

    /// The fewest prefixes that say the same of IPv4, in order.
    pub fn prefixes_v4(&self) -> impl Iterator<Item = Ipv4Net> + Clone {
        self.v4.iter().flat_map(|(start, end)| Ipv4Subnets::new(Ipv4Addr::from(start), Ipv4Addr::from(end), 0))
    }

    /// The same of IPv6.
    pub fn prefixes_v6(&self) -> impl Iterator<Item = Ipv6Net> + Clone {
        self.v6.iter().flat_map(|(start, end)| Ipv6Subnets::new(Ipv6Addr::from(start), Ipv6Addr::from(end), 0))
    }
}

/// Sorted ranges, both ends in them, that neither overlap nor touch.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Ranges<T> {
    starts: Box<[T]>,
    ends: Box<[T]>,
}

impl<T> Default for Ranges<T> {
    fn default() -> Ranges<T> {
        Ranges { starts: Box::default(), ends: Box::default() }
    }
}

/// The integers that addresses are.
trait Bits: Copy + Ord {
    fn next(self) -> Option<Self>;
    fn previous(self) -> Option<Self>;
}

impl Bits for u32 {
    fn next(self) -> Option<u32> {
        self.checked_add(1)
    }

    fn previous(self) -> Option<u32> {
        self.checked_sub(1)
    }
}

impl Bits for u128 {
    fn next(self) -> Option<u128> {
        self.checked_add(1)
    }

    fn previous(self) -> Option<u128> {
        self.checked_sub(1)
    }
}

impl<T: Bits> Ranges<T> {
    fn without(mut ranges: Vec<(T, T)>, hole: (T, T)) -> Ranges<T> {
        ranges.sort_unstable();
        let (mut starts, mut ends) =
            (Vec::<T>::with_capacity(ranges.len() + 1), Vec::<T>::with_capacity(ranges.len() + 1));
        for (start, end) in ranges.into_iter().flat_map(|range| cut(range, hole)).flatten() {
            match ends.last_mut() {
                Some(last) if last.next().is_none_or(|next| start <= next) => *last = end.max(*last),
                _ => {
                    starts.push(start);
                    ends.push(end);
                }
            }
        }
        Ranges { starts: starts.into(), ends: ends.into() }
    }

    fn contain(&self, address: T) -> bool {
        let before = self.starts.partition_point(|start| *start <= address);
        before > 0 && address <= self.ends[before - 1]
    }

    fn iter(&self) -> impl Iterator<Item = (T, T)> + Clone {
        self.starts.iter().copied().zip(self.ends.iter().copied())
    }
}

/// What is left of a range on both sides of a hole.
fn cut<T: Bits>((start, end): (T, T), (first, last): (T, T)) -> [Option<(T, T)>; 2] {
    let below = first.previous().map(|below| (start, end.min(below)));
    let above = last.next().map(|above| (start.max(above), end));
    [below, above].map(|part| part.filter(|(start, end)| start <= end))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn list(prefixes: &[&str]) -> DenyList {
        DenyList::new(prefixes.iter().map(|prefix| prefix.parse().expect("a prefix")))
    }

    fn denies(list: &DenyList, address: &str) -> bool {
        list.contains(address.parse().expect("an address"))
    }

    #[test]
    fn both_ends_of_a_prefix_are_in_it() {
        let list = list(&["192.0.2.0/25", "198.51.100.7/32", "255.255.255.0/24", "2001:db8::/33", "0.0.0.0/8"]);
        for denied in ["192.0.2.0", "192.0.2.127", "198.51.100.7", "255.255.255.255", "0.0.0.0", "::ffff:192.0.2.1"] {
            assert!(denies(&list, denied), "{denied}");
        }
        assert!(denies(&list, "2001:db8::") && denies(&list, "2001:db8:7fff:ffff:ffff:ffff:ffff:ffff"));
        for served in
            ["192.0.1.255", "192.0.2.128", "198.51.100.6", "198.51.100.8", "1.0.0.0", "2001:db8:8000::", "::1"]
        {
            assert!(!denies(&list, served), "{served}");
        }
        assert!(!denies(&DenyList::default(), "192.0.2.1"));
    }

    #[test]
    fn loopback_is_never_in_it() {
        let all = list(&["0.0.0.0/0", "::/0"]);
        for served in ["127.0.0.0", "127.0.0.1", "127.255.255.255", "::1", "::ffff:127.0.0.1"] {
            assert!(!denies(&all, served), "{served}");
        }
        for denied in ["0.0.0.0", "126.255.255.255", "128.0.0.0", "255.255.255.255", "::", "::2", "fe80::1"] {
            assert!(denies(&all, denied), "{denied}");
        }
        assert!(list(&["127.0.0.1/32", "127.0.0.0/8", "::1/128"]).is_empty());
        assert!(all.prefixes_v4().all(|prefix| !prefix.contains(&Ipv4Addr::LOCALHOST)));
        assert_eq!(all.prefixes_v4().count(), 8);
        assert_eq!(all.prefixes_v6().count(), 128);
    }

    #[test]
    fn prefixes_that_touch_become_one() {
        let list = list(&["192.0.2.128/25", "192.0.2.0/25", "192.0.2.5/32", "192.0.3.0/24"]);
        let prefixes: Vec<String> = list.prefixes_v4().map(|prefix| prefix.to_string()).collect();
        assert_eq!(prefixes, ["192.0.2.0/23"]);
    }

    proptest! {
        /// What any prefix has is denied, and nothing else; the prefixes that come out say the same.
        #[test]
        fn says_what_its_prefixes_say(
            prefixes in prop::collection::vec((0xc000_0000_u32..0xc000_0100, 24_u8..=32), 0..20),
            address in 0xbfff_fff0_u32..0xc000_0110,
        ) {
            let net = |(bits, length)| Ipv4Net::new(Ipv4Addr::from(bits), length).expect("at most 32");
            let nets: Vec<Ipv4Net> = prefixes.into_iter().map(net).collect();
            let list = DenyList::new(nets.iter().copied().map(IpNet::from));
            let address = Ipv4Addr::from(address);
            let expected = nets.iter().any(|net| net.contains(&address));
            prop_assert_eq!(list.contains(address.into()), expected);
            prop_assert_eq!(list.prefixes_v4().any(|net| net.contains(&address)), expected);
        }
    }
}
