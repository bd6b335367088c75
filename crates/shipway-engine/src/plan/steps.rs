//! The steps that a plan has, and their order.

use super::{AddonPlan, Part, Plan};
use shipway_domain::AppId;

/// A kind of step. The names are a storage format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// Hold the app that was written down with the operation. Taken back, nothing of it is left.
    Create,
    /// Bring the commit from another app's repository, and keep it from collection.
    Carry,
    /// Bring the commit from a forge, and keep it from collection.
    Fetch,
    /// Make the app what its app.json says.
    Setup,
    /// Keep the commit from collection.
    Pin,
    /// Make the artifact.
    Build,
    /// Write the release down, pending.
    Release,
    /// Run the command of an external step.
    External,
    /// Run the `release` process.
    ReleasePhase,
    /// Start the new dynos of types that overlap.
    Start,
    /// Wait until all of them are ready.
    Healthy,
    /// Commit the next epoch: the point of no return.
    Switch,
    /// Wait until the router serves it.
    Route,
    /// Move the branch, keep the commit, record.
    Settle,
    /// Run what runs once in an app's life.
    Postdeploy,
    /// Run what runs before the end of a review app.
    Predestroy,
    /// Take an app that ends out of the routes.
    Close,
    /// Stop and remove its dynos.
    StopAll,
    /// Remove everything that it owned.
    Erase,
    /// Make what an add-on is.
    Provision,
    /// Release the app with it.
    Attach,
    /// Release apps without it.
    Detach,
    /// Remove what an add-on was.
    Deprovision,
    /// Move a database's data.
    Transfer,
}

impl Step {
    /// The name in the journal.
    pub fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Carry => "carry",
            Self::Fetch => "fetch",
            Self::Setup => "setup",
            Self::Pin => "pin",
            Self::Build => "build",
            Self::Release => "release",
            Self::External => "external",
            Self::ReleasePhase => "release-phase",
            Self::Start => "start",
            Self::Healthy => "healthy",
            Self::Switch => "switch",
            Self::Route => "route",
            Self::Settle => "settle",
            Self::Postdeploy => "postdeploy",
            Self::Predestroy => "predestroy",
            Self::Close => "close",
            Self::StopAll => "stop-all",
            Self::Erase => "erase",
            Self::Provision => "provision",
            Self::Attach => "attach",
            Self::Detach => "detach",
            Self::Deprovision => "deprovision",
            Self::Transfer => "transfer",
        }
    }

    /// Whether the operation can still be undone when this step fails.
    pub fn before_switch(self) -> bool {
        !matches!(
            self,
            Self::Route
                | Self::Settle
                | Self::Postdeploy
                | Self::Predestroy
                | Self::Close
                | Self::StopAll
                | Self::Erase
                | Self::Attach
                | Self::Detach
                | Self::Deprovision
        )
    }

    /// Whether it is part of making the artifact, which holds only the lock of deploys.
    pub fn builds(self) -> bool {
        matches!(self, Self::Create | Self::Carry | Self::Fetch | Self::Setup | Self::Pin | Self::Build)
    }
}

/// A step of a plan: of one app where the plan has several and each has its own, else of the whole operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StepAt {
    /// What is done.
    pub step: Step,
    /// To which app.
    pub app: Option<AppId>,
}

impl StepAt {
    /// The name in the journal: `start`, or `start:<app>` where there are several apps.
    pub fn name(&self) -> String {
        match self.app {
            None => self.step.name().into(),
            Some(app) => format!("{}:{app}", self.step.name()),
        }
    }
}

impl Part {
    /// The steps of an operation on this app alone.
    fn steps(&self) -> Vec<Step> {
        match &self.addon {
            Some(AddonPlan::Create { .. }) => return vec![Step::Provision, Step::Attach],
            Some(AddonPlan::Destroy { .. }) => return vec![Step::Detach, Step::Deprovision],
            Some(AddonPlan::Transfer { .. }) => return vec![Step::Transfer],
            None => {}
        }
        if self.destroy {
            let script = self.predestroy.map(|_| Step::Predestroy);
            return script.into_iter().chain([Step::Close, Step::Route, Step::StopAll, Step::Erase]).collect();
        }
        let mut steps = Vec::new();
        // First, so that it is taken back last.
        steps.extend(self.setup.as_ref().map(|_| Step::Create));
        steps.extend(self.carry.as_ref().map(|_| Step::Carry));
        steps.extend(self.fetch.as_ref().map(|_| Step::Fetch));
        steps.extend(self.setup.as_ref().map(|_| Step::Setup));
        if self.build.is_some() {
            steps.extend([Step::Pin, Step::Build]);
        }
        match &self.release {
            Some(r) if r.phase_last => {
                steps.extend([Step::Release, Step::Start, Step::Healthy, Step::ReleasePhase]);
            }
            Some(_) => steps.extend([Step::Release, Step::ReleasePhase, Step::Start, Step::Healthy]),
            None => steps.extend([Step::Start, Step::Healthy]),
        }
        steps.extend([Step::Switch, Step::Route]);
        if self.release.is_some() {
            steps.push(Step::Settle);
        }
        steps.extend(self.setup.as_ref().map(|_| Step::Postdeploy));
        steps
    }
}

impl Plan {
    /// The steps in order.
    ///
    /// With several apps (or an external step) all are prepared first, app by app and step by step, the external steps in
    /// their own order, the release phases last, because they cannot be undone; then all switch at once.
    pub fn steps(&self) -> Vec<StepAt> {
        match self.parts.as_slice() {
            [only] if only.external.is_none() => {
                return only.steps().into_iter().map(|step| StepAt { step, app: None }).collect();
            }
            _ => {}
        }
        let mut steps = Vec::new();
        let mut each = |step: Step, wanted: fn(&Part) -> bool| {
            let of = self.parts.iter().filter(|p| wanted(p));
            steps.extend(of.map(|p| StepAt { step, app: Some(p.app) }));
        };
        each(Step::Carry, |p| p.carry.is_some());
        each(Step::Release, |p| p.release.is_some());
        each(Step::Start, |_| true);
        each(Step::Healthy, |_| true);
        let mut external: Vec<_> =
            self.parts.iter().filter_map(|p| Some((p.external.as_ref()?.position, p.app))).collect();
        external.sort_by_key(|(position, _)| *position);
        steps.extend(external.into_iter().map(|(_, app)| StepAt { step: Step::External, app: Some(app) }));
        let phases = self.parts.iter().filter(|p| p.release.is_some());
        steps.extend(phases.map(|p| StepAt { step: Step::ReleasePhase, app: Some(p.app) }));
        steps.extend([Step::Switch, Step::Route].map(|step| StepAt { step, app: None }));
        let settled = self.parts.iter().filter(|p| p.release.is_some());
        steps.extend(settled.map(|p| StepAt { step: Step::Settle, app: Some(p.app) }));
        steps
    }
}
