//! One suite for every driver, and the fake. It asks a driver's [`Capabilities`], never its name.
//!
//! A driver's test implements [`Bench`] and calls [`run`]. Each case starts dynos of its own, fails by panicking with
//! the case's name in the text, and removes what it started.

use crate::{Capabilities, DynoPlan, Exit, ExitCause, Io, MemoryLimit, Observation, Runtime, RuntimeError, Stream};
use async_trait::async_trait;
use shipway_domain::DynoId;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long any one thing may take before the suite gives up on it.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the suite needs to know about the driver that it tests.
#[async_trait]
pub trait Bench: Send + Sync {
    /// The driver.
    fn runtime(&self) -> Arc<dyn Runtime>;
    /// The same dynos seen by a driver of a newly started server.
    async fn restarted(&self) -> Arc<dyn Runtime>;
    /// A plan with a fresh id, no command, no port, [`Io::Log`], a small size and one second of grace.
    fn plan(&self) -> DynoPlan;
    /// How to say things in the driver's language.
    fn words(&self) -> Words;
    /// The lines of a dyno in its app's log so far, without stamps.
    async fn log(&self, plan: &DynoPlan) -> Vec<String>;
}

/// Commands in the driver's language.
#[derive(Debug, Clone, Copy)]
pub struct Words {
    /// Listens on `$PORT` and answers HTTP requests with 200, for ever.
    pub listen: &'static str,
    /// Writes `one`, `two`, `three` on lines of their own and exits with 0.
    pub lines: &'static str,
    /// Exits with 3.
    pub exit_3: &'static str,
    /// Waits for ever and dies of SIGTERM.
    pub sleep: &'static str,
    /// Writes `deaf` when it no longer minds SIGTERM, then waits for ever.
    pub deaf: &'static str,
    /// Copies its input to its output until the end of input, then exits with 0.
    pub cat: &'static str,
    /// Writes `out` and `err` by opening `/dev/stdout` and `/dev/stderr`, and exits with 0, where the driver has those.
    pub by_name: Option<&'static str>,
    /// Writes `$GREETING` and exits with 0.
    pub greeting: &'static str,
    /// A program that is not there: exits with 127.
    pub missing: &'static str,
    /// Writes the size of its terminal as `<lines> <columns>`, then the same again after a line of input.
    pub terminal: Option<&'static str>,
    /// Writes a line of 12,000 `ä` and exits with 0, where the driver bounds the length of lines.
    pub long_line: Option<&'static str>,
    /// Uses memory without end.
    pub memory_hog: Option<&'static str>,
    /// Starts processes without end or until it cannot, then writes `bounded` and exits with 0.
    pub fork_bomb: Option<&'static str>,
    /// Fills its disk until it cannot, then writes `full` and exits with 0.
    pub disk_filler: Option<&'static str>,
    /// Starts a child that is no child of the first process any more, then waits; the child writes `child gone` on
    /// SIGTERM.
    pub grandchild: Option<&'static str>,
}

/// Runs every case, one after another.
pub async fn run(bench: &dyn Bench) {
    let runtime = bench.runtime();
    let can = runtime.capabilities();
    unknown_dynos_are_named(bench).await;
    a_dyno_listens_and_is_observed(bench).await;
    starting_twice_starts_one(bench).await;
    an_exit_is_kept_until_removed(bench).await;
    a_missing_program_is_127(bench).await;
    the_environment_arrives(bench).await;
    output_reaches_the_log_in_order(bench).await;
    output_has_a_name(bench, can).await;
    a_long_line_is_cut_and_marked(bench).await;
    stop_is_gentle_first(bench).await;
    stop_becomes_hard_after_the_grace(bench).await;
    stop_reaches_every_process(bench).await;
    a_time_limit_ends_a_dyno(bench).await;
    a_running_dyno_can_be_removed(bench).await;
    a_pipe_carries_both_ways(bench).await;
    output_waits_for_the_first_reader(bench).await;
    one_reader_at_a_time(bench).await;
    a_new_server_finds_the_dynos(bench).await;
    many_start_at_once(bench).await;
    if can.pty {
        a_terminal_has_a_size(bench).await;
    }
    limits_hold(bench, can).await;
}

fn with(bench: &dyn Bench, command: &str, change: impl FnOnce(&mut DynoPlan)) -> DynoPlan {
    let mut plan = bench.plan();
    plan.command = command.into();
    change(&mut plan);
    plan
}

async fn started(bench: &dyn Bench, case: &str, plan: &DynoPlan) -> Observation {
    bench.runtime().start(plan).await.unwrap_or_else(|e| panic!("{case}: start: {}", chain(&e)))
}

async fn ended(bench: &dyn Bench, case: &str, dyno: DynoId) -> Exit {
    match tokio::time::timeout(PATIENCE, bench.runtime().wait(dyno)).await {
        Ok(exit) => exit.unwrap_or_else(|e| panic!("{case}: wait: {}", chain(&e))),
        Err(_) => panic!("{case}: the dyno did not end"),
    }
}

async fn removed(bench: &dyn Bench, case: &str, dyno: DynoId) {
    bench.runtime().remove(dyno).await.unwrap_or_else(|e| panic!("{case}: remove: {}", chain(&e)));
}

/// Waits until `seen` holds for the lines in the log.
async fn logged(bench: &dyn Bench, case: &str, plan: &DynoPlan, seen: impl Fn(&[String]) -> bool) -> Vec<String> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let lines = bench.log(plan).await;
        if seen(&lines) {
            return lines;
        }
        assert!(tokio::time::Instant::now() < deadline, "{case}: the log stayed at {lines:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn read_all(case: &str, stream: &mut Box<dyn Stream>) -> String {
    let mut text = Vec::new();
    match tokio::time::timeout(PATIENCE, stream.read_to_end(&mut text)).await {
        Ok(read) => read.unwrap_or_else(|e| panic!("{case}: read: {e}")),
        Err(_) => panic!("{case}: the stream did not end; so far {:?}", String::from_utf8_lossy(&text)),
    };
    String::from_utf8_lossy(&text).into_owned()
}

async fn read_until(case: &str, stream: &mut Box<dyn Stream>, wanted: &str) -> String {
    let mut text = String::new();
    let mut buffer = [0; 4096];
    while !text.contains(wanted) {
        match tokio::time::timeout(PATIENCE, stream.read(&mut buffer)).await {
            Ok(Ok(n)) if n > 0 => text.push_str(&String::from_utf8_lossy(&buffer[..n])),
            other => panic!("{case}: {wanted:?} did not come, but {text:?} and {other:?}"),
        }
    }
    text
}

/// The error with its causes, for the reader of a failed case.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

const EXITED: fn(i32) -> Exit = |status| Exit { status, cause: ExitCause::Exited };

async fn unknown_dynos_are_named(bench: &dyn Bench) {
    let case = "an unknown dyno is named in the error, and removing it is no error";
    let runtime = bench.runtime();
    let dyno = bench.plan().dyno;
    let unknown = |error: RuntimeError| assert!(matches!(error, RuntimeError::Unknown(d) if d == dyno), "{case}");
    unknown(runtime.observe(dyno).await.expect_err(case));
    unknown(runtime.wait(dyno).await.expect_err(case));
    unknown(runtime.stop(dyno).await.expect_err(case));
    unknown(runtime.usage(dyno).await.expect_err(case));
    unknown(runtime.listeners(dyno).await.expect_err(case));
    unknown(runtime.resize(dyno, 80, 24).await.expect_err(case));
    unknown(runtime.attach(dyno).await.err().expect(case));
    removed(bench, case, dyno).await;
}

async fn a_dyno_listens_and_is_observed(bench: &dyn Bench) {
    let case = "a dyno listens on its port and is observed";
    let runtime = bench.runtime();
    let plan = with(bench, bench.words().listen, |p| p.port = true);
    let seen = started(bench, case, &plan).await;
    assert_eq!((seen.dyno, seen.app, &seen.name, seen.exit), (plan.dyno, plan.app, &plan.name, None), "{case}");
    let [endpoint] = seen.endpoints[..] else { panic!("{case}: endpoints {:?}", seen.endpoints) };
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let mut connection = loop {
        match TcpStream::connect(endpoint).await {
            Ok(connection) => break connection,
            Err(e) if tokio::time::Instant::now() > deadline => panic!("{case}: {endpoint}: {e}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(2)).await,
        }
    };
    connection.write_all(b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").await.expect(case);
    let mut answer = [0; 12];
    connection.read_exact(&mut answer).await.unwrap_or_else(|e| panic!("{case}: {e}"));
    assert_eq!(&answer, b"HTTP/1.1 200", "{case}");
    assert_eq!(runtime.observe(plan.dyno).await.expect(case), seen, "{case}");
    assert!(runtime.list().await.expect(case).contains(&seen), "{case}");
    let listeners = runtime.listeners(plan.dyno).await.expect(case);
    assert!(listeners.iter().any(|l| l.port() == endpoint.port()), "{case}: listeners {listeners:?}");
    let usage = runtime.usage(plan.dyno).await.expect(case);
    assert!(usage.memory_bytes > 0 && usage.pids > 0, "{case}: {usage:?}");
    removed(bench, case, plan.dyno).await;
    assert!(TcpStream::connect(endpoint).await.is_err(), "{case}: it still listens after its removal");
}

async fn starting_twice_starts_one(bench: &dyn Bench) {
    let case = "starting a dyno twice starts one";
    let plan = with(bench, bench.words().sleep, |_| ());
    let first = started(bench, case, &plan).await;
    assert_eq!(started(bench, case, &plan).await, first, "{case}");
    let all = bench.runtime().list().await.expect(case);
    assert_eq!(all.iter().filter(|o| o.dyno == plan.dyno).count(), 1, "{case}");
    removed(bench, case, plan.dyno).await;
}

async fn an_exit_is_kept_until_removed(bench: &dyn Bench) {
    let case = "an exit is kept until the dyno is removed";
    let runtime = bench.runtime();
    let plan = with(bench, bench.words().exit_3, |_| ());
    started(bench, case, &plan).await;
    assert_eq!(ended(bench, case, plan.dyno).await, EXITED(3), "{case}");
    assert_eq!(ended(bench, case, plan.dyno).await, EXITED(3), "{case}: a second time");
    assert_eq!(runtime.observe(plan.dyno).await.expect(case).exit, Some(EXITED(3)), "{case}");
    assert_eq!(started(bench, case, &plan).await.exit, Some(EXITED(3)), "{case}: an ended dyno is not started again");
    runtime.stop(plan.dyno).await.expect(case);
    runtime.usage(plan.dyno).await.expect(case);
    removed(bench, case, plan.dyno).await;
    removed(bench, case, plan.dyno).await;
    assert!(matches!(runtime.observe(plan.dyno).await, Err(RuntimeError::Unknown(_))), "{case}");
}

async fn a_missing_program_is_127(bench: &dyn Bench) {
    let case = "a missing program is 127";
    let plan = with(bench, bench.words().missing, |_| ());
    started(bench, case, &plan).await;
    assert_eq!(ended(bench, case, plan.dyno).await, EXITED(127), "{case}");
    removed(bench, case, plan.dyno).await;
}

async fn the_environment_arrives(bench: &dyn Bench) {
    let case = "the environment arrives byte for byte";
    let greeting = "päläöng $(id) `id` 'q' \"q\" \\ ;x";
    let plan = with(bench, bench.words().greeting, |p| {
        p.env.insert("GREETING".into(), greeting.into());
    });
    started(bench, case, &plan).await;
    assert_eq!(ended(bench, case, plan.dyno).await, EXITED(0), "{case}");
    let lines = logged(bench, case, &plan, |lines| !lines.is_empty()).await;
    assert_eq!(lines, [greeting], "{case}");
    removed(bench, case, plan.dyno).await;
}

async fn output_reaches_the_log_in_order(bench: &dyn Bench) {
    let case = "output reaches the log in order";
    let plan = with(bench, bench.words().lines, |_| ());
    started(bench, case, &plan).await;
    ended(bench, case, plan.dyno).await;
    assert_eq!(bench.log(&plan).await, ["one", "two", "three"], "{case}: complete when the exit is known");
    removed(bench, case, plan.dyno).await;
}

async fn output_has_a_name(bench: &dyn Bench, can: Capabilities) {
    let case = "standard output and error can be opened by name";
    let Some(command) = bench.words().by_name else { return };
    let plan = with(bench, command, |_| ());
    started(bench, case, &plan).await;
    let exit = ended(bench, case, plan.dyno).await;
    let mut lines = bench.log(&plan).await;
    // Two pipes: which is read first is chance.
    lines.sort();
    assert_eq!((lines, exit), (vec!["err".to_owned(), "out".to_owned()], EXITED(0)), "{case}");
    removed(bench, case, plan.dyno).await;
    let terminal = can.pty.then_some(Io::Pty { columns: 80, lines: 24 });
    for io in [Some(Io::Pipe), terminal].into_iter().flatten() {
        let plan = with(bench, command, |p| p.io = io);
        started(bench, case, &plan).await;
        let mut stream = bench.runtime().attach(plan.dyno).await.unwrap_or_else(|e| panic!("{case}: {}", chain(&e)));
        let text = read_all(case, &mut stream).await;
        assert_eq!(text.lines().collect::<Vec<_>>(), ["out", "err"], "{case}: {io:?}");
        drop(stream);
        assert_eq!(ended(bench, case, plan.dyno).await, EXITED(0), "{case}: {io:?}");
        removed(bench, case, plan.dyno).await;
    }
}

async fn a_long_line_is_cut_and_marked(bench: &dyn Bench) {
    let case = "a line longer than 10,000 bytes is cut between characters, and marked";
    let Some(command) = bench.words().long_line else { return };
    let plan = with(bench, command, |_| ());
    started(bench, case, &plan).await;
    assert_eq!(ended(bench, case, plan.dyno).await, EXITED(0), "{case}");
    let lines = bench.log(&plan).await;
    assert!(lines.iter().all(|line| line.len() <= 10_000), "{case}: {:?}", lines.iter().map(String::len));
    let [first, second, third] = &lines[..] else { panic!("{case}: {} lines", lines.len()) };
    let pieces = [
        first.strip_suffix(" …"),
        second.strip_prefix("… ").and_then(|piece| piece.strip_suffix(" …")),
        third.strip_prefix("… "),
    ];
    let whole: String = pieces.into_iter().map(|piece| piece.expect(case)).collect();
    assert_eq!(whole, "ä".repeat(12_000), "{case}");
    removed(bench, case, plan.dyno).await;
}

async fn stop_is_gentle_first(bench: &dyn Bench) {
    let case = "stop is gentle first";
    let plan = with(bench, bench.words().sleep, |p| p.grace_seconds = 30);
    started(bench, case, &plan).await;
    bench.runtime().stop(plan.dyno).await.expect(case);
    bench.runtime().stop(plan.dyno).await.expect(case);
    assert_eq!(ended(bench, case, plan.dyno).await, Exit { status: 143, cause: ExitCause::Stopped }, "{case}");
    removed(bench, case, plan.dyno).await;
}

async fn stop_becomes_hard_after_the_grace(bench: &dyn Bench) {
    let case = "stop becomes hard after the grace";
    let plan = with(bench, bench.words().deaf, |p| p.grace_seconds = 1);
    started(bench, case, &plan).await;
    logged(bench, case, &plan, |lines| lines.iter().any(|l| l == "deaf")).await;
    let before = tokio::time::Instant::now();
    bench.runtime().stop(plan.dyno).await.expect(case);
    assert_eq!(ended(bench, case, plan.dyno).await, Exit { status: 137, cause: ExitCause::Killed }, "{case}");
    assert!(before.elapsed() >= Duration::from_millis(950), "{case}: after {:?}", before.elapsed());
    removed(bench, case, plan.dyno).await;
}

async fn stop_reaches_every_process(bench: &dyn Bench) {
    let case = "SIGTERM reaches every process, not the first alone";
    let Some(command) = bench.words().grandchild else { return };
    let plan = with(bench, command, |p| p.grace_seconds = 5);
    started(bench, case, &plan).await;
    logged(bench, case, &plan, |lines| lines.iter().any(|l| l == "ready")).await;
    bench.runtime().stop(plan.dyno).await.expect(case);
    assert_eq!(ended(bench, case, plan.dyno).await.cause, ExitCause::Stopped, "{case}");
    let lines = bench.log(&plan).await;
    assert!(lines.iter().any(|l| l == "child gone"), "{case}: {lines:?}");
    removed(bench, case, plan.dyno).await;
}

async fn a_time_limit_ends_a_dyno(bench: &dyn Bench) {
    let case = "a time limit ends a dyno";
    let plan = with(bench, bench.words().sleep, |p| p.time_limit_seconds = Some(1));
    started(bench, case, &plan).await;
    assert_eq!(ended(bench, case, plan.dyno).await, Exit { status: 137, cause: ExitCause::Time }, "{case}");
    removed(bench, case, plan.dyno).await;
}

async fn a_running_dyno_can_be_removed(bench: &dyn Bench) {
    let case = "a running dyno can be removed, even one that does not mind SIGTERM";
    let plan = with(bench, bench.words().deaf, |p| p.grace_seconds = 300);
    started(bench, case, &plan).await;
    removed(bench, case, plan.dyno).await;
    assert!(matches!(bench.runtime().observe(plan.dyno).await, Err(RuntimeError::Unknown(_))), "{case}");
}

async fn a_pipe_carries_both_ways(bench: &dyn Bench) {
    let case = "a pipe carries both ways until the end of input";
    let plan = with(bench, bench.words().cat, |p| p.io = Io::Pipe);
    started(bench, case, &plan).await;
    let mut stream = bench.runtime().attach(plan.dyno).await.unwrap_or_else(|e| panic!("{case}: {}", chain(&e)));
    // More than any buffer on the way holds, so both directions must flow at once.
    let sent = "0123456789abcde\n".repeat(64 * 1024);
    let (mut reader, mut writer) = tokio::io::split(stream);
    let writing = async {
        writer.write_all(sent.as_bytes()).await.expect(case);
        writer.shutdown().await.expect(case);
    };
    let mut got = Vec::new();
    let both = async { tokio::join!(writing, reader.read_to_end(&mut got)) };
    tokio::time::timeout(PATIENCE, both).await.expect(case).1.expect(case);
    assert!(got == sent.as_bytes(), "{case}: {} of {} bytes", got.len(), sent.len());
    stream = reader.unsplit(writer);
    drop(stream);
    assert_eq!(ended(bench, case, plan.dyno).await, EXITED(0), "{case}");
    removed(bench, case, plan.dyno).await;
}

async fn output_waits_for_the_first_reader(bench: &dyn Bench) {
    let case = "output waits for the first reader, even after the exit";
    let plan = with(bench, bench.words().lines, |p| p.io = Io::Pipe);
    started(bench, case, &plan).await;
    assert_eq!(ended(bench, case, plan.dyno).await, EXITED(0), "{case}");
    let mut stream = bench.runtime().attach(plan.dyno).await.unwrap_or_else(|e| panic!("{case}: {}", chain(&e)));
    assert_eq!(read_all(case, &mut stream).await.trim_end(), "one\ntwo\nthree", "{case}");
    drop(stream);
    // As a server does that was killed after it had read everything.
    let mut again = bench.runtime().attach(plan.dyno).await.unwrap_or_else(|e| panic!("{case}: {}", chain(&e)));
    assert_eq!(read_all(case, &mut again).await, "", "{case}: a second reader finds the end");
    removed(bench, case, plan.dyno).await;
}

async fn one_reader_at_a_time(bench: &dyn Bench) {
    let case = "one reader at a time";
    let runtime = bench.runtime();
    let plan = with(bench, bench.words().cat, |p| p.io = Io::Pipe);
    started(bench, case, &plan).await;
    let first = runtime.attach(plan.dyno).await.unwrap_or_else(|e| panic!("{case}: {}", chain(&e)));
    assert!(runtime.attach(plan.dyno).await.is_err(), "{case}");
    drop(first);
    removed(bench, case, plan.dyno).await;
    let plan = with(bench, bench.words().sleep, |_| ());
    started(bench, case, &plan).await;
    assert!(runtime.attach(plan.dyno).await.is_err(), "{case}: a dyno that writes to the log has no stream");
    removed(bench, case, plan.dyno).await;
}

async fn a_new_server_finds_the_dynos(bench: &dyn Bench) {
    let case = "a new server finds the dynos";
    let running = with(bench, bench.words().sleep, |_| ());
    let done = with(bench, bench.words().exit_3, |_| ());
    let before = started(bench, case, &running).await;
    started(bench, case, &done).await;
    ended(bench, case, done.dyno).await;
    let runtime = bench.restarted().await;
    assert_eq!(runtime.observe(running.dyno).await.expect(case), before, "{case}");
    assert_eq!(runtime.observe(done.dyno).await.expect(case).exit, Some(EXITED(3)), "{case}");
    runtime.stop(running.dyno).await.expect(case);
    let exit = tokio::time::timeout(PATIENCE, runtime.wait(running.dyno)).await.expect(case).expect(case);
    assert_eq!(exit.cause, ExitCause::Stopped, "{case}");
    for dyno in [running.dyno, done.dyno] {
        runtime.remove(dyno).await.expect(case);
    }
}

async fn many_start_at_once(bench: &dyn Bench) {
    let case = "many start at once, each with an endpoint of its own";
    let plans: Vec<_> = (0..8).map(|_| with(bench, bench.words().sleep, |p| p.port = true)).collect();
    let runtime = bench.runtime();
    let mut starting = tokio::task::JoinSet::new();
    for plan in plans.clone() {
        let runtime = runtime.clone();
        starting.spawn(async move { runtime.start(&plan).await });
    }
    let mut endpoints = std::collections::BTreeSet::new();
    while let Some(started) = starting.join_next().await {
        let seen = started.expect(case).unwrap_or_else(|e| panic!("{case}: {}", chain(&e)));
        endpoints.extend(seen.endpoints);
    }
    assert_eq!(endpoints.len(), plans.len(), "{case}: {endpoints:?}");
    for plan in plans {
        removed(bench, case, plan.dyno).await;
    }
}

async fn a_terminal_has_a_size(bench: &dyn Bench) {
    let case = "a terminal has a size, and it changes";
    let Some(command) = bench.words().terminal else { return };
    let plan = with(bench, command, |p| p.io = Io::Pty { columns: 91, lines: 17 });
    started(bench, case, &plan).await;
    let mut stream = bench.runtime().attach(plan.dyno).await.unwrap_or_else(|e| panic!("{case}: {}", chain(&e)));
    read_until(case, &mut stream, "17 91").await;
    bench.runtime().resize(plan.dyno, 120, 40).await.expect(case);
    stream.write_all(b"\n").await.expect(case);
    read_until(case, &mut stream, "40 120").await;
    assert_eq!(ended(bench, case, plan.dyno).await, EXITED(0), "{case}");
    removed(bench, case, plan.dyno).await;
}

/// Each limit that the driver says it keeps is broken once; a dyno of the same app started afterwards is well.
async fn limits_hold(bench: &dyn Bench, can: Capabilities) {
    let words = bench.words();
    if let (MemoryLimit::Hard | MemoryLimit::Watched, Some(command)) = (can.memory, words.memory_hog) {
        let case = "a memory hog is killed and named";
        let plan = with(bench, command, |_| ());
        started(bench, case, &plan).await;
        assert_eq!(ended(bench, case, plan.dyno).await, Exit { status: 137, cause: ExitCause::Memory }, "{case}");
        removed(bench, case, plan.dyno).await;
        a_fresh_dyno_is_well(bench, case).await;
    }
    let bounded = |case: &'static str, command: &'static str, word: &'static str| async move {
        let plan = with(bench, command, |_| ());
        started(bench, case, &plan).await;
        logged(bench, case, &plan, |lines| lines.iter().any(|l| l == word)).await;
        a_fresh_dyno_is_well(bench, case).await;
        removed(bench, case, plan.dyno).await;
        a_fresh_dyno_is_well(bench, case).await;
    };
    if let (true, Some(command)) = (can.pids, words.fork_bomb) {
        bounded("a fork bomb is bounded", command, "bounded").await;
    }
    if let (true, Some(command)) = (can.disk, words.disk_filler) {
        bounded("a disk filler fills its own disk only", command, "full").await;
    }
}

async fn a_fresh_dyno_is_well(bench: &dyn Bench, after: &str) {
    let plan = with(bench, bench.words().lines, |_| ());
    started(bench, after, &plan).await;
    assert_eq!(ended(bench, after, plan.dyno).await, EXITED(0), "the next dyno, after: {after}");
    assert_eq!(bench.log(&plan).await, ["one", "two", "three"], "the next dyno, after: {after}");
    removed(bench, after, plan.dyno).await;
}
