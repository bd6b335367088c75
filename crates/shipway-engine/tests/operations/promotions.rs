//! Promotions: one build, carried on unchanged; several apps that switch together or not at all.

use futures::future::join_all;
use shipway_domain::{NameOrId, PromotionStatus, Stage};
use shipway_engine::{
    Fault, Faults, Kind, Moment, Move, NewAddon, NewDeployment, NewDeploymentStatus, PromotionOrder, PromotionView,
    Seen, TogetherOrder,
};
use shipway_runtime::Runtime;
use shipway_runtime::fake::Fault as Machine;
use shipway_store::{App, Pipeline, PipelineSettings, Release, Slug};
use shipway_testkit::{Ground, Server, Trial, get};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A pipeline with apps in stages, written `shop-dev development, shop staging`.
pub async fn pipeline(server: &Server, name: &str, apps: &str) -> Pipeline {
    let pipeline = server.platform.create_pipeline(&server.caller, name).await.unwrap();
    for place in apps.split(", ") {
        let (app, stage) = place.split_once(' ').unwrap();
        let app = server.create(app).await;
        server.platform.couple(&server.caller, &pipeline, &app, Stage::parse(stage).unwrap()).await.unwrap();
    }
    pipeline
}

pub fn order(server: &Server, pipeline: &Pipeline, source: &str, targets: &[&str]) -> PromotionOrder {
    PromotionOrder {
        pipeline: pipeline.clone(),
        source: server.app(source),
        release: None,
        targets: targets.iter().map(|t| server.app(t)).collect(),
        reason: None,
    }
}

/// Promotes and waits: one line a target, or why it was refused.
async fn promote(server: &Server, order: PromotionOrder) -> Result<String, String> {
    let begun = server.platform.promote(&server.caller, order).await.map_err(|e| e.to_string())?;
    let ended = server.platform.promoted(begun.promotion.id).await.unwrap();
    assert_eq!(ended.status, PromotionStatus::Completed);
    Ok(screen(server, &ended))
}

pub async fn together(server: &Server, order: &TogetherOrder) -> Result<String, String> {
    let begun = server.platform.promote_together(&server.caller, order).await.map_err(|e| e.to_string())?;
    let ended = server.platform.promoted(begun.promotion.id).await.unwrap();
    Ok(screen(server, &ended))
}

fn screen(server: &Server, view: &PromotionView) -> String {
    let line = |t: &shipway_engine::TargetView| {
        let app = server.platform.store().read(|c| c.app_by_id(t.target.app)).unwrap();
        let version = t.release.as_ref().map_or(String::new(), |r| format!(" v{}", r.version));
        let error = t.error.as_ref().map_or(String::new(), |e| format!(" {e}"));
        format!("{} {}{version}{error}", app.name, t.status)
    };
    view.targets.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn current(server: &Server, app: &str) -> (Release, Slug) {
    let app: App = server.app(app);
    server
        .platform
        .store()
        .read(|c| {
            let release = c.release_by_id(app.current_release.unwrap())?;
            let slug = c.slug(release.slug.unwrap())?.unwrap();
            Ok((release, slug))
        })
        .unwrap()
}

/// Lets the step of this name fail once it is armed.
fn armed(step: &str) -> (Faults, Arc<AtomicBool>) {
    let (step, arm) = (step.to_string(), Arc::new(AtomicBool::new(false)));
    let seen = arm.clone();
    let faults: Faults = Arc::new(move |name, moment| {
        (name == step && moment == Moment::Worked && seen.load(Ordering::SeqCst)).then_some(Fault::Fail)
    });
    (faults, arm)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promotion_releases_the_same_bytes_with_the_targets_own_config() {
    let server = Ground::new().server(None).await;
    let shop = pipeline(&server, "shop", "shop-staging staging, shop-live production").await;
    let vars = BTreeMap::from([("COLOUR".to_string(), Some("green".to_string()))]);
    server.platform.set_config_vars(&server.caller, &server.app("shop-live"), vars).await.unwrap();
    server.push(&server.app("shop-staging"), "web: listen\nrelease: echo migrated").await.unwrap();
    let builds = server.ground.builder.builds.load(Ordering::SeqCst);

    let done = promote(&server, order(&server, &shop, "shop-staging", &["shop-live"])).await;
    assert_eq!(done.as_deref(), Ok("shop-live succeeded v3"));
    assert_eq!(server.served(&server.app("shop-live")).await, "v3");
    let ((there, theirs), (here, mine)) = (current(&server, "shop-staging"), current(&server, "shop-live"));
    assert_eq!((&mine.digest, &mine.manifest, &mine.commit), (&theirs.digest, &theirs.manifest, &theirs.commit));
    assert_eq!(server.ground.builder.builds.load(Ordering::SeqCst), builds, "nothing was built");
    let commit = theirs.commit.unwrap();
    assert_eq!(here.description, format!("Promote shop-staging v{} {}", there.version, commit.short()));
    let config = server.platform.store().read(|c| c.release_config(here.id)).unwrap();
    assert_eq!(config.values().collect::<Vec<_>>(), ["green"]);
    assert_eq!(server.ground.repositories.branch(mine.app).as_deref(), Some("web: listen\nrelease: echo migrated"));

    // Each has a database of its own, whose address is no difference.
    for app in ["shop-staging", "shop-live"] {
        let plan = NewAddon { plan: "heroku-postgresql:essential-0".into(), ..NewAddon::default() };
        server.platform.create_addon(&server.caller, &server.app(app), plan).await.unwrap();
        server.settled(&server.app(app)).await;
    }
    let again = promote(&server, order(&server, &shop, "shop-staging", &["shop-live"])).await.unwrap_err();
    assert_eq!(
        again,
        format!(
            "No changes to promote: production already runs v4, {} (shop-live). Config vars differ (COLOUR) and are not \
             promoted.",
            commit.short()
        )
    );
    let ledger = server.platform.store().read(|c| c.ledger(Some(mine.app), 10)).unwrap();
    assert!(ledger.iter().any(|e| e.action == "promotion"), "{ledger:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn targets_succeed_or_fail_on_their_own_and_what_fails_keeps_its_release() {
    let ground = Ground::new();
    let (faults, arm) = armed("release-phase");
    let server = ground.server(Some(faults)).await;
    let shop = pipeline(&server, "shop", "shop-staging staging, shop-live production, shop-eu production").await;
    server.push(&server.app("shop-staging"), "web: listen").await.unwrap();
    promote(&server, order(&server, &shop, "shop-staging", &["shop-live"])).await.unwrap();
    server.push(&server.app("shop-staging"), "web: listen-after 1ms\nrelease: echo migrated").await.unwrap();

    arm.store(true, Ordering::SeqCst);
    let all = order(&server, &shop, "shop-staging", &["shop-live"]);
    let failed = promote(&server, all).await.unwrap();
    assert!(failed.starts_with("shop-live failed v3 The platform could not do this"), "{failed}");
    assert_eq!(server.served(&server.app("shop-live")).await, "v2");
    arm.store(false, Ordering::SeqCst);

    // One that runs it already is no failure of the other.
    promote(&server, order(&server, &shop, "shop-staging", &["shop-eu"])).await.unwrap();
    let both = promote(&server, order(&server, &shop, "shop-staging", &["shop-live", "shop-eu"])).await.unwrap();
    assert_eq!(both, "shop-live succeeded v4\nshop-eu succeeded v2");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_request_while_one_is_under_way_is_the_same_promotion() {
    let server = Ground::new().server(None).await;
    let shop = pipeline(&server, "shop", "shop-staging staging, shop-live production").await;
    server.push(&server.app("shop-staging"), "web: listen-after 300ms").await.unwrap();
    let ask = || server.platform.promote(&server.caller, order(&server, &shop, "shop-staging", &["shop-live"]));
    let (first, second) = tokio::join!(ask(), ask());
    let (first, second) = (first.unwrap(), second.unwrap());
    assert_eq!(first.promotion.id, second.promotion.id);
    // The CLI reads `release` and then looks for output: there is none to come, so it is not shown before the end.
    assert!(first.targets[0].release.is_none());
    let ended = server.platform.promoted(first.promotion.id).await.unwrap();
    assert_eq!(screen(&server, &ended), "shop-live succeeded v2");
    assert_eq!(server.releases(&server.app("shop-live")).len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_say_what_is_wrong_and_the_way_out() {
    let server = Ground::new().server(None).await;
    let shop =
        pipeline(&server, "shop", "shop-dev development, shop-staging staging, shop-live production, shop-pr-1 review")
            .await;
    pipeline(&server, "blog", "blog-live production").await;
    let refused = async |source: &str, target: &str| {
        promote(&server, order(&server, &shop, source, &[target])).await.unwrap_err()
    };
    assert_eq!(
        refused("shop-dev", "shop-staging").await,
        "shop-dev has no code yet, so there is nothing to promote. Push some: git push heroku main"
    );
    server.push(&server.app("shop-dev"), "web: listen").await.unwrap();
    assert_eq!(
        refused("shop-dev", "blog-live").await,
        "blog-live is not in the pipeline shop. Add it first: heroku pipelines:add shop -a blog-live -s STAGE"
    );
    assert!(refused("shop-pr-1", "shop-staging").await.starts_with("shop-pr-1 is in review: review apps"));
    assert!(
        refused("shop-dev", "shop-pr-1").await.starts_with("shop-pr-1 is in review: nothing is promoted to there.")
    );
    assert_eq!(refused("shop-dev", "shop-dev").await, "shop-dev cannot be promoted to itself.");
    assert_eq!(
        refused("shop-dev", "shop-live").await,
        "From development to production leaves out staging, which the pipeline shop does not allow. Promote to staging \
         first, or allow it: shipway pipelines set shop --may-skip-stages yes"
    );
    let settings = PipelineSettings { may_skip_stages: true, ..PipelineSettings::default() };
    let shop = server.platform.change_pipeline_settings(&server.caller, &shop, move |s| *s = settings).await.unwrap();
    let skip = order(&server, &shop, "shop-dev", &["shop-live"]);
    let why = promote(&server, skip.clone()).await.unwrap_err();
    assert!(why.starts_with("From development to production leaves out staging: say why."), "{why}");
    let skip = PromotionOrder { reason: Some("Hot fix".into()), ..skip };
    assert_eq!(promote(&server, skip).await.as_deref(), Ok("shop-live succeeded v2"));
    let ledger = server.platform.store().read(|c| c.ledger(Some(server.app("shop-dev").id), 10)).unwrap();
    assert!(ledger.iter().any(|e| e.action == "promotion-asked" && e.detail["reason"] == "Hot fix"));

    // An older release can be named, and is marked.
    server.push(&server.app("shop-dev"), "web: listen-after 1ms").await.unwrap();
    let older = PromotionOrder { release: Some("v2".into()), ..order(&server, &shop, "shop-dev", &["shop-staging"]) };
    promote(&server, older).await.unwrap();
    assert!(current(&server, "shop-staging").0.description.ends_with("(not its latest)"));
}

/// Two pipelines of one product, the second with two apps in production; all run `old`, staging runs `new`.
pub async fn product(server: &Server, new: [&str; 2]) {
    pipeline(server, "odb", "odb-staging staging, odb-live production").await;
    pipeline(server, "sso", "sso-staging staging, sso-live production, sso-eu production").await;
    let pipelines = ["odb".to_string(), "sso".to_string()];
    server.platform.create_product(&server.caller, "observatory", &pipelines).await.unwrap();
    for procfile in [["web: listen", "web: listen"], new] {
        for (app, procfile) in ["odb-staging", "sso-staging"].into_iter().zip(procfile) {
            server.push(&server.app(app), procfile).await.unwrap();
        }
        if procfile != new {
            together(server, &to_production()).await.unwrap();
        }
    }
}

pub fn to_production() -> TogetherOrder {
    TogetherOrder { from: "staging".into(), to: "prod".into(), ..TogetherOrder::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_product_switches_at_once_and_skips_what_has_not_changed() {
    let server = Ground::new().server(None).await;
    product(&server, ["web: listen-after 1ms", "web: listen"]).await;
    let (product, moves) = server.platform.moves(&server.caller, &to_production()).unwrap();
    let shown: Vec<_> = moves.iter().map(|m| (m.target.name.as_str(), m.unchanged.is_some())).collect();
    assert_eq!(product.unwrap().name.as_str(), "observatory");
    assert_eq!(shown, [("odb-live", false), ("sso-live", true), ("sso-eu", true)]);
    let done = together(&server, &to_production()).await.unwrap();
    assert_eq!(done, "odb-live succeeded v3\nsso-live succeeded v2\nsso-eu succeeded v2");
    let refused = together(&server, &to_production()).await.unwrap_err();
    assert!(refused.starts_with("No changes to promote: production already runs v3, "), "{refused}");

    server.push(&server.app("sso-staging"), "web: listen-after 2ms").await.unwrap();
    let only = TogetherOrder { only: vec!["sso-eu".into()], ..to_production() };
    assert_eq!(together(&server, &only).await.as_deref(), Ok("sso-eu succeeded v3"));
    let nobody = TogetherOrder { only: vec!["nobody".into()], ..to_production() };
    assert!(together(&server, &nobody).await.unwrap_err().starts_with("Nothing of what --only names"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_looked_at_is_what_is_promoted_or_nothing_is() {
    let server = Ground::new().server(None).await;
    product(&server, ["web: listen-after 1ms", "web: listen"]).await;
    let look = || {
        let (_, moves) = server.platform.moves(&server.caller, &to_production()).unwrap();
        let seen = |m: &Move| Seen { app: m.target.name.to_string(), digest: m.source.slug.digest.to_string() };
        TogetherOrder { seen: Some(moves.iter().map(seen).collect()), ..to_production() }
    };
    let before = look();
    server.push(&server.app("odb-staging"), "web: listen-after 2ms").await.unwrap();
    let refused = together(&server, &before).await.unwrap_err();
    assert!(refused.starts_with("staging moved since you looked: odb-staging runs v4, "), "{refused}");
    assert!(refused.ends_with("Look again: shipway promote staging prod --dry-run"), "{refused}");

    // Another config is not other code.
    let before = look();
    let vars = BTreeMap::from([("COLOUR".to_string(), Some("green".to_string()))]);
    server.platform.set_config_vars(&server.caller, &server.app("odb-staging"), vars).await.unwrap();
    server.quiet().await;
    let pipeline = server.platform.pipeline(&server.caller, &NameOrId::parse("odb")).unwrap();
    let late = server.create("odb-late").await;
    server.platform.couple(&server.caller, &pipeline, &late, Stage::Production).await.unwrap();
    let refused = together(&server, &before).await.unwrap_err();
    assert!(refused.contains("odb-late would be promoted to as well"), "{refused}");
    server.platform.destroy_app(&server.caller, &late).await.unwrap();
    let done = together(&server, &before).await.unwrap();
    assert!(done.starts_with("odb-live succeeded v3"), "{done}");
}

#[tokio::test(flavor = "multi_thread")]
async fn code_is_not_promoted_to_an_app_that_lacks_what_it_requires() {
    let server = Ground::new().server(None).await;
    let shop = pipeline(&server, "shop", "shop-staging staging, shop-live production, shop-eu production").await;
    let set = async |app: &str, value: Option<&str>| {
        let vars = BTreeMap::from([("API_KEY".to_string(), value.map(String::from))]);
        server.platform.set_config_vars(&server.caller, &server.app(app), vars).await.map_err(|e| e.to_string())
    };
    set("shop-staging", Some("a")).await.unwrap();
    set("shop-eu", Some("b")).await.unwrap();
    server.quiet().await;
    let app_json = r#"{"env": {"API_KEY": {"description": "Of the bank", "required": true}}}"#;
    let commit = server.ground.repositories.commit_of(&[("Procfile", "web: listen"), ("app.json", app_json)]);
    let staging = server.app("shop-staging");
    let (_, operation) = server.platform.deploy(&server.caller, &staging, commit).await.unwrap();
    server.outcome(operation).await.unwrap();

    let lacks = "shop-live lacks config vars that its app.json requires:\n  API_KEY (app.json line 1): Of the bank\n\
                 Set them: heroku config:set API_KEY=… -a shop-live";
    let refused = promote(&server, order(&server, &shop, "shop-staging", &["shop-live"])).await;
    assert_eq!(refused.unwrap_err(), lacks);
    let both = promote(&server, order(&server, &shop, "shop-staging", &["shop-live", "shop-eu"])).await.unwrap();
    assert_eq!(both, format!("shop-live failed {lacks}\nshop-eu succeeded v3"));
    let order = TogetherOrder { pipeline: Some("shop".into()), ..to_production() };
    assert_eq!(together(&server, &order).await.unwrap_err(), lacks);

    let refused = set("shop-eu", None).await.unwrap_err();
    assert!(refused.starts_with("shop-eu would lack config vars that its app.json requires:\n  API_KEY"), "{refused}");
    set("shop-eu", Some("c")).await.unwrap();
    set("shop-live", Some("d")).await.unwrap();
    set("shop-live", None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_app_of_a_product_that_cannot_start_leaves_all_as_they_were() {
    let server = Ground::new().server(None).await;
    product(&server, ["web: listen-after 1ms\nrelease: echo migrated", "web: listen"]).await;
    // What starts on staging may not start with production's config: here the code itself is taken away.
    server.push(&server.app("sso-staging"), "web: listen-after 2ms\nrelease: echo migrated").await.unwrap();
    server.ground.runtime.arm(Machine::FailStart("no memory".into()));
    let failed = together(&server, &to_production()).await.unwrap();
    assert_eq!(failed.matches(" failed ").count(), 3, "{failed}");
    for app in ["odb-live", "sso-live", "sso-eu"] {
        server.serves(&server.app(app), "v2").await;
    }
    server.quiet().await;
    server.whole("after a failed promotion").await;
    assert!(together(&server, &to_production()).await.unwrap().contains("odb-live succeeded v4"));
}

#[tokio::test(flavor = "multi_thread")]
async fn release_phases_that_had_run_are_listed() {
    let (faults, arm) = armed("switch");
    let server = Ground::new().server(Some(faults)).await;
    product(&server, ["web: listen-after 1ms\nrelease: echo migrated", "web: listen"]).await;
    arm.store(true, Ordering::SeqCst);
    let failed = together(&server, &to_production()).await.unwrap();
    assert!(
        failed.contains("The release phase of odb-live had run: its database may be ahead of its code."),
        "{failed}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_external_step_takes_part_and_is_taken_back() {
    let (faults, arm) = armed("switch");
    let server = Ground::new().server(Some(faults)).await;
    product(&server, ["web: listen-after 1ms", "web: listen"]).await;
    let which = NameOrId::parse("observatory");
    let observatory = server.platform.product(&server.caller, &which).unwrap();
    let pipeline = server.platform.pipeline(&server.caller, &NameOrId::parse("odb")).unwrap().id;
    let step = |command: &str| shipway_store::ExternalStep {
        name: "pages".into(),
        pipeline,
        command: command.into(),
        undo: "echo pages went back".into(),
    };
    let set = async |command: &str| {
        server.platform.set_product_steps(&server.caller, &observatory, vec![step(command)]).await.unwrap()
    };
    let output = |server: &Server| {
        let release = server.releases(&server.app("odb-live")).remove(0);
        let path = server.ground.home.path().join("outputs").join(release.id.to_string());
        std::fs::read_to_string(path).unwrap()
    };
    set("exit 7").await;
    let failed = together(&server, &to_production()).await.unwrap();
    assert!(failed.contains("odb-live: The step pages failed: `exit 7` exited with status 7."), "{failed}");
    assert_eq!(output(&server), "pages went back\n");

    set("echo pages moved").await;
    arm.store(true, Ordering::SeqCst);
    together(&server, &to_production()).await.unwrap();
    assert_eq!(output(&server), "pages moved\npages went back\n");
    arm.store(false, Ordering::SeqCst);
    together(&server, &to_production()).await.unwrap();
    assert_eq!(output(&server), "pages moved\n");
    assert_eq!(server.served(&server.app("odb-live")).await, "v5");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_takes_an_external_step_back_holds_nobody_up() {
    let ground = Ground::new();
    let (runtime, arm) = (ground.runtime.clone(), Arc::new(AtomicBool::new(false)));
    let armed = arm.clone();
    let faults: Faults = Arc::new(move |step, moment| {
        let now = step.starts_with("external:") && moment == Moment::Worked && armed.load(Ordering::SeqCst);
        now.then(|| (0..10).for_each(|_| runtime.arm(Machine::FailStart("no room".into()))));
        now.then_some(Fault::Fail)
    });
    let quick = shipway_engine::Settings { script_seconds: 1, ..shipway_testkit::settings(ground.home.path()) };
    let server = ground.server_as(quick, Some(faults.clone())).await;
    product(&server, ["web: listen-after 1ms", "web: listen"]).await;
    let observatory = server.platform.product(&server.caller, &NameOrId::parse("observatory")).unwrap();
    let pipeline = server.platform.pipeline(&server.caller, &NameOrId::parse("odb")).unwrap().id;
    let (name, command, undo) = ("pages".into(), "exit 7".into(), "sleep".into());
    let steps = vec![shipway_store::ExternalStep { name, pipeline, command, undo }];
    server.platform.set_product_steps(&server.caller, &observatory, steps.clone()).await.unwrap();
    let why = |server: &Server| {
        let app = server.app("odb-live");
        let ledger = server.platform.store().read(|c| c.ledger(Some(app.id), 20)).unwrap();
        let entry = ledger.into_iter().find(|entry| entry.action == "external-undo-failed").unwrap();
        entry.detail["why"].as_str().unwrap().to_string()
    };
    let failed = together(&server, &to_production()).await.unwrap();
    assert!(failed.contains("odb-live: The step pages failed: `exit 7` exited with status 7."), "{failed}");
    assert_eq!(why(&server), "it took longer than 1 s");
    let left: Vec<String> = ground.runtime.list().await.unwrap().into_iter().map(|o| o.name).collect();
    assert!(left.iter().all(|name| !name.starts_with("external")), "{left:?}");
    server.platform.stop().await;
    drop(server);

    let server = ground.server(Some(faults)).await;
    let steps = steps.into_iter().map(|step| shipway_store::ExternalStep { command: "echo moved".into(), ..step });
    server.platform.set_product_steps(&server.caller, &observatory, steps.collect()).await.unwrap();
    arm.store(true, Ordering::SeqCst);
    together(&server, &to_production()).await.unwrap();
    let why = why(&server);
    assert!(why.starts_with("it could not be run: "), "{why}");
    assert_eq!(server.served(&server.app("odb-live")).await, "v2");
}

/// A product of four pipelines, each with a source of its own and one app behind it; all run old code, the sources new.
async fn four(server: Arc<Server>) {
    let names: Vec<String> = (1..=4).map(|n| format!("shop-{n}")).collect();
    let made = async |name: &String| {
        pipeline(&server, name, &format!("{name}-staging staging, {name}-live production")).await;
        server.push(&server.app(&format!("{name}-live")), "web: listen").await.unwrap();
        let source = server.app(&format!("{name}-staging"));
        server.push(&source, "web: listen-after 1ms\nrelease: echo migrated").await.unwrap();
    };
    join_all(names.iter().map(made)).await;
    server.platform.create_product(&server.caller, "store", &names).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_40_four_apps_move_together_or_not_at_all() {
    let ask = |server: Arc<Server>| async move {
        let _ = together(&server, &to_production()).await;
    };
    let trial = Trial::of(ask).on(four);
    let shown = trial.undisturbed().await;
    // At each row of the journal. Between a step's effect and its row: as for one app, in the other trials.
    trial.survives_death_at(&shown, |moment| moment != Moment::Worked).await;
    trial.repeats(&shown).await;
    trial.undoes(&shown).await;
    assert_eq!(shown.before.matches("listen-after 1ms").count(), 4 * 3, "{}", shown.before);
    assert_ne!(shown.before, shown.after);
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_40_a_promotion_survives_the_servers_death() {
    let prepare = |server: Arc<Server>| async move {
        pipeline(&server, "shop", "shop-staging staging, shop-live production").await;
        server.push(&server.app("shop-staging"), "web: listen\nrelease: echo migrated").await.unwrap();
    };
    let ask = |server: Arc<Server>| async move {
        let shop = server.platform.pipeline(&server.caller, &NameOrId::parse("shop")).unwrap();
        let _ = promote(&server, order(&server, &shop, "shop-staging", &["shop-live"])).await;
    };
    Trial::of(ask).on(prepare).holds().await;
}

/// What an app of the router's present table says it runs.
async fn version(server: &Server, app: &App) -> String {
    let table = server.ground.router.table();
    let route = table.apps.iter().find(|a| a.app == app.id).unwrap();
    get(route.targets[0].address).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_sees_a_new_app_and_then_an_old_one() {
    const READS: usize = 10_000;
    let server = Arc::new(Ground::new().server(None).await);
    four(server.clone()).await;
    let apps: Vec<App> = (1..=4).map(|n| server.app(&format!("shop-{n}-live"))).collect();
    let mut old = Vec::new();
    for app in &apps {
        old.push(version(&server, app).await);
    }
    let asking = server.clone();
    let mut asked = None;
    let mut new_seen = 0;
    for read in 0..READS {
        if read == READS / 4 {
            let asking = asking.clone();
            asked = Some(tokio::spawn(async move { together(&asking, &to_production()).await }));
        }
        let n = read % apps.len();
        let is_new = version(&server, &apps[n]).await != old[n];
        assert!(is_new || new_seen == 0, "read {read}: shop-{}-live is old after {new_seen} new ones", n + 1);
        new_seen += usize::from(is_new);
    }
    asked.unwrap().await.unwrap().unwrap();
    assert!(new_seen > 0 && new_seen < READS, "the switch lay among the reads: {new_seen} were new");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promotion_stops_where_the_record_says_something_else() {
    let server = Ground::new().server(None).await;
    product(&server, ["web: listen-after 1ms", "web: listen"]).await;
    let (_, slug) = current(&server, "odb-staging");
    let record = async |environment: &str, task: &str, payload: serde_json::Value, state: &str| {
        let new = NewDeployment {
            reference: slug.commit.as_ref().unwrap().to_string(),
            task: Some(task.into()),
            environment: Some(environment.into()),
            payload: Some(payload),
            description: None,
            transient: false,
            production: None,
        };
        let record = server.platform.record_deployment(&server.caller, "shipway/odb", new).await.unwrap();
        let status = NewDeploymentStatus {
            state: state.into(),
            environment: None,
            description: None,
            log_url: None,
            environment_url: None,
        };
        server.platform.record_deployment_status(&server.caller, &record, status.clone()).await.unwrap();
        (record, status)
    };
    let refused = async || server.platform.moves(&server.caller, &to_production()).err().map(|e| e.to_string());
    let images = |id: &str| serde_json::json!({ "docker_image_shas": { "web": id } });
    assert_eq!(refused().await, None, "our own record says what runs");
    record("staging", "deploy:odb", images("sha256:0000"), "failure").await;
    record("staging", "deploy:other", images("sha256:0000"), "success").await;
    record("production", "deploy:odb", images("sha256:0000"), "success").await;
    record("staging", "deploy", images(slug.digest.as_ref()), "success").await;
    assert_eq!(refused().await, None, "of something else, or the same");

    let (wrong, status) = record("staging", "deploy:odb", images("sha256:0000"), "success").await;
    let words = format!(
        "odb-staging runs v3, {}, and deployment {} of staging, its newest successful record, says web is sha256:0000. \
         Nothing was promoted.",
        slug.digest, wrong.id
    );
    let said = refused().await.unwrap();
    assert!(said.starts_with(&words), "{said}");
    assert!(
        said.ends_with("promote all the same and say why: shipway promote odb-staging odb-live --reason \"…\""),
        "{said}"
    );
    assert_eq!(together(&server, &to_production()).await.unwrap_err(), said);
    // The ways of the API and of the board are the same.
    let odb = server.platform.pipeline(&server.caller, &NameOrId::parse("odb")).unwrap();
    let alone = || order(&server, &odb, "odb-staging", &["odb-live"]);
    let stopped = server.platform.promote(&server.caller, alone()).await.unwrap_err();
    assert_eq!((stopped.kind, stopped.to_string()), (Kind::Conflict, said.clone()));
    let apps = server.platform.pipeline_apps(&server.caller, &odb).unwrap();
    let outlook = server.platform.outlook(&apps, &server.app("odb-staging"), None).unwrap().unwrap();
    assert_eq!(outlook.against.map(|against| against.refusal).as_ref(), Some(&said));
    let blank = PromotionOrder { reason: Some(" ".into()), ..alone() };
    assert_eq!(promote(&server, blank).await.unwrap_err(), said);
    let inactive = NewDeploymentStatus { state: "inactive".into(), ..status };
    server.platform.record_deployment_status(&server.caller, &wrong, inactive).await.unwrap();
    let by_app = serde_json::json!({ "odb-staging": { "web": { "digest": "sha256:1111" } } });
    assert_eq!(refused().await, None);
    record("odb-staging", "deploy", by_app, "success").await;
    assert!(refused().await.unwrap().contains("says web is sha256:1111"));
    // Whoever says why goes on; what the record said is kept with it.
    let reason = PromotionOrder { reason: Some("The record is of an image that never ran".into()), ..alone() };
    assert_eq!(promote(&server, reason).await.as_deref(), Ok("odb-live succeeded v3"));
    let ledger = server.platform.store().read(|c| c.ledger(Some(server.app("odb-staging").id), 10)).unwrap();
    let asked = ledger.iter().find(|entry| entry.action == "promotion-asked").unwrap();
    assert!(asked.detail["against"].as_str().unwrap().contains("says web is sha256:1111"), "{asked:?}");

    server.push(&server.app("odb-staging"), "web: listen-after 2ms").await.unwrap();
    together(&server, &to_production()).await.unwrap();
}
