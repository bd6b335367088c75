//! Requests of ours to servers elsewhere, at addresses that users chose.
//!
//! A server that asks what it is told to is a door into its own network (attack 23). So the host is resolved here, once;
//! all of its addresses must be on the public internet unless the operator named the host; and the connection goes to the
//! address that was checked, so that a second answer of the name server changes nothing. Redirects are not followed.

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use shipway_domain::address::{RemoteAddress, is_public};
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// To connect, the handshake of TLS included.
const CONNECT_TIME: Duration = Duration::from_secs(10);
/// For a whole answer.
const ANSWER_TIME: Duration = Duration::from_secs(30);
/// An answer larger than this is not read.
const ANSWER_BYTES: usize = 16 << 20;

/// An address of a host, when all of them are on the public internet or the host is one of `private_hosts`. Errors: a
/// sentence without a full stop.
pub async fn resolve(host: &str, port: u16, private_hosts: &[String]) -> Result<SocketAddr, String> {
    let found = tokio::net::lookup_host((host, port)).await;
    let found: Vec<SocketAddr> = found.map_err(|error| format!("{host}: {error}"))?.collect();
    let named = private_hosts.iter().any(|name| name == host);
    match found.iter().find(|address| !named && !is_public(address.ip())) {
        Some(_) => Err(format!(
            "{host} is in a private network, which is not fetched from unless the operator names it (--private-host)"
        )),
        None => found.first().copied().ok_or_else(|| format!("{host} has no address")),
    }
}

/// Asks servers elsewhere, one connection a request. Cheap to clone.
#[derive(Clone, Default)]
pub struct Outward {
    private_hosts: Arc<[String]>,
    tls: Arc<OnceLock<Result<Arc<ClientConfig>, String>>>,
}

impl Outward {
    /// `private_hosts`, in lower case: hosts of private networks that may be asked.
    pub fn new(private_hosts: &[String]) -> Self {
        Self { private_hosts: private_hosts.into(), tls: Arc::default() }
    }

    /// The hosts of private networks that may be asked.
    pub fn private_hosts(&self) -> &[String] {
        &self.private_hosts
    }

    /// Sends a request and reads its whole answer; the request's URI is replaced by the address's path and query.
    ///
    /// Errors: a sentence without a full stop, in which there is no part of the address but its host. Timeouts: 10 s to
    /// connect, 30 s for the answer. An answer has 16 MiB at most.
    pub async fn send(&self, to: &RemoteAddress, request: Request<Bytes>) -> Result<Response<Bytes>, String> {
        let address = resolve(to.host(), to.port(), &self.private_hosts).await?;
        let connect = async {
            let stream = TcpStream::connect(address).await.map_err(|e| format!("{}: {e}", to.host()))?;
            self.wrap(to, stream).await
        };
        let late = |what: &str, time: Duration| format!("{} did not {what} within {} s", to.host(), time.as_secs());
        let stream = tokio::time::timeout(CONNECT_TIME, connect).await.map_err(|_| late("answer", CONNECT_TIME))??;
        let asked = tokio::time::timeout(ANSWER_TIME, ask(stream, to, request)).await;
        asked.map_err(|_| late("answer", ANSWER_TIME))?.map_err(|e| format!("{}: {e}", to.host()))
    }

    async fn wrap(&self, to: &RemoteAddress, stream: TcpStream) -> Result<Box<dyn Stream>, String> {
        if !to.is_secure() {
            return Ok(Box::new(stream));
        }
        let config = self.tls.get_or_init(client_config).clone()?;
        let name = ServerName::try_from(to.host().to_owned()).map_err(|e| format!("{}: {e}", to.host()))?;
        let stream = tokio_rustls::TlsConnector::from(config).connect(name, stream).await;
        Ok(Box::new(stream.map_err(|e| format!("{}: {e}", to.host()))?))
    }
}

/// Believes the machine's own roots; `SSL_CERT_FILE` names others.
fn client_config() -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| format!("TLS cannot be set up: {e}"))?;
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

async fn ask(stream: Box<dyn Stream>, to: &RemoteAddress, request: Request<Bytes>) -> Result<Response<Bytes>, String> {
    let (mut parts, body) = request.into_parts();
    let (_, rest) = to.shown().split_once("://").unwrap_or_default();
    let path = rest.find('/').map_or("/", |at| &rest[at..]);
    parts.uri = path.parse().map_err(|_| "its address has no path that can be asked for".to_string())?;
    let usual = if to.is_secure() { 443 } else { 80 };
    let host = if to.port() == usual { to.host().to_owned() } else { format!("{}:{}", to.host(), to.port()) };
    let host = host.parse().map_err(|_| "its name cannot be asked for".to_string())?;
    parts.headers.insert(http::header::HOST, host);
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|e| e.to_string())?;
    // Ends with the answer, or with the caller's patience: it is dropped with this future.
    let drive = async {
        let _ = connection.await;
        std::future::pending::<()>().await;
    };
    let answer = async {
        let answer = sender.send_request(Request::from_parts(parts, Full::new(body))).await;
        let (head, body) = answer.map_err(|e| e.to_string())?.into_parts();
        let body = Limited::new(body, ANSWER_BYTES).collect().await.map_err(|e| e.to_string())?;
        Ok(Response::from_parts(head, body.to_bytes()))
    };
    tokio::select! {
        answer = answer => answer.and_then(straight),
        () = drive => Err("the connection ended before the answer".into()),
    }
}

/// Refuses to be sent elsewhere.
fn straight(answer: Response<Bytes>) -> Result<Response<Bytes>, String> {
    match answer.status() {
        StatusCode::NOT_MODIFIED => Ok(answer),
        status if status.is_redirection() => Err(format!("it answered {status}, and redirects are not followed")),
        _ => Ok(answer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn attack_23_a_private_host_is_asked_only_when_the_operator_named_it() {
        let check = async |named: &[&str], expected: Result<&str, &str>| {
            let named: Vec<String> = named.iter().map(|host| (*host).to_owned()).collect();
            match (resolve("127.0.0.1", 8443, &named).await, expected) {
                (Ok(address), Ok(expected)) => assert_eq!(address.to_string(), expected),
                (Err(problem), Err(expected)) => assert!(problem.contains(expected), "{problem}"),
                (resolved, expected) => panic!("{named:?}: {resolved:?}, not {expected:?}"),
            }
        };
        check(&["127.0.0.1"], Ok("127.0.0.1:8443")).await;
        check(&["127.0.0.2", "0.0.1"], Err("--private-host")).await;
        check(&[], Err("in a private network")).await;
    }

    #[tokio::test]
    async fn attack_23_redirects_are_not_followed() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let serve = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = [0; 1024];
            let n = stream.read(&mut asked).await.unwrap();
            let answer = b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n";
            stream.write_all(answer).await.unwrap();
            String::from_utf8_lossy(&asked[..n]).into_owned()
        });
        let outward = Outward::new(&["127.0.0.1".to_string()]);
        let to = format!("http://127.0.0.1:{port}/api?page=2");
        let to = RemoteAddress::parse_within(&to, outward.private_hosts()).unwrap();
        let refused = outward.send(&to, Request::new(Bytes::new())).await.unwrap_err();
        assert!(refused.contains("redirects are not followed"), "{refused}");
        let asked = serve.await.unwrap();
        assert!(asked.starts_with("GET /api?page=2 HTTP/1.1\r\n"), "{asked}");
        assert!(
            Outward::default().send(&to, Request::new(Bytes::new())).await.unwrap_err().contains("private network")
        );
    }
}
