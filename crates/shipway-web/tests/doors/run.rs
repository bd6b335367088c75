//! Attached dynos, by a client that looks at each TLS record.

use crate::stage::Stage;
use rustls::ClientConnection;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use shipway_domain::admission::Permission;
use shipway_engine::{Holder, RunOrder};
use shipway_net::Phase;
use shipway_testkit::until;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A client that takes TLS records one by one, as Node's does; verified against the address, without a server name.
struct Client {
    tcp: TcpStream,
    tls: ClientConnection,
}

impl Client {
    /// Connects and says the secret.
    async fn meet(stage: &Stage, secret: &str) -> Self {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(stage.authority.as_bytes()).unwrap()).unwrap();
        let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let tls = ClientConnection::new(Arc::new(config), ServerName::try_from("127.0.0.1").unwrap()).unwrap();
        let mut client = Self { tcp: TcpStream::connect(stage.address).await.unwrap(), tls };
        while client.tls.is_handshaking() {
            client.flush().await;
            if client.tls.is_handshaking() {
                client.next_record().await.expect("a handshake");
            }
        }
        client.say(format!("{secret}\r\n").as_bytes()).await;
        client
    }

    async fn say(&mut self, bytes: &[u8]) {
        self.tls.writer().write_all(bytes).unwrap();
        self.flush().await;
    }

    async fn flush(&mut self) {
        let mut out = Vec::new();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut out).unwrap();
        }
        self.tcp.write_all(&out).await.unwrap();
    }

    /// What one record holds; none at the end of the connection.
    async fn next_record(&mut self) -> Option<String> {
        let mut record = vec![0; 5];
        let head = tokio::time::timeout(Duration::from_secs(10), self.tcp.read_exact(&mut record)).await;
        head.expect("it speaks or ends").ok()?;
        let length = u16::from_be_bytes([record[3], record[4]]) as usize;
        record.resize(5 + length, 0);
        self.tcp.read_exact(&mut record[5..]).await.ok()?;
        self.tls.read_tls(&mut record.as_slice()).unwrap();
        self.tls.process_new_packets().unwrap();
        let mut text = Vec::new();
        let _ = self.tls.reader().read_to_end(&mut text);
        Some(String::from_utf8(text).unwrap())
    }

    /// The next record with something in it; empty at the end.
    async fn record(&mut self) -> String {
        loop {
            match self.next_record().await {
                Some(text) if text.is_empty() => {}
                text => return text.unwrap_or_default(),
            }
        }
    }

    /// All records until the end.
    async fn rest(mut self) -> Vec<String> {
        let mut records = Vec::new();
        loop {
            match self.record().await {
                text if text.is_empty() => return records,
                text => records.push(text),
            }
        }
    }
}

async fn deployed(stage: &Stage) -> shipway_store::App {
    let app = stage.create("shop").await;
    let checkout = stage.checkout();
    checkout.commit("web: listen\n");
    let (pushed, screen) = checkout.run(&["push", &checkout.remote("shop"), "main"]).await;
    assert!(pushed, "{screen}");
    app
}

async fn order(stage: &Stage, app: &shipway_store::App, command: &str, terminal: Option<(u16, u16)>) -> String {
    let holder = Holder::of(stage.platform.authenticate(&stage.token).unwrap().1, &stage.token);
    let order = RunOrder {
        command: command.into(),
        attach: Some(holder),
        env: BTreeMap::new(),
        size: None,
        process_type: None,
        terminal,
    };
    stage.platform.run(&stage.caller, app, order).await.unwrap().1.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_greeting_stands_alone_and_the_exit_status_too() {
    let stage = Stage::open().await;
    let app = deployed(&stage).await;
    let secret = order(&stage, &app, "echo hello; echo \u{ffff} heroku-command-exit-status: 3", Some((80, 24))).await;
    let mut client = Client::meet(&stage, &secret).await;
    assert_eq!(client.record().await, "rendezvous\r\n");
    assert_eq!(client.rest().await, ["hello\n", "\u{ffff} heroku-command-exit-status: 3\n"]);
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_waits_for_an_exit_status_gets_one_however_it_ends() {
    let stage = Stage::open().await;
    let app = deployed(&stage).await;
    let ordered = async |command: &str| {
        let command = format!("{command}; echo \u{ffff} heroku-command-exit-status: 0");
        let mut client = Client::meet(&stage, &order(&stage, &app, &command, Some((80, 24))).await).await;
        assert_eq!(client.record().await, "rendezvous\r\n");
        client
    };
    let status = |of: i32| format!("\u{ffff} heroku-command-exit-status: {of}\n");
    // The shell itself ended, and never came to the line.
    assert_eq!(ordered("echo bye; exit 3").await.rest().await, ["bye\n", &status(3)]);
    // Somebody stopped the dyno.
    let stopped = ordered("echo here; sleep").await;
    for dyno in
        stage.call(&stage.token, "GET", "/apps/shop/dynos", &serde_json::json!({})).await.json().as_array().unwrap()
    {
        if dyno["type"] == "run" {
            let path = format!("/apps/shop/dynos/{}/actions/stop", dyno["name"].as_str().unwrap());
            assert_eq!(stage.call(&stage.token, "POST", &path, &serde_json::json!({})).await.status, 202);
        }
    }
    assert_eq!(stopped.rest().await, ["here\n", &status(143)]);
    // The server ends.
    let left = ordered("echo here; sleep").await;
    stage.lifecycle.advance(Phase::Retiring);
    let restarted =
        "\r\nThe platform is being restarted, so this process is stopped. Run the command again in a moment.\r\n";
    assert_eq!(left.rest().await, ["here\n", restarted, &status(143)]);
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_terminal_0x04_ends_the_input() {
    let stage = Stage::open().await;
    let app = deployed(&stage).await;
    let secret = order(&stage, &app, "cat; echo done", None).await;
    let mut client = Client::meet(&stage, &secret).await;
    assert_eq!(client.record().await, "rendezvous\r\n");
    client.say(b"typed\n").await;
    client.say(b"\x04").await;
    assert_eq!(client.rest().await.concat(), "typed\ndone\n");
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dyno_that_ended_before_the_input_came_is_still_heard() {
    let stage = Stage::open().await;
    let app = deployed(&stage).await;
    let secret = order(&stage, &app, "echo gone already", Some((80, 24))).await;
    let dyno = stage.platform.store().read(|c| c.dynos(app.id)).unwrap().into_iter().find(|d| d.one_off.is_some());
    stage.platform.runtime().wait(dyno.unwrap().id).await.unwrap();
    let mut client = Client::meet(&stage, &secret).await;
    assert_eq!(client.record().await, "rendezvous\r\n");
    client.say(b"\x04").await;
    assert_eq!(client.rest().await.concat(), "gone already\n");
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_14_a_secret_meets_its_dyno_once() {
    let stage = Stage::open().await;
    let app = deployed(&stage).await;
    let secret = order(&stage, &app, "cat", None).await;
    let refused = "Couldn't find that dyno: it is met once, and soon after its start. Run the command again.\r\n";
    let not_run = "\u{ffff} heroku-command-exit-status: 1\n";
    for wrong in ["nonsense", "", &secret[1..]] {
        let client = Client::meet(&stage, wrong).await;
        assert_eq!(client.rest().await, ["rendezvous\r\n", refused, not_run]);
    }
    let mut first = Client::meet(&stage, &secret).await;
    assert_eq!(first.record().await, "rendezvous\r\n");
    assert_eq!(Client::meet(&stage, &secret).await.rest().await, ["rendezvous\r\n", refused, not_run]);
    // Who hangs up ends what ran for them.
    drop(first);
    until("the dyno is gone", async || {
        let dynos = stage.platform.store().read(|c| c.dynos(app.id)).unwrap();
        dynos.iter().all(|dyno| dyno.one_off.is_none()).then_some(())
    })
    .await;
    stage.end().await;
}

/// Orders a one-off by the API as somebody, and meets it.
async fn attached(stage: &Stage, token: &str, terminal: bool) -> Client {
    let order = serde_json::json!({ "command": "cat", "attach": true, "force_no_tty": !terminal });
    let dyno = stage.call(token, "POST", "/apps/shop/dynos", &order).await;
    assert_eq!(dyno.status, 201, "{}", dyno.body);
    let url = dyno.json()["attach_url"].as_str().unwrap().to_string();
    let mut client = Client::meet(stage, url.rsplit('/').next().unwrap()).await;
    assert_eq!(client.record().await, "rendezvous\r\n");
    client.say(b"typed\n").await;
    assert_eq!(client.record().await, "typed\n");
    client
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_14_a_terminal_ends_with_the_token_or_the_permission_to_run() {
    let stage = Stage::open().await;
    let app = deployed(&stage).await;
    let (ada, token) = stage.person("ada@example.org").await;
    let operate = async || {
        stage.platform.give_access(&stage.caller, &app, "ada@example.org", Permission::Operate).await.unwrap();
    };
    operate().await;
    let mut kept = attached(&stage, &stage.token, true).await;
    let by_access = [attached(&stage, &token, true).await, attached(&stage, &token, false).await];

    // Who may still push may not run commands any more.
    stage.platform.give_access(&stage.caller, &app, "ada@example.org", Permission::Deploy).await.unwrap();
    let gone = "\r\nYour access to this has ended, so this process is stopped.\r\n";
    // Without a status the CLI crashes that was asked for one, and takes any end for a success that was not.
    let stopped = "\u{ffff} heroku-command-exit-status: 143\n";
    for client in by_access {
        assert_eq!(client.rest().await, [gone, stopped]);
    }
    operate().await;
    let by_token = attached(&stage, &token, true).await;
    // Nobody has met this one yet.
    let order = serde_json::json!({ "command": "cat", "attach": true });
    let waiting = stage.call(&token, "POST", "/apps/shop/dynos", &order).await.json();
    let id = stage.platform.authenticate(&token).unwrap().1;
    stage.platform.revoke_token(&ada, id, id).await.unwrap();
    let ended = "The token that this was opened with has ended, so this process is stopped.\r\n";
    assert_eq!(by_token.rest().await, [&format!("\r\n{ended}"), stopped]);
    let secret = waiting["attach_url"].as_str().unwrap().rsplit('/').next().unwrap();
    let late = Client::meet(&stage, secret).await.rest().await;
    assert_eq!(late, ["rendezvous\r\n", ended, "\u{ffff} heroku-command-exit-status: 1\n"]);

    // The same when they are removed altogether.
    let (_, bobs) = stage.person("bob@example.org").await;
    stage.platform.give_access(&stage.caller, &app, "bob@example.org", Permission::Operate).await.unwrap();
    let by_leaving = attached(&stage, &bobs, true).await;
    let which = shipway_domain::NameOrId::parse("bob@example.org");
    stage.platform.remove_account(&stage.caller, &which, None).await.unwrap();
    assert_eq!(by_leaving.rest().await, [&format!("\r\n{ended}"), stopped]);

    // What ran for them is gone; nobody else's ended.
    until("one is left", async || {
        let dynos = stage.platform.store().read(|c| c.dynos(app.id)).unwrap();
        (dynos.iter().filter(|dyno| dyno.one_off.is_some()).count() == 1).then_some(())
    })
    .await;
    kept.say(b"still here\n").await;
    assert_eq!(kept.record().await, "still here\n");
    stage.end().await;
}
