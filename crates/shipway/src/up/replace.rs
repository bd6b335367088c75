//! An upgrade of `up` itself: the same process goes on as the program that lies at its path by now.
//!
//! Whoever supervises us, such as systemd or `bin/up`, sees one process that never ends; the roles stay our children. The
//! road not taken is a second `up` beside the first: it would have another process id, and two would hold the lock.

use crate::problem::{Doing, Problem};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use shipway_net::handover::{self, LISTENERS_VARIABLE, Listeners};
use std::env;
use std::fmt::Display;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

/// The sockets that the program before us kept open; none at an ordinary start. Call it once, before anything is opened.
pub fn kept() -> Result<Listeners, Problem> {
    let named = env::var(LISTENERS_VARIABLE).unwrap_or_default();
    handover::inherit(&named).doing("taking the listening sockets over")
}

/// The program at our path: ourselves now, something newer once it was put there.
pub struct Successor {
    path: PathBuf,
}

impl Successor {
    /// Remembers the path by which we were started. Call it early: once the file is replaced, the kernel knows us by
    /// another name.
    pub fn at_our_path() -> Result<Self, Problem> {
        let finding = "finding our own program";
        let name = PathBuf::from(env::args_os().next().unwrap_or_default());
        // A name without a directory was looked up in PATH, which may have changed since.
        let path = match name.components().count() {
            0 | 1 => env::current_exe(),
            _ => std::path::absolute(name),
        };
        Ok(Self { path: path.doing(finding)? })
    }

    /// Becomes it, with the same arguments, and leaves it `listeners`. Returns only when it cannot be run: nothing has
    /// changed then.
    pub fn take_over(&self, listeners: &Listeners) -> Problem {
        if let Err(problem) = self.try_out() {
            return problem;
        }
        tracing::info!(program = %self.path.display(), "upgrading: going on as the program at our path");
        let mut command = Command::new(&self.path);
        command.args(env::args_os().skip(1));
        handover::give(&mut command, &handover::borrowed(listeners));
        // A second request that comes before the successor listens would end it.
        let ignored = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
        // SAFETY: ignoring a signal runs no code of ours; the handler that is put back is the one that was there.
        #[allow(unsafe_code)]
        let handler = unsafe { sigaction(Signal::SIGUSR2, &ignored) };
        let error = command.exec();
        if let Ok(handler) = handler {
            // SAFETY: as above.
            #[allow(unsafe_code)]
            let _ = unsafe { sigaction(Signal::SIGUSR2, &handler) };
        }
        self.cannot_be_run(error)
    }

    /// Has it say its version. Half a file, or one for another machine or libc, would be started and only then fail: as a
    /// script for the shell, or in the loader.
    fn try_out(&self) -> Result<(), Problem> {
        let output = Command::new(&self.path).arg("--version").output().map_err(|error| self.cannot_be_run(error))?;
        match output.status.success() && output.stdout.starts_with(b"shipway ") {
            true => Ok(()),
            false => Err(self.cannot_be_run("asked for its version, it does not say that it is Shipway")),
        }
    }

    fn cannot_be_run(&self, why: impl Display) -> Problem {
        Problem::new(format!("{} cannot be run: {why}", self.path.display()))
    }
}
