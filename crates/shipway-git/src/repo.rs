//! A bare repository of one app and its refs.

use crate::git::{Git, GitError};
use crate::push::RefUpdate;
use shipway_domain::{CommitId, OperationId};
use std::path::{Path, PathBuf};

/// Both names of the one branch that is always at the commit that runs.
pub(crate) const RUNNING: [&str; 2] = ["refs/heads/main", "refs/heads/master"];
const ZERO: &str = "0000000000000000000000000000000000000000";

/// The repository of one app. Cheap to clone.
///
/// Refs: `refs/heads/main` and `refs/heads/master`, one branch under two names; other branches and tags as the app's
/// policy has it; `refs/shipway/releases/v<N>`, advertised, what release N was made from; `refs/shipway/op/<id>`,
/// hidden, what an operation in flight needs; `refs/shipway/imports/…` and `refs/shipway/submodules/…`, hidden.
#[derive(Debug, Clone)]
pub struct Repo {
    pub(crate) git: Git,
    pub(crate) path: PathBuf,
}

/// Below this an `init` that failed did so for want of room.
const LEAST_INIT_BYTES: u64 = 1 << 20;

/// What is free for us on the disk of a path, in bytes.
pub(crate) fn free_bytes(path: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(path).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

impl Repo {
    /// The repository at `path`, which exists.
    pub fn open(git: &Git, path: &Path) -> Self {
        Self { git: git.clone(), path: path.to_path_buf() }
    }

    /// Makes an empty repository at `path`, or leaves the one that is there.
    pub async fn create(git: &Git, path: &Path) -> Result<Self, GitError> {
        let repo = Self::open(git, path);
        std::fs::create_dir_all(path).map_err(GitError::io("init"))?;
        let arguments = ["init", "--quiet", "--bare", "--template=", "--object-format=sha1", "--initial-branch=main"];
        repo.run(&arguments, b"").await.map_err(|error| match free_bytes(path) {
            // Git says which file it could not write, not why.
            Some(0..LEAST_INIT_BYTES) => GitError::io("init")(rustix::io::Errno::NOSPC.into()),
            _ => error,
        })?;
        // Git does not flush these; after a power cut they would be empty, and with them the repository lost.
        for name in ["HEAD", "config", "."] {
            std::fs::File::open(path.join(name)).and_then(|file| file.sync_all()).map_err(GitError::io("init"))?;
        }
        Ok(repo)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) async fn run(&self, arguments: &[&str], input: &[u8]) -> Result<Vec<u8>, GitError> {
        self.git.run(&self.path, arguments, input).await
    }

    /// What a ref points at; none when there is no such ref.
    pub async fn resolve(&self, refname: &str) -> Result<Option<CommitId>, GitError> {
        check_refname(refname)?;
        let found = self.run(&["for-each-ref", "--format=%(objectname) %(refname)", refname], b"").await?;
        // A pattern also finds what lies below it.
        let text = String::from_utf8_lossy(&found);
        Ok(text
            .lines()
            .filter_map(|line| line.split_once(' '))
            .find_map(|(id, name)| (name == refname).then(|| id.parse().ok()).flatten()))
    }

    /// The commit that `object` is or, for an annotated tag, leads to; none when it leads to none or is not here.
    pub async fn peel(&self, object: &CommitId) -> Result<Option<CommitId>, GitError> {
        let wanted = format!("{object}^{{commit}}");
        let output = self
            .git
            .output(&self.path, &["rev-parse", "--quiet", "--verify", "--end-of-options", &wanted], b"")
            .await?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().parse().ok())
    }

    /// Whether all of these objects are here.
    pub(crate) async fn has_all(&self, objects: &[CommitId]) -> bool {
        let names: String = objects.iter().map(|id| format!("{id}\n")).collect();
        let found = self.run(&["cat-file", "--batch-check"], names.as_bytes()).await;
        found.is_ok_and(|found| !String::from_utf8_lossy(&found).contains(" missing"))
    }

    /// Keeps `commit` for as long as an operation needs it, under a hidden ref. Can be done twice.
    pub async fn pin(&self, operation: OperationId, commit: &CommitId) -> Result<(), GitError> {
        self.transaction(&[Change::set(format!("refs/shipway/op/{operation}"), commit)]).await
    }

    /// Lets go of what [`Repo::pin`] kept. Can be done twice.
    pub async fn unpin(&self, operation: OperationId) -> Result<(), GitError> {
        self.transaction(&[Change { refname: format!("refs/shipway/op/{operation}"), old: None, new: None }]).await
    }

    /// Keeps what release `version` was made from, at `refs/shipway/releases/v<version>`. Can be done twice.
    pub async fn keep_release(&self, version: u64, commit: &CommitId) -> Result<(), GitError> {
        self.transaction(&[Change::set(format!("refs/shipway/releases/v{version}"), commit)]).await
    }

    /// Does what pushed commands ask for, all or nothing; each ref must still be where its pusher saw it.
    ///
    /// Errors: `Moved` when one is not, `BadRef` for anything but a branch or a tag.
    pub async fn store(&self, updates: &[RefUpdate]) -> Result<(), GitError> {
        let changes = updates.iter().map(|update| {
            check_refname(&update.refname)?;
            if update.branch().is_none() && update.tag().is_none() {
                return Err(bad_ref(&update.refname));
            }
            let old = update.old.as_ref().map_or(ZERO.to_string(), CommitId::to_string);
            Ok(Change { refname: update.refname.clone(), old: Some(old), new: update.new.clone() })
        });
        self.transaction(&changes.collect::<Result<Vec<_>, _>>()?).await
    }

    /// Points `main` and `master` at the commit that runs now, both at once, wherever they were.
    pub async fn set_branch(&self, commit: &CommitId) -> Result<(), GitError> {
        self.transaction(&RUNNING.map(|name| Change::set(name.to_string(), commit))).await
    }

    /// Like [`Repo::set_branch`], if the running commit is still `old` (none: nothing runs yet).
    ///
    /// Errors: `Moved` when it is not.
    pub async fn compare_and_swap_branch(&self, old: Option<&CommitId>, new: &CommitId) -> Result<(), GitError> {
        let old = old.map_or(ZERO.to_string(), CommitId::to_string);
        let change = |name: &str| Change { refname: name.into(), old: Some(old.clone()), new: Some(new.clone()) };
        self.transaction(&RUNNING.map(change)).await
    }

    /// Packs what has gathered and forgets objects that nothing has led to for two weeks. Takes long on large
    /// repositories; harmless beside pushes and fetches.
    pub async fn maintain(&self) -> Result<(), GitError> {
        self.run(&["gc", "--quiet", "--prune=2.weeks.ago"], b"").await.map(drop)
    }

    pub(crate) async fn transaction(&self, changes: &[Change]) -> Result<(), GitError> {
        let mut script = String::from("start\0");
        for Change { refname, old, new } in changes {
            match new {
                Some(new) => script.push_str(&format!("update {refname}\0{new}\0{}\0", old.as_deref().unwrap_or(""))),
                None => script.push_str(&format!("delete {refname}\0{}\0", old.as_deref().unwrap_or(""))),
            }
        }
        script.push_str("prepare\0commit\0");
        match self.run(&["update-ref", "--no-deref", "--stdin", "-z"], script.as_bytes()).await {
            Ok(_) => Ok(()),
            Err(GitError::Failed { message, .. }) if message.contains("cannot lock ref") => {
                let moved = changes.iter().find(|change| message.contains(&change.refname));
                Err(GitError::Moved { refname: moved.unwrap_or(&changes[0]).refname.clone() })
            }
            Err(error) => Err(error),
        }
    }
}

/// One line of a transaction on refs.
pub(crate) struct Change {
    pub(crate) refname: String,
    /// What it must be at: an id, all zeros for "must not exist", none for anything.
    pub(crate) old: Option<String>,
    pub(crate) new: Option<CommitId>,
}

impl Change {
    pub(crate) fn set(refname: String, commit: &CommitId) -> Self {
        Self { refname, old: None, new: Some(commit.clone()) }
    }
}

/// Refuses what git refuses as a ref name (attack 1), before it is written into a line for git to read.
/// Source: git, `Documentation/git-check-ref-format`.
pub(crate) fn check_refname(name: &str) -> Result<(), GitError> {
    let bad_part = |part: &str| part.is_empty() || part.starts_with('.') || part.ends_with(".lock");
    let bad_byte = |b: u8| b <= b' ' || b == 0x7f || b"~^:?*[\\".contains(&b);
    let bad = !name.starts_with("refs/")
        || name.len() > 1024
        || name.bytes().any(bad_byte)
        || name.split('/').any(bad_part)
        || name.contains("..")
        || name.contains("@{")
        || name.ends_with('.');
    if bad { Err(bad_ref(name)) } else { Ok(()) }
}

fn bad_ref(name: &str) -> GitError {
    GitError::BadRef { given: name.chars().take(80).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attack_01_ref_names() {
        for good in [
            "refs/heads/main",
            "refs/heads/feature/x-1",
            "refs/tags/v1.0",
            "refs/heads/main;curl-x|sh",
            "refs/heads/$(id)",
        ] {
            assert!(check_refname(good).is_ok(), "{good:?} is a legal name and only ever an argument");
        }
        for bad in [
            "main",
            "--upload-pack=x",
            "-h",
            "refs/heads/",
            "refs/heads/../../x",
            "refs/heads/a\nb",
            "refs/heads/a\0b",
            "refs/heads/a b",
            "refs/heads/.a",
            "refs/heads/a.lock",
            "refs/heads/a..b",
            "refs/heads/a@{1}",
            "refs/heads/a~1",
            "refs/heads//a",
            "refs/heads/a.",
            "",
        ] {
            assert!(check_refname(bad).is_err(), "{bad:?}");
        }
    }
}
