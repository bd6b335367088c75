//! One road in: every way to change what runs asks [`admit`], and there is no second one.
//!
//! It is asked twice: at the door, before a build, and under the app's lock immediately before the switch. The second
//! answer decides. Rules that are not there yet (windows, freezes) become fields of [`Subject`] and arms here.

use crate::ids::{AccountId, AppId};
use crate::minute;
use crate::pipeline::Stage;
use crate::sign_off::SignOffs;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What somebody wants to do to an app. Closed: a new way in is a new variant, and the tests enumerate all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// Refs pushed with git.
    Push,
    /// A build of a source blob.
    Build,
    /// A release of a slug that is there.
    SlugRelease,
    /// The running release once more.
    Redeploy,
    /// A change of config vars.
    Config,
    /// A change of the formation.
    Scale,
    /// A restart or stop of dynos.
    Restart,
    /// A one-off dyno.
    OneOff,
    /// A release of an older release.
    Rollback,
    /// A release of what another app of the pipeline runs.
    Promotion,
    /// An add-on made, attached, detached or destroyed, and what is done to its data.
    Addon,
    /// A domain added or removed.
    Domain,
    /// Settings: maintenance, buildpacks, stack, name.
    Settings,
    /// Collaborators.
    Access,
    /// The end of the app.
    Destroy,
}

impl Trigger {
    /// All of them, for enumeration.
    pub const ALL: [Self; 15] = [
        Self::Push,
        Self::Build,
        Self::SlugRelease,
        Self::Redeploy,
        Self::Config,
        Self::Scale,
        Self::Restart,
        Self::OneOff,
        Self::Rollback,
        Self::Promotion,
        Self::Addon,
        Self::Domain,
        Self::Settings,
        Self::Access,
        Self::Destroy,
    ];

    /// The permission that it needs.
    pub fn permission(self) -> Permission {
        match self {
            Self::Push | Self::Build | Self::SlugRelease | Self::Redeploy | Self::Rollback | Self::Promotion => {
                Permission::Deploy
            }
            Self::Config | Self::Scale | Self::Restart | Self::OneOff | Self::Addon | Self::Domain | Self::Settings => {
                Permission::Operate
            }
            Self::Access | Self::Destroy => Permission::Manage,
        }
    }

    /// Whether it has an app run code that it may never have run: what an app has run may come back, and run on.
    pub fn brings_new_code(self) -> bool {
        matches!(self, Self::Push | Self::Build | Self::SlugRelease | Self::Promotion)
    }
}

/// What a person may do with an app, each including the ones before it.
/// Source: Heroku Platform API, "Team App Permission" (`view`, `deploy`, `operate`, `manage`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Permission {
    /// See it.
    View,
    /// Change its code.
    Deploy,
    /// Change its config, formation and dynos.
    Operate,
    /// Change who has access, or end it.
    Manage,
}

/// How far a token reaches. Source: Heroku Platform API, "OAuth" scopes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Everything that its account may do.
    Global,
    /// The account itself and nothing else.
    Identity,
    /// Read everything but config vars.
    Read,
    /// Read everything.
    ReadProtected,
    /// Change everything but config vars.
    Write,
    /// Change everything.
    WriteProtected,
    /// Deploy one app, and see whether it worked: what CI gets.
    Deploy {
        /// The one app.
        app: AppId,
    },
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// The account.
    pub account: AccountId,
    /// Its address, for records and messages.
    pub email: String,
    /// Whether the account administers the platform.
    pub admin: bool,
    /// How far the token reaches that was shown.
    pub scope: Scope,
}

impl Actor {
    /// Whether they may do what the owner with this address may.
    pub fn owns(&self, owner_email: &str) -> bool {
        (self.admin || self.email == owner_email) && self.scope.writes()
    }
}

/// What the platform knows of the app that matters to admission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The app.
    pub app: AppId,
    /// Its name, for messages.
    pub name: String,
    /// Its owner, who can lift a refusal of access.
    pub owner_email: String,
    /// What the actor may do with it; `None` is no access at all.
    pub permission: Option<Permission>,
    /// Whether it is being destroyed.
    pub ending: bool,
    /// What the code lacks that is to run, where the app's stage asks for all of its upstream; else none.
    pub behind: Option<Behind>,
    /// What CI says of the code that is to run, where the app's stage takes only what has passed and it has not; else none.
    pub unchecked: Option<Unchecked>,
    /// Who keeps it for themselves.
    pub reserved: Option<Reserved>,
    /// What the app's stage wants signed, and what the code that is to run has; none where it wants nothing, or where no
    /// code is known yet.
    pub sign_offs: Option<SignOffs>,
}

/// An app that somebody keeps for themselves for a while: nobody else changes its code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reserved {
    /// Who.
    pub account: AccountId,
    /// Their address.
    pub email: String,
    /// When it ends by itself.
    pub until: Timestamp,
    /// What for.
    pub reason: Option<String>,
}

/// Code that lacks commits of the line that a team works on, for a stage that refuses it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Behind {
    /// The line's branch.
    pub branch: String,
    /// How many of its commits are missing.
    pub commits: usize,
    /// The app's stage.
    pub stage: Stage,
    /// The pipeline, whose owner can change the rule.
    pub pipeline: String,
    /// The pipeline's owner.
    pub owner_email: String,
}

/// Code that CI has not passed, for a stage that takes no other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unchecked {
    /// What is known of it: `CI failed for 3f9c2a1`.
    pub words: String,
    /// The app's stage.
    pub stage: Stage,
    /// The pipeline, whose owner can change the rule.
    pub pipeline: String,
    /// The pipeline's owner.
    pub owner_email: String,
}

/// Proof that something was admitted. Only [`admit`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    trigger: Trigger,
    at: Timestamp,
}

impl Admitted {
    /// What was admitted.
    pub fn trigger(&self) -> Trigger {
        self.trigger
    }

    /// When.
    pub fn at(&self) -> Timestamp {
        self.at
    }
}

/// A refusal with everything that a person needs to get past it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{because}{}", ends(.lifts_at, .way_out))]
pub struct Refused {
    /// The rule's name: `access`, `token-scope`, `ending`, `reserved`, `behind-upstream`, `checks`, `sign-offs`.
    pub rule: String,
    /// One sentence.
    pub because: String,
    /// Who or what holds it.
    pub holder: Option<String>,
    /// When it lifts by itself.
    pub lifts_at: Option<Timestamp>,
    /// Whom to ask, or what to do where the one who was refused can lift it: a sentence.
    pub way_out: Option<String>,
}

fn ends(at: &Option<Timestamp>, way: &Option<String>) -> String {
    let at = at.map(|at| format!(" It lifts at {}.", minute(at)));
    let way = way.as_ref().map(|way| format!(" {way}"));
    at.unwrap_or_default() + &way.unwrap_or_default()
}

/// Decides whether `actor` may do `trigger` to `subject` at `now`.
///
/// Errors: [`Refused`], naming rule, reason, holder and who can lift it. Pure; the order of rules is the order in which
/// a person can do something about them.
pub fn admit(actor: &Actor, trigger: Trigger, subject: &Subject, now: Timestamp) -> Result<Admitted, Refused> {
    let needed = trigger.permission();
    let name = &subject.name;
    let verb = match needed {
        Permission::View => "see",
        Permission::Deploy => "deploy to",
        Permission::Operate => "operate",
        Permission::Manage => "manage",
    };
    let granted = if actor.admin { Some(Permission::Manage) } else { subject.permission };
    if granted.is_none_or(|p| p < needed) {
        let because = match actor.scope {
            // Whoever reads this is CI's, and not whose token it has.
            Scope::Deploy { .. } => {
                format!("The token that was used is of {}, who may not {verb} {name}.", actor.email)
            }
            _ => format!("You ({}) may not {verb} {name}.", actor.email),
        };
        return Err(Refused {
            rule: "access".into(),
            because,
            holder: Some(subject.owner_email.clone()),
            lifts_at: None,
            way_out: Some(format!("Ask {}, who owns it.", subject.owner_email)),
        });
    }
    let in_scope = match (&actor.scope, trigger) {
        (Scope::Global | Scope::WriteProtected, _) => true,
        (Scope::Write, t) => t != Trigger::Config,
        (Scope::Deploy { app }, Trigger::Push | Trigger::Build | Trigger::Redeploy) => *app == subject.app,
        (Scope::Deploy { .. } | Scope::Identity | Scope::Read | Scope::ReadProtected, _) => false,
    };
    if !in_scope {
        let (because, way_out) = match &actor.scope {
            Scope::Deploy { app } => {
                let because = match *app == subject.app {
                    true => format!("The token that was used brings code to {name}, and does nothing else."),
                    false => format!("The token that was used is for another app than {name}."),
                };
                (because, format!("Ask {}, who owns {name}, for one of a wider scope.", subject.owner_email))
            }
            other => (
                format!("The token that was used may not {verb} {name}: its scope is {}.", other.text()),
                "Use one of a wider scope: heroku authorizations:create".into(),
            ),
        };
        return Err(Refused {
            rule: "token-scope".into(),
            because,
            holder: None,
            lifts_at: None,
            way_out: Some(way_out),
        });
    }
    if subject.ending {
        return Err(Refused {
            rule: "ending".into(),
            because: format!("{name} is being destroyed."),
            holder: Some(subject.owner_email.clone()),
            lifts_at: None,
            way_out: None,
        });
    }
    if let Some(reserved) = &subject.reserved
        && trigger.permission() == Permission::Deploy
        && reserved.account != actor.account
        && now < reserved.until
    {
        let reason = reserved.reason.as_ref().map_or(String::new(), |reason| format!(" ({reason})"));
        let way_out = match granted {
            Some(Permission::Manage) => format!("You can end that: shipway unreserve -a {name}"),
            _ => format!("Ask {}, or {}, who owns {name}.", reserved.email, subject.owner_email),
        };
        return Err(Refused {
            rule: "reserved".into(),
            because: format!("{name} is reserved by {}{reason}.", reserved.email),
            holder: Some(reserved.email.clone()),
            lifts_at: Some(reserved.until),
            way_out: Some(way_out),
        });
    }
    if let Some(behind) = &subject.behind
        && trigger.brings_new_code()
    {
        let Behind { branch, commits, stage, pipeline, owner_email } = behind;
        let noun = if *commits == 1 { "commit" } else { "commits" };
        return Err(Refused {
            rule: "behind-upstream".into(),
            because: format!(
                "This code lacks {commits} {noun} of {branch}, and {stage} of {pipeline} takes none that does: merge or \
                 rebase, and deploy that."
            ),
            holder: Some(format!("{stage} of {pipeline}")),
            lifts_at: None,
            way_out: Some(rule_of_pipeline(actor, owner_email, &format!("shipway upstream require -p {pipeline}"))),
        });
    }
    if let Some(Unchecked { words, stage, pipeline, owner_email }) = &subject.unchecked
        && trigger.brings_new_code()
    {
        return Err(Refused {
            rule: "checks".into(),
            because: format!(
                "{stage} of {pipeline} takes only commits that CI has passed, and {words}: have a run of it pass, then try \
                 again."
            ),
            holder: Some(format!("{stage} of {pipeline}")),
            lifts_at: None,
            way_out: Some(rule_of_pipeline(
                actor,
                owner_email,
                &format!("shipway upstream require --ci -p {pipeline}"),
            )),
        });
    }
    if let Some(sign_offs) = &subject.sign_offs
        && trigger.brings_new_code()
        && let Some((because, way_out)) = sign_offs.refusal(actor)
    {
        return Err(Refused {
            rule: "sign-offs".into(),
            because,
            holder: Some(format!("{} of {}", sign_offs.stage, sign_offs.pipeline)),
            lifts_at: None,
            way_out: Some(way_out),
        });
    }
    Ok(Admitted { trigger, at: now })
}

/// Who can lift a rule of a pipeline; `lifts` is the command that lifts it for all stages.
fn rule_of_pipeline(actor: &Actor, owner_email: &str, lifts: &str) -> String {
    match actor.owns(owner_email) {
        true => format!("You can lift that rule, for all stages: {lifts}"),
        false => format!("Ask {owner_email}, who owns the pipeline."),
    }
}

impl Scope {
    /// The scope as the API writes it.
    pub fn text(&self) -> String {
        match self {
            Self::Global => "global".into(),
            Self::Identity => "identity".into(),
            Self::Read => "read".into(),
            Self::ReadProtected => "read-protected".into(),
            Self::Write => "write".into(),
            Self::WriteProtected => "write-protected".into(),
            Self::Deploy { app } => format!("deploy:{app}"),
        }
    }

    /// Reads what [`Self::text`] wrote.
    pub fn from_text(s: &str) -> Option<Self> {
        Some(match s {
            "global" => Self::Global,
            "identity" => Self::Identity,
            "read" => Self::Read,
            "read-protected" => Self::ReadProtected,
            "write" => Self::Write,
            "write-protected" => Self::WriteProtected,
            _ => Self::Deploy { app: s.strip_prefix("deploy:")?.parse().ok()? },
        })
    }

    /// Whether a token of this scope may make or renew one of `other`: nothing gives more than it has.
    pub fn covers(&self, other: &Self) -> bool {
        match self {
            Self::Global => true,
            Self::WriteProtected => !matches!(other, Self::Global),
            _ => false,
        }
    }

    /// Whether config vars and other secrets may be read with it.
    pub fn reads_secrets(&self) -> bool {
        matches!(self, Self::Global | Self::ReadProtected | Self::WriteProtected)
    }

    /// Whether it reads more than one app and the account: lists, pipelines.
    pub fn reads_widely(&self) -> bool {
        !matches!(self, Self::Identity | Self::Deploy { .. })
    }

    /// Whether it can make and change things that are not an app's: new apps, pipelines.
    pub fn writes(&self) -> bool {
        matches!(self, Self::Global | Self::Write | Self::WriteProtected)
    }

    /// Whether it can see `app` at all.
    pub fn reads(&self, app: AppId) -> bool {
        match self {
            Self::Identity => false,
            Self::Deploy { app: one } => *one == app,
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests;
