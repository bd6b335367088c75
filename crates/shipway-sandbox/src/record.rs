//! What a shim leaves in `run/dynos/<dyno-id>/`, and what its directory says about it.
//!
//! | file | means |
//! |---|---|
//! | `record.json` | the dyno was started |
//! | `shim.sock` | answers: its shim lives |
//! | `exit.json` | it has ended |
//!
//! A record without an exit whose socket is dead is a lost dyno. The environment is in none of them.

use crate::cgroup::Kind;
use crate::wire;
use serde::{Deserialize, Serialize};
use shipway_domain::DynoId;
use shipway_runtime::{Exit, ExitCause, Observation};
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

/// A started dyno.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) observation: Observation,
    /// The shim's pid, for people who look.
    pub(crate) shim: u32,
    /// Its control group, on the root tier.
    pub(crate) group: Option<String>,
    /// Its own address, and what it may reach from there besides what all dynos may.
    #[serde(default)]
    pub(crate) grants: Option<(Ipv4Addr, Vec<u16>)>,
}

/// A dyno's directory.
#[derive(Debug, Clone)]
pub(crate) struct Directory(pub(crate) PathBuf);

impl Directory {
    pub(crate) fn new(home: &Path, dyno: DynoId) -> Self {
        Self(home.join("run/dynos").join(dyno.to_string()))
    }

    /// All dynos' directories.
    pub(crate) fn all(home: &Path) -> io::Result<Vec<Self>> {
        let entries = match std::fs::read_dir(home.join("run/dynos")) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut all: Vec<_> = entries.filter_map(|e| e.ok().map(|e| e.path())).collect();
        all.sort();
        Ok(all.into_iter().map(Self).collect())
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.0.join("shim.sock")
    }

    /// Makes the directory, the server's, empty.
    pub(crate) fn make(&self, uid: u32, gid: u32) -> io::Result<()> {
        if let Some(parent) = self.0.parent() {
            std::fs::create_dir_all(parent)?;
        }
        self.remove()?;
        std::fs::DirBuilder::new().create(&self.0)?;
        std::fs::set_permissions(&self.0, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
        wire::own(&self.0, uid, gid)
    }

    /// Removes the directory with what the dyno left in it. Not being there is no error.
    pub(crate) fn remove(&self) -> io::Result<()> {
        shipway_runtime::remove_tree(&self.0)
    }

    pub(crate) fn write_record(&self, record: &Record) -> io::Result<()> {
        self.write("record.json", &serde_json::to_vec(record)?, false)
    }

    /// Written durably: a machine that goes down afterwards still knows how the dyno ended.
    pub(crate) fn write_exit(&self, exit: &Exit) -> io::Result<()> {
        self.write("exit.json", &serde_json::to_vec(exit)?, true)
    }

    fn write(&self, name: &str, bytes: &[u8], durable: bool) -> io::Result<()> {
        let new = self.0.join(format!("{name}.new"));
        std::fs::write(&new, bytes)?;
        // The server may not be root.
        std::fs::set_permissions(&new, std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
        if durable {
            std::fs::File::open(&new)?.sync_all()?;
        }
        std::fs::rename(&new, self.0.join(name))?;
        if durable {
            std::fs::File::open(&self.0)?.sync_all()?;
        }
        Ok(())
    }

    /// What the directory says now; none while the dyno was not started, or when it was removed.
    pub(crate) fn observe(&self) -> io::Result<Option<Observation>> {
        let Some(Record { mut observation, .. }) = self.read::<Record>("record.json")? else { return Ok(None) };
        observation.exit = self.exit()?;
        if observation.exit.is_none() && wire::connect(&self.socket()).is_err() {
            // It may have ended between the two looks.
            observation.exit = self.exit()?.or(Some(LOST));
        }
        Ok(Some(observation))
    }

    /// The dyno's control group, where it has one.
    pub(crate) fn group(&self) -> io::Result<Option<String>> {
        Ok(self.read::<Record>("record.json")?.and_then(|record| record.group))
    }

    /// Its own address with the ports of the services address that it was given; none when it has ended or has none.
    pub(crate) fn grants(&self) -> io::Result<Option<(Ipv4Addr, Vec<u16>)>> {
        let grants = self.read::<Record>("record.json")?.and_then(|record| record.grants);
        Ok(grants.filter(|_| matches!(self.exit(), Ok(None))))
    }

    /// Which build it is; none when it is none, or has ended.
    pub(crate) fn running_build(&self) -> io::Result<Option<DynoId>> {
        let record = self.read::<Record>("record.json")?;
        let is_build = |record: &Record| record.group.as_deref().map(Kind::of) == Some(Kind::Build);
        Ok(record.filter(is_build).filter(|_| matches!(self.exit(), Ok(None))).map(|record| record.observation.dyno))
    }

    pub(crate) fn exit(&self) -> io::Result<Option<Exit>> {
        self.read("exit.json")
    }

    /// A file whose name reached the disk before a power cut and whose bytes did not is as good as none: empty or zeros,
    /// by file system. Whatever it was about went with the machine.
    fn read<T: serde::de::DeserializeOwned>(&self, name: &str) -> io::Result<Option<T>> {
        match std::fs::read(self.0.join(name)) {
            Ok(bytes) if bytes.iter().all(|byte| *byte == 0) => Ok(None),
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }
}

/// The exit of a dyno whose shim left none. 137: what killed the shim killed the dyno.
pub(crate) const LOST: Exit = Exit { status: 137, cause: ExitCause::Lost };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attack_40_records_that_a_power_cut_emptied_are_none() {
        let home = std::env::temp_dir().join(format!("shipway-record-{}", std::process::id()));
        let directory = Directory(home.join("run/dynos/one"));
        std::fs::create_dir_all(&directory.0).unwrap();
        for bytes in [&b""[..], &[0; 300]] {
            std::fs::write(directory.0.join("record.json"), bytes).unwrap();
            std::fs::write(directory.0.join("exit.json"), bytes).unwrap();
            assert!(directory.observe().unwrap().is_none());
            assert!(directory.exit().unwrap().is_none());
        }
        // What does not parse for another reason may be about a dyno that runs: nothing is started over it.
        std::fs::write(directory.0.join("record.json"), "{").unwrap();
        assert!(directory.observe().is_err());
        std::fs::remove_dir_all(&home).unwrap();
    }
}
