//! What server, spawner and shims say to each other: one JSON value per line, file descriptors beside it.

use crate::config::Config;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, getsockopt, recvmsg, sendmsg, sockopt,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use shipway_domain::DynoId;
use shipway_runtime::{Capabilities, DynoPlan, Exit, Observation, Usage};
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

/// The longest line that is read: a plan with the largest environment that the platform admits fits many times.
pub(crate) const MAX_LINE: usize = 4 << 20;

/// What the server asks of the spawner. One per connection.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Order {
    Hello,
    Start(Box<DynoPlan>),
    Remove(DynoId),
    /// The TCP ports of the services address that dynos may reach from now on.
    Services(Vec<u16>),
}

/// What the spawner answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    Hello(Greeting),
    Started(Observation),
    Done,
    Failed(Failure),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Greeting {
    pub(crate) config: Config,
    pub(crate) services: Option<Ipv4Addr>,
    pub(crate) can: Can,
}

/// What differs between machines of one tier.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Can {
    pub(crate) memory: bool,
    pub(crate) pids: bool,
    pub(crate) cpu: bool,
}

/// Why something could not be done, in a form that crosses processes.
#[derive(Debug, Clone, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Failure {
    #[error("layer {0} is missing")]
    MissingLayer(shipway_domain::Digest),
    #[error("{doing}: {why}")]
    Machine { doing: String, why: String },
}

impl Failure {
    pub(crate) fn new(doing: impl Into<String>, why: impl std::fmt::Display) -> Self {
        Self::Machine { doing: doing.into(), why: why.to_string() }
    }
}

/// Adds what was being done to an error of the machine.
pub(crate) trait Doing<T> {
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T, Failure>;
}

impl<T, E: std::fmt::Display> Doing<T> for Result<T, E> {
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(|why| Failure::new(doing(), why))
    }
}

/// What a shim is told first, on its standard input, before anybody knows which dyno it will have. It answers
/// [`Answer::Done`] when it is ready for its [`Launch`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Prepare {
    pub(crate) config: Config,
    /// The control group of its dyno.
    pub(crate) group: String,
}

/// Everything else that a shim is told, on its standard input; the network and the disk come as descriptors beside it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Launch {
    pub(crate) plan: DynoPlan,
    /// The dyno's own address, when a network came along.
    pub(crate) address: Option<Ipv4Addr>,
    /// The port to listen on, when the plan wants one.
    pub(crate) port: u16,
}

/// What the server asks of a shim. One per connection.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Request {
    /// Answered when the dyno has ended.
    Wait,
    Stop,
    /// SIGKILL at once, and no lingering for a reader of output. Asked by the spawner before a removal.
    Kill,
    Listeners,
    Usage,
    /// Answered by [`Reply::Done`]; what follows on the connection is the stream itself.
    Attach,
    Resize(u16, u16),
}

/// What a shim answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reply {
    Ended(Exit),
    Listeners(Vec<SocketAddr>),
    Usage(Usage),
    Done,
    Refused(String),
}

/// Writes a value as a line.
pub(crate) fn say<T: Serialize>(mut to: impl Write, value: &T) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    to.write_all(&line)
}

/// Reads a value from a line. `UnexpectedEof` when the other side said nothing.
pub(crate) fn hear<T: DeserializeOwned>(mut from: impl Read) -> io::Result<T> {
    let mut line = Vec::new();
    let mut chunk = [0; 4096];
    while !line.ends_with(b"\n") {
        match from.read(&mut chunk)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => line.extend_from_slice(&chunk[..n]),
        }
        if line.len() > MAX_LINE {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the line is too long"));
        }
    }
    Ok(serde_json::from_slice(&line)?)
}

/// Sends descriptors beside one byte.
pub(crate) fn send_fds(socket: &impl AsRawFd, fds: &[RawFd]) -> io::Result<()> {
    let byte = [fds.len() as u8];
    let rights = [ControlMessage::ScmRights(fds)];
    let control = if fds.is_empty() { &rights[..0] } else { &rights[..] };
    sendmsg::<UnixAddr>(socket.as_raw_fd(), &[IoSlice::new(&byte)], control, MsgFlags::empty(), None)?;
    Ok(())
}

/// Receives what [`send_fds`] sent, at most four.
pub(crate) fn receive_fds(socket: &impl AsRawFd) -> io::Result<Vec<OwnedFd>> {
    let mut byte = [0];
    let mut space = nix::cmsg_space!([RawFd; 4]);
    let mut data = [IoSliceMut::new(&mut byte)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<UnixAddr>(socket.as_raw_fd(), &mut data, Some(&mut space), flags)?;
    let mut fds = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(received) = control {
            // SAFETY: the kernel has just made these descriptors for this process; nobody else owns them.
            fds.extend(received.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    if message.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    if fds.len() != usize::from(byte[0]) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "descriptors got lost on the way"));
    }
    Ok(fds)
}

/// Whether the process at the other end is root or the given user.
pub(crate) fn peer_is(socket: &impl AsFd, uid: u32) -> bool {
    getsockopt(socket, sockopt::PeerCredentials).is_ok_and(|peer| peer.uid() == 0 || peer.uid() == uid)
}

/// Listens at `path`, replacing a socket that a dead process left, reachable by `uid` and root alone.
pub(crate) fn listen(path: &Path, uid: u32, gid: u32) -> io::Result<UnixListener> {
    let (_directory, short) = short_path(path)?;
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let listener = UnixListener::bind(&short)?;
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    own(path, uid, gid)?;
    Ok(listener)
}

/// Connects to the socket at `path`.
pub(crate) fn connect(path: &Path) -> io::Result<UnixStream> {
    let (_directory, short) = short_path(path)?;
    UnixStream::connect(&short)
}

/// Gives a file to the server, where we may.
pub(crate) fn own(path: &Path, uid: u32, gid: u32) -> io::Result<()> {
    if nix::unistd::geteuid().is_root() { std::os::unix::fs::chown(path, Some(uid), Some(gid)) } else { Ok(()) }
}

/// A socket's path has room for 107 bytes, a data directory's may be longer: go through its open directory.
pub(crate) fn short_path(path: &Path) -> io::Result<(std::fs::File, std::path::PathBuf)> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let directory = std::fs::File::open(directory)?;
    let short = std::path::PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd())).join(name);
    Ok((directory, short))
}

/// What a tier promises, given what the machine has.
pub(crate) fn capabilities(greeting: &Greeting) -> Capabilities {
    use shipway_runtime::MemoryLimit;
    match greeting.config.tier {
        crate::Tier::Root => Capabilities {
            tier: "root",
            own_network: true,
            neighbours_blocked: true,
            memory: if greeting.can.memory { MemoryLimit::Hard } else { MemoryLimit::Watched },
            pids: greeting.can.pids,
            disk: true,
            uid_per_app: true,
            cpu: greeting.can.cpu,
            pty: true,
            files_hidden: true,
        },
        crate::Tier::Bwrap => Capabilities {
            tier: "bwrap",
            own_network: false,
            neighbours_blocked: false,
            memory: MemoryLimit::Watched,
            pids: greeting.can.pids,
            disk: false,
            uid_per_app: false,
            cpu: false,
            pty: true,
            files_hidden: true,
        },
    }
}
