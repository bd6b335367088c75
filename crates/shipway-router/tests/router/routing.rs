//! What a visitor, an app and its owner see of the router.

use crate::support::{Dyno, Site, next_request, route, until};
use shipway_domain::route::RouteMode;
use shipway_router::proxy::Backlog;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

fn check(answer: &str, words: &[&str]) {
    for word in words {
        assert!(answer.contains(word), "{word:?} is missing in:\n{answer}");
    }
}

#[tokio::test]
async fn a_request_reaches_its_app_with_the_headers_heroku_sets() {
    let (site, dyno) = (Site::start().await, Dyno::mirror().await);
    site.route(RouteMode::Serve, &[&dyno]).await;
    let answer = site
        .raw("GET /a?b=c HTTP/1.1\r\nHost: App.test:80\r\nX-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\nConnection: close\r\n\r\n")
        .await;
    let port = format!("x-forwarded-port: {}\r\n", site.address.port());
    check(
        &answer,
        &[
            "HTTP/1.1 200 OK",
            "GET /a?b=c HTTP/1.1\r\n",
            "host: App.test:80\r\n",
            "x-forwarded-for: 1.2.3.4, 127.0.0.1\r\n",
        ],
    );
    check(&answer, &["x-forwarded-proto: http\r\n", &port, "x-request-start: 1", "via: 1.1 shipway\r\n"]);
    let line = site.logged(&["status=200"]).await;
    check(
        &line,
        &[
            "at=info method=GET path=\"/a?b=c\" host=App.test:80 request_id=",
            "fwd=\"1.2.3.4, 127.0.0.1\" dyno=web.1 connect=",
        ],
    );
    check(&line, &["ms service=", "ms status=200 bytes=", "protocol=http"]);
    site.end().await;
}

#[tokio::test]
async fn connections_to_a_dyno_are_kept_and_belong_to_it() {
    let (site, dyno) = (Site::start().await, Dyno::mirror().await);
    site.route(RouteMode::Serve, &[&dyno]).await;
    for _ in 0..20 {
        check(&site.get("/").await, &["200 OK"]);
    }
    assert_eq!(dyno.connections(), 1);
    // Another dyno at the same address must not get the first one's connection.
    let mut successor = route(1, &["app.test"], RouteMode::Serve, &[&dyno]);
    successor.targets[0].dyno = shipway_domain::DynoId(uuid::Uuid::new_v4());
    site.push(vec![successor.clone()]).await;
    site.push(vec![successor]).await;
    check(&site.get("/").await, &["200 OK"]);
    assert_eq!(dyno.connections(), 2);
    site.end().await;
}

#[tokio::test]
async fn each_mode_has_its_page_and_its_line() {
    let site = Site::with(|timeouts| timeouts.boot = Duration::from_millis(50)).await;
    let modes = [
        (RouteMode::Maintenance, "503", "H80", "Maintenance mode"),
        (RouteMode::NoWeb, "503", "H14", "No web processes running"),
        (RouteMode::Crashed, "503", "H10", "App crashed"),
        (RouteMode::Starting, "503", "H20", "App boot timeout"),
        (RouteMode::Blank, "502", "H81", "Blank app"),
    ];
    for (mode, status, code, desc) in modes {
        site.route(mode, &[]).await;
        check(&site.get("/").await, &[&format!("HTTP/1.1 {status}"), code]);
        let words = [&*format!("code={code} desc=\"{desc}\" method=GET path=\"/\""), "dyno= connect= service= status="];
        site.logged(&words).await;
    }
    check(&site.raw("GET / HTTP/1.1\r\nHost: other.test\r\nConnection: close\r\n\r\n").await, &["404", "No such app"]);
    site.end().await;
}

#[tokio::test]
async fn a_request_waits_for_a_starting_app() {
    let (site, dyno) = (Site::start().await, Dyno::mirror().await);
    site.route(RouteMode::Starting, &[]).await;
    let visitor = async { site.get("/").await };
    let owner = async {
        until("the request waits", || async { site.client.status().await.unwrap().waiting == 1 }).await;
        site.route(RouteMode::Serve, &[&dyno]).await;
    };
    let (answer, ()) = tokio::join!(visitor, owner);
    check(&answer, &["200 OK"]);
    site.end().await;
}

#[tokio::test]
async fn broken_dynos_have_their_codes() {
    let site = Site::with(|timeouts| {
        timeouts.connect = Duration::from_millis(100);
        timeouts.first_byte = Duration::from_millis(100);
        timeouts.idle = Duration::from_millis(100);
    })
    .await;
    let cases = [
        // There is no time of service where there was no connection.
        (Dyno::overwhelmed().await, "H19", "ms service= status=503"),
        (Dyno::silent().await, "H12", "ms status=503"),
        (Dyno::says("").await, "H13", "ms status=503"),
        (Dyno::says("what is this\r\n\r\n").await, "H17", "ms status=503"),
        (Dyno::absent().await, "H21", "ms service= status=503"),
    ];
    for (dyno, code, end) in &cases {
        site.route(RouteMode::Serve, &[dyno]).await;
        let answer =
            site.raw("POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi").await;
        check(&answer, &["HTTP/1.1 503", code]);
        site.logged(&[&format!("at=error code={code}"), "dyno=web.1 connect=", end]).await;
    }
    let silent = &cases[1].0;
    let cut = Dyno::says("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf").await;
    site.route(RouteMode::Serve, &[&cut]).await;
    check(&site.get("/").await, &["200 OK", "half"]);
    site.logged(&["code=H18", "status=503 bytes=4"]).await;
    assert!(
        site.log().contains("sock=backend at=error code=H18 desc=\"Server Request Interrupted\""),
        "{}",
        site.log()
    );
    // The RFC lets the reason out.
    let plain = Dyno::says("HTTP/1.1 200\r\nContent-Length: 4\r\n\r\nwell").await;
    site.route(RouteMode::Serve, &[&plain]).await;
    check(&site.get("/").await, &["200 OK", "well"]);
    let stuck = Dyno::start(|mut stream| async move {
        let _ = next_request(&mut stream, &mut Vec::new()).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf").await;
        let _ = stream.read_u8().await;
    })
    .await;
    site.route(RouteMode::Serve, &[&stuck]).await;
    check(&site.get("/").await, &["200 OK", "half"]);
    site.logged(&["code=H15 desc=\"Idle connection\"", "bytes=4"]).await;
    // A socket that nobody says anything on.
    let mute = Dyno::start(|mut stream| async move {
        let _ = next_request(&mut stream, &mut Vec::new()).await;
        let _ =
            stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n").await;
        let _ = stream.read_u8().await;
    })
    .await;
    site.route(RouteMode::Serve, &[&mute]).await;
    check(&site.raw("GET /ws HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n").await, &["101"]);
    site.logged(&["code=H15 desc=\"Idle connection\"", "path=\"/ws\""]).await;
    // A client that stops in the middle of its body.
    let mut lazy = TcpStream::connect(site.address).await.unwrap();
    lazy.write_all(b"POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 10\r\n\r\nhalf").await.unwrap();
    site.route(RouteMode::Serve, &[silent]).await;
    site.logged(&["at=warning code=H28 desc=\"Client Connection Idle\"", "status=499"]).await;
    site.end().await;
}

#[tokio::test]
async fn a_backlog_that_is_too_deep_is_h11() {
    let site = Site::configured(|config| config.backlog = Backlog { at_dyno: 2, waiting: 1 }).await;
    let dyno = Dyno::silent().await;
    let visit = async || {
        let mut client = TcpStream::connect(site.address).await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n").await.unwrap();
        client
    };
    // At its only dyno.
    site.route(RouteMode::Serve, &[&dyno]).await;
    let clients = [visit().await, visit().await];
    let requests = || async { site.client.in_flight(&[dyno.id]).await.unwrap()[&dyno.id].requests };
    until("both are in flight", || async { requests().await == 2 }).await;
    check(&site.get("/third").await, &["HTTP/1.1 503", "H11", "heroku ps:scale web=+1 -a app-1"]);
    site.logged(&["at=error code=H11 desc=\"Backlog too deep\"", "path=\"/third\"", "dyno= connect= service="]).await;
    drop(clients);
    until("none is in flight", || async { requests().await == 0 }).await;
    let waits = visit().await;
    until("there is room again", || async { requests().await == 1 }).await;
    drop(waits);
    // Before it has one.
    site.route(RouteMode::Starting, &[]).await;
    let waits = visit().await;
    until("it waits", || async { site.client.status().await.unwrap().waiting == 1 }).await;
    check(&site.get("/second").await, &["HTTP/1.1 503", "H11"]);
    site.logged(&["at=error code=H11", "path=\"/second\""]).await;
    drop(waits);
    site.end().await;
}

#[tokio::test]
async fn what_the_router_itself_cannot_do_is_h99_and_no_fault_of_the_dyno() {
    let (site, mut dyno) = (Site::start().await, Dyno::mirror().await);
    let there = dyno.address;
    // An address that no socket can be connected to from here: it names no interface.
    dyno.address = "[fe80::1]:80".parse().unwrap();
    site.route(RouteMode::Serve, &[&dyno]).await;
    check(&site.get("/").await, &["HTTP/1.1 503", "H99", "whoever runs this platform"]);
    site.logged(&["at=error code=H99 desc=\"Platform error\"", "status=503"]).await;
    dyno.address = there;
    site.route(RouteMode::Serve, &[&dyno]).await;
    check(&site.get("/").await, &["200 OK"]);
    site.end().await;
}

#[tokio::test]
async fn whose_app_goes_while_they_wait_is_told_that_there_is_none() {
    let site = Site::start().await;
    site.route(RouteMode::Starting, &[]).await;
    let owner = async {
        until("the request waits", || async { site.client.status().await.unwrap().waiting == 1 }).await;
        site.push(Vec::new()).await;
    };
    let (answer, ()) = tokio::join!(site.get("/"), owner);
    check(&answer, &["HTTP/1.1 404", "No such app"]);
    site.end().await;
}

#[tokio::test]
async fn a_client_that_leaves_is_h27_and_frees_its_dyno() {
    let (site, dyno) = (Site::start().await, Dyno::silent().await);
    site.route(RouteMode::Serve, &[&dyno]).await;
    let mut client = TcpStream::connect(site.address).await.unwrap();
    client.write_all(b"GET /slow HTTP/1.1\r\nHost: app.test\r\n\r\n").await.unwrap();
    let requests = || async { site.client.in_flight(&[dyno.id]).await.unwrap()[&dyno.id].requests };
    until("it is in flight", || async { requests().await == 1 }).await;
    drop(client);
    site.logged(&["at=warning code=H27 desc=\"Client Request Interrupted\"", "path=\"/slow\"", "status=499"]).await;
    until("it is gone", || async { requests().await == 0 }).await;
    site.end().await;
}

#[tokio::test]
async fn a_body_that_breaks_off_is_the_clients_doing() {
    let (site, dyno) = (Site::start().await, Dyno::silent().await);
    site.route(RouteMode::Serve, &[&dyno]).await;
    let requests = || async { site.client.in_flight(&[dyno.id]).await.unwrap()[&dyno.id].requests };
    // It leaves in the middle.
    let mut client = TcpStream::connect(site.address).await.unwrap();
    client.write_all(b"POST /left HTTP/1.1\r\nHost: app.test\r\nContent-Length: 10\r\n\r\nhalf").await.unwrap();
    until("it is in flight", || async { requests().await == 1 }).await;
    drop(client);
    site.logged(&["at=warning code=H27", "path=\"/left\"", "dyno=web.1", "status=499 bytes=0"]).await;
    assert!(site.log().contains("sock=client at=warning code=H27"), "{}", site.log());
    // It goes on in a way that is not HTTP.
    let mut client = TcpStream::connect(site.address).await.unwrap();
    client.write_all(b"POST /bad HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n").await.unwrap();
    until("it is in flight", || async { requests().await == 1 }).await;
    client.write_all(b"no number\r\n").await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    check(&answer, &["HTTP/1.1 400", "H26"]);
    site.logged(&["at=error code=H26 desc=\"Request Error\" cause=\"bad chunk\"", "path=\"/bad\"", "status=400"]).await;
    until("none is in flight", || async { requests().await == 0 }).await;
    site.end().await;
}

#[tokio::test]
async fn a_dead_dyno_costs_no_request_while_another_lives() {
    let (site, alive, dead, killed) =
        (Site::start().await, Dyno::mirror().await, Dyno::absent().await, Dyno::says("").await);
    site.route(RouteMode::Serve, &[&dead, &alive]).await;
    for _ in 0..20 {
        let post = "POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi";
        check(&site.raw(post).await, &["200 OK", "hi"]);
    }
    // Killed after it got the request: only what is safe to repeat is repeated.
    site.route(RouteMode::Serve, &[&killed, &alive]).await;
    for _ in 0..20 {
        check(&site.get("/").await, &["200 OK"]);
    }
    site.end().await;
}

#[tokio::test]
async fn a_dyno_that_closes_what_idles_loses_no_request() {
    let site = Site::start().await;
    // Answers once and closes, without having said that it would.
    let closed = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let closes = closed.clone();
    let dyno = Dyno::start(move |mut stream| {
        let closes = closes.clone();
        async move {
            let _ = next_request(&mut stream, &mut Vec::new()).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nonce").await;
            drop(stream);
            closes.fetch_add(1, Ordering::SeqCst);
        }
    })
    .await;
    site.route(RouteMode::Serve, &[&dyno]).await;
    let post = "POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi";
    for n in 1..=20 {
        check(&site.raw(post).await, &["200 OK", "once"]);
        until("the dyno has closed", || async { closed.load(Ordering::SeqCst) == n }).await;
    }
    site.end().await;
}

#[tokio::test]
async fn a_request_that_a_kept_connection_swallowed_is_sent_again_as_it_was() {
    let site = Site::start().await;
    // Answers once, takes a second request and closes on it.
    let dyno = Dyno::start(|mut stream| async move {
        let mut read = Vec::new();
        let Some(request) = next_request(&mut stream, &mut read).await else { return };
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{request}", request.len());
        let _ = stream.write_all(answer.as_bytes()).await;
        next_request(&mut stream, &mut read).await;
    })
    .await;
    site.route(RouteMode::Serve, &[&dyno]).await;
    let request = |method: &str, id: &str| {
        format!(
            "{method} /a?b=c HTTP/1.1\r\nHost: app.test\r\nX-Request-Id: 0123456789-0123456789-{id}\r\nX-Twice: 1\r\nX-Twice: 2\r\nConnection: close\r\n\r\n"
        )
    };
    for id in ["one", "two", "three"] {
        let answer = site.raw(request("DELETE", id)).await;
        check(
            &answer,
            &["200 OK", "DELETE /a?b=c HTTP/1.1\r\n", "x-twice: 1\r\nx-twice: 2\r\n", &format!("0123456789-{id}\r\n")],
        );
        assert_eq!(answer.matches("x-forwarded-for: ").count(), 1, "{answer}");
    }
    assert_eq!(dyno.connections(), 3);
    // What may have had an effect is not.
    check(&site.raw(request("POST", "four")).await, &["503", "H13"]);
    site.end().await;
}

#[tokio::test]
async fn a_drained_dyno_keeps_its_request_and_gets_no_new_one() {
    let site = Site::start().await;
    let (release, released) =
        (std::sync::Arc::new(tokio::sync::Notify::new()), std::sync::Arc::new(tokio::sync::Notify::new()));
    let wait = release.clone();
    let old = Dyno::start(move |mut stream| {
        let wait = wait.clone();
        async move {
            let _ = next_request(&mut stream, &mut Vec::new()).await;
            wait.notified().await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nold").await;
        }
    })
    .await;
    let new = Dyno::mirror().await;
    site.route(RouteMode::Serve, &[&old]).await;
    let requests = || async { site.client.in_flight(&[old.id]).await.unwrap()[&old.id].requests };
    let owner = async {
        until("it is in flight", || async { requests().await == 1 }).await;
        site.route(RouteMode::Serve, &[&new]).await;
        assert_eq!(requests().await, 1, "counted although it left the table");
        check(&site.get("/new").await, &["GET /new"]);
        release.notify_one();
        until("it is drained", || async { requests().await == 0 }).await;
        released.notify_one();
    };
    let (answer, ()) = tokio::join!(site.get("/"), owner);
    check(&answer, &["200 OK", "old"]);
    assert_eq!(old.connections.load(Ordering::SeqCst), 1);
    site.end().await;
}

#[tokio::test]
async fn a_websocket_is_a_stream_that_runs_both_ways() {
    let site = Site::start().await;
    let dyno = Dyno::start(|mut stream| async move {
        let mut read = Vec::new();
        let Some(request) = next_request(&mut stream, &mut read).await else { return };
        assert!(request.contains("upgrade: websocket") && request.contains("connection: upgrade"), "{request}");
        let switching = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nfirst";
        stream.write_all(switching).await.unwrap();
        let mut buffer = [0; 64];
        while let Ok(n @ 1..) = stream.read(&mut buffer).await {
            stream.write_all(&buffer[..n]).await.unwrap();
        }
    })
    .await;
    site.route(RouteMode::Serve, &[&dyno]).await;
    let mut client = TcpStream::connect(site.address).await.unwrap();
    let hello = "GET /ws HTTP/1.1\r\nHost: app.test\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n";
    client.write_all(hello.as_bytes()).await.unwrap();
    let mut text = String::new();
    while !text.ends_with("first") {
        let mut buffer = [0; 512];
        let n = client.read(&mut buffer).await.unwrap();
        text += std::str::from_utf8(&buffer[..n]).unwrap();
    }
    check(&text, &["HTTP/1.1 101", "upgrade: websocket"]);
    client.write_all(b"ping").await.unwrap();
    let mut pong = [0; 4];
    client.read_exact(&mut pong).await.unwrap();
    assert_eq!(&pong, b"ping");
    let counts = site.client.in_flight(&[dyno.id]).await.unwrap()[&dyno.id];
    assert_eq!((counts.requests, counts.streams), (0, 1));
    drop(client);
    site.logged(&["at=info", "path=\"/ws\"", "status=101 bytes=9"]).await;
    site.end().await;
}

#[tokio::test]
async fn the_app_decides_on_expect_100_continue() {
    let site = Site::start().await;
    let willing = Dyno::start(|mut stream| async move {
        let mut head = vec![0; 4096];
        let _ = stream.read(&mut head).await;
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
        let mut body = [0; 2];
        stream.read_exact(&mut body).await.unwrap();
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    })
    .await;
    let head =
        "POST / HTTP/1.1\r\nHost: app.test\r\nExpect: 100-continue\r\nContent-Length: 2\r\nConnection: close\r\n\r\n";
    site.route(RouteMode::Serve, &[&willing]).await;
    let mut client = TcpStream::connect(site.address).await.unwrap();
    client.write_all(head.as_bytes()).await.unwrap();
    let mut go_on = [0; 25];
    client.read_exact(&mut go_on).await.unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    client.write_all(b"hi").await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    check(&answer, &["HTTP/1.1 200 OK", "ok"]);

    let unwilling = Dyno::start(|mut stream| async move {
        let _ = stream.read(&mut [0; 4096]).await;
        let _ = stream.write_all(b"HTTP/1.1 413 Too Much\r\nContent-Length: 0\r\n\r\n").await;
    })
    .await;
    site.route(RouteMode::Serve, &[&unwilling]).await;
    let answer = site.raw(head).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "no 100 comes before the refusal: {answer}");
    check(&site.raw(head.replace("100-continue", "money")).await, &["HTTP/1.1 417", "H26"]);
    site.logged(&["at=error code=H26", "cause=\"unsupported expect header value\"", "status=417"]).await;
    site.end().await;
}

#[tokio::test]
async fn an_early_answer_is_seen_by_a_client_that_still_sends() {
    let site = Site::start().await;
    let dyno = Dyno::start(|mut stream| async move {
        let _ = stream.read(&mut [0; 4096]).await;
        let _ = stream.write_all(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno").await;
    })
    .await;
    for with_app in [true, false] {
        if with_app {
            site.route(RouteMode::Serve, &[&dyno]).await;
        } else {
            site.route(RouteMode::Maintenance, &[]).await;
        }
        let mut client = TcpStream::connect(site.address).await.unwrap();
        let size = 8 << 20;
        let head = format!("POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n");
        client.write_all(head.as_bytes()).await.unwrap();
        let piece = vec![b'x'; 64 << 10];
        for _ in 0..size / piece.len() {
            client.write_all(&piece).await.expect("the router reads on");
        }
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        check(&answer, &[if with_app { "HTTP/1.1 401" } else { "HTTP/1.1 503" }]);
    }
    site.end().await;
}

#[tokio::test]
async fn attack_22_an_app_behind_a_password_lets_nobody_else_in_and_does_not_learn_it() {
    let (site, dyno) = (Site::start().await, Dyno::mirror().await);
    let mut locked = route(1, &["app.test"], RouteMode::Serve, &[&dyno]);
    // SHA-256 of "Basic cmV2aWV3OmNvcnJlY3QtaG9yc2U=", which is review:correct-horse.
    let header = b"Basic cmV2aWV3OmNvcnJlY3QtaG9yc2U=";
    let hash = ring::digest::digest(&ring::digest::SHA256, header);
    locked.password = Some(hash.as_ref().iter().map(|b| format!("{b:02x}")).collect());
    site.push(vec![locked]).await;
    let ask = async |header: &str| {
        site.raw(&format!("GET / HTTP/1.1\r\nHost: app.test\r\n{header}Connection: close\r\n\r\n")).await
    };
    for wrong in [
        "",
        "Authorization: Basic cmV2aWV3Ondyb25n\r\n",
        "Authorization: Bearer correct-horse\r\n",
        "Authorization: \r\n",
        "X-Forwarded-For: 127.0.0.1\r\nProxy-Authorization: Basic cmV2aWV3OmNvcnJlY3QtaG9yc2U=\r\n",
    ] {
        check(
            &ask(wrong).await,
            &["HTTP/1.1 401 Unauthorized", "www-authenticate: Basic realm=", "password is needed"],
        );
    }
    assert_eq!(dyno.connections(), 0);
    let answer = ask("Authorization: Basic cmV2aWV3OmNvcnJlY3QtaG9yc2U=\r\n").await;
    check(&answer, &["200 OK", "GET / HTTP/1.1"]);
    assert!(!answer.contains("cmV2aWV3"), "{answer}");
    site.end().await;
}
