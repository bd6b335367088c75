//! Commands that are part of an operation: the release phase, and what runs once around an app's life. Each is a one-off
//! dyno whose output goes to a transcript, to the log and to whoever follows the operation.

use crate::change::cancelled;
use crate::error::Error;
use crate::operation::{Context, Effect, nothing};
use crate::output::Output;
use crate::plan::Part;
use crate::ports::Lines;
use crate::{Platform, Result};
use shipway_domain::lifecycle::DynoState;
use shipway_domain::{AppId, DynoId, ProcessType, ReleaseId};
use shipway_logs::Cutter;
use shipway_runtime::{Exit, ExitCause, Io, RuntimeError};
use shipway_store::Dyno;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};

/// How much of a line of a command's output is read at a time, in bytes.
const READ: u64 = 10_000;
/// How often a command that nothing can be undone for is begun, where it cannot be run.
const TRIES: u32 = 5;
/// Pause between two of these: long enough for a spawner that is started again.
const PAUSE: Duration = Duration::from_secs(1);

/// One command of an operation.
#[derive(Clone)]
pub(crate) struct Phase {
    /// The dyno's id, chosen in the plan: a second run of the step finds the first one's dyno.
    pub(crate) dyno: DynoId,
    /// Whose.
    pub(crate) app: AppId,
    /// The release whose code and config it has.
    pub(crate) release: ReleaseId,
    /// What it is, as the dyno's name begins.
    pub(crate) process_type: ProcessType,
    /// The command, for a shell.
    pub(crate) command: String,
    /// The transcript that it writes.
    pub(crate) output: uuid::Uuid,
}

/// How a command of an operation ended.
pub(crate) struct PhaseEnd {
    /// Its exit status.
    pub(crate) status: i32,
    /// The last line that it wrote.
    pub(crate) last: Option<String>,
    /// The memory in MiB that it might use, where it was killed because it used more.
    pub(crate) memory_broken: Option<u64>,
}

impl PhaseEnd {
    /// Why `what` failed, which is the subject of the sentence that is returned, and its last line.
    pub(crate) fn failure(&self, what: &str) -> String {
        let end = match self.memory_broken {
            Some(mib) => format!("{what} was killed: it used more than {mib} MiB (R15)."),
            None => format!("{what} exited with status {}.", self.status),
        };
        end + &self.last.as_ref().map_or(String::new(), |line| format!(" Its last line: {line}"))
    }
}

impl Platform {
    /// Runs a command of an operation to its end. May run twice: what the first run left is used up or removed.
    /// Errors: cancelled, or the dyno cannot start; a status other than 0 is none.
    pub(crate) async fn run_phase(&self, ctx: &Context, phase: Phase) -> Result<PhaseEnd> {
        let now = self.now();
        let dyno = Dyno {
            id: phase.dyno,
            app: phase.app,
            index: (phase.dyno.0.as_u64_pair().1 % 9000 + 1000) as u32,
            release: phase.release,
            state: DynoState::Up,
            size: self.default_size().name.clone(),
            command: phase.command.clone(),
            operation: Some(ctx.operation),
            routed: false,
            unrouted_epoch: None,
            address: None,
            crashes: 0,
            one_off: Some(phase.process_type.to_string()),
            process_type: phase.process_type,
            created_at: now,
            updated_at: now,
        };
        // There before anybody is told that the release has output to read.
        let own = self.output(phase.output).map_err(Error::platform)?;
        let (row, output_of) = (dyno.clone(), (phase.output == phase.release.0).then_some(phase.release));
        self.store()
            .write(move |c| {
                c.put_dyno(&row)?;
                output_of.map_or(Ok(()), |release| c.set_release_output(release))
            })
            .await?;
        self.log_dyno(dyno.app, &dyno.name(), &format!("Starting process with command `{}`", phase.command));
        let ended = self.follow_phase(ctx, &dyno, &own).await;
        self.forget_phase(dyno.id).await?;
        let (exit, last) = ended?;
        self.log_exit(&dyno, exit);
        self.log_state(&dyno, DynoState::Up, "complete");
        let limit = self.size(&dyno.size).memory_limit_bytes() / (1024 * 1024);
        Ok(PhaseEnd { status: exit.status, last, memory_broken: (exit.cause == ExitCause::Memory).then_some(limit) })
    }

    /// Starts a phase's dyno and passes on what it writes, line by line, until it ends: how, and its last line.
    async fn follow_phase(&self, ctx: &Context, dyno: &Dyno, own: &Output) -> Result<(Exit, Option<String>)> {
        let dyno_plan = self.dyno_plan(dyno, Io::Pipe, &BTreeMap::new())?;
        if self.was_interrupted(dyno.id).await? {
            self.runtime().remove(dyno.id).await?;
        }
        self.start_dyno(dyno, &dyno_plan).await?;
        self.log_state(dyno, DynoState::Starting, DynoState::Up);
        let stream = self.runtime().attach(dyno.id).await?;
        let mut lines = BufReader::new(stream);
        let (mut line, mut cutter, mut last) = (Vec::new(), Cutter::default(), None);
        let mut memory = std::pin::pin!(self.mind_memory(dyno));
        loop {
            let mut piece = (&mut lines).take(READ);
            let copied = tokio::select! {
                read = piece.read_until(b'\n', &mut line) => read,
                () = ctx.cancel.cancelled() => return Err(cancelled()),
                never = &mut memory => match never {},
            };
            // A stream that breaks off ends like one that ends: the exit status tells which it was.
            let is_over = copied.unwrap_or(0) == 0;
            if is_over && line.is_empty() {
                break;
            }
            let ended = is_over || line.ends_with(b"\n");
            let is_text = |byte: &u8| !ended || !matches!(byte, b'\n' | b'\r');
            let end = line.iter().rposition(is_text).map_or(0, |at| at + 1);
            let mut pieces = Vec::new();
            let taken = cutter.cut(&line[..end], ended, &mut pieces);
            for piece in pieces {
                let text = String::from_utf8_lossy(&piece).into_owned();
                own.line(&text);
                ctx.line(&format!("       {text}"));
                self.log_app(dyno.app, &dyno.name(), &text);
                last = Some(text);
            }
            line.drain(..if ended { line.len() } else { taken });
        }
        Ok((self.runtime().wait(dyno.id).await?, last))
    }

    /// Runs a command whose failure nothing waits for, and tries a few times where it cannot be run: the machine's trouble
    /// may pass. Errors: those of [`Self::run_phase`], of the last try.
    pub(crate) async fn try_phase(&self, ctx: &Context, phase: &Phase) -> Result<PhaseEnd> {
        for _ in 1..TRIES {
            match self.run_phase(ctx, phase.clone()).await {
                Err(e) if !ctx.cancel.is_cancelled() => {
                    tracing::warn!(operation.id = %ctx.operation, error = %e, cause = ?e.cause, "a command is tried again");
                    tokio::time::sleep(PAUSE).await;
                }
                ended => return ended,
            }
        }
        self.run_phase(ctx, phase.clone()).await
    }

    /// How long a script may take that nobody is served by waiting for.
    pub(crate) fn script_limit(&self) -> Duration {
        Duration::from_secs(u64::from(self.settings().script_seconds))
    }

    /// Whether the machine, or `shipway down`, ended the dyno that the first run of a step started: its command begins
    /// again then.
    async fn was_interrupted(&self, dyno: DynoId) -> Result<bool> {
        match self.runtime().observe(dyno).await {
            Ok(seen) => Ok(seen
                .exit
                .is_some_and(|exit| matches!(exit.cause, ExitCause::Lost | ExitCause::Stopped | ExitCause::Killed))),
            Err(RuntimeError::Unknown(_)) => Ok(false),
            Err(e) => Err(e.into()),
        }
    }

    /// Removes the dyno of a command, wherever it was.
    pub(crate) async fn forget_phase(&self, dyno: DynoId) -> Result<()> {
        self.runtime().remove(dyno).await?;
        Ok(self.store().write(move |c| c.delete_dyno(dyno)).await?)
    }

    pub(crate) async fn step_release_phase(&self, ctx: &Context, part: &Part) -> Result<Effect> {
        let plan = part.release()?;
        let Some(slug) = self.slug_of(part)? else { return Ok(nothing()) };
        let types = self.process_types(&slug.manifest);
        let Some((process_type, command)) = types.into_iter().find(|(t, _)| t.is_release()) else {
            return Ok(nothing());
        };
        self.ensure(&slug).await?;
        let release = plan.release;
        ctx.line("-----> Running release command...");
        let phase = Phase {
            dyno: plan.phase_dyno,
            app: part.app,
            release,
            process_type,
            command: command.clone(),
            output: release.0,
        };
        let end = self.run_phase(ctx, phase).await?;
        if end.status != 0 {
            return Err(Error::invalid(format!("Release command failed: {}", end.failure(&format!("`{command}`")))));
        }
        Ok(nothing())
    }
    /// Ends a release phase that runs. What it did to a database is not undone.
    pub(crate) async fn undo_release_phase(&self, part: &Part) -> Result<Effect> {
        self.forget_phase(part.release()?.phase_dyno).await?;
        Ok(nothing())
    }

    /// Runs the command of an external step, with the new release's code and config.
    pub(crate) async fn step_external(&self, ctx: &Context, part: &Part) -> Result<Effect> {
        let Some(external) = &part.external else { return Ok(nothing()) };
        let end = self.run_phase(ctx, self.external_phase(part, external.dyno, &external.command)?).await?;
        if end.status != 0 {
            let why = end.failure(&format!("`{}`", external.command));
            return Err(Error::invalid(format!("The step {} failed: {why}", external.name)));
        }
        Ok(nothing())
    }

    /// Runs what takes an external step back. One that fails, cannot be run or takes too long is recorded, and the rest is
    /// undone all the same: nobody is served by waiting for it.
    pub(crate) async fn undo_external(&self, ctx: &Context, part: &Part) -> Result<Effect> {
        let Some(external) = &part.external else { return Ok(nothing()) };
        self.forget_phase(external.dyno).await?;
        // Whoever cancelled the promotion did not cancel what takes it back.
        let calm = Context { cancel: tokio_util::sync::CancellationToken::new(), ..ctx.clone() };
        let phase = self.external_phase(part, external.undo_dyno, &external.undo)?;
        let limit = self.script_limit();
        let (status, why) = match tokio::time::timeout(limit, self.try_phase(&calm, &phase)).await {
            Ok(Ok(end)) if end.status == 0 => return Ok(nothing()),
            Ok(Ok(end)) => (Some(end.status), format!("it exited with status {}", end.status)),
            Ok(Err(e)) => {
                tracing::error!(operation.id = %ctx.operation, error = %e, cause = ?e.cause, "an undo could not be run");
                (None, format!("it could not be run: {e}"))
            }
            Err(_) => (None, format!("it took longer than {} s", limit.as_secs())),
        };
        self.forget_phase(external.undo_dyno).await?;
        let app = self.store().read(|c| c.app_by_id(part.app))?;
        let detail = serde_json::json!({
            "step": external.name, "undo": external.undo, "status": status, "why": why, "operation": ctx.operation,
        });
        let entry = self.entry(&ctx.plan.caller(), Some(&app), "external-undo-failed", detail);
        Ok(Box::new(move |c| c.record(&entry)))
    }

    fn external_phase(&self, part: &Part, dyno: DynoId, command: &str) -> Result<Phase> {
        let release = part.release()?.release;
        let process_type = ProcessType::parse("external")?;
        Ok(Phase { dyno, app: part.app, release, process_type, command: command.into(), output: release.0 })
    }
}
