//! Branches and tags that deploy apps by themselves, as sessions.

use shipway_domain::admission::{Actor, Scope};
use shipway_domain::review::Checks;
use shipway_domain::triggers::{RefKind, RefName};
use shipway_domain::{CommitId, Email, Stage};
use shipway_engine::ports::Caller;
use shipway_engine::{RefNews, RefOrigin};
use shipway_store::{App, Pipeline};
use shipway_testkit::{Ground, Server};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

/// A pipeline with `shop-qa` and `shop-staging`, both deployed by the branch main.
async fn two_apps(server: &Server, wait_for_ci: bool) -> (Pipeline, App, App) {
    let pipeline = server.platform.create_pipeline(&server.caller, "shop").await.unwrap();
    for (name, stage) in [("shop-qa", Stage::Development), ("shop-staging", Stage::Staging)] {
        let app = server.create(name).await;
        server.platform.couple(&server.caller, &pipeline, &app, stage).await.unwrap();
        let added = server.platform.add_trigger(&server.caller, &app, RefKind::Branch, "main", wait_for_ci).await;
        added.unwrap();
    }
    (pipeline, server.app("shop-qa"), server.app("shop-staging"))
}

fn main_at(server: &Server, pipeline: &Pipeline, commit: &CommitId) -> RefNews {
    RefNews {
        origin: RefOrigin::Upstream { pipeline: pipeline.id, actor: Some(server.caller.actor.clone()) },
        reference: RefName::new(RefKind::Branch, "main").unwrap(),
        commit: commit.clone(),
        by: "ana".into(),
    }
}

/// Looks until nothing is under way: `main 3f9c2a1 succeeded`, newest first.
async fn screen(server: &Server, app: &App) -> String {
    server.platform.deploy_triggered().await.unwrap();
    server.quiet().await;
    let line = |view: shipway_engine::TriggeredView| {
        let (name, commit) = (view.deploy.reference.name().to_string(), view.deploy.commit.short().to_string());
        format!("{name} {commit} {} {}", view.state, view.message.unwrap_or_default()).trim_end().to_string()
    };
    let views = server.platform.triggered(app, 10).unwrap();
    views.into_iter().map(line).collect::<Vec<_>>().join("\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn main_deploys_qa_and_staging_from_one_build() {
    let server = Ground::new().server(None).await;
    let (pipeline, qa, staging) = two_apps(&server, false).await;
    for (app, colour) in [(&qa, "green"), (&staging, "blue")] {
        let vars = BTreeMap::from([("COLOUR".to_string(), Some(colour.to_string()))]);
        server.platform.set_config_vars(&server.caller, app, vars).await.unwrap();
    }
    let builds = || server.ground.builder.builds.load(Ordering::SeqCst);
    let commit = server.ground.repositories.commit("web: listen");
    let set_off = server.platform.ref_moved(main_at(&server, &pipeline, &commit)).await.unwrap();
    assert_eq!(set_off.iter().map(|of| of.app.to_string()).collect::<Vec<_>>(), ["shop-qa", "shop-staging"]);
    for app in [&qa, &staging] {
        assert_eq!(screen(&server, app).await, format!("main {} succeeded", commit.short()));
        assert_eq!(server.served(app).await, "v3");
    }
    assert_eq!(builds(), 1, "one build for both");
    let transcripts = server.transcript(&qa) + &server.transcript(&staging);
    assert!(transcripts.contains(&format!("-----> Commit {} was built for shop-", commit.short())), "{transcripts}");
    let digest = |app: &App| server.platform.store().read(|c| c.latest_slug(app.id)).unwrap().unwrap().digest;
    assert_eq!(digest(&qa), digest(&staging));

    // News that come twice count once.
    server.platform.ref_moved(main_at(&server, &pipeline, &commit)).await.unwrap();
    assert_eq!(screen(&server, &qa).await, format!("main {} succeeded", commit.short()));
    let ledger = server.platform.store().read(|c| c.ledger(Some(qa.id), 50)).unwrap();
    let told = ledger.iter().filter(|e| e.action == "deploy-triggered").collect::<Vec<_>>();
    assert_eq!((told.len(), told[0].detail["reference"].as_str()), (1, Some("branch main")));

    // What a build bakes in parts them.
    let vars = BTreeMap::from([("VITE_API".to_string(), Some("https://qa".to_string()))]);
    server.platform.set_config_vars(&server.caller, &qa, vars).await.unwrap();
    let next = server.ground.repositories.commit("web: listen-after 1ms");
    server.platform.ref_moved(main_at(&server, &pipeline, &next)).await.unwrap();
    screen(&server, &qa).await;
    assert_eq!(builds(), 3, "each its own");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_of_what_an_app_of_the_pipeline_has_built_takes_that_build() {
    let server = Ground::new().server(None).await;
    let (_, qa, staging) = two_apps(&server, false).await;
    let builds = || server.ground.builder.builds.load(Ordering::SeqCst);
    let set = async |app: &App, key: &str, value: &str| {
        let vars = BTreeMap::from([(key.to_string(), Some(value.to_string()))]);
        server.platform.set_config_vars(&server.caller, app, vars).await.unwrap();
        server.quiet().await;
    };
    let push = async |who: &Caller, app: &App, commit: &CommitId| {
        let (_, operation) = server.platform.deploy(who, &server.app(app.name.as_str()), commit.clone()).await.unwrap();
        server.outcome(operation).await.unwrap();
    };
    let one = server.ground.repositories.commit("web: listen");
    push(&server.caller, &qa, &one).await;
    push(&server.caller, &staging, &one).await;
    assert_eq!(builds(), 1);
    let said = format!("-----> Commit {} was built for shop-qa: using that build", one.short());
    assert!(server.transcript(&staging).contains(&said), "{}", server.transcript(&staging));

    // Who pushes by hand asked for no sharing: any config var parts them, whether builds are known to read it or not.
    set(&staging, "BANNER", "staging").await;
    let two = server.ground.repositories.commit("web: listen-after 1ms");
    push(&server.caller, &qa, &two).await;
    push(&server.caller, &staging, &two).await;
    assert_eq!(builds(), 3);
    set(&qa, "BANNER", "staging").await;

    // What was built by one who may not deploy the app is not taken for it.
    let email = Email::parse("dev@example.org").unwrap();
    let (account, _) = server.platform.add_account(&server.caller, &email, None, false).await.unwrap();
    server.platform.add_collaborator(&server.caller, &qa, email.as_str()).await.unwrap();
    let actor = Actor { account: account.id, email: email.to_string(), admin: false, scope: Scope::Global };
    let three = server.ground.repositories.commit("web: listen-after 2ms");
    push(&Caller { actor, via: "git" }, &qa, &three).await;
    push(&server.caller, &staging, &three).await;
    assert_eq!(builds(), 5, "attack: code that a developer built is not what production gets unasked");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_waits_for_the_build_of_the_first_and_makes_its_own_when_that_fails() {
    let server = Ground::new().server(None).await;
    let (pipeline, qa, staging) = two_apps(&server, false).await;
    let commit = server.ground.repositories.commit("web: listen; echo slow-build");
    server.platform.ref_moved(main_at(&server, &pipeline, &commit)).await.unwrap();
    let waits = "-----> Waiting for the same build of another app of the pipeline";
    let transcript = |app: &App| {
        let builds = server.platform.store().read(|c| c.builds(app.id)).unwrap();
        let path = builds.last().map(|b| server.ground.home.path().join("outputs").join(b.id.to_string()));
        path.and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default()
    };
    while !(transcript(&qa) + &transcript(&staging)).contains(waits) {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    server.ground.builder.go.notify_one();
    assert_eq!(screen(&server, &staging).await, format!("main {} succeeded", commit.short()));
    assert_eq!(server.ground.builder.builds.load(Ordering::SeqCst), 1);

    let broken = server.ground.repositories.commit("web: broken-build");
    server.platform.ref_moved(main_at(&server, &pipeline, &broken)).await.unwrap();
    for app in [&qa, &staging] {
        let shown = screen(&server, app).await;
        assert!(
            shown.starts_with(&format!("main {} failed The build is broken on purpose.", broken.short())),
            "{shown}"
        );
        assert_eq!(server.served(app).await, "v2");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_waits_for_ci_over_a_restart_and_the_newest_wins() {
    let ground = Ground::new();
    let server = ground.server(None).await;
    let (pipeline, qa, _) = two_apps(&server, true).await;
    let commits: Vec<CommitId> =
        (1..4).map(|n| ground.repositories.commit(&format!("web: listen-after {n}ms"))).collect();
    let [one, two, three] = commits.as_slice() else { panic!() };
    let short = |commit: &CommitId| commit.short().to_string();
    // What was heard before the push counts.
    server.platform.checks_changed(pipeline.id, one.clone(), Checks::Pending).await.unwrap();
    server.platform.ref_moved(main_at(&server, &pipeline, one)).await.unwrap();
    let pending = format!("main {0} waiting waits for CI: checks of {0} run", short(one));
    assert_eq!(screen(&server, &qa).await, pending);
    server.platform.ref_moved(main_at(&server, &pipeline, two)).await.unwrap();
    let superseded = format!("main {} superseded {} took its place", short(one), short(two));
    let unheard = format!("main {0} waiting waits for CI: nothing was heard of {0} yet\n{superseded}", short(two));
    assert_eq!(screen(&server, &qa).await, unheard);
    server.platform.stop().await;
    drop(server);

    let server = ground.server(None).await;
    server.platform.checks_changed(pipeline.id, two.clone(), Checks::Failed).await.unwrap();
    let failed =
        format!("main {0} waiting CI failed for {0}: it deploys when a run of it passes\n{superseded}", short(two));
    assert_eq!(screen(&server, &qa).await, failed);
    server.platform.checks_changed(pipeline.id, two.clone(), Checks::Succeeded).await.unwrap();
    assert_eq!(screen(&server, &qa).await, format!("main {} succeeded\n{superseded}", short(two)));
    assert_eq!(server.served(&qa).await, "v2");

    // What somebody deployed by hand meanwhile is newer than what waits.
    server.platform.ref_moved(main_at(&server, &pipeline, three)).await.unwrap();
    screen(&server, &qa).await;
    server.push(&qa, "web: listen").await.unwrap();
    server.platform.checks_changed(pipeline.id, three.clone(), Checks::Succeeded).await.unwrap();
    assert!(screen(&server, &qa).await.starts_with(&format!("main {} superseded", short(three))));
    assert_eq!(server.served(&qa).await, "v3");
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_13_a_push_sets_off_no_more_than_its_pusher_may() {
    let server = Ground::new().server(None).await;
    let (_, qa, staging) = two_apps(&server, false).await;
    for app in [&qa, &staging] {
        server.platform.add_trigger(&server.caller, app, RefKind::Tag, "v*", false).await.unwrap();
    }
    let email = Email::parse("ana@example.org").unwrap();
    let (ana, _) = server.platform.add_account(&server.caller, &email, None, false).await.unwrap();
    server.platform.add_collaborator(&server.caller, &qa, "ana@example.org").await.unwrap();
    let actor = Actor { account: ana.id, email: ana.email.to_string(), admin: false, scope: Scope::Global };
    let commit = server.ground.repositories.commit("web: listen");
    let news = RefNews {
        origin: RefOrigin::App { app: qa.id, actor },
        reference: RefName::new(RefKind::Tag, "v1").unwrap(),
        commit: commit.clone(),
        by: "owner@example.org".into(),
    };
    server.platform.ref_moved(news).await.unwrap();
    assert_eq!(screen(&server, &qa).await, format!("v1 {} succeeded", commit.short()));
    let refused = "You (ana@example.org) may not deploy to shop-staging. Ask owner@example.org, who owns it.";
    assert_eq!(screen(&server, &staging).await, format!("v1 {} refused {refused}", commit.short()));
    let release = server.platform.release(&qa, "current").unwrap();
    assert_eq!(release.account, ana.id);
}
