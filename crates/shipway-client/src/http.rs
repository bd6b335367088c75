//! One request at a time over a Unix socket, TCP or TLS: all a command line needs, on hyper.

use crate::address::ServerUrl;
use crate::environment::Environment;
use crate::error::{Error, Result};
use base64::Engine;
use bytes::Bytes;
use http::header;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use serde_json::Value;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// An answer larger than this is not for a command line.
const ANSWER_BYTES: usize = 16 << 20;
/// To a server on this machine or across a network.
const CONNECT_TIME: Duration = Duration::from_secs(10);
/// As long as the Heroku CLI waits; a login that is approved in a browser is the slowest answer there is.
const ANSWER_TIME: Duration = Duration::from_secs(60);

/// A connection of any kind.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// How a server is reached.
#[derive(Debug, Clone)]
pub enum Route {
    /// The socket for this machine's users, in the server's data directory.
    Socket(PathBuf),
    /// The network, and TLS settings when the address is `https`.
    Network(Network),
}

/// A server across the network, with whom to believe and which proxy to pass.
#[derive(Debug, Clone)]
pub struct Network {
    /// Where it is.
    pub url: ServerUrl,
    /// Whom to believe; `None` for `http`.
    pub tls: Option<Arc<ClientConfig>>,
    /// `host:port` and credentials of the proxy that stands between, if any.
    pub proxy: Option<Proxy>,
}

/// A proxy that takes CONNECT in the clear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxy {
    authority: String,
    credentials: Option<String>,
}

impl Proxy {
    /// The proxy that `HTTPS_PROXY` names for `url`, by `NO_PROXY`'s leave.
    pub fn for_url(environment: &Environment, url: &ServerUrl) -> Option<Self> {
        let either = |a: &str, b: &str| environment.filled(a).or_else(|| environment.filled(b)).map(str::to_owned);
        if url.is_loopback() || !url.is_tls() {
            return None;
        }
        let spared = either("no_proxy", "NO_PROXY").unwrap_or_default();
        let spares = |entry: &str| {
            let name = entry.trim().trim_start_matches('.').to_ascii_lowercase();
            name == "*" || (!name.is_empty() && (url.host() == name || url.host().ends_with(&format!(".{name}"))))
        };
        if spared.split(',').any(spares) {
            return None;
        }
        either("https_proxy", "HTTPS_PROXY").map(|value| Self::at(&value))
    }

    /// The proxy of an address such as `http://user:password@127.0.0.1:3128`.
    pub fn at(address: &str) -> Self {
        let rest = address.strip_prefix("http://").unwrap_or(address).trim_end_matches('/');
        let (credentials, authority) = match rest.rsplit_once('@') {
            Some((user, authority)) => (Some(base64::engine::general_purpose::STANDARD.encode(user)), authority),
            None => (None, rest),
        };
        let authority = if authority.contains(':') { authority.to_owned() } else { format!("{authority}:80") };
        Self { authority, credentials }
    }

    /// Opens a tunnel to `to`, a host and a port.
    pub async fn connect(&self, to: &str) -> std::io::Result<TcpStream> {
        let mut stream = TcpStream::connect(&self.authority).await?;
        let login =
            self.credentials.as_ref().map(|c| format!("Proxy-Authorization: Basic {c}\r\n")).unwrap_or_default();
        stream.write_all(format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n{login}\r\n").as_bytes()).await?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            // Byte by byte: what follows the head belongs to the tunnel.
            head.push(stream.read_u8().await?);
            if head.len() > 16 << 10 {
                return Err(std::io::Error::other("the proxy's answer has no end"));
            }
        }
        let status = head.split(|b| *b == b' ').nth(1).unwrap_or_default();
        if status == b"200" {
            return Ok(stream);
        }
        Err(std::io::Error::other(format!("the proxy {} refused: {}", self.authority, String::from_utf8_lossy(status))))
    }
}

impl Network {
    /// Opens a connection, with TLS verified against the server's own name.
    pub async fn connect(&self) -> std::io::Result<Box<dyn Stream>> {
        let work = async {
            let to = format!("{}:{}", self.url.host(), self.url.port());
            let tcp = match &self.proxy {
                Some(proxy) => proxy.connect(&to).await?,
                None => TcpStream::connect(&to).await?,
            };
            tcp.set_nodelay(true)?;
            let Some(config) = &self.tls else { return Ok(Box::new(tcp) as Box<dyn Stream>) };
            let name = ServerName::try_from(self.url.host().to_owned()).map_err(std::io::Error::other)?;
            let tls = tokio_rustls::TlsConnector::from(config.clone()).connect(name, tcp).await?;
            Ok(Box::new(tls) as Box<dyn Stream>)
        };
        timeout(CONNECT_TIME, work).await.map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))?
    }
}

impl Route {
    async fn connect(&self) -> std::io::Result<Box<dyn Stream>> {
        match self {
            #[cfg(unix)]
            Self::Socket(path) => Ok(Box::new(tokio::net::UnixStream::connect(path).await?)),
            #[cfg(not(unix))]
            Self::Socket(_) => Err(std::io::Error::new(
                std::io::ErrorKind::Unsupported,
                "a server runs on Linux; name a remote one with --server",
            )),
            Self::Network(network) => network.connect().await,
        }
    }

    fn host(&self) -> String {
        match self {
            Self::Socket(_) => "localhost".to_owned(),
            Self::Network(network) => network.url.https_authority(),
        }
    }

    fn unreachable(&self, e: &std::io::Error) -> Error {
        match self {
            Self::Socket(path) => {
                let error = Error::new(format!("the Shipway server at {} does not answer: {e}", path.display()));
                if e.kind() == std::io::ErrorKind::PermissionDenied {
                    error.hint("its directory must let you pass; start it with `bin/up`, which sees to that")
                } else {
                    error.hint("start it with `bin/up`, or name another with --home or --server")
                }
            }
            Self::Network(network) => Error::new(format!("{} does not answer: {e}", network.url))
                .hint("check the address; a certificate of the server's own authority is given with `shipway login --ca FILE`"),
        }
    }
}

/// Calls one server with one token.
#[derive(Debug, Clone)]
pub struct Client {
    route: Route,
    token: Option<String>,
}

/// What came back: the status and the JSON body (`null` when there was none).
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: StatusCode,
    /// The body.
    pub body: Value,
}

impl Client {
    /// A client that sends `token`, when there is one, with each request.
    pub fn new(route: Route, token: Option<String>) -> Self {
        Self { route, token }
    }

    /// The body of a successful GET.
    pub async fn get(&self, path: &str) -> Result<Value> {
        self.send(Method::GET, path, None).await?.success()
    }

    /// The body of a successful POST.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.send(Method::POST, path, Some(body)).await?.success()
    }

    /// Sends one request and reads the whole answer, whatever its status.
    pub async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer> {
        let stream = self.route.connect().await.map_err(|e| self.route.unreachable(&e))?;
        timeout(ANSWER_TIME, self.exchange(stream, method, path, body))
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {} s", ANSWER_TIME.as_secs())))
            .map_err(|e| Error::new(format!("{path} at {} failed: {e}", self.route.host())))
    }

    async fn exchange(
        &self,
        stream: Box<dyn Stream>,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> std::result::Result<Answer, String> {
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
        tokio::spawn(connection);
        let mut request = self.request(method, path);
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let bytes = body.map(|b| Bytes::from(b.to_string())).unwrap_or_default();
        let request = request.body(Full::new(bytes)).map_err(|e| e.to_string())?;
        Answer::read(sender.send_request(request).await.map_err(|e| e.to_string())?).await
    }

    /// What every request begins with.
    fn request(&self, method: Method, path: &str) -> http::request::Builder {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, self.route.host())
            .header(header::ACCEPT, "application/vnd.heroku+json; version=3")
            .header(header::USER_AGENT, concat!("shipway/", env!("CARGO_PKG_VERSION")));
        match &self.token {
            Some(token) => request.header(header::AUTHORIZATION, format!("Bearer {token}")),
            None => request,
        }
    }

    /// A connection that speaks `protocol` from here on. Errors: the server's refusal.
    pub async fn upgrade(&self, path: &str, protocol: &str) -> Result<TokioIo<Upgraded>> {
        let stream = self.route.connect().await.map_err(|e| self.route.unreachable(&e))?;
        let asked = timeout(ANSWER_TIME, self.ask_upgrade(stream, path, protocol)).await;
        let asked = asked.unwrap_or_else(|_| Err(format!("no answer within {} s", ANSWER_TIME.as_secs())));
        match asked.map_err(|e| Error::new(format!("{path} at {} failed: {e}", self.route.host())))? {
            Changed::To(stream) => Ok(stream),
            Changed::Not(answer) => {
                let status = answer.status;
                Err(answer.success().err().unwrap_or_else(|| Error::new(format!("the server answered {status}"))))
            }
        }
    }

    async fn ask_upgrade(
        &self,
        stream: Box<dyn Stream>,
        path: &str,
        protocol: &str,
    ) -> std::result::Result<Changed, String> {
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
        tokio::spawn(connection.with_upgrades());
        let request =
            self.request(Method::GET, path).header(header::CONNECTION, "Upgrade").header(header::UPGRADE, protocol);
        let request = request.body(Full::<Bytes>::default()).map_err(|e| e.to_string())?;
        let response = sender.send_request(request).await.map_err(|e| e.to_string())?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Answer::read(response).await.map(Changed::Not);
        }
        let stream = hyper::upgrade::on(response).await.map_err(|e| e.to_string())?;
        Ok(Changed::To(TokioIo::new(stream)))
    }
}

/// What became of a connection whose protocol was to change.
enum Changed {
    To(TokioIo<Upgraded>),
    Not(Answer),
}

impl Answer {
    async fn read(response: Response<Incoming>) -> std::result::Result<Self, String> {
        let status = response.status();
        let body =
            Limited::new(response.into_body(), ANSWER_BYTES).collect().await.map_err(|e| e.to_string())?.to_bytes();
        let body = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).unwrap_or(Value::Null) };
        Ok(Self { status, body })
    }

    /// The body, or the server's refusal as an error with its own words. Exit code 2, as the Heroku CLI has it.
    pub fn success(self) -> Result<Value> {
        if self.status.is_success() {
            return Ok(self.body);
        }
        let message = self.body.get("message").and_then(Value::as_str);
        let mut error = match message {
            Some(message) => Error::new(message),
            None => Error::new(format!("the server answered {}", self.status)),
        };
        if self.status == StatusCode::UNAUTHORIZED {
            error = error.hint("log in again: `shipway login --server URL`");
        }
        if let Some(url) = self.body.get("url").and_then(Value::as_str) {
            error = error.hint(format!("see {url}"));
        }
        Err(error.exit(2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_passed_only_where_it_should_be() {
        let check = |pairs: &[(&str, &str)], url: &str, expected: Option<&str>| {
            let environment = pairs.iter().copied().collect();
            let proxy = Proxy::for_url(&environment, &url.parse().unwrap());
            assert_eq!(proxy.map(|p| p.authority).as_deref(), expected, "{pairs:?} {url}");
        };
        let corporate = ("HTTPS_PROXY", "http://user:pw@proxy.corp:3128/");
        check(&[corporate], "https://paas.example.org", Some("proxy.corp:3128"));
        check(&[corporate, ("NO_PROXY", "x.org, .example.org")], "https://paas.example.org", None);
        check(&[corporate, ("NO_PROXY", "ample.org")], "https://paas.example.org", Some("proxy.corp:3128"));
        check(&[corporate], "http://127.0.0.1:5000", None);
        check(&[], "https://paas.example.org", None);
    }
}
