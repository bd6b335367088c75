//! What the router must withstand, byte by byte. Named after the numbered list of attacks.

use crate::support::{Dyno, PATIENCE, Site, route, until};
use shipway_domain::route::RouteMode;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn mirrored() -> (Site, Dyno) {
    let (site, dyno) = (Site::start().await, Dyno::mirror().await);
    site.route(RouteMode::Serve, &[&dyno]).await;
    (site, dyno)
}

/// Sends `request` and looks at what comes back until the router closes the connection.
async fn check(site: &Site, request: &str, status: &str, answers: usize, never: &str) {
    let answer = site.raw(request).await;
    assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{request:?} was answered with\n{answer}");
    assert_eq!(answer.matches("HTTP/1.1 4").count() + answer.matches("HTTP/1.1 200 OK").count(), answers, "{answer}");
    assert!(never.is_empty() || !answer.contains(never), "{never:?} came through for {request:?}:\n{answer}");
}

#[tokio::test]
async fn attack_32_ambiguous_framing_is_refused_or_ends_the_connection() {
    let (site, _dyno) = mirrored().await;
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: app.test\r\n\r\n";
    let with =
        |framing: &str, body: &str| format!("POST / HTTP/1.1\r\nHost: app.test\r\n{framing}\r\n{body}{smuggled}");
    // CL.TE and TE.CL: chunked counts, the length is gone, and the connection ends after the answer.
    for framing in
        ["Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"]
    {
        check(&site, &with(framing, "0\r\n\r\n"), "200", 1, "GET /smuggled").await;
        check(&site, &with(framing, "0\r\n\r\n"), "200", 1, "content-length: 5").await;
    }
    // TE.TE and codings that are not chunked.
    let encodings = [
        "identity",
        "chunked, identity",
        "xchunked",
        "gzip, chunked",
        "chunked\r\nTransfer-Encoding: x",
        "\x0bchunked",
    ];
    for encoding in encodings {
        let answer = site.raw(with(&format!("Transfer-Encoding: {encoding}\r\n"), "0\r\n\r\n")).await;
        let refused = answer.starts_with("HTTP/1.1 400") || answer.starts_with("HTTP/1.1 501");
        assert!(refused && !answer.contains("/smuggled"), "{encoding:?}: {answer}");
    }
    for framing in [
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5, 6\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length : 5\r\n",
        "Content-Length: 99999999999999999999\r\n",
        "Transfer-Encoding : chunked\r\n",
        " Transfer-Encoding: chunked\r\n",
        "X: y\rTransfer-Encoding: chunked\r\n",
        "X: y\0\r\n",
    ] {
        check(&site, &with(framing, "hello"), "400", 1, "smuggled").await;
    }
    // HTTP/1.0 knows no chunks.
    let old = format!("POST / HTTP/1.0\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}");
    let answer = site.raw(old).await;
    assert!(answer.starts_with("HTTP/1.1 400") || answer.starts_with("HTTP/1.0 400"), "{answer}");
    // Broken chunks never reach the end of a request.
    for chunks in ["5\r\nhelloX\r\n0\r\n\r\n", "fffffffffffffffff\r\nx\r\n", "-1\r\n", "5;\nx\r\nhello\r\n0\r\n\r\n"] {
        let answer = site.raw(with("Transfer-Encoding: chunked\r\n", chunks)).await;
        assert!(!answer.contains("HTTP/1.1 200"), "{chunks:?}: {answer}");
    }
    site.end().await;
}

#[tokio::test]
async fn attack_32_a_body_is_never_read_as_a_request() {
    let (site, _dyno) = mirrored().await;
    // CL.0: a body on a GET belongs to the GET. Two requests on one connection stay two.
    let body = "GET /smuggled HTTP/1.1\r\nX: ";
    let request = format!(
        "GET /one HTTP/1.1\r\nHost: app.test\r\nContent-Length: {}\r\n\r\n{body}GET /two HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let answer = site.raw(request).await;
    assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 2, "{answer}");
    assert!(answer.contains("GET /two HTTP/1.1\r\n"), "{answer}");
    site.end().await;
}

#[tokio::test]
async fn attack_32_a_lying_length_is_its_own_connections_trouble() {
    let (site, dyno) = mirrored().await;
    let in_flight = || async { site.client.in_flight(&[dyno.id]).await.unwrap()[&dyno.id].requests };
    let post = |length: usize, rest: &str| {
        format!("POST /lie HTTP/1.1\r\nHost: app.test\r\nContent-Length: {length}\r\n\r\n{rest}")
    };
    // More is announced than comes, by a client that waits for its answer: the dyno has no whole request to answer.
    let mut client = TcpStream::connect(site.address).await.unwrap();
    client.write_all(post(10, "half").as_bytes()).await.unwrap();
    client.shutdown().await.unwrap();
    let mut answer = String::new();
    let ended = tokio::time::timeout(PATIENCE, client.read_to_string(&mut answer)).await;
    assert!(ended.is_ok_and(|read| read.is_ok()) && !answer.contains("200 OK"), "{answer}");
    until("the dyno is free", || async { in_flight().await == 0 }).await;
    // Less is announced than comes: the rest is a request of its own, and one that is none ends the connection.
    check(&site, &post(4, "bodyand more\r\n\r\n"), "200", 2, "and more").await;
    let other = "GET /behind HTTP/1.1\r\nHost: other.test\r\nConnection: close\r\n\r\n";
    check(&site, &post(4, &format!("body{other}")), "200", 2, "/behind").await;
    assert!(site.get("/next").await.contains("GET /next HTTP/1.1\r\n"));
    site.end().await;
}

#[tokio::test]
async fn attack_32_an_unread_body_does_not_become_the_next_request() {
    // The dyno answers without reading the body and keeps its connection: that connection must not be used again.
    let site = Site::start().await;
    let dyno = Dyno::start(|mut stream| async move {
        let mut buffer = [0; 4096];
        while let Ok(1..) = stream.read(&mut buffer).await {
            let _ = stream.write_all(b"HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno").await;
        }
    })
    .await;
    site.route(RouteMode::Serve, &[&dyno]).await;
    let mut client = TcpStream::connect(site.address).await.unwrap();
    client.write_all(b"POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 40\r\n\r\n").await.unwrap();
    let mut answer = vec![0; 4096];
    let n = client.read(&mut answer).await.unwrap();
    assert!(answer[..n].starts_with(b"HTTP/1.1 403"));
    client.write_all(b"GET /smuggled HTTP/1.1\r\nHost: app.test\r\n").await.unwrap();
    let other = site.get("/other").await;
    assert!(other.starts_with("HTTP/1.1 403"), "{other}");
    assert_eq!(dyno.connections(), 2);
    site.end().await;
}

#[tokio::test]
async fn attack_32_an_upgrade_that_is_not_answered_with_101_opens_no_tunnel() {
    let (site, _dyno) = mirrored().await;
    let request = "GET /a HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n\
                   GET /b HTTP/1.1\r\nHost: other.test\r\nConnection: close\r\n\r\n";
    let answer = site.raw(request).await;
    assert!(answer.contains("HTTP/1.1 200 OK") && answer.contains("HTTP/1.1 404"), "{answer}");
    // h2c would hide requests from this router.
    let h2c = "GET / HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n";
    let answer = site.raw(h2c).await.to_lowercase();
    assert!(!answer.contains("h2c") && !answer.contains("http2-settings"), "{answer}");
    // Nobody asked for this 101.
    let eager = Dyno::says("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n").await;
    site.route(RouteMode::Serve, &[&eager]).await;
    let answer = site.get("/").await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    site.end().await;
}

#[tokio::test]
async fn attack_32_34_a_request_has_one_host() {
    let (site, dyno) = mirrored().await;
    site.push(vec![
        route(1, &["app.test"], RouteMode::Serve, &[&dyno]),
        route(2, &["other.test"], RouteMode::Blank, &[]),
    ])
    .await;
    let get = |rest: &str| format!("GET {rest}\r\nConnection: close\r\n\r\n");
    for request in [
        "/ HTTP/1.1\r\nHost: app.test\r\nHost: other.test",
        "/ HTTP/1.1\r\nHost: app.test\r\nHost: app.test",
        "/ HTTP/1.1",
        "http://other.test/ HTTP/1.1\r\nHost: app.test",
    ] {
        check(&site, &get(request), "400", 1, "").await;
    }
    let answer = site.raw(get("http://app.test/x HTTP/1.1\r\nHost: app.test")).await;
    assert!(answer.contains("GET /x HTTP/1.1\r\n"), "{answer}");
    for host in [
        "app.test@other.test",
        "app.test:80:80",
        "app.test/",
        "app.test\\other.test",
        "app.test other.test",
        "[::1]",
        "127.0.0.1",
    ] {
        let answer = site.raw(get(&format!("/ HTTP/1.1\r\nHost: {host}"))).await;
        assert!(answer.starts_with("HTTP/1.1 4"), "{host}: {answer}");
    }
    site.end().await;
}

#[tokio::test]
async fn attack_33_limits_of_lines_and_counts() {
    let (site, _dyno) = mirrored().await;
    let get = |head: String| format!("GET / HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n{head}\r\n");
    let many = |n: usize| (0..n).map(|i| format!("X-{i}: y\r\n")).collect::<String>();
    check(&site, &get(format!("X: {}\r\n", "y".repeat(8192 - 3))), "200", 1, "").await;
    check(&site, &get(format!("X: {}\r\n", "y".repeat(8192 - 2))), "431", 1, "").await;
    check(&site, &get(many(998)), "200", 1, "").await;
    check(&site, &get(many(999)), "431", 1, "").await;
    check(&site, &get((0..20).map(|i| format!("X-{i}: {}\r\n", "y".repeat(8000))).collect()), "431", 1, "").await;
    let path = format!("GET /{} HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n", "p".repeat(8192));
    check(&site, &path, "414", 1, "").await;
    let method = format!("{} / HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n", "M".repeat(128));
    check(&site, &method, "400", 1, "").await;
    check(&site, "CONNECT app.test:80 HTTP/1.1\r\nHost: app.test:80\r\nConnection: close\r\n\r\n", "405", 1, "").await;
    site.end().await;
}

#[tokio::test]
async fn attack_35_trusted_headers_are_ours() {
    let (site, _dyno) = mirrored().await;
    let forged = "GET / HTTP/1.1\r\nHost: app.test\r\nX-Request-Start: 1\r\nX_Forwarded_Proto: https\r\nX_Forwarded-For: 6.6.6.6\r\n\
                  X-Forwarded-Port: 443\r\nX-Request-ID: short\r\nConnection: X-Forwarded-For, Host, close\r\n\r\n";
    let answer = site.raw(forged).await;
    for never in ["x-request-start: 1\r\n", "x_forwarded", "6.6.6.6", "x-forwarded-port: 443\r\n", "short"] {
        assert!(!answer.contains(never), "{never}: {answer}");
    }
    assert!(answer.contains("x-forwarded-for: 127.0.0.1\r\n") && answer.contains("host: app.test\r\n"), "{answer}");
    let id = |answer: &str| answer.split("x-request-id: ").nth(1).unwrap().split("\r\n").next().unwrap().to_string();
    let with_id =
        |id: &str| format!("GET / HTTP/1.1\r\nHost: app.test\r\nX-Request-ID: {id}\r\nConnection: close\r\n\r\n");
    for good in ["a".repeat(20), "aA0+/=-bbbbbbbbbbbbbb".to_string(), "z".repeat(200)] {
        assert_eq!(id(&site.raw(with_id(&good)).await), good);
    }
    for bad in
        ["a".repeat(19), "z".repeat(201), "aaaaaaaaaaaaaaaaaaaa_".into(), "aaaaaaaaaaaaaaaaaaaa status=200".into()]
    {
        let id = id(&site.raw(with_id(&bad)).await);
        assert!(id.parse::<uuid::Uuid>().is_ok(), "{bad} became {id}");
    }
    site.end().await;
}

#[tokio::test]
async fn attack_35_an_app_cannot_split_its_answer() {
    let site = Site::start().await;
    let two =
        Dyno::says("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
            .await;
    site.route(RouteMode::Serve, &[&two]).await;
    for _ in 0..2 {
        let answer = site.get("/").await;
        assert!(answer.ends_with("ok") && !answer.contains("evil"), "{answer}");
    }
    let both =
        Dyno::says("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
            .await;
    site.route(RouteMode::Serve, &[&both]).await;
    let answer = site.get("/").await;
    assert!(!answer.contains("content-length") && answer.contains("hello"), "{answer}");
    let hop = Dyno::says(
        "HTTP/1.1 200 OK\r\nConnection: close, X-Secret\r\nX-Secret: s\r\nKeep-Alive: 5\r\nContent-Length: 2\r\n\r\nok",
    )
    .await;
    site.route(RouteMode::Serve, &[&hop]).await;
    let answer = site.get("/").await.to_lowercase();
    assert!(!answer.contains("x-secret") && !answer.contains("keep-alive"), "{answer}");
    site.end().await;
}

#[tokio::test]
async fn attack_12_log_lines_cannot_be_forged() {
    let (site, _dyno) = mirrored().await;
    let request = "GET /\"x?a=\\b HTTP/1.1\r\nHost: app.test\r\nX-Forwarded-For: 1.1.1.1\" dyno=web.9 status=200\r\nConnection: close\r\n\r\n";
    let answer = site.raw(request).await;
    assert!(answer.starts_with("HTTP/1.1 "), "{answer}");
    let line = site.logged(&["fwd=\"1.1.1.1%22 dyno=web.9"]).await;
    assert!(line.contains("path=\"/%22x?a=%5Cb\""), "{line}");
    site.end().await;
}

#[tokio::test]
async fn attack_44_the_backlog_of_a_starting_app_is_counted_and_freed() {
    let site = Site::with(|timeouts| timeouts.boot = Duration::from_secs(60)).await;
    site.route(RouteMode::Starting, &[]).await;
    let mut clients = Vec::new();
    for _ in 0..50 {
        let mut client = TcpStream::connect(site.address).await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n").await.unwrap();
        clients.push(client);
    }
    let waiting = || async { site.client.status().await.unwrap().waiting };
    until("all wait", || async { waiting().await == 50 }).await;
    drop(clients);
    until("none waits", || async { waiting().await == 0 }).await;
    site.end().await;
}

#[tokio::test]
async fn attack_33_a_slow_dyno_does_not_grow_the_router() {
    // A client that sends far more than the dyno reads is stopped by back-pressure.
    let site = Site::start().await;
    let dyno = Dyno::start(|mut stream| async move {
        let _ = stream.read(&mut [0; 1024]).await;
        std::future::pending::<()>().await;
    })
    .await;
    site.route(RouteMode::Serve, &[&dyno]).await;
    let mut client = TcpStream::connect(site.address).await.unwrap();
    let size = 1_u64 << 30;
    client
        .write_all(format!("POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: {size}\r\n\r\n").as_bytes())
        .await
        .unwrap();
    let piece = vec![0; 1 << 20];
    let mut sent = 0;
    while tokio::time::timeout(Duration::from_millis(500), client.write_all(&piece)).await.is_ok() {
        sent += piece.len();
        assert!(sent < 64 << 20, "nobody holds the client back");
    }
    drop(client);
    tokio::time::timeout(PATIENCE, site.end()).await.unwrap();
}
