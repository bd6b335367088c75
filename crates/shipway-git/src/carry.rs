//! Commits on their way from one of our repositories to another.

use crate::git::{GitError, stderr_text};
use crate::repo::Repo;
use shipway_domain::CommitId;
use std::process::Stdio;
use tokio::io::AsyncWriteExt;

/// How many commits of the receiving repository are named as "already there", newest releases first: enough to send
/// little, few enough for one pipe's buffer.
const KNOWN: &str = "--count=200";

impl Repo {
    /// Brings `commit` and everything that it is made of from `source`, without a ref: keep it before anything collects.
    ///
    /// Both repositories are ours, so what is sent is neither checked again nor limited; git's own pipe carries it,
    /// nothing is held in memory. Can be done twice. Errors: `source` lacks the commit.
    pub async fn carry_from(&self, source: &Self, commit: &CommitId) -> Result<(), GitError> {
        let refs = self.run(&["for-each-ref", "--sort=-creatordate", KNOWN, "--format=%(objectname)"], b"").await?;
        let known = String::from_utf8_lossy(&refs);
        if known.lines().any(|id| id == commit.as_str()) {
            return Ok(());
        }
        // Only what the source has too can be left out.
        let shared = source.run(&["cat-file", "--batch-check=%(objectname)"], known.as_bytes()).await?;
        let shared = String::from_utf8_lossy(&shared).into_owned();
        let mut wanted = format!("{commit}\n");
        for id in shared.lines().filter(|line| !line.ends_with(" missing")) {
            wanted.push_str(&format!("^{id}\n"));
        }
        let io = |what: &'static str| move |e| GitError::io(what)(e);
        let mut send = tokio::process::Command::from(source.git.command(&source.path));
        send.args(["pack-objects", "--quiet", "--revs", "--thin", "--delta-base-offset", "--stdout"]);
        send.stdin(Stdio::piped()).kill_on_drop(true);
        let mut send = send.spawn().map_err(io("pack-objects"))?;
        let missing = || GitError::Failed { what: "pack-objects".into(), message: "it has no pipes".into() };
        let (stdin, stdout) = (send.stdin.take().ok_or_else(missing)?, send.stdout.take().ok_or_else(missing)?);
        let pipe: Stdio = stdout.try_into().map_err(io("pack-objects"))?;
        let mut receive = tokio::process::Command::from(self.git.command(&self.path));
        receive.args(["index-pack", "--stdin", "--fix-thin"]).stdin(pipe).kill_on_drop(true);
        let receive = receive.spawn().map_err(io("index-pack"))?;
        let write = async move {
            let mut stdin = stdin;
            // One that ends early says on stderr why.
            let _ = stdin.write_all(wanted.as_bytes()).await;
        };
        let ((), sent, received) = tokio::join!(write, send.wait_with_output(), receive.wait_with_output());
        for (what, output) in [("pack-objects", sent), ("index-pack", received)] {
            let output = output.map_err(io(what))?;
            if !output.status.success() {
                return Err(GitError::Failed { what: what.into(), message: stderr_text(&output.stderr) });
            }
        }
        Ok(())
    }
}
