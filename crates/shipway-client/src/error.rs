//! What a user is told when a command cannot go on.

use std::fmt;

/// What happened, to which thing, and what to type next.
///
/// Exit codes are those of the Heroku CLI where it has one: 1 for a mistake of ours or of the network, 2 for a refusal by the server.
#[derive(Debug)]
pub struct Error {
    message: String,
    hints: Vec<String>,
    exit: u8,
}

/// A result whose error can be shown as it is.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error with exit code 1.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hints: Vec::new(), exit: 1 }
    }

    /// Adds a line that says what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Ends the program with `exit` instead of 1.
    #[must_use]
    pub fn exit(mut self, exit: u8) -> Self {
        self.exit = exit;
        self
    }

    /// The exit code of the program.
    pub fn exit_code(&self) -> u8 {
        self.exit
    }

    /// The lines after the message, each a thing to do.
    pub fn hints(&self) -> &[String] {
        &self.hints
    }

    /// Prints it on standard error: what happened, and each thing to do.
    pub fn show(&self) {
        eprintln!("error: {self}");
        for hint in &self.hints {
            eprintln!("hint: {hint}");
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}
