//! Repositories in memory, whose commits are Procfiles.

use async_trait::async_trait;
use jiff::Timestamp;
use shipway_domain::compare::{self, Commit, Commits, Contained, Extent, Standing};
use shipway_domain::forge::{DeployKey, RepositoryName};
use shipway_domain::migrations::Migrations;
use shipway_domain::review::BranchName;
use shipway_domain::ssh::{HostKey, SshServer};
use shipway_domain::{AppId, CommitId, OperationId, PipelineId};
use shipway_engine::ports::{
    Archive, CommitInfo, FetchRefused, Histories, Place, PortError, Remote, Repositories, Spot,
};
use shipway_store::{hex, sha256};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::watch;

/// Every app sees every commit; branches and pins are kept per app and operation.
#[derive(Default)]
pub struct ProcfileRepositories {
    commits: Mutex<HashMap<CommitId, Files>>,
    /// In the order in which they were made: the history of everybody.
    line: Mutex<Vec<CommitId>>,
    running: Mutex<HashMap<AppId, CommitId>>,
    branches: Mutex<HashMap<(AppId, BranchName), CommitId>>,
    pins: Mutex<HashMap<OperationId, CommitId>>,
    /// Branches that were deleted at servers elsewhere.
    gone_elsewhere: Mutex<BTreeSet<BranchName>>,
    /// Whether fetches from elsewhere wait.
    held: watch::Sender<bool>,
    fetching: AtomicUsize,
}

type Files = BTreeMap<String, String>;

impl ProcfileRepositories {
    /// A commit with this Procfile; the same text is the same commit.
    pub fn commit(&self, procfile: &str) -> CommitId {
        self.commit_of(&[("Procfile", procfile)])
    }

    /// A commit with these files; the same files are the same commit.
    pub fn commit_of(&self, files: &[(&str, &str)]) -> CommitId {
        let files: Files = files.iter().map(|(path, text)| (path.to_string(), text.to_string())).collect();
        let id = CommitId::parse(&hex(&sha256(format!("{files:?}").as_bytes()))[..40]).unwrap();
        if self.commits.lock().unwrap().insert(id.clone(), files).is_none() {
            self.line.lock().unwrap().push(id.clone());
        }
        id
    }

    /// What main points at, as its Procfile.
    pub fn branch(&self, app: AppId) -> Option<String> {
        let commit = self.running.lock().unwrap().get(&app).cloned()?;
        self.commits.lock().unwrap().get(&commit)?.get("Procfile").cloned()
    }

    /// Points another branch of an app's repository at a commit, or deletes it.
    pub fn set_head(&self, app: AppId, branch: &str, commit: Option<&CommitId>) {
        let at = (app, BranchName::parse(branch).unwrap());
        match commit {
            Some(commit) => self.branches.lock().unwrap().insert(at, commit.clone()),
            None => self.branches.lock().unwrap().remove(&at),
        };
    }

    /// Deletes a branch at servers elsewhere.
    pub fn delete_elsewhere(&self, branch: &str) {
        self.gone_elsewhere.lock().unwrap().insert(BranchName::parse(branch).unwrap());
    }

    /// Lets fetches from elsewhere begin and not end, or end.
    pub fn hold_fetches(&self, held: bool) {
        self.held.send_replace(held);
    }

    /// How many fetches from elsewhere are under way.
    pub fn fetches(&self) -> usize {
        self.fetching.load(Ordering::SeqCst)
    }

    /// How many commits are kept for operations.
    pub fn pins(&self) -> usize {
        self.pins.lock().unwrap().len()
    }
}

#[async_trait]
impl Repositories for ProcfileRepositories {
    async fn create(&self, _: AppId) -> Result<(), PortError> {
        Ok(())
    }
    async fn remove(&self, app: AppId) -> Result<(), PortError> {
        self.running.lock().unwrap().remove(&app);
        self.branches.lock().unwrap().retain(|(of, _), _| *of != app);
        Ok(())
    }
    async fn pin(&self, _: AppId, operation: OperationId, commit: &CommitId) -> Result<(), PortError> {
        self.pins.lock().unwrap().insert(operation, commit.clone());
        Ok(())
    }
    async fn unpin(&self, _: AppId, operation: OperationId) -> Result<(), PortError> {
        self.pins.lock().unwrap().remove(&operation);
        Ok(())
    }
    async fn carry(&self, _: Place, to: AppId, operation: OperationId, commit: &CommitId) -> Result<(), PortError> {
        self.pin(to, operation, commit).await
    }
    async fn fetch(
        &self,
        _: &Remote,
        to: AppId,
        operation: OperationId,
        commit: &CommitId,
    ) -> Result<Result<(), FetchRefused>, PortError> {
        self.fetching.fetch_add(1, Ordering::SeqCst);
        // The sender is ours, and there as long as we are.
        let _ = self.held.subscribe().wait_for(|held| !held).await;
        self.fetching.fetch_sub(1, Ordering::SeqCst);
        if !self.commits.lock().unwrap().contains_key(commit) {
            return Ok(Err(FetchRefused(format!("there is no {}", commit.short()))));
        }
        self.pin(to, operation, commit).await.map(Ok)
    }
    async fn host_keys(&self, _: &SshServer) -> Result<Result<Vec<HostKey>, FetchRefused>, PortError> {
        Ok(Ok(vec![HostKey { kind: "ssh-ed25519".into(), body: "A".repeat(68) }]))
    }
    async fn branches_with_key(
        &self,
        _: &DeployKey,
        _: &RepositoryName,
        branches: &[BranchName],
    ) -> Result<Result<Vec<BranchName>, FetchRefused>, PortError> {
        let gone = self.gone_elsewhere.lock().unwrap();
        Ok(Ok(branches.iter().filter(|branch| !gone.contains(*branch)).cloned().collect()))
    }
    async fn branch(&self, app: AppId, branch: &BranchName) -> Result<Option<CommitId>, PortError> {
        Ok(self.branches.lock().unwrap().get(&(app, branch.clone())).cloned())
    }
    async fn set_branch(&self, app: AppId, commit: &CommitId) -> Result<(), PortError> {
        self.running.lock().unwrap().insert(app, commit.clone());
        Ok(())
    }
    async fn keep_release(&self, _: AppId, _: u64, _: &CommitId) -> Result<(), PortError> {
        Ok(())
    }
    async fn checkout(&self, _: AppId, commit: &CommitId, into: &Path) -> Result<(), PortError> {
        let files = self.commits.lock().unwrap().get(commit).cloned().ok_or(PortError("no such commit".into()))?;
        for (path, text) in files {
            std::fs::write(into.join(path), text).map_err(|e| PortError::new("writing", e))?;
        }
        Ok(())
    }
    async fn import(&self, _: AppId, archive: &Path, _: Option<&str>, _: &str) -> Result<CommitId, PortError> {
        let text = std::fs::read_to_string(archive).map_err(|e| PortError::new("reading", e))?;
        Ok(self.commit(&text))
    }
    async fn adopt(&self, _: AppId, _: &Spot) -> Result<(), PortError> {
        Ok(())
    }
    async fn commit_info(&self, _: AppId, _: &CommitId) -> Result<CommitInfo, PortError> {
        Ok(CommitInfo { subject: "A change".into(), author: "A. Person <person@example.org>".into() })
    }
    async fn maintain(&self, _: AppId) -> Result<(), PortError> {
        Ok(())
    }
    async fn size_bytes(&self, _: AppId) -> Result<u64, PortError> {
        Ok(4096)
    }
}

impl ProcfileRepositories {
    /// What was made after `from`, up to `to`, newest first.
    fn after(&self, from: &Spot, to: &Spot) -> Vec<Commit> {
        let (line, texts) = (self.line.lock().unwrap(), self.commits.lock().unwrap());
        let at = |spot: &Spot| line.iter().position(|c| *c == spot.commit).map_or(0, |at| at + 1);
        let made = line.get(at(from)..at(to)).unwrap_or_default();
        let commit = |id: &CommitId| Commit {
            id: id.clone(),
            subject: texts[id].values().flat_map(|text| text.lines()).next().unwrap_or_default().into(),
            author: "A. Person".into(),
            committed_at: Timestamp::UNIX_EPOCH,
        };
        made.iter().rev().map(commit).collect()
    }
}

#[async_trait]
impl Histories for ProcfileRepositories {
    async fn find(&self, _: Place, text: &str) -> Result<Option<CommitId>, PortError> {
        let line = self.line.lock().unwrap();
        let mut found = line.iter().filter(|id| id.as_str().starts_with(text));
        Ok(found.next().filter(|_| found.next().is_none()).cloned())
    }
    async fn commits(&self, base: &Spot, head: &Spot, limit: usize) -> Result<Commits, PortError> {
        let (mut ahead, mut behind) = (self.after(base, head), self.after(head, base));
        let (ahead_count, behind_count) = (ahead.len(), behind.len());
        ahead.truncate(limit);
        behind.truncate(limit);
        let authors = compare::authors(&ahead);
        Ok(Commits { ahead, ahead_count, behind, behind_count, authors, pull_requests: vec![] })
    }
    async fn extent(&self, base: &Spot, head: &Spot) -> Result<Extent, PortError> {
        let commits = self.after(base, head).len();
        Ok(Extent { commits, files: 1, added: commits, removed: 0 })
    }
    async fn migrations(&self, _: Option<&Spot>, _: &Spot) -> Result<Migrations, PortError> {
        Ok(Migrations::default())
    }
    async fn file(&self, at: &Spot, path: &str) -> Result<Option<String>, PortError> {
        Ok(self.commits.lock().unwrap().get(&at.commit).and_then(|files| files.get(path)).cloned())
    }
    async fn archive(&self, at: &Spot) -> Result<Archive, PortError> {
        let text = self.file(at, "Procfile").await?.unwrap_or_default();
        Ok(Box::new(std::io::Cursor::new(text.into_bytes())))
    }
    async fn standing(&self, at: &Spot, tip: &Spot, limit: usize) -> Result<Standing, PortError> {
        let between = self.commits(tip, at, limit).await?;
        let contained = if between.ahead_count == 0 { Contained::Commit } else { Contained::No };
        let Commits { ahead, ahead_count, behind, behind_count, .. } = between;
        Ok(Standing { contained, ahead, ahead_count, behind, behind_count })
    }
    async fn fetch_upstream(
        &self,
        _: PipelineId,
        from: &Remote,
        _: &str,
    ) -> Result<Result<CommitId, FetchRefused>, PortError> {
        let newest = self.line.lock().unwrap().last().cloned();
        Ok(newest.ok_or_else(|| FetchRefused(format!("{from:?} is empty"))))
    }
    async fn fetch_reference(
        &self,
        pipeline: PipelineId,
        _: &Remote,
        reference: &str,
    ) -> Result<Result<CommitId, FetchRefused>, PortError> {
        let found = self.find(Place::Upstream(pipeline), reference).await?;
        Ok(found.ok_or_else(|| FetchRefused(format!("there is no {reference}"))))
    }
    async fn take_upstream(&self, _: PipelineId, _: &str, _: &Spot) -> Result<(), PortError> {
        Ok(())
    }
    async fn remove_upstream(&self, _: PipelineId) -> Result<(), PortError> {
        Ok(())
    }
}
