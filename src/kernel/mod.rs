//! The kernel path: eBPF programs that carry layer-4 traffic to other machines past user space.
//!
//! `ebpf/forward.bpf.c` runs at the ingress of every interface. What it knows is in maps, written here from the
//! [`Snapshot`]: which listeners there are, which endpoints they have, and a [Maglev table](maglev) for each. Everything
//! that outlives the process (program, links, maps) is pinned under one directory, so that established and new
//! connections go on without it; the next process takes the pins over and replaces the program in place.
//!
//! Whatever the programs leave alone reaches the sockets of user space, which serves the same listeners alike.
//! `docs/kernel-path.md` describes it for users.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path as FilePath, PathBuf},
};

use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray, PerCpuValues},
    programs::SchedClassifier,
};

use crate::snapshot::Snapshot;

pub mod attach;
pub mod change;
mod entries;
mod generation;
pub mod left;
mod load;
pub mod maglev;
pub mod maps;
pub mod netlink;
mod retire;
pub mod select;
pub mod setting;
pub mod statistics;
mod sweep;
mod table;

use attach::{Attached, How, chain};
use entries::Entries;
use generation::Generations;
use left::Left;
use maps::{Address, LAYOUT, REASONS, Told, Traffic};
use netlink::{Netlink, Route};
use retire::{LAYOUT_PINS, Retired};
use select::{Reach, Selected};
pub use setting::{PINS, Settings};
use statistics::{EndpointLine, InterfaceLine, ServiceLine, Statistics};
pub use sweep::Drain;

pub mod deny;
pub mod reuseport;

/// The object of `ebpf/forward.bpf.c`.
pub static FORWARD: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/forward.bpf.o"));
/// The program in it.
pub const PROGRAM: &str = "gapi_forward";

/// The kernel path at work. Dropping it leaves the programs running; see [`detach`].
pub struct Path {
    settings: Settings,
    pins: PathBuf,
    program: Ebpf,
    how: How,
    netlink: Netlink,
    attached: Attached,
    generations: Generations,
    entries: Entries,
    traffic: PerCpuArray<MapData, Traffic>,
    reasons: PerCpuArray<MapData, u64>,
    addresses: HashMap<MapData, Address, u32>,
    /// Of the last look at the interfaces.
    failures: Vec<String>,
    /// How many entries the table of connections that last has room for.
    room: u32,
    selected: Vec<Selected>,
    drain: Drain,
    retired: Retired,
}

impl Path {
    /// Loads the programs, takes over what is pinned, and attaches to the interfaces that there are. With pins there,
    /// the services that they have are served until [`Path::publish`] says otherwise.
    ///
    /// # Errors
    /// One line that says what the kernel refused: no privilege, an old kernel, no bpffs.
    pub fn start(settings: Settings) -> Result<Path, String> {
        if settings.ports.is_empty() || *settings.ports.start() == 0 {
            return Err(format!("source ports {:?}: no such range", settings.ports));
        }
        let pins = settings.pins.join(format!("{LAYOUT_PINS}{LAYOUT}"));
        fs::create_dir_all(&pins).map_err(|error| no_pins(&settings.pins, &error))?;
        let netlink = Netlink::open().map_err(|error| format!("no netlink socket: {error}"))?;
        let mut program = EbpfLoader::new()
            .default_map_pin_directory(&pins)
            .map_max_entries("gapi_connections", settings.connections.saturating_mul(2).max(2))
            .map_max_entries("gapi_brief", settings.connections.max(2))
            .load(FORWARD)
            .map_err(|error| refused(&chain(&error), &pins))?;
        let forward: &mut SchedClassifier = classifier(&mut program);
        load::load(|| forward.load())
            .map_err(|error| format!("the kernel does not accept the program: {}", chain(&error)))?;
        // For people with bpftool; what runs is held by the links.
        _ = fs::remove_file(pins.join(PROGRAM));
        forward.pin(pins.join(PROGRAM)).map_err(|error| format!("the program cannot be pinned: {}", chain(&error)))?;
        let how = settings.how.unwrap_or_else(preferred);
        let broken = |error: MapError| format!("the maps under {} cannot be used: {}", pins.display(), chain(&error));
        let mut told: Array<MapData, Told> = typed(&mut program, "gapi_settings").map_err(broken)?;
        told.set(0, settings.told(), 0).map_err(broken)?;
        let services = MapData::from_pin(pins.join("gapi_services")).map_err(broken)?;
        let tables = MapData::from_pin(pins.join("gapi_tables")).map_err(broken)?;
        let endpoints = typed(&mut program, "gapi_endpoints").map_err(broken)?;
        let entries = Entries::open(&pins).map_err(broken)?;
        let mut path = Path {
            generations: Generations::new(&pins, services, tables, endpoints).map_err(broken)?,
            room: entries.room().map_err(broken)?,
            entries,
            traffic: typed(&mut program, "gapi_traffic").map_err(broken)?,
            reasons: typed(&mut program, "gapi_reasons").map_err(broken)?,
            addresses: typed(&mut program, "gapi_addresses").map_err(broken)?,
            retired: Retired::new(&settings.pins, &pins),
            settings,
            pins,
            program,
            how,
            netlink,
            attached: Attached::default(),
            failures: Vec::new(),
            selected: Vec::new(),
            drain: Drain::default(),
        };
        path.follow_interfaces();
        if path.attached.iter().next().is_none() && !path.failures.is_empty() {
            return Err(path.failures.join("; "));
        }
        Ok(path)
    }

    /// What a person should know, a line each: interfaces that could not be attached to, settings that do not fit.
    pub fn troubles(&self) -> Vec<String> {
        let wanted = self.settings.connections.saturating_mul(2).max(2);
        let size = (self.room != wanted).then(|| {
            format!("the table of connections keeps its room for {} until the programs are detached", self.room / 2)
        });
        self.failures.iter().cloned().chain(self.settings.overlap()).chain(size).collect()
    }

    /// Did everything succeed when interfaces were last followed?
    pub fn is_whole(&self) -> bool {
        self.failures.is_empty()
    }

    /// Attaches to interfaces that came, forgets those that went, and learns this machine's addresses; what failed is
    /// among the [`Path::troubles`]. Call it when interfaces, addresses or routes change, and [`Path::publish`] after it;
    /// it is cheap.
    pub fn follow_interfaces(&mut self) {
        self.failures = match self.netlink.interfaces() {
            Ok(interfaces) => {
                let program = classifier(&mut self.program);
                self.attached.follow(&interfaces, program, &self.pins, self.how)
            }
            Err(error) => vec![format!("the interfaces cannot be listed: {error}")],
        };
        if let Err(error) = self.follow_addresses() {
            self.failures.push(format!("this machine's addresses cannot be told to the programs: {error}"));
        }
    }

    fn follow_addresses(&mut self) -> io::Result<()> {
        let now: BTreeSet<Address> = self.netlink.addresses()?.into_iter().map(maps::address).collect();
        let before: BTreeSet<Address> = self.addresses.keys().collect::<Result<_, _>>().map_err(io::Error::other)?;
        for new in now.difference(&before) {
            self.addresses.insert(new, 1, 0).map_err(io::Error::other)?;
        }
        for old in before.difference(&now) {
            self.addresses.remove(old).map_err(io::Error::other)?;
        }
        Ok(())
    }

    /// Has the programs go by the snapshot. `keep_client` names the listeners whose backends see the client's address and
    /// route back through this machine.
    ///
    /// Returns what is carried and what is not, and why; when something cannot be written, what was before stays.
    ///
    /// # Errors
    /// Names what could not be written.
    pub fn publish(
        &mut self,
        snapshot: &Snapshot,
        keep_client: impl Fn(&Selected) -> bool,
    ) -> Result<&[Selected], String> {
        let selected = self.select(snapshot);
        self.generations.publish(&selected, keep_client)?;
        self.failures.extend(self.retired.stop());
        self.selected = selected;
        Ok(&self.selected)
    }

    /// What was published last: what is carried and what is not, and why.
    pub fn selected(&self) -> &[Selected] {
        &self.selected
    }

    /// Has user space see what the programs leave to it. [`Left::divide`] says what is its part.
    ///
    /// # Errors
    /// When the table of connections cannot be opened once more.
    pub fn show(&self, left: &Left) -> Result<(), String> {
        // Not by its number: that takes CAP_SYS_ADMIN.
        let brief = MapData::from_pin(self.pins.join("gapi_brief"));
        let connections = brief.and_then(Map::from_map_data).and_then(HashMap::try_from);
        left.watch(connections.map_err(|error| format!("user space cannot be told: {}", chain(&error)))?);
        Ok(())
    }

    /// Did routes or interfaces change so that [`Path::publish`] would come to something else?
    pub fn is_stale(&mut self, snapshot: &Snapshot) -> bool {
        self.select(snapshot) != self.selected
    }

    fn select(&mut self, snapshot: &Snapshot) -> Vec<Selected> {
        let attached = &self.attached;
        select_by(&mut self.netlink, snapshot, |interface| attached.has(interface))
    }

    /// What is going on.
    ///
    /// # Errors
    /// When a map cannot be read.
    pub fn statistics(&self) -> Result<Statistics, MapError> {
        let (mut entries, mut current) = (0, BTreeMap::new());
        self.entries.each(|_, connection| {
            entries += u32::from(connection.is(maps::flag::LASTING));
            if !connection.is(maps::flag::REVERSE) {
                *current.entry(connection.endpoint).or_insert(0) += 1;
            }
        })?;
        let sum = |values: PerCpuValues<u64>| values.iter().sum();
        let reasons = (0..).zip(REASONS).map(|(index, reason)| Ok((reason, sum(self.reasons.get(&index, 0)?))));
        Ok(Statistics {
            interfaces: self
                .attached
                .iter()
                .map(|(_, name, how)| InterfaceLine { name: name.to_owned(), how: how.word() })
                .collect(),
            entries,
            room: self.room,
            services: self.selected.iter().map(|selected| self.line(selected, &current)).collect::<Result<_, _>>()?,
            reasons: reasons.collect::<Result<_, MapError>>()?,
        })
    }

    fn line(&self, selected: &Selected, current: &BTreeMap<u32, u32>) -> Result<ServiceLine, MapError> {
        let id = self.generations.id(selected);
        let own = self.generations.endpoints().iter().filter(|(_, endpoint)| Some(endpoint.service) == id);
        let line = |(number, endpoint): (&u32, &maps::Endpoint)| {
            let mut traffic = Traffic::default();
            self.traffic.get(number, 0)?.iter().for_each(|of_processor| traffic += *of_processor);
            Ok(EndpointLine {
                address: (maps::ip(endpoint.address), u16::from_be_bytes(endpoint.port)).into(),
                source: maps::ip(endpoint.source),
                is_departed: self.generations.is_departed(*number),
                current: current.get(number).copied().unwrap_or_default(),
                traffic,
            })
        };
        Ok(ServiceLine {
            socket: selected.socket,
            protocol: selected.protocol,
            listener: selected.listener.clone(),
            route: selected.route.clone(),
            is_in_kernel: selected.is_in_kernel(),
            user: selected.user.clone(),
            endpoints: own.map(line).collect::<Result<_, MapError>>()?,
        })
    }
}

/// Has a run with these pins left programs at work?
pub fn is_left(pins: &FilePath) -> bool {
    let mut layouts = fs::read_dir(pins).into_iter().flatten().flatten();
    layouts.any(|layout| layout.path().join(PROGRAM).exists())
}

/// Which way the snapshot's listeners would take with the programs on every interface; nothing where the kernel cannot be
/// asked for routes.
pub fn reachable(snapshot: &Snapshot) -> Vec<Selected> {
    Netlink::open().map_or_else(|_| Vec::new(), |mut netlink| select_by(&mut netlink, snapshot, |_| true))
}

/// `attached` tells whether an interface has the programs.
fn select_by(netlink: &mut Netlink, snapshot: &Snapshot, attached: impl Fn(u32) -> bool) -> Vec<Selected> {
    select::select(snapshot, |ip| Reach::new(netlink.route(ip).unwrap_or(Route::Nowhere), &attached))
}

/// Takes the programs off every interface and removes all pins, those of other layouts too: packets go to user space
/// again, connections that the kernel carried end.
///
/// # Errors
/// When something cannot be removed.
pub fn detach(pins: &FilePath) -> io::Result<()> {
    let mut netlink = Netlink::open()?;
    let interfaces = netlink.interfaces()?;
    let layouts = match fs::read_dir(pins) {
        Ok(layouts) => layouts.collect::<Result<Vec<_>, _>>()?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    for layout in &layouts {
        attach::detach(&layout.path(), &interfaces, &mut netlink);
    }
    match fs::remove_dir_all(pins) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Takes whatever a daemon of gapi pinned below `pins` off this machine; how many daemons' there was.
///
/// # Errors
/// When something cannot be removed.
pub fn detach_all(pins: &FilePath) -> io::Result<usize> {
    let own = match fs::read_dir(pins) {
        Ok(own) => own.collect::<Result<Vec<_>, _>>()?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    for directory in &own {
        detach(&directory.path())?;
    }
    fs::remove_dir_all(pins)?;
    Ok(own.len())
}

fn classifier(program: &mut Ebpf) -> &mut SchedClassifier {
    let program = program.program_mut(PROGRAM).expect("the object has it");
    program.try_into().expect("its section says that it is a classifier")
}

fn typed<T: TryFrom<Map, Error = MapError>>(program: &mut Ebpf, name: &str) -> Result<T, MapError> {
    T::try_from(program.take_map(name).expect("the object has it"))
}

/// tcx came with Linux 6.6.
fn preferred() -> How {
    let has_tcx = aya::util::KernelVersion::current().is_ok_and(|now| now >= aya::util::KernelVersion::new(6, 6, 0));
    if has_tcx { How::Tcx } else { How::Clsact }
}

fn no_pins(pins: &FilePath, error: &io::Error) -> String {
    format!(
        "cannot make {}: {error} (it needs a bpffs: mount -t bpf bpf /sys/fs/bpf, and the right to write there)",
        pins.display()
    )
}

fn refused(why: &str, pins: &FilePath) -> String {
    if why.contains("Operation not permitted") {
        return format!("no privilege: CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON are needed ({why})");
    }
    format!("the programs cannot be loaded, with pins under {}: {why}", pins.display())
}
