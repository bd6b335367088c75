//! A forge for tests: one repository with pull requests, comments, statuses and deployments, behind the API of GitHub,
//! GitLab or Gitea as far as it is asked here, over HTTP; and the webhooks that such a forge sends, signed.
//!
//! It refuses whoever does not show its token. What it was asked is kept, so that tests can hold it against what the
//! forges have published.

mod hooks;
mod http;
mod routes;

pub use hooks::Hook;

use serde_json::{Value, json};
use shipway_domain::forge::ForgeKind;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;

/// The repository that it has.
pub const REPOSITORY: &str = "acme/shop";
/// What opens it.
pub const TOKEN: &str = "forge-token";
/// When its clock begins, in seconds.
const BEGINNING: i64 = 1_750_000_000;

/// A pull request as the double has it.
#[derive(Debug, Clone)]
pub struct Pull {
    /// Its number.
    pub number: u64,
    /// Its branch.
    pub branch: String,
    /// The branch's commit.
    pub commit: String,
    /// The fork that it comes from.
    pub fork: Option<String>,
    /// Whether it is open.
    pub open: bool,
    /// When it changed, in seconds.
    pub changed_at: i64,
}

/// A request to its API.
#[derive(Debug, Clone)]
pub struct Asked {
    /// `GET`, …
    pub method: String,
    /// The path below the API's beginning, without its query.
    pub path: String,
    /// The query.
    pub query: String,
    /// The body; null without one.
    pub body: Value,
    /// What was answered.
    pub status: u16,
    /// The answer.
    pub answer: Value,
}

#[derive(Default)]
struct State {
    pulls: BTreeMap<u64, Pull>,
    /// `{id, number, body}`
    comments: Vec<Value>,
    statuses: Vec<Value>,
    /// `{id, environment, sha, payload, transient, states}`
    deployments: Vec<Value>,
    asked: Vec<Asked>,
    down: bool,
    /// Requests that change something until one is carried out and never answered.
    hangs_after: Option<usize>,
    hung: bool,
    clock: i64,
    ids: u64,
}

/// The forge.
#[derive(Clone)]
pub struct ForgeDouble {
    /// As which it speaks.
    pub kind: ForgeKind,
    address: SocketAddr,
    repositories: Option<PathBuf>,
    state: Arc<Mutex<State>>,
}

impl ForgeDouble {
    /// One at a free port of the loopback.
    pub async fn start(kind: ForgeKind) -> Self {
        Self::serve(kind, TcpListener::bind("127.0.0.1:0").await.unwrap(), None)
    }

    /// One behind `listener`; the bare repositories below `repositories` are there for git.
    pub fn serve(kind: ForgeKind, listener: TcpListener, repositories: Option<PathBuf>) -> Self {
        let address = listener.local_addr().unwrap();
        let double = Self { kind, address, repositories, state: Arc::default() };
        tokio::spawn(http::serve(double.clone(), listener));
        double
    }

    /// Its address, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Opens a pull request or changes one, and gives it as it is now.
    pub fn set_pull(&self, number: u64, branch: &str, commit: &str, open: bool) -> Pull {
        let mut state = self.state.lock().unwrap();
        state.clock += 1;
        let changed_at = BEGINNING + state.clock;
        let (branch, commit) = (branch.to_string(), commit.to_string());
        let pull = Pull { number, branch, commit, fork: None, open, changed_at };
        state.pulls.insert(number, pull.clone());
        pull
    }

    /// The same from a fork.
    pub fn set_fork_pull(&self, number: u64, fork: &str, branch: &str, commit: &str) -> Pull {
        let pull = Pull { fork: Some(fork.to_string()), ..self.set_pull(number, branch, commit, true) };
        self.state.lock().unwrap().pulls.insert(number, pull.clone());
        pull
    }

    /// Its pull requests that are open: number and commit.
    pub fn open_pulls(&self) -> BTreeMap<u64, String> {
        let state = self.state.lock().unwrap();
        state.pulls.values().filter(|p| p.open).map(|p| (p.number, p.commit.clone())).collect()
    }

    /// The comments of a pull request, oldest first.
    pub fn comments(&self, number: u64) -> Vec<String> {
        let state = self.state.lock().unwrap();
        let of = state.comments.iter().filter(|c| c["number"] == number);
        of.map(|c| c["body"].as_str().unwrap_or_default().to_string()).collect()
    }

    /// A comment of somebody else's.
    pub fn add_comment(&self, number: u64, body: &str) {
        let mut state = self.state.lock().unwrap();
        state.ids += 1;
        let comment = json!({ "id": state.ids, "number": number, "body": body });
        state.comments.push(comment);
    }

    /// What was said of commits: `pending shipway/acorn …`, oldest first.
    pub fn statuses(&self, commit: &str) -> Vec<String> {
        let state = self.state.lock().unwrap();
        let of = state.statuses.iter().filter(|s| s["sha"] == commit);
        let word = |s: &Value, name: &str| s[name].as_str().unwrap_or_default().to_string();
        of.map(|s| [word(s, "state"), word(s, "context"), word(s, "target_url")].join(" ").trim().to_string()).collect()
    }

    /// The deployments of an environment, oldest first: `{id, environment, sha, payload, transient, states}`.
    pub fn deployments(&self, environment: &str) -> Vec<Value> {
        let state = self.state.lock().unwrap();
        state.deployments.iter().filter(|d| d["environment"] == environment).cloned().collect()
    }

    /// What its API was asked, oldest first.
    pub fn asked(&self) -> Vec<Asked> {
        self.state.lock().unwrap().asked.clone()
    }

    /// Has it carry out the request that changes something after `n` more of them, and never answer it.
    pub fn hang_after(&self, n: usize) {
        self.state.lock().unwrap().hangs_after = Some(n);
    }

    /// Whether there was such a request.
    pub fn hung(&self) -> bool {
        self.state.lock().unwrap().hung
    }

    /// Has it answer 503 to everything, or no longer.
    pub fn set_down(&self, down: bool) {
        self.state.lock().unwrap().down = down;
    }
}

fn time(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).unwrap().to_string()
}
