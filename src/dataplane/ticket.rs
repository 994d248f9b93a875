//! Session tickets (RFC 5077, RFC 8446 section 4.6.1): keys that all workers share, that rotate, and that outlive a
//! restart when the next run is given them.
//!
//! A ticket is the name of its key, a nonce and the sealed session state. rustls binds the state to the server name, the
//! cipher suite and the protocol; which key opens a ticket says nothing but that this gateway made it.

use std::{fmt, time::Duration};

use arc_swap::ArcSwap;
use aws_lc_rs::{
    aead::{AES_256_GCM_SIV, Aad, NONCE_LEN, Nonce, RandomizedNonceKey},
    rand,
};
use rustls::server::ProducesTickets;

/// A key seals new tickets for so long, and opens them for as long again.
const ROTATION: Duration = Duration::from_secs(6 * 60 * 60);
/// First bytes of [`Tickets::to_bytes`], with the version of the form.
const FORM: &[u8; 16] = b"gapi-tickets\0\0\0\x01";
const NAME: usize = 16;
const SECRET: usize = 32;
const KEY: usize = NAME + SECRET;
/// What [`Tickets::to_bytes`] is at most long: form, time, two keys.
pub const MAX_BYTES: usize = FORM.len() + 8 + 2 * KEY;

/// The keys of a process. Opening and sealing take no lock; rotation is its owner's business.
pub struct Tickets(ArcSwap<Keys>);

struct Keys {
    /// When `current` was made, in seconds of Unix time.
    since: u64,
    current: Key,
    previous: Option<Key>,
}

#[derive(Clone)]
struct Key {
    name: [u8; NAME],
    secret: [u8; SECRET],
}

/// No key: the system gave no random bytes.
#[derive(Debug, thiserror::Error)]
#[error("the system gives no random bytes")]
pub struct NoRandom;

impl Tickets {
    /// Fresh keys, made `now` (seconds of Unix time).
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn new(now: u64) -> Result<Tickets, NoRandom> {
        Ok(Tickets(ArcSwap::from_pointee(Keys { since: now, current: Key::new()?, previous: None })))
    }

    /// The keys of an earlier run. `None` when `bytes` are not of this form, or too old for any ticket to be good.
    pub fn from_bytes(bytes: &[u8], now: u64) -> Option<Tickets> {
        let rest = bytes.strip_prefix(FORM)?;
        let (since, keys) = rest.split_first_chunk::<8>()?;
        let since = u64::from_be_bytes(*since);
        let (keys, []) = keys.as_chunks::<KEY>() else { return None };
        let mut keys = keys.iter().map(Key::from_bytes);
        let (current, previous) = (keys.next()??, keys.next());
        let previous = match previous {
            None => None,
            Some(previous) => Some(previous?),
        };
        let clash = previous.as_ref().is_some_and(|previous| previous.name == current.name);
        if keys.next().is_some() || clash || age(since, now)? >= 2 * ROTATION.as_secs() {
            return None;
        }
        Some(Tickets(ArcSwap::from_pointee(Keys { since, current, previous })))
    }

    /// What [`Tickets::from_bytes`] reads. Secret: for memory only.
    pub fn to_bytes(&self) -> Vec<u8> {
        let keys = self.0.load();
        let mut bytes = Vec::with_capacity(MAX_BYTES);
        bytes.extend(FORM);
        bytes.extend(keys.since.to_be_bytes());
        for key in std::iter::once(&keys.current).chain(&keys.previous) {
            bytes.extend(key.name);
            bytes.extend(key.secret);
        }
        bytes
    }

    /// Makes a new current key where the one before has had its time. True when it did. One thread at a time.
    ///
    /// # Errors
    /// The system gives no random bytes; the keys stay.
    pub fn rotate(&self, now: u64) -> Result<bool, NoRandom> {
        let keys = self.0.load();
        let age = age(keys.since, now);
        if age.is_some_and(|age| age < ROTATION.as_secs()) {
            return Ok(false);
        }
        // A clock that was set back says nothing of the key's age: it counts as old.
        let still_good = age.is_none_or(|age| age < 2 * ROTATION.as_secs());
        let previous = still_good.then(|| keys.current.clone());
        self.0.store(Keys { since: now, current: Key::new()?, previous }.into());
        Ok(true)
    }
}

/// Seconds from `since` to `now`; none when that is in the future.
fn age(since: u64, now: u64) -> Option<u64> {
    now.checked_sub(since)
}

impl Key {
    fn new() -> Result<Key, NoRandom> {
        let mut key = Key { name: [0; NAME], secret: [0; SECRET] };
        rand::fill(&mut key.name).and_then(|()| rand::fill(&mut key.secret)).map_err(|_| NoRandom)?;
        Ok(key)
    }

    /// None for a secret that nobody drew.
    fn from_bytes(bytes: &[u8; KEY]) -> Option<Key> {
        let (name, secret) = bytes.split_first_chunk()?;
        let secret: [u8; SECRET] = secret.try_into().ok()?;
        (secret != [0; SECRET]).then_some(Key { name: *name, secret })
    }

    fn aead(&self) -> Option<RandomizedNonceKey> {
        RandomizedNonceKey::new(&AES_256_GCM_SIV, &self.secret).ok()
    }

    fn seal(&self, state: &[u8]) -> Option<Vec<u8>> {
        let mut sealed = state.to_vec();
        let nonce = self.aead()?.seal_in_place_append_tag(Aad::from(&self.name), &mut sealed).ok()?;
        Some([&self.name, nonce.as_ref().as_slice(), &sealed].concat())
    }

    fn open(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) = ticket.strip_prefix(&self.name)?.split_first_chunk::<NONCE_LEN>()?;
        let mut state = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let length = self.aead()?.open_in_place(nonce, Aad::from(&self.name), &mut state).ok()?.len();
        state.truncate(length);
        Some(state)
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        u32::try_from(2 * ROTATION.as_secs()).expect("half a day")
    }

    fn encrypt(&self, state: &[u8]) -> Option<Vec<u8>> {
        self.0.load().current.seal(state)
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let keys = self.0.load();
        keys.current.open(ticket).or_else(|| keys.previous.as_ref()?.open(ticket))
    }
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tickets").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;
    const HALF: u64 = ROTATION.as_secs();

    fn tickets() -> Tickets {
        Tickets::new(NOW).expect("random bytes")
    }

    #[test]
    fn what_was_sealed_opens_here_and_in_the_next_run_alone() {
        let one = tickets();
        let ticket = one.encrypt(b"state").expect("sealed");
        assert_ne!(one.encrypt(b"state").expect("sealed"), ticket);
        assert_eq!(one.decrypt(&ticket).as_deref(), Some(&b"state"[..]));
        let next = Tickets::from_bytes(&one.to_bytes(), NOW + 5).expect("just written");
        assert_eq!(next.decrypt(&ticket).as_deref(), Some(&b"state"[..]));
        assert_eq!(tickets().decrypt(&ticket), None);
        for at in 0..ticket.len() {
            let mut forged = ticket.clone();
            forged[at] ^= 1;
            assert_eq!(next.decrypt(&forged), None, "byte {at}");
            assert_eq!(next.decrypt(&ticket[..at]), None);
        }
    }

    #[test]
    fn keys_rotate_and_end() {
        let tickets = tickets();
        let first = tickets.encrypt(b"first").expect("sealed");
        assert!(!tickets.rotate(NOW + HALF - 1).expect("random bytes"));
        assert!(tickets.rotate(NOW + HALF).expect("random bytes"));
        let second = tickets.encrypt(b"second").expect("sealed");
        let next = Tickets::from_bytes(&tickets.to_bytes(), NOW + HALF + 1).expect("just written");
        for tickets in [&tickets, &next] {
            assert!(tickets.decrypt(&first).is_some() && tickets.decrypt(&second).is_some());
            assert!(tickets.rotate(NOW + 2 * HALF).expect("random bytes"));
            assert!(tickets.decrypt(&first).is_none() && tickets.decrypt(&second).is_some());
            assert!(tickets.rotate(NOW + 9 * HALF).expect("random bytes"));
            assert!(tickets.decrypt(&second).is_none());
        }
    }

    #[test]
    fn a_clock_that_was_set_back_lets_keys_rotate() {
        let tickets = tickets();
        let ticket = tickets.encrypt(b"state").expect("sealed");
        assert!(tickets.rotate(NOW - 1000).expect("random bytes"));
        assert!(!tickets.rotate(NOW - 999).expect("random bytes"));
        assert!(tickets.decrypt(&ticket).is_some());
    }

    #[test]
    fn what_is_not_of_this_form_is_refused() {
        let bytes = tickets().to_bytes();
        assert!(Tickets::from_bytes(&bytes, NOW).is_some());
        let refused = |bytes: &[u8], now| Tickets::from_bytes(bytes, now).is_none();
        assert!(refused(&bytes, NOW + 2 * HALF), "too old");
        assert!(refused(&bytes, NOW - 1), "of the future");
        (0..bytes.len()).for_each(|length| assert!(refused(&bytes[..length], NOW), "{length}"));
        let key = &bytes[24..];
        assert!(refused(&[&bytes[..], key].concat(), NOW), "the same key twice");
        assert!(refused(&[&bytes[..], key, key].concat(), NOW));
        assert!(refused(&[&bytes[..24], &[0; KEY]].concat(), NOW), "no secret");
        let mut newer = bytes.clone();
        newer[15] = 2;
        assert!(refused(&newer, NOW), "another version");
        assert!(!format!("{:?}", tickets()).contains('['));
    }
}
