//! Plans of operations and the names of their steps. Both are storage formats: add, don't rename.

use crate::ports::Caller;
use serde::{Deserialize, Serialize};
use shipway_domain::admission::{Actor, Trigger};
use shipway_domain::{AppId, BuildId, CommitId, DynoId, ProcessType, ReleaseId, SlugId};

/// What an operation is going to do; ids are chosen here, so that every step can run twice.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Plan {
    /// Whose.
    pub app: AppId,
    /// Who asked: admission is asked again before the switch.
    pub actor: Actor,
    /// By which road.
    pub via: String,
    /// What for.
    pub trigger: Trigger,
    /// A build, where there is one.
    pub build: Option<BuildPlan>,
    /// A release, where there is one.
    pub release: Option<ReleasePlan>,
    /// Dynos to replace, for a restart.
    pub restart: Option<RestartPlan>,
    /// The end of the app.
    pub destroy: bool,
}

/// The build of a plan.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BuildPlan {
    /// The build's id.
    pub build: BuildId,
    /// The slug that it makes, unless one is reused.
    pub slug: SlugId,
    /// What is built.
    pub commit: CommitId,
}

/// The release of a plan.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReleasePlan {
    /// The release's id.
    pub release: ReleaseId,
    /// The one-off dyno of its release phase.
    pub phase_dyno: DynoId,
    /// `Set FOO config vars`; a build's is `Deploy 7c1f0de`.
    pub description: String,
    /// Which code.
    pub code: Code,
    /// Whose config vars: the app's own, or those of an earlier release.
    pub config_of: Option<ReleaseId>,
    /// Whether the release phase runs after the new dynos are up.
    pub phase_last: bool,
}

/// Which code a release runs.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// What the plan's build makes.
    Built,
    /// What runs when the release's turn comes.
    Current,
    /// This one.
    Slug(SlugId),
}

/// The restart of a plan.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RestartPlan {
    /// A type, or all without one.
    pub process_type: Option<ProcessType>,
    /// One dyno's name.
    pub dyno: Option<String>,
}

/// A named step. The names are a storage format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// Keep the commit from collection.
    Pin,
    /// Make the artifact.
    Build,
    /// Write the release down, pending.
    Release,
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
    /// Take an app that ends out of the routes.
    Close,
    /// Stop and remove its dynos.
    StopAll,
    /// Remove everything that it owned.
    Erase,
}

impl Step {
    /// The name in the journal.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pin => "pin",
            Self::Build => "build",
            Self::Release => "release",
            Self::ReleasePhase => "release-phase",
            Self::Start => "start",
            Self::Healthy => "healthy",
            Self::Switch => "switch",
            Self::Route => "route",
            Self::Settle => "settle",
            Self::Close => "close",
            Self::StopAll => "stop-all",
            Self::Erase => "erase",
        }
    }

    /// Whether the operation can still be undone when this step fails.
    pub fn before_switch(self) -> bool {
        matches!(
            self,
            Self::Pin | Self::Build | Self::Release | Self::ReleasePhase | Self::Start | Self::Healthy | Self::Switch
        )
    }

    /// Whether it is part of making the artifact, which holds only the lock of deploys.
    pub fn builds(self) -> bool {
        matches!(self, Self::Pin | Self::Build)
    }
}

impl Plan {
    /// The steps in order.
    pub fn steps(&self) -> Vec<Step> {
        if self.destroy {
            return vec![Step::Close, Step::Route, Step::StopAll, Step::Erase];
        }
        let mut steps = Vec::new();
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
        steps
    }

    /// What it is, for lists: `deploy`, `release`, `restart`, `destroy`.
    pub fn kind(&self) -> &'static str {
        match (&self.build, &self.release, self.destroy) {
            (_, _, true) => "destroy",
            (Some(_), _, _) => "deploy",
            (None, Some(_), _) => "release",
            (None, None, _) => "restart",
        }
    }

    /// Whose transcript it writes: the build's, else the release's.
    pub(crate) fn transcript(&self) -> Option<uuid::Uuid> {
        self.build.as_ref().map(|b| b.build.0)
    }

    pub(crate) fn caller(&self) -> Caller {
        let via = match self.via.as_str() {
            "git" => "git",
            "dashboard" => "dashboard",
            "api" => "api",
            _ => "platform",
        };
        Caller { actor: self.actor.clone(), via }
    }
}
