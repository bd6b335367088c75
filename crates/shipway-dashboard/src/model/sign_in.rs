//! Signing in, and approving a sign-in of the CLI.

use jiff::Timestamp;
use serde::Serialize;

use super::Shell;

/// The sign-in page.
#[derive(Debug, Clone, Serialize)]
pub struct SignInPage {
    /// A CSRF token bound to a cookie that was set with this page.
    pub csrf: String,
    /// Why the last attempt failed; never which half of it was wrong.
    pub error: Option<String>,
    /// The address as typed.
    pub email: String,
    /// Where to go afterwards; empty for the list of apps.
    pub next: String,
}

/// The browser half of `heroku login`: asks whether to let the CLI in.
#[derive(Debug, Clone, Serialize)]
pub struct CliLoginPage {
    /// What every page has.
    pub shell: Shell,
    /// The request's id, as in the path.
    pub request: String,
    /// What the CLI calls itself: "Heroku CLI login from laptop".
    pub description: String,
    /// The address that it asked from.
    pub from: String,
    /// When it asked.
    pub at: Timestamp,
    /// How many days the session would last.
    pub days: u32,
    /// What became of the request.
    pub decision: Decision,
}

/// What became of a request to sign in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    /// It waits for the viewer.
    Open,
    /// The CLI is signed in.
    Approved,
    /// It was turned away.
    Denied,
    /// Nobody decided in time, or somebody did before.
    Gone,
}
