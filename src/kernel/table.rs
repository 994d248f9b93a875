//! What aya has no call for: maps within maps, and Maglev tables made and filled with one call each. It writes arrays slot
//! by slot, and tables have tens of thousands.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
};

use aya::{Pod, maps::MapData};

/// Of `enum bpf_cmd`.
const MAP_CREATE: libc::c_long = 0;
const MAP_LOOKUP_ELEM: libc::c_long = 1;
const MAP_DELETE_ELEM: libc::c_long = 3;
/// Likewise (Linux 5.6).
pub const MAP_LOOKUP_BATCH: libc::c_long = 24;
const MAP_UPDATE_BATCH: libc::c_long = 26;
const TYPE_HASH: u32 = 1;
const TYPE_ARRAY: u32 = 2;
/// Arrays of other lengths may stand in its place (Linux 5.10).
const F_INNER_MAP: u32 = 1 << 12;

/// The members of `union bpf_attr` for [`MAP_CREATE`].
#[repr(C)]
struct Create {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
}

/// Those for [`MAP_LOOKUP_ELEM`] and [`MAP_DELETE_ELEM`].
#[repr(C)]
struct Element {
    map_fd: u32,
    zero: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// The member `batch` of `union bpf_attr`.
#[repr(C)]
#[derive(Default)]
pub struct Batch {
    pub in_batch: u64,
    pub out_batch: u64,
    pub keys: u64,
    pub values: u64,
    pub count: u32,
    pub map_fd: u32,
    pub elem_flags: u64,
    pub flags: u64,
}

/// A table with these slots; with one that says 0 when there are none.
///
/// # Errors
/// As of `bpf(2)`.
pub fn create(slots: &[u32]) -> io::Result<MapData> {
    let (max_entries, map_flags) = (slots.len().max(1) as u32, F_INNER_MAP);
    let array = make(Create { map_type: TYPE_ARRAY, key_size: 4, value_size: 4, max_entries, map_flags })?;
    let keys: Vec<u32> = (0..).take(slots.len()).collect();
    update(&array, &keys, slots)?;
    MapData::from_fd(array).map_err(io::Error::other)
}

/// A hash map for so many values by keys.
///
/// # Errors
/// As of `bpf(2)`.
pub fn create_hash<K: Pod, V: Pod>(entries: usize) -> io::Result<OwnedFd> {
    let (key_size, value_size) = (size_of::<K>() as u32, size_of::<V>() as u32);
    make(Create { map_type: TYPE_HASH, key_size, value_size, max_entries: entries.max(1) as u32, map_flags: 0 })
}

fn make(mut map: Create) -> io::Result<OwnedFd> {
    let descriptor = bpf(MAP_CREATE, &mut map)?;
    // SAFETY: the kernel has just made it, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor as i32) })
}

/// Puts tables into their places of the outer array, all with one call: for each call the kernel waits until no program
/// uses what was there.
///
/// # Errors
/// As of `bpf(2)`.
pub fn place(outer: &MapData, tables: &[(u32, MapData)]) -> io::Result<()> {
    let keys: Vec<u32> = tables.iter().map(|(place, _)| *place).collect();
    let values: Vec<u32> = tables.iter().map(|(_, table)| table.fd().as_fd().as_raw_fd() as u32).collect();
    update(outer.fd(), &keys, &values)
}

/// The number of the map in the first place of an outer array.
///
/// # Errors
/// As of `bpf(2)`.
pub fn first(outer: &MapData) -> io::Result<Option<u32>> {
    let mut id = 0_u32;
    match bpf(MAP_LOOKUP_ELEM, &mut element(outer, &FIRST, &raw mut id as u64)) {
        Ok(_) => Ok(Some(id)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Leaves the first place of an outer array without a map.
///
/// # Errors
/// As of `bpf(2)`.
pub fn clear_first(outer: &MapData) -> io::Result<()> {
    delete(outer, &FIRST)
}

/// Removes an element of a map with such keys.
///
/// # Errors
/// As of `bpf(2)`; `ENOENT` when there is none.
pub fn delete<K>(map: &MapData, key: &K) -> io::Result<()> {
    bpf(MAP_DELETE_ELEM, &mut element(map, key, 0)).map(drop)
}

/// The key of the first place.
const FIRST: u32 = 0;

fn element<K>(map: &MapData, key: &K, value: u64) -> Element {
    let map_fd = map.fd().as_fd().as_raw_fd() as u32;
    Element { map_fd, zero: 0, key: &raw const *key as u64, value, flags: 0 }
}

fn update(map: impl AsFd, keys: &[u32], values: &[u32]) -> io::Result<()> {
    if keys.is_empty() {
        return Ok(());
    }
    let mut batch = Batch {
        keys: keys.as_ptr() as u64,
        values: values.as_ptr() as u64,
        count: keys.len() as u32,
        map_fd: map.as_fd().as_raw_fd() as u32,
        ..Batch::default()
    };
    bpf(MAP_UPDATE_BATCH, &mut batch).map(drop)
}

/// `bpf(2)`, with members of `union bpf_attr`.
pub fn bpf<T>(command: libc::c_long, attributes: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: the structure begins `union bpf_attr`, and what it points to outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attributes, size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
