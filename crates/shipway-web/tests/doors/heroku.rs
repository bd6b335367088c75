//! The Heroku CLI itself: `SHIPWAY_TEST_HEROKU` is its program.

use crate::stage::{Stage, run};
use shipway_testkit::until;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

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

/// Passes connections on to `server`, but cuts off the first one that creates an app when its answer comes.
fn cutting_proxy(server: SocketAddr) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let creations = Arc::new(AtomicUsize::new(0));
    let counted = creations.clone();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let counted = counted.clone();
            std::thread::spawn(move || pass_on(client, server, &counted));
        }
    });
    (address, creations)
}

fn pass_on(mut client: TcpStream, server: SocketAddr, creations: &AtomicUsize) -> Option<()> {
    let mut server = TcpStream::connect(server).ok()?;
    let (mut to_client, mut from_server) = (client.try_clone().ok()?, server.try_clone().ok()?);
    let mut bytes = [0; 16 * 1024];
    let read = client.read(&mut bytes).ok()?;
    let cut = bytes.starts_with(b"POST /apps ") && creations.fetch_add(1, Ordering::SeqCst) == 0;
    server.write_all(&bytes[..read]).ok()?;
    if cut {
        // Until the answer comes; then the connection ends without it.
        from_server.peek(&mut bytes).ok()?;
        return client.shutdown(Shutdown::Both).ok();
    }
    std::thread::spawn(move || std::io::copy(&mut from_server, &mut to_client));
    std::io::copy(&mut client, &mut server).ok().map(|_| ())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_that_is_created_through_a_breaking_connection_is_one_app() {
    let stage = Stage::open().await;
    let Some(mut create) = heroku(&stage, &["apps:create"]) else { return };
    let (proxy, creations) = cutting_proxy(stage.address);
    create.env("HEROKU_HOST", format!("http://{proxy}"));
    let output = run(create).await;
    assert!(output.status.success(), "{output:?}");
    assert_eq!(creations.load(Ordering::SeqCst), 2, "the CLI asked twice");
    let apps = stage.platform.store().read(|c| c.apps()).unwrap();
    assert_eq!(apps.len(), 1, "{apps:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains(apps[0].name.as_str()), "{output:?}");
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
