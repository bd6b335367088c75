//! Repositories in memory, whose commits are Procfiles.

use async_trait::async_trait;
use shipway_domain::{AppId, CommitId, OperationId};
use shipway_engine::ports::{CommitInfo, PortError, Repositories};
use shipway_store::{hex, sha256};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Mutex;

/// Every app sees every commit; branches and pins are kept per app and operation.
#[derive(Default)]
pub struct ProcfileRepositories {
    commits: Mutex<HashMap<CommitId, String>>,
    branches: Mutex<HashMap<AppId, CommitId>>,
    pins: Mutex<HashMap<OperationId, CommitId>>,
}

impl ProcfileRepositories {
    /// A commit with this Procfile; the same text is the same commit.
    pub fn commit(&self, procfile: &str) -> CommitId {
        let id = CommitId::parse(&hex(&sha256(procfile.as_bytes()))[..40]).unwrap();
        self.commits.lock().unwrap().insert(id.clone(), procfile.into());
        id
    }

    /// What main points at, as its Procfile.
    pub fn branch(&self, app: AppId) -> Option<String> {
        let commit = self.branches.lock().unwrap().get(&app).cloned()?;
        self.commits.lock().unwrap().get(&commit).cloned()
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
        self.branches.lock().unwrap().remove(&app);
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
    async fn set_branch(&self, app: AppId, commit: &CommitId) -> Result<(), PortError> {
        self.branches.lock().unwrap().insert(app, commit.clone());
        Ok(())
    }
    async fn keep_release(&self, _: AppId, _: u64, _: &CommitId) -> Result<(), PortError> {
        Ok(())
    }
    async fn checkout(&self, _: AppId, commit: &CommitId, into: &Path) -> Result<(), PortError> {
        let procfile = self.commits.lock().unwrap().get(commit).cloned();
        let procfile = procfile.ok_or(PortError("no such commit".into()))?;
        std::fs::write(into.join("Procfile"), procfile).map_err(|e| PortError::new("writing", e))
    }
    async fn import(&self, _: AppId, archive: &Path, _: Option<&str>, _: &str) -> Result<CommitId, PortError> {
        let text = std::fs::read_to_string(archive).map_err(|e| PortError::new("reading", e))?;
        Ok(self.commit(&text))
    }
    async fn commit_info(&self, _: AppId, _: &CommitId) -> Result<CommitInfo, PortError> {
        Ok(CommitInfo { subject: "A change".into(), author: "A. Person <person@example.org>".into() })
    }
    async fn size_bytes(&self, _: AppId) -> Result<u64, PortError> {
        Ok(4096)
    }
}
