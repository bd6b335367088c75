//! The door of webhooks: whom it lets in, how often, how many.

use crate::world::{Door, KINDS, World, new_forge, send, send_hook};
use futures::FutureExt;
use hyper::{Method, StatusCode};
use serde_json::json;
use shipway_domain::Email;
use shipway_domain::forge::{DeliveryStatus, ForgeKind};
use shipway_domain::review::Checks;
use shipway_domain::triggers::RefKind;
use shipway_engine::Platform;
use shipway_engine::ports::Caller;
use shipway_store::ReviewAppSettings;
use shipway_testkit::{ForgeDouble, Ground, OWNER, settings, until};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;

#[tokio::test(flavor = "multi_thread")]
async fn attack_21_a_webhook_is_taken_from_its_forge_alone_and_once() {
    for kind in KINDS {
        let world = World::new(kind).await;
        let (id, secret) = (world.connection.id.to_string(), world.connection.secret.clone());
        let good = world.forge.push_hook(&secret, "one", "refs/heads/other", &"a".repeat(40));
        let signature = good.headers[0].0.clone();
        let value = good.headers[0].1.clone();
        let refused = async |what: &str, at: &str, hook, expected: StatusCode| {
            let reply = world.door.knock(at, hook).await;
            assert_eq!(reply.status, expected, "{kind}, {what}: {}", reply.body);
            reply.body["message"].as_str().unwrap_or_default().to_string()
        };
        let unauthorized = StatusCode::UNAUTHORIZED;
        let words = refused("no signature", &id, good.clone().without(&signature), unauthorized).await;
        for (what, wrong) in [
            ("an empty signature", String::new()),
            ("a shorter signature", value[..value.len() - 2].to_string()),
            ("a longer signature", format!("{value}00")),
            (
                "another one's signature",
                world.forge.push_hook("x", "one", "refs/heads/other", "a").headers[0].1.clone(),
            ),
            ("no hex", format!("{}zz", &value[..value.len() - 2])),
        ] {
            // Which of them it is, is nobody's to know.
            let hook = good.clone().with(&signature, &wrong);
            assert_eq!(refused(what, &id, hook, unauthorized).await, words);
        }
        let elsewhere = uuid::Uuid::nil().to_string();
        assert_eq!(refused("an unknown address", &elsewhere, good.clone(), unauthorized).await, words);
        assert_eq!(refused("no id", "..%2f..", good.clone(), unauthorized).await, words);
        let text = good.clone().with("content-type", "text/plain");
        refused("another content type", &id, text, StatusCode::UNSUPPORTED_MEDIA_TYPE).await;
        let mut changed = good.clone();
        changed.body = changed.body.replace("other", "main");
        if kind != ForgeKind::Gitlab {
            assert_eq!(refused("a changed body", &id, changed, unauthorized).await, words);
        }
        // Signed by hand, for no serializer writes it.
        let mut twice = world.forge.hook(&secret, "two", "push", &json!({}));
        twice.body = r#"{"ref":"refs/heads/main","ref":"refs/heads/evil"}"#.into();
        if let Some(resigned) = world.forge.sign(&secret, &twice.body) {
            twice = twice.with(&signature, &resigned);
        }
        let words = refused("duplicate keys", &id, twice, StatusCode::BAD_REQUEST).await;
        assert!(words.contains("\"ref\" stands twice"), "{words}");
        let mut huge = good.clone();
        huge.body = "x".repeat((5 << 20) + 1);
        refused("a huge body", &id, huge, StatusCode::PAYLOAD_TOO_LARGE).await;
        assert!(world.server.platform.store().read(|c| c.forge_deliveries(world.connection.id, 9)).unwrap().is_empty());

        // The one that is right: once.
        assert_eq!(world.hear(good.clone()).await.status, DeliveryStatus::Ignored);
        let again = world.door.knock(&id, good.clone()).await;
        assert_eq!((again.status, &again.body), (StatusCode::OK, &json!({ "status": "known" })), "{kind}");
        if kind != ForgeKind::Gitlab {
            // The id is not signed: a replay under another one is known by what it says.
            let renamed = good.headers.iter().find(|(name, _)| name.ends_with("delivery")).unwrap().0.clone();
            let again = world.door.knock(&id, good.with(&renamed, "three")).await;
            assert_eq!((again.status, &again.body["status"]), (StatusCode::OK, &json!("known")), "{kind}");
        }
        assert_eq!(
            world.server.platform.store().read(|c| c.forge_deliveries(world.connection.id, 9)).unwrap().len(),
            1
        );
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_21_a_signed_time_that_is_over_is_refused() {
    let world = World::new(ForgeKind::Gitlab).await;
    let (id, secret) = (world.connection.id.to_string(), world.connection.secret.clone());
    let now = world.server.platform.now().as_second();
    let hook = |name: &str, at: i64| {
        let hook = world.forge.push_hook(&secret, name, "refs/heads/other", &"a".repeat(40));
        world.forge.signed_by_time(&secret, name, at, hook)
    };
    for (name, at, expected) in [
        ("old", now - 600, StatusCode::UNAUTHORIZED),
        ("early", now + 600, StatusCode::UNAUTHORIZED),
        ("now", now - 10, StatusCode::ACCEPTED),
    ] {
        assert_eq!(world.door.knock(&id, hook(name, at)).await.status, expected, "{name}");
    }
    // Signed anew for another time: not with what was signed before.
    let moved = hook("moved", now - 600).with("webhook-timestamp", &now.to_string());
    assert_eq!(world.door.knock(&id, moved).await.status, StatusCode::UNAUTHORIZED);
    // A signature that is wrong is not made good by a plain token beside it.
    let both = hook("both", now - 600).with("x-gitlab-token", &secret);
    assert_eq!(world.door.knock(&id, both).await.status, StatusCode::UNAUTHORIZED);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_44_a_flood_of_webhooks_meets_a_bound() {
    // Not started: nobody carries anything out.
    let ground = Ground::new();
    let platform = Platform::open(settings(ground.home.path()), ground.parts()).unwrap();
    let token = platform.first_admin(&Email::parse(OWNER).unwrap()).await.unwrap().unwrap();
    let caller = Caller { actor: platform.authenticate(&token).unwrap().0, via: "api" };
    let forge = ForgeDouble::start(ForgeKind::Github).await;
    let pipeline = platform.create_pipeline(&caller, "acorn").await.unwrap();
    let connection = platform.connect_forge(&caller, &pipeline, new_forge(&forge)).await.unwrap();
    let door = Arc::new(Door::open(&platform).await);
    let (id, secret) = (connection.id.to_string(), connection.secret.clone());

    // 10,000 by 20 senders, half of them not signed.
    let senders = (0..20).map(|sender| {
        let (door, forge, id, secret) = (door.clone(), forge.clone(), id.clone(), secret.clone());
        tokio::spawn(async move {
            let mut port = door.connect().await;
            let mut seen = [0; 4];
            for n in 0..500 {
                let name = format!("{sender}-{n}");
                let key = if n % 2 == 0 { secret.as_str() } else { "guessed" };
                let hook = forge.push_hook(key, &name, &format!("refs/heads/{name}"), &"a".repeat(40));
                let reply = send_hook(&mut port, &id, hook).await;
                let at = match reply.status {
                    StatusCode::ACCEPTED => 0,
                    StatusCode::UNAUTHORIZED => 1,
                    StatusCode::SERVICE_UNAVAILABLE => {
                        assert_eq!(reply.retry_after.as_deref(), Some("30"));
                        2
                    }
                    _ => 3,
                };
                seen[at] += 1;
            }
            seen
        })
    });
    let mut seen = [0; 4];
    for sender in senders.collect::<Vec<_>>() {
        let of = sender.await.unwrap();
        (0..4).for_each(|at| seen[at] += of[at]);
    }
    let [taken, refused, again, other] = seen;
    assert_eq!((taken, refused + again, other), (500, 9500, 0), "taken, refused or told to come again, anything else");
    assert!(again > 0, "{seen:?}");

    // There is room for another forge, also where a third one is as loud.
    let mut rooms = Vec::new();
    for name in ["birch", "cedar"] {
        let pipeline = platform.create_pipeline(&caller, name).await.unwrap();
        let connection = platform.connect_forge(&caller, &pipeline, new_forge(&forge)).await.unwrap();
        let (id, mut port, mut taken) = (connection.id.to_string(), door.connect().await, 0);
        loop {
            let hook = forge.push_hook(
                &connection.secret,
                &format!("{name}-{taken}"),
                "refs/heads/x",
                &format!("{taken:040}"),
            );
            match send_hook(&mut port, &id, hook).await.status {
                StatusCode::ACCEPTED => taken += 1,
                status => break assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE),
            }
        }
        rooms.push(taken);
    }
    assert_eq!(rooms, [500, 50], "the first still had its share, the second what each is assured of");

    // What was taken is there; when it was carried out there is room again.
    platform.carry_out_deliveries().await.unwrap();
    assert_eq!(platform.store().read(|c| c.count_waiting_forge_deliveries()).unwrap(), 0);
    let late = forge.push_hook(&secret, "late", "refs/heads/late", &"a".repeat(40));
    assert_eq!(door.knock(&id, late).await.status, StatusCode::ACCEPTED);
    door.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_44_a_forge_that_sends_slowly_holds_up_no_other() {
    let world = World::new(ForgeKind::Github).await;
    let platform = &world.server.platform;
    let pipeline = platform.create_pipeline(&world.server.caller, "birch").await.unwrap();
    let other = platform.connect_forge(&world.server.caller, &pipeline, new_forge(&world.forge)).await.unwrap();
    let mut begun = Vec::new();
    // 64 may wait: those that find no room are told so.
    for _ in 0..80 {
        let mut stream = tokio::net::TcpStream::connect(world.door.address).await.unwrap();
        let head = format!(
            "POST /shipway/v1/forges/{}/webhook HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
             content-length: 100\r\n\r\n",
            world.connection.id
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        begun.push(stream);
    }
    let refused = |stream: &&tokio::net::TcpStream| {
        let mut answer = [0; 12];
        stream.peek(&mut answer).now_or_never().is_some() && answer == *b"HTTP/1.1 503"
    };
    until("all wait but those for whom there is no room", async || {
        (begun.iter().filter(refused).count() == 80 - 64).then_some(())
    })
    .await;
    let hook = world.forge.push_hook(&other.secret, "one", "refs/heads/x", &"a".repeat(40));
    let quiet = other.id.to_string();
    let knock = world.door.knock(&quiet, hook);
    let reply = tokio::time::timeout(Duration::from_secs(5), knock);
    assert_eq!(reply.await.expect("it does not wait for the others").status, StatusCode::ACCEPTED);
    drop(begun);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_27_a_fork_that_comes_by_webhook_is_not_built() {
    for kind in KINDS {
        let world = World::new(kind).await;
        let commit = world.commit("web: listen");
        let pull = world.forge.set_fork_pull(9, "eve/shop", "change-9", commit.as_str());
        world.hear(world.forge.pull_hook(&world.connection.secret, "fork", &pull)).await;
        assert_eq!(world.screen().await, "- pending", "{kind}");
        // The sweep says the same of it.
        world.server.platform.sweep_pull_requests().await.unwrap();
        assert_eq!(world.screen().await, "- pending", "{kind}");
        let builds = world.server.ground.builder.builds.load(std::sync::atomic::Ordering::SeqCst);
        assert_eq!(builds, 0, "{kind}");
        let row = &world.server.platform.review_apps(&world.pipeline).unwrap()[0];
        assert_eq!(row.fork.as_deref(), Some("eve/shop"), "{kind}");
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_deploys_and_a_push_to_the_main_branch_tells_the_upstream() {
    for kind in KINDS {
        let world = World::new(kind).await;
        let platform = &world.server.platform;
        let commit = world.commit("web: listen");
        let secret = &world.connection.secret;
        let other = world.forge.push_hook(secret, "1", "refs/heads/feature", commit.as_str());
        assert_eq!(world.hear(other).await.status, DeliveryStatus::Ignored, "{kind}");
        let staging = world.server.app("acorn-staging");
        platform.add_trigger(&world.server.caller, &staging, RefKind::Tag, "v*", false).await.unwrap();
        let tag = world.hear(world.forge.push_hook(secret, "2", "refs/tags/v1", commit.as_str())).await;
        assert_eq!(tag.message, Some(format!("v1 is at {}, for acorn-staging", commit.short())), "{kind}");
        platform.deploy_triggered().await.unwrap();
        world.screen().await;
        assert_eq!(world.server.served(&staging).await, "v2", "{kind}");
        assert!(platform.upstream(&world.pipeline).unwrap().is_none());
        let push = world.hear(world.forge.push_hook(secret, "3", "refs/heads/main", commit.as_str())).await;
        assert_eq!(push.message, Some(format!("main is at {}", commit.short())), "{kind}");
        let upstream = until("the upstream was fetched", async || {
            platform.upstream(&world.pipeline).unwrap().filter(|u| u.tip.is_some())
        })
        .await;
        assert_eq!((upstream.branch.as_str(), upstream.tip), ("main", Some(commit)), "{kind}");
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn checks_let_a_review_app_go() {
    for kind in KINDS {
        let settings =
            ReviewAppSettings { automatic_review_apps: true, wait_for_ci: true, ..ReviewAppSettings::default() };
        let world = World::with(kind, settings).await;
        let commit = world.commit("web: listen");
        world.pull(7, &commit, true).await;
        assert_eq!(world.screen().await, "- pending", "{kind}");
        let secret = &world.connection.secret;
        for (id, state, expected) in [("a", "pending", "- pending"), ("bb", "success", "acorn-pr-7 created")] {
            world.hear(world.forge.check_hook(secret, id, commit.as_str(), state)).await;
            assert_eq!(world.screen().await, expected, "{kind} {state}");
        }
        // What is older than what is known does not count.
        world.hear(world.forge.check_hook(secret, "c", commit.as_str(), "failure")).await;
        let request = world.server.platform.store().read(|c| c.pull_request(world.pipeline.id, 7)).unwrap().unwrap();
        assert_eq!(request.checks, Checks::Succeeded, "{kind}");
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_failed_is_listed_and_redelivered() {
    let world = World::new(ForgeKind::Github).await;
    let commit = world.commit("web: listen");
    let body = json!({ "repository": { "full_name": "acme/other" }, "zen": "x" });
    let other = world.hear(world.forge.hook(&world.connection.secret, "p", "ping", &body)).await;
    assert_eq!(other.status, DeliveryStatus::Failed);
    let words = other.message.as_deref().unwrap();
    assert_eq!(words, "It is about acme/other, and this pipeline is connected to acme/shop.");
    let broken = world.hear(world.forge.hook(&world.connection.secret, "q", "pull_request", &json!({}))).await;
    assert!(broken.message.unwrap().contains("`number` is no number"));
    let push = world.pull(3, &commit, true).await;
    assert_eq!(push.message, Some(format!("#3 is open at {}", commit.short())));

    let token = world.server.platform.session_for(world.server.caller.actor.account, "test").await.unwrap();
    let mut port = world.door.connect().await;
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str())];
    let path = "/shipway/v1/pipelines/acorn/forge/deliveries";
    let list = send(&mut port, Method::GET, path, &headers, "".into()).await;
    let lines: Vec<String> = list
        .body
        .as_array()
        .unwrap()
        .iter()
        .map(|d| format!("{} {}", d["event"].as_str().unwrap(), d["status"].as_str().unwrap()))
        .collect();
    assert_eq!(lines, ["pull_request done", "pull_request failed", "ping failed"]);
    let path = format!("/shipway/v1/forges/deliveries/{}/actions/redeliver", push.id);
    let again = send(&mut port, Method::POST, &path, &headers, "".into()).await;
    assert_eq!((again.status, &again.body["status"]), (StatusCode::ACCEPTED, &json!("received")));
    world.server.platform.carry_out_deliveries().await.unwrap();
    until("it is done again", async || {
        let delivery = world.server.platform.store().read(|c| c.forge_delivery(push.id)).unwrap().unwrap();
        (delivery.status == DeliveryStatus::Done).then_some(())
    })
    .await;
    world.end().await;
}
