//! Where a commit stands beside the line that a team works on: what either has that the other lacks.
//!
//! A commit is *contained* when the line has it; else when some commit of the line has the same tree (a squash or a
//! rebase onto nothing new); else when each of its changes is there as a patch of the same content (a rebase, a
//! cherry-pick), or all of them together as one (a squash).

use crate::compare::Between;
use crate::git::GitError;
use crate::history::CommitInfo;
use crate::repo::Repo;
use shipway_domain::CommitId;
use shipway_domain::compare::Contained;
use std::collections::HashSet;

/// A commit beside a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// How the line has it.
    pub contained: Contained,
    /// What the commit has and the line lacks, newest first; empty when it is contained.
    pub ahead: Vec<CommitInfo>,
    /// How many of them there are.
    pub ahead_count: usize,
    /// What the line has and the commit lacks, newest first.
    pub behind: Vec<CommitInfo>,
    /// How many of them there are.
    pub behind_count: usize,
}

/// Ends of a branch that are tried for a squash.
const SQUASHES: usize = 30;

impl Repo {
    /// Where `commit` stands beside the line that ends in `tip`; at most `limit` commits of each side are listed.
    pub async fn standing(&self, commit: &CommitId, tip: &CommitId, limit: usize) -> Result<Standing, GitError> {
        let between = self.between(tip, commit, usize::MAX).await?;
        let Some(root) = self.merge_base(commit, tip).await? else {
            return Ok(standing(Contained::No, between, limit));
        };
        if root == *commit {
            return Ok(standing(Contained::Commit, between, limit));
        }
        if let Some(same) = self.same_tree(commit, &root, tip).await? {
            // What follows that commit is all that is missing.
            let after = self.between(&same, tip, usize::MAX).await?;
            let between = Between { behind: after.ahead, behind_count: after.ahead_count, ..Between::default() };
            return Ok(standing(Contained::Tree, between, limit));
        }
        self.by_patches(commit, &root, tip, between, limit).await
    }

    async fn merge_base(&self, one: &CommitId, other: &CommitId) -> Result<Option<CommitId>, GitError> {
        let output = self.git.output(&self.path, &["merge-base", one.as_str(), other.as_str()], b"").await?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().parse().ok())
    }

    /// The newest commit after `root` on the line whose tree is that of `commit`.
    async fn same_tree(
        &self,
        commit: &CommitId,
        root: &CommitId,
        tip: &CommitId,
    ) -> Result<Option<CommitId>, GitError> {
        let tree = format!("{commit}^{{tree}}");
        let tree = self.run(&["rev-parse", "--verify", "--end-of-options", &tree], b"").await?;
        let tree = String::from_utf8_lossy(&tree).trim().to_string();
        let mut found = None;
        let without = format!("^{root}");
        self.git
            .records(&self.path, &["log", "-z", "--format=%T %H", tip.as_str(), &without, "--"], 0, |record| {
                let text = String::from_utf8_lossy(record);
                if let Some((one, id)) = text.split_once(' ')
                    && one == tree
                    && found.is_none()
                {
                    found = id.parse().ok();
                }
            })
            .await?;
        Ok(found)
    }

    async fn by_patches(
        &self,
        commit: &CommitId,
        root: &CommitId,
        tip: &CommitId,
        mut between: Between,
        limit: usize,
    ) -> Result<Standing, GitError> {
        let theirs = self.patches(&["log", "-p", "--no-merges", "--format=commit %H"], root, tip).await?;
        let ours = self.patches(&["log", "-p", "--no-merges", "--format=commit %H"], root, commit).await?;
        let ids = |patches: &[(String, String)]| -> HashSet<String> { patches.iter().map(|p| p.0.clone()).collect() };
        let (in_line, in_commit) = (ids(&theirs), ids(&ours));
        let squash = self.squash(root, commit, &between, &in_line).await?;
        let squashed = squash.as_ref().map_or(between.ahead.len(), |(from, _)| *from);
        between.ahead.truncate(squashed);
        let is_shared = |id: &CommitId, patches: &[(String, String)], other: &HashSet<String>| {
            let is_squash = |patch: &String| squash.as_ref().is_some_and(|(_, squash)| squash == patch);
            patches.iter().any(|(patch, commit)| commit == id.as_str() && (other.contains(patch) || is_squash(patch)))
        };
        between.ahead.retain(|c| !is_shared(&c.id, &ours, &in_line));
        between.behind.retain(|c| !is_shared(&c.id, &theirs, &in_commit));
        (between.ahead_count, between.behind_count) = (between.ahead.len(), between.behind.len());
        let contained = if between.ahead.is_empty() { Contained::Patch } else { Contained::No };
        Ok(standing(contained, between, limit))
    }

    /// Whether the line has the first commits of a branch as one, a squash: from which of `ahead` on, and the patch's id.
    /// A branch often goes on after it was squashed. One that others were merged into is only looked at as a whole.
    async fn squash(
        &self,
        root: &CommitId,
        commit: &CommitId,
        between: &Between,
        in_line: &HashSet<String>,
    ) -> Result<Option<(usize, String)>, GitError> {
        let looked_at = if between.merges.is_empty() { SQUASHES } else { 1 };
        let later = between.ahead.iter().skip(1).map(|info| &info.id);
        for (from, end) in std::iter::once(commit).chain(later).take(looked_at).enumerate() {
            let patch = self.patches(&["diff-tree", "-p"], root, end).await?.into_iter().next();
            if let Some((patch, _)) = patch.filter(|(patch, _)| in_line.contains(patch)) {
                return Ok(Some((from, patch)));
            }
        }
        Ok(None)
    }

    /// The patch ids of what lies between two commits, each with its commit.
    async fn patches(&self, show: &[&str], root: &CommitId, to: &CommitId) -> Result<Vec<(String, String)>, GitError> {
        let without = format!("^{root}");
        let mut first = show.to_vec();
        first.extend(["--no-ext-diff", "--no-textconv", "--no-color"]);
        match show[0] {
            "log" => first.extend([to.as_str(), &without, "--"]),
            _ => first.extend([root.as_str(), to.as_str(), "--"]),
        }
        let mut found = Vec::new();
        self.git
            .piped_records(&self.path, &first, &["patch-id", "--stable"], |record| {
                let text = String::from_utf8_lossy(record);
                if let Some((patch, commit)) = text.split_once(' ') {
                    found.push((patch.to_string(), commit.to_string()));
                }
            })
            .await?;
        Ok(found)
    }
}

/// `between` from the line to the commit, its lists cut.
fn standing(contained: Contained, between: Between, limit: usize) -> Standing {
    let Between { mut ahead, ahead_count, mut behind, behind_count, .. } = between;
    let is_in = contained != Contained::No;
    ahead.truncate(if is_in { 0 } else { limit });
    behind.truncate(limit);
    Standing { contained, ahead, ahead_count: if is_in { 0 } else { ahead_count }, behind, behind_count }
}
