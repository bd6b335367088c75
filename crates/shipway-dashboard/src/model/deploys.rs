//! What deploys an app: whose turn it is, what the last deploy replaced, which refs deploy it by themselves.

use jiff::Timestamp;
use serde::Serialize;

use super::{AppHead, Pill, Shell};

/// Everything that brings code to an app.
#[derive(Debug, Clone, Serialize)]
pub struct DeploysPage {
    /// What every page has.
    pub shell: Shell,
    /// The app.
    pub app: AppHead,
    /// Who keeps it for themselves.
    pub reserved: Option<ReservedRow>,
    /// Whether the viewer may reserve it, or change a reservation of their own.
    pub may_reserve: bool,
    /// The code that runs.
    pub now: Option<CodeRow>,
    /// The code that ran before its last deploy, while it is kept.
    pub previous: Option<CodeRow>,
    /// Whether the viewer may bring that back.
    pub may_bring_back: bool,
    /// Refs that deploy it by themselves, oldest first.
    pub triggers: Vec<TriggerRow>,
    /// What these asked for, newest first.
    pub deploys: Vec<TriggeredRow>,
    /// What was refused of a new trigger, to be corrected.
    pub refused: Option<RefusedTrigger>,
}

/// An app that somebody keeps for themselves.
#[derive(Debug, Clone, Serialize)]
pub struct ReservedRow {
    /// Their address.
    pub by: String,
    /// When it ends by itself.
    pub until: Timestamp,
    /// What for.
    pub reason: Option<String>,
    /// Whether the viewer may end it now.
    pub may_end: bool,
}

/// Code, with the release that brought it.
#[derive(Debug, Clone, Serialize)]
pub struct CodeRow {
    /// That release's version.
    pub version: u64,
    /// The version that runs it now, where that is a later one.
    pub runs_as: Option<u64>,
    /// The commit, whole.
    pub commit: Option<String>,
    /// The commit's subject.
    pub subject: Option<String>,
    /// The tag that it was deployed by, or the branch that it is of.
    pub name: Option<String>,
    /// Who deployed it.
    pub by: String,
    /// When.
    pub at: Timestamp,
}

/// A trigger.
#[derive(Debug, Clone, Serialize)]
pub struct TriggerRow {
    /// Its id.
    pub id: String,
    /// `branch` or `tag`.
    pub kind: String,
    /// A name, or a pattern with `*`.
    pub pattern: String,
    /// Whether a commit waits until its checks have passed.
    pub waits: bool,
}

/// A deploy that a trigger asked for.
#[derive(Debug, Clone, Serialize)]
pub struct TriggeredRow {
    /// The ref that moved: `v0.3.1`.
    pub name: String,
    /// The commit, whole.
    pub commit: String,
    /// How it went.
    pub state: Pill,
    /// Why it waits or failed, in a line.
    pub message: Option<String>,
    /// Who moved the ref.
    pub by: String,
    /// When.
    pub at: Timestamp,
    /// Its operation's page, once it has begun.
    pub operation_url: Option<String>,
}

/// A trigger that was refused, as it was asked for.
#[derive(Debug, Clone, Serialize)]
pub struct RefusedTrigger {
    /// `branch` or `tag`.
    pub kind: String,
    /// The pattern.
    pub pattern: String,
    /// Whether it was to wait for checks.
    pub waits: bool,
    /// Why.
    pub because: String,
}

/// Something that the viewer is to be told about an app.
#[derive(Debug, Clone, Serialize)]
pub struct AppNotice {
    /// The app.
    pub app: String,
    /// The sentence.
    pub text: String,
    /// When it happened.
    pub at: Timestamp,
}
