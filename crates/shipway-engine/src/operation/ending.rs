//! What the failure of an operation comes to for each of its apps: one that several are in failed at one of them, mostly,
//! and the others are left as they were.

use super::Context;
use crate::plan::{Part, Plan, Step, StepAt};
use crate::{Platform, Result};
use shipway_domain::AppId;
use shipway_domain::lifecycle::{BuildStatus, OperationStatus, ReleaseStatus};
use shipway_store::{Conn, JournalRow, LedgerEntry, Operation, StepEvent};

/// How an operation that failed ended for one app.
#[derive(Debug, Clone)]
pub struct Ending {
    /// What happened to it, for its people.
    pub text: String,
    /// Whether it did not fail itself: it runs what it ran, because of another app or because somebody stopped it all.
    pub left: bool,
}

impl Platform {
    /// How an operation that failed ended for an app; none while it goes on, or where it did not fail.
    pub fn ending(&self, operation: &Operation, app: AppId) -> Result<Option<Ending>> {
        Ok(self.store().read(|c| ending_of(c, operation, app))?)
    }

    /// How an operation that fails with `error` ends for the app of a part.
    pub(super) fn ends(&self, ctx: &Context, part: &Part, error: &str) -> Result<Ending> {
        let failed = Ending { text: error.to_string(), left: false };
        if ctx.plan.parts.len() == 1 {
            return Ok(failed);
        }
        let (cancelled, rows) =
            self.store().read(|c| Ok((c.operation(ctx.operation)?.cancel, c.journal_of(ctx.operation)?)))?;
        let at = failed_at(&ctx.plan, &rows).filter(|_| !cancelled);
        let name = |app| self.name_of(app).unwrap_or_else(|| "another app".into());
        let because = match at {
            // Somebody stopped all of it.
            None => return Ok(Ending { left: true, ..failed }),
            Some(StepAt { app: Some(app), .. }) if app == part.app => return Ok(failed),
            Some(StepAt { app: Some(app), step }) => {
                let name = name(app);
                match step {
                    Step::ReleasePhase => format!("{name} failed in its release phase"),
                    Step::Start | Step::Healthy => format!("the new dynos of {name} did not become healthy"),
                    Step::External => {
                        let external = ctx.plan.part(app).and_then(|part| part.external.as_ref());
                        let called = external.map_or(String::new(), |external| format!(" {}", external.name));
                        format!("the step{called} of {name} failed")
                    }
                    _ => format!("{name} could not be prepared"),
                }
            }
            Some(StepAt { app: None, .. }) => error.trim_end_matches('.').to_string(),
        };
        let own_phase = StepAt { step: Step::ReleasePhase, app: Some(part.app) }.name();
        let had_run = rows.iter().any(|row| row.step == own_phase && row.event == StepEvent::Succeeded);
        let ahead = match had_run && self.has_phase(part)? {
            true => " Its release phase had run: its database may be ahead of its code.",
            false => "",
        };
        Ok(Ending { text: format!("Left as it was: {because}.{ahead}"), left: true })
    }

    /// What is written down of a part of an operation that failed: its release and its build, where they are open, and who
    /// asked for it.
    pub(super) fn end_part(
        &self,
        ctx: &Context,
        part: &Part,
        error: &str,
    ) -> Result<impl FnOnce(&Conn<'_>) -> shipway_store::Result<()> + use<>> {
        let Ending { text, left } = self.ends(ctx, part, error)?;
        let app = self.store().read(|c| c.app(&part.app.into()))?;
        let detail = serde_json::json!({ "operation": ctx.operation, "error": text });
        let action = if left { "left".to_string() } else { format!("{}-failed", ctx.plan.kind()) };
        let entry: LedgerEntry = self.entry(&ctx.plan.caller(), app.as_ref(), &action, detail);
        let release = part.release.as_ref().map(|plan| plan.release);
        let build = part.build.as_ref().map(|plan| plan.build);
        let now = self.now();
        Ok(move |c: &Conn<'_>| {
            let status = if left { ReleaseStatus::Expired } else { ReleaseStatus::Failed };
            release.map_or(Ok(()), |release| c.fail_release(release, status, &text, now))?;
            let build = build.map(|build| c.build(build)).transpose()?.flatten();
            // One whose turn had not come yet, so that there is no step to take back.
            if let Some(mut build) = build.filter(|build| build.status == BuildStatus::Pending) {
                (build.status, build.failure, build.updated_at) = (BuildStatus::Failed, Some(text), now);
                c.put_build(&build)?;
            }
            c.record(&entry)
        })
    }
}

/// The step at which an operation failed: the one that began and did not succeed. None where it was stopped between two.
fn failed_at(plan: &Plan, rows: &[JournalRow]) -> Option<StepAt> {
    plan.steps().into_iter().find(|at| {
        let name = at.name();
        let mut own = rows.iter().filter(|row| row.step == name).peekable();
        own.peek().is_some() && !own.any(|row| row.event == StepEvent::Succeeded)
    })
}

/// What was written down of the end of an operation for an app.
pub(crate) fn ending_of(c: &Conn<'_>, operation: &Operation, app: AppId) -> shipway_store::Result<Option<Ending>> {
    if operation.status != OperationStatus::Failed {
        return Ok(None);
    }
    let all = || Ending { text: operation.error.clone().unwrap_or_default(), left: false };
    let plan = Plan::of(operation).ok().filter(|plan| plan.parts.len() > 1);
    let own = plan.and_then(|plan| plan.part(app)?.release.as_ref().map(|plan| plan.release));
    let own = own.map(|release| c.release(release)).transpose()?.flatten();
    Ok(Some(match own {
        Some(release) if release.failure.is_some() => {
            Ending { text: release.failure.unwrap_or_default(), left: release.status == ReleaseStatus::Expired }
        }
        _ => all(),
    }))
}
