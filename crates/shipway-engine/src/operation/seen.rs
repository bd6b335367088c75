//! Operations as people see them: which there are, what their steps have come to, and how one is waited for or stopped.

use crate::error::Error;
use crate::plan::{Plan, Step, StepAt};
use crate::ports::Caller;
use crate::{Platform, Result};
use jiff::Timestamp;
use shipway_domain::lifecycle::OperationStatus;
use shipway_domain::{AppId, OperationId};
use shipway_store::{App, JournalRow, Operation, Release, StepEvent, StoreError};
use std::time::Duration;

/// How an operation ended.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// The new code serves, or what was asked for is done.
    Live {
        /// The release, where there was one; of several the first app's.
        release: Option<Release>,
    },
    /// What ran before runs on.
    Failed {
        /// Why, for the user.
        message: String,
    },
}

/// One step as people look at it.
#[derive(Debug, Clone)]
pub struct StepView {
    /// Its name: `start`, or `start:<app>` where there are several apps.
    pub name: String,
    /// The same for people: `start`, or `start shop-production`.
    pub title: String,
    /// `waiting`, `running`, `succeeded`, `failed`, `undone`.
    pub state: &'static str,
    /// When it began, last.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Why it failed.
    pub error: Option<String>,
}

impl Platform {
    /// Waits until an operation has ended.
    pub async fn live(&self, id: OperationId) -> Result<Outcome> {
        let mut events = self.events();
        loop {
            let operation = self.store().read(|c| c.operation(id))?;
            match operation.status {
                OperationStatus::Succeeded => {
                    let plan = Plan::of(&operation)?;
                    let release = plan.parts.into_iter().find_map(|p| p.release);
                    let release = release.map(|r| self.store().read(|c| c.release(r.release))).transpose()?;
                    return Ok(Outcome::Live { release: release.flatten() });
                }
                OperationStatus::Failed => {
                    return Ok(Outcome::Failed { message: operation.error.unwrap_or_default() });
                }
                _ => {}
            }
            // A missed event costs one second.
            let _ = tokio::time::timeout(Duration::from_secs(1), events.recv()).await;
        }
    }

    /// The newest operations that the caller may see, of one app or of all.
    pub fn operations(&self, caller: &Caller, app: Option<&App>) -> Result<Vec<Operation>> {
        let all = self.store().read(|c| c.operations(app.map(|a| a.id), 200))?;
        let sees_all = caller.actor.admin && caller.actor.scope.reads_widely();
        if sees_all && app.is_none() {
            return Ok(all);
        }
        let visible: Vec<_> = self.apps(caller, true)?.into_iter().map(|a| a.id).collect();
        let visible = |o: &Operation| app.is_some() || o.apps.iter().any(|id| visible.contains(id));
        Ok(all.into_iter().filter(visible).collect())
    }

    /// One operation that the caller may see: by any of its apps.
    pub fn operation(&self, caller: &Caller, id: OperationId) -> Result<Operation> {
        let missing = || Error::missing_one("operation", &id.to_string(), "`shipway ops` lists them with their ids.");
        let operation = self.store().read(|c| c.operation(id)).map_err(|e| match e {
            StoreError::Missing(_) => missing(),
            other => other.into(),
        })?;
        let seen = |app: &AppId| self.app(caller, &app.into()).is_ok();
        // Administrators still see how one ended whose app is gone.
        let sees_all = caller.actor.admin && caller.actor.scope.reads_widely();
        if sees_all || operation.apps.iter().any(seen) {
            return Ok(operation);
        }
        Err(missing())
    }

    /// An operation's steps in order, with what the journal says of each.
    pub fn steps(&self, id: OperationId) -> Result<Vec<StepView>> {
        let (operation, rows) = self.store().read(|c| Ok((c.operation(id)?, c.journal_of(id)?)))?;
        let plan = Plan::of(&operation)?;
        let over = operation.status.is_final() || operation.status == OperationStatus::Unwinding;
        let view = |at: StepAt| {
            let name = at.name();
            let mine: Vec<&JournalRow> = rows.iter().filter(|r| r.step == name).collect();
            let last = mine.last();
            let begun = mine.iter().rev().find(|r| r.event == StepEvent::Started);
            let unfinished = !mine.iter().any(|r| r.event == StepEvent::Succeeded);
            StepView {
                title: match at.app {
                    None => name.clone(),
                    Some(app) => {
                        format!("{} {}", at.step.name(), self.name_of(app).unwrap_or_else(|| app.to_string()))
                    }
                },
                name,
                state: match last.map(|r| r.event) {
                    None => "waiting",
                    Some(StepEvent::Started) if over => "failed",
                    Some(StepEvent::Started) => "running",
                    Some(StepEvent::Succeeded) => "succeeded",
                    Some(StepEvent::Undone) if unfinished => "failed",
                    Some(StepEvent::Undone) => "undone",
                    Some(StepEvent::Failed) => "failed",
                },
                started_at: begun.map(|r| r.at),
                ended_at: last.filter(|r| r.event != StepEvent::Started).map(|r| r.at),
                error: (over && unfinished && !mine.is_empty()).then(|| operation.error.clone()).flatten(),
            }
        };
        Ok(plan.steps().into_iter().map(view).collect())
    }

    /// Whom an operation waits for.
    pub fn waiting_behind(&self, id: OperationId) -> Option<OperationId> {
        self.inner.locks.behind(id)
    }

    /// Asks an operation to stop before its switch. Errors: it is over, has switched, or only goes forward.
    pub async fn cancel(&self, caller: &Caller, id: OperationId) -> Result<()> {
        let operation = self.operation(caller, id)?;
        let plan = Plan::of(&operation)?;
        for part in &plan.parts {
            let app = self.app(caller, &part.app.into())?;
            self.admit(caller, plan.trigger, &app).await?;
        }
        self.stops(&operation, &plan)?;
        self.store().write(move |c| c.cancel_operation(id)).await?;
        if let Some(cancel) = self.inner.cancels.lock().expect("no panic while registered").get(&id) {
            cancel.cancel();
        }
        Ok(())
    }

    /// Whether an operation can still be stopped, by whoever may.
    pub fn is_cancellable(&self, operation: &Operation) -> bool {
        // Whatever its plan is: of the many that are listed, most are over.
        !operation.status.is_final()
            && !operation.cancel
            && operation.status != OperationStatus::Unwinding
            && Plan::of(operation).is_ok_and(|plan| self.stops(operation, &plan).is_ok())
    }

    /// Errors: why an operation does not stop.
    fn stops(&self, operation: &Operation, plan: &Plan) -> Result<()> {
        let journal = self.journal(operation.id);
        let done = |at: &StepAt| journal.get(&at.name()).is_some_and(|r| r.event == StepEvent::Succeeded);
        let steps = plan.steps();
        if matches!(operation.status, OperationStatus::Failed) {
            return Err(Error::conflict(
                "It is over: it failed, and what it had done is undone. What ran before runs on.",
            ));
        }
        if operation.status.is_final() || steps.iter().any(|at| at.step == Step::Switch && done(at)) {
            return Err(Error::conflict(
                "It has switched already and only goes forward. To go back: heroku releases:rollback.",
            ));
        }
        if !steps.iter().any(|at| at.step.before_switch() && !done(at)) {
            return Err(Error::conflict("It only goes forward: nothing that is left of it can be taken back."));
        }
        Ok(())
    }
}
