//! Undoing what the runtime did to the machine.

use crate::cgroup::Controllers;
use crate::config::Network;
use crate::record::Directory;
use crate::wire::{self, Request};
use std::io;
use std::path::Path;
use std::time::Duration;

/// How long a dyno may take to end. Its disk is written out first, which other writers of the machine hold up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Ends every dyno of a data directory and removes what was made for them on the machine: control groups, the nftables
/// table, the services address, the dynos' directories. Cables, disks and mounts go with the dynos. The spawner must
/// not run any more. Can be repeated. IPv4 forwarding is turned off again if it was off before the first spawner.
///
/// Errors: the first thing that could not be removed, after everything was tried.
pub fn purge(home: &Path) -> io::Result<()> {
    let mut first_error = Ok(());
    let mut keep = |result: io::Result<()>| {
        if first_error.is_ok() {
            first_error = result;
        }
    };
    for directory in Directory::all(home)? {
        if let Ok(shim) = wire::connect(&directory.socket()) {
            keep(shim.set_read_timeout(Some(PATIENCE)));
            let gone = wire::say(&shim, &Request::Kill).and_then(|()| io::copy(&mut &shim, &mut io::sink()));
            // A shim that ends while it is spoken to has done what was asked.
            if let Err(e) = gone
                && e.kind() == io::ErrorKind::WouldBlock
            {
                keep(Err(e));
            }
        }
        keep(directory.remove());
    }
    let disks = home.join("run/disks");
    if disks.exists() {
        keep(std::fs::remove_dir_all(disks));
    }
    if nix::unistd::geteuid().is_root() {
        let network = Network::of(home);
        keep(Controllers::find().purge(network));
        keep(network.purge(home).map_err(io::Error::other));
    }
    first_error
}
