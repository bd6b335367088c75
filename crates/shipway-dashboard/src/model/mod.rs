//! View models: everything that a page says, as plain values.
//!
//! Text fields hold text, never HTML; they may hold anything a user wrote. Times are instants; pages show them in UTC
//! and say so. Fields named `…_url` or `link` are paths made by [`crate::path`] or absolute URLs.

mod activity;
mod app;
mod build;
mod config;
mod deploys;
mod operation;
mod people;
mod pipeline;
mod release;
mod sign_in;
mod state;

pub use activity::*;
pub use app::*;
pub use build::*;
pub use config::*;
pub use deploys::*;
pub use operation::*;
pub use people::*;
pub use pipeline::*;
pub use release::*;
pub use sign_in::*;
pub use state::*;

use jiff::Timestamp;
use serde::Serialize;

/// What every page for somebody who is signed in begins with.
#[derive(Debug, Clone, Serialize)]
pub struct Shell {
    /// The present; ages count from it.
    pub now: Timestamp,
    /// E-mail address of who looks.
    pub viewer: String,
    /// The session's CSRF token.
    pub csrf: String,
    /// What the viewer's last act led to, shown once.
    pub notice: Option<Notice>,
    /// How far the platform's events had come before the page was made; its stream begins there.
    pub seen: u64,
}

/// One sentence about an act.
#[derive(Debug, Clone, Serialize)]
pub struct Notice {
    /// [`Mark::Good`] when it worked.
    pub mark: Mark,
    /// What happened, to which thing, what next.
    pub text: String,
}

/// The head of an app's pages.
#[derive(Debug, Clone, Serialize)]
pub struct AppHead {
    /// The app's name.
    pub name: String,
    /// Where visitors find it; `None` when it has no web address.
    pub url: Option<String>,
    /// What it does now.
    pub state: AppState,
    /// Whether the viewer may change it; forms are left out when not, with [`Self::owner`] to ask.
    pub may_change: bool,
    /// Whether the viewer may change which code it runs: who may no more than that still goes back.
    pub may_deploy: bool,
    /// E-mail address of the app's owner.
    pub owner: String,
}

/// A page that says that something could not be shown or done: 400, 401, 403, 404, 409, 413, 429, 503.
#[derive(Debug, Clone, Serialize)]
pub struct ProblemPage {
    /// `None` for a visitor who is not signed in.
    pub shell: Option<Shell>,
    /// The HTTP status.
    pub status: u16,
    /// What happened, to which thing: "There is no app `shpo` here that you can see."
    pub what: String,
    /// What to do next, one sentence each, most likely first. Never empty.
    pub next: Vec<String>,
    /// Commands that help, one per line, ready to copy.
    pub commands: Vec<String>,
    /// Links that help: text and address.
    pub links: Vec<(String, String)>,
    /// Whom to ask for access. Leave empty where the thing's existence is hidden from the viewer.
    pub ask: Vec<String>,
    /// The app that could not be seen, by the name that was asked for: access to it can be asked for, whether it is there
    /// or not.
    pub unseen_app: Option<String>,
    /// The request's id, to quote when asking for help.
    pub request_id: Option<String>,
}

/// A page that shows what an act would change, and the form that acts.
#[derive(Debug, Clone, Serialize)]
pub struct ConfirmPage {
    /// What every page has.
    pub shell: Shell,
    /// The app it is about; `None` for an operation's cancellation.
    pub app: Option<AppHead>,
    /// The question: "Roll shop back to v63?"
    pub title: String,
    /// One sentence on what happens then and to whom: "Makes v65 from v63's build and config; no visitor notices." Empty where
    /// nothing would, and [`Self::refused`] says why.
    pub meaning: String,
    /// What differs between now and then.
    pub changes: Vec<Changes>,
    /// Where the whole difference can be read: text and address.
    pub links: Vec<(String, String)>,
    /// What the viewer should know before: "3 migrations ran since v63; the database stays as it is."
    pub warnings: Vec<String>,
    /// Why it is refused, with the way out; then there is no button.
    pub refused: Option<String>,
    /// Where the form goes.
    pub action_url: String,
    /// Whether the form asks for a reason, without which it is refused, and which is kept.
    pub asks_why: bool,
    /// Hidden fields besides the CSRF token: name and value.
    pub fields: Vec<(String, String)>,
    /// The button's words: "Roll back to v63".
    pub button: String,
    /// Whether it takes something away.
    pub danger: bool,
    /// Where "Cancel" leads.
    pub back_url: String,
}

/// One kind of difference, under its heading: "3 commits go", "Config".
#[derive(Debug, Clone, Serialize)]
pub struct Changes {
    /// Heading.
    pub title: String,
    /// The lines; empty means "no difference", which is said.
    pub lines: Vec<Change>,
}

/// One line of a difference.
#[derive(Debug, Clone, Serialize)]
pub struct Change {
    /// Which way it goes.
    pub kind: ChangeKind,
    /// A short commit id or a version, in monospace; empty when there is none.
    pub code: String,
    /// What it is: a commit's subject, a config name (never a value), "web: 2 → 3".
    pub text: String,
}

/// Which way a line of a difference goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ChangeKind {
    /// `+`: comes.
    Added,
    /// `−`: goes.
    Removed,
    /// `~`: becomes other.
    Changed,
    /// No sign: it differs between the two that are compared, and stays as it is.
    Stays,
}
