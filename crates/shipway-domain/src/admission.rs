//! One road in: every way to change what runs asks [`admit`], and there is no second one.
//!
//! It is asked twice: at the door, before a build, and under the app's lock immediately before the switch. The second
//! answer decides. Rules that are not there yet (windows, freezes) become fields of [`Subject`] and arms here.

use crate::ids::{AccountId, AppId};
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
#[error("{because}{}", way_out(.who_can_lift, .lifts_at))]
pub struct Refused {
    /// The rule's name: `access`, `token-scope`, `ending`, `reserved`, `behind-upstream`, `checks`, `sign-offs`.
    pub rule: String,
    /// One sentence.
    pub because: String,
    /// Who or what holds it.
    pub holder: Option<String>,
    /// When it lifts by itself.
    pub lifts_at: Option<Timestamp>,
    /// Who can lift it.
    pub who_can_lift: Option<String>,
}

fn way_out(who: &Option<String>, at: &Option<Timestamp>) -> String {
    match (who, at) {
        (Some(who), Some(at)) => format!(" It lifts at {at}, or ask {who}."),
        (Some(who), None) => format!(" Ask {who}."),
        (None, Some(at)) => format!(" It lifts at {at}."),
        (None, None) => String::new(),
    }
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
        return Err(Refused {
            rule: "access".into(),
            because: format!("You ({}) may not {verb} {name}.", actor.email),
            holder: Some(subject.owner_email.clone()),
            lifts_at: None,
            who_can_lift: Some(format!("{}, who owns it", subject.owner_email)),
        });
    }
    let in_scope = match (&actor.scope, trigger) {
        (Scope::Global | Scope::WriteProtected, _) => true,
        (Scope::Write, t) => t != Trigger::Config,
        (Scope::Deploy { app }, Trigger::Push | Trigger::Build | Trigger::Redeploy) => *app == subject.app,
        (Scope::Deploy { .. } | Scope::Identity | Scope::Read | Scope::ReadProtected, _) => false,
    };
    if !in_scope {
        return Err(Refused {
            rule: "token-scope".into(),
            because: format!("The token that was used may not {verb} {name}: its scope is {}.", actor.scope.text()),
            holder: None,
            lifts_at: None,
            who_can_lift: Some("for a token of a wider scope, or use your own (`heroku auth:token`)".into()),
        });
    }
    if subject.ending {
        return Err(Refused {
            rule: "ending".into(),
            because: format!("{name} is being destroyed."),
            holder: Some(subject.owner_email.clone()),
            lifts_at: None,
            who_can_lift: None,
        });
    }
    if let Some(reserved) = &subject.reserved
        && trigger.permission() == Permission::Deploy
        && reserved.account != actor.account
        && now < reserved.until
    {
        let reason = reserved.reason.as_ref().map_or(String::new(), |reason| format!(" ({reason})"));
        return Err(Refused {
            rule: "reserved".into(),
            because: format!("{name} is reserved by {}{reason}.", reserved.email),
            holder: Some(reserved.email.clone()),
            lifts_at: Some(reserved.until),
            who_can_lift: Some(format!("{}, or {}, who owns {name}", reserved.email, subject.owner_email)),
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
            who_can_lift: Some(format!("{owner_email}, who owns the pipeline")),
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
            who_can_lift: Some(format!("{owner_email}, who owns the pipeline")),
        });
    }
    if let Some(sign_offs) = &subject.sign_offs
        && trigger.brings_new_code()
        && let Some((because, who)) = sign_offs.refusal()
    {
        return Err(Refused {
            rule: "sign-offs".into(),
            because,
            holder: Some(format!("{} of {}", sign_offs.stage, sign_offs.pipeline)),
            lifts_at: None,
            who_can_lift: Some(who),
        });
    }
    Ok(Admitted { trigger, at: now })
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
mod tests {
    use super::*;

    fn actor(scope: Scope, admin: bool) -> Actor {
        Actor { account: AccountId(uuid::Uuid::nil()), email: "dev@example.org".into(), admin, scope }
    }

    fn subject(permission: Option<Permission>) -> Subject {
        Subject {
            app: AppId(uuid::Uuid::from_u128(1)),
            name: "shop".into(),
            owner_email: "owner@example.org".into(),
            permission,
            ending: false,
            behind: None,
            unchecked: None,
            reserved: None,
            sign_offs: None,
        }
    }

    #[test]
    fn attack_19_a_reservation_holds_for_every_trigger_that_brings_code() {
        let until: Timestamp = "2026-05-04T14:00:00Z".parse().unwrap();
        let holder = |n: u128| Reserved {
            account: AccountId(uuid::Uuid::from_u128(n)),
            email: "ana@example.org".into(),
            until,
            reason: Some("the demo".into()),
        };
        let before = until - jiff::SignedDuration::from_secs(1);
        for trigger in Trigger::ALL {
            let ask = |holder: Reserved, admin: bool, now: Timestamp| {
                let subject = Subject { reserved: Some(holder), ..subject(Some(Permission::Manage)) };
                admit(&actor(Scope::Global, admin), trigger, &subject, now).err()
            };
            let brings_code = trigger.permission() == Permission::Deploy;
            // Not even an administrator passes without ending it first.
            for admin in [false, true] {
                assert_eq!(ask(holder(7), admin, before).is_some(), brings_code, "{trigger:?}");
            }
            assert_eq!(ask(holder(0), false, before), None, "{trigger:?} by the holder");
            assert_eq!(ask(holder(7), false, until), None, "{trigger:?} after it ended");
            let words = "shop is reserved by ana@example.org (the demo). It lifts at 2026-05-04T14:00:00Z, or ask \
                         ana@example.org, or owner@example.org, who owns shop.";
            assert!(ask(holder(7), false, before).is_none_or(|refused| refused.to_string() == words));
        }
    }

    #[test]
    fn every_trigger_by_every_permission() {
        let permissions = [Permission::View, Permission::Deploy, Permission::Operate, Permission::Manage];
        for trigger in Trigger::ALL {
            for permission in [None].into_iter().chain(permissions.map(Some)) {
                let allowed = permission.is_some_and(|p| p >= trigger.permission());
                let got = admit(&actor(Scope::Global, false), trigger, &subject(permission), Timestamp::UNIX_EPOCH);
                assert_eq!(got.is_ok(), allowed, "{trigger:?} with {permission:?}");
            }
            assert!(admit(&actor(Scope::Global, true), trigger, &subject(None), Timestamp::UNIX_EPOCH).is_ok());
        }
    }

    #[test]
    fn attack_20_a_deploy_token_deploys_its_app_and_nothing_else() {
        let own = Scope::Deploy { app: AppId(uuid::Uuid::from_u128(1)) };
        let foreign = Scope::Deploy { app: AppId(uuid::Uuid::from_u128(2)) };
        for trigger in Trigger::ALL {
            let may = matches!(trigger, Trigger::Push | Trigger::Build | Trigger::Redeploy);
            let manage = subject(Some(Permission::Manage));
            assert_eq!(admit(&actor(own.clone(), true), trigger, &manage, Timestamp::UNIX_EPOCH).is_ok(), may);
            assert!(admit(&actor(foreign.clone(), true), trigger, &manage, Timestamp::UNIX_EPOCH).is_err());
        }
        assert!(!own.reads_secrets() && !own.reads(AppId(uuid::Uuid::from_u128(2))));
    }

    #[test]
    fn a_refusal_names_the_way_out() {
        let refused =
            admit(&actor(Scope::Global, false), Trigger::Push, &subject(Some(Permission::View)), Timestamp::UNIX_EPOCH);
        assert_eq!(
            refused.unwrap_err().to_string(),
            "You (dev@example.org) may not deploy to shop. Ask owner@example.org, who owns it."
        );
    }

    #[test]
    fn code_that_lacks_commits_of_main_is_refused_where_the_stage_says_so() {
        let behind = Behind {
            branch: "main".into(),
            commits: 2,
            stage: Stage::Production,
            pipeline: "shop".into(),
            owner_email: "ida@example.org".into(),
        };
        let subject = Subject { behind: Some(behind), ..subject(Some(Permission::Manage)) };
        for trigger in Trigger::ALL {
            let refused = admit(&actor(Scope::Global, false), trigger, &subject, Timestamp::UNIX_EPOCH).err();
            assert_eq!(refused.is_some(), trigger.brings_new_code(), "{trigger:?}");
            let expected = "This code lacks 2 commits of main, and production of shop takes none that does: merge or \
                            rebase, and deploy that. Ask ida@example.org, who owns the pipeline.";
            assert!(refused.is_none_or(|refused| refused.to_string() == expected));
        }
    }

    #[test]
    fn attack_18_code_that_ci_has_not_passed_gets_in_by_no_trigger_where_the_stage_says_so() {
        use crate::names::CommitId;
        use crate::review::Checks;
        let commit = CommitId::parse(&"3f".repeat(20)).unwrap();
        for trigger in Trigger::ALL {
            for checks in [Checks::Unknown, Checks::Pending, Checks::Succeeded, Checks::Failed] {
                let unchecked = checks.wanting(&commit).map(|words| Unchecked {
                    words,
                    stage: Stage::Production,
                    pipeline: "shop".into(),
                    owner_email: "ida@example.org".into(),
                });
                let subject = Subject { unchecked, ..subject(Some(Permission::Manage)) };
                for admin in [false, true] {
                    let got = admit(&actor(Scope::Global, admin), trigger, &subject, Timestamp::UNIX_EPOCH);
                    let refused = trigger.brings_new_code() && checks != Checks::Succeeded;
                    assert_eq!(got.is_err(), refused, "{trigger:?} with {checks}");
                    let words = "production of shop takes only commits that CI has passed, and CI failed for 3f3f3f3: have a \
                                 run of it pass, then try again. Ask ida@example.org, who owns the pipeline.";
                    let told = got.err().map(|refused| (refused.rule.clone(), refused.to_string()));
                    assert!(
                        checks != Checks::Failed || told.is_none_or(|told| told == ("checks".into(), words.into()))
                    );
                }
            }
        }
    }

    #[test]
    fn attack_18_code_without_sign_offs_gets_in_by_no_trigger() {
        use crate::names::CommitId;
        use crate::sign_off::{Code, Given, Party, PartyName, Signer};
        let account = |n: u128| AccountId(uuid::Uuid::from_u128(n));
        let (qa, product) = (PartyName::parse("qa").unwrap(), PartyName::parse("product").unwrap());
        let party = |name: &PartyName, n: u128| Party {
            name: name.clone(),
            people: vec![Signer { account: account(n), email: format!("{name}@example.org") }],
        };
        let given = |name: &PartyName, n: u128| Given {
            party: name.clone(),
            account: account(n),
            left: false,
            artifacts: vec![],
        };
        let wanted = |given: Vec<Given>| SignOffs {
            pipeline: "shop".into(),
            owner_email: "ida@example.org".into(),
            stage: Stage::Production,
            parties: vec![party(&qa, 1), party(&product, 2)],
            code: Code { commit: Some(CommitId::parse(&"3f".repeat(20)).unwrap()), artifact: None },
            given,
        };
        // Everything that can have been signed, wrongly or by one of the two.
        let wanting = [vec![], vec![given(&qa, 1)], vec![given(&product, 2)], vec![given(&qa, 1), given(&product, 1)]];
        for trigger in Trigger::ALL {
            for admin in [false, true] {
                let ask = |given: &Vec<Given>| {
                    let sign_offs = Some(wanted(given.clone()));
                    let subject = Subject { sign_offs, ..subject(Some(Permission::Manage)) };
                    admit(&actor(Scope::Global, admin), trigger, &subject, Timestamp::UNIX_EPOCH)
                };
                for given in &wanting {
                    assert_eq!(ask(given).is_err(), trigger.brings_new_code(), "{trigger:?} with {given:?}");
                }
                assert!(ask(&vec![given(&qa, 1), given(&product, 2)]).is_ok(), "{trigger:?} with both");
            }
        }
        let free: Vec<Trigger> = Trigger::ALL.into_iter().filter(|it| !it.brings_new_code()).collect();
        use Trigger::*;
        let expected = [Redeploy, Config, Scale, Restart, OneOff, Rollback, Addon, Domain, Settings, Access, Destroy];
        assert_eq!(free, expected);
        let subject = Subject { sign_offs: Some(wanted(vec![given(&qa, 1)])), ..subject(Some(Permission::Deploy)) };
        let refused = admit(&actor(Scope::Global, false), Push, &subject, Timestamp::UNIX_EPOCH).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "production of shop takes only code that its parties have signed off, and 3f3f3f3 lacks the sign-off of product \
             (shipway sign-off shop production 3f3f3f3 --as product). Ask product@example.org (product)."
        );
        assert_eq!((refused.rule.as_str(), refused.holder.as_deref()), ("sign-offs", Some("production of shop")));
    }
}
