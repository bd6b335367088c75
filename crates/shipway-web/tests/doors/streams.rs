//! Logs and outputs by their signed URLs.

use crate::stage::Stage;
use shipway_engine::Holder;
use shipway_logs::{Limits, Source, Writer};
use shipway_store::App;
use shipway_testkit::until;
use shipway_web::{LogSession, OutputStream};
use std::process::Command;

fn session(stage: &Stage, app: &App) -> LogSession {
    LogSession {
        id: uuid::Uuid::nil(),
        app: app.id,
        holder: Holder::of(stage.platform.authenticate(&stage.token).unwrap().1, &stage.token),
        lines: 100,
        tail: false,
        dyno: Some("web".into()),
        source: None,
        expires_at: stage.platform.now().as_second() + 60,
    }
}

fn writer(stage: &Stage, app: &App) -> Writer {
    let directory = stage.platform.log_dir(app.id);
    std::fs::create_dir_all(&directory).unwrap();
    Writer::open(&directory, "dyno", Limits::default()).unwrap()
}

fn say(writer: &mut Writer, stage: &Stage, line: &str) {
    let now = u64::try_from(stage.platform.now().as_microsecond()).unwrap();
    writer.append(now, Source::App, "web.1", line.as_bytes()).unwrap();
}

/// The messages of a stream, without their times and names.
fn messages(body: &str) -> Vec<&str> {
    body.lines().filter_map(|line| line.strip_prefix("data: ")?.split_once("]: ")).map(|(_, message)| message).collect()
}

const EVENTS: &[&str] = &["Accept: text/event-stream"];

fn ids(body: &str) -> Vec<&str> {
    body.lines().filter_map(|line| line.strip_prefix("id: ")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_end_when_nobody_tails_and_go_on_behind_the_last_event() {
    let stage = Stage::open().await;
    let app = stage.create("shop").await;
    let mut log = writer(&stage, &app);
    ["one", "two", "three"].iter().for_each(|line| say(&mut log, &stage, line));
    let path = stage.web.signed().logs(&session(&stage, &app));
    let answer = stage.get(&path, EVENTS).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("text/event-stream")));
    assert_eq!(messages(&answer.body), ["one", "two", "three"]);
    let second = ids(&answer.body)[1].to_string();
    let resumed = until("the last line has settled", async || {
        let answer = stage.get(&path, &[EVENTS[0], &format!("Last-Event-ID: {second}")]).await;
        (messages(&answer.body) == ["three"]).then_some(())
    });
    resumed.await;
    let few = LogSession { lines: 1, ..session(&stage, &app) };
    assert_eq!(messages(&stage.get(&stage.web.signed().logs(&few), EVENTS).await.body), ["three"]);
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_do_not_ask_for_events_read_lines() {
    let stage = Stage::open().await;
    let app = stage.create("shop").await;
    let mut log = writer(&stage, &app);
    ["one", "two"].iter().for_each(|line| say(&mut log, &stage, line));
    let path = stage.web.signed().logs(&session(&stage, &app));
    for headers in [&[][..], &["Accept: */*"], &["Accept: text/plain"]] {
        let answer = stage.get(&path, headers).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("text/plain; charset=utf-8")));
        let lines: Vec<&str> = answer.body.lines().map(|line| line.split_once(" app[web.1]: ").unwrap().1).collect();
        assert_eq!(lines, ["one", "two"]);
    }
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn filters_choose_by_source_and_dyno() {
    let stage = Stage::open().await;
    let app = stage.create("shop").await;
    let mut log = writer(&stage, &app);
    let now = u64::try_from(stage.platform.now().as_microsecond()).unwrap();
    log.append(now, Source::App, "web.1", b"from web.1").unwrap();
    log.append(now + 1, Source::App, "worker.1", b"from the worker").unwrap();
    log.append(now + 2, Source::Heroku, "web.1", b"State changed from starting to up").unwrap();
    let check = async |dyno: Option<&str>, source: Option<&str>, expected: &[&str]| {
        let session =
            LogSession { dyno: dyno.map(Into::into), source: source.map(Into::into), ..session(&stage, &app) };
        let answer = stage.get(&stage.web.signed().logs(&session), EVENTS).await;
        let seen: Vec<&str> = messages(&answer.body).into_iter().filter(|line| !line.contains("by user")).collect();
        assert_eq!(seen, expected, "{dyno:?} {source:?}");
    };
    check(Some("web"), None, &["from web.1", "State changed from starting to up"]).await;
    check(Some("worker.1"), None, &["from the worker"]).await;
    check(None, Some("heroku"), &["State changed from starting to up"]).await;
    check(None, Some("app"), &["from web.1", "from the worker"]).await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tail_shows_what_comes_and_ends_when_the_server_retires() {
    let stage = Stage::open().await;
    let app = stage.create("shop").await;
    let mut log = writer(&stage, &app);
    say(&mut log, &stage, "before");
    let session = LogSession { tail: true, ..session(&stage, &app) };
    let url = stage.url(&stage.web.signed().logs(&session));
    let screen = stage.home.path().join("screen");
    let mut tail = Command::new("curl").args(["-sSN", "-H", EVENTS[0], &url, "-o"]).arg(&screen).spawn().unwrap();
    let seen = async |expected: &[&str]| {
        until("the tail shows it", async || {
            let text = std::fs::read_to_string(&screen).unwrap_or_default();
            (messages(&text) == expected).then_some(())
        })
        .await;
    };
    seen(&["before"]).await;
    say(&mut log, &stage, "after");
    seen(&["before", "after"]).await;
    stage.lifecycle.advance(shipway_net::Phase::Retiring);
    let status = tokio::task::spawn_blocking(move || tail.wait().unwrap()).await.unwrap();
    assert!(status.success(), "the stream was cut instead of ended");
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_14_a_stream_opens_only_by_its_own_url_and_in_time() {
    let stage = Stage::open().await;
    let app = stage.create("shop").await;
    let good = stage.web.signed().logs(&session(&stage, &app));
    let other = LogSession { app: shipway_domain::AppId(uuid::Uuid::new_v4()), ..session(&stage, &app) };
    let past = LogSession { expires_at: 1, ..session(&stage, &app) };
    let check = async |path: &str, expected: u16| {
        let answer = stage.get(path, &[]).await;
        assert_eq!(answer.status, expected, "{path}");
        assert!(expected == 200 || answer.json()["message"].is_string());
    };
    check(&good, 200).await;
    check(&good[..good.len() - 1], 404).await;
    check(&good.replace("/streams/logs/", "/streams/logs/A"), 404).await;
    check(&stage.web.signed().logs(&other), 404).await;
    check(&stage.web.signed().logs(&past), 403).await;
    check("/streams/logs/x/y", 404).await;
    check(&format!("/streams/output/{}/00", uuid::Uuid::nil()), 404).await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_output_is_read_while_it_grows_and_is_not_found_before_it_has_begun() {
    let stage = Stage::open().await;
    let app = stage.create("shop").await;
    let output = |id| OutputStream { id, app: app.id, holder: session(&stage, &app).holder };
    let nothing = stage.get(&stage.web.signed().output(&output(uuid::Uuid::nil())), &[]).await;
    assert_eq!((nothing.status, nothing.json()["id"].as_str()), (404, Some("not_found")));
    let checkout = stage.checkout();
    checkout.commit("web: listen; echo slow-build\n");
    let mut push = checkout.git(&["push", "-q", &checkout.remote("shop"), "main"]).spawn().unwrap();
    let build =
        until("the build runs", async || stage.platform.store().read(|c| c.builds(app.id)).unwrap().pop()).await;
    let url = stage.web.signed().output(&output(build.id.0));
    let screen = stage.home.path().join("screen");
    let mut reading = Command::new("curl").args(["-sSN", &stage.url(&url), "-o"]).arg(&screen).spawn().unwrap();
    until("its first lines are there", async || {
        std::fs::read_to_string(&screen).is_ok_and(|text| text.contains("waiting")).then_some(())
    })
    .await;
    stage.builder.go.notify_one();
    let (read, pushed) =
        tokio::task::spawn_blocking(move || (reading.wait().unwrap(), push.wait().unwrap())).await.unwrap();
    assert!(read.success() && pushed.success());
    assert!(std::fs::read_to_string(&screen).unwrap().contains("Released v"));
    let again = stage.get(&url, &[]).await;
    assert_eq!(again.header("x-content-type-options"), Some("nosniff"));
    assert!(again.body.contains("Released v"));
    stage.end().await;
}
