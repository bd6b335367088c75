//! Health checks: what a new web dyno is asked, and which answers count.

use shipway_domain::health::Statuses;
use shipway_store::{App, AppSettings};
use shipway_testkit::{Ground, Server};

async fn set(server: &Server, app: &App, path: Option<&str>, statuses: Option<&str>) {
    let settings = AppSettings {
        health_check_path: path.map(String::from),
        health_check_status: statuses.map(|text| Statuses::parse(text).unwrap()),
        ..AppSettings::default()
    };
    server.platform.change_settings(&server.caller, app, move |there| *there = settings).await.unwrap();
}

/// Pushes a Procfile with an `app.json` and waits for the outcome.
async fn push(server: &Server, app: &App, procfile: &str, app_json: &str) -> Result<String, String> {
    let commit = server.ground.repositories.commit_of(&[("Procfile", procfile), ("app.json", app_json)]);
    let (_, operation) = server.platform.deploy(&server.caller, app, commit).await.unwrap();
    server.outcome(operation).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dyno_is_asked_for_the_app_by_its_own_name_and_as_by_https() {
    let server = Ground::new().server(None).await;
    let app = server.create("acorn").await;
    set(&server, &app, Some("/health"), Some("200")).await;
    assert_eq!(server.push(&app, "web: listen-strict acorn.localhost").await.as_deref(), Ok("v2"));
    assert_eq!(
        server.push(&app, "web: listen-strict oak.localhost").await,
        Err("R10: web.1 was not ready within 2 seconds. It answered 400 to GET /health; only 200 counts as healthy."
            .into())
    );
    assert_eq!(server.served(&app).await, "v2");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_below_500_counts_and_a_set_of_statuses_says_otherwise() {
    let server = Ground::new().server(None).await;
    let app = server.create("acorn").await;
    set(&server, &app, Some("/health"), None).await;
    assert_eq!(server.push(&app, "web: listen-status 404").await.as_deref(), Ok("v2"));
    assert_eq!(
        server.push(&app, "web: listen-status 500").await,
        Err("R10: web.1 was not ready within 2 seconds. It answered 500 to GET /health; a status below 500 counts as healthy."
            .into())
    );
    assert!(server.transcript(&app).contains("It answered 500 to GET /health"), "{}", server.transcript(&app));
    set(&server, &app, Some("/health"), Some("200-299,503")).await;
    assert_eq!(
        server.push(&app, "web: listen-status 301").await,
        Err("R10: web.1 was not ready within 2 seconds. It answered 301 to GET /health; only 200-299,503 counts as healthy."
            .into())
    );
    assert_eq!(server.push(&app, "web: listen-status 503").await.as_deref(), Ok("v5"));
}

#[tokio::test(flavor = "multi_thread")]
async fn app_json_says_the_check_where_no_setting_does() {
    let server = Ground::new().server(None).await;
    let app = server.create("acorn").await;
    let checked = r#"{ "healthchecks": { "web": [
        { "type": "startup", "path": "/ready", "status": "200", "attempts": 5 }] } }"#;
    let refused = |path: &str, status: u16, rule: &str| {
        Err(format!("R10: web.1 was not ready within 2 seconds. It answered {status} to GET {path}; {rule}."))
    };
    assert_eq!(push(&server, &app, "web: listen", checked).await.as_deref(), Ok("v2"));
    let transcript = server.transcript(&app);
    assert!(
        transcript.contains(
            " !     app.json:2:77: healthchecks.web[0].attempts has no effect: there are `path` and `status`"
        ),
        "{transcript}"
    );
    let redirects = "web: listen-status 301";
    assert_eq!(push(&server, &app, redirects, checked).await, refused("/ready", 301, "only 200 counts as healthy"));
    // The same code, and what its people set comes first.
    set(&server, &app, None, Some("300-399")).await;
    assert_eq!(push(&server, &app, redirects, checked).await.as_deref(), Ok("v4"));
    set(&server, &app, Some("/health"), None).await;
    let broken = push(&server, &app, "web: listen-status 500", checked).await;
    assert_eq!(broken, refused("/health", 500, "a status below 500 counts as healthy"));
    // What is no check is none, and a file with problems only warns.
    set(&server, &app, None, None).await;
    let wrong = r#"{ "healthchecks": { "web": [{ "type": "startup", "path": "ready" }] } }"#;
    assert_eq!(push(&server, &app, "web: listen-status 502", wrong).await.as_deref(), Ok("v6"));
    assert!(server.transcript(&app).contains("app.json:1:58: healthchecks.web[0].path must be a path like /health"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_that_does_not_start_says_once_what_why_and_what_next() {
    let server = Ground::new().server(None).await;
    let app = server.create("acorn").await;
    // From the reason to the end, as the pusher reads it.
    let screen = async |procfile: &str| {
        server.push(&app, procfile).await.unwrap_err();
        let transcript = server.transcript(&app);
        let at = transcript.find(" !     ").unwrap_or_else(|| panic!("{transcript}"));
        transcript[at..].to_string()
    };
    assert_eq!(
        screen("web: exit 7").await,
        " !     H10: web.1 ended with status 7 before it was ready.
 !     It ran: exit 7
 !     It wrote nothing.
 !     Nothing serves acorn yet. Mend it, commit, and push again. All that it wrote: heroku logs -a acorn
"
    );
    assert_eq!(server.push(&app, "web: listen").await.as_deref(), Ok("v3"));
    assert_eq!(
        screen("web: sleep\nrelease: echo migrated").await,
        " !     R10: web.1 was not ready within 2 seconds. Nothing listens: the process has to listen on 0.0.0.0:$PORT.
 !     It ran: sleep
 !     It wrote nothing.
 !     acorn goes on with v3. Mend it, commit, and push again. All that it wrote: heroku logs -a acorn
 !     The release phase of acorn had run: its database may be ahead of its code.
"
    );
}
