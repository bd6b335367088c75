//! Smart HTTP: requests in, a git process, answers out. Nothing of a web framework.
//!
//! Both ways are streamed in pieces; the server holds a few of them whatever the size of a push. Source: git,
//! `Documentation/gitprotocol-http`.

use crate::explain::Explained;
use crate::git::{Git, GitConfig, stderr_text};
use crate::hook::{HOOK, PROGRAM_VARIABLE};
use crate::pkt::{FLUSH, packet};
use crate::push::{HookServer, Pending, PushHandler, Ticket};
use crate::repo::{Repo, free_bytes};
use bytes::Bytes;
use flate2::write::GzDecoder;
use http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use shipway_domain::{AccountId, AppId, CommitId};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::pin::Pin;
use std::process::Stdio;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc;

/// What is read from git at once, and how many such pieces wait for a slow client.
const PIECE: usize = 32 << 10;
const PIECES: usize = 8;
/// Compressed bodies are taken in slices of this size: a bomb expands to a thousand times one slice at most.
const GZIP_SLICE: usize = 1 << 10;
/// How long the rest of an upload is read when git has ended before it, so that the client sees git's answer.
const DRAIN: Duration = Duration::from_secs(60);

const SHALLOW: &str = "this clone is shallow, and the app does not have the history that it lacks: \
     run `git fetch --unshallow` and push again (in GitHub Actions: `fetch-depth: 0`)";

/// Which half of git is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// Fetch and clone.
    UploadPack,
    /// Push.
    ReceivePack,
}

impl Service {
    fn command(self) -> &'static str {
        match self {
            Self::UploadPack => "upload-pack",
            Self::ReceivePack => "receive-pack",
        }
    }

    fn content_type(self, kind: &str) -> HeaderValue {
        let text = format!("application/x-git-{}-{kind}", self.command());
        HeaderValue::try_from(text).expect("letters and dashes")
    }
}

/// A request of a git client, as its method and address say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// What stands before `.git` in the path, unchecked: an app's name or id.
    pub repository: String,
    /// Which half of git.
    pub service: Service,
    /// Whether this is the first request, which asks for the refs.
    pub advertise: bool,
}

impl Call {
    /// Reads `GET /<name>.git/info/refs?service=git-…` and `POST /<name>.git/git-…`, with or without `.git`; none for
    /// anything else, also for the "dumb" protocol.
    pub fn parse(method: &Method, uri: &Uri) -> Option<Self> {
        let service = |name: &str| match name {
            "git-upload-pack" => Some(Service::UploadPack),
            "git-receive-pack" => Some(Service::ReceivePack),
            _ => None,
        };
        let (repository, rest) = uri.path().strip_prefix('/')?.split_once('/')?;
        let repository = repository.strip_suffix(".git").unwrap_or(repository).to_string();
        if method == Method::GET && rest == "info/refs" {
            let named = uri.query()?.split('&').find_map(|pair| pair.strip_prefix("service="));
            return Some(Self { repository, service: service(named?)?, advertise: true });
        }
        let service = service(rest).filter(|_| method == Method::POST)?;
        Some(Self { repository, service, advertise: false })
    }

    /// An answer that git prints as `fatal: remote error: <message>`; a status code's text it would not show.
    pub fn refuse(&self, message: &str) -> Response<GitBody> {
        let mut body = if self.advertise { self.announcement() } else { Vec::new() };
        let message = crate::text::one_line(message, 1000);
        if self.advertise || self.service == Service::UploadPack {
            body.extend_from_slice(&packet(format!("ERR {message}\n").as_bytes()));
        } else {
            body.extend_from_slice(&push_error(&message));
        }
        self.response(GitBody::full(body))
    }

    fn announcement(&self) -> Vec<u8> {
        let mut announcement = packet(format!("# service=git-{}\n", self.service.command()).as_bytes());
        announcement.extend_from_slice(FLUSH);
        announcement
    }

    fn response(&self, body: GitBody) -> Response<GitBody> {
        let mut response = Response::new(body);
        let kind = if self.advertise { "advertisement" } else { "result" };
        response.headers_mut().insert(CONTENT_TYPE, self.service.content_type(kind));
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, max-age=0, must-revalidate"));
        response
    }
}

/// What ends a push that git has not ended itself; without it some clients wait forever. The 3 is the side band on
/// which a client prints an error and gives up.
fn push_error(message: &str) -> Vec<u8> {
    [packet(format!("\x03{message}\n").as_bytes()).as_slice(), FLUSH].concat()
}

/// Who asks, for what, and what they may do. Decided by the caller, for every request.
#[derive(Debug, Clone)]
pub struct Access {
    /// Whose repository it is.
    pub app: AppId,
    /// Who asks.
    pub actor: AccountId,
    /// Whether they may push; that they may fetch is taken for granted.
    pub may_push: bool,
}

/// The answer to a git client that has not said who it is: 401 with the challenge that makes it ask its credential
/// helpers.
pub fn unauthorized() -> Response<GitBody> {
    challenge("This repository needs a login: run `heroku login`, or push with a token as the password.\n")
}

/// The same to one that has said so, by what lets nobody in. It has its helpers forget that.
pub fn token_refused() -> Response<GitBody> {
    challenge(
        "That token is unknown here, was revoked or has expired. Get another one: eval \"$(shipway env)\", or heroku login\n",
    )
}

fn challenge(text: &str) -> Response<GitBody> {
    let mut response = plain(StatusCode::UNAUTHORIZED, text);
    response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"Shipway\""));
    response
}

fn plain(status: StatusCode, text: &str) -> Response<GitBody> {
    let mut response = Response::new(GitBody::full(text.as_bytes().to_vec()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// The body of an answer: a few bytes, or what git says as it says it.
pub struct GitBody {
    first: Option<Bytes>,
    rest: Option<mpsc::Receiver<Bytes>>,
}

impl GitBody {
    fn full(bytes: Vec<u8>) -> Self {
        Self { first: Some(bytes.into()).filter(|bytes: &Bytes| !bytes.is_empty()), rest: None }
    }
}

impl Body for GitBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        match &mut self.rest {
            Some(rest) => rest.poll_recv(cx).map(|piece| piece.map(|piece| Ok(Frame::data(piece)))),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.rest.is_none()
    }
}

/// Serves repositories to git clients. One per server; cheap to clone.
#[derive(Clone)]
pub struct GitHttp {
    git: Git,
    hooks: HookServer,
}

impl GitHttp {
    /// Writes the hook, listens for it at `<run_dir>/git.sock`, and is ready. Needs a tokio runtime around it.
    ///
    /// Errors: what the file system says about `run_dir`, in which a socket's path must fit (about 100 bytes).
    pub fn start(mut config: GitConfig) -> io::Result<Self> {
        std::fs::create_dir_all(&config.run_dir)?;
        config.run_dir = config.run_dir.canonicalize()?;
        let socket = config.run_dir.join("git.sock");
        let git = Git::new(config);
        git.forget_keys()?;
        let hooks = git.hooks_dir();
        std::fs::create_dir_all(&hooks)?;
        let (hook, fresh) = (hooks.join("proc-receive"), hooks.join("proc-receive.new"));
        std::fs::write(&fresh, HOOK)?;
        std::fs::set_permissions(&fresh, PermissionsExt::from_mode(0o755))?;
        std::fs::rename(&fresh, &hook)?;
        let hooks = HookServer::start(&socket)?;
        std::fs::set_permissions(&socket, PermissionsExt::from_mode(0o600))?;
        Ok(Self { git, hooks })
    }

    /// How git is started here; repositories are opened with it.
    pub fn git(&self) -> &Git {
        &self.git
    }

    /// Answers one request on `repo`. Never a 5xx: what goes wrong is said in git's own protocol.
    ///
    /// What git does goes on when the client is gone: a push that has arrived is carried out, its output read away.
    pub async fn handle<B>(
        &self,
        call: &Call,
        request: Request<B>,
        repo: &Repo,
        access: Access,
        handler: Arc<dyn PushHandler>,
    ) -> Response<GitBody>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Send,
    {
        let pushes = call.service == Service::ReceivePack;
        if pushes && !access.may_push {
            return call.refuse("you may fetch from this app but not push to it; its owner can give you `deploy`");
        }
        if !call.advertise && request.headers().get(CONTENT_TYPE) != Some(&call.service.content_type("request")) {
            return plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, "This address is for git clients.\n");
        }
        if let Some(why) = pushes.then(|| disk_trouble(repo.path())).flatten() {
            return call.refuse(why);
        }
        let (head, body) = request.into_parts();
        let mut body = Box::pin(body);
        let mut first = None;
        if pushes && !call.advertise {
            first = body.frame().await.and_then(Result::ok).and_then(|frame| frame.into_data().ok());
            let shallow = shallow_commits(first.as_deref().unwrap_or_default());
            if !shallow.is_empty() && !repo.has_all(&shallow).await {
                // Before the answer: over HTTP/2 some git clients do not see one end that is over before their upload is.
                drain(body).await;
                return call.refuse(SHALLOW);
            }
        }
        let mut command = Command::from(self.git.command(repo.path()));
        command.arg(call.service.command()).arg("--stateless-rpc");
        if call.advertise {
            command.arg("--http-backend-info-refs");
        }
        command.arg(repo.path()).stdin(Stdio::piped());
        let version = protocol_version(&head.headers);
        command.envs(version.map(|version| ("GIT_PROTOCOL", version)));
        let mut ticket = None;
        if pushes && !call.advertise {
            let pending = Pending { app: access.app, actor: access.actor, repo: repo.clone(), handler };
            let taken = self.hooks.ticket(pending);
            command.envs(taken.environment()).env(PROGRAM_VARIABLE, &self.git.config.hook_program);
            ticket = Some(taken);
        }
        let child = match command.spawn() {
            Ok(child) => child,
            Err(error) => {
                tracing::error!(%error, git = ?self.git.config.git, "cannot start git");
                return call.refuse("this server cannot start git; whoever runs it finds the reason in its log");
            }
        };
        let speaks_v2 = version.is_some_and(|version| version.split(':').any(|part| part == "version=2"));
        let announcement = match call.advertise && !(speaks_v2 && call.service == Service::UploadPack) {
            true => Some(Bytes::from(call.announcement())),
            false => None,
        };
        let gzip =
            head.headers.get(CONTENT_ENCODING).is_some_and(|encoding| encoding == "gzip" || encoding == "x-gzip");
        let (pieces, mut received) = mpsc::channel(PIECES);
        let (ended, end) = tokio::sync::oneshot::channel();
        tokio::spawn(supervise(child, (first, body, gzip), pieces, ended, ticket));
        // Nothing is answered before git has said something, so that a git that only fails becomes a refusal.
        match received.recv().await {
            Some(piece) => {
                let mut bytes = announcement.map(Vec::from).unwrap_or_default();
                bytes.extend_from_slice(&piece);
                call.response(GitBody { first: Some(bytes.into()), rest: Some(received) })
            }
            None if end.await.unwrap_or(false) => call.response(GitBody::full(Vec::new())),
            None => call.refuse("git could not work on this request; was the upload cut off? Try it again"),
        }
    }
}

/// Below this git fails in the middle of a push, in words that name a temporary file.
const LEAST_FREE_BYTES: u64 = 16 << 20;

/// Why nothing can be pushed into a repository on this disk, if so.
fn disk_trouble(path: &Path) -> Option<&'static str> {
    let free = free_bytes(path)?;
    // Tried: a file system that made itself read-only after an error does not say so everywhere.
    let probe = path.join("writable");
    if std::fs::write(&probe, "").is_err_and(|e| e.kind() == io::ErrorKind::ReadOnlyFilesystem) {
        return Some("the platform's disk is read-only; nothing was changed. Push again when it is mended");
    }
    (free < LEAST_FREE_BYTES)
        .then_some("the platform's disk is full; nothing was changed. Make room on it and push again")
}

/// Lets git run to its end whatever the client does. Tells `ended` whether it ended well.
async fn supervise<B>(
    mut child: Child,
    (first, body, gzip): (Option<Bytes>, Pin<Box<B>>, bool),
    pieces: mpsc::Sender<Bytes>,
    ended: tokio::sync::oneshot::Sender<bool>,
    ticket: Option<Ticket>,
) where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Send,
{
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    if let Some(stdin) = stdin {
        // On its own, and not waited for: git may end before the upload does.
        tokio::spawn(feed(first, body, gzip, stdin));
    }
    let said = tokio::spawn(async move {
        let mut kept = Vec::new();
        if let Some(mut stderr) = stderr {
            let mut buffer = [0; 4096];
            while let Ok(n @ 1..) = stderr.read(&mut buffer).await {
                kept.extend_from_slice(&buffer[..n]);
                kept.drain(..kept.len().saturating_sub(8192));
            }
        }
        kept
    });
    if let Some(mut stdout) = stdout {
        let mut buffer = vec![0; PIECE];
        let mut explained = ticket.is_some().then(Explained::default);
        while let Ok(n @ 1..) = stdout.read(&mut buffer).await {
            let piece = match &mut explained {
                Some(explained) => explained.pass(&buffer[..n]).into(),
                None => Bytes::copy_from_slice(&buffer[..n]),
            };
            if !piece.is_empty() {
                // Without a client the rest is read away, or git and the deploy behind it would stop.
                let _ = pieces.send(piece).await;
            }
        }
        if let Some(rest) = explained.map(Explained::end).filter(|rest| !rest.is_empty()) {
            let _ = pieces.send(rest.into()).await;
        }
    }
    let status = child.wait().await;
    let success = status.as_ref().is_ok_and(|status| status.success());
    if !success {
        if ticket.is_some() {
            let _ = pieces.send(push_error("git ended before the push did; try it again").into()).await;
        }
        let said = said.await.unwrap_or_default();
        tracing::info!(?status, said = stderr_text(&said), "git ended with an error");
    }
    let _ = ended.send(success);
    drop(ticket);
}

/// Hands an upload to git, as it comes.
async fn feed<B>(first: Option<Bytes>, mut body: Pin<Box<B>>, gzip: bool, mut stdin: ChildStdin)
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Send,
{
    let mut decoder = gzip.then(|| GzDecoder::new(Vec::new()));
    let mut next = first;
    loop {
        if let Some(data) = next.take() {
            let written = match &mut decoder {
                None => stdin.write_all(&data).await,
                Some(decoder) => write_decoded(decoder, &data, &mut stdin).await,
            };
            if written.is_err() {
                drop(stdin);
                return drain(body).await;
            }
        }
        match body.frame().await {
            Some(Ok(frame)) => next = frame.into_data().ok(),
            Some(Err(_)) => return,
            None => break,
        }
    }
    if let Some(decoder) = decoder
        && let Ok(rest) = decoder.finish()
    {
        let _ = stdin.write_all(&rest).await;
    }
}

/// Reads the rest of an upload that nobody wants, for a while.
async fn drain<B: Body + Unpin>(mut body: B) {
    let rest = async { while let Some(Ok(_)) = body.frame().await {} };
    let _ = tokio::time::timeout(DRAIN, rest).await;
}

/// The commits at which a pusher's history ends, as the first packets of a push from a shallow clone say.
fn shallow_commits(mut upload: &[u8]) -> Vec<CommitId> {
    let mut commits = Vec::new();
    while let Some(rest) = upload.get(4..).and_then(|rest| rest.strip_prefix(b"shallow ")) {
        let id = rest.get(..40).and_then(|id| std::str::from_utf8(id).ok());
        commits.extend(id.and_then(|id| CommitId::parse(id).ok()));
        let length = std::str::from_utf8(&upload[..4]).ok().and_then(|hex| usize::from_str_radix(hex, 16).ok());
        upload = upload.get(length.unwrap_or(0).max(4)..).unwrap_or_default();
    }
    commits
}

async fn write_decoded(decoder: &mut GzDecoder<Vec<u8>>, data: &[u8], stdin: &mut ChildStdin) -> io::Result<()> {
    for slice in data.chunks(GZIP_SLICE) {
        decoder.write_all(slice)?;
        stdin.write_all(decoder.get_ref()).await?;
        decoder.get_mut().clear();
    }
    Ok(())
}

/// The client's `Git-Protocol`, when it looks like one.
fn protocol_version(headers: &HeaderMap) -> Option<&str> {
    let version = headers.get("git-protocol")?.to_str().ok()?;
    let plain = version.len() <= 100 && version.bytes().all(|b| b.is_ascii_alphanumeric() || b"=:.-".contains(&b));
    plain.then_some(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls() {
        let check = |method: Method, uri: &str, expected: Option<(&str, Service, bool)>| {
            let call = Call::parse(&method, &uri.parse().unwrap());
            let call = call.as_ref().map(|call| (call.repository.as_str(), call.service, call.advertise));
            assert_eq!(call, expected, "{method} {uri}");
        };
        let (fetch, push) = (Service::UploadPack, Service::ReceivePack);
        check(Method::GET, "/shop.git/info/refs?service=git-upload-pack", Some(("shop", fetch, true)));
        check(Method::GET, "/shop/info/refs?a=b&service=git-receive-pack", Some(("shop", push, true)));
        check(Method::POST, "/shop.git/git-receive-pack", Some(("shop", push, false)));
        check(Method::GET, "/shop.git/git-receive-pack", None);
        check(Method::GET, "/shop.git/info/refs", None);
        check(Method::GET, "/shop.git/HEAD", None);
        check(Method::GET, "/a/b.git/info/refs?service=git-upload-pack", None);
        check(Method::GET, "/shop.git/info/refs?service=git-upload-archive", None);
    }

    #[test]
    fn attack_01_protocol_header_is_a_plain_word() {
        let check = |value: &[u8], expected: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert("git-protocol", HeaderValue::from_bytes(value).unwrap());
            assert_eq!(protocol_version(&headers), expected);
        };
        check(b"version=2", Some("version=2"));
        check(b"version=2:x", Some("version=2:x"));
        check(b"$(id)", None);
        check(b"version=2 --upload-pack=x", None);
        check(&[b'a'; 200], None);
    }
}
