//! Histories, and the lines that teams work on.

use crate::GitRepositories;
use async_trait::async_trait;
use jiff::Timestamp;
use shipway_domain::compare::{self, Commit, Commits, Extent, Standing};
use shipway_domain::migrations::{self, Migrations, Scan, TreeFile};
use shipway_domain::triggers::{RefKind, RefName};
use shipway_domain::{CommitId, PipelineId};
use shipway_engine::ports::{Archive, FetchRefused, Histories, Place, PortError, Remote, Spot};
use shipway_git::{CommitInfo, GitError, Repo};
use std::collections::HashMap;
use std::sync::Mutex;

/// A larger file is no migration that anybody wrote.
const MAX_MIGRATION: u64 = 1 << 20;
/// What is read of a tree by name, in bytes.
const MAX_FILE: u64 = 256 << 10;
/// Answers that are remembered; then all are forgotten.
const REMEMBERED: usize = 4096;

/// Answers about commits, which never change.
#[derive(Default)]
pub(crate) struct Memory {
    extents: Mutex<HashMap<(CommitId, CommitId), Extent>>,
    standings: Mutex<HashMap<(CommitId, CommitId, usize), Standing>>,
}

/// What was answered before, or what `ask` answers now.
async fn remembered<K: std::hash::Hash + Eq, V: Clone>(
    memory: &Mutex<HashMap<K, V>>,
    key: K,
    ask: impl Future<Output = Result<V, PortError>>,
) -> Result<V, PortError> {
    if let Some(answer) = memory.lock().expect("nobody panics while they hold it").get(&key) {
        return Ok(answer.clone());
    }
    let answer = ask.await?;
    let mut memory = memory.lock().expect("nobody panics while they hold it");
    if memory.len() >= REMEMBERED {
        memory.clear();
    }
    memory.insert(key, answer.clone());
    Ok(answer)
}

impl GitRepositories {
    pub(crate) fn at(&self, place: Place) -> Repo {
        match place {
            Place::App(app) => self.repo(app),
            Place::Upstream(pipeline) => self.upstream(pipeline),
        }
    }

    fn upstream(&self, pipeline: PipelineId) -> Repo {
        Repo::open(self.git(), &self.home().join("upstreams").join(format!("{pipeline}.git")))
    }

    /// A repository in which both spots can be named.
    fn both(&self, one: &Spot, other: &Spot) -> Repo {
        self.at(one.place).seeing(&[&self.at(other.place)])
    }
}

/// The hidden name of an upstream's branch.
fn line(branch: &str) -> String {
    format!("refs/heads/{branch}")
}

fn failed(doing: &str) -> impl FnOnce(GitError) -> PortError {
    move |e| PortError::new(doing, e)
}

fn commit(info: CommitInfo) -> Commit {
    let committed_at = Timestamp::from_second(info.time).unwrap_or(Timestamp::UNIX_EPOCH);
    Commit { id: info.id, subject: info.subject, author: info.author, committed_at }
}

fn commits(infos: Vec<CommitInfo>) -> Vec<Commit> {
    infos.into_iter().map(commit).collect()
}

#[async_trait]
impl Histories for GitRepositories {
    async fn find(&self, place: Place, text: &str) -> Result<Option<CommitId>, PortError> {
        self.at(place).find(text).await.map_err(failed("finding a commit"))
    }

    async fn commits(&self, base: &Spot, head: &Spot, limit: usize) -> Result<Commits, PortError> {
        let between = self.both(base, head).between(&base.commit, &head.commit, limit).await;
        let between = between.map_err(failed("comparing two commits"))?;
        let mut pull_requests: Vec<compare::PullRequest> = Vec::new();
        let merges = between.merges.iter().map(|merge| (merge.subject.as_str(), merge.body.as_str()));
        let singles = between.ahead.iter().map(|commit| (commit.subject.as_str(), ""));
        for found in merges.chain(singles).filter_map(|(subject, body)| compare::pull_request(subject, body)) {
            if !pull_requests.iter().any(|known| known.number == found.number) {
                pull_requests.push(found);
            }
        }
        let ahead = commits(between.ahead);
        Ok(Commits {
            authors: compare::authors(&ahead),
            ahead,
            ahead_count: between.ahead_count,
            behind: commits(between.behind),
            behind_count: between.behind_count,
            pull_requests,
        })
    }

    async fn extent(&self, base: &Spot, head: &Spot) -> Result<Extent, PortError> {
        let ask = async {
            let repo = self.both(base, head);
            let doing = "measuring a difference";
            let between = repo.between(&base.commit, &head.commit, 0).await.map_err(failed(doing))?;
            let extent = repo.extent(&base.commit, &head.commit).await.map_err(failed(doing))?;
            let shipway_git::Extent { files, added, removed } = extent;
            Ok(Extent { commits: between.ahead_count, files, added, removed })
        };
        remembered(&self.memory().extents, (base.commit.clone(), head.commit.clone()), ask).await
    }

    async fn migrations(&self, base: Option<&Spot>, head: &Spot) -> Result<Migrations, PortError> {
        let doing = "looking for migrations";
        let repo = self.both(base.unwrap_or(head), head);
        let tree = async |commit: &CommitId| -> Result<Vec<TreeFile>, PortError> {
            let files = repo.files(commit, migrations::is_candidate).await.map_err(failed(doing))?;
            Ok(files.into_iter().map(|(path, blob)| TreeFile { path, blob }).collect())
        };
        let before = match base {
            Some(base) => tree(&base.commit).await?,
            None => Vec::new(),
        };
        let scan = Scan::new(&before, &tree(&head.commit).await?);
        let wanted: Vec<String> = scan.wanted().into_iter().collect();
        let contents = repo.texts(&wanted, MAX_MIGRATION).await.map_err(failed(doing))?;
        Ok(scan.finish(&contents))
    }

    async fn file(&self, at: &Spot, path: &str) -> Result<Option<String>, PortError> {
        let blob = format!("{}:{path}", at.commit);
        let texts = self.at(at.place).texts(std::slice::from_ref(&blob), MAX_FILE).await;
        Ok(texts.map_err(failed("reading a file of a commit"))?.remove(&blob))
    }

    async fn archive(&self, at: &Spot) -> Result<Archive, PortError> {
        let export = self.at(at.place).export(&at.commit).await.map_err(failed("making an archive"))?;
        Ok(Box::new(export))
    }

    async fn standing(&self, at: &Spot, tip: &Spot, limit: usize) -> Result<Standing, PortError> {
        let ask = async {
            let found = self.both(at, tip).standing(&at.commit, &tip.commit, limit).await;
            let found = found.map_err(failed("comparing with upstream"))?;
            Ok(Standing {
                contained: found.contained,
                ahead: commits(found.ahead),
                ahead_count: found.ahead_count,
                behind: commits(found.behind),
                behind_count: found.behind_count,
            })
        };
        remembered(&self.memory().standings, (at.commit.clone(), tip.commit.clone(), limit), ask).await
    }

    async fn fetch_upstream(
        &self,
        pipeline: PipelineId,
        from: &Remote,
        branch: &str,
    ) -> Result<Result<CommitId, FetchRefused>, PortError> {
        let doing = "fetching an upstream";
        let repo = self.upstream(pipeline);
        let repo = Repo::create(self.git(), repo.path()).await.map_err(failed(doing))?;
        let refname = line(branch);
        let brought = self.bring(&repo, from, &format!("+{refname}:{refname}")).await.map_err(failed(doing))?;
        if let Err(refused) = brought {
            return Ok(Err(refused));
        }
        let tip = repo.resolve(&refname).await.map_err(failed(doing))?;
        Ok(tip.ok_or_else(|| FetchRefused(format!("it has no branch {branch}"))))
    }

    async fn fetch_reference(
        &self,
        pipeline: PipelineId,
        from: &Remote,
        reference: &str,
    ) -> Result<Result<CommitId, FetchRefused>, PortError> {
        let doing = "asking a forge for code";
        let names = [RefName::new(RefKind::Branch, reference).ok(), RefName::new(RefKind::Tag, reference).ok()];
        let full = |name: &RefName| match name {
            RefName::Branch(branch) => format!("refs/heads/{branch}"),
            RefName::Tag(tag) => format!("refs/tags/{tag}"),
        };
        let sources: Vec<String> = match CommitId::parse(reference) {
            Ok(commit) => vec![commit.to_string()],
            Err(_) => names.iter().flatten().map(full).collect(),
        };
        let repo = self.upstream(pipeline);
        let repo = Repo::create(self.git(), repo.path()).await.map_err(failed(doing))?;
        // A name of this question's own, which others that are asked at once do not move.
        let asked = format!("refs/shipway/asked/{}", uuid::Uuid::new_v4());
        let mut refused = FetchRefused(format!("{reference:?} is not a name that git allows"));
        for source in sources {
            match self.bring(&repo, from, &format!("+{source}:{asked}")).await.map_err(failed(doing))? {
                Ok(()) => {
                    let commit = repo.find(&asked).await.map_err(failed(doing))?;
                    return Ok(commit.ok_or_else(|| FetchRefused(format!("{reference} is no commit"))));
                }
                Err(said) => refused = said,
            }
        }
        Ok(Err(refused))
    }

    async fn take_upstream(&self, pipeline: PipelineId, branch: &str, from: &Spot) -> Result<(), PortError> {
        let doing = "taking an upstream";
        let repo = self.upstream(pipeline);
        let repo = Repo::create(self.git(), repo.path()).await.map_err(failed(doing))?;
        repo.take(&self.at(from.place), &from.commit, &line(branch)).await.map_err(failed(doing))
    }

    async fn remove_upstream(&self, pipeline: PipelineId) -> Result<(), PortError> {
        crate::repositories::remove(self.upstream(pipeline).path().to_path_buf(), "removing an upstream").await
    }
}
