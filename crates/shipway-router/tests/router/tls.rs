//! TLS and HTTP/2 on the same port.

use crate::support::{Dyno, PATIENCE, Site, route};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use shipway_domain::route::RouteMode;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A TLS client that trusts the site's authority only.
async fn connect(site: &Site, name: &str, protocol: &[u8]) -> std::io::Result<TlsStream<TcpStream>> {
    let ca = shipway_net::Ca::load_or_create(&site.home.path().join("keys")).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.ca_pem().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    let stream = TcpStream::connect(site.address).await?;
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(name.to_string()).unwrap(), stream).await
}

#[tokio::test]
async fn known_names_get_certificates_and_https_is_said() {
    let (site, dyno) = (Site::start().await, Dyno::mirror().await);
    site.push(vec![route(1, &["app.test", "*.wild.test"], RouteMode::Serve, &[&dyno])]).await;
    for name in ["app.test", "a.wild.test", "localhost", "127.0.0.1"] {
        let mut tls = connect(&site, name, b"http/1.1").await.unwrap();
        tls.write_all(b"GET / HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        tls.read_to_string(&mut answer).await.unwrap();
        assert!(answer.contains("200 OK") && answer.contains("x-forwarded-proto: https\r\n"), "{answer}");
    }
    site.logged(&["status=200", "protocol=https"]).await;
    assert!(connect(&site, "stranger.test", b"http/1.1").await.is_err(), "no certificate for names nobody routes");
    site.end().await;
}

#[tokio::test]
async fn http2_becomes_http1_for_the_dyno() {
    let (site, dyno) = (Site::start().await, Dyno::mirror().await);
    site.route(RouteMode::Serve, &[&dyno]).await;
    let tls = connect(&site, "app.test", b"h2").await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(tls)).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::post("https://app.test/x?y=z")
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .body(Full::new(Bytes::from_static(b"hello")))
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), 200);
    let text = String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap();
    for word in ["POST /x?y=z HTTP/1.1\r\n", "host: app.test\r\n", "cookie: a=1; b=2\r\n", "hello"] {
        assert!(text.contains(word), "{word:?} is missing in {text}");
    }
    site.logged(&["method=POST path=\"/x?y=z\" host=app.test", "status=200", "protocol=https"]).await;
    site.end().await;
}

#[tokio::test]
async fn many_streams_share_a_connection() {
    let (site, dyno) = (Site::start().await, Dyno::mirror().await);
    site.route(RouteMode::Serve, &[&dyno]).await;
    let tls = connect(&site, "app.test", b"h2").await.unwrap();
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(tls)).await.unwrap();
    tokio::spawn(connection);
    let all = futures::future::join_all((0..200).map(|n| {
        let mut sender = sender.clone();
        async move {
            let request = http::Request::get(format!("https://app.test/{n}")).body(Empty::<Bytes>::new()).unwrap();
            let body = sender.send_request(request).await.unwrap().into_body().collect().await.unwrap().to_bytes();
            assert!(body.starts_with(format!("GET /{n} HTTP/1.1").as_bytes()));
        }
    }));
    tokio::time::timeout(PATIENCE, all).await.unwrap();
    site.end().await;
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// `GET / HTTP/2` to app.test, in HPACK.
fn get() -> Vec<u8> {
    let mut block = vec![0x82, 0x84, 0x87, 0x41, 8];
    block.extend(b"app.test");
    block
}

/// Sends `attack` over HTTP/2 until the router ends the connection; fails if it never does.
async fn check(site: &Site, what: &str, attack: impl Fn(u32) -> Vec<u8>) {
    let mut tls = connect(site, "app.test", b"h2").await.unwrap();
    tls.write_all(PREFACE).await.unwrap();
    tls.write_all(&frame(4, 0, 0, &[])).await.unwrap();
    let (mut reader, mut writer) = tokio::io::split(tls);
    let ended = tokio::spawn(async move {
        let mut sink = vec![0; 64 << 10];
        while matches!(reader.read(&mut sink).await, Ok(1..)) {}
    });
    let flood = async {
        for n in 0..200_000 {
            if writer.write_all(&attack(n)).await.is_err() {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(PATIENCE, flood).await;
    assert!(tokio::time::timeout(PATIENCE, ended).await.is_ok(), "{what}: the router kept the connection");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_33_http2_floods_end_their_connection_and_nothing_else() {
    let (site, dyno) = (Site::start().await, Dyno::silent().await);
    site.route(RouteMode::Serve, &[&dyno]).await;
    check(&site, "rapid reset", |n| {
        let stream = 2 * n + 1;
        [frame(1, 5, stream, &get()), frame(3, 0, stream, &8_u32.to_be_bytes())].concat()
    })
    .await;
    check(&site, "made you reset", |n| {
        let stream = 2 * n + 1;
        // A window update of zero makes the server reset the stream.
        [frame(1, 4, stream, &get()), frame(8, 0, stream, &0_u32.to_be_bytes())].concat()
    })
    .await;
    check(&site, "continuation flood", |n| match n {
        0 => frame(1, 1, 1, &get()),
        _ => frame(9, 0, 1, &[b"\x00\x01x\x7f\x01".as_slice(), &[b'y'; 128]].concat()),
    })
    .await;
    check(&site, "header table bomb", |n| {
        // One large entry, then thousands of one-byte references to it.
        let mut block = get();
        block.extend(b"\x40\x01x\x7f\xa1\x1e");
        block.extend([b'y'; 4000]);
        block.extend(vec![0xbe; 12_000]);
        frame(1, 5, 2 * n + 1, &block)
    })
    .await;
    let dyno = Dyno::mirror().await;
    site.route(RouteMode::Serve, &[&dyno]).await;
    assert!(site.get("/").await.contains("200 OK"));
    site.end().await;
}

#[tokio::test]
async fn attack_33_half_a_handshake_is_given_up() {
    let site = Site::start().await;
    let mut client = TcpStream::connect(site.address).await.unwrap();
    client.write_all(&[0x16, 3, 1, 0xff, 0xff]).await.unwrap();
    let mut sink = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(15), client.read_to_end(&mut sink)).await;
    assert!(read.is_ok(), "the router waits for ever");
    site.end().await;
}
