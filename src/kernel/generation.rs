//! What the programs go by, written generation by generation: endpoints and tables that no service names yet, then the
//! services, and one slot is flipped.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use aya::maps::{Array, HashMap, Map, MapData, MapError};

use super::{
    maglev::{self, Target},
    maps::{self, Endpoint, Service, ServiceKey},
    select::{Selected, Share},
    table,
};

type Services = HashMap<MapData, ServiceKey, Service>;

/// The name of the pin of services, before the number of their map. By its pin the next process finds the map that is in
/// force: that it is in the array is not enough, for the kernel opens maps by their number to CAP_SYS_ADMIN alone.
const SERVICES: &str = "services_";

/// A service that the programs know.
struct Known {
    service: Service,
    /// What its table was made of; nothing when another process made it.
    slots: Vec<(u32, u64)>,
}

/// The maps of services, tables and endpoints, and what is in them.
pub struct Generations {
    /// The outer array, with the services in force in its first place.
    services: MapData,
    /// The outer array.
    tables: MapData,
    endpoints: Array<MapData, Endpoint>,
    known: BTreeMap<(maps::Address, [u8; 2], u8), Known>,
    /// Numbers of endpoints, by service and address. Numbers are kept while connections may name them.
    numbers: BTreeMap<(u32, SocketAddr), u32>,
    written: BTreeMap<u32, Endpoint>,
    /// Numbers that no service uses any more.
    departed: BTreeSet<u32>,
    next_service: u32,
    /// Where the search for a free number begins.
    next_number: u32,
    pins: PathBuf,
}

impl Generations {
    /// Takes over what is in the maps; services are pinned in `pins`.
    ///
    /// # Errors
    /// When a map cannot be read.
    pub fn new(
        pins: &Path,
        services: MapData,
        tables: MapData,
        endpoints: Array<MapData, Endpoint>,
    ) -> Result<Generations, MapError> {
        let mut generations = Generations {
            services,
            tables,
            endpoints,
            known: BTreeMap::new(),
            numbers: BTreeMap::new(),
            written: BTreeMap::new(),
            departed: BTreeSet::new(),
            next_service: 1,
            next_number: 1,
            pins: pins.to_owned(),
        };
        generations.recall()?;
        Ok(generations)
    }

    fn recall(&mut self) -> Result<(), MapError> {
        for (number, endpoint) in (0..).zip(self.endpoints.iter()).skip(1) {
            let endpoint = endpoint?;
            if endpoint.service != 0 {
                let address = SocketAddr::new(maps::ip(endpoint.address), u16::from_be_bytes(endpoint.port));
                self.numbers.insert((endpoint.service, address), number);
                self.written.insert(number, endpoint);
                self.next_service = self.next_service.max(endpoint.service + 1);
            }
        }
        let Some(services) = self.in_force()? else { return Ok(()) };
        for entry in services.iter() {
            let (key, service) = entry?;
            self.next_service = self.next_service.max(service.id + 1);
            self.known.insert(ordered(&key), Known { service, slots: Vec::new() });
        }
        Ok(())
    }

    /// The services that the programs go by; none before the first generation.
    fn in_force(&self) -> Result<Option<Services>, MapError> {
        let Some(number) = table::first(&self.services)? else { return Ok(None) };
        let services = MapData::from_pin(self.pins.join(format!("{SERVICES}{number}")))?;
        Ok(Some(Map::from_map_data(services)?.try_into()?))
    }

    /// Pins services before they are in force; their number.
    fn pin(&self, services: &MapData) -> Result<u32, MapError> {
        let number = services.info()?.id();
        let pin = self.pins.join(format!("{SERVICES}{number}"));
        // Of a map that is no more: its number was given out again.
        _ = fs::remove_file(&pin);
        services.pin(pin).map_err(|error| MapError::IoError(io::Error::other(error)))?;
        Ok(number)
    }

    /// Removes the pins of services but those of this number.
    fn unpin_others(&self, number: u32) {
        let own = format!("{SERVICES}{number}");
        let pins = fs::read_dir(&self.pins).into_iter().flatten().flatten();
        let name = |pin: &fs::DirEntry| pin.file_name().to_string_lossy().into_owned();
        let others = pins.filter(|pin| name(pin).starts_with(SERVICES) && name(pin) != own);
        others.for_each(|pin| _ = fs::remove_file(pin.path()));
    }

    /// Writes and puts in force what was selected. New connections go by it when this returns; established ones keep
    /// their endpoint.
    ///
    /// # Errors
    /// Names what could not be written; the generation before is in force then.
    pub fn publish(&mut self, selected: &[Selected], keep_client: impl Fn(&Selected) -> bool) -> Result<(), String> {
        let selected: Vec<&Selected> = selected.iter().filter(|selected| selected.is_in_kernel()).collect();
        let mut next = BTreeMap::new();
        let mut named = BTreeSet::new();
        let mut tables = Vec::new();
        for selected in selected {
            let key = ServiceKey::new(selected.socket, selected.protocol);
            let before = self.known.get(&ordered(&key)).map(|known| (known.service, known.slots.clone()));
            let id = before.as_ref().map_or(self.next_service, |(service, _)| service.id);
            self.next_service = self.next_service.max(id + 1);
            let slots = self.number(id, &selected.shares, &mut named)?;
            let flags = if keep_client(selected) { maps::KEEP_CLIENT } else { 0 };
            let service = match before {
                Some((service, before)) if before == slots => Service { flags, ..service },
                _ => {
                    let (table, slots) = self.make_table(&selected.shares, &slots)?;
                    let place = self.free_place(&tables)?;
                    tables.push((place, table));
                    Service { id, table: place, slots, flags }
                }
            };
            next.insert(ordered(&key), (key, Known { service, slots }));
        }
        table::place(&self.tables, &tables).map_err(|error| format!("the tables cannot be written: {error}"))?;
        self.flip(&next)?;
        self.known = next.into_iter().map(|(ordered, (_, known))| (ordered, known)).collect();
        self.departed = self.written.keys().copied().filter(|number| !named.contains(number)).collect();
        Ok(())
    }

    /// Gives each target its number and writes it; the slots' owners and weights.
    fn number(&mut self, service: u32, shares: &[Share], named: &mut BTreeSet<u32>) -> Result<Vec<(u32, u64)>, String> {
        let mut slots = Vec::with_capacity(shares.len());
        for share in shares {
            let Some(target) = share.to else {
                slots.push((0, share.weight));
                continue;
            };
            let key = (service, target.address);
            let number = match self.numbers.get(&key) {
                Some(number) => *number,
                None => match self.free_number() {
                    Some(number) => number,
                    // Its share stays with user space.
                    None => {
                        slots.push((0, share.weight));
                        continue;
                    }
                },
            };
            let endpoint = Endpoint {
                address: maps::address(target.address.ip()),
                source: maps::address(target.source),
                port: target.address.port().to_be_bytes(),
                interface: target.interface,
                service,
                ..Endpoint::default()
            };
            if self.written.get(&number) != Some(&endpoint) {
                let set = self.endpoints.set(number, endpoint, 0);
                set.map_err(|error| format!("endpoint {} cannot be written: {error}", target.address))?;
                self.written.insert(number, endpoint);
                self.numbers.insert(key, number);
            }
            named.insert(number);
            slots.push((number, share.weight));
        }
        Ok(slots)
    }

    fn free_number(&mut self) -> Option<u32> {
        let mut numbers = (self.next_number..maps::ENDPOINTS).chain(1..self.next_number);
        let free = numbers.find(|number| !self.written.contains_key(number))?;
        self.next_number = free + 1;
        Some(free)
    }

    /// A place that no service names, now or in the next generation. What is there is of a generation before: nothing
    /// reads it any more, and it stays until it is replaced.
    fn free_place(&self, taken: &[(u32, MapData)]) -> Result<u32, String> {
        let taken = taken.iter().map(|(place, _)| *place);
        let in_use: BTreeSet<u32> = self.known.values().map(|known| known.service.table).chain(taken).collect();
        let free = (0..maps::TABLES).find(|place| !in_use.contains(place));
        free.ok_or_else(|| format!("there are more than {} layer-4 listeners", maps::TABLES / 2))
    }

    /// The table of such shares, and how many slots it has.
    fn make_table(&self, shares: &[Share], slots: &[(u32, u64)]) -> Result<(MapData, u32), String> {
        let name = |share: &Share| share.to.map(|target| target.address.to_string()).unwrap_or_default();
        let names: Vec<String> = shares.iter().map(name).collect();
        // User space is one target, whatever it stands for.
        let for_user_space = slots.iter().filter(|(number, _)| *number == 0).map(|(_, weight)| weight).sum();
        let own = names.iter().zip(slots).filter(|(_, (number, _))| *number != 0);
        let own = own.map(|(name, &(value, weight))| Target { name: name.as_bytes(), weight, value });
        let user_space = Target { name: b"user space", weight: for_user_space, value: 0 };
        let slots = maglev::table(&own.chain([user_space]).collect::<Vec<_>>());
        let table = table::create(&slots);
        let table = table.map_err(|error| format!("a table of {} slots cannot be made: {error}", slots.len()))?;
        Ok((table, slots.len() as u32))
    }

    /// The kernel waits until no program uses what was in the slot before, so that its tables can be replaced.
    fn flip(&mut self, next: &BTreeMap<(maps::Address, [u8; 2], u8), (ServiceKey, Known)>) -> Result<(), String> {
        let flipped = (|| {
            let map = table::create_hash::<ServiceKey, Service>(next.len())?;
            let mut services: Services = Map::from_map_data(MapData::from_fd(map.try_clone()?)?)?.try_into()?;
            for (key, known) in next.values() {
                services.insert(key, known.service, 0)?;
            }
            let map = MapData::from_fd(map)?;
            let number = self.pin(&map)?;
            table::place(&self.services, &[(0, map)])?;
            self.unpin_others(number);
            Ok(())
        })();
        flipped.map_err(|error: MapError| format!("the services cannot be written: {error}"))
    }

    /// Endpoints, by number, with those that still have connections only.
    pub fn endpoints(&self) -> &BTreeMap<u32, Endpoint> {
        &self.written
    }

    pub fn is_departed(&self, number: u32) -> bool {
        self.departed.contains(&number)
    }

    /// The number of a service, if the kernel carries it.
    pub fn id(&self, selected: &Selected) -> Option<u32> {
        let key = ServiceKey::new(selected.socket, selected.protocol);
        self.known.get(&ordered(&key)).map(|known| known.service.id)
    }

    /// Is there such a service?
    pub fn has_service(&self, id: u32) -> bool {
        self.known.values().any(|known| known.service.id == id)
    }

    /// Frees the numbers of departed endpoints that no connection names; those.
    ///
    /// # Errors
    /// When an endpoint cannot be written.
    pub fn free(&mut self, named: &BTreeSet<u32>) -> Result<Vec<u32>, MapError> {
        let free: Vec<u32> = self.departed.difference(named).copied().collect();
        for &number in &free {
            self.endpoints.set(number, Endpoint::default(), 0)?;
            self.written.remove(&number);
            self.departed.remove(&number);
            self.numbers.retain(|_, known| *known != number);
        }
        Ok(free)
    }
}

fn ordered(key: &ServiceKey) -> (maps::Address, [u8; 2], u8) {
    (key.address, key.port, key.protocol)
}
