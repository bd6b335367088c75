//! What the engine needs from the world, as traits that others implement. (The runtime's is `shipway-runtime`.)

mod addons;
mod forges;
mod histories;
mod webhooks;

pub use addons::{AddonFailure, AddonInfo, AddonProvider, DatabaseOrder};
pub use forges::{
    CheckNews, Envelope, Forges, News, PullRequestNews, PushNews, Received, Remote, WebhookRefused, WebhookRequest,
};
pub use histories::{Archive, FetchRefused, Histories, Place, Spot};
pub use webhooks::{Post, Receivers};

use async_trait::async_trait;
use jiff::Timestamp;
use shipway_domain::admission::Actor;
use shipway_domain::forge::{DeployKey, RepositoryName};
use shipway_domain::review::BranchName;
use shipway_domain::route::RouteTable;
use shipway_domain::size::DynoSize;
use shipway_domain::ssh::{HostKey, SshServer};
use shipway_domain::{AppId, BuildId, CommitId, Digest, DynoId, OperationId, ProcessType};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// What is under way to a dyno through the router.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InFlight {
    /// Requests that will end by themselves.
    pub requests: u32,
    /// WebSockets and event streams, which end when the dyno does.
    pub streams: u32,
}

/// The router, seen from the control plane.
#[async_trait]
pub trait Router: Send + Sync {
    /// Hands over a table and returns the epoch that the router then serves and has stored.
    async fn push(&self, table: &RouteTable) -> Result<u64, PortError>;
    /// The epoch that it serves now.
    async fn epoch(&self) -> Result<u64, PortError>;
    /// What is under way to each of these dynos; a dyno without anything may be left out.
    async fn in_flight(&self, dynos: &[DynoId]) -> Result<BTreeMap<DynoId, InFlight>, PortError>;
}

/// What a commit says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitInfo {
    /// First line of its message, printable.
    pub subject: String,
    /// Who wrote it, printable.
    pub author: String,
}

/// The repositories of apps.
#[async_trait]
pub trait Repositories: Send + Sync {
    /// Makes an app's empty repository; a second time does nothing.
    async fn create(&self, app: AppId) -> Result<(), PortError>;
    /// Removes an app's repository; a second time does nothing.
    async fn remove(&self, app: AppId) -> Result<(), PortError>;
    /// Keeps a commit from collection as long as an operation needs it.
    async fn pin(&self, app: AppId, operation: OperationId, commit: &CommitId) -> Result<(), PortError>;
    /// Ends [`Self::pin`]; a second time does nothing.
    async fn unpin(&self, app: AppId, operation: OperationId) -> Result<(), PortError>;
    /// Brings a commit with all that it is made of from another repository into an app's, and keeps it there as
    /// [`Self::pin`] does; a second time does nothing.
    async fn carry(&self, from: Place, to: AppId, operation: OperationId, commit: &CommitId) -> Result<(), PortError>;
    /// Brings a commit with all that it is made of from a server elsewhere, and keeps it as [`Self::pin`] does; a second
    /// time does nothing. Errors: inside, what the server or our guard said.
    async fn fetch(
        &self,
        from: &Remote,
        to: AppId,
        operation: OperationId,
        commit: &CommitId,
    ) -> Result<Result<(), FetchRefused>, PortError>;
    /// Asks a server that is reached by ssh which keys it shows. Errors: inside, what it or our guard said.
    async fn host_keys(&self, of: &SshServer) -> Result<Result<Vec<HostKey>, FetchRefused>, PortError>;
    /// Which of these branches a repository has that a deploy key opens. Errors: inside, what its server or our guard said.
    async fn branches_with_key(
        &self,
        key: &DeployKey,
        repository: &RepositoryName,
        branches: &[BranchName],
    ) -> Result<Result<Vec<BranchName>, FetchRefused>, PortError>;
    /// The head of a branch; none: there is no such branch.
    async fn branch(&self, app: AppId, branch: &BranchName) -> Result<Option<CommitId>, PortError>;
    /// Points main and master at the commit that runs.
    async fn set_branch(&self, app: AppId, commit: &CommitId) -> Result<(), PortError>;
    /// Keeps a release's commit at `refs/shipway/releases/v<version>`.
    async fn keep_release(&self, app: AppId, version: u64, commit: &CommitId) -> Result<(), PortError>;
    /// Writes a commit's tree into an empty directory.
    async fn checkout(&self, app: AppId, commit: &CommitId, into: &Path) -> Result<(), PortError>;
    /// Turns an uploaded source archive (a gzipped tar) into a commit. The error is the user's to read: a checksum that
    /// does not fit, an archive that is damaged or hostile.
    async fn import(
        &self,
        app: AppId,
        archive: &Path,
        checksum: Option<&str>,
        message: &str,
    ) -> Result<CommitId, PortError>;
    /// Brings a commit with all that it is made of from a repository of ours, and keeps it from collection as
    /// [`Self::import`] does what it makes; a second time does nothing.
    async fn adopt(&self, app: AppId, from: &Spot) -> Result<(), PortError>;
    /// What a commit says of itself.
    async fn commit_info(&self, app: AppId, commit: &CommitId) -> Result<CommitInfo, PortError>;
    /// Packs what has gathered; may take long, and hurts no push or fetch.
    async fn maintain(&self, app: AppId) -> Result<(), PortError>;
    /// Bytes on disk.
    async fn size_bytes(&self, app: AppId) -> Result<u64, PortError>;
}

/// What to build.
#[derive(Debug, Clone)]
pub struct BuildOrder {
    /// The build.
    pub build: BuildId,
    /// Whose.
    pub app: AppId,
    /// The app's name, for messages.
    pub app_name: String,
    /// Which uids the build runs under.
    pub uid_block: u32,
    /// The commit.
    pub commit: CommitId,
    /// Its tree, checked out for this build alone.
    pub source: PathBuf,
    /// Buildpacks in order; empty is detection.
    pub buildpacks: Vec<String>,
    /// Config vars.
    pub env: BTreeMap<String, String>,
    /// The stack.
    pub stack: String,
    /// What it may use.
    pub size: DynoSize,
    /// The manifest of the app's newest slug, whose versions and layers are kept where nothing changed.
    pub previous: Option<serde_json::Value>,
}

/// What a build made.
#[derive(Debug, Clone)]
pub struct Built {
    /// Digest of the manifest.
    pub digest: Digest,
    /// The manifest.
    pub manifest: serde_json::Value,
    /// Bytes of its layers.
    pub size_bytes: u64,
    /// What was found.
    pub language: Option<String>,
    /// The buildpacks that were used.
    pub buildpacks: Vec<String>,
}

/// What the engine reads from a manifest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Runnable {
    /// Layers of `/app`, lowest first.
    pub layers: Vec<Digest>,
    /// Commands by process type.
    pub process_types: BTreeMap<ProcessType, String>,
    /// Environment that config vars override.
    pub env: BTreeMap<String, String>,
}

/// Why there is no artifact.
#[derive(Debug, thiserror::Error)]
pub enum BuildFailure {
    /// The user's to solve; the text says what, which and what next, in lines.
    #[error("{0}")]
    User(String),
    /// Somebody asked for it to stop.
    #[error("the build was cancelled")]
    Cancelled,
    /// Ours.
    #[error("the platform could not build: {0}")]
    Platform(String),
}

/// Takes lines of output; a line carries no line end.
pub trait Lines: Send + Sync {
    /// Writes one line.
    fn line(&self, line: &str);
}

/// Turns trees into artifacts.
#[async_trait]
pub trait Builder: Send + Sync {
    /// Digest of everything that would go into a build.
    async fn inputs(&self, order: &BuildOrder) -> Result<String, BuildFailure>;
    /// Builds. The artifact's layers are unpacked and ready to run when it returns.
    async fn build(
        &self,
        order: &BuildOrder,
        out: Arc<dyn Lines>,
        cancel: CancellationToken,
    ) -> Result<Built, BuildFailure>;
    /// Reads a manifest that [`Self::build`] made, for dynos of this size.
    fn runnable(&self, manifest: &serde_json::Value, size: &DynoSize) -> Result<Runnable, PortError>;
    /// Makes sure that an older artifact can run: its layers are unpacked and whole.
    async fn ensure(&self, manifest: &serde_json::Value) -> Result<(), PortError>;
    /// Whether all of an artifact is there: nothing of it is missing, or was found damaged and put aside. It is not read
    /// for that.
    async fn whole(&self, manifest: &serde_json::Value) -> Result<bool, PortError>;
    /// Removes everything that none of these manifests needs.
    async fn collect(&self, keep: &[serde_json::Value]) -> Result<u64, PortError>;
    /// Forgets an app's build cache.
    async fn purge_cache(&self, app: AppId) -> Result<(), PortError>;
}

/// Why something outside the engine did not work. The text is for the operator.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct PortError(pub String);

impl PortError {
    /// Says what was being done, and why it failed.
    pub fn new(doing: &str, why: impl std::fmt::Display) -> Self {
        Self(format!("{doing}: {why}"))
    }
}

/// The time and the random numbers of the platform; tests bring their own.
pub trait World: Send + Sync {
    /// Now.
    fn now(&self) -> Timestamp;
    /// A fresh id.
    fn uuid(&self) -> uuid::Uuid;
    /// 64 random bits.
    fn random(&self) -> u64;
}

/// The machine's clock and random numbers.
pub struct RealWorld;

impl World for RealWorld {
    fn now(&self) -> Timestamp {
        // Whole microseconds: what the database keeps.
        let now = Timestamp::now();
        Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
    }
    fn uuid(&self) -> uuid::Uuid {
        uuid::Uuid::new_v4()
    }
    fn random(&self) -> u64 {
        uuid::Uuid::new_v4().as_u64_pair().0
    }
}

/// Who acts, and by which road.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Who.
    pub actor: Actor,
    /// `api`, `git`, `dashboard`, `platform`.
    pub via: &'static str,
}
