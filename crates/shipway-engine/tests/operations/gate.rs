//! Roads around the rules of a stage: each has the same gate.

use shipway_domain::admission::{Actor, Permission, Scope};
use shipway_domain::forge::{ForgeCredentials, ForgeKind};
use shipway_domain::{Email, NameOrId, Stage};
use shipway_engine::ports::{Caller, Place, Spot};
use shipway_engine::{
    NewApp, NewCredentials, NewForge, SetupOrder, SourceBlob, SourceOrder, StepChange, UpdateCoupling,
};
use shipway_store::{App, ExternalStep, Pipeline, PipelineSettings};
use shipway_testkit::{Ground, Server};
use std::sync::atomic::Ordering;

/// `acorn` in production of the pipeline `oak`, which takes nothing that lacks commits of main; `olga` operates it and what
/// else she is let into, and owns nothing.
struct Oak {
    server: Server,
    olga: Caller,
}

impl Oak {
    async fn open() -> Self {
        let server = Ground::new().server(None).await;
        let email = Email::parse("olga@example.org").unwrap();
        let (account, _) = server.platform.add_account(&server.caller, &email, None, false).await.unwrap();
        let actor = Actor { account: account.id, email: email.to_string(), admin: false, scope: Scope::Global };
        let oak = Self { server, olga: Caller { actor, via: "api" } };
        let app = oak.app("acorn", "web: listen").await;
        let pipeline = oak.server.platform.create_pipeline(&oak.server.caller, "oak").await.unwrap();
        oak.server.platform.couple(&oak.server.caller, &pipeline, &app, Stage::Production).await.unwrap();
        let settings = PipelineSettings { refuse_behind: [Stage::Production].into(), ..PipelineSettings::default() };
        let changed = oak.server.platform.change_pipeline_settings(&oak.server.caller, &pipeline, |s| *s = settings);
        changed.await.unwrap();
        oak
    }

    fn pipeline(&self) -> Pipeline {
        self.server.platform.pipeline(&self.server.caller, &NameOrId::parse("oak")).unwrap()
    }

    /// An app that runs this and that olga operates.
    async fn app(&self, name: &str, procfile: &str) -> App {
        let app = self.server.create(name).await;
        self.server.push(&app, procfile).await.unwrap();
        let platform = &self.server.platform;
        platform.give_access(&self.server.caller, &app, "olga@example.org", Permission::Operate).await.unwrap();
        self.server.app(name)
    }

    /// What was committed last becomes the end of the upstream.
    async fn upstream_moves(&self) {
        let url = "https://forge.example.org/oak.git";
        self.server.platform.set_upstream(&self.server.caller, &self.pipeline(), Some(url), "main").await.unwrap();
    }

    async fn moves(&self, app: &App, stage: Stage) -> Result<(), String> {
        let (coupling, change) = (self.server.platform.coupling_of(app).unwrap(), UpdateCoupling::default());
        let change = UpdateCoupling { stage: Some(stage), ..change };
        let moved = self.server.platform.update_coupling(&self.olga, &coupling, app, change).await;
        moved.map(drop).map_err(|e| e.to_string())
    }
}

const LACKS: &str = "This code lacks 1 commit of main, and production of oak takes none that does";

#[tokio::test(flavor = "multi_thread")]
async fn attack_19_a_slug_is_no_way_around_what_its_push_was_refused_for() {
    let oak = Oak::open().await;
    let (server, app) = (&oak.server, oak.server.app("acorn"));
    let commit = server.ground.repositories.commit("web: listen-after 1ms\n# slow-build");
    oak.upstream_moves().await;
    let (_, operation) = server.platform.deploy(&oak.olga, &app, commit).await.unwrap();
    server.ground.repositories.commit("web: listen-after 2ms");
    oak.upstream_moves().await;
    server.ground.builder.go.notify_one();
    assert!(server.outcome(operation).await.unwrap_err().starts_with(LACKS));
    let slug =
        server.platform.store().read(|c| Ok(c.builds(app.id)?.pop())).unwrap().and_then(|build| build.slug).unwrap();
    let released = server.platform.release_slug(&oak.olga, &app, slug, None).await.map(drop).map_err(|e| e.to_string());
    assert!(released.as_ref().is_err_and(|why| why.starts_with(LACKS)), "{released:?}");
    // What has run may come back.
    let second = server.platform.release(&app, "v2").unwrap();
    server.platform.rollback(&oak.olga, &app, &second).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_19_an_app_is_not_moved_around_a_rule_by_who_may_not_change_it() {
    let oak = Oak::open().await;
    let (server, app) = (&oak.server, oak.server.app("acorn"));
    let platform = &server.platform;
    let lacking = oak.app("acorn-blue", "web: listen-after 1ms").await;
    server.ground.repositories.commit("web: listen-after 2ms");
    oak.upstream_moves().await;

    // Out, changed, and in again.
    let stays = "production of oak takes only code that lacks nothing of its upstream, so acorn leaves it only by who may \
                 change that. Ask owner@example.org, who owns the pipeline.";
    assert_eq!(oak.moves(&app, Stage::Development).await, Err(stays.into()));
    let coupling = platform.coupling_of(&app).unwrap();
    let out = platform.uncouple(&oak.olga, &coupling, &app).await.map_err(|e| e.to_string());
    assert_eq!(out, Err(stays.into()));

    // Another app that runs what the stage does not take, straight in or by another stage.
    let couple = async |stage| {
        platform.couple(&oak.olga, &oak.pipeline(), &lacking, stage).await.map(drop).map_err(|e| e.to_string())
    };
    let refused = couple(Stage::Production).await;
    assert!(refused.as_ref().is_err_and(|why| why.starts_with(LACKS)), "{refused:?}");
    couple(Stage::Staging).await.unwrap();
    let refused = oak.moves(&lacking, Stage::Production).await;
    assert!(refused.as_ref().is_err_and(|why| why.starts_with(LACKS)), "{refused:?}");
    server.push(&lacking, "web: listen-after 2ms").await.unwrap();
    assert_eq!(oak.moves(&server.app("acorn-blue"), Stage::Production).await, Ok(()));
    // One without code brings nothing.
    let empty = server.create("acorn-green").await;
    platform.give_access(&server.caller, &empty, "olga@example.org", Permission::Operate).await.unwrap();
    platform.couple(&oak.olga, &oak.pipeline(), &empty, Stage::Production).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_19_what_a_rule_is_measured_by_is_not_taken_back_by_who_may_not_change_the_rule() {
    let oak = Oak::open().await;
    let (server, app) = (&oak.server, oak.server.app("acorn"));
    let before = server.ground.repositories.commit("web: listen-after 1ms");
    let tip = server.ground.repositories.commit("web: listen-after 2ms");
    oak.upstream_moves().await;
    let push = async |caller: &Caller, commit| {
        server.platform.push_upstream(caller, &app, "main", commit).await.map_err(|e| e.to_string())
    };
    let refused = push(&oak.olga, &before).await.unwrap_err();
    let because = format!(
        "{} lacks 1 of the commits of the upstream of oak, which only grows, because production takes nothing that lacks \
         any. Ask owner@example.org, who owns the pipeline.",
        before.short()
    );
    assert_eq!(refused, because);
    push(&oak.olga, &tip).await.unwrap();
    let next = server.ground.repositories.commit("web: listen-after 3ms");
    push(&oak.olga, &next).await.unwrap();
    // Who may change the rule may take it back, as they may lift it.
    push(&server.caller, &before).await.unwrap();

    let forge = NewForge {
        kind: ForgeKind::Github,
        url: None,
        repository: "olga/oak".into(),
        home_url: "https://shipway.example.org".into(),
        credentials: NewCredentials::Given(ForgeCredentials::None),
    };
    let connected = server.platform.connect_forge(&oak.olga, &oak.pipeline(), forge).await;
    let refused = connected.map(drop).map_err(|e| e.to_string());
    assert!(refused.as_ref().is_err_and(|why| why.contains("may not change the pipeline oak")), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_19_an_app_is_not_set_up_in_a_stage_from_what_the_stage_does_not_take() {
    let oak = Oak::open().await;
    let (server, app) = (&oak.server, oak.server.app("acorn"));
    let commit = server.ground.repositories.commit("web: listen-after 1ms");
    server.ground.repositories.commit("web: listen-after 2ms");
    oak.upstream_moves().await;
    let builds = || server.ground.builder.builds.load(Ordering::SeqCst);
    let before = builds();
    let order = SetupOrder {
        app: NewApp { name: Some("acorn-new".into()), ..NewApp::default() },
        coupling: Some((oak.pipeline(), Stage::Production)),
        ..SetupOrder::default()
    };
    let source = SourceBlob::Commit(Spot { place: Place::App(app.id), commit });
    let blob = SourceOrder { url: "the same".into(), version: None, checksum: None, buildpacks: None };
    let made = server.platform.create_app_setup(&oak.olga, order, source, blob).await;
    let refused = made.map(drop).map_err(|e| e.to_string());
    assert!(refused.as_ref().is_err_and(|why| why.starts_with(LACKS)), "{refused:?}");
    assert_eq!(builds(), before, "nothing was built");
    assert!(server.platform.app(&server.caller, &NameOrId::parse("acorn-new")).is_err(), "and nothing made");
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_15_who_may_only_look_has_no_command_run_in_production_by_a_products_step() {
    let oak = Oak::open().await;
    let (server, platform) = (&oak.server, &oak.server.platform);
    let email = Email::parse("eve@example.org").unwrap();
    let (account, _) = platform.add_account(&server.caller, &email, None, false).await.unwrap();
    let view = Permission::View;
    platform.give_access(&server.caller, &server.app("acorn"), email.as_str(), view).await.unwrap();
    let actor = Actor { account: account.id, email: email.to_string(), admin: false, scope: Scope::Global };
    let eve = Caller { actor, via: "api" };
    let pipelines = ["oak".to_string()];
    let set = async |caller: &Caller, name: &str| {
        let product = platform.create_product(caller, name, &pipelines).await.unwrap();
        let text = |text: &str| Some(text.to_string());
        let step = StepChange { name: text("mail"), command: text("env"), undo: text("true"), position: None };
        let one = platform.set_product_step(caller, &product, &NameOrId::parse("oak"), step).await;
        let step = ExternalStep {
            name: "mail".into(),
            pipeline: oak.pipeline().id,
            command: "printenv".into(),
            undo: "true".into(),
        };
        let all = platform.set_product_steps(caller, &product, vec![step]).await;
        [one, all].map(|set| set.map(drop).map_err(|e| e.to_string()))
    };
    let refused = "You (eve@example.org) may not change the pipeline oak. Ask owner@example.org, who owns it.";
    assert_eq!(set(&eve, "eves").await, [Err(refused.to_string()), Err(refused.to_string())]);
    assert_eq!(set(&oak.olga, "olgas").await, [Ok(()), Ok(())]);
}
