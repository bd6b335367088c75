//! A platform's day: each test is a session, command and screen.

use jiff::SignedDuration;
use shipway_domain::lifecycle::DynoState;
use shipway_domain::quantity::Quantity;
use shipway_domain::route::RouteMode;
use shipway_engine::{ScaleUpdate, UpdateApp, Which};
use shipway_runtime::fake::Fault;
use shipway_runtime::{Exit, ExitCause, Runtime};
use shipway_store::App;
use shipway_testkit::{Ground, Server, until};
use std::collections::BTreeMap;

fn scale(process_type: &str, quantity: u32) -> Vec<ScaleUpdate> {
    vec![ScaleUpdate { process_type: process_type.into(), quantity: Some(Quantity::Exactly(quantity)), size: None }]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_runs_and_the_next_one_replaces_it() {
    let server = Ground::new().server(None).await;
    let app = server.create("acorn").await;
    assert_eq!(server.push(&app, "web: listen\nworker: sleep").await.as_deref(), Ok("v2"));
    assert_eq!(server.settled(&app).await, "web.1 up");
    assert_eq!(server.served(&app).await, "v2");
    assert!(server.transcript(&app).contains("http://acorn.localhost:8080/ deployed to Shipway"));

    assert_eq!(server.push(&app, "web: listen-after 20ms\nworker: sleep").await.as_deref(), Ok("v3"));
    assert_eq!(server.served(&app).await, "v3");
    assert_eq!(server.settled(&app).await, "web.1 up");
    assert_eq!(server.ground.repositories.branch(app.id).as_deref(), Some("web: listen-after 20ms\nworker: sleep"));
    assert_eq!(server.ground.repositories.pins(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_leaves_what_runs() {
    let server = Ground::new().server(None).await;
    let app = server.create("acorn").await;
    server.push(&app, "web: listen").await.unwrap();
    for (procfile, expected) in [
        ("web: broken-build", "The build is broken on purpose."),
        ("nonsense", "Procfile, line 1: \"nonsense\" has no colon; write `type: command`"),
        ("web: exit 3", "H10: web.1 ended with status 3 before it was ready."),
        (
            "web: sleep",
            "R10: web.1 was not ready within 2 seconds. Nothing listens: the process has to listen on 0.0.0.0:$PORT.",
        ),
        (
            "web: listen\nrelease: echo migrating;exit 4",
            "Release command failed: `echo migrating;exit 4` exited with status 4. Its last line: migrating",
        ),
    ] {
        assert_eq!(server.push(&app, procfile).await, Err(expected.into()));
        assert_eq!(server.served(&app).await, "v2", "after {procfile}");
        assert_eq!(server.ground.repositories.branch(app.id).as_deref(), Some("web: listen"));
    }
    assert_eq!(server.settled(&app).await, "web.1 up");
    // A failed release keeps its number, a failed build uses none.
    assert_eq!(
        server.release_list(&app),
        "v5 failed Deploy\nv4 failed Deploy\nv3 failed Deploy\nv2 succeeded Deploy\nv1 succeeded Initial release"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn config_changes_and_rollbacks_are_releases() {
    let server = Ground::new().server(None).await;
    let app = server.create("acorn").await;
    let set = |value: Option<&str>| BTreeMap::from([("COLOUR".to_string(), value.map(String::from))]);
    server.platform.set_config_vars(&server.caller, &app, set(Some("red"))).await.unwrap();
    server.push(&app, "web: listen").await.unwrap();
    server.platform.set_config_vars(&server.caller, &app, set(Some("blue"))).await.unwrap();
    server.settled(&app).await;
    assert_eq!(server.served(&app).await, "v4");
    let third = server.platform.release(&app, "v3").unwrap();
    let back = server.platform.rollback(&server.caller, &app, &third).await.unwrap();
    assert_eq!(back.version, 5);
    server.settled(&app).await;
    assert_eq!(server.served(&app).await, "v5");
    let vars = server.platform.config_vars(&server.caller, &server.app("acorn")).unwrap();
    assert_eq!(vars.values().collect::<Vec<_>>(), ["red"]);
    assert_eq!(
        server.release_list(&app),
        "v5 succeeded Rollback to v3\nv4 succeeded Set COLOUR config var\nv3 succeeded Deploy\n\
         v2 succeeded Set COLOUR config var\nv1 succeeded Initial release"
    );
    for which in ["99", "v99"] {
        let missing = server.platform.release(&app, which).unwrap_err().message;
        assert_eq!(missing, "Couldn't find that release: v99. `heroku releases -a acorn` lists what there is.");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn config_vars_win_over_the_languages_defaults_and_nothing_over_the_platforms() {
    let server = Ground::new().server(None).await;
    let app = server.create("acorn").await;
    let vars = [("NODE_ENV", "staging"), ("HEROKU_APP_NAME", "another"), ("DYNO", "web.9")];
    let vars = vars.map(|(name, value)| (name.to_string(), Some(value.to_string()))).into();
    server.platform.set_config_vars(&server.caller, &app, vars).await.unwrap();
    let web = "web: env LANG;env NODE_ENV;env HEROKU_APP_NAME;env DYNO;listen";
    server.push(&app, web).await.unwrap();
    let [dyno] = &server.platform.store().read(|c| c.dynos(app.id)).unwrap()[..] else { panic!("one dyno") };
    assert_eq!(server.ground.runtime.lines(dyno.id), ["C.UTF-8", "staging", "acorn", "web.1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn scaling_restarting_and_stopping() {
    let server = Ground::new().server(None).await;
    let app = server.create("acorn").await;
    server.push(&app, "web: listen\nworker: sleep").await.unwrap();
    server.platform.scale(&server.caller, &app, scale("web", 3)).await.unwrap();
    server.platform.scale(&server.caller, &app, scale("worker", 1)).await.unwrap();
    assert_eq!(server.settled(&app).await, "web.1 up, web.2 up, web.3 up, worker.1 up");
    let before: Vec<_> = server.platform.store().read(|c| c.dynos(app.id)).unwrap().iter().map(|d| d.id).collect();
    server.platform.restart(&server.caller, &app, Which::All).await.unwrap();
    assert_eq!(server.settled(&app).await, "web.1 up, web.2 up, web.3 up, worker.1 up");
    let after: Vec<_> = server.platform.store().read(|c| c.dynos(app.id)).unwrap().iter().map(|d| d.id).collect();
    assert!(before.iter().all(|d| !after.contains(d)), "every dyno is a new one");
    server.platform.stop_dynos(&server.caller, &app, Which::Dyno("web.2".into())).await.unwrap();
    assert_eq!(server.settled(&app).await, "web.1 up, web.2 up, web.3 up, worker.1 up");
    server.platform.scale(&server.caller, &app, scale("web", 0)).await.unwrap();
    assert_eq!(server.settled(&app).await, "worker.1 up");
    server.serves(&app, "NoWeb").await;
    let refused = server.platform.scale(&server.caller, &app, scale("wob", 1)).await.unwrap_err();
    assert_eq!(refused.message, "Couldn't find that process type (wob). acorn has web, worker.");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_added_to_a_formation_twice_at_once_counts_twice() {
    let server = Ground::new().server(None).await;
    let app = server.create("acorn").await;
    server.push(&app, "web: listen\nworker: sleep").await.unwrap();
    let more = |process_type: &str| {
        let quantity = Some(Quantity::More(1));
        server.platform.scale(
            &server.caller,
            &app,
            vec![ScaleUpdate { process_type: process_type.into(), quantity, size: None }],
        )
    };
    let (a, b, c) = tokio::join!(more("web"), more("web"), more("worker"));
    for scaled in [a, b, c] {
        scaled.unwrap();
    }
    assert_eq!(server.settled(&app).await, "web.1 up, web.2 up, web.3 up, worker.1 up");
}

/// Ends the app's one dyno and waits until its row has made room for the next.
async fn end_dyno(server: &Server, app: &App, cause: ExitCause) {
    let dyno = server.platform.store().read(|c| c.dynos(app.id)).unwrap()[0].id;
    server.ground.runtime.end(dyno, Exit { status: 137, cause });
    while server.platform.store().read(|c| c.dyno(dyno)).unwrap().is_some() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dyno_that_is_lost_is_started_again_at_once_however_often() {
    let server = Ground::new().server(None).await;
    let app = server.create("acorn").await;
    server.push(&app, "web: listen").await.unwrap();
    for _ in 0..3 {
        end_dyno(&server, &app, ExitCause::Lost).await;
        assert_eq!(server.settled(&app).await, "web.1 up");
    }
    server.serves(&app, "v2").await;
    assert!(!server.ground.router.modes().contains(&RouteMode::Crashed));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crashed_dyno_is_started_again() {
    let server = Ground::new().server(None).await;
    let app = server.create("acorn").await;
    server.push(&app, "web: listen").await.unwrap();
    end_dyno(&server, &app, ExitCause::Exited).await;
    assert_eq!(server.settled(&app).await, "web.1 up");
    server.serves(&app, "v2").await;
    // It is started again at once, so visitors wait for it instead of being told that the app has crashed.
    assert!(!server.ground.router.modes().contains(&RouteMode::Crashed));
}

#[tokio::test(flavor = "multi_thread")]
async fn visitors_of_an_app_that_crashes_as_it_starts_are_told_so_at_once() {
    let server = Ground::new().server(None).await;
    let app = server.create("acorn").await;
    server.push(&app, "web: listen").await.unwrap();
    server.ground.router.modes();
    // The next one does not come up, and was never in the routes.
    server.ground.runtime.arm(Fault::FailStart("no memory".into()));
    end_dyno(&server, &app, ExitCause::Exited).await;
    let mut seen = Vec::new();
    let mut until_met = async |mode: RouteMode| {
        until("visitors meet with it", async || {
            seen.extend(server.ground.router.modes());
            seen.dedup();
            (seen.last() == Some(&mode)).then_some(())
        })
        .await;
    };
    until_met(RouteMode::Crashed).await;
    server.ground.world.jump(SignedDuration::from_secs(11));
    server.platform.scale(&server.caller, &app, scale("web", 1)).await.unwrap();
    until_met(RouteMode::Serve).await;
    assert_eq!(seen, [RouteMode::Starting, RouteMode::Crashed, RouteMode::Starting, RouteMode::Serve]);
    let said = server.said_of(&app, "web.1");
    assert!(said.iter().any(|line| line.starts_with("The platform could not start web.1: ")), "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crashed_dyno_that_cannot_be_removed_at_first_is_started_again_all_the_same() {
    let server = Ground::new().server(None).await;
    let app = server.create("acorn").await;
    server.push(&app, "web: listen").await.unwrap();
    for _ in 0..3 {
        server.ground.runtime.arm(Fault::FailRemove("busy".into()));
    }
    end_dyno(&server, &app, ExitCause::Exited).await;
    assert_eq!(server.settled(&app).await, "web.1 up");
    until("nothing is left of the old one", async || {
        (server.ground.runtime.list().await.unwrap().len() == 1).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dynos_that_went_with_the_machine_start_anew_and_have_not_crashed() {
    let ground = Ground::new();
    let server = ground.server(None).await;
    let app = server.create("acorn").await;
    // It takes a moment to listen, so that there is a table before it does.
    server.push(&app, "web: listen-after 300ms\nworker: sleep").await.unwrap();
    server.platform.scale(&server.caller, &app, scale("worker", 1)).await.unwrap();
    assert_eq!(server.settled(&app).await, "web.1 up, worker.1 up");
    server.platform.stop().await;
    // One without a trace, as after `shipway down`; one whose shim is gone, as after a power cut.
    let dynos = server.platform.store().read(|c| c.dynos(app.id)).unwrap();
    ground.runtime.remove(dynos[0].id).await.unwrap();
    ground.runtime.end(dynos[1].id, Exit { status: 137, cause: ExitCause::Lost });
    ground.runtime.wait(dynos[1].id).await.unwrap();
    drop(server);
    ground.router.modes();

    let server = ground.server(None).await;
    assert_eq!(server.settled(&app).await, "web.1 up, worker.1 up");
    server.serves(&app, "v2").await;
    assert_eq!(ground.router.modes(), [RouteMode::Starting, RouteMode::Serve]);
    assert!(server.platform.store().read(|c| c.dynos(app.id)).unwrap().iter().all(|dyno| dyno.crashes == 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_pushes_at_once_go_one_after_the_other() {
    let server = Ground::new().server(None).await;
    let app = server.create("acorn").await;
    let (a, b) = tokio::join!(server.push(&app, "web: listen"), server.push(&app, "web: listen-after 5ms"));
    let mut both = [a.unwrap(), b.unwrap()];
    both.sort();
    assert_eq!(both, ["v2", "v3"]);
    server.settled(&app).await;
    assert_eq!(server.served(&app).await, "v3");
}

/// Lets the app's release phase, which waits for ever, end well.
async fn end_release_phase(server: &Server, app: &App) {
    let phase = async || {
        let dynos = server.platform.store().read(|c| c.dynos(app.id)).unwrap();
        let phase = dynos.into_iter().find(|d| d.process_type.as_str() == "release" && d.state == DynoState::Up)?;
        // Its row says so before it is there.
        server.ground.runtime.observe(phase.id).await.ok().map(|_| phase)
    };
    let dyno = until("a release phase runs", phase).await.id;
    server.ground.runtime.end(dyno, Exit { status: 0, cause: ExitCause::Exited });
    let gone = async || server.platform.store().read(|c| c.dyno(dyno)).unwrap().is_none().then_some(());
    until("the release phase is over", gone).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_with_a_version_goes_before_a_push_that_waits_for_one() {
    let server = Ground::new().server(None).await;
    let app = server.create("acorn").await;
    let first = server.ground.repositories.commit("web: listen\nrelease: sleep");
    let (_, first) = server.platform.deploy(&server.caller, &app, first).await.unwrap();
    end_release_phase(&server, &app).await;
    assert_eq!(server.outcome(first).await.as_deref(), Ok("v2"));

    let app = server.app("acorn");
    let vars = BTreeMap::from([("COLOUR".to_string(), Some("red".to_string()))]);
    server.platform.set_config_vars(&server.caller, &app, vars).await.unwrap();
    let next = server.ground.repositories.commit("web: listen-after 5ms");
    let (_, push) = server.platform.deploy(&server.caller, &app, next).await.unwrap();
    until("the push waits for v3", async || server.platform.waiting_behind(push)).await;
    let second = server.platform.release(&app, "v2").unwrap();
    assert_eq!(server.platform.rollback(&server.caller, &app, &second).await.unwrap().version, 4);

    end_release_phase(&server, &app).await;
    end_release_phase(&server, &app).await;
    assert_eq!(server.outcome(push).await.as_deref(), Ok("v5"));
    server.settled(&app).await;
    assert_eq!(server.served(&app).await, "v5");
    assert_eq!(
        server.release_list(&app),
        "v5 succeeded Deploy\nv4 succeeded Rollback to v2\nv3 succeeded Set COLOUR config var\n\
         v2 succeeded Deploy\nv1 succeeded Initial release"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_over_cannot_be_cancelled_and_says_how_it_ended() {
    let server = Ground::new().server(None).await;
    let app = server.create("acorn").await;
    let cancel = async |procfile: &str| {
        let commit = server.ground.repositories.commit(procfile);
        let (_, operation) = server.platform.deploy(&server.caller, &app, commit).await.unwrap();
        let _ = server.outcome(operation).await;
        let status = || server.platform.store().read(|c| c.operation(operation)).unwrap().status;
        until("it is over", async || status().is_final().then_some(())).await;
        server.platform.cancel(&server.caller, operation).await.unwrap_err().message
    };
    assert_eq!(
        cancel("web: exit 3").await,
        "It is over: it failed, and what it had done is undone. What ran before runs on."
    );
    assert_eq!(
        cancel("web: listen").await,
        "It has switched already and only goes forward. To go back: heroku releases:rollback."
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn maintenance_rename_and_the_end() {
    let server = Ground::new().server(None).await;
    let app = server.create("acorn").await;
    server.serves(&app, "Blank").await;
    server.push(&app, "web: listen").await.unwrap();
    let change = UpdateApp { maintenance: Some(true), name: Some("oak".into()), ..UpdateApp::default() };
    server.platform.update_app(&server.caller, &app, change).await.unwrap();
    let route = server.ground.router.table().apps.remove(0);
    assert_eq!(
        (route.hosts, route.mode),
        (vec!["oak.localhost".into()], shipway_domain::route::RouteMode::Maintenance)
    );
    let app = server.app("oak");
    server.platform.destroy_app(&server.caller, &app).await.unwrap();
    assert_eq!(server.platform.store().read(|c| c.apps()).unwrap().len(), 0);
    server.serves(&app, "unknown host").await;
    let taken = server.create("oak").await;
    assert_ne!(taken.id, app.id);
}
