//! Builds and their output.

use jiff::Timestamp;
use serde::Serialize;

use super::{AppHead, Failure, Pill, Shell, StepRow};

/// One build, live while it runs.
#[derive(Debug, Clone, Serialize)]
pub struct BuildPage {
    /// What every page has.
    pub shell: Shell,
    /// The app.
    pub app: AppHead,
    /// The build's id.
    pub id: String,
    /// Its state.
    pub status: Pill,
    /// The commit's id, whole; `None` for a build from a tarball.
    pub commit: Option<String>,
    /// The commit's subject.
    pub subject: Option<String>,
    /// E-mail address of who started it.
    pub by: String,
    /// When it started.
    pub at: Timestamp,
    /// Its phases, those to come included.
    pub steps: Vec<StepRow>,
    /// What went wrong, when it failed.
    pub failure: Option<Failure>,
    /// The release that it led to.
    pub version: Option<u64>,
    /// Its operation's page.
    pub operation_url: Option<String>,
    /// What it wrote so far, invalid UTF-8 replaced. The page shows its end and links to the whole.
    pub output: String,
    /// Where more comes from while it runs: route `build.events`, from the end of `output`. `None` when it has ended.
    pub events_url: Option<String>,
}
