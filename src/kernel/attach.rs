//! Where the program runs: at the ingress of every interface that traffic can come over, by a pinned tcx link, or by a
//! filter of clsact on kernels older than 6.6.

use std::{collections::BTreeMap, fs, io, path::Path};

use aya::programs::{
    LinkOrder, SchedClassifier, TcAttachType,
    links::{FdLink, PinnedLink},
    tc::{self, NlOptions, SchedClassifierLink, TcAttachOptions, TcError, TcHandle},
};

use super::{
    PROGRAM,
    maps::LAYOUT,
    netlink::{Interface, Netlink},
    retire::LAYOUT_PINS,
};

/// The place among the filters of an interface, by a number that nobody else has: late, so that whoever drops packets
/// does so before they are sent on. Likewise for links.
const PRIORITY: u16 = 49_761;
const HANDLE: TcHandle = handle(LAYOUT as u16);

/// Filters of different layouts stand side by side.
const fn handle(layout: u16) -> TcHandle {
    TcHandle::new(0, layout + 1)
}

/// The name of a link's pin, before the number of its interface.
const LINK: &str = "link_";

/// How the program is attached.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum How {
    /// A tcx link (Linux 6.6).
    Tcx,
    /// A filter of the qdisc clsact.
    Clsact,
}

impl How {
    pub fn word(self) -> &'static str {
        match self {
            How::Tcx => "tcx",
            How::Clsact => "clsact",
        }
    }
}

/// The interfaces that the program is attached to.
#[derive(Default)]
pub struct Attached {
    interfaces: BTreeMap<u32, (String, How)>,
}

impl Attached {
    pub fn has(&self, interface: u32) -> bool {
        self.interfaces.contains_key(&interface)
    }

    /// Index, name and how, by index.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &str, How)> {
        self.interfaces.iter().map(|(index, (name, how))| (*index, &**name, *how))
    }

    /// Attaches to interfaces that came, forgets those that went; what failed, which is tried again the next time.
    pub fn follow(
        &mut self,
        interfaces: &[Interface],
        program: &mut SchedClassifier,
        pins: &Path,
        how: How,
    ) -> Vec<String> {
        let wanted = |interface: &&Interface| is_suitable(interface);
        let wanted: BTreeMap<u32, &str> =
            interfaces.iter().filter(wanted).map(|interface| (interface.index, &*interface.name)).collect();
        self.interfaces.retain(|index, (name, how)| {
            let stays = wanted.contains_key(index);
            if !stays {
                // It has gone, or became a port of a bridge: nothing comes over it any more.
                _ = detach_one(pins, *index, name, *how);
            }
            stays
        });
        let mut failures = Vec::new();
        for (index, name) in wanted {
            if self.interfaces.get(&index).is_some_and(|(known, _)| known == name) {
                continue;
            }
            let attached = match how {
                How::Tcx => tcx(program, &pins.join(format!("{LINK}{index}")), name),
                How::Clsact => clsact(program, name),
            };
            match attached {
                Ok(()) => _ = self.interfaces.insert(index, (name.to_owned(), how)),
                Err(why) => failures.push(format!("interface {name}: {why}")),
            }
        }
        failures
    }
}

/// Loopback has no other machines behind it, ports of a bridge or bond show their packets again at their master, and
/// packets without an Ethernet header are left to user space.
fn is_suitable(interface: &Interface) -> bool {
    interface.is_up && interface.is_ethernet() && !interface.is_loopback && !interface.has_master
}

/// Replaces the program of a link that is pinned, else makes one.
fn tcx(program: &mut SchedClassifier, pin: &Path, name: &str) -> Result<(), String> {
    if let Ok(old) = PinnedLink::from_pin(pin) {
        let replaced = SchedClassifierLink::try_from(FdLink::from(old))
            .map_err(|error| error.to_string())
            .and_then(|link| program.attach_to_link(link).map_err(|error| chain(&error)));
        if let Ok(id) = replaced {
            // The pin holds the link; this descriptor of it is not needed.
            drop(program.take_link(id));
            return Ok(());
        }
        // Of an interface that is no more: its number was given out again.
        _ = fs::remove_file(pin);
    }
    let order = TcAttachOptions::TcxOrder(LinkOrder::last());
    let id = program.attach_with_options(name, TcAttachType::Ingress, order).map_err(|error| chain(&error))?;
    let link = program.take_link(id).map_err(|error| chain(&error))?;
    let link: FdLink = link.try_into().map_err(|error| chain(&error))?;
    link.pin(pin).map_err(|error| format!("cannot pin the link at {}: {}", pin.display(), chain(&error)))?;
    Ok(())
}

/// Replaces the filter that is there, else makes one.
fn clsact(program: &mut SchedClassifier, name: &str) -> Result<(), String> {
    // There, mostly.
    _ = tc::qdisc_add_clsact(name);
    let old = SchedClassifierLink::attached(name, TcAttachType::Ingress, PRIORITY, HANDLE, None)
        .map_err(|error| chain(&error))?;
    let replaced = program.attach_to_link(old);
    let options = || TcAttachOptions::Netlink(NlOptions { priority: PRIORITY, handle: HANDLE, classid: None });
    let attached = replaced.or_else(|_| program.attach_with_options(name, TcAttachType::Ingress, options()));
    let id = attached.map_err(|error| chain(&error))?;
    // The filter stays when this process goes.
    program.take_link(id).map(std::mem::forget).map_err(|error| chain(&error))
}

fn detach_one(pins: &Path, index: u32, name: &str, how: How) -> io::Result<()> {
    match how {
        How::Tcx => fs::remove_file(pins.join(format!("{LINK}{index}"))),
        How::Clsact => match tc::qdisc_detach_program(name, TcAttachType::Ingress, PROGRAM) {
            Ok(()) => Ok(()),
            Err(TcError::IoError(error)) => Err(error),
            Err(error) => Err(io::Error::other(error)),
        },
    }
}

/// Takes the program off every interface: with the link's pin its last holder goes; filters are removed, and their qdisc
/// when nobody else has a filter there.
pub fn detach(pins: &Path, interfaces: &[Interface], netlink: &mut Netlink) {
    remove_links(pins);
    for interface in interfaces.iter().filter(|interface| !interface.is_loopback) {
        // Most have none.
        if detach_one(pins, interface.index, &interface.name, How::Clsact).is_ok() {
            _ = netlink.remove_clsact(interface.index);
        }
    }
}

/// Takes the program of one layout off every interface.
pub fn detach_layout(pins: &Path, interfaces: &[Interface]) {
    remove_links(pins);
    let name = pins.file_name().unwrap_or_default().to_string_lossy();
    let Some(layout) = name.strip_prefix(LAYOUT_PINS).and_then(|layout| layout.parse::<u16>().ok()) else { return };
    for interface in interfaces.iter().filter(|interface| !interface.is_loopback) {
        let attached =
            SchedClassifierLink::attached(&interface.name, TcAttachType::Ingress, PRIORITY, handle(layout), None);
        // Most have none.
        _ = attached.map(aya::programs::Link::detach);
    }
}

fn remove_links(pins: &Path) {
    let entries = fs::read_dir(pins).into_iter().flatten().flatten();
    let links = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(LINK));
    links.for_each(|link| _ = fs::remove_file(link.path()));
}

/// An error with its causes.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    text
}
