//! Process 1 of a dyno. Runs between a fork and an exec, single-threaded.

use super::rootfs::{self, Parts};
use super::{Ends, Spec, seccomp};
use crate::config::UidBlock;
use crate::shim::command;
use crate::wire::{self, Doing, Failure};
use nix::errno::Errno;
use nix::sched::CloneFlags;
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Gid, Pid, Uid};
use std::ffi::CString;
use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

/// Builds the sandbox around itself, starts the dyno and looks after it; never returns.
pub(super) fn run(spec: &Spec<'_>, owners: &OwnedFd, resolvers: &[Ipv4Addr], ends: Ends, mut shim: UnixStream) -> ! {
    let first = prepare(spec, owners, resolvers, ends, &mut shim).and_then(|ends| {
        // SAFETY: single-threaded, so the child may do anything.
        match unsafe { nix::unistd::fork() }.doing(|| "forking the first process".into())? {
            ForkResult::Parent { child } => Ok(child),
            ForkResult::Child => {
                let failure = match become_first(spec, ends) {
                    Ok(never) => match never {},
                    Err(failure) => failure,
                };
                let _ = wire::say(&shim, &failure);
                std::process::exit(127)
            }
        }
    });
    match first {
        Ok(first) => {
            drop(shim);
            look_after(first)
        }
        Err(failure) => {
            let _ = wire::say(&shim, &failure);
            std::process::exit(1)
        }
    }
}

fn prepare(
    spec: &Spec<'_>,
    owners: &OwnedFd,
    resolvers: &[Ipv4Addr],
    ends: Ends,
    shim: &mut UnixStream,
) -> Result<[OwnedFd; 3], Failure> {
    let waiting = || "waiting for the shim".to_owned();
    let mut word = [0];
    nix::sched::unshare(CloneFlags::CLONE_NEWCGROUP).doing(|| "parting the control groups".into())?;
    nix::sched::setns(spec.namespace, CloneFlags::CLONE_NEWNET).doing(|| "entering the network".into())?;
    nix::unistd::sethostname(super::etc::hostname(&spec.plan.name)).doing(|| "naming the host".into())?;
    rootfs::enter(&Parts {
        plan: spec.plan,
        config: spec.config,
        block: spec.block,
        disk: spec.disk,
        owners,
        address: spec.address,
        resolvers,
        staging: spec.staging,
    })?;
    let terminal = match &ends {
        Ends::Terminal(columns, lines) => Some(terminal(*columns, *lines)?),
        Ends::Files(_) => None,
    };
    nix::sched::unshare(CloneFlags::CLONE_NEWUSER).doing(|| "entering the app's user namespace".into())?;
    shim.write_all(b"u").doing(waiting)?;
    shim.read_exact(&mut word).doing(waiting)?;
    nix::unistd::setgroups(&[]).doing(|| "leaving the groups".into())?;
    let (root, group) = (Uid::from_raw(0), Gid::from_raw(0));
    nix::unistd::setresgid(group, group, group).doing(|| "becoming root's group inside".into())?;
    nix::unistd::setresuid(root, root, root).doing(|| "becoming root inside".into())?;
    // After the change of user, which would undo both: nobody inside looks into us, and we go with the shim.
    nix::sys::prctl::set_dumpable(false).doing(|| "hiding from the dyno".into())?;
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).doing(|| "tying the dyno to its shim".into())?;
    match (ends, terminal) {
        (_, Some((near, far))) => {
            wire::send_fds(shim, &[near.as_raw_fd()]).doing(|| "handing the terminal over".into())?;
            let copy = || far.try_clone().doing(|| "copying the terminal".into());
            Ok([copy()?, copy()?, far])
        }
        (Ends::Files(files), _) => Ok(files),
        (Ends::Terminal(..), None) => Err(Failure::new("making a terminal", "there is none")),
    }
}

/// A terminal of the dyno's own `/dev/pts`: near and far end.
fn terminal(columns: u16, lines: u16) -> Result<(OwnedFd, OwnedFd), Failure> {
    use rustix::fs::{Mode, OFlags};
    let doing = || "making a terminal".to_owned();
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let near = rustix::fs::open("/dev/pts/ptmx", flags, Mode::empty()).doing(doing)?;
    rustix::pty::unlockpt(&near).doing(doing)?;
    let name = rustix::pty::ptsname(&near, Vec::new()).doing(doing)?;
    let far = rustix::fs::open(name.as_c_str(), flags, Mode::empty()).doing(doing)?;
    crate::shim::set_size(&near, columns, lines).doing(doing)?;
    Ok((near, far))
}

/// Becomes the dyno's first process.
fn become_first(spec: &Spec<'_>, ends: [OwnedFd; 3]) -> Result<std::convert::Infallible, Failure> {
    let doing = || "entering the sandbox".to_owned();
    nix::unistd::setsid().doing(doing)?;
    let [input, output, error] = &ends;
    if nix::unistd::isatty(input).unwrap_or(false) {
        // SAFETY: takes a plain integer.
        if unsafe { libc::ioctl(input.as_raw_fd(), libc::TIOCSCTTY, 0) } != 0 {
            return Err(Failure::new("taking the terminal", std::io::Error::last_os_error()));
        }
    }
    nix::unistd::dup2_stdin(input.as_fd()).doing(doing)?;
    nix::unistd::dup2_stdout(output.as_fd()).doing(doing)?;
    nix::unistd::dup2_stderr(error.as_fd()).doing(doing)?;
    let (uid, gid) = (Uid::from_raw(UidBlock::INSIDE), Gid::from_raw(UidBlock::INSIDE));
    drop_bounding_set();
    nix::unistd::setresgid(gid, gid, gid).doing(doing)?;
    // From 0 to another user: every capability goes.
    nix::unistd::setresuid(uid, uid, uid).doing(doing)?;
    let directory = command::working_directory(spec.plan);
    std::env::set_current_dir(directory).doing(|| format!("entering {directory}"))?;
    restore_signals().doing(doing)?;
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    let _ = nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_CORE, 0, 0);
    let c_string = |text: String| CString::new(text).doing(|| "reading the command and its environment".into());
    let profile = spec.plan.profile && command::has_profile(std::path::Path::new("/app"));
    let argv: Vec<CString> =
        command::argv(&spec.plan.command, profile).into_iter().map(c_string).collect::<Result<_, _>>()?;
    let env: Vec<CString> =
        spec.environment.iter().map(|(name, value)| c_string(format!("{name}={value}"))).collect::<Result<_, _>>()?;
    seccomp::confine().doing(|| "limiting the system calls".into())?;
    nix::unistd::execve(&argv[0], &argv, &env).doing(|| "running bash".into())
}

/// A dyno has no capability and can never get one; the bounding set makes it a fact of three kinds.
fn drop_bounding_set() {
    for capability in 0..64 {
        // SAFETY: plain integers; an unknown capability is refused.
        unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
    }
}

/// Signals as a program expects them: none blocked, SIGPIPE as it was before Rust's runtime.
pub(crate) fn restore_signals() -> nix::Result<()> {
    // SAFETY: no handler is installed, only defaults.
    unsafe { nix::sys::signal::signal(Signal::SIGPIPE, SigHandler::SigDfl) }?;
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)
}

/// Waits for processes until the first one has ended, or, once everybody was asked to stop, until all have.
fn look_after(first: Pid) -> ! {
    // Only these two can reach process 1 from outside; blocked signals wait for us instead of being lost.
    let signals: SigSet = [Signal::SIGTERM, Signal::SIGCHLD].into_iter().collect();
    let _ = signals.thread_block();
    // The shim's descriptors (its log, its sockets) are not for us to keep open.
    // SAFETY: closes descriptors that nothing in this process uses any more.
    unsafe { libc::close_range(0, libc::c_uint::MAX, 0) };
    let mut status = None;
    let mut stopping = false;
    loop {
        loop {
            let ended = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => Some((pid, code)),
                Ok(WaitStatus::Signaled(pid, signal, _)) => Some((pid, 128 + signal as i32)),
                Ok(WaitStatus::StillAlive) => break,
                Err(Errno::ECHILD) => std::process::exit(status.unwrap_or(137)),
                _ => None,
            };
            if let Some((_, code)) = ended.filter(|(pid, _)| *pid == first) {
                status = Some(code);
            }
        }
        if let Some(status) = status.filter(|_| !stopping) {
            std::process::exit(status);
        }
        if signals.wait() == Ok(Signal::SIGTERM) {
            stopping = true;
            let _ = nix::sys::signal::kill(Pid::from_raw(-1), Signal::SIGTERM);
        }
    }
}
