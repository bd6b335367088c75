//! What the platform knows and an operator would want to: as `shipway doctor` says it.

use shipway_domain::Email;
use shipway_domain::admission::{Actor, Permission, Scope};
use shipway_engine::ports::Caller;
use shipway_engine::{Finding, Gravity, NewAddon};
use shipway_testkit::{Ground, Server, until};
use std::sync::atomic::Ordering;

async fn told(server: &Server, who: &Caller) -> Vec<String> {
    let found = server.platform.findings(who).await.unwrap();
    found.into_iter().map(|it| format!("{} {}\n  {}", it.gravity.as_str(), it.what, it.next.join("\n  "))).collect()
}

async fn person(server: &Server, email: &str) -> Caller {
    let email = Email::parse(email).unwrap();
    let (account, _) = server.platform.add_account(&server.caller, &email, None, false).await.unwrap();
    let actor = Actor { account: account.id, email: email.to_string(), admin: false, scope: Scope::Global };
    Caller { actor, via: "api" }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_crashes_failed_or_would_not_start_again_is_told_to_who_may_see_it() {
    let server = Ground::new().server(None).await;
    let (platform, owner) = (&server.platform, &server.caller);
    let (ada, bob) = (person(&server, "ada@example.org").await, person(&server, "bob@example.org").await);
    let shop = server.create("shop").await;
    platform.give_access(owner, &shop, "ada@example.org", Permission::View).await.unwrap();
    assert_eq!(server.push(&shop, "web: listen").await.as_deref(), Ok("v2"));
    assert!(told(&server, owner).await.is_empty(), "all is well");

    // A release that failed, until one works.
    let refused = server.push(&server.app("shop"), "web: listen\nrelease: exit 3").await.unwrap_err();
    let found = told(&server, &ada).await;
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("warning shop: v3 (Deploy "), "{found:?}");
    assert!(
        found[0].contains(&format!(") failed; v2 runs on: {}", refused.lines().next().unwrap().trim_end_matches('.')))
    );
    assert!(found[0].ends_with("\n  heroku releases:output v3 -a shop"), "{found:?}");
    assert!(told(&server, &bob).await.is_empty(), "what may not be seen does not exist");
    assert_eq!(server.push(&server.app("shop"), "web: listen\nworker: exit 4").await.as_deref(), Ok("v4"));
    assert!(told(&server, owner).await.is_empty());

    // A worker that ends as soon as it runs.
    let scale = shipway_engine::ScaleUpdate {
        process_type: "worker".into(),
        quantity: Some(shipway_domain::quantity::Quantity::parse("1").unwrap()),
        size: None,
    };
    platform.scale(owner, &server.app("shop"), vec![scale]).await.unwrap();
    let crashing = until("the worker has crashed again", async || {
        told(&server, &ada).await.pop().filter(|line| line.contains("ended with"))
    });
    let crashing = crashing.await;
    assert!(
        crashing.starts_with("warning shop: worker.1 has crashed 2 times in a row: worker.1 ended with status 4"),
        "{crashing}"
    );
    assert!(crashing.ends_with("\n  heroku logs -a shop -d worker.1"), "{crashing}");

    // A disk that loses what was built.
    server.ground.builder.damage();
    let found = told(&server, &ada).await;
    assert!(found[1].starts_with("problem shop: what was built of commit "), "{found:?}");
    assert!(
        found[1].contains(
            "(v4) is damaged on the platform's disk: its dynos do not start again\n  git commit --allow-empty"
        )
    );
    assert_eq!(server.push(&server.app("shop"), "web: listen-after 1ms").await.as_deref(), Ok("v5"));
    assert!(told(&server, &ada).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_machine_is_the_administrators_and_databases_that_do_not_answer_are_everybodys() {
    let server = Ground::new().server(None).await;
    let (platform, owner) = (&server.platform, &server.caller);
    let ada = person(&server, "ada@example.org").await;
    let shop = server.create("shop").await;
    platform.give_access(owner, &shop, "ada@example.org", Permission::View).await.unwrap();
    let full = || Finding {
        gravity: Gravity::Warning,
        about: "disk",
        what: "disk: 7 MiB are free for /srv".into(),
        next: vec!["make room".into()],
    };
    platform.look_at_machine_by(Box::new(move || vec![full()]));
    let disk = "warning disk: 7 MiB are free for /srv\n  make room";
    assert_eq!(told(&server, owner).await, [disk]);
    assert!(told(&server, &ada).await.is_empty());
    let narrow = Caller { actor: Actor { scope: Scope::Deploy { app: shop.id }, ..owner.actor.clone() }, via: "api" };
    assert!(told(&server, &narrow).await.is_empty(), "nor is it a deploy token's");

    let new = NewAddon { plan: "heroku-postgresql".into(), ..NewAddon::default() };
    let addon = platform.create_addon(owner, &shop, new).await.unwrap();
    server.quiet().await;
    assert_eq!(told(&server, owner).await, [disk]);
    server.ground.addons.silent.store(true, Ordering::Relaxed);
    let log = platform.settings().home.join("run/spawner.log");
    let down = "problem add-ons: the server of databases does not answer: it is down on purpose";
    assert_eq!(told(&server, owner).await, [disk.to_string(), format!("{down}\n  tail {}", log.display())]);
    let hers = format!("problem shop: the database {} does not answer\n  ", addon.name);
    assert_eq!(told(&server, &ada).await, [hers]);
}
