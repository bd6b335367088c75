//! Operations with their steps.

use jiff::Timestamp;
use serde::Serialize;

use super::{AppHead, Failure, Pill, Shell};

/// Operations, newest first; those under way on top.
#[derive(Debug, Clone, Serialize)]
pub struct OperationsPage {
    /// What every page has.
    pub shell: Shell,
    /// The app that they are filtered by.
    pub app: Option<AppHead>,
    /// One page of rows; 25 are enough.
    pub operations: Vec<OperationRow>,
    /// The path of the next, older page.
    pub older_url: Option<String>,
}

/// One operation in a list.
#[derive(Debug, Clone, Serialize)]
pub struct OperationRow {
    /// Its id.
    pub id: String,
    /// What it is: "Deploy 3f9c2a1", "Roll back to v63".
    pub title: String,
    /// The apps that it works on.
    pub apps: Vec<String>,
    /// The last names of those of its apps that are there no more.
    pub gone: Vec<String>,
    /// Its state.
    pub status: Pill,
    /// What goes on in it, the step that it failed at, or what it waits for: "behind Deploy 01d9a2b". None once it succeeded.
    pub at_step: Option<String>,
    /// E-mail address of who started it.
    pub by: String,
    /// When.
    pub at: Timestamp,
    /// How long it took, in ms; `None` while it is under way.
    pub took_ms: Option<u64>,
}

/// One operation.
#[derive(Debug, Clone, Serialize)]
pub struct OperationPage {
    /// What every page has.
    pub shell: Shell,
    /// The operation.
    pub operation: OperationRow,
    /// By which road it came: "git push", "dashboard", "API".
    pub road: String,
    /// Its steps in order, those to come included.
    pub steps: Vec<StepRow>,
    /// What went wrong, when it failed.
    pub failure: Option<Failure>,
    /// Its build's page.
    pub build_url: Option<String>,
    /// Whether the viewer may stop it now: it is under way and has not switched.
    pub may_cancel: bool,
    /// The ways back, one for each app whose current release it made, where the viewer may go back.
    pub rollbacks: Vec<RollbackRow>,
    /// Where its apps can be seen, when it succeeded: name and address.
    pub visits: Vec<(String, String)>,
}

/// The release before an operation's.
#[derive(Debug, Clone, Serialize)]
pub struct RollbackRow {
    /// The app.
    pub app: String,
    /// Its version.
    pub version: u64,
}

/// One step of an operation or phase of a build.
#[derive(Debug, Clone, Serialize)]
pub struct StepRow {
    /// What it does, as the CLI says it: "Installing dependencies".
    pub title: String,
    /// Where it is.
    pub state: StepState,
    /// When it started, while it runs: the page counts on from here.
    pub since: Option<Timestamp>,
    /// How long it took, in ms, when it has ended.
    pub took_ms: Option<u64>,
    /// What it waits for, what it found, why it failed.
    pub detail: Option<String>,
}

/// Where a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StepState {
    /// To come.
    Next,
    /// At work.
    Running,
    /// Done.
    Done,
    /// Not needed; the detail says why.
    Skipped,
    /// It failed; the detail says why.
    Failed,
    /// It was done and has been taken back.
    Undone,
}
