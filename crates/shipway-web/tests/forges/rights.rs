//! Who may connect what.

use crate::world::{World, send};
use hyper::{Method, StatusCode};
use serde_json::{Value, json};
use shipway_domain::Email;
use shipway_domain::admission::Permission;
use shipway_domain::forge::ForgeKind;
use shipway_store::Collaborator;

const FORGE: &str = "/shipway/v1/pipelines/acorn/forge";

async fn call(world: &World, token: &str, method: Method, path: &str, body: &Value) -> (StatusCode, Value) {
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let reply = send(&mut world.door.connect().await, method, path, &headers, body.to_string().into()).await;
    (reply.status, reply.body)
}

async fn person(world: &World, email: &str, permission: Option<Permission>) -> String {
    let (platform, owner) = (&world.server.platform, &world.server.caller);
    let email = Email::parse(email).unwrap();
    let (account, _) = platform.add_account(owner, &email, None, false).await.unwrap();
    if let Some(permission) = permission {
        let app = world.server.app("acorn-staging");
        let (collaborator, _) = platform.add_collaborator(owner, &app, email.as_str()).await.unwrap();
        let row = Collaborator { permission, ..collaborator };
        platform.store().write(move |c| c.put_collaborator(app.id, &row)).await.unwrap();
    }
    platform.session_for(account.id, "test").await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_13_connections_are_their_pipelines_peoples() {
    let world = World::new(ForgeKind::Github).await;
    let owner = world.server.platform.session_for(world.server.caller.actor.account, "test").await.unwrap();
    let stranger = person(&world, "stranger@example.org", None).await;
    let viewer = person(&world, "viewer@example.org", Some(Permission::View)).await;
    let operator = person(&world, "operator@example.org", Some(Permission::Operate)).await;
    let new = json!({ "kind": "github", "url": world.forge.url(), "repository": "acme/shop", "token": "s3cret-token" });
    let deliveries = format!("{FORGE}/deliveries");
    let redeliver = format!("/shipway/v1/forges/deliveries/{}/actions/redeliver", uuid::Uuid::nil());
    for (method, path, body, expected) in [
        (Method::GET, FORGE, &Value::Null, [401, 404, 200, 200]),
        (Method::GET, &deliveries, &Value::Null, [401, 404, 403, 200]),
        (Method::POST, FORGE, &new, [401, 404, 403, 201]),
        (Method::POST, &redeliver, &Value::Null, [401, 404, 404, 404]),
        (Method::DELETE, FORGE, &Value::Null, [401, 404, 403, 200]),
    ] {
        let mut seen = Vec::new();
        for token in ["nobody", &stranger, &viewer, &operator] {
            seen.push(call(&world, token, method.clone(), path, body).await.0.as_u16());
        }
        assert_eq!(seen, expected, "{method} {path}");
    }
    let (_, none) = call(&world, &stranger, Method::GET, "/shipway/v1/forges", &Value::Null).await;
    assert_eq!(none, json!([]));

    for (home, expected) in [("https://paas.example.org/", 201), ("ftp://x", 422), ("https://a@b", 422), ("paas", 422)]
    {
        let mut body = new.clone();
        body["home_url"] = home.into();
        let (status, answer) = call(&world, &owner, Method::POST, FORGE, &body).await;
        assert_eq!(status.as_u16(), expected, "{home}: {answer}");
        let webhook = answer["webhook"]["url"].as_str().unwrap_or("https://paas.example.org/shipway/");
        assert!(webhook.starts_with("https://paas.example.org/shipway/"), "{webhook}");
    }
    // The secret is shown once, the token never.
    let (_, made) = call(&world, &owner, Method::POST, FORGE, &new).await;
    let secret = made["webhook"]["secret"].as_str().unwrap();
    assert_eq!((secret.len(), &made["credentials"]), (64, &json!("token")));
    for path in [FORGE, "/shipway/v1/forges"] {
        let (_, shown) = call(&world, &owner, Method::GET, path, &Value::Null).await;
        let shown = shown.to_string();
        assert!(shown.contains("acme/shop") && !shown.contains(secret) && !shown.contains("s3cret-token"), "{shown}");
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_23_a_forge_is_on_the_public_internet_unless_the_operator_named_it() {
    let world = World::new(ForgeKind::Github).await;
    let operator = person(&world, "operator@example.org", Some(Permission::Operate)).await;
    let connect = async |url: &str, repository: &str| {
        let new = json!({ "kind": "gitea", "url": url, "repository": repository, "token": "t" });
        let (status, body) = call(&world, &operator, Method::POST, FORGE, &new).await;
        (status.as_u16(), body["message"].as_str().unwrap_or_default().to_string())
    };
    for url in [
        "http://169.254.169.254",
        "http://example.org",
        "https://[::ffff:127.0.0.1]",
        "https://[::1]:8443",
        "file:///etc",
        "gopher://127.0.0.1",
        "https://user:pw@example.org",
        "https://example.org/?x=",
        "https://example.org/#",
        "unix:/run/docker.sock",
        "https://exa mple.org",
    ] {
        let (status, message) = connect(url, "acme/shop").await;
        assert_eq!(status, 422, "{url}: {message}");
        assert!(message.starts_with("The forge's address "), "{url}: {message}");
    }
    for repository in ["../../x", "acme/shop?x", "acme", "-x/y"] {
        assert_eq!(connect("https://example.org", repository).await.0, 422, "{repository}");
    }
    // Addresses that are taken as they stand and resolved when they are asked: private ones are not.
    for url in ["https://169.254.169.254", "https://localhost:1", "https://10.0.0.1"] {
        assert_eq!(connect(url, "acme/shop").await.0, 201, "{url}");
        world.server.platform.sweep_pull_requests().await.unwrap();
        let failure = world.server.platform.forge_of(&world.pipeline).unwrap().failure.unwrap_or_default();
        assert!(failure.contains("is in a private network"), "{url}: {failure}");
    }
    world.end().await;
}
