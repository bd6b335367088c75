//! Code that the disk has lost: what asks for it is told so, what runs runs on, and a push brings it back.

use shipway_engine::{Kind, Which};
use shipway_logs::{Filter, Reader, Source};
use shipway_store::App;
use shipway_testkit::{Ground, Server};

/// The platform's own lines of an app's log.
fn log(server: &Server, app: &App) -> Vec<String> {
    let filter = Filter { source: Some(Source::App), dyno: Some("api".into()) };
    let entries = Reader::last(&server.platform.log_dir(app.id), filter, 100).unwrap().0;
    entries.iter().map(|entry| String::from_utf8_lossy(&entry.message).into_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_code_is_named_where_somebody_waits_and_in_the_log_where_nobody_does() {
    let server = Ground::new().server(None).await;
    let (platform, owner) = (&server.platform, &server.caller);
    let shop = server.create("shop").await;
    assert_eq!(server.push(&shop, "web: listen").await.as_deref(), Ok("v2"));
    assert_eq!(server.push(&server.app("shop"), "web: listen-after 1ms").await.as_deref(), Ok("v3"));
    let shop = server.app("shop");
    server.ground.builder.damage();

    let damaged = |message: &str| {
        let what =
            message.starts_with("What was built of commit ") && message.contains(" is damaged on the platform's disk.");
        what && message.ends_with("git commit --allow-empty -m \"Build again\" && git push heroku HEAD:main")
    };
    let web = || Which::Dyno("web.1".into());
    let before = platform.release(&shop, "v2").unwrap();
    for refused in [
        platform.restart(owner, &shop, Which::All).await.unwrap_err(),
        platform.restart(owner, &shop, web()).await.unwrap_err(),
        platform.stop_dynos(owner, &shop, web()).await.unwrap_err(),
    ] {
        assert!(refused.kind == Kind::Unavailable && damaged(&refused.message), "{refused}");
    }
    let refused = platform.rollback(owner, &shop, &before).await.map(drop).unwrap_err();
    let commit = platform.store().read(|c| c.slug(before.slug.unwrap())).unwrap().unwrap().commit.unwrap();
    let again = format!("To build it again: git push --force heroku {}:main", commit.short());
    assert!(refused.kind == Kind::Unavailable && refused.message.ends_with(&again), "{refused}");
    server.quiet().await;
    assert_eq!((server.served(&shop).await.as_str(), server.releases(&shop).len()), ("v3", 3), "nothing was begun");

    // A config var is kept, and its release says why it does not run.
    let vars = [("COLOUR".to_string(), Some("blue".to_string()))].into();
    platform.set_config_vars(owner, &shop, vars).await.unwrap();
    server.quiet().await;
    let release = platform.release(&shop, "v4").unwrap();
    let why = release.failure.unwrap();
    assert!(release.status.as_str() == "failed" && damaged(&why), "{why}");
    let lines = log(&server, &shop);
    assert_eq!(lines.last().map(String::as_str), Some(format!("Release v4 failed: {why}").as_str()), "{lines:#?}");
    assert_eq!(server.served(&shop).await, "v3");

    // What a build makes has the config var, and runs.
    assert_eq!(server.push(&server.app("shop"), "web: listen-after 1ms").await.as_deref(), Ok("v5"));
    assert_eq!(server.served(&shop).await, "v5");
    platform.restart(owner, &server.app("shop"), Which::All).await.unwrap();
    server.quiet().await;
    assert!(!log(&server, &shop).last().unwrap().contains("failed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_after_its_answer_is_in_the_log_and_a_failed_build_once() {
    let server = Ground::new().server(None).await;
    let shop = server.create("shop").await;
    server.push(&shop, "web: broken-build").await.unwrap_err();
    let failed = |lines: &[String]| lines.iter().filter(|line| line.contains("failed")).cloned().collect::<Vec<_>>();
    assert_eq!(failed(&log(&server, &shop)), ["Build failed -- check your build output"]);
    let refused = server.push(&server.app("shop"), "web: listen\nrelease: exit 3").await.unwrap_err();
    let expected = format!("Release v2 failed: {}", refused.lines().next().unwrap());
    assert_eq!(failed(&log(&server, &shop)).last(), Some(&expected));
}
