//! The sandbox of the `root` tier: made by the single-threaded shim with plain system calls.
//!
//! The shim forks the dyno's *init* into new namespaces. It builds the root file system while it is still root on the
//! host, moves into a user namespace of the app's uid block, forks the dyno's first process and stays as process 1:
//! it reaps, passes SIGTERM to every process, and ends with the first one's status.

pub(crate) mod etc;
mod init;
pub(crate) mod mount;
pub(crate) mod rootfs;
mod seccomp;

use crate::config::{Config, UidBlock};
use crate::wire::{self, Doing, Failure};
use shipway_runtime::DynoPlan;
use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

/// Where the dyno's first process reads and writes.
#[derive(Debug)]
pub(crate) enum Ends {
    /// Standard input, output and error.
    Files([OwnedFd; 3]),
    /// A terminal, made inside: columns and lines.
    Terminal(u16, u16),
}

impl Ends {
    /// Gives pipes to the app's user: opening `/dev/stdout` opens the pipe anew, which its owner alone may. A terminal is
    /// the app's already, and what else there is stays the host's.
    pub(crate) fn give_to(&self, block: UidBlock) -> Result<(), Failure> {
        let Ends::Files(files) = self else { return Ok(()) };
        let owner = block.outside();
        for file in files {
            let doing = || "giving the dyno its output".to_owned();
            let kind = rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(file).doing(doing)?.st_mode);
            if kind == rustix::fs::FileType::Fifo {
                let (uid, gid) = (rustix::fs::Uid::from_raw(owner), rustix::fs::Gid::from_raw(owner));
                rustix::fs::fchown(file, Some(uid), Some(gid)).doing(doing)?;
            }
        }
        Ok(())
    }
}

/// What a sandbox is made of.
pub(crate) struct Spec<'a> {
    pub(crate) plan: &'a DynoPlan,
    pub(crate) config: &'a Config,
    pub(crate) block: UidBlock,
    pub(crate) namespace: &'a OwnedFd,
    pub(crate) disk: &'a OwnedFd,
    pub(crate) address: Option<Ipv4Addr>,
    pub(crate) staging: &'a Path,
    pub(crate) environment: Vec<(String, String)>,
}

/// A dyno's first process exists.
pub(crate) struct Started {
    /// The init's pid, as the host sees it.
    pub(crate) init: u32,
    /// The terminal's near end.
    pub(crate) terminal: Option<OwnedFd>,
}

/// Makes the sandbox and starts the dyno in it.
///
/// Errors: what was being done when the machine refused; nothing is left then.
pub(crate) fn start(spec: &Spec<'_>, ends: Ends) -> Result<Started, Failure> {
    let owners = rootfs::owners_of(spec.config, spec.block)?;
    let resolvers = crate::network::resolvers();
    let (mut ours, theirs) = UnixStream::pair().doing(|| "making a socket pair".into())?;
    let flags = libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS | libc::SIGCHLD;
    let is_terminal = matches!(ends, Ends::Terminal(..));
    // SAFETY: a fork of a single-threaded process; the child never returns from `init::run`.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
    if pid == 0 {
        drop(ours);
        init::run(spec, &owners, &resolvers, ends, theirs);
    }
    if pid < 0 {
        return Err(Failure::new("forking the dyno", std::io::Error::last_os_error()));
    }
    drop((theirs, ends));
    let init = pid as u32;
    let mut guide = || {
        // Each word lets it go on; silence means that it failed and says why.
        let doing = || "starting the dyno's first process".to_owned();
        let mut word = [0];
        if ours.read(&mut word).doing(doing)? == 1 && word == *b"u" {
            let map = format!("0 {} {}\n", spec.block.base, UidBlock::SIZE);
            for kind in ["uid", "gid"] {
                std::fs::write(format!("/proc/{init}/{kind}_map"), &map).doing(|| format!("mapping {kind}s"))?;
            }
            ours.write_all(b"m").doing(doing)?;
            word = *b"-";
        }
        let mut terminal = None;
        if word == *b"-" && is_terminal {
            terminal = wire::receive_fds(&ours).doing(|| "receiving the terminal".into())?.pop();
        }
        // The first word of a failure may have been read already.
        let mut rest = if word == *b"{" { word.to_vec() } else { Vec::new() };
        ours.read_to_end(&mut rest).doing(doing)?;
        if rest.is_empty() {
            return Ok(Started { init, terminal });
        }
        Err(serde_json::from_slice(&rest).unwrap_or_else(|e| Failure::new(doing(), e)))
    };
    let started: Result<Started, Failure> = guide();
    if started.is_err() {
        let pid = nix::unistd::Pid::from_raw(init as i32);
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::SIGKILL);
        let _ = nix::sys::wait::waitpid(pid, None);
    }
    started
}
