//! Forges: where a team's repository and its pull requests are.

use crate::lifecycle::states;
use crate::names::{CommitId, NameError, name};
use crate::review::BranchName;
use crate::ssh::{HostKey, SshServer};
use serde::{Deserialize, Serialize};

states! {
    /// The kinds of forges that are spoken with.
    ForgeKind {
        /// GitHub, and GitHub Enterprise Server.
        Github = "github",
        /// GitLab.
        Gitlab = "gitlab",
        /// Gitea and Forgejo.
        Gitea = "gitea",
    }
}

states! {
    /// What became of a webhook's delivery.
    DeliveryStatus {
        /// It waits for its turn.
        Received = "received",
        /// It was carried out.
        Done = "done",
        /// There was nothing to do: its event or its branch matters to nobody here.
        Ignored = "ignored",
        /// It could not be carried out; it says why, and can be redelivered.
        Failed = "failed",
    }
}

impl ForgeKind {
    /// Reads a forge's kind. Errors: what the kinds are.
    pub fn parse(s: &str) -> Result<Self, NameError> {
        let text = if s == "forgejo" { "gitea" } else { s };
        Self::from_text(text).ok_or_else(|| NameError::new("forge", s, "must be github, gitlab, gitea or forgejo"))
    }

    /// Where a repository's pull request is, below the repository's address.
    pub fn pull_request_path(self, number: u64) -> String {
        match self {
            Self::Github => format!("pull/{number}"),
            Self::Gitlab => format!("-/merge_requests/{number}"),
            Self::Gitea => format!("pulls/{number}"),
        }
    }

    /// Its address where there is one that everybody means.
    pub fn usual_url(self) -> Option<&'static str> {
        match self {
            Self::Github => Some("https://github.com"),
            Self::Gitlab => Some("https://gitlab.com"),
            Self::Gitea => None,
        }
    }
}

name! {
    /// A repository of a forge: `owner/name`, at GitLab `group/…/name`; 3 to 255 characters.
    RepositoryName, |s| {
        let parts: Vec<&str> = s.split('/').collect();
        let plain = |part: &&str| {
            !part.is_empty() && !part.starts_with(['.', '-'])
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        };
        if s.len() > 255 || parts.len() < 2 || !parts.iter().all(plain) || s.ends_with(".git") {
            return Err(NameError::new("repository", s, "must be like owner/name"));
        }
        Ok(s.to_string())
    }
}

/// What opens a forge to us. Secret.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "kind")]
pub enum ForgeCredentials {
    /// Nothing: it tells us, and a public repository is fetched.
    #[default]
    None,
    /// An access token.
    Token {
        /// The token.
        token: String,
    },
    /// A GitHub App, which gets a token of an hour for each installation.
    App {
        /// The App's id, or its client id.
        app_id: String,
        /// Its private key, PEM.
        key: String,
    },
    /// A key of ours, which lets us read the repository by ssh and say nothing.
    #[serde(rename = "deploy-key")]
    DeployKey(DeployKey),
}

/// A key that a forge lets read one repository.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeployKey {
    /// Its private half, in OpenSSH's form. Secret.
    pub private: String,
    /// Its public half, a line such as forges take it.
    pub public: String,
    /// Whom it is shown to.
    pub server: SshServer,
    /// By what that server is known: it must show one of these.
    pub host_keys: Vec<HostKey>,
}

impl std::fmt::Debug for DeployKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DeployKey({})", self.public)
    }
}

impl ForgeCredentials {
    /// Their kind in a word.
    pub fn word(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Token { .. } => "token",
            Self::App { .. } => "app",
            Self::DeployKey(_) => "deploy-key",
        }
    }

    /// Whether the forge's API lets us say something.
    pub fn may_tell(&self) -> bool {
        matches!(self, Self::Token { .. } | Self::App { .. })
    }
}

impl std::fmt::Debug for ForgeCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ForgeCredentials({})", self.word())
    }
}

/// What a commit status says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It is under way.
    Pending,
    /// It went well.
    Success,
    /// It did not.
    Failure,
}

states! {
    /// How a deployment is.
    DeploymentState {
        /// Asked for.
        Pending = "pending",
        /// It waits for its turn.
        Queued = "queued",
        /// Under way.
        #[serde(rename = "in_progress")]
        InProgress = "in_progress",
        /// It serves.
        Success = "success",
        /// It does not.
        Failure = "failure",
        /// What should have carried it out broke.
        Error = "error",
        /// It is gone, or another one serves.
        Inactive = "inactive",
    }
}

/// What a forge is told. What was told is compared with what should be, so a message is a state and no event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "kind")]
pub enum Message {
    /// The one comment of ours on a pull request.
    Comment {
        /// The pull request.
        number: u64,
        /// Markdown. Its last line is hidden and marks it as ours.
        body: String,
    },
    /// The status of a commit.
    Status {
        /// The commit.
        commit: CommitId,
        /// Its branch.
        branch: BranchName,
        /// Whose word it is: `shipway/<pipeline>`.
        context: String,
        /// The word.
        verdict: Verdict,
        /// Where more is to be seen.
        url: Option<String>,
        /// A sentence of 140 characters at most.
        description: String,
    },
    /// What an app runs.
    Deployment {
        /// The app's name.
        environment: String,
        /// The commit.
        commit: CommitId,
        /// The branch where it is known.
        branch: Option<BranchName>,
        /// How it is.
        state: DeploymentState,
        /// Where the app is.
        url: String,
        /// Where its releases are.
        log_url: Option<String>,
        /// Whether the environment goes with its pull request.
        transient: bool,
        /// Whether users meet it.
        production: bool,
        /// `{app: {process: {digest, image_id, config_hash}}}`
        payload: serde_json::Value,
    },
}

impl Message {
    /// What it is about: of two messages with the same subject the later one counts.
    pub fn subject(&self) -> String {
        match self {
            Self::Comment { number, .. } => format!("comment {number}"),
            Self::Status { commit, context, .. } => format!("status {commit} {context}"),
            // What failed leaves in place what is deployed, so it is told beside it.
            Self::Deployment { environment, state: DeploymentState::Failure, .. } => format!("failure {environment}"),
            Self::Deployment { environment, .. } => format!("deployment {environment}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attack_23_repositories_are_plain_names() {
        let check = |name: &str, good: bool| assert_eq!(RepositoryName::parse(name).is_ok(), good, "{name:?}");
        check("acme/shop", true);
        check("acme/team/shop", true);
        for bad in ["", "shop", "acme/", "/shop", "acme/../x", "acme/shop?x=1", "acme/shop.git", "a b/c", "acme/-x"] {
            check(bad, false);
        }
        check(&"a/".repeat(200), false);
    }
}
