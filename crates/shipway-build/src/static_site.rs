//! The server of static sites, which runs in their dynos as `shipway static`.
//!
//! Reads `static.json` as Heroku's static buildpack does: `root`, `clean_urls`, `error_page`, `https_only`, `routes`,
//! `headers`, `redirects`. A request's path is resolved below the root by the kernel (`openat2`), so neither `..` nor a link
//! leads out. Files up to 1 MiB are answered from memory, larger ones in pieces; `If-None-Match` and one `Range` work.

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Frame, Incoming};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;

/// Bytes of a file that are read at once.
const PIECE: u64 = 256 * 1024;

/// `static.json`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct SiteConfig {
    /// The directory that is served, relative to the app.
    pub root: String,
    /// Whether `/about` finds `about.html`.
    pub clean_urls: bool,
    /// Whether plain http is redirected (by `X-Forwarded-Proto`).
    pub https_only: bool,
    /// Answered with 404, relative to the root.
    pub error_page: Option<String>,
    /// Pattern of a path -> file that is answered when no file of that path exists.
    pub routes: BTreeMap<String, String>,
    /// Pattern of a path -> headers.
    pub headers: BTreeMap<String, BTreeMap<String, String>>,
    /// Path -> where it moved.
    pub redirects: BTreeMap<String, Redirect>,
}

/// Where a path moved.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Redirect {
    /// A path or a URL.
    pub url: String,
    /// 301 when not given.
    #[serde(default)]
    pub status: Option<u16>,
}

impl Default for SiteConfig {
    fn default() -> Self {
        Self {
            root: ".".into(),
            clean_urls: false,
            https_only: false,
            error_page: None,
            routes: BTreeMap::new(),
            headers: BTreeMap::new(),
            redirects: BTreeMap::new(),
        }
    }
}

impl SiteConfig {
    /// Reads `static.json`; without one, the whole tree is the site. With one, the default root is `public_html`, as on
    /// Heroku. Errors: the end of a sentence about what is wrong.
    pub fn parse(text: Option<&str>) -> Result<Self, String> {
        let Some(text) = text else { return Ok(Self::default()) };
        let value: serde_json::Value = serde_json::from_str(text).map_err(|e| format!("is not JSON: {e}"))?;
        let named_root = value.get("root").is_some();
        let mut site: Self = serde_json::from_value(value).map_err(|e| e.to_string())?;
        if !named_root {
            site.root = "public_html".into();
        }
        let root = site.root.trim_matches('/');
        if root.split('/').any(|part| part == "..") {
            return Err(format!("root {:?} leads out of the app", site.root));
        }
        site.root = if root.is_empty() { ".".into() } else { root.into() };
        for (name, value) in site.headers.values().flatten() {
            if HeaderName::try_from(name.as_str()).is_err() || HeaderValue::try_from(value.as_str()).is_err() {
                return Err(format!("{name:?}: {value:?} is not a header"));
            }
        }
        for (path, redirect) in &site.redirects {
            let status = redirect.status.unwrap_or(301);
            if !matches!(status, 301 | 302 | 303 | 307 | 308) || HeaderValue::try_from(redirect.url.as_str()).is_err() {
                return Err(format!("the redirect of {path:?} needs a url and a status of 301, 302, 303, 307 or 308"));
            }
        }
        Ok(site)
    }
}

type Body = BoxBody<Bytes, io::Error>;

struct Site {
    config: SiteConfig,
    root: OwnedFd,
}

/// Serves the site of the app at `app` on `listener` until `stop` ends; requests in flight get 20 s to finish.
///
/// Errors: the root is not there, or `static.json` cannot be read.
pub async fn serve(app: &Path, listener: TcpListener, stop: impl Future<Output = ()>) -> io::Result<()> {
    let text = match std::fs::read_to_string(app.join("static.json")) {
        Ok(text) => Some(text),
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        Err(e) => return Err(e),
    };
    let config = SiteConfig::parse(text.as_deref()).map_err(|e| io::Error::other(format!("static.json: {e}")))?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(app.join(&config.root), flags, Mode::empty())
        .map_err(|e| io::Error::other(format!("the root {:?} of static.json: {e}", config.root)))?;
    let site = Arc::new(Site { config, root });
    let mut server = auto::Builder::new(TokioExecutor::new());
    server.http1().timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(60));
    let graceful = hyper_util::server::graceful::GracefulShutdown::new();
    tokio::pin!(stop);
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(e) => {
                    // Out of descriptors: those that are open will close.
                    eprintln!("accepting a connection: {e}");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
            () = &mut stop => break,
        };
        // Small answers leave at once; a failure only costs that.
        let _ = stream.set_nodelay(true);
        let site = site.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let site = site.clone();
            async move { Ok::<_, Infallible>(site.answer(&request)) }
        });
        let connection =
            graceful.watch(server.serve_connection_with_upgrades(TokioIo::new(stream), service).into_owned());
        tokio::spawn(async move {
            // A client that goes away in the middle is no event.
            let _ = connection.await;
        });
    }
    let _ = tokio::time::timeout(Duration::from_secs(20), graceful.shutdown()).await;
    Ok(())
}

impl Site {
    fn answer<B>(&self, request: &Request<B>) -> Response<Body> {
        let path = request.uri().path();
        let mut response = self.find(request, path);
        for (pattern, headers) in &self.config.headers {
            if matches(pattern, path) {
                for (name, value) in headers {
                    // Checked when static.json was read.
                    if let (Ok(name), Ok(value)) =
                        (HeaderName::try_from(name.as_str()), HeaderValue::try_from(value.as_str()))
                    {
                        response.headers_mut().insert(name, value);
                    }
                }
            }
        }
        response
    }

    fn find<B>(&self, request: &Request<B>, path: &str) -> Response<Body> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "Only GET and HEAD are answered here.\n");
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        if self.config.https_only && request.headers().get("x-forwarded-proto").is_some_and(|v| v == "http") {
            let host = request.headers().get(header::HOST).and_then(|h| h.to_str().ok()).unwrap_or_default();
            let rest = request.uri().path_and_query().map_or("/", |p| p.as_str());
            return redirect(301, &format!("https://{host}{rest}"));
        }
        if let Some(moved) = self.config.redirects.get(path) {
            return redirect(moved.status.unwrap_or(301), &moved.url);
        }
        let Some(decoded) = decode(path) else { return text(StatusCode::BAD_REQUEST, "The path is not UTF-8.\n") };
        let relative = decoded.trim_matches('/');
        // Hidden files are the repository's, not the site's; what the web knows by a dot is below .well-known.
        let hidden = relative.split('/').any(|part| part.starts_with('.') && part != ".well-known");
        // So are the files that say how to serve.
        let ours = self.config.root == "." && matches!(relative, "static.json" | "Procfile" | "app.json");
        if !hidden && !ours {
            if decoded.ends_with('/') {
                let index = if relative.is_empty() { "index.html".into() } else { format!("{relative}/index.html") };
                if let Some(file) = self.open(&index) {
                    return self.file(request, file, &index, StatusCode::OK);
                }
            } else if let Some(file) = self.open(relative) {
                return self.file(request, file, relative, StatusCode::OK);
            } else if self.open(&format!("{relative}/index.html")).is_some() {
                // One slash only: `//host` would be another host's address.
                let query = request.uri().query().map(|q| format!("?{q}")).unwrap_or_default();
                return redirect(301, &format!("/{}/{query}", path.trim_matches('/')));
            } else if self.config.clean_urls {
                let html = format!("{relative}.html");
                if let Some(file) = self.open(&html) {
                    return self.file(request, file, &html, StatusCode::OK);
                }
            }
        }
        for (pattern, target) in &self.config.routes {
            let target = target.trim_start_matches('/');
            if let (true, Some(file)) = (matches(pattern, path), self.open(target)) {
                return self.file(request, file, target, StatusCode::OK);
            }
        }
        match &self.config.error_page {
            Some(page) => {
                let page = page.trim_start_matches('/');
                match self.open(page) {
                    Some(file) => self.file(request, file, page, StatusCode::NOT_FOUND),
                    None => text(StatusCode::NOT_FOUND, "Not found.\n"),
                }
            }
            None => text(StatusCode::NOT_FOUND, "Not found.\n"),
        }
    }

    fn open(&self, path: &str) -> Option<File> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let file = File::from(rustix::fs::openat2(&self.root, path, flags, Mode::empty(), resolve).ok()?);
        file.metadata().ok()?.is_file().then_some(file)
    }

    fn file<B>(&self, request: &Request<B>, file: File, path: &str, status: StatusCode) -> Response<Body> {
        let Ok(meta) = file.metadata() else {
            return text(StatusCode::INTERNAL_SERVER_ERROR, "The file is unreadable.\n");
        };
        let size = meta.len();
        // A slug's files never change under one inode; another release has others.
        let etag = format!("\"{:x}-{:x}-{:x}\"", meta.ino(), size, meta.ctime_nsec() ^ (meta.ctime() << 20));
        let mut response = Response::builder()
            .header(header::CONTENT_TYPE, content_type(path))
            .header(header::ETAG, &etag)
            .header(header::ACCEPT_RANGES, "bytes")
            .header(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
        let named = |name: HeaderName| request.headers().get(name).and_then(|v| v.to_str().ok());
        let same = named(header::IF_NONE_MATCH).is_some_and(|tags| {
            tags.split(',').any(|tag| tag.trim() == "*" || tag.trim().trim_start_matches("W/") == etag)
        });
        if same && status == StatusCode::OK {
            return finish(response.status(StatusCode::NOT_MODIFIED), empty());
        }
        let fresh = named(header::IF_RANGE).is_none_or(|tag| tag == etag);
        let (from, to) =
            match named(header::RANGE).filter(|_| fresh && status == StatusCode::OK).and_then(|r| range(r, size)) {
                Some(Ok((from, to))) => {
                    response = response
                        .status(StatusCode::PARTIAL_CONTENT)
                        .header(header::CONTENT_RANGE, format!("bytes {from}-{}/{size}", to - 1));
                    (from, to)
                }
                Some(Err(())) => {
                    let response = response.status(StatusCode::RANGE_NOT_SATISFIABLE);
                    return finish(response.header(header::CONTENT_RANGE, format!("bytes */{size}")), empty());
                }
                None => {
                    response = response.status(status);
                    (0, size)
                }
            };
        response = response.header(header::CONTENT_LENGTH, to - from);
        if request.method() == Method::HEAD {
            return finish(response, empty());
        }
        finish(response, content(file, from, to))
    }
}

/// The bytes of a file from `from` up to `to`, read ahead by one piece at most.
fn content(file: File, from: u64, to: u64) -> Body {
    let read = |file: &File, at: u64, to: u64| {
        let mut piece = vec![0; usize::try_from((to - at).min(PIECE)).unwrap_or(0)];
        file.read_exact_at(&mut piece, at).map(|()| Bytes::from(piece))
    };
    if to - from <= 4 * PIECE {
        let mut whole = Vec::with_capacity((to - from) as usize);
        let mut at = from;
        while at < to {
            match read(&file, at, to) {
                Ok(piece) => {
                    at += piece.len() as u64;
                    whole.extend_from_slice(&piece);
                }
                // The connection is cut: the length was promised.
                Err(e) => return Broken(Some(e)).boxed(),
            }
        }
        return Full::new(Bytes::from(whole)).map_err(|never| match never {}).boxed();
    }
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    tokio::task::spawn_blocking(move || {
        let mut at = from;
        while at < to {
            let piece = read(&file, at, to);
            at += piece.as_ref().map_or(to, |p| p.len() as u64);
            if sender.blocking_send(piece.map(Frame::data)).is_err() {
                break;
            }
        }
    });
    BodyExt::boxed(Pieces(receiver))
}

struct Pieces(tokio::sync::mpsc::Receiver<io::Result<Frame<Bytes>>>);

impl hyper::body::Body for Pieces {
    type Data = Bytes;
    type Error = io::Error;
    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<io::Result<Frame<Bytes>>>> {
        self.0.poll_recv(context)
    }
}

/// A body that fails at once.
struct Broken(Option<io::Error>);

impl hyper::body::Body for Broken {
    type Data = Bytes;
    type Error = io::Error;
    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<io::Result<Frame<Bytes>>>> {
        std::task::Poll::Ready(self.0.take().map(Err))
    }
}

fn empty() -> Body {
    Full::new(Bytes::new()).map_err(|never| match never {}).boxed()
}

fn finish(response: hyper::http::response::Builder, body: Body) -> Response<Body> {
    response.body(body).unwrap_or_else(|_| text(StatusCode::INTERNAL_SERVER_ERROR, "The answer could not be made.\n"))
}

fn text(status: StatusCode, message: &'static str) -> Response<Body> {
    let mut response =
        Response::new(Full::new(Bytes::from_static(message.as_bytes())).map_err(|never| match never {}).boxed());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

fn redirect(status: u16, to: &str) -> Response<Body> {
    let Ok(location) = HeaderValue::try_from(to) else {
        return text(StatusCode::BAD_REQUEST, "The path is not a path.\n");
    };
    let mut response = text(StatusCode::from_u16(status).unwrap_or(StatusCode::MOVED_PERMANENTLY), "Moved.\n");
    response.headers_mut().insert(header::LOCATION, location);
    response
}

/// `%41` -> `A`. None: not UTF-8, or a NUL.
fn decode(path: &str) -> Option<String> {
    let bytes = path.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let hex = |at: usize| bytes.get(at).and_then(|b| char::from(*b).to_digit(16));
        if let (b'%', Some(high), Some(low)) = (bytes[i], hex(i + 1), hex(i + 2)) {
            decoded.push((high * 16 + low) as u8);
            i += 3;
        } else {
            decoded.push(bytes[i]);
            i += 1;
        }
    }
    String::from_utf8(decoded).ok().filter(|s| !s.contains('\0'))
}

/// The one range of a `Range` header as start and end (exclusive). None: not understood, so the whole file is sent.
fn range(value: &str, size: u64) -> Option<Result<(u64, u64), ()>> {
    let spec = value.strip_prefix("bytes=")?;
    if spec.contains(',') {
        return None;
    }
    let (from, to) = spec.split_once('-')?;
    let (from, to) = match (from.trim(), to.trim()) {
        ("", last) => (size.saturating_sub(last.parse().ok()?), size),
        (from, "") => (from.parse().ok()?, size),
        (from, to) => (from.parse().ok()?, to.parse::<u64>().ok()?.checked_add(1)?.min(size)),
    };
    Some(if from < to { Ok((from, to)) } else { Err(()) })
}

/// Whether a path fits a pattern of static.json: `*` within a part, `**` across parts.
fn matches(pattern: &str, path: &str) -> bool {
    crate::tree::glob(pattern.as_bytes(), path.as_bytes())
}

fn content_type(path: &str) -> &'static str {
    let extension = path.rsplit('/').next().and_then(|name| name.rsplit_once('.')).map(|(_, e)| e.to_ascii_lowercase());
    match extension.as_deref().unwrap_or_default() {
        "html" | "htm" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        "xml" => "application/xml",
        "txt" => "text/plain; charset=utf-8",
        "md" => "text/markdown; charset=utf-8",
        "csv" => "text/csv; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "avif" => "image/avif",
        "ico" => "image/x-icon",
        "woff" => "font/woff",
        "woff2" => "font/woff2",
        "ttf" => "font/ttf",
        "otf" => "font/otf",
        "mp3" => "audio/mpeg",
        "mp4" => "video/mp4",
        "webm" => "video/webm",
        "pdf" => "application/pdf",
        "zip" => "application/zip",
        "gz" => "application/gzip",
        "wasm" => "application/wasm",
        _ => "application/octet-stream",
    }
}
