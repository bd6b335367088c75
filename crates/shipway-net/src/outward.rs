//! Requests of ours to servers elsewhere, at addresses that users chose.
//!
//! A server that asks what it is told to is a door into its own network (attack 23). So the host is resolved here, once;
//! all of its addresses must be on the public internet unless the operator named the host; and the connection goes to the
//! address that was checked, so that a second answer of the name server changes nothing. Redirects are not followed, but
//! by downloads, which begin anew with all of this.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use shipway_domain::address::{RemoteAddress, is_public};
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

/// To connect, the handshake of TLS included.
const CONNECT_TIME: Duration = Duration::from_secs(10);
/// For a whole answer.
const ANSWER_TIME: Duration = Duration::from_secs(30);
/// An answer larger than this is not read.
const ANSWER_BYTES: usize = 16 << 20;
/// How long a server may be silent in the middle of a download, or before it.
const SILENCE: Duration = Duration::from_secs(60);
/// How often a download may be led elsewhere: forges lead to the servers of their archives.
const REDIRECTS: usize = 4;

/// Where hosts' addresses are found.
pub trait Names: Send + Sync {
    /// The addresses of a host now; another time it may have others.
    fn find(&self, host: &str, port: u16) -> BoxFuture<'_, std::io::Result<Vec<SocketAddr>>>;
}

/// The machine's own name servers.
struct SystemNames;

impl Names for SystemNames {
    fn find(&self, host: &str, port: u16) -> BoxFuture<'_, std::io::Result<Vec<SocketAddr>>> {
        let host = host.to_owned();
        Box::pin(async move { Ok(tokio::net::lookup_host((host, port)).await?.collect()) })
    }
}

/// An address of a host, when all of them are on the public internet or the host is one of `private_hosts`. Errors: a
/// sentence without a full stop.
pub async fn resolve(host: &str, port: u16, private_hosts: &[String]) -> Result<SocketAddr, String> {
    resolve_by(&SystemNames, host, port, private_hosts).await
}

async fn resolve_by(names: &dyn Names, host: &str, port: u16, private_hosts: &[String]) -> Result<SocketAddr, String> {
    let found = names.find(host, port).await.map_err(|error| format!("{host}: {error}"))?;
    let named = private_hosts.iter().any(|name| name == host);
    match found.iter().find(|address| !named && !is_public(address.ip())) {
        Some(_) => Err(format!(
            "{host} is in a private network, which is not fetched from unless the operator names it (--private-host)"
        )),
        None => found.first().copied().ok_or_else(|| format!("{host} has no address")),
    }
}

/// Asks servers elsewhere, one connection a request. Cheap to clone.
#[derive(Clone)]
pub struct Outward {
    names: Arc<dyn Names>,
    private_hosts: Arc<[String]>,
    tls: Arc<OnceLock<Result<Arc<ClientConfig>, String>>>,
}

impl Default for Outward {
    fn default() -> Self {
        Self::new(&[])
    }
}

impl Outward {
    /// `private_hosts`, in lower case: hosts of private networks that may be asked.
    pub fn new(private_hosts: &[String]) -> Self {
        Self::with_names(Arc::new(SystemNames), private_hosts)
    }

    /// The same with name servers of the caller's.
    pub fn with_names(names: Arc<dyn Names>, private_hosts: &[String]) -> Self {
        Self { names, private_hosts: private_hosts.into(), tls: Arc::default() }
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
        let stream = self.connect(to).await?;
        let whole = async |body: Incoming| {
            let body = Limited::new(body, ANSWER_BYTES).collect().await.map_err(|e| e.to_string())?;
            Ok(body.to_bytes())
        };
        let asked = tokio::time::timeout(ANSWER_TIME, ask(stream, to, request, whole)).await;
        let answer = asked.map_err(|_| late(to, ANSWER_TIME))?.map_err(|e| format!("{}: {e}", to.host()))?;
        straight(answer).map_err(|e| format!("{}: {e}", to.host()))
    }

    /// Writes what is at an address into a file, and returns how many bytes it has. It may lead elsewhere a few times;
    /// each of these addresses is read and resolved as the first one, so that none leads into a private network.
    ///
    /// Credentials of an address are shown to its own server alone.
    ///
    /// Errors: a sentence without a full stop, in which there is no part of an address but its host; more than `most`
    /// bytes. Timeouts: 10 s to connect, 60 s without a byte, `time` for all of it. The file may have been begun.
    pub async fn download(
        &self,
        from: &RemoteAddress,
        into: &mut File,
        most: u64,
        time: Duration,
    ) -> Result<u64, String> {
        let down = async {
            let mut from = from.clone();
            for _ in 0..=REDIRECTS {
                let stream = self.connect(&from).await?;
                let mut request = Request::get("/").header(http::header::USER_AGENT, "shipway");
                if let Some(credentials) = from.credentials() {
                    let basic = format!("Basic {}", STANDARD.encode(credentials));
                    request = request.header(http::header::AUTHORIZATION, basic);
                }
                let request = request.body(Bytes::new()).map_err(|e| e.to_string())?;
                // What leads elsewhere has a body that nobody wants.
                let save = async |body: Incoming| save(body, into, most).await;
                let answer = ask(stream, &from, request, save).await.map_err(|e| format!("{}: {e}", from.host()))?;
                match answer.status() {
                    status if status.is_success() => return Ok(*answer.body()),
                    status if status.is_redirection() => from = self.led(&from, &answer)?,
                    status => return Err(format!("{} answered {status}", from.host())),
                }
            }
            Err(format!("{} leads elsewhere more than {REDIRECTS} times", from.host()))
        };
        tokio::time::timeout(time, down).await.map_err(|_| format!("it was not here within {} s", time.as_secs()))?
    }

    /// Where an answer leads.
    fn led<T>(&self, from: &RemoteAddress, answer: &Response<T>) -> Result<RemoteAddress, String> {
        let location = answer.headers().get(http::header::LOCATION).and_then(|value| value.to_str().ok());
        let location = location.ok_or_else(|| format!("{} answered {}", from.host(), answer.status()))?;
        let address = match location.starts_with('/') && !location.starts_with("//") {
            true => format!("{}{location}", from.origin()),
            false => location.to_owned(),
        };
        RemoteAddress::parse_within(&address, &self.private_hosts)
            .map_err(|problem| format!("{} leads to another address: {problem}", from.host()))
    }

    async fn connect(&self, to: &RemoteAddress) -> Result<Box<dyn Stream>, String> {
        let address = resolve_by(&*self.names, to.host(), to.port(), &self.private_hosts).await?;
        let connect = async {
            let stream = TcpStream::connect(address).await.map_err(|e| format!("{}: {e}", to.host()))?;
            self.wrap(to, stream).await
        };
        tokio::time::timeout(CONNECT_TIME, connect).await.map_err(|_| late(to, CONNECT_TIME))?
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

fn late(who: &RemoteAddress, time: Duration) -> String {
    format!("{} did not answer within {} s", who.host(), time.as_secs())
}

/// What a server says next. Errors: it says nothing for too long.
async fn heard<T>(next: impl Future<Output = T>) -> Result<T, String> {
    tokio::time::timeout(SILENCE, next).await.map_err(|_| format!("it was silent for {} s", SILENCE.as_secs()))
}

/// Writes a body into a file. Errors: it has more than `most` bytes, or breaks off.
async fn save(mut body: Incoming, into: &mut File, most: u64) -> Result<u64, String> {
    let too_much = || format!("it has more than {} MiB", most >> 20);
    if body.size_hint().lower() > most {
        return Err(too_much());
    }
    let mut bytes = 0;
    while let Some(frame) = heard(body.frame()).await? {
        let Ok(data) = frame.map_err(|e| e.to_string())?.into_data() else { continue };
        bytes += data.len() as u64;
        if bytes > most {
            return Err(too_much());
        }
        into.write_all(&data).await.map_err(|e| format!("it could not be written: {e}"))?;
    }
    into.flush().await.map_err(|e| format!("it could not be written: {e}"))?;
    Ok(bytes)
}

/// Sends a request. The body of an answer that is a success or not to be followed is read by `read`; one that leads
/// elsewhere is left.
async fn ask<T: Default>(
    stream: Box<dyn Stream>,
    to: &RemoteAddress,
    request: Request<Bytes>,
    read: impl AsyncFnOnce(Incoming) -> Result<T, String>,
) -> Result<Response<T>, String> {
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
        let answer = heard(sender.send_request(Request::from_parts(parts, Full::new(body)))).await?;
        let (head, body) = answer.map_err(|e| e.to_string())?.into_parts();
        let body = if head.status.is_redirection() { T::default() } else { read(body).await? };
        Ok(Response::from_parts(head, body))
    };
    tokio::select! {
        answer = answer => answer,
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
    use std::sync::Mutex;
    use tokio::io::AsyncReadExt;

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

    /// A name server that says something else each time.
    struct Rebinding(Mutex<Vec<&'static str>>);

    impl Names for Rebinding {
        fn find(&self, _: &str, port: u16) -> BoxFuture<'_, std::io::Result<Vec<SocketAddr>>> {
            let next = self.0.lock().unwrap().remove(0);
            Box::pin(std::future::ready(Ok(vec![SocketAddr::new(next.parse().unwrap(), port)])))
        }
    }

    #[tokio::test]
    async fn attack_23_a_name_that_is_public_first_and_private_second_leads_to_no_private_address() {
        let private = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        private.set_nonblocking(true).unwrap();
        let port = private.local_addr().unwrap().port();
        // Public, and nobody's.
        let names = Arc::new(Rebinding(Mutex::new(vec!["192.52.193.1", "127.0.0.1", "127.0.0.1"])));
        let outward = Outward::with_names(names.clone(), &[]);
        let to = RemoteAddress::parse(&format!("https://rebind.example:{port}/")).unwrap();
        let first = outward.send(&to, Request::new(Bytes::new())).await.unwrap_err();
        assert!(!first.contains("private network"), "{first}");
        assert_eq!(names.0.lock().unwrap().len(), 2, "a request asks once, and goes where that answer says");
        let second = outward.send(&to, Request::new(Bytes::new())).await.unwrap_err();
        assert!(second.contains("private network"), "{second}");
        assert_eq!(private.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "nobody came");
    }

    /// Answers one request a connection, in turn, and gives its address.
    async fn answering(answers: Vec<String>) -> u16 {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let _ = stream.read(&mut [0; 1024]).await.unwrap();
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        port
    }

    async fn downloaded(answers: &[&str], most: u64) -> Result<String, String> {
        let port = answering(answers.iter().map(|answer| (*answer).to_owned()).collect()).await;
        let outward = Outward::new(&["127.0.0.1".to_string()]);
        let from = RemoteAddress::parse_within(&format!("http://127.0.0.1:{port}/a"), outward.private_hosts()).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut into = File::create(file.path()).await.unwrap();
        let bytes = outward.download(&from, &mut into, most, Duration::from_secs(20)).await?;
        let text = std::fs::read_to_string(file.path()).unwrap();
        assert_eq!(text.len() as u64, bytes);
        Ok(text)
    }

    #[tokio::test]
    async fn attack_23_a_download_is_led_to_no_private_address_and_has_an_end() {
        let good = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
        let led = |to: &str| format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 4\r\n\r\naway");
        let elsewhere = led("/b");
        assert_eq!(downloaded(&[good], 5).await.unwrap(), "hello");
        assert_eq!(downloaded(&[&elsewhere, good], 5).await.unwrap(), "hello");
        for (to, words) in [
            ("https://169.254.169.254/", "private network"),
            ("http://localhost/", "only https://"),
            ("//127.0.0.1/", "only https://"),
            ("file:///etc/passwd", "only https://"),
            ("unix:/run/docker.sock", "only https://"),
        ] {
            let refused = downloaded(&[&led(to)], 5).await.unwrap_err();
            assert!(refused.contains(words), "{to}: {refused}");
        }
        let away = elsewhere.as_str();
        assert!(downloaded(&[away, away, away, away, away], 5).await.unwrap_err().contains("more than 4 times"));
        assert!(downloaded(&[good], 4).await.unwrap_err().contains("more than"));
        assert!(
            downloaded(&["HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"], 5).await.unwrap_err().contains("404")
        );
        let endless = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n4\r\nabcd\r\n";
        assert!(downloaded(&[endless], 5).await.is_err());
    }
}
