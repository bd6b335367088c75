//! Releases.

use jiff::Timestamp;
use serde::Serialize;

use super::{AppHead, Failure, Pill, Shell};

/// The releases of an app, newest first.
#[derive(Debug, Clone, Serialize)]
pub struct ReleasesPage {
    /// What every page has.
    pub shell: Shell,
    /// The app.
    pub app: AppHead,
    /// One page of rows; 25 are enough.
    pub releases: Vec<ReleaseRow>,
    /// The path of the next, older page.
    pub older_url: Option<String>,
}

/// One release in a list.
#[derive(Debug, Clone, Serialize)]
pub struct ReleaseRow {
    /// Its version, without the `v`.
    pub version: u64,
    /// Its state.
    pub status: Pill,
    /// Whether it is the one that runs.
    pub current: bool,
    /// Whether it can be gone back to.
    pub can_roll_back: bool,
    /// What it is: "Deploy 3f9c2a1", "Set SECRET_KEY config vars", "Rollback to v63".
    pub description: String,
    /// The id of the commit that it runs, whole; `None` when it has none.
    pub commit: Option<String>,
    /// The commit's subject, of a release that brought it.
    pub subject: Option<String>,
    /// Of the current release: the older one that brought its code.
    pub code_of: Option<u64>,
    /// E-mail address of who made it.
    pub by: String,
    /// When.
    pub at: Timestamp,
}

/// One release.
#[derive(Debug, Clone, Serialize)]
pub struct ReleasePage {
    /// What every page has.
    pub shell: Shell,
    /// The app.
    pub app: AppHead,
    /// The release.
    pub release: ReleaseRow,
    /// What went wrong, when it failed.
    pub failure: Option<Failure>,
    /// Process types with their commands and digests.
    pub processes: Vec<ProcessRow>,
    /// The names of its config vars.
    pub config_names: Vec<String>,
    /// The build that made it.
    pub build_url: Option<String>,
    /// What the release phase wrote; `None` when there was none. The page shows its end.
    pub output: Option<String>,
}

/// One process type of a release.
#[derive(Debug, Clone, Serialize)]
pub struct ProcessRow {
    /// `web`.
    pub process_type: String,
    /// Its command.
    pub command: String,
    /// The artifact's digest: `sha256:9b0c…`, whole.
    pub digest: String,
}
