//! The rules that a stage takes no code which lacks commits of the upstream, or which CI has not passed.

use shipway_domain::Stage;
use shipway_domain::review::Checks;
use shipway_engine::PromotionOrder;
use shipway_store::PipelineSettings;
use shipway_testkit::{Ground, Server};

/// The app `acorn` in staging of a pipeline that refuses what lacks commits of its upstream.
async fn ruled() -> Server {
    let server = Ground::new().server(None).await;
    let app = server.create("acorn").await;
    server.push(&app, "web: listen").await.unwrap();
    let pipeline = server.platform.create_pipeline(&server.caller, "oak").await.unwrap();
    server.platform.couple(&server.caller, &pipeline, &app, Stage::Staging).await.unwrap();
    let settings = PipelineSettings { refuse_behind: [Stage::Staging].into(), ..PipelineSettings::default() };
    server.platform.change_pipeline_settings(&server.caller, &pipeline, move |s| *s = settings).await.unwrap();
    server
}

/// What was committed last becomes the end of the upstream.
async fn upstream_moves(server: &Server) {
    let pipeline = server.platform.pipelines(&server.caller).unwrap().remove(0);
    let url = "https://forge.example.org/oak.git";
    server.platform.set_upstream(&server.caller, &pipeline, Some(url), "main").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_upstream_gets_during_a_build_is_asked_for_before_the_switch() {
    let server = ruled().await;
    let app = server.app("acorn");
    let commit = server.ground.repositories.commit("web: listen-after 1ms\n# slow-build");
    upstream_moves(&server).await;
    let (_, operation) = server.platform.deploy(&server.caller, &app, commit).await.unwrap();
    server.ground.repositories.commit("web: listen-after 2ms");
    upstream_moves(&server).await;
    server.ground.builder.go.notify_one();
    let refused = server.outcome(operation).await.unwrap_err();
    let because = "This code lacks 1 commit of main, and staging of oak takes none that does";
    assert!(refused.starts_with(because), "{refused}");
    assert_eq!(server.served(&app).await, "v2");
    server.quiet().await;
    server.whole("after the refusal").await;
    assert_eq!(server.push(&app, "web: listen-after 2ms").await.as_deref(), Ok("v4"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promotion_does_not_bring_what_lacks_commits_either() {
    let server = ruled().await;
    let (platform, target) = (&server.platform, server.app("acorn"));
    let pipeline = platform.pipelines(&server.caller).unwrap().remove(0);
    let source = server.create("acorn-dev").await;
    platform.couple(&server.caller, &pipeline, &source, Stage::Development).await.unwrap();
    server.push(&source, "web: listen-after 1ms").await.unwrap();
    upstream_moves(&server).await;
    let order = || PromotionOrder {
        pipeline: pipeline.clone(),
        source: server.app("acorn-dev"),
        release: None,
        targets: vec![server.app("acorn")],
        reason: None,
    };
    server.ground.repositories.commit("web: listen-after 2ms");
    upstream_moves(&server).await;
    let refused = platform.promote(&server.caller, order()).await.map(drop).unwrap_err().to_string();
    let because =
        "This code lacks 1 commit of main, and staging of oak takes none that does: merge or rebase, and deploy that.";
    assert!(refused.starts_with(because), "{refused}");
    assert_eq!(server.served(&target).await, "v2");
    server.push(&source, "web: listen-after 2ms").await.unwrap();
    platform.promote(&server.caller, order()).await.unwrap();
    server.serves(&target, "v3").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_18_what_ci_takes_back_during_a_build_is_asked_for_before_the_switch() {
    let server = ruled().await;
    let (platform, app) = (&server.platform, server.app("acorn"));
    let pipeline = platform.pipelines(&server.caller).unwrap().remove(0);
    let settings = PipelineSettings { refuse_unchecked: [Stage::Staging].into(), ..PipelineSettings::default() };
    platform.change_pipeline_settings(&server.caller, &pipeline, move |s| *s = settings).await.unwrap();
    let commit = server.ground.repositories.commit("web: listen-after 1ms\n# slow-build");
    let refused = |words: &str| {
        format!(
            "staging of oak takes only commits that CI has passed, and {words} {}: have a run of it pass, then try again. \
             You can lift that rule, for all stages: shipway upstream require --ci -p oak",
            commit.short()
        )
    };
    let deploy = async || platform.deploy(&server.caller, &app, commit.clone()).await.map_err(|e| e.to_string());
    let report = async |checks| platform.checks_changed(pipeline.id, commit.clone(), checks).await.unwrap();
    assert_eq!(deploy().await.err(), Some(refused("nothing was heard of CI for")));
    report(Checks::Pending).await;
    assert_eq!(deploy().await.err(), Some(refused("CI runs for")));
    report(Checks::Succeeded).await;
    let (_, operation) = deploy().await.unwrap();
    report(Checks::Failed).await;
    server.ground.builder.go.notify_one();
    assert_eq!(server.outcome(operation).await, Err(refused("CI failed for")));
    assert_eq!(server.served(&app).await, "v2");
    server.quiet().await;
    server.whole("after the refusal").await;
    // Built already, it is no way around by its slug either; passed, it is.
    let slug = platform.store().read(|c| Ok(c.builds(app.id)?.pop())).unwrap().and_then(|build| build.slug).unwrap();
    let released = platform.release_slug(&server.caller, &app, slug, None).await;
    assert_eq!(released.map(drop).map_err(|e| e.to_string()), Err(refused("CI failed for")));
    report(Checks::Succeeded).await;
    platform.release_slug(&server.caller, &app, slug, None).await.unwrap();
    server.quiet().await;
    assert_eq!(server.served(&app).await, "v4");
    // What has run may come back, whatever is heard of it later.
    report(Checks::Failed).await;
    platform.redeploy(&server.caller, &server.app("acorn")).await.unwrap();
    server.quiet().await;
    assert_eq!(server.served(&app).await, "v5");
}
