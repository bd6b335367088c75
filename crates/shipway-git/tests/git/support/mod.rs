//! A server on a real port with the real git client before it.

use async_trait::async_trait;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use shipway_domain::{AccountId, AppId, CommitId};
use shipway_git::*;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use tokio::sync::Notify;

/// A handler that does as it is told by the name of the branch, and remembers what it saw.
#[derive(Default)]
pub struct Handler {
    pub seen: Mutex<Vec<Vec<RefUpdate>>>,
    pub options: Mutex<Vec<String>>,
    /// Pushes with the option `wait` wait for this, after they have said `waiting`.
    pub go: Notify,
    pub waiting: Notify,
    pub done: Notify,
}

#[async_trait]
impl PushHandler for Handler {
    async fn push(&self, push: Push, output: PushOutput) -> Vec<RefResult> {
        self.seen.lock().unwrap().push(push.commands.clone());
        self.options.lock().unwrap().extend(push.options.clone());
        output.line("-----> Building on the Shipway stack\x1b]0;title\x07");
        if push.options.iter().any(|option| option == "wait") {
            output.line("waiting");
            self.waiting.notify_one();
            self.go.notified().await;
        }
        let mut results = Vec::new();
        for command in &push.commands {
            let result = match (command.is_running_branch(), command.branch(), &command.new) {
                (_, Some("broken"), _) => Err("the build failed: `pip install` exited with 1\nsecond line".to_string()),
                (true, _, Some(new)) => match push.repo.peel(new).await.unwrap() {
                    None => Err("is not a commit".into()),
                    Some(new) => {
                        push.repo.compare_and_swap_branch(command.old.as_ref(), &new).await.map_err(|e| e.to_string())
                    }
                },
                _ => push.repo.store(std::slice::from_ref(command)).await.map_err(|e| e.to_string()),
            };
            results.push(result.map_or_else(RefResult::rejected, |()| RefResult::Accepted));
        }
        self.done.notify_one();
        results
    }
}

pub struct Server {
    pub address: SocketAddr,
    pub handler: Arc<Handler>,
    pub repo: Repo,
    pub git: GitHttp,
    pub directory: tempfile::TempDir,
    /// What must live as long as the server does.
    pub kept: Option<tempfile::TempDir>,
}

pub fn hook_program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let hook = test.parent().unwrap().parent().unwrap().join("examples/hook");
    assert!(hook.exists(), "run `cargo test -p shipway-git`, which builds {hook:?}");
    hook
}

impl Server {
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub async fn start_with(change: impl FnOnce(&mut GitConfig)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut config = GitConfig::new(hook_program(), directory.path().join("run"));
        change(&mut config);
        let git = GitHttp::start(config).unwrap();
        let repo = Repo::create(git.git(), &directory.path().join("repo.git")).await.unwrap();
        let handler = Arc::new(Handler::default());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (served, handling, serving) = (git.clone(), handler.clone(), repo.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (git, handler, repo) = (served.clone(), handling.clone(), serving.clone());
                tokio::spawn(async move {
                    let service = service_fn(move |request: http::Request<Incoming>| {
                        let (git, handler, repo) = (git.clone(), handler.clone(), repo.clone());
                        async move { Ok::<_, std::convert::Infallible>(answer(&git, &repo, handler, request).await) }
                    });
                    let _ = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self { address, handler, repo, git, directory, kept: None }
    }

    pub fn url(&self) -> String {
        format!("http://heroku:token@{}/shop.git", self.address)
    }

    pub async fn head(&self, refname: &str) -> Option<String> {
        self.repo.resolve(refname).await.unwrap().map(|id| id.to_string())
    }

    pub fn clone_dir(&self, name: &str) -> Work {
        Work { path: self.directory.path().join(name), url: self.url() }
    }
}

fn basic(credentials: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(credentials))
}

async fn answer(
    git: &GitHttp,
    repo: &Repo,
    handler: Arc<Handler>,
    request: http::Request<Incoming>,
) -> http::Response<GitBody> {
    let Some(call) = Call::parse(request.method(), request.uri()) else {
        let mut response = unauthorized();
        *response.status_mut() = http::StatusCode::NOT_FOUND;
        return response;
    };
    let shown = request.headers().get("authorization").and_then(|value| value.to_str().ok());
    if shown.is_none_or(|value| !["heroku:token", "u:t"].map(basic).contains(&value.to_string())) {
        return unauthorized();
    }
    let may_push = call.repository != "readonly";
    let (app, actor) = (AppId("11111111-1111-4111-8111-111111111111".parse().unwrap()), AccountId(Default::default()));
    git.handle(&call, request, repo, Access { app, actor, may_push }, handler).await
}

/// A person's checkout.
#[derive(Clone)]
pub struct Work {
    pub path: PathBuf,
    pub url: String,
}

impl Work {
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("git");
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        for (key, value) in [
            ("HOME", "/nonexistent"),
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_AUTHOR_NAME", "Ada"),
            ("GIT_AUTHOR_EMAIL", "ada@example.com"),
            ("GIT_COMMITTER_NAME", "Ada"),
            ("GIT_COMMITTER_EMAIL", "ada@example.com"),
            ("GIT_TERMINAL_PROMPT", "0"),
            ("LC_ALL", "C"),
        ] {
            command.env(key, value);
        }
        command.args(arguments).stdin(Stdio::null());
        if self.path.exists() {
            command.current_dir(&self.path);
        }
        command
    }

    /// Runs git; what it printed on both streams, and whether it ended well.
    pub async fn git(&self, arguments: &[&str]) -> (bool, String) {
        let mut command = self.command(arguments);
        let output: Output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).into_owned())
    }

    pub async fn ok(&self, arguments: &[&str]) -> String {
        let (success, text) = self.git(arguments).await;
        assert!(success, "git {arguments:?}: {text}");
        text
    }

    pub async fn fails(&self, arguments: &[&str]) -> String {
        let (success, text) = self.git(arguments).await;
        assert!(!success, "git {arguments:?} should fail: {text}");
        text
    }

    pub async fn init(&self) -> &Self {
        self.ok(&["init", "-q", "-b", "main", self.path.to_str().unwrap()]).await;
        self.ok(&["remote", "add", "heroku", &self.url]).await;
        self
    }

    pub async fn commit(&self, file: &str, content: &str) -> CommitId {
        let path = self.path.join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
        self.ok(&["add", "-A", "-f"]).await;
        self.ok(&["commit", "-q", "-m", &format!("Change {file}")]).await;
        self.ok(&["rev-parse", "HEAD"]).await.trim().parse().unwrap()
    }
}

/// Text that does not compress, the same each time.
pub fn noise(length: usize) -> String {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let step = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(33 + (state >> 40) as u8 % 90)
    };
    (0..length).map(step).collect()
}

/// The names and contents below a directory, without its `.git`.
pub fn tree(directory: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut waiting = vec![directory.to_path_buf()];
    while let Some(next) = waiting.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(directory).unwrap().display().to_string();
            if name == ".git" {
                continue;
            } else if path.is_symlink() {
                found.push((name, format!("-> {}", path.read_link().unwrap().display())));
            } else if path.is_dir() {
                waiting.push(path);
            } else {
                found.push((name, std::fs::read_to_string(path).unwrap()));
            }
        }
    }
    found.sort();
    found
}
