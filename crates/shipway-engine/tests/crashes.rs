//! The server is killed after each journal row of each operation; the next one completes or undoes it.
//!
//! One helper does it for every operation: it counts the rows of an undisturbed run, then dies at each of them.

use shipway_engine::CrashPoint;
use shipway_testkit::{Ground, Server};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Dies at the n-th journal row, from 0.
fn die_at(n: usize) -> (CrashPoint, Arc<AtomicUsize>) {
    let rows = Arc::new(AtomicUsize::new(0));
    let seen = rows.clone();
    (Arc::new(move |_: &str, _: &str| seen.fetch_add(1, Ordering::SeqCst) == n), rows)
}

async fn prepared() -> Ground {
    let ground = Ground::new();
    let server = ground.server(None).await;
    let app = server.create("acorn").await;
    server.push(&app, "web: listen\nworker: sleep").await.unwrap();
    let two = shipway_engine::ScaleUpdate {
        process_type: "worker".into(),
        quantity: Some(shipway_domain::quantity::Quantity::Exactly(1)),
        size: None,
    };
    server.platform.scale(&server.caller, &app, vec![two]).await.unwrap();
    server.settled(&app).await;
    server.platform.stop().await;
    ground
}

/// Runs `act` with the server dying at each row; afterwards the app serves `old` or `new`, whole, and takes a push.
async fn survives<F, Fut>(act: F, old: &str, new: &str)
where
    F: Fn(Arc<Server>) -> Fut,
    Fut: Future<Output = ()> + Send + 'static,
{
    let mut outcomes = BTreeSet::new();
    for row in 0.. {
        let ground = prepared().await;
        let (crash_point, rows) = die_at(row);
        let server = Arc::new(ground.server(Some(crash_point)).await);
        let acting = tokio::spawn(act(server.clone()));
        // Dead, or through: whichever comes first.
        let through = loop {
            if rows.load(Ordering::SeqCst) > row {
                break false;
            }
            if acting.is_finished() {
                break true;
            }
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        };
        acting.abort();
        server.platform.stop().await;
        drop(server);

        let server = ground.server(None).await;
        let app = server.app("acorn");
        assert_eq!(server.settled(&app).await, "web.1 up, worker.1 up", "dead at row {row}");
        let served = server.served(&app).await;
        assert!(served == old || served == new, "dead at row {row}: serves {served}");
        outcomes.insert(served.clone());
        let running: BTreeSet<String> = ground.runtime_names().await;
        assert_eq!(running, BTreeSet::from(["web.1".into(), "worker.1".into()]), "dead at row {row}");
        let pushed = server.push(&app, "web: listen-after 1ms\nworker: sleep").await.unwrap();
        server.serves(&app, &pushed).await;
        assert_eq!(ground.repositories.pins(), 0, "dead at row {row}");
        server.platform.stop().await;
        if through {
            break;
        }
    }
    assert!(outcomes.contains(new), "the undisturbed run went through");
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_40_a_deploy_survives_the_servers_death_at_every_row() {
    let push = |server: Arc<Server>| async move {
        let app = server.app("acorn");
        let _ = server.push(&app, "web: listen\nworker: sleep\nrelease: echo migrated").await;
    };
    survives(push, "v2", "v3").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_40_a_failing_deploy_survives_it_too() {
    let push = |server: Arc<Server>| async move {
        let app = server.app("acorn");
        let _ = server.push(&app, "web: exit 1\nrelease: echo migrated").await;
    };
    survives(push, "v2", "v2").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_40_a_config_change_survives_it() {
    let set = |server: Arc<Server>| async move {
        let app = server.app("acorn");
        let vars = BTreeMap::from([("COLOUR".to_string(), Some("red".to_string()))]);
        let _ = server.platform.set_config_vars(&server.caller, &app, vars).await;
        while server.served(&app).await != "v3" {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    };
    survives(set, "v2", "v3").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_40_a_restart_survives_it() {
    let restart = |server: Arc<Server>| async move {
        let app = server.app("acorn");
        let _ = server.platform.restart(&server.caller, &app, shipway_engine::Which::All).await;
        server.settled(&app).await;
    };
    survives(restart, "v2", "v2").await;
}
