//! What the server does with a push: from the hook's message to the handler's answer.

use crate::hook::SOCKET_VARIABLE;
use crate::repo::Repo;
use crate::text::terminal_safe;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use shipway_domain::{AccountId, AppId, CommitId};
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Notify;

/// The longest request of a hook, in bytes: 100,000 refs with long names.
const MAX_REQUEST: usize = 32 << 20;
/// Output that a stalled pusher has not taken is kept up to this many bytes; the deploy never waits for a terminal.
const MAX_BACKLOG: usize = 4 << 20;

/// One ref that a pusher wants to change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefUpdate {
    /// What it points at; none when it is to be made.
    pub old: Option<CommitId>,
    /// What it is to point at; none when it is to be deleted. For an annotated tag the tag object.
    pub new: Option<CommitId>,
    /// Its full name: `refs/heads/main`. Checked by git to be well-formed; still any characters that git allows.
    pub refname: String,
}

impl RefUpdate {
    pub(crate) fn from_wire(old: &str, new: &str, refname: &str) -> io::Result<Self> {
        let object = |id: &str| match id.bytes().all(|b| b == b'0') {
            true => Ok(None),
            false => CommitId::parse(id).map(Some).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e)),
        };
        Ok(Self { old: object(old)?, new: object(new)?, refname: refname.to_string() })
    }

    /// The branch's name without `refs/heads/`; none for anything else.
    pub fn branch(&self) -> Option<&str> {
        self.refname.strip_prefix("refs/heads/")
    }

    /// The tag's name without `refs/tags/`; none for anything else.
    pub fn tag(&self) -> Option<&str> {
        self.refname.strip_prefix("refs/tags/")
    }

    /// The branch of the line that a team works on, without `refs/upstream/`; none for anything else.
    pub fn upstream(&self) -> Option<&str> {
        self.refname.strip_prefix("refs/upstream/")
    }

    /// Whether this is the branch that runs, under either of its names.
    pub fn is_running_branch(&self) -> bool {
        matches!(self.branch(), Some("main" | "master"))
    }
}

/// What becomes of one ref.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefResult {
    /// The pusher's git shows it as pushed. The handler has moved the ref, or has its reason not to.
    Accepted,
    /// The pusher's git shows `! [remote rejected] … (reason)` and fails.
    Rejected {
        /// One line; longer ones are cut at 500 characters.
        reason: String,
    },
}

impl RefResult {
    /// A refusal with this reason.
    pub fn rejected(reason: impl Into<String>) -> Self {
        Self::Rejected { reason: reason.into() }
    }
}

/// A push whose objects have arrived and were checked, and whose refs have not moved.
#[derive(Debug, Clone)]
pub struct Push {
    /// Where to.
    pub app: AppId,
    /// By whom.
    pub actor: AccountId,
    /// Where the objects are.
    pub repo: Repo,
    /// What is asked for: at least one, branches and tags only. Deleting the running branch is refused before.
    pub commands: Vec<RefUpdate>,
    /// What was given with `git push -o`.
    pub options: Vec<String>,
}

/// Decides what becomes of pushes.
#[async_trait]
pub trait PushHandler: Send + Sync + 'static {
    /// Carries the push out and answers for each of `push.commands`, in their order (a missing answer is a refusal).
    ///
    /// Runs to its end even when the pusher is gone. It moves the refs itself ([`Repo::set_branch`],
    /// [`Repo::store`]): git takes its word.
    async fn push(&self, push: Push, output: PushOutput) -> Vec<RefResult>;
}

/// Lines for whoever pushes. Never blocks; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct PushOutput {
    shared: Arc<Backlog>,
}

#[derive(Debug, Default)]
struct Backlog {
    state: Mutex<BacklogState>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct BacklogState {
    text: String,
    dropped: usize,
    finished: bool,
    gone: bool,
}

impl PushOutput {
    /// Prints one line (or several, when it holds line ends) as `remote: <line>`. What could steer the pusher's
    /// terminal is taken out, except colours.
    pub fn line(&self, line: &str) {
        let mut state = self.shared.state.lock().expect("no panic while locked");
        if state.gone {
            return;
        }
        if state.text.len() + line.len() > MAX_BACKLOG {
            state.dropped += 1;
        } else {
            state.text.push_str(&terminal_safe(line.trim_end_matches(['\n', '\r'])));
            state.text.push('\n');
        }
        drop(state);
        self.shared.changed.notify_one();
    }

    /// Whether somebody still reads; a deploy does not ask, a progress bar may.
    pub fn is_read(&self) -> bool {
        !self.shared.state.lock().expect("no panic while locked").gone
    }

    fn finish(&self) {
        self.shared.state.lock().expect("no panic while locked").finished = true;
        self.shared.changed.notify_one();
    }

    fn abandon(&self) {
        let mut state = self.shared.state.lock().expect("no panic while locked");
        state.gone = true;
        state.text = String::new();
    }

    /// What was printed since the last call; none once all was taken and nothing more comes.
    async fn take(&self) -> Option<String> {
        loop {
            {
                let mut state = self.shared.state.lock().expect("no panic while locked");
                let mut text = std::mem::take(&mut state.text);
                let dropped = std::mem::take(&mut state.dropped);
                if dropped > 0 {
                    text.push_str(&format!("[{dropped} lines were not shown: the terminal was too slow]\n"));
                }
                if !text.is_empty() {
                    return Some(text);
                }
                if state.finished {
                    return None;
                }
            }
            self.shared.changed.notified().await;
        }
    }
}

/// What a hook says first, and only.
#[derive(Serialize, Deserialize)]
pub(crate) struct HookRequest {
    pub(crate) ticket: String,
    pub(crate) commands: Vec<RefUpdate>,
    pub(crate) options: Vec<String>,
}

/// What it hears: output as it comes, then the results, then the end.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    Output(String),
    Results(Vec<RefResult>),
}

/// A push that is on its way through git: what the hook cannot be trusted to say about itself.
pub(crate) struct Pending {
    pub(crate) app: AppId,
    pub(crate) actor: AccountId,
    pub(crate) repo: Repo,
    pub(crate) handler: Arc<dyn PushHandler>,
}

/// Waits for hooks on a socket and hands their pushes to the handlers.
#[derive(Clone)]
pub(crate) struct HookServer {
    socket: PathBuf,
    pending: Arc<Mutex<HashMap<String, Pending>>>,
}

/// Names a push until it is dropped.
pub(crate) struct Ticket {
    name: String,
    server: HookServer,
}

impl Ticket {
    pub(crate) fn environment(&self) -> [(&'static str, &std::ffi::OsStr); 2] {
        [(SOCKET_VARIABLE, self.server.socket.as_os_str()), (crate::hook::TICKET_VARIABLE, self.name.as_ref())]
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.server.pending.lock().expect("no panic while locked").remove(&self.name);
    }
}

impl HookServer {
    /// Listens on `socket`; one that a former server left there is replaced.
    pub(crate) fn start(socket: &Path) -> io::Result<Self> {
        match std::fs::remove_file(socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(socket)?;
        let server = Self { socket: socket.to_path_buf(), pending: Arc::default() };
        let accepting = server.clone();
        tokio::spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((hook, _)) => {
                        let server = accepting.clone();
                        tokio::spawn(async move {
                            if let Err(error) = server.serve(hook).await {
                                tracing::warn!(%error, "a push's hook went away");
                            }
                        });
                    }
                    Err(error) => {
                        // Out of descriptors, most likely: others give some back.
                        tracing::error!(%error, "cannot accept a push's hook");
                        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                    }
                }
            }
        });
        Ok(server)
    }

    pub(crate) fn ticket(&self, pending: Pending) -> Ticket {
        let name = uuid::Uuid::new_v4().simple().to_string();
        self.pending.lock().expect("no panic while locked").insert(name.clone(), pending);
        Ticket { name, server: self.clone() }
    }

    async fn serve(&self, mut hook: UnixStream) -> io::Result<()> {
        let length = hook.read_u32().await? as usize;
        if length > MAX_REQUEST {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a push with too many refs"));
        }
        let mut request = vec![0; length];
        hook.read_exact(&mut request).await?;
        let request: HookRequest = serde_json::from_slice(&request)?;
        // A ticket is taken once: a hook cannot push twice.
        let pending = self.pending.lock().expect("no panic while locked").remove(&request.ticket);
        let Some(pending) = pending else {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "unknown push ticket"));
        };
        let output = PushOutput::default();
        // A task of its own: the push goes on when the hook does not.
        let handled = tokio::spawn(handle(pending, request, output.clone()));
        let forwarded = forward(&mut hook, &output).await;
        if forwarded.is_err() {
            output.abandon();
        }
        let results = handled.await.map_err(io::Error::other)?;
        forwarded?;
        write_answer(&mut hook, &Answer::Results(results)).await
    }
}

async fn forward(hook: &mut UnixStream, output: &PushOutput) -> io::Result<()> {
    while let Some(text) = output.take().await {
        write_answer(hook, &Answer::Output(text)).await?;
    }
    Ok(())
}

async fn write_answer(hook: &mut UnixStream, answer: &Answer) -> io::Result<()> {
    let message = serde_json::to_vec(answer)?;
    hook.write_u32(message.len() as u32).await?;
    hook.write_all(&message).await
}

/// Ends the output however the handler ends, or the pusher would wait forever.
struct Finish(PushOutput);

impl Drop for Finish {
    fn drop(&mut self) {
        self.0.finish();
    }
}

/// Refuses what nobody may push and asks the handler about the rest.
async fn handle(pending: Pending, request: HookRequest, output: PushOutput) -> Vec<RefResult> {
    let _finish = Finish(output.clone());
    let refusals: Vec<Option<RefResult>> = request.commands.iter().map(refusal).collect();
    let allowed = request.commands.iter().zip(&refusals).filter(|(_, refusal)| refusal.is_none());
    let commands: Vec<RefUpdate> = allowed.map(|(command, _)| command.clone()).collect();
    let mut answers = Vec::new();
    if !commands.is_empty() {
        let Pending { app, actor, repo, handler } = pending;
        answers = handler.push(Push { app, actor, repo, commands, options: request.options }, output).await;
    }
    let mut answers = answers.into_iter();
    let answer = || answers.next().unwrap_or_else(|| RefResult::rejected("the server gave no answer for this ref"));
    let mut next = answer;
    refusals.into_iter().map(|refusal| refusal.unwrap_or_else(&mut next)).collect()
}

fn refusal(command: &RefUpdate) -> Option<RefResult> {
    if command.is_running_branch() && command.new.is_none() {
        let name = command.branch().unwrap_or_default();
        let reason = format!("{name} is what runs and cannot be deleted; `heroku apps:destroy` removes the app");
        return Some(RefResult::rejected(reason));
    }
    if command.branch().or(command.tag()).or(command.upstream()).is_none() {
        return Some(RefResult::rejected("only branches (refs/heads/) and tags (refs/tags/) can be pushed"));
    }
    None
}
