//! What a commit says about itself.

use crate::git::GitError;
use crate::repo::Repo;
use crate::text::one_line;
use shipway_domain::CommitId;

/// A commit for people to read. All text is one line, without control characters, cut to 200 characters: it goes to
/// terminals, logs and pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitInfo {
    /// Which commit.
    pub id: CommitId,
    /// The first line of its message.
    pub subject: String,
    /// The author's name.
    pub author: String,
    /// The author's address.
    pub email: String,
    /// When it was committed, in seconds since 1970.
    pub time: i64,
}

const FORMAT: &str = "--format=%H%x00%s%x00%an%x00%ae%x00%ct";
const LONGEST: usize = 200;

impl Repo {
    /// Reads one commit. Errors: `NoCommit` when there is none of this id.
    pub async fn commit_info(&self, commit: &CommitId) -> Result<CommitInfo, GitError> {
        let found = self.log_arguments(&["-1".to_string(), commit.to_string()]).await?;
        found.into_iter().next().ok_or_else(|| GitError::NoCommit { commit: commit.to_string() })
    }

    /// The commits that `to` has and `from` has not, newest first, at most `limit`; without `from` all of `to`'s.
    pub async fn log(&self, from: Option<&CommitId>, to: &CommitId, limit: usize) -> Result<Vec<CommitInfo>, GitError> {
        let mut arguments = vec![format!("--max-count={limit}"), to.to_string()];
        arguments.extend(from.map(|from| format!("^{from}")));
        self.log_arguments(&arguments).await
    }

    async fn log_arguments(&self, arguments: &[String]) -> Result<Vec<CommitInfo>, GitError> {
        let mut all = vec!["log", "-z", "--no-show-signature", "--no-mailmap", "--encoding=UTF-8", FORMAT];
        all.extend(arguments.iter().map(String::as_str));
        all.push("--");
        let output = match self.run(&all, b"").await {
            Err(GitError::Failed { message, .. }) if message.contains("bad ") => {
                return Err(GitError::NoCommit { commit: arguments[1].clone() });
            }
            result => result?,
        };
        let text = String::from_utf8_lossy(&output);
        let fields: Vec<&str> = text.trim_end_matches('\0').split('\0').collect();
        Ok(fields.chunks_exact(5).filter_map(parse).collect())
    }
}

fn parse(fields: &[&str]) -> Option<CommitInfo> {
    let text = |field: &str| one_line(field, LONGEST);
    Some(CommitInfo {
        id: fields[0].parse().ok()?,
        subject: text(fields[1]),
        author: text(fields[2]),
        email: text(fields[3]),
        time: fields[4].parse().ok()?,
    })
}
