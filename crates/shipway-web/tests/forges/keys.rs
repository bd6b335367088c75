//! A connection with nothing but a webhook's secret and a deploy key.

use crate::world::{World, send};
use hyper::Method;
use serde_json::{Value, json};
use shipway_domain::forge::ForgeKind;
use shipway_engine::ports::Remote;

const FORGE: &str = "/shipway/v1/pipelines/acorn/forge";

impl World {
    async fn call(&self, method: Method, body: &Value) -> (u16, Value) {
        let owner = self.server.caller.actor.account;
        let bearer = format!("Bearer {}", self.server.platform.session_for(owner, "test").await.unwrap());
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
        let reply = send(&mut self.door.connect().await, method, FORGE, &headers, body.to_string().into()).await;
        (reply.status.as_u16(), reply.body)
    }

    fn with_key(&self, key: Value) -> Value {
        json!({ "kind": "github", "url": self.forge.url(), "repository": "acme/shop", "deploy_key": key })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_41_a_deploy_key_is_made_and_its_private_half_stays() {
    let world = World::new(ForgeKind::Github).await;
    let (status, made) = world.call(Method::POST, &world.with_key(json!({}))).await;
    assert_eq!((status, &made["credentials"]), (201, &json!("deploy-key")), "{made}");
    let key = &made["deploy_key"];
    let public = key["public_key"].as_str().unwrap();
    assert!(public.starts_with("ssh-ed25519 AAAA") && public.ends_with(" shipway-acorn"), "{public}");
    assert_eq!(key["server"], json!({ "user": "git", "host": "127.0.0.1", "port": 22 }));
    assert!(key["host_keys"][0]["fingerprint"].as_str().unwrap().starts_with("SHA256:"), "{key}");
    let (_, shown) = world.call(Method::GET, &Value::Null).await;
    assert_eq!(&shown["deploy_key"], key);

    let connection = world.server.platform.forge_of(&world.pipeline).unwrap();
    let remote = world.server.ground.parts().forges.remote(&connection).await.unwrap();
    let Remote::Ssh { key, repository } = remote else { panic!("it is fetched by ssh") };
    assert_eq!((key.public.as_str(), repository.as_str()), (public, "acme/shop"));
    let secret = key.private.lines().nth(2).unwrap();
    for text in [made.to_string(), shown.to_string(), format!("{connection:?} {:?}", connection.credentials)] {
        assert!(!text.contains("PRIVATE") && !text.contains(secret), "{text}");
    }
    for name in ["shipway.db", "shipway.db-wal"] {
        let bytes = std::fs::read(world.server.ground.home.path().join(name)).unwrap();
        assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()), "{name}");
    }
    // Another connection has another key.
    let (_, other) = world.call(Method::POST, &world.with_key(json!({}))).await;
    assert_ne!(other["deploy_key"]["public_key"], public);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_with_a_deploy_key_hears_fetches_and_says_nothing() {
    let mut world = World::new(ForgeKind::Github).await;
    world.call(Method::POST, &world.with_key(json!({}))).await;
    world.connection = world.server.platform.forge_of(&world.pipeline).unwrap();
    let asked = world.forge.asked().len();
    let commit = world.commit("web: listen");
    world.pull(7, &commit, true).await;
    assert_eq!(world.screen().await, "acorn-pr-7 created");
    let platform = &world.server.platform;
    platform.tell_forges().await.unwrap();
    platform.sweep_pull_requests().await.unwrap();
    assert_eq!(world.forge.asked().len(), asked, "its API is not for us");
    assert_eq!(platform.forge_of(&world.pipeline).unwrap().failure, None);
    world.pull(7, &commit, false).await;
    assert_eq!(world.screen().await, "");
    // Of another one, nobody hears that it was closed. Its branch goes with it.
    world.pull(8, &commit, true).await;
    assert_eq!(world.screen().await, "acorn-pr-8 created");
    let platform = &world.server.platform;
    let branch = platform.store().read(|c| c.pull_request(world.pipeline.id, 8)).unwrap().unwrap().branch;
    world.server.ground.repositories.delete_elsewhere(branch.as_str());
    platform.sweep_pull_requests().await.unwrap();
    assert_eq!(world.screen().await, "");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_03_what_ssh_could_take_for_a_flag_is_no_account() {
    let world = World::new(ForgeKind::Github).await;
    let body = "A".repeat(68);
    for (key, words) in [
        (json!({ "user": "-oProxyCommand=id" }), "must be a plain name"),
        (json!({ "user": "git@evil" }), "must be a plain name"),
        (json!({ "port": 0 }), "from 1 to 65535"),
        (json!({ "port": 70000 }), "from 1 to 65535"),
        (json!({ "known_hosts": "" }), "have no key of 127.0.0.1"),
        (json!({ "known_hosts": format!("github.com ssh-ed25519 {body}") }), "ssh-keyscan -p 22 127.0.0.1"),
        (json!({ "known_hosts": format!("@cert-authority 127.0.0.1 ssh-ed25519 {body}") }), "have no key of"),
        (json!("yes"), "must be an object"),
    ] {
        let (status, answer) = world.call(Method::POST, &world.with_key(key.clone())).await;
        let message = answer["message"].as_str().unwrap_or_default();
        assert!(status == 422 && message.contains(words), "{key}: {status} {message}");
    }
    let both = json!({ "kind": "github", "repository": "acme/shop", "token": "t", "deploy_key": {} });
    assert_eq!(world.call(Method::POST, &both).await.0, 422);
    let known =
        json!({ "known_hosts": format!("[127.0.0.1]:2222 ssh-ed25519 {body}"), "port": 2222, "user": "forgejo" });
    let (status, made) = world.call(Method::POST, &world.with_key(known)).await;
    assert_eq!((status, &made["deploy_key"]["server"]["port"]), (201, &json!(2222)), "{made}");
    world.end().await;
}
