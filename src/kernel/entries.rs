//! The tables of connections, read many entries a call: there may be a million, and they are looked at every few seconds.

use std::{
    io,
    os::fd::{AsFd, AsRawFd},
    path::Path,
};

use aya::maps::{MapData, MapError};

use super::{
    maps::{Connection, Tuple, flag},
    table::{self, Batch},
};

/// How many entries a call reads. It is more than share a hash.
const SOME: usize = 4096;

/// Connections that last, and those that begin or have ended.
pub struct Entries {
    lasting: MapData,
    brief: MapData,
}

impl Entries {
    /// # Errors
    /// When they are not pinned there.
    pub fn open(pins: &Path) -> Result<Entries, MapError> {
        let open = |name| MapData::from_pin(pins.join(name));
        Ok(Entries { lasting: open("gapi_connections")?, brief: open("gapi_brief")? })
    }

    /// How many entries of connections that last there can be.
    ///
    /// # Errors
    /// As of `bpf(2)`.
    pub fn room(&self) -> Result<u32, MapError> {
        Ok(self.lasting.info()?.max_entries())
    }

    /// Shows every entry once; those that come or go meanwhile perhaps, and one that begins to last perhaps twice.
    ///
    /// # Errors
    /// As of `bpf(2)`.
    pub fn each(&self, mut look: impl FnMut(Tuple, Connection)) -> Result<(), MapError> {
        // In this order, so that none is missed that moves on.
        [&self.brief, &self.lasting].into_iter().try_for_each(|map| each(map, &mut look)).map_err(MapError::IoError)
    }

    /// Removes an entry, which may have gone.
    ///
    /// # Errors
    /// As of `bpf(2)`.
    pub fn remove(&self, tuple: &Tuple, connection: &Connection) -> Result<(), MapError> {
        let map = if connection.is(flag::LASTING) { &self.lasting } else { &self.brief };
        match table::delete(map, tuple) {
            Err(error) if error.raw_os_error() != Some(libc::ENOENT) => Err(MapError::IoError(error)),
            _ => Ok(()),
        }
    }
}

fn each(map: &MapData, look: &mut impl FnMut(Tuple, Connection)) -> io::Result<()> {
    let (mut keys, mut values) = (vec![Tuple::default(); SOME], vec![Connection::default(); SOME]);
    // Of the kernel's own: where the next call goes on.
    let (mut place, mut next) = (0_u32, 0_u32);
    let mut is_first = true;
    loop {
        let mut batch = Batch {
            in_batch: if is_first { 0 } else { &raw mut place as u64 },
            out_batch: &raw mut next as u64,
            keys: keys.as_mut_ptr() as u64,
            values: values.as_mut_ptr() as u64,
            count: SOME as u32,
            map_fd: map.fd().as_fd().as_raw_fd() as u32,
            ..Batch::default()
        };
        let is_last = match table::bpf(table::MAP_LOOKUP_BATCH, &mut batch) {
            Ok(_) => false,
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => true,
            Err(error) => return Err(error),
        };
        keys.iter().zip(&values).take(batch.count as usize).for_each(|(key, value)| look(*key, *value));
        if is_last {
            return Ok(());
        }
        (place, is_first) = (next, false);
    }
}
