//! Requests whose `Content-Length` is not the length of what they send, byte by byte.

use crate::stage::{OWNER, Stage};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Sends a request, and where nothing more `follows` says so; gives what is answered until the server has closed.
async fn raw(stage: &Stage, request: &[u8], follows: bool) -> String {
    let mut stream = TcpStream::connect(stage.address).await.unwrap();
    stream.write_all(request).await.unwrap();
    if !follows {
        stream.shutdown().await.unwrap();
    }
    let mut answer = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    // Closed in order, or with the rest unread: it is over.
    let _ = ended.unwrap_or_else(|_| panic!("the server waits for more after {answer:?}"));
    answer
}

fn statuses(answer: &str) -> Vec<&str> {
    answer.split("HTTP/1.1 ").skip(1).filter_map(|rest| rest.get(..3)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_32_at_the_api_half_a_body_does_nothing_and_what_is_over_is_a_request_of_its_own() {
    let stage = Stage::open().await;
    let request = |method: &str, path: &str, length: usize, body: &str| {
        format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nContent-Length: {length}\r\n\r\n{body}",
            stage.address, stage.token
        )
    };
    let apps = || stage.platform.store().read(|c| c.apps()).unwrap().len();

    // More is announced than comes. Each way to read a body: JSON, a form, a stream into a file.
    let source = stage.call(&stage.token, "POST", "/sources", &json!({})).await.json();
    let put = source["source_blob"]["put_url"].as_str().unwrap().replace(&stage.url(""), "");
    for (method, path) in [("POST", "/apps"), ("POST", "/dashboard/sign-in"), ("PUT", &put)] {
        let body = r#"{"name":"half"}"#;
        let answer = raw(&stage, request(method, path, body.len() + 10, body).as_bytes(), false).await;
        assert!(matches!(statuses(&answer)[..], [] | ["400" | "422"]), "{method} {path}: {answer}");
    }
    assert_eq!(apps(), 0);
    let stored = std::fs::read_dir(stage.home.path().join("sources")).map_or(0, |files| files.count());
    assert_eq!(stored, 0, "half a source is none");

    // Less is announced than comes: what was cut off is no JSON, and the rest no request.
    let answer = raw(&stage, request("POST", "/apps", 5, "{\"name\":\"cut\"}\r\n\r\n").as_bytes(), true).await;
    assert_eq!(statuses(&answer), ["400", "400"], "{answer}");
    assert_eq!(apps(), 0);
    // What follows a whole body is asked for its own token.
    let body = r#"{"name":"whole"}"#;
    let behind = "DELETE /apps/whole HTTP/1.1\r\nHost: paas\r\nConnection: close\r\n\r\n";
    let both = request("POST", "/apps", body.len(), &format!("{body}{behind}"));
    assert_eq!(statuses(&raw(&stage, both.as_bytes(), true).await), ["201", "401"]);
    assert_eq!(apps(), 1);
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_32_at_the_git_door_half_a_push_changes_nothing() {
    let stage = Stage::open().await;
    stage.create("shop").await;
    let checkout = stage.checkout();
    let commit = checkout.commit("web: listen\n");
    assert!(checkout.run(&["push", &checkout.remote("shop"), "main"]).await.0);

    // A tag on what is there already, with a pack of no objects and its SHA-1.
    let push = |tag: &str| {
        let line = format!("{} {commit} refs/tags/{tag}\0 report-status", "0".repeat(40));
        let mut body = format!("{:04x}{line}0000", line.len() + 4).into_bytes();
        body.extend_from_slice(b"PACK\0\0\0\x02\0\0\0\0");
        body.extend_from_slice(&[
            0x02, 0x9d, 0x08, 0x82, 0x3b, 0xd8, 0xa8, 0xea, 0xb5, 0x10, 0xad, 0x6a, 0xc7, 0x5c, 0x82, 0x3c, 0xfd, 0x3e,
            0xd3, 0x1e,
        ]);
        body
    };
    let authorization = BASE64_STANDARD.encode(format!("{OWNER}:{}", stage.token));
    let request = |connection: &str, length: usize, body: &[u8]| {
        let head = format!(
            "POST /shop.git/git-receive-pack HTTP/1.1\r\nHost: {}\r\nAuthorization: Basic {authorization}\r\n\
             Content-Type: application/x-git-receive-pack-request\r\nConnection: {connection}\r\n\
             Content-Length: {length}\r\n\r\n",
            stage.address
        );
        [head.as_bytes(), body].concat()
    };
    let honest = push("honest");
    let answer = raw(&stage, &request("close", honest.len(), &honest), true).await;
    assert!(answer.contains("ok refs/tags/honest"), "{answer}");

    // Cut off in the pack, and in the commands.
    let lie = push("lie");
    for length in [lie.len() - 10, 20] {
        let answer = raw(&stage, &request("keep-alive", lie.len(), &lie[..length]), false).await;
        assert!(!answer.contains("ok refs/tags/lie"), "{answer}");
        let rest = [&lie[..], b"\r\n\r\n"].concat();
        let answer = raw(&stage, &request("keep-alive", length, &rest), true).await;
        assert!(!answer.contains("ok refs/tags/lie"), "{answer}");
        assert_eq!(statuses(&answer).last(), Some(&"400"), "what is over is no request: {answer}");
    }
    let (_, refs) = checkout.run(&["ls-remote", &checkout.remote("shop")]).await;
    assert!(refs.contains("refs/tags/honest") && !refs.contains("refs/tags/lie"), "{refs}");
    checkout.commit("web: listen; echo next\n");
    assert!(checkout.run(&["push", &checkout.remote("shop"), "main"]).await.0, "the door is open");
    stage.end().await;
}
