//! Every operation is killed, failed and repeated at every moment of every step; see `shipway_testkit::Trial`.

use shipway_domain::quantity::Quantity;
use shipway_engine::{Moment, ScaleUpdate, UpdateApp, Which};
use shipway_runtime::{Exit, ExitCause, Runtime};
use shipway_testkit::{Ground, Server, Trial};
use std::collections::BTreeMap;
use std::sync::Arc;

/// `acorn` with a web dyno and a worker.
async fn acorn(server: Arc<Server>) {
    let app = server.create("acorn").await;
    server.push(&app, "web: listen\nworker: sleep").await.unwrap();
    scale(&server, "worker", Some(1), None).await;
}

async fn scale(server: &Server, process_type: &str, quantity: Option<u32>, size: Option<&str>) {
    let update = ScaleUpdate {
        process_type: process_type.into(),
        quantity: quantity.map(Quantity::Exactly),
        size: size.map(String::from),
    };
    server.platform.scale(&server.caller, &server.app("acorn"), vec![update]).await.unwrap();
}

async fn set_colour(server: &Server, colour: &str) {
    let vars = BTreeMap::from([("COLOUR".to_string(), Some(colour.to_string()))]);
    server.platform.set_config_vars(&server.caller, &server.app("acorn"), vars).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_40_a_deploy() {
    let deploy = Trial::of(|server| async move {
        let _ = server.push(&server.app("acorn"), "web: listen\nworker: sleep\nrelease: echo migrated").await;
    })
    .on(acorn);
    let seen = deploy.holds().await;
    assert!(seen.before.contains(r#"main Some("web: listen\nworker: sleep")"#), "{}", seen.before);
    assert!(
        seen.after.contains(r#"main Some("web: listen\nworker: sleep\nrelease: echo migrated")"#),
        "{}",
        seen.after
    );
    let worked: Vec<&str> = seen.points.iter().filter(|p| p.1 == Moment::Worked).map(|p| p.0.as_str()).collect();
    let steps = ["pin", "build", "release", "release-phase", "start", "healthy", "switch", "route", "settle"];
    assert_eq!(worked, steps);
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_40_a_first_deploy() {
    let deploy = Trial::of(|server| async move {
        let _ = server.push(&server.app("acorn"), "web: listen").await;
    })
    .on(|server| async move {
        server.create("acorn").await;
    });
    let seen = deploy.holds().await;
    assert!(seen.before.contains("runs None") && seen.after.contains("web.1 up"), "{}", seen.after);
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_40_a_failing_deploy() {
    for procfile in ["web: exit 1\nrelease: echo migrated", "web: broken-build", "web: listen\nrelease: exit 4"] {
        let deploy = Trial::of(move |server| async move {
            let _ = server.push(&server.app("acorn"), procfile).await;
        })
        .on(acorn);
        let seen = deploy.holds().await;
        assert_eq!(seen.after, seen.before, "{procfile}");
        assert!(seen.points.iter().any(|p| p.1 == Moment::Undone), "{procfile}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_40_a_config_change() {
    let change = Trial::of(|server| async move { set_colour(&server, "red").await }).on(acorn);
    let seen = change.holds().await;
    assert!(!seen.before.contains("red") && seen.after.contains("red"), "{}", seen.after);
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_40_a_rollback() {
    let rollback = Trial::of(|server| async move {
        let app = server.app("acorn");
        let second = server.platform.release(&app, "v2").unwrap();
        server.platform.rollback(&server.caller, &app, &second).await.unwrap();
    })
    .on(|server| async move {
        acorn(server.clone()).await;
        set_colour(&server, "red").await;
        server.push(&server.app("acorn"), "web: listen-after 5ms\nworker: sleep").await.unwrap();
    });
    let seen = rollback.holds().await;
    assert!(seen.before.contains("listen-after") && seen.before.contains("red"), "{}", seen.before);
    assert!(!seen.after.contains("listen-after") && !seen.after.contains("red"), "{}", seen.after);
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_40_a_redeploy() {
    let redeploy = Trial::of(|server| async move {
        server.platform.redeploy(&server.caller, &server.app("acorn")).await.unwrap();
    })
    .on(acorn);
    let seen = redeploy.holds().await;
    assert_eq!(seen.after, seen.before);
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_40_a_restart() {
    for which in [Which::All, Which::Dyno("web.1".into())] {
        let restart = Trial::of(move |server| {
            let which = which.clone();
            async move {
                server.platform.restart(&server.caller, &server.app("acorn"), which).await.unwrap();
            }
        })
        .on(acorn);
        let seen = restart.holds().await;
        assert_eq!(seen.after, seen.before);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_40_a_change_of_size() {
    let resize = Trial::of(|server| async move { scale(&server, "web", Some(2), Some("standard-2x")).await }).on(acorn);
    // A restart that fails leaves old dynos in their old size: what is wanted stays written down, so there is no "before".
    let seen = resize.undisturbed().await;
    resize.survives_death(&seen).await;
    resize.repeats(&seen).await;
    assert!(seen.after.contains("web.2 up standard-2x"), "{}", seen.after);
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_40_the_end_of_an_app() {
    let destroy = Trial::of(|server| async move {
        let _ = server.platform.destroy_app(&server.caller, &server.app("acorn")).await;
    })
    .on(|server| async move {
        acorn(server.clone()).await;
        let other = server.create("birch").await;
        server.push(&other, "web: listen").await.unwrap();
    });
    let seen = destroy.holds().await;
    assert!(seen.before.contains("acorn") && !seen.after.contains("acorn"), "{}", seen.after);
    assert!(seen.after.contains("birch"), "{}", seen.after);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_phase_that_ended_with_the_machine_begins_again() {
    for (exit, expected) in [
        (Exit { status: 137, cause: ExitCause::Lost }, "v2 succeeded Deploy"),
        (Exit { status: 143, cause: ExitCause::Stopped }, "v2 succeeded Deploy"),
        (Exit { status: 1, cause: ExitCause::Exited }, "v2 failed Deploy"),
    ] {
        let ground = Ground::new();
        let server = ground.server(None).await;
        let app = server.create("acorn").await;
        let commit = ground.repositories.commit("web: listen\nrelease: echo migrating;sleep 1s");
        server.platform.deploy(&server.caller, &app, commit).await.unwrap();
        let phase = loop {
            let running = ground.runtime.list().await.unwrap();
            if let Some(phase) = running.iter().find(|o| o.name.starts_with("release")) {
                break phase.dyno;
            }
            tokio::task::yield_now().await;
        };
        server.platform.stop().await;
        drop(server);
        ground.runtime.end(phase, exit);
        ground.runtime.wait(phase).await.unwrap();

        let server = ground.server(None).await;
        server.quiet().await;
        assert!(server.release_list(&app).contains(expected), "{exit:?}: {}", server.release_list(&app));
    }
}

/// Scaling, maintenance and domains are one transaction each; what follows from them is a reconciler's.
#[tokio::test(flavor = "multi_thread")]
async fn attack_40_what_is_written_down_comes_about_without_the_server_that_wrote_it() {
    let ground = Ground::new();
    let mut server = Arc::new(ground.server(None).await);
    acorn(server.clone()).await;
    for (web, worker, maintenance) in [(3, 0, true), (1, 2, false), (0, 1, true), (2, 0, false)] {
        server.quiet().await;
        scale(&server, "web", Some(web), None).await;
        scale(&server, "worker", Some(worker), None).await;
        let change = UpdateApp { maintenance: Some(maintenance), ..UpdateApp::default() };
        let app = server.app("acorn");
        server.platform.update_app(&server.caller, &app, change).await.unwrap();
        server.platform.add_domain(&server.caller, &app, &format!("www{web}.example.com")).await.unwrap();
        server.platform.stop().await;
        drop(server);

        server = Arc::new(ground.server(None).await);
        server.quiet().await;
        let names = |process_type: &str, n: u32| (1..=n).map(|i| format!("{process_type}.{i} up")).collect::<Vec<_>>();
        let wanted = [names("web", web), names("worker", worker)].concat().join(", ");
        assert_eq!(server.settled(&server.app("acorn")).await, wanted);
        server.whole(&wanted).await;
        let screen = server.screen().await;
        assert!(screen.contains(&format!("maintenance={maintenance}")), "{screen}");
        assert!(screen.contains(&format!("www{web}.example.com")), "{screen}");
    }
    server.takes_pushes(&["acorn".into()], "scaled").await;
}
