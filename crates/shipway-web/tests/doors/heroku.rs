//! The Heroku CLI itself: `SHIPWAY_TEST_HEROKU` is its program.

use crate::stage::{Stage, run, until};
use std::process::{Command, Stdio};

/// The CLI with everything that it sends pointed here.
fn heroku(stage: &Stage, arguments: &[&str]) -> Option<Command> {
    let Some(program) = std::env::var_os("SHIPWAY_TEST_HEROKU") else {
        eprintln!("skipped: SHIPWAY_TEST_HEROKU is not set");
        return None;
    };
    let url = stage.url("");
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", stage.home.path())
        .env("HEROKU_HOST", &url)
        .env("HEROKU_API_KEY", &stage.token)
        .env("HEROKU_PARTICLEBOARD_URL", &url)
        .env("NODE_EXTRA_CA_CERTS", stage.home.path().join("ca.pem"))
        .env("DISABLE_TELEMETRY", "true")
        .env("HEROKU_DISABLE_AUTOUPDATE", "1")
        .env("HEROKU_SKIP_NEW_VERSION_CHECK", "true")
        .env("HEROKU_NOTIFICATIONS", "0")
        .env("NO_COLOR", "1");
    Some(command)
}

async fn deployed(stage: &Stage) {
    stage.create("shop").await;
    let checkout = stage.checkout();
    checkout.commit("web: listen\n");
    let (pushed, screen) = checkout.run(&["push", &checkout.remote("shop"), "main"]).await;
    assert!(pushed, "{screen}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_and_their_tail() {
    let stage = Stage::open().await;
    let Some(logs) = heroku(&stage, &["logs", "-a", "shop"]) else { return };
    deployed(&stage).await;
    let output = run(logs).await;
    let screen = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(screen.contains("app[api]: Build started by user"), "{screen}");
    let shown = stage.home.path().join("tail");
    let mut tail = heroku(&stage, &["logs", "--tail", "--source", "heroku", "-a", "shop"]).unwrap();
    let mut tail = tail.stdout(std::fs::File::create(&shown).unwrap()).stderr(Stdio::null()).spawn().unwrap();
    let says = async |expected: &str| {
        until(expected, async || std::fs::read_to_string(&shown).unwrap().contains(expected).then_some(())).await;
    };
    says("heroku[web.1]: State changed from starting to up").await;
    let restart = heroku(&stage, &["ps:restart", "-a", "shop"]).unwrap();
    assert!(run(restart).await.status.success());
    says("heroku[web.1]: Stopping").await;
    tail.kill().unwrap();
    tail.wait().unwrap();
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn run_shows_what_the_dyno_says() {
    let stage = Stage::open().await;
    let Some(hello) = heroku(&stage, &["run", "-a", "shop", "echo hello from here"]) else { return };
    deployed(&stage).await;
    let output = run(hello).await;
    let screen = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && screen.contains("hello from here"), "{output:?}");
    // Input through a pipe ends with it.
    let mut cat = heroku(&stage, &["run", "--no-tty", "-a", "shop", "cat"]).unwrap();
    cat.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = tokio::task::spawn_blocking(move || {
        let mut child = cat.spawn().unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"typed in\n").unwrap();
        child.wait_with_output().unwrap()
    })
    .await
    .unwrap();
    let screen = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && screen.contains("typed in"), "{output:?}");
    stage.end().await;
}
