//! What repositories know of commits and of what lies between them.

use super::{PortError, Remote};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use shipway_domain::compare::{Commits, Extent, Standing};
use shipway_domain::migrations::Migrations;
use shipway_domain::{AppId, CommitId, PipelineId};
use tokio::io::AsyncRead;

/// A repository of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// An app's.
    App(AppId),
    /// That of the line which a pipeline's team works on.
    Upstream(PipelineId),
}

/// A commit, and a repository that has it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Spot {
    /// Where.
    pub place: Place,
    /// Which.
    pub commit: CommitId,
}

/// Why nothing came of a fetch: the end of a sentence for users, without credentials.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FetchRefused(pub String);

/// An archive while it is made: a gzipped tar.
pub type Archive = Box<dyn AsyncRead + Send + Unpin>;

/// Reads histories. Two spots may be in different repositories; nothing is copied for that.
#[async_trait]
pub trait Histories: Send + Sync {
    /// The commit that an id, its beginning, a branch or a tag means, if it means exactly one.
    async fn find(&self, place: Place, text: &str) -> Result<Option<CommitId>, PortError>;
    /// The commits that either side has alone, at most `limit` listed of each.
    async fn commits(&self, base: &Spot, head: &Spot, limit: usize) -> Result<Commits, PortError>;
    /// How much differs.
    async fn extent(&self, base: &Spot, head: &Spot) -> Result<Extent, PortError>;
    /// Which migrations either side has alone; all of head's without a base.
    async fn migrations(&self, base: Option<&Spot>, head: &Spot) -> Result<Migrations, PortError>;
    /// A file's text; none when it is not there, no text, or larger than 256 KiB.
    async fn file(&self, at: &Spot, path: &str) -> Result<Option<String>, PortError>;
    /// A commit's tree as an archive, everything in one directory.
    async fn archive(&self, at: &Spot) -> Result<Archive, PortError>;
    /// Where a commit stands beside the line that ends in `tip`, at most `limit` commits listed of each side.
    async fn standing(&self, at: &Spot, tip: &Spot, limit: usize) -> Result<Standing, PortError>;
    /// Fetches a branch of an upstream and says where it ends. The inner error is the user's.
    async fn fetch_upstream(
        &self,
        pipeline: PipelineId,
        from: &Remote,
        branch: &str,
    ) -> Result<Result<CommitId, FetchRefused>, PortError>;
    /// Fetches a branch, a tag or a commit from where an upstream's code is, and keeps it beside the upstream's branch. The
    /// inner error is the user's.
    async fn fetch_reference(
        &self,
        pipeline: PipelineId,
        from: &Remote,
        reference: &str,
    ) -> Result<Result<CommitId, FetchRefused>, PortError>;
    /// Takes the end of an upstream's branch from an app's repository, where somebody pushed it.
    async fn take_upstream(&self, pipeline: PipelineId, branch: &str, from: &Spot) -> Result<(), PortError>;
    /// Forgets a pipeline's upstream; a second time does nothing.
    async fn remove_upstream(&self, pipeline: PipelineId) -> Result<(), PortError>;
}
