//! How much is fetched from elsewhere at a time, and built, whoever asks for it.

use crate::world::World;
use shipway_domain::forge::ForgeKind;
use shipway_domain::review::ReviewAppStatus;
use shipway_engine::{FETCHES_ASKED, FETCHES_AT_ONCE, Kind, SourceBlob, SourceOrder};
use shipway_testkit::{Ground, until};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::watch;

/// A server of archives that holds its answers back.
struct Archives {
    url: String,
    /// Requests that were asked and not answered.
    open: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
    go: watch::Sender<bool>,
}

impl Archives {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/source.tgz", listener.local_addr().unwrap());
        let archives = Self { url, open: Arc::default(), most: Arc::default(), go: watch::Sender::default() };
        let (open, most, going) = (archives.open.clone(), archives.most.clone(), archives.go.subscribe());
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let (open, most, mut going) = (open.clone(), most.clone(), going.clone());
                tokio::spawn(async move {
                    let now = open.fetch_add(1, Ordering::SeqCst) + 1;
                    most.fetch_max(now, Ordering::SeqCst);
                    let _ = stream.read(&mut [0; 1024]).await.unwrap();
                    going.wait_for(|go| *go).await.unwrap();
                    open.fetch_sub(1, Ordering::SeqCst);
                    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nweb: listen";
                    stream.write_all(answer.as_bytes()).await.unwrap();
                });
            }
        });
        archives
    }

    fn order(&self) -> (SourceBlob, SourceOrder) {
        let order = SourceOrder { url: self.url.clone(), version: None, checksum: None, buildpacks: None };
        (SourceBlob::Elsewhere(self.url.clone()), order)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_44_a_storm_of_pull_requests_and_an_archive_are_fetched_in_turn() {
    const PULLS: usize = 10;
    let world = World::new(ForgeKind::Github).await;
    let (platform, repositories) = (&world.server.platform, &world.server.ground.repositories);
    repositories.hold_fetches(true);
    for number in 1..=PULLS as u64 {
        world.pull(number, &world.commit(&format!("web: listen-after {number}ms")), true).await;
    }
    platform.review_all().await.unwrap();
    let creating = || {
        let rows = platform.review_apps(&world.pipeline).unwrap();
        rows.into_iter().filter(|row| row.status == ReviewAppStatus::Creating).collect::<Vec<_>>()
    };
    let waiting = || {
        let names = creating().into_iter().filter_map(|row| row.app_name);
        let apps = names.map(|name| world.server.app(name.as_str()));
        let waits = |app: &shipway_store::App| {
            let said = world.server.transcript(app);
            said.contains("Waiting for a turn: 4 fetches from elsewhere") && !said.contains("Fetching")
        };
        apps.filter(waits).collect::<Vec<_>>()
    };
    let late = until("all but four wait, and say so", async || Some(waiting()).filter(|w| w.len() == PULLS - 4)).await;
    assert_eq!(repositories.fetches(), FETCHES_AT_ONCE);

    // Somebody builds an archive, behind them all; somebody else does not want to wait any longer.
    let archives = Archives::start().await;
    let app = world.server.app("acorn-staging");
    let (source, order) = archives.order();
    let (asker, caller, to) = (platform.clone(), world.server.caller.clone(), app.clone());
    let build = tokio::spawn(async move { asker.build_source(&caller, &to, source, order).await.unwrap() });
    let operation = platform.operations(&world.server.caller, Some(&late[0])).unwrap()[0].id;
    platform.cancel(&world.server.caller, operation).await.unwrap();
    let why = world.server.outcome(operation).await.unwrap_err();
    assert!(why.contains("cancelled"), "{why}");
    assert_eq!((repositories.fetches(), archives.most.load(Ordering::SeqCst)), (FETCHES_AT_ONCE, 0));

    archives.go.send_replace(true);
    repositories.hold_fetches(false);
    let (_, operation) = build.await.unwrap();
    assert_eq!(world.server.outcome(operation).await, Ok("v2".into()));
    let screen = world.screen().await;
    assert_eq!(screen.lines().filter(|line| line.ends_with(" created")).count(), PULLS - 1, "{screen}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_44_of_too_many_requests_for_archives_the_last_is_told_to_come_again() {
    let server = Ground::new().server(None).await;
    let app = server.create("acorn").await;
    let archives = Archives::start().await;
    let asked = Arc::new(AtomicUsize::new(0));
    let builds: Vec<_> = (0..FETCHES_ASKED)
        .map(|_| {
            let (platform, caller, app, asked) =
                (server.platform.clone(), server.caller.clone(), app.clone(), asked.clone());
            let (source, order) = archives.order();
            tokio::spawn(async move {
                asked.fetch_add(1, Ordering::SeqCst);
                loop {
                    match platform.build_source(&caller, &app, source.clone(), order.clone()).await {
                        // The one that asks below came first, and leaves its place again.
                        Err(full) if full.kind == Kind::Unavailable => tokio::task::yield_now().await,
                        answer => break answer,
                    }
                }
            })
        })
        .collect();
    let full = until("the last of them waits", async || {
        let all = asked.load(Ordering::SeqCst) == FETCHES_ASKED;
        (all && archives.open.load(Ordering::SeqCst) == FETCHES_AT_ONCE).then_some(())
    });
    full.await;
    let (source, order) = archives.order();
    let refused = loop {
        // Those that were asked before are on their way to where they wait.
        let again = server.platform.build_source(&server.caller, &app, source.clone(), order.clone());
        match tokio::time::timeout(std::time::Duration::from_millis(20), again).await {
            Ok(answer) => break answer.unwrap_err(),
            Err(_) => continue,
        }
    };
    assert_eq!(refused.kind, Kind::Unavailable);
    assert!(refused.message.contains("32 requests") && refused.message.contains("try again"), "{refused}");

    archives.go.send_replace(true);
    for build in builds {
        build.await.unwrap().unwrap();
    }
    assert_eq!(archives.most.load(Ordering::SeqCst), FETCHES_AT_ONCE);
    server.platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_44_a_storm_of_pull_requests_is_built_in_turn_and_holds_up_no_push() {
    const PULLS: usize = 10;
    let world = World::new(ForgeKind::Github).await;
    let (server, builder) = (&world.server, &world.server.ground.builder);
    let most = server.platform.settings().builds_at_once;
    let slow = |number: usize| world.commit(&format!("web: listen-after {number}ms\n# slow-build"));
    for number in 1..=PULLS {
        world.pull(number as u64, &slow(number), true).await;
    }
    server.platform.review_all().await.unwrap();
    let waiting = || {
        let rows = server.platform.review_apps(&world.pipeline).unwrap();
        let names = rows.into_iter().filter_map(|row| row.app_name);
        let apps = names.map(|name| server.app(name.as_str()));
        let said =
            "Waiting for a turn to build: 4 builds are the most at a time, and the last turn is kept for people's";
        apps.filter(|app| server.transcript(app).contains(said)).collect::<Vec<_>>()
    };
    let begun = || builder.builds.load(Ordering::SeqCst) as usize;
    let late = until("all but three wait, and say so", async || {
        Some(waiting()).filter(|waiting| waiting.len() == PULLS - (most - 1) && begun() == most - 1)
    });
    let late = late.await;

    // A push is built meanwhile, and so is the next.
    let staging = server.app("acorn-staging");
    assert_eq!(server.push(&staging, "web: listen").await, Ok("v2".into()));
    assert_eq!(server.push(&staging, "web: listen-after 99ms").await, Ok("v3".into()));
    assert_eq!(begun(), most - 1 + 2);
    // Somebody does not want to wait any longer.
    let operation = server.platform.operations(&server.caller, Some(&late[0])).unwrap()[0].id;
    server.platform.cancel(&server.caller, operation).await.unwrap();
    let why = server.outcome(operation).await.unwrap_err();
    assert!(why.contains("cancelled"), "{why}");

    let created = until("the others are built", async || {
        builder.go.notify_one();
        let rows = server.platform.review_apps(&world.pipeline).unwrap();
        let created = rows.iter().filter(|row| row.status == ReviewAppStatus::Created).count();
        (created == PULLS - 1).then_some(())
    });
    created.await;
    assert_eq!(begun(), PULLS - 1 + 2);
    world.end().await;
}
