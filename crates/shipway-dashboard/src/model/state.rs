//! States: a word, a mark and a sentence for each, so that no page says it by colour alone or in other words.

use serde::Serialize;
use shipway_domain::lifecycle::{BuildStatus, DynoState, OperationStatus, ReleaseStatus};

/// The four marks. Each has a sign besides its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mark {
    /// `●`: it is as it should be.
    Good,
    /// `◐`: something is under way or waits.
    Wait,
    /// `▲`: it failed.
    Bad,
    /// `○`: nothing to say.
    Quiet,
}

/// What an app does now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(into = "StateText")]
pub enum AppState {
    /// It exists, and nothing was released.
    NeverDeployed,
    /// Nothing was released, and the newest try failed.
    NeverServed {
        /// What was tried: "Deploy 3f9c2a1".
        tried: String,
    },
    /// Its web dynos answer.
    Serving {
        /// The current release's version.
        version: u64,
        /// How many web dynos are up.
        web: u32,
    },
    /// No web dyno is up yet.
    Starting {
        /// The current release's version.
        version: u64,
    },
    /// All web dynos have crashed.
    Crashed {
        /// The current release's version.
        version: u64,
        /// What ended it: "web.1 exited with status 1".
        cause: String,
    },
    /// It runs no web process: none in its Procfile, or scaled to 0.
    NoWeb {
        /// The current release's version.
        version: u64,
        /// How many other dynos are up.
        others: u32,
    },
    /// Visitors get the maintenance page.
    Maintenance {
        /// The current release's version.
        version: u64,
    },
    /// An operation is at work on it.
    Deploying {
        /// The release that serves meanwhile.
        serving: Option<u64>,
        /// The step that runs, as the CLI says it: "Installing dependencies".
        step: String,
    },
}

impl AppState {
    /// The state in a word or two.
    pub fn word(&self) -> &'static str {
        match self {
            Self::NeverDeployed => "never deployed",
            Self::NeverServed { .. } => "failed",
            Self::Serving { .. } => "up",
            Self::Starting { .. } => "starting",
            Self::Crashed { .. } => "crashed",
            Self::NoWeb { .. } => "no web",
            Self::Maintenance { .. } => "maintenance",
            Self::Deploying { .. } => "deploying",
        }
    }

    /// Its mark.
    pub fn mark(&self) -> Mark {
        match self {
            Self::Serving { .. } => Mark::Good,
            Self::Crashed { .. } | Self::NeverServed { .. } => Mark::Bad,
            Self::Starting { .. } | Self::Maintenance { .. } | Self::Deploying { .. } => Mark::Wait,
            Self::NeverDeployed | Self::NoWeb { .. } => Mark::Quiet,
        }
    }

    /// The whole fact in a sentence.
    pub fn sentence(&self) -> String {
        let dynos = |n: u32, kind: &str| format!("{n} {kind}dyno{}", if n == 1 { "" } else { "s" });
        match self {
            Self::NeverDeployed => "Nothing is deployed yet.".into(),
            Self::NeverServed { tried } => format!("{tried} failed. Nothing serves yet."),
            Self::Serving { version, web } => format!("v{version} serves from {}.", dynos(*web, "web ")),
            Self::Starting { version } => format!("v{version} starts; no web dyno is up yet."),
            Self::Crashed { version, cause } => {
                format!("v{version} crashed: {cause}. Visitors see an error page (H10).")
            }
            Self::NoWeb { version, others: 0 } => format!("v{version} runs no dyno. Visitors see an error page (H14)."),
            Self::NoWeb { version, others } => format!("v{version} runs {} and no web dyno.", dynos(*others, "")),
            Self::Maintenance { version } => {
                format!("v{version} is in maintenance. Visitors see the maintenance page.")
            }
            Self::Deploying { serving: Some(version), step } => format!("{step}. v{version} serves meanwhile."),
            Self::Deploying { serving: None, step } => format!("{step}. Nothing serves yet."),
        }
    }
}

/// What templates read of a state.
#[derive(Debug, Serialize)]
struct StateText {
    mark: Mark,
    word: &'static str,
    sentence: String,
}

impl From<AppState> for StateText {
    fn from(state: AppState) -> Self {
        Self { mark: state.mark(), word: state.word(), sentence: state.sentence() }
    }
}

/// The state of one thing in a list: its word and its mark.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Pill {
    /// Its mark.
    pub mark: Mark,
    /// What it says: "up", "failed", "CI passed".
    pub word: String,
}

impl Pill {
    /// A pill that says `word`.
    pub fn new(mark: Mark, word: impl Into<String>) -> Self {
        Self { mark, word: word.into() }
    }
}

macro_rules! pills {
    ($($type:ident { $($variant:ident => $mark:ident,)* })*) => {$(
        impl From<$type> for Pill {
            fn from(state: $type) -> Self {
                let mark = match state { $($type::$variant => Mark::$mark,)* };
                Self::new(mark, state.as_str())
            }
        }
    )*};
}

pills! {
    BuildStatus { Pending => Wait, Succeeded => Good, Failed => Bad, }
    ReleaseStatus { Pending => Wait, Succeeded => Good, Failed => Bad, Expired => Quiet, }
    DynoState { Starting => Wait, Up => Good, Crashed => Bad, Stopping => Wait, Down => Quiet, }
    OperationStatus { Waiting => Wait, Running => Wait, Unwinding => Wait, Succeeded => Good, Failed => Bad, }
}

/// Something that failed: what, where, the last words, what to do.
#[derive(Debug, Clone, Serialize)]
pub struct Failure {
    /// The fact: "v65 failed; v64 still serves."
    pub what: String,
    /// The step: "Release phase".
    pub step: String,
    /// Its cause: "`bin/migrate` exited with status 1".
    pub because: String,
    /// The end of its output, oldest first; the page shows the last three.
    pub lines: Vec<String>,
    /// What to do next, in a sentence.
    pub next: String,
    /// Where its whole output is.
    pub output_url: Option<String>,
    /// Where the form that tries it again goes; `None` where that makes no sense, or the viewer may not.
    pub retry_url: Option<String>,
}
