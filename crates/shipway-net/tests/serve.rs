//! A listener's manners: slow clients, other protocols, raw lines, retirement.

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use shipway_net::{Ca, CertResolver, Lifecycle, Options, Phase, RawHandler, serve};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const PATIENCE: Duration = Duration::from_secs(20);
const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";

struct Site {
    address: SocketAddr,
    lifecycle: Lifecycle,
    ca: Arc<Ca>,
    _keys: tempfile::TempDir,
}

async fn start(options: Options) -> Site {
    let keys = tempfile::tempdir().unwrap();
    let ca = Arc::new(Ca::load_or_create(keys.path()).unwrap());
    let tls = Arc::new(CertResolver::new(ca.clone(), &[], Box::new(|_| false)).unwrap()).server_config();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let lifecycle = Lifecycle::new();
    tokio::spawn(serve(listener, Some(tls), options, lifecycle.clone(), |_, conn| async move {
        Response::new(Full::new(Bytes::from(format!("tls={} local={}", conn.tls, conn.local))))
    }));
    Site { address, lifecycle, ca, _keys: keys }
}

impl Site {
    async fn tls(&self) -> tokio_rustls::client::TlsStream<TcpStream> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.ca.ca_pem().as_bytes()).unwrap()).unwrap();
        let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let stream = TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
    }
}

/// Sends `bytes` and reads until the server closes.
async fn closes(mut stream: impl AsyncRead + AsyncWrite + Unpin, bytes: &[u8]) -> String {
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    assert!(read.is_ok(), "the server kept the connection");
    String::from_utf8_lossy(&answer).into_owned()
}

async fn answer(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> String {
    stream.write_all(GET).await.unwrap();
    let mut text = Vec::new();
    while !String::from_utf8_lossy(&text).contains("local=") {
        assert_ne!(stream.read_buf(&mut text).await.unwrap(), 0);
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[tokio::test]
async fn http_and_tls_share_a_port() {
    let site = start(Options::default()).await;
    assert!(answer(&mut TcpStream::connect(site.address).await.unwrap()).await.contains("tls=false"));
    assert!(answer(&mut site.tls().await).await.contains("tls=true"));
}

#[tokio::test]
async fn attack_33_slow_clients_are_given_up() {
    let short = Duration::from_millis(100);
    let site = start(Options { idle_timeout: short, handshake_timeout: short, ..Options::default() }).await;
    let connect = || async { TcpStream::connect(site.address).await.unwrap() };
    assert_eq!(closes(connect().await, b"").await, "", "silence");
    assert_eq!(closes(connect().await, b"GET / HT").await, "", "half a head");
    assert_eq!(closes(connect().await, &[0x16, 3, 1, 0, 200, 1]).await, "", "half a handshake");
    assert!(closes(connect().await, GET).await.contains("200 OK"), "an idle connection after its answer");
    // One byte at a time is not progress.
    let mut drip = connect().await;
    let dripping = async {
        for byte in b"GET / HTTP/1.1\r\nX: ".iter().chain(std::iter::repeat(&b'y')) {
            if drip.write_all(&[*byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, dripping).await.is_ok(), "slowloris is kept");
}

#[tokio::test]
async fn lines_that_are_not_http_go_to_the_raw_handler() {
    let raw: RawHandler = Arc::new(|mut stream, _| {
        Box::pin(async move {
            let mut line = vec![0; 8];
            let _ = stream.read_exact(&mut line).await;
            let _ = stream.write_all(&line).await;
            let _ = stream.shutdown().await;
        })
    });
    let site = start(Options { raw: Some(raw), ..Options::default() }).await;
    assert_eq!(closes(site.tls().await, b"secret\r\n").await, "secret\r\n");
    assert!(answer(&mut site.tls().await).await.contains("tls=true"));
    let long = [b'x'; 2000];
    assert!(!closes(site.tls().await, &[&long[..], b"\r\n\r\n"].concat()).await.contains("xxx"));
}

#[tokio::test]
async fn retirement_says_close_first_and_closes_later() {
    let site = start(Options::default()).await;
    let mut kept = TcpStream::connect(site.address).await.unwrap();
    let mut idle = TcpStream::connect(site.address).await.unwrap();
    let mut silent = TcpStream::connect(site.address).await.unwrap();
    assert!(!answer(&mut kept).await.contains("close"));
    assert!(!answer(&mut idle).await.contains("close"));
    while site.lifecycle.open_connections() < 3 {
        tokio::task::yield_now().await;
    }
    site.lifecycle.advance(Phase::Retiring);
    assert!(answer(&mut kept).await.contains("connection: close"));
    assert_eq!(kept.read(&mut [0]).await.unwrap(), 0);
    site.lifecycle.advance(Phase::Closing);
    assert_eq!(idle.read(&mut [0]).await.unwrap(), 0);
    assert_eq!(silent.read(&mut [0]).await.unwrap(), 0);
    tokio::time::timeout(PATIENCE, site.lifecycle.empty()).await.unwrap();
}

#[tokio::test]
async fn more_connections_than_allowed_wait() {
    let site = start(Options { max_connections: 1, ..Options::default() }).await;
    let mut first = TcpStream::connect(site.address).await.unwrap();
    answer(&mut first).await;
    let mut second = TcpStream::connect(site.address).await.unwrap();
    second.write_all(GET).await.unwrap();
    let waits = tokio::time::timeout(Duration::from_millis(50), second.read_u8()).await;
    assert!(waits.is_err());
    drop(first);
    tokio::time::timeout(PATIENCE, second.read_u8()).await.unwrap().unwrap();
}
