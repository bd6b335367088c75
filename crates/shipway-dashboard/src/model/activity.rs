//! The ledger: who did what, when, why, by which road.

use jiff::Timestamp;
use serde::Serialize;

use super::{AppHead, Mark, Shell};

/// The ledger, newest first, of one app or of all that the viewer may see.
#[derive(Debug, Clone, Serialize)]
pub struct ActivityPage {
    /// What every page has.
    pub shell: Shell,
    /// The app; `None` for all.
    pub app: Option<AppHead>,
    /// One page of entries; 50 are enough.
    pub events: Vec<Event>,
    /// The path of the next, older page.
    pub older_url: Option<String>,
}

/// An app in the sentence of an [`Event`], which goes on with it: "put" and " ", "acorn", " into staging".
#[derive(Debug, Clone, Serialize)]
pub struct Mention {
    /// What joins it to the words before it: " on ", or a blank.
    pub joint: String,
    /// Its name at that time.
    pub name: String,
    /// Its name now; none when it is gone.
    pub now: Option<String>,
    /// The rest of the sentence.
    pub rest: String,
}

/// One entry of the ledger.
#[derive(Debug, Clone, Serialize)]
pub struct Event {
    /// When.
    pub at: Timestamp,
    /// E-mail address of who did it, or "Shipway" for what nobody asked for.
    pub who: String,
    /// What, in the past tense, as the end of a sentence: "deployed 3f9c2a1 as v64", "was refused a rollback to v12".
    pub what: String,
    /// The app that it was done to, where a page shows more than one.
    pub app: Option<Mention>,
    /// By which road: "git push", "CLI", "API", "dashboard", "schedule".
    pub road: String,
    /// The reason that was given or, for a refusal, the rule.
    pub why: Option<String>,
    /// [`Mark::Bad`] for a failure or refusal; [`Mark::Quiet`] for the rest.
    pub mark: Mark,
    /// Where there is more to see.
    pub link: Option<String>,
}
