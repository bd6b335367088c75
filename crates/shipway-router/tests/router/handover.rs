//! One router replaces another: nobody notices.

use crate::support::{Dyno, PATIENCE, Site, config, next_request, raw, route, until};
use shipway_domain::route::{RouteMode, RouteTable};
use shipway_net::{Lifecycle, Phase};
use shipway_router::{RouterClient, run};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;

const GET: &str = "GET / HTTP/1.1\r\nHost: app.test\r\n\r\n";

/// Sends a request on a kept connection and reads the answer; whether the router said that it closes.
async fn ask(client: &mut TcpStream) -> bool {
    client.write_all(GET.as_bytes()).await.unwrap();
    let mut text = Vec::new();
    loop {
        let n = client.read_buf(&mut text).await.unwrap();
        assert_ne!(n, 0, "closed in the middle of {:?}", String::from_utf8_lossy(&text));
        let answer = String::from_utf8_lossy(&text);
        if let Some((head, body)) = answer.split_once("\r\n\r\n") {
            assert!(head.starts_with("HTTP/1.1 200"), "{answer}");
            let length: usize =
                head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap();
            if body.len() >= length {
                return head.contains("connection: close");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_successor_takes_over_without_a_failed_request() {
    let site = Site::start().await;
    let dyno = Dyno::mirror().await;
    let release = Arc::new(Notify::new());
    let slow = {
        let release = release.clone();
        Dyno::start(move |mut stream| {
            let release = release.clone();
            async move {
                let _ = next_request(&mut stream, &mut Vec::new()).await;
                release.notified().await;
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nslow").await;
            }
        })
        .await
    };
    site.route(RouteMode::Serve, &[&slow]).await;
    let address = site.address;
    let slow_request =
        tokio::spawn(
            async move { raw(address, "GET / HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n").await },
        );
    let requests = |site: &Site| {
        let (client, id) = (site.client.clone(), slow.id);
        async move { client.in_flight(&[id]).await.unwrap()[&id].requests }
    };
    until("the slow request is in flight", || async { requests(&site).await == 1 }).await;
    site.route(RouteMode::Serve, &[&dyno]).await;

    // Visitors, some of whom keep their connection.
    let done = Arc::new(AtomicBool::new(false));
    let visitors: Vec<_> = (0..4)
        .map(|n| {
            let done = done.clone();
            tokio::spawn(async move {
                let (mut answered, mut kept) = (0, None);
                while !done.load(Ordering::Relaxed) {
                    let mut client = match kept.take() {
                        Some(client) => client,
                        None => TcpStream::connect(address).await.unwrap(),
                    };
                    if !ask(&mut client).await && n % 2 == 0 {
                        kept = Some(client);
                    }
                    answered += 1;
                }
                answered
            })
        })
        .collect();
    let mut idle = TcpStream::connect(address).await.unwrap();
    assert!(!ask(&mut idle).await);

    let stop = Lifecycle::new();
    let successor = tokio::spawn(run(config(&site.home), BTreeMap::new(), stop.clone()));
    until("the first router retires", || async { site.stop.phase() >= Phase::Retiring }).await;
    until("the successor answers", || async { site.client.status().await.is_ok_and(|status| status.predecessor) })
        .await;
    assert!(ask(&mut idle).await, "the old router says that it closes");
    assert_eq!(requests(&site).await, 1, "what the old router has in flight counts");
    // A switch during the hand-over reaches both.
    let new = Dyno::mirror().await;
    site.route(RouteMode::Serve, &[&new]).await;
    let before = dyno.connections();
    until("visitors reach the new dyno", || async { new.connections() > 0 }).await;
    release.notify_one();
    assert!(slow_request.await.unwrap().ends_with("slow"));
    tokio::time::timeout(PATIENCE, site.task).await.expect("the old router ends").unwrap().unwrap();
    until("the successor knows", || async { !site.client.status().await.unwrap().predecessor }).await;
    assert_eq!(dyno.connections(), before, "the old dyno got nothing new");
    done.store(true, Ordering::Relaxed);
    for visitor in visitors {
        assert!(visitor.await.unwrap() > 0);
    }
    stop.advance(Phase::Retiring);
    tokio::time::timeout(PATIENCE, successor).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn attack_40_a_successor_that_dies_early_changes_nothing() {
    let (site, dyno) = (Site::start().await, Dyno::mirror().await);
    site.route(RouteMode::Serve, &[&dyno]).await;
    let mut broken = tokio::net::UnixStream::connect(site.home.path().join("run/router.sock")).await.unwrap();
    broken.write_all(b"{\"op\":\"handover\"}\n").await.unwrap();
    broken.read_u8().await.unwrap();
    drop(broken);
    assert!(site.get("/").await.starts_with("HTTP/1.1 200"));
    assert_eq!(site.stop.phase(), Phase::Accepting);
    site.end().await;
}

#[tokio::test]
async fn attack_40_the_router_starts_again_from_its_own_table() {
    let (site, dyno) = (Site::start().await, Dyno::mirror().await);
    site.route(RouteMode::Serve, &[&dyno]).await;
    let home = site.home.clone();
    site.end().await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let stop = Lifecycle::new();
    let listeners = BTreeMap::from([("router".to_string(), listener.into())]);
    let router = tokio::spawn(run(config(&home), listeners, stop.clone()));
    let answer = raw(address, "GET / HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "nobody pushed a table: {answer}");
    stop.advance(Phase::Retiring);
    tokio::time::timeout(Duration::from_secs(10), router).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn a_request_waits_when_the_kept_table_leads_nowhere() {
    let (site, gone) = (Site::start().await, Dyno::absent().await);
    site.route(RouteMode::Serve, &[&gone]).await;
    let home = site.home.clone();
    site.end().await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, client) = (Lifecycle::new(), RouterClient::new(home.path()));
    let listeners = BTreeMap::from([("router".to_string(), listener.into())]);
    let router = tokio::spawn(run(config(&home), listeners, stop.clone()));
    let get = "GET / HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n";
    let fresh = Dyno::mirror().await;
    let table =
        |epoch, dyno: &Dyno| RouteTable { epoch, apps: vec![route(1, &["app.test"], RouteMode::Serve, &[dyno])] };
    let server = async {
        let waits = || async { client.status().await.is_ok_and(|status| status.waiting == 1) };
        until("the request waits", waits).await;

        client.push(&table(2, &fresh)).await.unwrap();
    };
    let (answer, ()) = tokio::join!(raw(address, get), server);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    // From here on the table is known to be true.
    client.push(&table(3, &gone)).await.unwrap();
    assert!(raw(address, get).await.contains("H21"));
    stop.advance(Phase::Retiring);
    tokio::time::timeout(Duration::from_secs(10), router).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn bad_control_lines_are_survived() {
    let site = Site::start().await;
    for line in ["nonsense\n", "{}\n", "{\"op\":\"push\"}\n", "{\"op\":\"handover\"}", "\n"] {
        let mut link = tokio::net::UnixStream::connect(site.home.path().join("run/router.sock")).await.unwrap();
        link.write_all(line.as_bytes()).await.unwrap();
        link.shutdown().await.unwrap();
        let mut answer = Vec::new();
        link.read_to_end(&mut answer).await.unwrap();
    }
    assert_eq!(site.client.status().await.unwrap().epoch, 0);
    site.end().await;
}
