//! One task per live dyno: it starts it, sees it become ready, watches it, and sees it out.
//!
//! The row in the store says what the dyno is to be; whoever changes a row pokes the task, which looks again. After a
//! restart of the server the tasks begin from the rows and find the processes by their ids.

use crate::{Event, Kind, Platform, Result};
use jiff::SignedDuration;
use shipway_domain::DynoId;
use shipway_domain::health::HealthCheck;
use shipway_domain::lifecycle::DynoState;
use shipway_runtime::{Exit, ExitCause, Io};
use shipway_store::Dyno;
use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;

/// Why a dyno did not become ready, for the person who pushed it.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    /// Heroku's code: `R10`, `H10`.
    pub code: &'static str,
    /// What happened and its likely cause, in sentences.
    pub text: String,
    /// Whether it was up and was ended from outside: no crash of its own, so none that adds to its back-off.
    pub lost: bool,
}

impl Failure {
    fn new(code: &'static str, text: String) -> Self {
        Self { code, text, lost: false }
    }
}

/// First pause between two looks whether a port is bound; it grows to the second after one second.
const FIRST_LOOK: Duration = Duration::from_millis(2);
const SLOW_LOOK: Duration = Duration::from_millis(100);
/// How long a health check may take.
const CHECK: Duration = Duration::from_secs(5);
/// Where the status of an answer ends, in bytes: `HTTP/1.1 200`.
const STATUS_END: usize = 12;
/// A dyno that was up this long begins its count of crashes anew.
pub(crate) const STEADY: SignedDuration = SignedDuration::from_mins(10);

impl Platform {
    /// Makes sure that a dyno's row has a task, and that the task looks at it.
    pub(crate) fn poke(&self, id: DynoId) {
        let mut drivers = self.inner.drivers.lock().expect("no panic while registered");
        if let Some(changed) = drivers.get(&id) {
            changed.notify_one();
            return;
        }
        let changed = Arc::new(Notify::new());
        drivers.insert(id, changed.clone());
        self.spawn(move |platform| async move {
            platform.drive(id, &changed).await;
            platform.inner.drivers.lock().expect("no panic while registered").remove(&id);
            // A row that was changed between the last look and the removal has no task: look once more.
            let rest = platform.store().read(|c| c.dyno(id)).ok().flatten();
            if rest.is_some_and(|d| d.state != DynoState::Crashed) {
                platform.poke(id);
            }
        });
    }

    async fn drive(&self, id: DynoId, changed: &Notify) {
        loop {
            let dyno = match self.store().read(|c| c.dyno(id)) {
                Ok(Some(dyno)) => dyno,
                Ok(None) => return,
                Err(e) => {
                    tracing::error!(dyno.id = %id, error = %e, "a dyno's row could not be read");
                    tokio::time::sleep(SLOW_LOOK).await;
                    continue;
                }
            };
            let result = match dyno.state {
                DynoState::Starting => self.boot(&dyno, changed).await,
                DynoState::Up => self.watch(&dyno, changed).await,
                DynoState::Stopping => self.see_out(&dyno).await,
                DynoState::Crashed => return self.clear(&dyno).await,
                DynoState::Down => return,
            };
            if let Err(e) = result {
                tracing::error!(dyno.id = %id, dyno.name = dyno.name(), error = %e, cause = ?e.cause, "a dyno's task failed and tries again");
                tokio::time::sleep(SLOW_LOOK).await;
            }
        }
    }

    async fn boot(&self, dyno: &Dyno, changed: &Notify) -> Result<()> {
        let name = dyno.name();
        let runtime = self.runtime();
        if runtime.observe(dyno.id).await.is_err() {
            self.log_dyno(dyno.app, &name, &format!("Starting process with command `{}`", dyno.command));
        }
        let plan = match self.dyno_plan(dyno, Io::Log, &BTreeMap::new()) {
            Ok(plan) => plan,
            Err(e) => return self.not_started(dyno, e.to_string()).await,
        };
        let seen = match self.start_dyno(dyno, &plan).await {
            Ok(seen) => seen,
            Err(e) => {
                tracing::error!(dyno.id = %dyno.id, error = %e, cause = ?e.cause, "a dyno could not be started");
                // What was meant for the operator alone says nothing here; its cause does.
                let why = if e.kind == Kind::Platform { e.cause.unwrap_or(e.message) + "." } else { e.message };
                let text = format!("The platform could not start {name}: {why}");
                return self.not_started(dyno, text).await;
            }
        };
        if !plan.port {
            return self.up(dyno, None).await;
        }
        let (app, waited) = (self.store().read(|c| c.app_by_id(dyno.app))?, Instant::now());
        // From now and not from the row's age: a clock that was set must not end a dyno that boots.
        let limit = Duration::from_secs(u64::from(self.settings().boot_seconds));
        let host = plan.hosts.first().cloned().unwrap_or_default();
        let check = self.health_check(&app, dyno).await?;
        tokio::select! {
            exit = runtime.wait(dyno.id) => {
                let exit = exit?;
                self.log_exit(dyno, exit);
                let text = format!("{name} ended with status {} before it was ready.{}", exit.status, likely(exit));
                self.crashed(dyno, Failure::new("H10", text)).await
            }
            (address, answer) = self.ready(&seen.endpoints, check.as_ref(), &host, limit) => {
                if let Some(address) = address {
                    tracing::debug!(dyno.name = name, after_ms = waited.elapsed().as_millis(), "ready");
                    return self.up(dyno, Some(address)).await;
                }
                self.boot_timeout(dyno, answer).await
            }
            () = changed.notified() => Ok(()),
        }
    }

    /// `answer`: the last one to its health check, as a sentence.
    async fn boot_timeout(&self, dyno: &Dyno, answer: Option<String>) -> Result<()> {
        let seconds = self.settings().boot_seconds;
        let listens = self.runtime().listeners(dyno.id).await.unwrap_or_default();
        let why = match answer {
            Some(answer) => {
                self.log_dyno(dyno.app, &dyno.name(), &format!("Health check failed: {answer}"));
                answer
            }
            None if listens.is_empty() => "Nothing listens: the process has to listen on 0.0.0.0:$PORT.".into(),
            None if listens.iter().all(|a| a.ip().is_loopback()) => {
                format!("It listens on {} only: listen on 0.0.0.0:$PORT instead of localhost.", list(&listens))
            }
            None => {
                format!("It listens on {}, which is not $PORT: read the port from the environment.", list(&listens))
            }
        };
        self.log_dyno(
            dyno.app,
            &dyno.name(),
            &format!(
                "Error R10 (Boot timeout) -> Web process failed to bind to $PORT within {seconds} seconds of launch"
            ),
        );
        self.log_dyno(dyno.app, &dyno.name(), "Stopping process with SIGKILL");
        self.runtime().remove(dyno.id).await?;
        let text = format!("{} was not ready within {seconds} seconds. {why}", dyno.name());
        self.crashed(dyno, Failure::new("R10", text)).await
    }

    /// Waits until an endpoint answers. Returns the last answer of a health check that never was good, as a sentence.
    async fn ready(
        &self,
        endpoints: &[SocketAddr],
        check: Option<&HealthCheck>,
        host: &str,
        limit: Duration,
    ) -> (Option<SocketAddr>, Option<String>) {
        let begun = Instant::now();
        let mut answer = None;
        loop {
            for &address in endpoints {
                match probe(address, check, host).await {
                    Probe::Good => return (Some(address), None),
                    Probe::Bad(text) => answer = Some(text),
                    Probe::Nothing => {}
                }
            }
            let elapsed = begun.elapsed();
            if elapsed >= limit {
                return (None, answer);
            }
            // 2 ms in the first second, then growing: a fast app is seen at once, a slow one costs nothing.
            let pause = if elapsed < Duration::from_secs(1) { FIRST_LOOK } else { (elapsed / 20).min(SLOW_LOOK) };
            tokio::time::sleep(pause).await;
        }
    }

    /// Nothing of it ran that could say why, so the platform does.
    async fn not_started(&self, dyno: &Dyno, why: String) -> Result<()> {
        self.log_dyno(dyno.app, &dyno.name(), &why);
        self.crashed(dyno, Failure::new("H10", why)).await
    }

    async fn up(&self, dyno: &Dyno, address: Option<SocketAddr>) -> Result<()> {
        let (id, now) = (dyno.id, self.now());
        let is_up = self
            .store()
            .write(move |c| {
                let Some(mut row) = c.dyno(id)? else { return Ok(false) };
                if row.state != DynoState::Starting {
                    return Ok(false);
                }
                row.state = DynoState::Up;
                row.address = address;
                row.updated_at = now;
                if address.is_some() && row.operation.is_none() {
                    row.routed = true;
                    c.next_epoch(None, now)?;
                }
                c.put_dyno(&row)?;
                Ok(true)
            })
            .await?;
        if is_up {
            self.log_state(dyno, DynoState::Starting, DynoState::Up);
        }
        self.routes_changed();
        self.tell(Event::App(dyno.app));
        Ok(())
    }

    async fn watch(&self, dyno: &Dyno, changed: &Notify) -> Result<()> {
        tokio::select! {
            exit = self.runtime().wait(dyno.id) => {
                let exit = match exit {
                    Ok(exit) => exit,
                    Err(shipway_runtime::RuntimeError::Unknown(_)) => Exit { status: 137, cause: ExitCause::Lost },
                    Err(e) => return Err(e.into()),
                };
                // Asked to stop meanwhile: the row says so, and seeing it out logs the exit.
                if self.store().read(|c| c.dyno(dyno.id))?.is_none_or(|d| d.state != DynoState::Up) {
                    return Ok(());
                }
                self.log_exit(dyno, exit);
                let text = format!("{} ended with status {}.{}", dyno.name(), exit.status, likely(exit));
                let lost = exit.cause == ExitCause::Lost;
                self.crashed(dyno, Failure { lost, ..Failure::new("H10", text) }).await
            }
            () = changed.notified() => Ok(()),
            never = self.mind_memory(dyno) => match never {},
        }
    }

    /// Takes a dyno that ended by itself out of the routes; the reconciler starts the next one after its back-off.
    async fn crashed(&self, dyno: &Dyno, failure: Failure) -> Result<()> {
        let (id, now, lost) = (dyno.id, self.now(), failure.lost);
        self.inner.failures.lock().expect("no panic while noted").insert(id, failure);
        let was = self
            .store()
            .write(move |c| {
                let Some(mut row) = c.dyno(id)? else { return Ok(None) };
                let was = row.state;
                if matches!(was, DynoState::Starting | DynoState::Up) {
                    let steady = lost || was == DynoState::Up && now.duration_since(row.updated_at) > STEADY;
                    row.crashes = if steady { 1 } else { row.crashes + 1 };
                    row.state = DynoState::Crashed;
                    row.updated_at = now;
                    let routed = std::mem::take(&mut row.routed);
                    // What visitors of an app that nothing serves are told depends on how often its dynos crashed.
                    if routed || row.process_type.is_web() {
                        let epoch = c.next_epoch(None, now)?;
                        row.unrouted_epoch = routed.then_some(epoch).or(row.unrouted_epoch);
                    }
                    c.put_dyno(&row)?;
                }
                Ok(Some(was))
            })
            .await?;
        match was {
            Some(was @ (DynoState::Starting | DynoState::Up)) => self.log_state(dyno, was, DynoState::Crashed),
            Some(_) => {}
            None => {
                self.inner.failures.lock().expect("no panic while noted").remove(&id);
            }
        }
        self.routes_changed();
        self.clear(dyno).await;
        Ok(())
    }

    /// Removes what is left of a crashed dyno, and lets the next one come. It goes on until that is done: the row may
    /// be gone by then, and nobody else would know of the rest.
    async fn clear(&self, dyno: &Dyno) {
        while let Err(e) = self.runtime().remove(dyno.id).await {
            tracing::error!(dyno.id = %dyno.id, dyno.name = dyno.name(), error = %e, "a crashed dyno could not be removed and is tried again");
            tokio::time::sleep(SLOW_LOOK).await;
        }
        self.reconcile(dyno.app);
        self.tell(Event::App(dyno.app));
    }

    /// Drains, stops and removes a dyno whose row says that it is to go.
    async fn see_out(&self, dyno: &Dyno) -> Result<()> {
        if let Some(epoch) = dyno.unrouted_epoch {
            self.acknowledged(epoch).await;
            self.drained(dyno.id).await;
        }
        let running = self.runtime().observe(dyno.id).await.is_ok_and(|o| o.exit.is_none());
        if running {
            self.log_dyno(dyno.app, &dyno.name(), "Stopping all processes with SIGTERM");
            self.runtime().stop(dyno.id).await?;
            if let Ok(exit) = self.runtime().wait(dyno.id).await {
                self.log_exit(dyno, exit);
            }
        }
        self.runtime().remove(dyno.id).await?;
        self.inner.failures.lock().expect("no panic while noted").remove(&dyno.id);
        let id = dyno.id;
        self.store().write(move |c| c.delete_dyno(id)).await?;
        self.reconcile(dyno.app);
        self.tell(Event::App(dyno.app));
        Ok(())
    }

    /// Waits until no request is under way to a dyno that is out of the routes, at most the drain time.
    async fn drained(&self, dyno: DynoId) {
        let until = Instant::now() + Duration::from_secs(u64::from(self.settings().drain_seconds));
        while Instant::now() < until {
            match self.inner.parts.router.in_flight(&[dyno]).await {
                Ok(counts) if counts.get(&dyno).is_none_or(|c| c.requests == 0) => return,
                Ok(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                // The router is being restarted: its successor knows the count again in a moment.
                Err(_) => tokio::time::sleep(SLOW_LOOK).await,
            }
        }
    }

    /// Looks after all dynos of the store again, and removes those of the runtime that the store does not know. Those
    /// of the formation that ended with the machine, or with `shipway down`, have not crashed: they start anew.
    pub(crate) async fn adopt_dynos(&self) -> Result<()> {
        let seen = self.runtime().list().await?;
        let now = self.now();
        let asked = |exit: &Exit| matches!(exit.cause, ExitCause::Lost | ExitCause::Stopped | ExitCause::Killed);
        let (gone, there): (Vec<_>, Vec<_>) = seen.iter().partition(|o| o.exit.as_ref().is_some_and(asked));
        let there: HashSet<DynoId> = there.into_iter().map(|o| o.dyno).collect();
        let (rows, anew, were_up) = self
            .store()
            .write(move |c| {
                let (mut rows, mut anew, mut were_up) = (c.all_dynos()?, BTreeMap::new(), Vec::new());
                let lives = |d: &Dyno| matches!(d.state, DynoState::Starting | DynoState::Up) && d.one_off.is_none();
                for row in rows.iter_mut().filter(|d| lives(d) && !there.contains(&d.id)) {
                    if row.state == DynoState::Up {
                        were_up.push(row.clone());
                    }
                    row.state = DynoState::Starting;
                    row.address = None;
                    (row.created_at, row.updated_at) = (now, now);
                    if std::mem::take(&mut row.routed) {
                        c.next_epoch(None, now)?;
                    }
                    c.put_dyno(row)?;
                    // An operation that goes on says it itself.
                    if row.operation.is_none() {
                        anew.insert(row.app, row.release);
                    }
                }
                Ok((rows, anew, were_up))
            })
            .await?;
        for dyno in &were_up {
            self.log_state(dyno, DynoState::Up, DynoState::Starting);
        }
        for (app, release) in anew {
            let slug = self.store().read(|c| c.slug_of(&c.release_by_id(release)?))?;
            if let Some(slug) = slug {
                self.warn_of_host_change(app, &slug);
            }
        }
        for stranger in seen.iter().filter(|o| !rows.iter().any(|r| r.id == o.dyno)) {
            tracing::info!(dyno.id = %stranger.dyno, dyno.name = stranger.name, "removing a dyno that no row knows");
            self.runtime().remove(stranger.dyno).await?;
        }
        for row in rows.iter().filter(|r| r.state == DynoState::Starting && gone.iter().any(|o| o.dyno == r.id)) {
            // What is left of it would stand for the new one.
            self.runtime().remove(row.id).await?;
        }
        for row in rows {
            if row.one_off.is_some() {
                self.adopt_one_off(row).await?;
            } else {
                self.poke(row.id);
            }
        }
        Ok(())
    }

    /// Marks a dyno as to go, out of the routes, and lets its task see it out.
    pub(crate) async fn let_go(&self, id: DynoId) -> Result<()> {
        let now = self.now();
        self.store()
            .write(move |c| {
                let Some(mut row) = c.dyno(id)? else { return Ok(()) };
                if row.state == DynoState::Stopping {
                    return Ok(());
                }
                row.state = DynoState::Stopping;
                row.operation = None;
                row.updated_at = now;
                if std::mem::take(&mut row.routed) {
                    row.unrouted_epoch = Some(c.next_epoch(None, now)?);
                }
                c.put_dyno(&row)
            })
            .await?;
        self.routes_changed();
        self.poke(id);
        Ok(())
    }
}

fn list(addresses: &[SocketAddr]) -> String {
    addresses.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(", ")
}

/// What an exit status says of its likely cause, as a sentence with a space before it.
fn likely(exit: Exit) -> &'static str {
    match (exit.cause, exit.status) {
        (ExitCause::Memory, _) => " It used more memory than its size allows (R15): scale it to a larger size.",
        (ExitCause::Lost, _) => " It was killed from outside.",
        (_, 126) => {
            " Status 126: the command is there and cannot be executed; commit it with `git update-index --chmod=+x`."
        }
        (_, 127) => {
            " Status 127: the command was not found; is it in the Procfile as it is in the repository, and its package among the dependencies?"
        }
        (_, 137) => " Status 137: it was killed.",
        (_, 0) => " A process of a formation has to go on running.",
        _ => "",
    }
}

enum Probe {
    Good,
    Bad(String),
    Nothing,
}

/// Looks whether something accepts connections at `address`, and what it answers where a check is wanted.
async fn probe(address: SocketAddr, check: Option<&HealthCheck>, host: &str) -> Probe {
    let connected = tokio::time::timeout(CHECK, TcpStream::connect(address)).await;
    let Ok(Ok(mut stream)) = connected else { return Probe::Nothing };
    let Some(check) = check else { return Probe::Good };
    let path = &check.path;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: shipway-health-check\r\nAccept: */*\r\n\
         X-Forwarded-Proto: https\r\nX-Forwarded-Port: 443\r\nConnection: close\r\n\r\n"
    );
    let answer = async {
        stream.write_all(request.as_bytes()).await?;
        // Up to the status and no further: not everybody closes a connection when asked to.
        let mut head = Vec::new();
        let mut piece = [0; STATUS_END];
        while head.len() < STATUS_END {
            match stream.read(&mut piece).await? {
                0 => break,
                n => head.extend_from_slice(&piece[..n]),
            }
        }
        Ok::<_, std::io::Error>(head)
    };
    let Ok(Ok(head)) = tokio::time::timeout(CHECK, answer).await else {
        return Probe::Bad(format!("It did not answer GET {path} within {} seconds.", CHECK.as_secs()));
    };
    let line = String::from_utf8_lossy(&head);
    match line.strip_prefix("HTTP/1.").and_then(|l| l.get(2..5)).and_then(|s| s.parse::<u16>().ok()) {
        Some(status) if check.counts(status) => Probe::Good,
        Some(status) => Probe::Bad(format!("It answered {status} to GET {path}; {}.", check.rule())),
        None => Probe::Bad(format!("It answered GET {path} with something that is not HTTP.")),
    }
}
