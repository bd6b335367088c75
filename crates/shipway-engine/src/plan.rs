//! Plans of operations: a storage format, like the names of their steps (`steps`). Add, don't rename.
//!
//! A plan has one *part* per app. Nearly every operation has one; a promotion of a product has several, which switch
//! together.

mod steps;

pub use steps::{Step, StepAt};

use crate::Result;
use crate::error::Error;
use crate::ports::{Caller, Place};
use serde::{Deserialize, Serialize};
use shipway_domain::admission::{Actor, Trigger};
use shipway_domain::app_json::Environment;
use shipway_domain::{
    AddonId, AppId, AppSetupId, AttachmentId, BuildId, CommitId, ConfigKey, DynoId, OperationId, PipelineId,
    ProcessType, ReleaseId, SlugId, TransferId,
};
use shipway_store::Operation;
use std::collections::BTreeSet;

/// What an operation is going to do; ids are chosen here, so that every step can run twice.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(from = "Stored")]
pub struct Plan {
    /// Who asked: admission is asked again before the switch.
    pub actor: Actor,
    /// By which road.
    pub via: String,
    /// What for.
    pub trigger: Trigger,
    /// What happens to each app, sorted by app: at least one.
    pub parts: Vec<Part>,
}

/// What happens to one app.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Part {
    /// Which.
    pub app: AppId,
    /// A commit of another repository that its code is made from.
    #[serde(default)]
    pub carry: Option<CarryPlan>,
    /// A commit at a forge that its code is made from.
    #[serde(default)]
    pub fetch: Option<FetchPlan>,
    /// What makes the app first, and its first release something more.
    #[serde(default)]
    pub setup: Option<SetupPlan>,
    /// A build, where there is one.
    pub build: Option<BuildPlan>,
    /// A command that takes part before the switch.
    #[serde(default)]
    pub external: Option<ExternalPlan>,
    /// A release, where there is one.
    pub release: Option<ReleasePlan>,
    /// Dynos to replace, for a restart.
    pub restart: Option<RestartPlan>,
    /// The end of the app.
    pub destroy: bool,
    /// The dyno of the script that runs before the end of a review app.
    #[serde(default)]
    pub predestroy: Option<DynoId>,
    /// Work on an add-on, which is then all that the operation does.
    #[serde(default)]
    pub addon: Option<AddonPlan>,
}

/// A plan as it is stored: with its parts, or, from before there were several, with the one part's fields beside the
/// others.
#[derive(Deserialize)]
struct Stored {
    actor: Actor,
    via: String,
    trigger: Trigger,
    #[serde(default)]
    parts: Vec<Part>,
    #[serde(flatten)]
    only: Option<Part>,
}

impl From<Stored> for Plan {
    fn from(s: Stored) -> Self {
        let parts = if s.parts.is_empty() { s.only.into_iter().collect() } else { s.parts };
        Self { actor: s.actor, via: s.via, trigger: s.trigger, parts }
    }
}

/// A commit on its way from another repository of ours.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CarryPlan {
    /// The repository that has it.
    #[serde(deserialize_with = "place")]
    pub from: Place,
    /// Which.
    pub commit: CommitId,
}

/// Reads a repository; a bare id is an app's, as it was stored before there were others.
fn place<'de, D: serde::Deserializer<'de>>(stored: D) -> Result<Place, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Stored {
        App(AppId),
        Place(Place),
    }
    Ok(match Stored::deserialize(stored)? {
        Stored::App(app) => Place::App(app),
        Stored::Place(place) => place,
    })
}

/// A commit on its way from a forge.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FetchPlan {
    /// `owner/name` of the repository that has it.
    pub repository: String,
    /// Which.
    pub commit: CommitId,
}

/// The making of an app as its app.json says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SetupPlan {
    /// The setup's id.
    pub setup: AppSetupId,
    /// What the app is for.
    pub environment: Environment,
    /// Config vars that the app.json may give another value. Names only.
    pub inherited: BTreeSet<ConfigKey>,
    /// Config vars of the parent that the app does not get, because they lead to the parent's data. Names only; in plans
    /// from before they were told there are none.
    #[serde(default)]
    pub withheld: BTreeSet<ConfigKey>,
    /// The dyno of the postdeploy script.
    pub postdeploy_dyno: DynoId,
    /// Whether add-ons that are not there are left out instead of refused.
    pub without_addons: bool,
}

/// A command that does something elsewhere, with the one that takes it back. Both run as one-off dynos with the new
/// release's code and config, and may run twice.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ExternalPlan {
    /// What people call it.
    pub name: String,
    /// Its place among those of the plan, from 0; in plans from before steps had an order it is 0 for all.
    #[serde(default)]
    pub position: usize,
    /// The command, for a shell.
    pub command: String,
    /// What undoes it.
    pub undo: String,
    /// The dyno of the command.
    pub dyno: DynoId,
    /// The dyno of the undo.
    pub undo_dyno: DynoId,
}

/// Work on an add-on.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AddonPlan {
    /// Make it, then release the app with it.
    Create {
        /// The add-on.
        addon: AddonId,
        /// The release, an operation of its own: an add-on stays when the app's code does not start with it.
        release: ReleasePlan,
        /// That operation.
        operation: OperationId,
    },
    /// Release the apps that it is attached to without it, then remove it with its data.
    Destroy {
        /// The add-on.
        addon: AddonId,
        /// Its attachments.
        detach: Vec<DetachPlan>,
    },
    /// Back a database up, restore or copy it.
    Transfer {
        /// The transfer.
        transfer: TransferId,
        /// The database that is written, or that is read when none is.
        addon: AddonId,
        /// The database that is copied.
        from: Option<AddonId>,
    },
}

/// An attachment that goes: a release of its app, which is an operation of its own.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DetachPlan {
    /// The attachment.
    pub attachment: AttachmentId,
    /// Whose.
    pub app: AppId,
    /// The release without it.
    pub release: ReleasePlan,
    /// That operation.
    pub operation: OperationId,
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
    /// The pipeline whose apps share one build of a commit; none: the app builds for itself.
    #[serde(default)]
    pub shared: Option<PipelineId>,
    /// Whether a shared build must have had all of the app's config vars, not only those that builds are known to read.
    #[serde(default)]
    pub exactly: bool,
    /// The version that ran when it was asked for, 0 for none: what came since came while it waited. None: it is built
    /// whatever runs, as those are from before this was kept.
    #[serde(default)]
    pub over: Option<u64>,
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
    /// Another app's, byte for byte: `slug` is written down as this app's from `of`.
    Promoted {
        /// The other app's.
        of: SlugId,
        /// This app's.
        slug: SlugId,
    },
}

/// The restart of a plan.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RestartPlan {
    /// A type, or all without one.
    pub process_type: Option<ProcessType>,
    /// One dyno's name.
    pub dyno: Option<String>,
}

impl Part {
    /// Nothing happens to this app yet.
    pub fn new(app: AppId) -> Self {
        Self {
            app,
            carry: None,
            fetch: None,
            setup: None,
            build: None,
            external: None,
            release: None,
            restart: None,
            destroy: false,
            predestroy: None,
            addon: None,
        }
    }

    pub(crate) fn build(&self) -> Result<&BuildPlan> {
        self.build.as_ref().ok_or_else(|| Error::platform("a step without its build"))
    }

    pub(crate) fn release(&self) -> Result<&ReleasePlan> {
        self.release.as_ref().ok_or_else(|| Error::platform("a step without its release"))
    }

    pub(crate) fn setup(&self) -> Result<&SetupPlan> {
        self.setup.as_ref().ok_or_else(|| Error::platform("a step without its setup"))
    }

    pub(crate) fn addon(&self) -> Result<&AddonPlan> {
        self.addon.as_ref().ok_or_else(|| Error::platform("a step without its add-on"))
    }

    /// The databases whose locks are held instead of the app's: of a copy both.
    pub(crate) fn databases(&self) -> Vec<AddonId> {
        match self.addon {
            Some(AddonPlan::Transfer { addon, from, .. }) => [addon].into_iter().chain(from).collect(),
            Some(AddonPlan::Destroy { addon, .. }) => vec![addon],
            _ => Vec::new(),
        }
    }
}

impl Plan {
    /// The plan of an operation. Errors: another version wrote it, in words that this one does not know.
    pub fn of(operation: &Operation) -> Result<Self> {
        Self::deserialize(&operation.plan).map_err(Error::platform)
    }

    /// The apps whose locks it holds, sorted.
    pub fn apps(&self) -> Vec<AppId> {
        self.parts.iter().map(|p| p.app).collect()
    }

    /// The part of one app.
    pub fn part(&self, app: AppId) -> Option<&Part> {
        self.parts.iter().find(|p| p.app == app)
    }

    /// What it is, for lists: `setup`, `deploy`, `release`, `promotion`, `restart`, `destroy`, `addon`,
    /// `transfer`.
    pub fn kind(&self) -> &'static str {
        let any = |wanted: fn(&Part) -> bool| self.parts.iter().any(wanted);
        if any(|p| matches!(p.addon, Some(AddonPlan::Transfer { .. }))) {
            "transfer"
        } else if any(|p| p.addon.is_some()) {
            "addon"
        } else if any(|p| p.destroy) {
            "destroy"
        } else if any(|p| p.setup.is_some()) {
            "setup"
        } else if any(|p| p.build.is_some()) {
            "deploy"
        } else if self.trigger == Trigger::Promotion {
            "promotion"
        } else if any(|p| p.release.is_some()) {
            "release"
        } else {
            "restart"
        }
    }

    /// Whose transcript it writes: the build's or the transfer's.
    pub(crate) fn transcript(&self) -> Option<uuid::Uuid> {
        let transfer = self.parts.iter().find_map(|p| match &p.addon {
            Some(AddonPlan::Transfer { transfer, .. }) => Some(transfer.0),
            _ => None,
        });
        if transfer.is_some() {
            return transfer;
        }
        self.parts.iter().find_map(|p| p.build.as_ref()).map(|b| b.build.0)
    }

    /// Whether somebody is likely to sit in front of it: not what forges and the platform itself set off.
    pub(crate) fn is_attended(&self) -> bool {
        self.caller().via != "platform"
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

#[cfg(test)]
mod tests;
