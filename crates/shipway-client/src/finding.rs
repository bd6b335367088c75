//! What `doctor` says.

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// As it should be.
    Good,
    /// Works, with something to know.
    Note,
    /// Will surprise somebody.
    Warning,
    /// Does not work.
    Problem,
}

impl Level {
    /// The word that is shown.
    pub fn word(self) -> &'static str {
        match self {
            Self::Good => "ok",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How much it matters.
    pub level: Level,
    /// What was found, as a sentence without its full stop.
    pub what: String,
    /// What to type or do, line by line; empty when there is nothing to do.
    pub next: Vec<String>,
}

impl Finding {
    /// A finding with nothing to do about it.
    pub fn new(level: Level, what: impl Into<String>) -> Self {
        Self { level, what: what.into(), next: Vec::new() }
    }

    /// Adds a line to type.
    #[must_use]
    pub fn next(mut self, line: impl Into<String>) -> Self {
        self.next.push(line.into());
        self
    }
}
