//! What is wrong with the machine or a command, in words for who typed it.

use std::error::Error;
use std::fmt::Display;

/// What happened, to which thing; then what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    what: String,
    hints: Vec<String>,
}

impl Problem {
    /// A sentence without its full stop.
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), hints: Vec::new() }
    }

    /// Adds a line that says what to type or do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Writes it to standard error, as all our commands do.
    pub fn show(&self) {
        eprintln!("error: {}", self.what);
        for hint in &self.hints {
            eprintln!("hint: {hint}");
        }
    }

    /// The sentence.
    pub fn what(&self) -> &str {
        &self.what
    }

    /// The lines that say what to do.
    pub fn hints(&self) -> &[String] {
        &self.hints
    }
}

/// Adds what was being done to an error.
pub trait Doing<T> {
    /// `doing`: a present participle with its object, such as `opening /var/lib/shipway`.
    fn doing(self, doing: impl Display) -> Result<T, Problem>;
}

impl<T, E: Error> Doing<T> for Result<T, E> {
    fn doing(self, doing: impl Display) -> Result<T, Problem> {
        self.map_err(|error| {
            let mut what = format!("{doing}: {error}");
            let mut cause = error.source();
            while let Some(deeper) = cause {
                let says = deeper.to_string();
                // Some errors say their cause themselves.
                if !what.ends_with(&says) {
                    what = format!("{what}: {says}");
                }
                cause = deeper.source();
            }
            Problem::new(what)
        })
    }
}

impl From<Problem> for Vec<Problem> {
    fn from(problem: Problem) -> Self {
        vec![problem]
    }
}
