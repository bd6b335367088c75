//! Tunnels: a database, from a machine that reaches nothing but the API.

use crate::stage::Stage;
use shipway_domain::admission::{Permission, Scope};
use shipway_engine::ports::Caller;
use shipway_engine::{NewAddon, NewToken};
use shipway_net::Phase;
use shipway_store::{Addon, App};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The app `shop` with a database that repeats what it is told, and hangs up at `\q`.
async fn with_database(stage: &Stage) -> (App, Addon) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    *stage.addons.answered_at.lock().unwrap() = Some(listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut piece = [0; 4096];
                while let Ok(read @ 1..) = stream.read(&mut piece).await {
                    if piece[..read].ends_with(b"\\q") || stream.write_all(&piece[..read]).await.is_err() {
                        return;
                    }
                }
                let _ = stream.write_all(b"; that was all").await;
            });
        }
    });
    let app = stage.create("shop").await;
    let new = NewAddon { plan: "heroku-postgresql".into(), ..NewAddon::default() };
    let addon = stage.platform.create_addon(&stage.caller, &app, new).await.unwrap();
    (app, addon)
}

/// Asks for a tunnel: the status, the message of a refusal, and the connection.
async fn ask(stage: &Stage, token: &str, addon: &Addon) -> (u16, String, TcpStream) {
    let mut stream = TcpStream::connect(stage.address).await.unwrap();
    let request = format!(
        "GET /shipway/v1/addons/{}/tunnel HTTP/1.1\r\nHost: paas\r\nAuthorization: Bearer {token}\r\n\
         Connection: Upgrade\r\nUpgrade: postgresql\r\n\r\n",
        addon.name
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap().into());
    }
    let head = head.to_lowercase();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.unwrap();
    let refusal: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    (status, refusal["message"].as_str().unwrap_or_default().to_string(), stream)
}

/// An open tunnel, tried.
async fn open(stage: &Stage, token: &str, addon: &Addon) -> TcpStream {
    let (status, refusal, mut stream) = ask(stage, token, addon).await;
    assert_eq!(status, 101, "{refusal}");
    stream.write_all(b"SELECT 1").await.unwrap();
    assert_eq!(said(&mut stream, 8).await, "SELECT 1");
    stream
}

async fn said(stream: &mut TcpStream, length: usize) -> String {
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await.unwrap();
    String::from_utf8(bytes).unwrap()
}

/// What is still said until the connection ends.
async fn rest(mut stream: TcpStream) -> String {
    let mut bytes = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(30), stream.read_to_end(&mut bytes)).await;
    // Reset or closed in order: it is over.
    let _ = ended.expect("the tunnel ends");
    String::from_utf8(bytes).unwrap()
}

/// Another token of somebody's.
async fn token(stage: &Stage, caller: &Caller, scope: Scope) -> (shipway_domain::TokenId, String) {
    let new = NewToken { description: "laptop".into(), scope, expires_in_seconds: None };
    let (token, secret) = stage.platform.create_token(caller, new).await.unwrap();
    (token.id, secret)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_is_reached_through_the_api() {
    let stage = Stage::open().await;
    let (app, addon) = with_database(&stage).await;
    let mut stream = open(&stage, &stage.token, &addon).await;

    // More than is held on the way: the rest waits until it is read.
    let much = vec![b'x'; 8 << 20];
    let (mut from, mut to) = stream.split();
    let mut back = vec![0; much.len()];
    let (written, read) = tokio::join!(to.write_all(&much), from.read_exact(&mut back));
    assert!(written.is_ok() && read.is_ok() && back == much);
    // The database has the last word.
    stream.shutdown().await.unwrap();
    assert_eq!(rest(stream).await, "; that was all");

    let mut stream = open(&stage, &stage.token, &addon).await;
    stream.write_all(b"\\q").await.unwrap();
    assert_eq!(rest(stream).await, "");

    let ledger = stage.platform.store().read(|c| c.ledger(Some(app.id), 10)).unwrap();
    let opened: Vec<_> = ledger.iter().filter(|entry| entry.action == "tunnel-opened").collect();
    assert_eq!(opened.len(), 2);
    assert_eq!((opened[0].actor.as_str(), opened[0].via.as_str()), (crate::stage::OWNER, "api"));
    assert_eq!(opened[0].detail["addon"], addon.name.as_str());

    let path = format!("/shipway/v1/addons/{}/tunnel", addon.id);
    let plain = stage.get(&path, &[&format!("Authorization: Bearer {}", stage.token)]).await;
    assert_eq!((plain.status, plain.header("upgrade")), (426, Some("postgresql")));
    assert!(plain.body.contains("shipway pg tunnel"), "{}", plain.body);

    *stage.addons.answered_at.lock().unwrap() = Some(([127, 0, 0, 1], 1).into());
    let (status, refusal, _) = ask(&stage, &stage.token, &addon).await;
    assert_eq!((status, refusal), (503, format!("{} does not answer. Try again in a moment.", addon.name)));
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_13_a_tunnel_is_for_who_may_read_the_databases_password() {
    let stage = Stage::open().await;
    let (app, addon) = with_database(&stage).await;
    let (ada, adas) = stage.person("ada@example.org").await;
    let (_, strangers) = stage.person("stranger@example.org").await;
    stage.platform.give_access(&stage.caller, &app, "ada@example.org", Permission::View).await.unwrap();

    let refused = async |token: &str, expected: (u16, &str)| {
        let (status, refusal, _) = ask(&stage, token, &addon).await;
        assert_eq!((status, refusal.as_str()), expected);
    };
    refused("nonsense", (401, "Invalid credentials provided.")).await;
    let nowhere =
        format!("Couldn't find that add-on: {}. `heroku addons --all` lists those that you can see.", addon.name);
    refused(&strangers, (404, &nowhere)).await;
    let view = "You (ada@example.org) may look at shop, and not read its config vars: they hold secrets. Ask \
                owner@example.org, who owns it, for the permission to deploy.";
    refused(&adas, (403, view)).await;
    let (vars, tunnel) = ("read config vars", format!("open a tunnel to {}", addon.name));
    for (scope, what) in [(Scope::Read, vars), (Scope::Write, vars), (Scope::ReadProtected, &tunnel)] {
        let words = format!(
            "The token that was used may not {what}: its scope is {}. Use one with the scope global: heroku \
             authorizations:create",
            scope.text()
        );
        let (_, secret) = token(&stage, &stage.caller, scope).await;
        refused(&secret, (403, &words)).await;
    }
    let words = "The token that was used may not do this: it brings code to shop, says whether that worked, and does nothing \
                 else. Ask owner@example.org, who owns shop, for one of a wider scope.";
    let (_, secret) = token(&stage, &stage.caller, Scope::Deploy { app: app.id }).await;
    refused(&secret, (403, words)).await;
    let opened = stage.platform.store().read(|c| c.ledger(Some(app.id), 10)).unwrap();
    assert!(opened.iter().all(|entry| entry.action != "tunnel-opened"));

    // An app of hers that it is attached to has the password among its config vars.
    let new = shipway_engine::NewApp { name: Some("till".into()), ..Default::default() };
    let till = stage.platform.create_app(&ada, new).await.unwrap();
    stage.platform.attach_addon(&stage.caller, &till, &addon, Some("SHARED"), None).await.unwrap();
    drop(open(&stage, &adas, &addon).await);
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tunnel_ends_with_the_right_to_it() {
    let stage = Stage::open().await;
    let (app, addon) = with_database(&stage).await;
    let (ada, adas) = stage.person("ada@example.org").await;
    stage.platform.give_access(&stage.caller, &app, "ada@example.org", Permission::Deploy).await.unwrap();
    let (first, second) =
        (token(&stage, &stage.caller, Scope::Global).await, token(&stage, &stage.caller, Scope::WriteProtected).await);
    let by_token = open(&stage, &first.1, &addon).await;
    let by_access = open(&stage, &adas, &addon).await;
    let mut kept = open(&stage, &second.1, &addon).await;

    stage.platform.revoke_token(&stage.caller, second.0, first.0).await.unwrap();
    stage.platform.give_access(&stage.caller, &app, &ada.actor.email, Permission::View).await.unwrap();
    let (by_token, by_access) = tokio::join!(rest(by_token), rest(by_access));
    assert_eq!((by_token.as_str(), by_access.as_str()), ("", ""));
    kept.write_all(b"still here").await.unwrap();
    assert_eq!(said(&mut kept, 10).await, "still here", "nobody else's ended");

    stage.platform.destroy_addon(&stage.caller, &addon, false).await.unwrap();
    assert_eq!(rest(kept).await, "");

    let new = NewAddon { plan: "heroku-postgresql".into(), ..NewAddon::default() };
    let next = stage.platform.create_addon(&stage.caller, &app, new).await.unwrap();
    let last = open(&stage, &stage.token, &next).await;
    stage.lifecycle.advance(Phase::Retiring);
    assert_eq!(rest(last).await, "", "a server that ends keeps nobody");
    stage.end().await;
}
