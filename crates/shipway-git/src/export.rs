//! A commit's tree as one archive.

use crate::git::GitError;
use crate::repo::Repo;
use shipway_domain::CommitId;
use std::io;
use std::pin::Pin;
use std::process::Stdio;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::process::{Child, ChildStdout};

/// An archive that git writes while it is read. Git ends with it.
#[derive(Debug)]
pub struct Export {
    _git: Child,
    output: ChildStdout,
}

impl AsyncRead for Export {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.output).poll_read(cx, to)
    }
}

impl Repo {
    /// The tree of a commit as a gzipped tar, everything in one directory named after the commit, as forges hand it
    /// out. A git that fails on the way leaves an archive without its end, which no reader takes for whole.
    ///
    /// Errors: `NoCommit`.
    pub async fn export(&self, commit: &CommitId) -> Result<Export, GitError> {
        if self.peel(commit).await?.is_none() {
            return Err(GitError::NoCommit { commit: commit.to_string() });
        }
        let failed = || GitError::io("archive");
        let mut command = tokio::process::Command::from(self.git.command(&self.path));
        command.args(["archive", "--format=tar.gz", &format!("--prefix={commit}/"), commit.as_str()]);
        let mut git = command.stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true).spawn().map_err(failed())?;
        let output = git.stdout.take().ok_or_else(|| failed()(io::ErrorKind::BrokenPipe.into()))?;
        Ok(Export { _git: git, output })
    }
}
