//! What is wrong with the machine or a command, in words for who typed it.

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

    /// Says what was being done and why it failed; fits `map_err`.
    pub fn doing<E: Display>(doing: impl Display) -> impl FnOnce(E) -> Self {
        move |why| Self::new(format!("{doing}: {why}"))
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

impl From<Problem> for Vec<Problem> {
    fn from(problem: Problem) -> Self {
        vec![problem]
    }
}
