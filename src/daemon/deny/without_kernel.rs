//! Stands for the deny list in the kernel where the program was built without it.

use std::{io, net::SocketAddr, sync::Arc};

use crate::{cli::run::RunOptions, snapshot::deny::DenyList};

#[derive(Clone, Default)]
pub struct Kernel;

/// What there is to say of it.
pub struct Told {
    pub path: String,
    pub dropped: u64,
}

impl Kernel {
    pub fn start(_options: &RunOptions) -> io::Result<Kernel> {
        Ok(Kernel)
    }

    pub fn replace(&self, _list: Arc<DenyList>) {}

    pub fn listen(&self, _tcp: impl Iterator<Item = SocketAddr>, _udp: impl Iterator<Item = SocketAddr>) {}

    pub fn told(&self) -> Told {
        Told { path: "user space (this program was built without the kernel path)".to_owned(), dropped: 0 }
    }

    pub fn end(&self) {}
}
