//! What do the lines of a deny list say? A prefix or an address each, `#` begins a comment.

use std::{net::IpAddr, sync::Arc};

use ipnet::{IpNet, Ipv4Net};

use crate::{
    finding::{Finding, Origin, Severity},
    snapshot::deny::DenyList,
};

/// Prefixes that are taken of one file.
pub const MAX_PREFIXES: usize = 1_000_000;
/// Lines that are named one by one.
const MAX_FINDINGS: usize = 20;
/// Characters of a line that are shown.
const SHOWN: usize = 60;

/// What a file says.
#[derive(Debug, Default)]
pub struct Parsed {
    pub list: DenyList,
    /// How many prefixes were taken.
    pub prefixes: usize,
    pub findings: Vec<Finding>,
}

/// Reads a deny list. Never fails: what is wrong with a line is a finding, and the others count.
pub fn parse(file: &Arc<str>, text: &[u8]) -> Parsed {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let mut prefixes = Vec::new();
    let mut remarks = Remarks { file, findings: Vec::new(), more: 0 };
    for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let line = line.split(|byte| *byte == b'#').next().unwrap_or_default().trim_ascii();
        if line.is_empty() {
            continue;
        }
        if prefixes.len() == MAX_PREFIXES {
            remarks.put(index, too_many());
            break;
        }
        match prefix(line) {
            Ok((prefix, remark)) => {
                remark.into_iter().for_each(|remark| remarks.put(index, remark));
                prefixes.push(prefix);
            }
            Err(remark) => remarks.put(index, remark),
        }
    }
    let count = prefixes.len();
    Parsed { list: DenyList::new(prefixes), prefixes: count, findings: remarks.findings() }
}

/// What there is to say of a line.
struct Remark {
    severity: Severity,
    reason: &'static str,
    message: String,
    remedy: &'static str,
}

/// Those of a file, of which a bounded number is kept.
struct Remarks<'a> {
    file: &'a Arc<str>,
    findings: Vec<Finding>,
    more: usize,
}

impl Remarks<'_> {
    /// `index` is the line's, from 0.
    fn put(&mut self, index: usize, remark: Remark) {
        if self.findings.len() == MAX_FINDINGS {
            self.more += 1;
            return;
        }
        let line = u32::try_from(index + 1).unwrap_or(u32::MAX);
        self.add(remark, Origin { file: self.file.clone(), line, column: 1 });
    }

    fn add(&mut self, remark: Remark, origin: Origin) {
        let Remark { severity, reason, message, remedy } = remark;
        self.findings.push(Finding {
            severity,
            origin: Some(origin),
            object: None,
            field: String::new(),
            reason: reason.to_owned(),
            message,
            remedy: remedy.to_owned(),
        });
    }

    fn findings(mut self) -> Vec<Finding> {
        if self.more > 0 {
            let remark = Remark {
                severity: Severity::Error,
                reason: "DenyListLines",
                message: format!("there is something wrong with {} more lines of the deny list", self.more),
                remedy: "mend those that are named, and the next ones will be",
            };
            let origin = Origin { file: self.file.clone(), line: 0, column: 0 };
            self.add(remark, origin);
        }
        self.findings
    }
}

fn too_many() -> Remark {
    Remark {
        severity: Severity::Error,
        reason: "DenyListTooLong",
        message: format!("the deny list has more than {MAX_PREFIXES} prefixes: from here on they do not count"),
        remedy: "put neighbours together into shorter prefixes",
    }
}

/// The prefix of a line, and what there is to say of it all the same.
fn prefix(line: &[u8]) -> Result<(IpNet, Option<Remark>), Remark> {
    let text = std::str::from_utf8(line).map_err(|_| wrong(&String::from_utf8_lossy(line), HOW))?;
    let written = network(text).ok_or_else(|| wrong(text, hint(text)))?;
    let net = of_ipv4(written.trunc());
    let remark = if touches_loopback(&net) {
        Some(loopback(text))
    } else {
        (written.addr() != written.network()).then(|| host_bits(text, &net))
    };
    Ok((net, remark))
}

/// As it is written, with the bits behind the prefix.
fn network(text: &str) -> Option<IpNet> {
    let Some((address, length)) = text.split_once('/') else {
        return text.parse().ok().map(|address: IpAddr| address.into());
    };
    // Number parsers take a sign.
    let length = if length.starts_with('+') { None } else { length.parse().ok() };
    IpNet::new(address.parse().ok()?, length?).ok()
}

const HOW: &str = "write 192.0.2.0/24, 192.0.2.1, 2001:db8::/32 or 2001:db8::1, one to a line";

/// What people write who know other tools.
fn hint(text: &str) -> &'static str {
    if text.contains('-') {
        "ranges are not read: write prefixes, one to a line"
    } else if text.contains('%') {
        "leave the interface out: an address counts on all of them"
    } else if text.contains([',', ' ', '\t', ';']) {
        "one to a line; what is said about it goes behind a #"
    } else if text.chars().any(|c| c.is_alphabetic() && !c.is_ascii_hexdigit()) {
        "names are not looked up: write addresses"
    } else {
        HOW
    }
}

fn wrong(text: &str, remedy: &'static str) -> Remark {
    let shown: String = text.chars().take(SHOWN).collect();
    let more = if shown.len() < text.len() { "…" } else { "" };
    Remark {
        severity: Severity::Error,
        reason: "DenyListLine",
        message: format!("the line {:?} of the deny list is no prefix: it denies nobody", format!("{shown}{more}")),
        remedy,
    }
}

fn loopback(text: &str) -> Remark {
    Remark {
        severity: Severity::Warning,
        reason: "DenyListLoopback",
        message: format!("{text} has addresses of loopback (127.0.0.0/8, ::1): those are never denied"),
        remedy: "nothing need be done; take the line out, or write prefixes without loopback, to be rid of this",
    }
}

fn host_bits(text: &str, taken: &IpNet) -> Remark {
    Remark {
        severity: Severity::Warning,
        reason: "DenyListHostBits",
        message: format!("{text} names an address within a prefix: all of {taken} is denied"),
        remedy: "write the prefix as such, or the address alone if only that is meant",
    }
}

/// IPv4 in the spelling of IPv6 is IPv4.
fn of_ipv4(net: IpNet) -> IpNet {
    let IpNet::V6(v6) = net else { return net };
    let mapped = v6.addr().to_ipv4_mapped().zip(v6.prefix_len().checked_sub(96));
    mapped.and_then(|(address, length)| Ipv4Net::new(address, length).ok()).map_or(net, IpNet::V4)
}

fn touches_loopback(net: &IpNet) -> bool {
    match net {
        IpNet::V4(net) => net.network().octets()[0] <= 127 && net.broadcast().octets()[0] >= 127,
        IpNet::V6(net) => net.contains(&std::net::Ipv6Addr::LOCALHOST),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Parsed {
        parse(&"deny.txt".into(), text.as_bytes())
    }

    fn denies(parsed: &Parsed, address: &str) -> bool {
        parsed.list.contains(address.parse().expect("an address"))
    }

    #[test]
    fn a_prefix_or_an_address_to_a_line() {
        let text = "\u{feff}# ours\r\n192.0.2.0/24\r\n\n  198.51.100.7   # a lone one\n2001:db8::/32\n2001:db9::1\n::ffff:203.0.113.0/120";
        let parsed = parsed(text);
        assert!(parsed.findings.is_empty(), "{:?}", parsed.findings);
        assert_eq!(parsed.prefixes, 5);
        for denied in ["192.0.2.255", "198.51.100.7", "2001:db8:ffff::", "2001:db9::1", "203.0.113.9"] {
            assert!(denies(&parsed, denied), "{denied}");
        }
        assert!(!denies(&parsed, "198.51.100.8") && !denies(&parsed, "2001:db9::2"));
    }

    #[test]
    fn a_bad_line_is_named_and_the_others_count() {
        let bad = ["192.0.2.0/33", "10.0.0/8", "010.0.0.1", "2001:db8::/129", "fe80::1%eth0", "10.0.0.1-10.0.0.9"];
        let more =
            ["example.com", "1.1.1.1, 2.2.2.2", "/8", "10.0.0.0/", "10.0.0.0/+8", "all", "\u{1F600}", "1.2.3.4:80"];
        for line in bad.into_iter().chain(more) {
            let parsed = parsed(&format!("192.0.2.1\n{line}\n192.0.2.2\n"));
            let [finding] = &parsed.findings[..] else { panic!("{line}: {:?}", parsed.findings) };
            let at = finding.origin.as_ref().map(ToString::to_string);
            assert_eq!((at.as_deref(), finding.severity), (Some("deny.txt:2:1"), Severity::Error), "{line}");
            assert!(finding.message.contains(line) && !finding.remedy.is_empty(), "{finding}");
            assert_eq!(parsed.prefixes, 2, "{line}");
        }
        assert_eq!(parse(&"x".into(), b"\xff\xfe\n192.0.2.1\n").prefixes, 1);
    }

    #[test]
    fn many_bad_lines_are_counted() {
        let parsed = parsed(&"nonsense\n".repeat(1000));
        assert_eq!(parsed.findings.len(), MAX_FINDINGS + 1);
        assert!(parsed.findings[MAX_FINDINGS].message.contains("980 more lines"));
    }

    #[test]
    fn loopback_and_host_bits_are_warned_of() {
        for line in ["127.0.0.1", "127.0.0.0/8", "0.0.0.0/0", "::1", "::/0", "::ffff:127.0.0.1", "64.0.0.0/2"] {
            let parsed = parsed(line);
            assert_eq!(parsed.findings.len(), 1, "{line}");
            assert_eq!(parsed.findings[0].reason, "DenyListLoopback");
            assert!(!denies(&parsed, "127.0.0.1") && !denies(&parsed, "::1"), "{line}");
        }
        let parsed = parsed("192.0.2.7/24");
        assert_eq!(parsed.findings[0].reason, "DenyListHostBits");
        assert!(parsed.findings[0].message.contains("192.0.2.0/24") && denies(&parsed, "192.0.2.200"));
    }
}
