//! The list of apps, and one app: overview, dynos, logs.

use jiff::Timestamp;
use serde::Serialize;

use super::{
    AppHead, AppNotice, AppState, CodeRow, Event, Failure, Offer, Pill, ReleaseRow, ReservedRow, Shell, StepRow,
};

/// All apps that the viewer may see.
#[derive(Debug, Clone, Serialize)]
pub struct AppsPage {
    /// What every page has.
    pub shell: Shell,
    /// What the list is filtered by; empty for none.
    pub filter: String,
    /// The rows, in an order that does not change by itself: by name.
    pub apps: Vec<AppRow>,
    /// How many more match; more than 0 offers the link to all.
    pub hidden: usize,
    /// Apps that the viewer was offered.
    pub offers: Vec<Offer>,
    /// What the viewer has not read yet, newest first.
    pub notices: Vec<AppNotice>,
    /// The line that points the CLI here, for the empty page: `eval "$(shipway env)"`.
    pub env_command: String,
}

/// One app in the list.
#[derive(Debug, Clone, Serialize)]
pub struct AppRow {
    /// Its name.
    pub name: String,
    /// Where visitors find it.
    pub url: Option<String>,
    /// What it does now.
    pub state: AppState,
    /// The current release; `None` before the first.
    pub release: Option<ReleaseRow>,
}

/// One app at a glance.
#[derive(Debug, Clone, Serialize)]
pub struct OverviewPage {
    /// What every page has.
    pub shell: Shell,
    /// The app.
    pub app: AppHead,
    /// Who keeps it for themselves.
    pub reserved: Option<ReservedRow>,
    /// What the viewer has not read yet about it, newest first.
    pub notices: Vec<AppNotice>,
    /// The code that one press beside a notice brings back; `None` where there is none, or the viewer may not.
    pub previous_code: Option<CodeRow>,
    /// What is under way, with its steps.
    pub running: Option<Running>,
    /// The newest attempt, when it failed.
    pub failure: Option<Failure>,
    /// The current release.
    pub release: Option<ReleaseRow>,
    /// The release that "Roll back to…" offers.
    pub previous_version: Option<u64>,
    /// Its dynos, by type and number.
    pub dynos: Vec<DynoRow>,
    /// The newest entries of the ledger, newest first; 8 are enough.
    pub activity: Vec<Event>,
    /// Where to push: `https://paas.example.org/shop.git`.
    pub git_url: String,
    /// What the app.json of the running code says; `None` where it says nothing.
    pub about: Option<AboutRow>,
}

/// What an app.json says to people. Whoever wrote the code wrote it: its addresses are links, and nothing of them is loaded.
#[derive(Debug, Clone, Serialize)]
pub struct AboutRow {
    /// What the app is called.
    pub name: Option<String>,
    /// What it is.
    pub description: Option<String>,
    /// What it can be found by.
    pub keywords: Vec<String>,
    /// What a link is and its http or https URL: "Website".
    pub links: Vec<(String, String)>,
}

/// An operation under way.
#[derive(Debug, Clone, Serialize)]
pub struct Running {
    /// What it is: "Deploy 3f9c2a1".
    pub title: String,
    /// Its page.
    pub operation_url: String,
    /// Its build's page, where it builds.
    pub build_url: Option<String>,
    /// Its steps, those to come included.
    pub steps: Vec<StepRow>,
}

/// Formation and dynos.
#[derive(Debug, Clone, Serialize)]
pub struct DynosPage {
    /// What every page has.
    pub shell: Shell,
    /// The app.
    pub app: AppHead,
    /// One row per process type of the current release.
    pub formation: Vec<FormationRow>,
    /// What runs, one-off dynos included.
    pub dynos: Vec<DynoRow>,
    /// The names of the sizes that can be chosen.
    pub sizes: Vec<String>,
    /// The most dynos of one type.
    pub max_quantity: u32,
}

/// The wanted dynos of one process type.
#[derive(Debug, Clone, Serialize)]
pub struct FormationRow {
    /// The process type: `web`.
    pub process_type: String,
    /// Its command.
    pub command: String,
    /// How many are wanted.
    pub quantity: u32,
    /// Their size: `standard-1x`.
    pub size: String,
}

/// One dyno.
#[derive(Debug, Clone, Serialize)]
pub struct DynoRow {
    /// `web.1`, `run.4821`.
    pub name: String,
    /// Its state.
    pub state: Pill,
    /// Since when it is in that state.
    pub since: Timestamp,
    /// Its size.
    pub size: String,
    /// The release that it runs.
    pub version: u64,
    /// Why it is in that state, when that is not plain: "exited with status 1, next start in 20 s".
    pub detail: Option<String>,
}

/// The log of an app, newest at the end.
#[derive(Debug, Clone, Serialize)]
pub struct LogsPage {
    /// What every page has.
    pub shell: Shell,
    /// The app.
    pub app: AppHead,
    /// `app`, `heroku`, or empty for both.
    pub source: String,
    /// A dyno's name, a process type, or empty for all.
    pub dyno: String,
    /// Dynos and types to choose from.
    pub dynos: Vec<String>,
    /// The newest lines, oldest first. 200 are enough; the page leaves out the oldest that do not fit.
    pub lines: Vec<LogLine>,
    /// Where new lines come from: route `logs.events` with its query, from after the last line.
    pub events_url: String,
}

/// One line of a log.
#[derive(Debug, Clone, Serialize)]
pub struct LogLine {
    /// When it was written.
    pub at: Timestamp,
    /// `app` or `heroku`.
    pub source: String,
    /// The dyno that wrote it: `web.1`, `router`.
    pub dyno: String,
    /// The text, invalid UTF-8 replaced.
    pub text: String,
}
