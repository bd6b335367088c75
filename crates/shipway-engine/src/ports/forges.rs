//! Forges, seen from the control plane: what their webhooks say, what they are asked and told.

use super::PortError;
use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::Value;
use shipway_domain::forge::{DeployKey, ForgeCredentials, ForgeKind, Message, RepositoryName};
use shipway_domain::review::{BranchName, Checks};
use shipway_domain::triggers::RefName;
use shipway_domain::{CommitId, Email};
use shipway_store::{ForgeConnection, PullRequest};
use std::path::Path;
use std::time::Duration;

/// A branch or tag that moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushNews {
    /// Which.
    pub reference: RefName,
    /// Where it was; none: it is new.
    pub before: Option<CommitId>,
    /// Where it is; none: it is gone.
    pub after: Option<CommitId>,
    /// Who moved it, printable. Nothing is allowed because of it.
    pub by: String,
    /// Their address, where the forge gives one. Nothing is allowed because of it either.
    pub email: Option<Email>,
    /// The repository's main branch, where the forge says it.
    pub default_branch: Option<BranchName>,
}

/// A pull request as a forge tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullRequestNews {
    /// Its number.
    pub number: u64,
    /// Its title.
    pub title: String,
    /// Its branch.
    pub branch: BranchName,
    /// The branch's commit.
    pub commit: CommitId,
    /// The fork that the branch is in: `owner/name`.
    pub fork: Option<String>,
    /// Whether it is open.
    pub open: bool,
    /// When it changed at the forge.
    pub changed_at: Timestamp,
}

impl From<PullRequest> for PullRequestNews {
    fn from(known: PullRequest) -> Self {
        let PullRequest { number, title, branch, commit, fork, open, changed_at, .. } = known;
        Self { number, title, branch, commit, fork, open, changed_at }
    }
}

/// What one check says of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckNews {
    /// The commit.
    pub commit: CommitId,
    /// Which check.
    pub context: String,
    /// What it says.
    pub state: Checks,
    /// Since when.
    pub at: Timestamp,
}

/// What a webhook brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// A branch or tag moved.
    Push(PushNews),
    /// A pull request changed.
    PullRequest(PullRequestNews),
    /// A check spoke.
    Check(CheckNews),
    /// The webhook was set up.
    Ping,
    /// Nothing that matters here.
    Other,
}

/// A webhook's news, and the repository that they are of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// The repository, where the payload names one.
    pub repository: Option<RepositoryName>,
    /// The news.
    pub news: News,
}

/// A request to a webhook's address.
#[derive(Debug, Clone, Copy)]
pub struct WebhookRequest<'a> {
    /// Headers, names in lower case.
    pub headers: &'a [(String, String)],
    /// The body as it came.
    pub body: &'a [u8],
}

impl<'a> WebhookRequest<'a> {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&'a str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// A request that came from the forge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// The forge's id of the delivery; of one that gives none, its digest.
    pub given: String,
    /// A digest of what the signature covers: of two deliveries with the same one the second is a replay, whatever it
    /// calls itself.
    pub digest: String,
    /// The forge's word for what happened.
    pub event: String,
    /// The JSON in it.
    pub payload: Vec<u8>,
}

/// Why a request is not from the forge, or not to be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WebhookRefused {
    /// No signature, or a wrong one, or one of a time that is over: which, is nobody's to know.
    #[error("the signature is missing or wrong")]
    Unauthorized,
    /// A content type that no forge sends.
    #[error("the content type is none that a forge sends")]
    MediaType,
    /// No JSON, or one that means two things.
    #[error("{0}")]
    Malformed(String),
}

/// Where code is fetched from, with what opens it.
#[derive(Clone, PartialEq, Eq)]
pub enum Remote {
    /// By https, or by http from a host that the operator named.
    Http {
        /// The address.
        address: String,
        /// The value of the header `Authorization`. Secret.
        authorization: Option<String>,
    },
    /// By ssh.
    Ssh {
        /// What opens it, and where. Secret.
        key: Box<DeployKey>,
        /// The repository.
        repository: RepositoryName,
    },
}

impl Remote {
    /// An address that needs nothing, or has it in itself.
    pub fn open(address: &str) -> Self {
        Self::Http { address: address.to_owned(), authorization: None }
    }
}

impl std::fmt::Debug for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Remote(…)")
    }
}

/// Forges of all kinds.
#[async_trait]
pub trait Forges: Send + Sync {
    /// Checks the address and the credentials of a new connection and returns the address as it is kept. Nothing is
    /// asked. Errors: the user's to read.
    fn check(&self, kind: ForgeKind, url: &str, credentials: &ForgeCredentials) -> Result<String, PortError>;
    /// Makes a deploy key of 256 random bits: its private half in OpenSSH's form and its public half in a line, both with
    /// the comment.
    fn deploy_key(&self, random: [u8; 32], comment: &str) -> Result<(String, String), PortError>;
    /// Whether a request to a connection's webhook comes from the forge, in constant time.
    fn open(
        &self,
        connection: &ForgeConnection,
        request: WebhookRequest<'_>,
        now: Timestamp,
    ) -> Result<Envelope, WebhookRefused>;
    /// Reads what [`Self::open`] let in. Errors: what is wrong with it.
    fn read(&self, kind: ForgeKind, event: &str, payload: &[u8]) -> Result<Received, PortError>;
    /// The pull requests of the connection's repository that are open now.
    async fn open_pull_requests(&self, connection: &ForgeConnection) -> Result<Vec<PullRequestNews>, PortError>;
    /// Writes what is at an address that a user named into a new file: `most` bytes within `time`, no forge in particular.
    /// The inner error is the user's: the end of a sentence.
    async fn download(
        &self,
        from: &str,
        into: &Path,
        most: u64,
        time: Duration,
    ) -> Result<Result<u64, String>, PortError>;
    /// Where the connection's code is fetched from.
    async fn remote(&self, connection: &ForgeConnection) -> Result<Remote, PortError>;
    /// Tells a forge something. `remote` is what the last telling of the same subject returned. `again`: the same was told
    /// before and nobody saw how that ended, so it is looked for first and not said twice. Returns what names it there.
    async fn tell(
        &self,
        connection: &ForgeConnection,
        message: &Message,
        remote: Option<&Value>,
        again: bool,
    ) -> Result<Option<Value>, PortError>;
}
