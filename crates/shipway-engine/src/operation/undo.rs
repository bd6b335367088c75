//! Takes an operation back that failed before its switch.

use super::{Context, Ended, RETRY};
use crate::error::Error;
use crate::plan::{Part, Step, StepAt};
use crate::{Fault, Moment, Platform, Result};
use shipway_domain::AppId;
use shipway_domain::lifecycle::OperationStatus;
use shipway_store::{JournalRow, Slug, StepEvent};
use std::collections::HashMap;

impl Platform {
    /// Undoes what was begun, last first, and ends the operation as failed.
    pub(super) async fn unwind(&self, ctx: &Context, at: StepAt, error: &str) -> shipway_store::Result<()> {
        let (id, now) = (ctx.operation, self.now());
        let journal = self.journal(id);
        let error = &match self.store().read(|c| c.operation(id))?.error {
            // A former server began to undo it, and knew why.
            Some(known) => known,
            None => self.reason(ctx, at, error, &journal).unwrap_or_else(|_| error.to_string()),
        };
        let text = error.to_string();
        self.store().write(move |c| c.set_operation_status(id, OperationStatus::Unwinding, Some(&text), now)).await?;
        let begun = |at: &StepAt| journal.get(&at.name()).is_some_and(|row| row.event != StepEvent::Undone);
        for at in ctx.plan.steps().into_iter().rev().filter(|at| at.step.before_switch() && begun(at)) {
            if self.take_back(ctx, at, error).await.is_err() {
                return Ok(());
            }
        }
        // What was said is not said again; what there is to add to it is.
        let said = ctx.said.get().and_then(|said| error.split_once(said.as_str()));
        for line in said.map_or(error.as_str(), |(_, rest)| rest.trim()).lines() {
            ctx.line(&format!(" !     {line}"));
        }
        // A build has its own output, and a line that points to it.
        let was_built = |at: &StepAt| !at.step.builds() && journal.contains_key(&at.name());
        if ctx.plan.steps().iter().any(was_built) || !at.step.builds() {
            self.log_failure(ctx, error)?;
        }
        self.end_as_failed(ctx, error).await
    }

    /// Says in the apps' logs what came of a change that its answer called begun.
    fn log_failure(&self, ctx: &Context, error: &str) -> shipway_store::Result<()> {
        let because = error.lines().next().unwrap_or_default();
        for part in &ctx.plan.parts {
            let release =
                part.release.as_ref().map(|plan| self.store().read(|c| c.release(plan.release))).transpose()?;
            let what = match release.flatten() {
                Some(release) => format!("Release v{}", release.version),
                None => format!("The {}", ctx.plan.kind()),
            };
            if self.store().read(|c| c.app(&part.app.into()))?.is_some() {
                self.log_api(part.app, &format!("{what} failed: {because}"));
            }
        }
        Ok(())
    }

    /// Undoes a step until its `undone` is written. Errors: a test stopped the platform.
    async fn take_back(&self, ctx: &Context, at: StepAt, error: &str) -> Result<(), Ended> {
        loop {
            let undone = match self.undo_step(ctx, at, error).await {
                Ok(effect) => match self.fault(at, Moment::TakenBack) {
                    Some(Fault::Repeat) => continue,
                    Some(Fault::Die) => return Err(Ended::Dead),
                    _ => {
                        let (id, now) = (ctx.operation, self.now());
                        let why = serde_json::json!({ "error": error });
                        let written = self.store().write(move |c| {
                            effect(c)?;
                            c.journal(id, &at.name(), StepEvent::Undone, Some(&why), now)
                        });
                        written.await.map_err(Error::from)
                    }
                },
                Err(e) => Err(e),
            };
            match undone {
                Ok(()) => return self.die_here(at, Moment::Undone),
                Err(e) => {
                    tracing::error!(operation.id = %ctx.operation, step = at.name(), error = %e, cause = ?e.cause, "an undo is tried again");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    /// Writes down that all is undone, and for whom; a triggered deploy may wait again.
    async fn end_as_failed(&self, ctx: &Context, error: &str) -> shipway_store::Result<()> {
        let (id, now) = (ctx.operation, self.now());
        let mut ends = Vec::new();
        for part in &ctx.plan.parts {
            match self.end_part(ctx, part, error) {
                Ok(end) => ends.push(end),
                Err(e) => {
                    tracing::error!(operation.id = %id, error = %e, cause = ?e.cause, "how it ended for an app could not be told");
                }
            }
        }
        let waits = self.waits_again(ctx).unwrap_or_else(|e| {
            tracing::error!(operation.id = %id, error = %e, cause = ?e.cause, "whether a triggered deploy waits again could not be read");
            None
        });
        let written = self.store().write(move |c| {
            ends.into_iter().try_for_each(|end| end(c))?;
            waits.map_or(Ok(()), |deploy| c.put_triggered_deploy(&deploy))?;
            c.set_operation_status(id, OperationStatus::Failed, None, now)
        });
        written.await?;
        self.inner.triggers_wanted.notify_one();
        Ok(())
    }

    /// Why an operation failed: at which of several apps, and which release phases had run, because nothing undoes them.
    fn reason(&self, ctx: &Context, at: StepAt, error: &str, journal: &HashMap<String, JournalRow>) -> Result<String> {
        let mut text = error.to_string();
        let mut had_run = Vec::new();
        let cancelled = self.is_cancelled(ctx);
        for phase in ctx.plan.steps().into_iter().filter(|at| at.step == Step::ReleasePhase) {
            let part = phase.app.and_then(|app| ctx.plan.part(app)).or(ctx.plan.parts.first());
            let Some(part) = part else { continue };
            let ended_well = journal.get(&phase.name()).is_some_and(|r| r.event == StepEvent::Succeeded);
            if ended_well && self.has_phase(part)? {
                had_run.extend(self.name_of(part.app));
            }
        }
        if let Some(name) = at.app.filter(|_| !cancelled).and_then(|app| self.name_of(app)) {
            text = format!("{name}: {text}");
        }
        match had_run.as_slice() {
            [] => {}
            [one] => {
                text.push_str(&format!(" The release phase of {one} had run: its database may be ahead of its code."))
            }
            more => text.push_str(&format!(
                " The release phases of {} had run: their databases may be ahead of their code.",
                more.join(", ")
            )),
        }
        Ok(text)
    }

    /// Whether the code that a part brings has a release phase.
    pub(super) fn has_phase(&self, part: &Part) -> Result<bool> {
        let has_phase = |slug: &Slug| self.process_types(&slug.manifest).keys().any(|t| t.is_release());
        Ok(self.slug_of(part)?.is_some_and(|slug| has_phase(&slug)))
    }

    pub(super) fn name_of(&self, app: AppId) -> Option<String> {
        self.store().read(|c| c.app(&app.into())).ok().flatten().map(|a| a.name.to_string())
    }
}
