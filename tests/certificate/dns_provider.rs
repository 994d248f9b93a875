//! Doubles of the APIs of DNS providers.
