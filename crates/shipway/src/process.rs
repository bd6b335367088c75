//! Processes of ours: starting them, finding those that run, waiting for their end.

use crate::home::Owner;
use crate::problem::{Doing, Problem};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitIdStatus, pidfd_open, pidfd_send_signal, waitid,
};
use shipway_build::BuilderConfig;
use shipway_net::handover::{self, Listeners};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::unix::AsyncFd;

/// A log larger than this is put aside when its role starts.
const LOG_BYTES: u64 = 8 << 20;

/// Everything that a role is started with.
pub struct Launch {
    /// The role and its flags; what a running process is recognized by.
    pub arguments: Vec<OsString>,
    /// Sockets it inherits.
    pub listeners: Listeners,
    /// As whom; none for oneself.
    pub owner: Option<Owner>,
    /// Where its standard error goes.
    pub log: PathBuf,
    /// Its home and working directory.
    pub home: PathBuf,
}

impl Launch {
    /// Starts the role in a session of its own, from the very file that this process runs, whatever lies at its path by now.
    pub fn start(&self) -> Result<Process, Problem> {
        let role = self.arguments.first().map(|r| r.to_string_lossy().into_owned()).unwrap_or_default();
        let log = open_log(&self.log).doing(format!("opening {}", self.log.display()))?;
        let mut command = Command::new("/proc/self/exe");
        command.arg0("shipway").args(&self.arguments).current_dir("/");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        command.env_clear().envs(environment(&self.home));
        if let Some(owner) = self.owner {
            // Groups that root is in are left too: the standard library drops them with the uid.
            command.uid(owner.uid).gid(owner.gid);
        }
        handover::give(&mut command, &handover::borrowed(&self.listeners));
        // SAFETY: between fork and exec only setsid is called, which is async-signal-safe.
        #[allow(unsafe_code)]
        unsafe {
            command.pre_exec(|| Ok(rustix::process::setsid().map(drop)?));
        }
        let child = command.spawn().doing(format!("starting the {role}"))?;
        Process::of_pid(child.id()).doing(format!("watching the {role}"))
    }

    /// Whether process `pid` runs this executable with these arguments.
    pub fn is(&self, pid: u32) -> bool {
        let same_file = || {
            let (theirs, ours) = (fs::metadata(format!("/proc/{pid}/exe")).ok()?, fs::metadata("/proc/self/exe").ok()?);
            Some((theirs.dev(), theirs.ino()) == (ours.dev(), ours.ino()))
        };
        same_file() == Some(true) && arguments_of(pid).is_some_and(|arguments| arguments == self.arguments)
    }
}

/// What a role may know of the operator's environment: how to reach the outside, how much to log, nothing else.
fn environment(home: &Path) -> BTreeMap<OsString, OsString> {
    let mut kept: BTreeMap<OsString, OsString> = BuilderConfig::client_settings(
        std::env::vars_os().filter_map(|(n, v)| Some((n.into_string().ok()?, v.into_string().ok()?))),
    )
    .into_iter()
    .filter_map(|(name, value)| Some((name.into(), shipway_client::authorities_before(&value)?.into())))
    .collect();
    for name in ["PATH", "TZ", "SHIPWAY_LOG", "RUST_BACKTRACE"] {
        if let Some(value) = std::env::var_os(name) {
            kept.insert(name.into(), value);
        }
    }
    kept.entry("PATH".into()).or_insert("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into());
    kept.insert("HOME".into(), home.into());
    kept.insert("LANG".into(), "C.UTF-8".into());
    kept
}

fn open_log(path: &Path) -> io::Result<File> {
    if fs::metadata(path).is_ok_and(|meta| meta.len() > LOG_BYTES) {
        fs::rename(path, path.with_extension("log.old"))?;
    }
    File::options().create(true).append(true).mode(0o600).open(path)
}

/// The end of what a role has logged since its log had `from` bytes, for a message: at most `lines` lines.
pub fn last_lines(path: &Path, from: u64, lines: usize) -> Vec<String> {
    let read = || -> io::Result<String> {
        let mut file = File::open(path)?;
        let start = file.metadata()?.len().saturating_sub(16 << 10).max(from);
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_default();
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].iter().map(|line| (*line).to_owned()).collect()
}

/// A running process, a child of ours or not. Dropping it leaves it alone.
pub struct Process {
    pid: Pid,
    handle: AsyncFd<OwnedFd>,
}

impl Process {
    /// The one with this number. Errors: `NotFound` when there is no such process.
    pub fn of_pid(pid: u32) -> io::Result<Self> {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::NotFound)?;
        Ok(Self { pid, handle: handle(pid)? })
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Waits for its end and says how it came about. Can be cancelled and called again.
    pub async fn ended(&mut self) -> String {
        // A process handle becomes readable when the process has ended; errors cannot happen on an open one.
        let _ = self.handle.readable().await;
        // Only a parent may ask, and only once. Whether we are it is the kernel's to say: what replaces itself by another
        // program keeps its children.
        match waitid(WaitId::PidFd(self.handle.get_ref().as_fd()), WaitIdOptions::EXITED) {
            Ok(Some(status)) => exit_status(&status).to_string(),
            _ => "it ended".to_owned(),
        }
    }

    /// Asks it to end; kills it when it has not within `patience`.
    pub async fn end(&mut self, patience: Duration) {
        self.signal(Signal::TERM);
        if tokio::time::timeout(patience, self.ended()).await.is_err() {
            self.signal(Signal::KILL);
            self.ended().await;
        }
    }

    /// Kills it and waits until it is gone.
    pub async fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.ended().await;
    }

    fn signal(&self, signal: Signal) {
        // One that has ended meanwhile has done what was asked.
        let _ = pidfd_send_signal(self.handle.get_ref(), signal);
    }
}

/// In the words of the standard library. Source: wait(2), the layout of a status.
fn exit_status(status: &WaitIdStatus) -> ExitStatus {
    ExitStatus::from_raw(match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code << 8,
        (None, signal) => signal.unwrap_or_default(),
    })
}

/// A descriptor that becomes readable when the process has ended.
fn handle(pid: Pid) -> io::Result<AsyncFd<OwnedFd>> {
    let handle = pidfd_open(pid, PidfdFlags::empty())?;
    // SAFETY: an owned descriptor stays the same open file for as long as the registration holds it.
    #[allow(unsafe_code)]
    let registered = unsafe { AsyncFd::register(handle) };
    Ok(registered?)
}

/// The arguments of process `pid` after its name.
fn arguments_of(pid: u32) -> Option<Vec<OsString>> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let line = line.strip_suffix(b"\0").unwrap_or(&line);
    Some(line.split(|byte| *byte == 0).skip(1).map(|word| OsStr::from_bytes(word).to_owned()).collect())
}

/// Processes of `users` that play `role` for the data directory `home`, however they were started.
pub fn playing(role: &str, home: &Path, users: &[u32]) -> Vec<u32> {
    let wanted: [&OsStr; 3] = [OsStr::new(role), OsStr::new("--home"), home.as_os_str()];
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| *pid != std::process::id())
        .filter(|pid| fs::metadata(format!("/proc/{pid}")).is_ok_and(|meta| users.contains(&meta.uid())))
        .filter(|pid| arguments_of(*pid).is_some_and(|arguments| arguments.iter().take(3).eq(wanted.iter())))
        .collect()
}
