//! What the platform writes of dynos to their app's log, in Heroku's words and order.

use shipway_domain::quantity::Quantity;
use shipway_engine::{Holder, RunOrder, ScaleUpdate, Settings, Which};
use shipway_runtime::{Exit, ExitCause, Runtime, Usage};
use shipway_store::{App, Dyno};
use shipway_testkit::{Ground, Server, settings, until};
use std::collections::BTreeMap;

const BEGINS: &str = "Starting process with command";
const UP: &str = "State changed from starting to up";

/// The lines of a dyno without the commands that are started.
fn said(server: &Server, app: &App, dyno: &str) -> Vec<String> {
    let lines = server.said_of(app, dyno);
    lines.into_iter().map(|line| if line.starts_with(BEGINS) { BEGINS.into() } else { line }).collect()
}

/// What was said of a dyno since the last time it was asked for.
struct Told<'a>(&'a Server, &'a App, &'a str, usize);

impl Told<'_> {
    /// Waits until as many lines came as are expected, and compares.
    async fn next(&mut self, expected: &[&str]) {
        let Self(server, app, dyno, told) = self;
        let enough = async || (said(server, app, dyno).len() >= *told + expected.len()).then_some(());
        until(&format!("{} lines of {dyno} after {told}: {expected:?}", expected.len()), enough).await;
        let all = said(server, app, dyno);
        assert_eq!(all[*told..], *expected, "of {dyno}");
        *told = all.len();
    }
}

async fn scale(server: &Server, app: &App, process_type: &str, quantity: u32) {
    let quantity = Some(Quantity::Exactly(quantity));
    let update = ScaleUpdate { process_type: process_type.into(), quantity, size: None };
    server.platform.scale(&server.caller, app, vec![update]).await.unwrap();
}

fn dyno(server: &Server, app: &App, name: &str) -> Dyno {
    let dynos = server.platform.store().read(|c| c.dynos(app.id)).unwrap();
    dynos.into_iter().find(|d| d.name() == name).unwrap()
}

/// A server that looks at dynos' memory each second, and waits one for who is to attach.
async fn quick_server(ground: &Ground) -> Server {
    let quick = Settings { attach_seconds: 1, memory_seconds: 1, ..settings(ground.home.path()) };
    ground.server_as(quick, None).await
}

fn order(command: &str, attach: Option<Holder>) -> RunOrder {
    let command = command.into();
    RunOrder { command, attach, env: BTreeMap::new(), size: None, process_type: None, terminal: None }
}

const STOPPED: [&str; 2] = ["Stopping all processes with SIGTERM", "Process exited with status 143"];

#[tokio::test(flavor = "multi_thread")]
async fn each_change_of_a_workers_state_is_said_once_and_in_order() {
    let server = Ground::new().server(None).await;
    let app = server.create("acorn").await;
    server.push(&app, "worker: sleep").await.unwrap();
    let mut told = Told(&server, &app, "worker.1", 0);
    scale(&server, &app, "worker", 1).await;
    told.next(&[BEGINS, UP]).await;

    let replaced = ["Restarting", "State changed from up to starting", STOPPED[0], STOPPED[1], BEGINS, UP];
    server.platform.restart(&server.caller, &app, Which::All).await.unwrap();
    told.next(&replaced).await;
    let config = BTreeMap::from([("COLOUR".to_string(), Some("red".to_string()))]);
    server.platform.set_config_vars(&server.caller, &app, config).await.unwrap();
    told.next(&replaced).await;
    server.push(&app, "worker: sleep;sleep").await.unwrap();
    told.next(&replaced).await;

    let exit = Exit { status: 1, cause: ExitCause::Exited };
    server.ground.runtime.end(dyno(&server, &app, "worker.1").id, exit);
    told.next(&[
        "Process exited with status 1",
        "State changed from up to crashed",
        "State changed from crashed to starting",
        BEGINS,
        UP,
    ])
    .await;
    server.platform.stop_dynos(&server.caller, &app, Which::Dyno("worker.1".into())).await.unwrap();
    told.next(&["State changed from up to down", STOPPED[0], STOPPED[1], BEGINS, UP]).await;
    scale(&server, &app, "worker", 0).await;
    told.next(&["State changed from up to down", STOPPED[0], STOPPED[1]]).await;
    // A release that no longer has the type takes its dynos away.
    scale(&server, &app, "worker", 1).await;
    told.next(&[BEGINS, UP]).await;
    server.push(&app, "clock: sleep").await.unwrap();
    told.next(&["State changed from up to down", STOPPED[0], STOPPED[1]]).await;
    server.quiet().await;
    told.next(&[]).await;
}

/// The old dyno serves until the new one is up: that it restarts is said when the new one begins, and once.
#[tokio::test(flavor = "multi_thread")]
async fn a_web_dyno_that_is_replaced_restarts_in_the_log_before_the_new_one_is_up() {
    let server = Ground::new().server(None).await;
    let app = server.create("acorn").await;
    server.push(&app, "web: listen").await.unwrap();
    let mut told = Told(&server, &app, "web.1", 0);
    told.next(&[BEGINS, UP]).await;
    let replaced = ["Restarting", "State changed from up to starting", BEGINS, UP, STOPPED[0], STOPPED[1]];
    server.push(&app, "web: listen-after 20ms").await.unwrap();
    told.next(&replaced).await;
    server.platform.restart(&server.caller, &app, Which::Dyno("web.1".into())).await.unwrap();
    told.next(&replaced).await;
    scale(&server, &app, "web", 0).await;
    told.next(&["State changed from up to down", STOPPED[0], STOPPED[1]]).await;
    server.quiet().await;
    told.next(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dyno_that_went_with_the_machine_was_up_and_starts() {
    let ground = Ground::new();
    let server = ground.server(None).await;
    let app = server.create("acorn").await;
    server.push(&app, "web: listen").await.unwrap();
    server.quiet().await;
    server.platform.stop().await;
    ground.runtime.remove(dyno(&server, &app, "web.1").id).await.unwrap();
    drop(server);
    let server = ground.server(None).await;
    // The line of a state comes a moment after the state.
    let mut told = Told(&server, &app, "web.1", 0);
    told.next(&[BEGINS, UP, "State changed from up to starting", BEGINS, UP]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r12_a_dyno_that_does_not_mind_sigterm_is_killed_by_name() {
    let server = Ground::new().server(None).await;
    let app = server.create("acorn").await;
    server.push(&app, "worker: ignore-term;echo deaf;sleep").await.unwrap();
    let deaf = async |id| until("it is deaf", async || server.ground.runtime.lines(id).pop()).await;
    let killed = [
        "Stopping all processes with SIGTERM",
        "Error R12 (Exit timeout) -> At least one process failed to exit within 1 seconds of SIGTERM",
        "Stopping remaining processes with SIGKILL",
        "Process exited with status 137",
    ];
    scale(&server, &app, "worker", 1).await;
    let mut told = Told(&server, &app, "worker.1", 0);
    told.next(&[BEGINS, UP]).await;
    deaf(dyno(&server, &app, "worker.1").id).await;
    scale(&server, &app, "worker", 0).await;
    told.next(&[&["State changed from up to down"], &killed[..]].concat()).await;

    let command = "ignore-term;echo deaf;sleep";
    let (one_off, _) = server.platform.run(&server.caller, &app, order(command, None)).await.unwrap();
    deaf(one_off.id).await;
    server.platform.stop_dynos(&server.caller, &app, Which::Dyno(one_off.name())).await.unwrap();
    let expected = [&[BEGINS, UP], &killed[..], &["State changed from up to complete"]].concat();
    Told(&server, &app, &one_off.name(), 0).next(&expected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r13_a_one_off_that_nobody_attaches_to_ends() {
    let ground = Ground::new();
    let server = quick_server(&ground).await;
    let app = server.create("acorn").await;
    server.push(&app, "web: listen").await.unwrap();
    let token = server.platform.session_for(server.caller.actor.account, "laptop").await.unwrap();
    let holder = Holder::of(server.platform.authenticate(&token).unwrap().1, &token);
    let (one_off, secret) = server.platform.run(&server.caller, &app, order("sleep", Some(holder))).await.unwrap();
    let expected = [
        BEGINS,
        UP,
        "Error R13 (Attach error) -> Failed to attach to process",
        "Process exited with status 143",
        "State changed from up to complete",
    ];
    Told(&server, &app, &one_off.name(), 0).next(&expected).await;
    let late = server.platform.attach(&secret.unwrap()).await.err().unwrap();
    assert_eq!(late.kind, shipway_engine::Kind::NotFound);
}

/// Everything that runs is looked at: dynos of the formation, one-offs, and commands of a release.
#[tokio::test(flavor = "multi_thread")]
async fn r14_and_r15_name_what_takes_too_much_memory() {
    let ground = Ground::new();
    let server = quick_server(&ground).await;
    let app = server.create("acorn").await;
    server.push(&app, "web: listen").await.unwrap();
    let much = Usage { memory_bytes: 600 * 1024 * 1024, cpu_us: 0, pids: 1 };
    let quota = ["Process running mem=600M(117.2%)", "Error R14 (Memory quota exceeded)"];
    let vast =
        ["Error R15 (Memory quota vastly exceeded)", "Stopping process with SIGKILL", "Process exited with status 137"];
    let broken = Exit { status: 137, cause: ExitCause::Memory };
    let holds = async |name: &str, expected: &[&str]| {
        until(&format!("{expected:?} of {name}"), async || {
            let all = said(&server, &app, name);
            all.windows(expected.len()).any(|lines| lines == expected).then_some(())
        })
        .await;
    };
    let (one_off, _) = server.platform.run(&server.caller, &app, order("sleep", None)).await.unwrap();
    for (id, name) in [(dyno(&server, &app, "web.1").id, "web.1".to_string()), (one_off.id, one_off.name())] {
        ground.runtime.set_usage(id, much);
        holds(&name, &quota).await;
        ground.runtime.end(id, broken);
        holds(&name, &vast).await;
    }
    assert_eq!(server.settled(&app).await, "web.1 up");

    let commit = ground.repositories.commit("web: listen\nrelease: echo migrating;sleep");
    let (_, operation) = server.platform.deploy(&server.caller, &app, commit).await.unwrap();
    let is_phase = |o: &shipway_runtime::Observation| o.name.starts_with("release");
    let phase = until("it runs", async || ground.runtime.list().await.unwrap().into_iter().find(is_phase)).await;
    ground.runtime.set_usage(phase.dyno, much);
    holds(&phase.name, &quota).await;
    ground.runtime.end(phase.dyno, broken);
    let failed = server.outcome(operation).await.unwrap_err();
    assert_eq!(
        failed,
        "Release command failed: `echo migrating;sleep` was killed: it used more than 1024 MiB (R15). Its last line: \
         migrating"
    );
    holds(&phase.name, &vast).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r10_a_web_dyno_that_listens_elsewhere_is_told_where() {
    let server = Ground::new().server(None).await;
    let app = server.create("acorn").await;
    let failed = server.push(&app, "web: listen-elsewhere").await.unwrap_err();
    let told = failed.strip_prefix("R10: web.1 was not ready within 2 seconds. It listens on 0.0.0.0:");
    let port = told.and_then(|rest| rest.strip_suffix(", which is not $PORT: read the port from the environment."));
    assert!(port.is_some_and(|port| port.parse::<u16>().is_ok()), "{failed}");
    let lines = said(&server, &app, "web.1");
    assert_eq!(
        lines,
        [
            BEGINS,
            "Error R10 (Boot timeout) -> Web process failed to bind to $PORT within 2 seconds of launch",
            "Stopping process with SIGKILL",
            "State changed from starting to crashed",
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_that_fails_after_its_release_phase_says_where_the_database_is() {
    let server = Ground::new().server(None).await;
    let app = server.create("acorn").await;
    server.push(&app, "web: listen").await.unwrap();
    let failed = server.push(&app, "web: exit 3\nrelease: echo migrated").await.unwrap_err();
    assert_eq!(
        failed,
        "H10: web.1 ended with status 3 before it was ready. The release phase of acorn had run: its database may be \
         ahead of its code."
    );
    assert_eq!(server.served(&app).await, "v2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_line_of_a_release_phase_is_cut_between_characters_and_marked() {
    let server = Ground::new().server(None).await;
    let app = server.create("acorn").await;
    let long = "ä".repeat(12_000);
    server.push(&app, &format!("web: listen\nrelease: echo short;echo {long};echo last")).await.unwrap();
    let transcript = server.transcript(&app);
    let written: Vec<&str> =
        transcript.lines().skip_while(|line| *line != "       short").take(5).map(str::trim).collect();
    let [_, first, second, third, last] = written[..] else { panic!("{transcript}") };
    assert!(first.len() <= 10_000 && second.len() <= 10_000, "{} and {}", first.len(), second.len());
    let pieces = [
        first.strip_suffix(" …"),
        second.strip_prefix("… ").and_then(|piece| piece.strip_suffix(" …")),
        third.strip_prefix("… "),
    ];
    assert_eq!(pieces.map(|piece| piece.expect("a marked piece")).concat(), long);
    assert_eq!(last, "last");
}
