//! Runs operations: steps in order, a journal row before and after each effect, undo before the switch, forward after.
//!
//! A step's change of the store and its `succeeded` row are one transaction. A server that was killed goes on from the
//! journal: a step without `succeeded` runs again, which every step allows. Undoing is in `undo`, what a failure
//! comes to for each app in `ending`; what people see of operations, and how they stop one, in `seen`; pushes that have nothing
//! left to do in `unneeded`.

mod ending;
mod seen;
mod undo;
mod unneeded;

pub use ending::Ending;
pub(crate) use ending::ending_of;
pub use seen::{Outcome, StepView};

use crate::change::cancelled;
use crate::error::Error;
use crate::locks::{Lock, Place, Turn};
use crate::output::Output;
use crate::plan::{Part, Plan, Step, StepAt};
use crate::ports::Lines;
use crate::{Event, Fault, Moment, Platform, Result};
use shipway_domain::lifecycle::OperationStatus;
use shipway_domain::{OperationId, ReleaseId};
use shipway_store::{Conn, JournalRow, Operation, StepEvent, StoreError};
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// What a step changes in the store; committed together with its `succeeded` row.
pub(crate) type Effect = Box<dyn FnOnce(&Conn<'_>) -> shipway_store::Result<()> + Send>;

/// A step that changes nothing in the store.
pub(crate) fn nothing() -> Effect {
    Box::new(|_| Ok(()))
}

/// What a step works with.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) operation: OperationId,
    pub(crate) plan: Plan,
    /// The transcript that the pusher reads.
    pub(crate) output: Option<Arc<Output>>,
    pub(crate) cancel: CancellationToken,
    /// Why it fails, where a step has told its reader already.
    pub(crate) said: Arc<OnceLock<String>>,
}

impl Context {
    /// Tells why it fails, before what belongs to that.
    pub(crate) fn say_why(&self, why: &str) {
        for line in why.lines() {
            self.line(&format!(" !     {line}"));
        }
        // Of several that fail at once, the first is the reason.
        let _ = self.said.set(why.to_string());
    }

    pub(crate) fn line(&self, line: &str) {
        if let Some(output) = &self.output {
            output.line(line);
        }
    }

    /// The part that a step is about: the named app's, or the only one.
    pub(crate) fn part(&self, at: StepAt) -> Result<&Part> {
        let part = match at.app {
            Some(app) => self.plan.part(app),
            None => self.plan.parts.first(),
        };
        part.ok_or_else(|| Error::platform("a step without its app"))
    }
}

/// Pause before a step after the switch, or an undo, is tried again.
const RETRY: Duration = Duration::from_millis(200);

/// The places of an operation in the queues of its apps. Those of releases are taken when the artifact is there.
struct Places {
    deploy: Vec<Place>,
    release: Vec<Place>,
}

impl Platform {
    /// Writes an operation down, with whatever `also` adds to that transaction, and starts it.
    pub(crate) async fn submit<F>(&self, plan: Plan, also: F) -> Result<OperationId>
    where
        F: FnOnce(&Conn<'_>) -> shipway_store::Result<()> + Send + 'static,
    {
        let id = self.id(OperationId);
        self.submit_as(id, plan, also).await?;
        Ok(id)
    }

    /// The same with an id that the caller has chosen.
    pub(crate) async fn submit_as<F>(&self, id: OperationId, plan: Plan, also: F) -> Result<()>
    where
        F: FnOnce(&Conn<'_>) -> shipway_store::Result<()> + Send + 'static,
    {
        self.submit_all(vec![(id, plan)], also).await
    }

    /// Writes several operations down in one transaction, and starts them.
    pub(crate) async fn submit_all<F>(&self, plans: Vec<(OperationId, Plan)>, also: F) -> Result<()>
    where
        F: FnOnce(&Conn<'_>) -> shipway_store::Result<()> + Send + 'static,
    {
        let now = self.now();
        let mut rows = Vec::new();
        for (id, plan) in &plans {
            rows.push(Operation {
                id: *id,
                apps: plan.apps(),
                kind: plan.kind().into(),
                plan: serde_json::to_value(plan).map_err(Error::platform)?,
                status: OperationStatus::Waiting,
                account: plan.actor.account,
                error: None,
                cancel: false,
                created_at: now,
                updated_at: now,
            });
        }
        self.store()
            .write(move |c| {
                for row in &rows {
                    let there = c.account(&row.account.into())?.is_some();
                    for app in &row.apps {
                        // Whoever was removed while they asked. What was under way may have something follow.
                        if !there && c.left_with(row.account, *app)?.is_none() {
                            return Err(StoreError::Missing("account: it was removed"));
                        }
                        // Its end has stopped what was under way, and waits for nothing else.
                        if c.app(&app.into())?.is_some_and(|app| app.ending) {
                            return Err(StoreError::Missing("app: it is being destroyed"));
                        }
                    }
                    c.insert_operation(row)?;
                }
                also(c)
            })
            .await?;
        for (id, plan) in plans {
            self.begin(id, plan, false);
        }
        Ok(())
    }

    /// Takes the operation's places in its queues now, and lets a task do the rest. `made`: its artifact is there.
    fn begin(&self, id: OperationId, plan: Plan, made: bool) {
        // An app's end waits for whatever makes something for it, which it has asked to stop.
        let builds = plan.parts.iter().filter(|p| p.build.is_some() || p.destroy);
        let builds = builds.map(|p| Lock::Deploy(p.app)).collect::<Vec<_>>();
        let release = if builds.is_empty() || made { self.release_places(id, &plan) } else { Vec::new() };
        let mut places = Places { deploy: self.inner.locks.enqueue(builds, id, Turn::AsItCame), release };
        let output = plan.transcript().and_then(|t| match self.output(t) {
            Ok(output) => Some(output),
            Err(e) => {
                tracing::error!(operation.id = %id, error = %e, "a transcript could not be opened");
                None
            }
        });
        let cancel = CancellationToken::new();
        self.inner.cancels.lock().expect("no panic while registered").insert(id, cancel.clone());
        let ctx = Context { operation: id, plan, output, cancel, said: Arc::default() };
        self.tell_apps(&ctx.plan);
        self.spawn(move |platform| async move {
            platform.carry_out(&ctx, &mut places).await;
            platform.inner.cancels.lock().expect("no panic while registered").remove(&id);
            drop(places);
            let plan = ctx.plan.clone();
            // The transcript ends here: whoever follows it then finds the final state.
            drop(ctx);
            for part in &plan.parts {
                platform.reconcile(part.app);
            }
            platform.review_soon();
            platform.tell_apps(&plan);
        });
    }

    fn release_places(&self, id: OperationId, plan: &Plan) -> Vec<Place> {
        let locks = plan.parts.iter().flat_map(|part| match part.databases() {
            none if none.is_empty() => vec![Lock::Release(part.app)],
            databases => databases.into_iter().map(Lock::Data).collect(),
        });
        self.inner.locks.enqueue(locks.collect(), id, self.turn(plan))
    }

    /// How an operation stands in the queue of its app's releases.
    fn turn(&self, plan: &Plan) -> Turn {
        let Some(release) = plan.parts.iter().find_map(|part| part.release.as_ref()) else { return Turn::AsItCame };
        match self.store().read(|c| c.release(release.release)) {
            Ok(Some(_)) => Turn::Numbered,
            _ => Turn::Unnumbered,
        }
    }

    fn tell_apps(&self, plan: &Plan) {
        for part in &plan.parts {
            self.tell(Event::App(part.app));
        }
    }

    /// Goes on with the operations that a former server left.
    pub(crate) fn resume_operations(&self) -> Result<()> {
        let mut open = self.store().read(|c| c.open_operations())?;
        // Those that had begun hold their locks: they take their places first.
        open.sort_by_key(|o| (o.status == OperationStatus::Waiting, o.created_at));
        for operation in open {
            match Plan::of(&operation) {
                Ok(plan) => {
                    tracing::info!(operation.id = %operation.id, "going on with an operation");
                    let journal = self.journal(operation.id);
                    let made = plan.steps().iter().any(|at| !at.step.builds() && journal.contains_key(&at.name()));
                    self.begin(operation.id, plan, made);
                }
                Err(e) => tracing::error!(operation.id = %operation.id, error = %e, "a plan cannot be read"),
            }
        }
        Ok(())
    }

    async fn carry_out(&self, ctx: &Context, places: &mut Places) {
        let result = self.run_steps(ctx, places).await;
        let (id, now) = (ctx.operation, self.now());
        let ended = match result {
            Ok(()) => {
                self.store().write(move |c| c.set_operation_status(id, OperationStatus::Succeeded, None, now)).await
            }
            Err(Ended::Dead) => return,
            Err(Ended::Failed { at, error }) => {
                if error.cause.is_some() {
                    tracing::error!(operation.id = %id, step = at.name(), error = %error, cause = ?error.cause, "an operation failed");
                }
                self.unwind(ctx, at, &error.to_string()).await
            }
        };
        if let Err(e) = ended {
            tracing::error!(operation.id = %id, error = %e, "the end of an operation could not be written down");
        }
    }

    async fn run_steps(&self, ctx: &Context, places: &mut Places) -> Result<(), Ended> {
        let steps = ctx.plan.steps();
        let journal = self.journal(ctx.operation);
        let id = ctx.operation;
        let status = self.store().read(|c| c.operation(id)).map(|o| o.status);
        let first = *steps.first().ok_or(Ended::Dead)?;
        if matches!(status, Ok(OperationStatus::Unwinding)) {
            return Err(Ended::Failed { at: first, error: Error::conflict("It was being undone.") });
        }
        for at in steps {
            if journal.get(&at.name()).is_some_and(|r| r.event == StepEvent::Succeeded) {
                continue;
            }
            self.wait_turn(ctx, at, places).await;
            if at.step.before_switch() && self.is_cancelled(ctx) {
                return Err(Ended::Failed { at, error: cancelled() });
            }
            let begins = at == first || at.step == Step::Release;
            if begins && self.is_unneeded(ctx).await.map_err(|error| Ended::Failed { at, error })? {
                return Ok(());
            }
            self.write_step(ctx, at, StepEvent::Started, nothing())
                .await
                .map_err(|error| Ended::Failed { at, error })?;
            self.die_here(at, Moment::Started)?;
            self.complete_step(ctx, at).await?;
            self.die_here(at, Moment::Succeeded)?;
            self.tell_apps(&ctx.plan);
        }
        Ok(())
    }

    /// Runs a step until its `succeeded` is written. Before the switch its first error is the operation's; after it, it is
    /// tried until it works.
    async fn complete_step(&self, ctx: &Context, at: StepAt) -> Result<(), Ended> {
        loop {
            let done = match self.run_step(ctx, at).await {
                Ok(effect) => match self.fault(at, Moment::Worked) {
                    None => self.write_step(ctx, at, StepEvent::Succeeded, effect).await,
                    Some(Fault::Repeat) => continue,
                    Some(Fault::Fail) => Err(Error::platform("a test lets this step fail")),
                    Some(Fault::Die) => return Err(Ended::Dead),
                },
                Err(e) => Err(e),
            };
            match done {
                Ok(()) => return Ok(()),
                Err(error) if at.step.before_switch() => return Err(Ended::Failed { at, error }),
                Err(error) => {
                    tracing::error!(operation.id = %ctx.operation, step = at.name(), error = %error, cause = ?error.cause, "a step is tried again");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    /// Waits for the lock that a step needs, and says behind whom.
    async fn wait_turn(&self, ctx: &Context, at: StepAt, places: &mut Places) {
        let ran = self.what_runs(ctx);
        self.wait_first(ctx, &places.deploy).await;
        if !at.step.builds() {
            if places.release.is_empty() {
                places.release = self.release_places(ctx.operation, &ctx.plan);
            }
            self.wait_first(ctx, &places.release).await;
        }
        if self.what_runs(ctx) != ran {
            self.say_what_is_replaced(ctx).await;
        }
    }

    /// The releases that run on the apps of a plan.
    fn what_runs(&self, ctx: &Context) -> Vec<Option<ReleaseId>> {
        let of = |app| self.store().read(|c| c.app_by_id(app)).ok()?.current_release;
        ctx.plan.parts.iter().map(|part| of(part.app)).collect()
    }

    /// Says what came to run while a push waited, where the push brings less than that: nobody was told before.
    async fn say_what_is_replaced(&self, ctx: &Context) {
        for part in &ctx.plan.parts {
            let (Some(build), Ok(app)) = (&part.build, self.store().read(|c| c.app_by_id(part.app))) else { continue };
            // What cannot be compared is not worth a deploy.
            if let Ok(Some(there)) = self.replaces(&ctx.plan.caller(), &app, &build.commit).await {
                there.replaced(&app, self.now()).iter().for_each(|line| ctx.line(line));
            }
        }
    }

    async fn wait_first(&self, ctx: &Context, places: &[Place]) {
        for place in places {
            if let Some(before) = place.behind() {
                let who = self.store().read(|c| {
                    let operation = c.operation(before)?;
                    Ok((operation.kind, c.address_of(operation.account)?))
                });
                if let Ok((kind, email)) = who {
                    ctx.line(&format!("-----> Waiting behind a {kind} by {email} (shipway ops {before})"));
                }
            }
            place.first().await;
        }
    }

    pub(crate) fn is_cancelled(&self, ctx: &Context) -> bool {
        ctx.cancel.is_cancelled() || self.store().read(|c| c.operation(ctx.operation)).is_ok_and(|o| o.cancel)
    }

    async fn write_step(&self, ctx: &Context, at: StepAt, event: StepEvent, effect: Effect) -> Result<()> {
        let (id, now) = (ctx.operation, self.now());
        self.store()
            .write(move |c| {
                effect(c)?;
                c.set_operation_status(id, OperationStatus::Running, None, now)?;
                c.journal(id, &at.name(), event, None, now)
            })
            .await?;
        Ok(())
    }

    /// The last journal row of each step.
    pub(crate) fn journal(&self, id: OperationId) -> HashMap<String, JournalRow> {
        let rows = self.store().read(|c| c.journal_of(id)).unwrap_or_default();
        rows.into_iter().map(|r| (r.step.clone(), r)).collect()
    }

    /// What a test does to this step now. One that dies takes all tasks of the platform with it.
    fn fault(&self, at: StepAt, moment: Moment) -> Option<Fault> {
        let faults = self.inner.parts.faults.as_ref()?;
        let fault = faults(&at.name(), moment);
        if fault == Some(Fault::Die) {
            self.inner.stop.cancel();
        }
        fault
    }

    fn die_here(&self, at: StepAt, moment: Moment) -> Result<(), Ended> {
        match self.fault(at, moment) {
            Some(Fault::Die) => Err(Ended::Dead),
            _ => Ok(()),
        }
    }
}

/// Why the steps of an operation came to an end before the last.
enum Ended {
    /// A step before the switch failed.
    Failed { at: StepAt, error: Error },
    /// A test stopped the platform here.
    Dead,
}
