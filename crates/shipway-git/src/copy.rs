//! Commits carried from one of our own repositories into another.

use crate::git::{GitError, stderr_text};
use crate::repo::{Change, Repo, check_refname};
use shipway_domain::CommitId;
use std::io::Write;
use std::process::Stdio;

/// How many tips of the receiving repository are named as "already there", newest first: enough to send little, few
/// enough to be read and written at once.
const KNOWN: &str = "--count=200";

impl Repo {
    /// Copies `commit` and all that it needs from another of our repositories and points `refname` at it. Can be done
    /// twice. By a pack from hand to hand: `git fetch` would serve the other one by its rules for strangers. Both are
    /// ours, so what is sent is neither checked again nor limited. Errors: `from` lacks the commit.
    pub async fn take(&self, from: &Repo, commit: &CommitId, refname: &str) -> Result<(), GitError> {
        check_refname(refname)?;
        let tips = self.run(&["for-each-ref", "--sort=-creatordate", KNOWN, "--format=%(objectname)"], b"").await?;
        let tips = String::from_utf8_lossy(&tips);
        if !tips.lines().any(|id| id == commit.as_str()) {
            // Only what the other has too can be left out.
            let shared = from.run(&["cat-file", "--batch-check=%(objectname)"], tips.as_bytes()).await?;
            let shared = String::from_utf8_lossy(&shared).into_owned();
            let known: String =
                shared.lines().filter(|line| !line.ends_with(" missing")).map(|id| format!("^{id}\n")).collect();
            let (to, from, wanted) = (self.clone(), from.clone(), format!("{commit}\n{known}"));
            let copied = tokio::task::spawn_blocking(move || copy(&from, &to, &wanted)).await;
            copied.map_err(|error| GitError::io("pack-objects")(std::io::Error::other(error)))??;
        }
        self.transaction(&[Change::set(refname.to_string(), commit)]).await
    }
}

fn copy(from: &Repo, to: &Repo, wanted: &str) -> Result<(), GitError> {
    let failed = || GitError::io("pack-objects");
    let missing = || failed()(std::io::ErrorKind::BrokenPipe.into());
    let mut pack = from.git.command(&from.path);
    let mut pack = pack
        .args(["pack-objects", "--quiet", "--revs", "--thin", "--stdout", "--delta-base-offset"])
        .stdin(Stdio::piped())
        .spawn()
        .map_err(failed())?;
    let packed = pack.stdout.take().ok_or_else(missing)?;
    let mut index = to.git.command(&to.path);
    let index =
        index.args(["index-pack", "--stdin", "--fix-thin"]).stdin(packed).spawn().map_err(GitError::io("index-pack"));
    // Its input is closed before either is waited for.
    let mut stdin = pack.stdin.take().ok_or_else(missing)?;
    let written = stdin.write_all(wanted.as_bytes());
    drop(stdin);
    let packed = pack.wait_with_output().map_err(failed())?;
    let indexed = index?.wait_with_output().map_err(GitError::io("index-pack"))?;
    written.map_err(failed())?;
    for (what, output) in [("pack-objects", packed), ("index-pack", indexed)] {
        if !output.status.success() {
            return Err(GitError::Failed { what: what.into(), message: stderr_text(&output.stderr) });
        }
    }
    Ok(())
}
