//! The contract between the engine and whatever runs processes.
//!
//! A [`DynoPlan`] names artifacts by digest and mounts by meaning, never host paths or pids; an [`Observation`] returns
//! endpoints and an exit. Drivers live elsewhere and say what they can in [`Capabilities`]; the suite in
//! `conformance` asks those, not the driver's name.

pub mod conformance;
pub mod fake;
mod trees;

pub use trees::remove_tree;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use shipway_domain::size::DynoSize;
use shipway_domain::{AppId, BuildId, Digest, DynoId};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use tokio::io::{AsyncRead, AsyncWrite};

/// Everything that is needed to start one dyno. Serializable, because the spawner and the shim read it from a socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DynoPlan {
    /// Chosen by the engine; starting the same id twice starts one dyno.
    pub dyno: DynoId,
    /// Whose dyno it is. All dynos of an app share a block of uids, dynos of two apps never do.
    pub app: AppId,
    /// Which block of 65,536 uids is the app's, from 1: block n begins at uid `n * 65,536 + 1,000,000`.
    pub uid_block: u32,
    /// `web.1`, `run.4821`, `release.1`, `build.1`: its name in logs and its `DYNO`.
    pub name: String,
    /// What it is started from.
    pub root: Root,
    /// What the user wrote, for a shell: it is run as `bash -c` with `/app/.profile.d/*.sh` and `/app/.profile` sourced
    /// before when `profile` is set. Never assembled by us from parts.
    pub command: String,
    /// Whether `.profile.d` is sourced (dynos and one-offs: yes; build steps: no).
    pub profile: bool,
    /// The whole environment. `PORT` is set by the driver when `port` is true.
    pub env: BTreeMap<String, String>,
    /// Whether it gets a port to listen on, and an endpoint.
    pub port: bool,
    /// What it may use.
    pub size: DynoSize,
    /// Where its input and output go.
    pub io: Io,
    /// Seconds between SIGTERM and SIGKILL when it is stopped.
    pub grace_seconds: u32,
    /// Wall-clock limit in seconds after which it is killed; none for formation dynos.
    pub time_limit_seconds: Option<u32>,
    /// Names of apps' hosts that must resolve inside to the services address (for the made `/etc/hosts`).
    pub hosts: Vec<String>,
    /// TCP ports of the services address that it may reach besides the router's: its add-ons'.
    #[serde(default)]
    pub services: Vec<u16>,
}

/// What a dyno's file system is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Root {
    /// A slug: `/app` is a private writable overlay of these unpacked layers, lowest first.
    Slug {
        /// Digests of layers that are unpacked in the layer store.
        layers: Vec<Digest>,
    },
    /// A build: directories of the build are mounted writable, by meaning.
    Build {
        /// Whose directories.
        build: BuildId,
        /// What is mounted where.
        mounts: Vec<BuildMount>,
        /// The working directory inside.
        working_directory: String,
    },
}

/// One directory that a build sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildMount {
    /// Which directory.
    pub source: BuildSource,
    /// Absolute path inside.
    pub target: String,
    /// Whether the build may write to it.
    pub writable: bool,
}

/// Directories by meaning; the driver turns them into paths of the data directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BuildSource {
    /// `work/<build-id>/<name>`, made by the builder, gone after the build. `name` is one path segment.
    Work(String),
    /// `cache/<app-id>/`: kept between the builds of an app.
    Cache,
    /// `buildpacks/<sha256-hex>/`: a fetched buildpack, shared and read-only.
    Buildpack(String),
    /// `toolchains/<name>/`: a fetched language version, shared and read-only. `name` is one path segment.
    Toolchain(String),
}

/// Where a dyno's input and output go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Io {
    /// stdout and stderr go to the app's log; stdin is empty. The default of formation dynos.
    Log,
    /// stdin, stdout and stderr are one stream for [`Runtime::attach`], with a pty of this size.
    Pty {
        /// Columns of the terminal.
        columns: u16,
        /// Lines of the terminal.
        lines: u16,
    },
    /// The same stream without a pty. Output that nobody has attached to yet is held (64 KiB, then the dyno waits).
    Pipe,
}

/// What a dyno looks like from outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    /// Which dyno.
    pub dyno: DynoId,
    /// Whose.
    pub app: AppId,
    /// The name of its plan.
    pub name: String,
    /// Where it listens or is expected to; empty without a port.
    pub endpoints: Vec<SocketAddr>,
    /// Set once it has ended.
    pub exit: Option<Exit>,
}

/// How a dyno ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// What a shell would show: the exit code, or 128 + the signal's number.
    pub status: i32,
    /// Why, where it was not the process's own doing.
    pub cause: ExitCause,
}

/// Why a dyno ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitCause {
    /// By itself.
    Exited,
    /// It was asked to stop and did within its grace.
    Stopped,
    /// It was asked to stop and had to be killed (R12).
    Killed,
    /// It broke its memory limit (R15).
    Memory,
    /// It is a build, and was refused a process for it had as many as it may. A dyno is only refused.
    Processes,
    /// It ran into its time limit.
    Time,
    /// Its shim is gone without leaving a record (the machine was restarted, or somebody killed it).
    Lost,
}

/// One reading of what a dyno uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Bytes of memory in use.
    pub memory_bytes: u64,
    /// Processor time so far, in µs.
    pub cpu_us: u64,
    /// Processes and threads now.
    pub pids: u32,
}

/// What a driver can do; the conformance suite and `doctor` ask this list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// The tier's name: `root`, `bwrap`, `fake`.
    pub tier: &'static str,
    /// Dynos have a network of their own.
    pub own_network: bool,
    /// Other dynos, the host's loopback and link-local addresses are out of reach.
    pub neighbours_blocked: bool,
    /// How the memory limit is kept.
    pub memory: MemoryLimit,
    /// The number of processes is limited.
    pub pids: bool,
    /// The size of the disk is limited.
    pub disk: bool,
    /// Each app runs under uids of its own.
    pub uid_per_app: bool,
    /// Processor shares by weight.
    pub cpu: bool,
    /// [`Io::Pty`] works.
    pub pty: bool,
    /// Other apps' files and processes cannot be seen.
    pub files_hidden: bool,
}

/// How a memory limit is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemoryLimit {
    /// By the kernel.
    Hard,
    /// By looking and killing.
    Watched,
    /// Not at all.
    None,
}

/// A stream to an attached dyno: what is written is its input, what is read is its output.
///
/// Without a pty, shutting the write half closes the dyno's stdin.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Why a runtime could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// No such dyno, or it was removed.
    #[error("dyno {0} is not known to the runtime")]
    Unknown(DynoId),
    /// The plan asks for something this driver cannot do.
    #[error("{what} is not possible on the {tier} tier: {why}")]
    Unsupported {
        /// What was asked for.
        what: &'static str,
        /// The driver's tier.
        tier: &'static str,
        /// What would make it possible.
        why: String,
    },
    /// A layer that the plan names is not unpacked, or is damaged.
    #[error("layer {0} is missing from the layer store")]
    MissingLayer(Digest),
    /// The machine refused.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done, as a present participle with its object.
        doing: String,
        /// The machine's answer.
        #[source]
        source: std::io::Error,
    },
    /// The part of the runtime that runs as root does not answer.
    #[error("the spawner does not answer: {0}")]
    Spawner(String),
}

/// Whatever runs processes.
///
/// Each call can be repeated: `start` of a running dyno observes it, `stop` of a stopped one and `remove` of a removed
/// one do nothing. A driver finds its dynos again after a restart of the server.
#[async_trait]
pub trait Runtime: Send + Sync {
    /// What this driver can do on this machine.
    fn capabilities(&self) -> Capabilities;

    /// Starts a dyno and returns as soon as its process exists; whether it listens is for the caller to find out.
    async fn start(&self, plan: &DynoPlan) -> Result<Observation, RuntimeError>;

    /// All dynos that exist here, ended ones included until they are removed.
    async fn list(&self) -> Result<Vec<Observation>, RuntimeError>;

    /// One dyno now.
    async fn observe(&self, dyno: DynoId) -> Result<Observation, RuntimeError>;

    /// Waits until the dyno has ended.
    async fn wait(&self, dyno: DynoId) -> Result<Exit, RuntimeError>;

    /// Sends SIGTERM to all its processes, and SIGKILL after its grace; returns without waiting.
    async fn stop(&self, dyno: DynoId) -> Result<(), RuntimeError>;

    /// Kills it if it runs, and gives back everything it held. Its log stays.
    async fn remove(&self, dyno: DynoId) -> Result<(), RuntimeError>;

    /// Addresses that its processes listen on inside, to explain why a port was not bound.
    async fn listeners(&self, dyno: DynoId) -> Result<Vec<SocketAddr>, RuntimeError>;

    /// What it uses now.
    async fn usage(&self, dyno: DynoId) -> Result<Usage, RuntimeError>;

    /// The one stream of a dyno with [`Io::Pty`] or [`Io::Pipe`]; a second call while one is open is refused. Of a dyno
    /// that has ended it gives what nobody has read yet, which may be nothing.
    async fn attach(&self, dyno: DynoId) -> Result<Box<dyn Stream>, RuntimeError>;

    /// Changes the size of an attached dyno's terminal.
    async fn resize(&self, dyno: DynoId, columns: u16, lines: u16) -> Result<(), RuntimeError>;
}
