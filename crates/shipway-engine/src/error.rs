//! Errors for three readers: a kind and an id for programs, a message for users, a cause for the operator.

use crate::ports::PortError;
use shipway_domain::admission::Refused;
use shipway_domain::{NameError, NameOrId};
use shipway_store::StoreError;

/// What sort of trouble it is; doors translate it to a status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nothing there, or nothing that the caller may see.
    NotFound,
    /// The request makes no sense as it is.
    Invalid,
    /// Who asks is not known.
    Unauthorized,
    /// Who asks is known and may not.
    Forbidden,
    /// It does not fit what is there now.
    Conflict,
    /// Ours, and it may pass.
    Unavailable,
    /// Ours.
    Platform,
}

/// An error of the engine.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// The sort.
    pub kind: Kind,
    /// A stable word for programs: `not_found`, `invalid_params`, …
    pub id: &'static str,
    /// What happened, to which thing, what to do next.
    pub message: String,
    /// For a missing thing: its noun, as the API's clients look for it.
    pub resource: Option<&'static str>,
    /// For the operator's log, never shown to users.
    pub cause: Option<String>,
}

/// The result of the engine's calls.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A request that makes no sense as it is.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self { kind: Kind::Invalid, id: "invalid_params", message: message.into(), resource: None, cause: None }
    }

    /// Something that is not there. `resource` is the API's noun: `app`, `release`, `add_on`.
    pub fn missing(resource: &'static str) -> Self {
        Self {
            kind: Kind::NotFound,
            id: "not_found",
            message: format!("Couldn't find that {}.", noun(resource)),
            resource: Some(resource),
            cause: None,
        }
    }

    /// The same, where it is known how it was called: `which` is the caller's own word, `next` the sentence that says where
    /// the right one stands. No word of it depends on whether the thing is there for others.
    pub fn missing_one(resource: &'static str, which: &str, next: &str) -> Self {
        let message = format!("Couldn't find that {}: {}. {next}", noun(resource), said(which));
        Self { message, ..Self::missing(resource) }
    }

    /// The same for a name or an id; an id says nothing to people, and is not repeated.
    pub(crate) fn missing_named(resource: &'static str, which: &NameOrId, next: &str) -> Self {
        match which {
            NameOrId::Name(name) => Self::missing_one(resource, name, next),
            NameOrId::Id(_) => Self::missing(resource),
        }
    }

    /// Something that does not fit what is there now.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self { kind: Kind::Conflict, id: "conflict", message: message.into(), resource: None, cause: None }
    }

    /// A name that another thing of the kind has. `next` is a sentence: what to do instead.
    pub(crate) fn taken(noun: &str, name: impl std::fmt::Display, next: &str) -> Self {
        Self::invalid(format!("Name {name} is already taken by another {noun}. {next}"))
    }

    /// Says of what the store could not write that the name is taken, where it is.
    pub(crate) fn if_taken(noun: &'static str, name: impl std::fmt::Display) -> impl FnOnce(StoreError) -> Self {
        move |e| match e {
            StoreError::Taken(_) => Self::taken(noun, name, "Choose another name."),
            other => other.into(),
        }
    }

    /// No or unknown credentials.
    pub fn unauthorized() -> Self {
        Self {
            kind: Kind::Unauthorized,
            id: "unauthorized",
            message: "Invalid credentials provided.".into(),
            resource: None,
            cause: None,
        }
    }

    /// Known, and not allowed.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self { kind: Kind::Forbidden, id: "forbidden", message: message.into(), resource: None, cause: None }
    }

    /// Ours, and it may pass.
    pub fn unavailable(message: impl Into<String>, cause: impl std::fmt::Display) -> Self {
        Self {
            kind: Kind::Unavailable,
            id: "unavailable",
            message: message.into(),
            resource: None,
            cause: Some(cause.to_string()),
        }
    }

    /// Ours.
    pub fn platform(cause: impl std::fmt::Display) -> Self {
        let cause = cause.to_string();
        if let Some(message) = disk_trouble(&cause) {
            return Self::unavailable(message, cause);
        }
        Self {
            kind: Kind::Platform,
            id: "platform_error",
            message: "The platform could not do this; its operator finds the reason in the server's log.".into(),
            resource: None,
            cause: Some(cause),
        }
    }
}

/// The API's noun as people write it.
fn noun(resource: &str) -> String {
    resource.replace("add_on", "add-on").replace('_', " ")
}

/// A word of the caller's as it can be said back to any terminal: short, and quoted where it is no plain name.
fn said(which: &str) -> String {
    const LONGEST: usize = 64;
    let short: String = which.chars().take(LONGEST).collect();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.@:+/".contains(c);
    if !short.is_empty() && short.len() == which.len() && short.chars().all(plain) {
        short
    } else {
        format!("{short:?}")
    }
}

impl From<StoreError> for Error {
    fn from(e: StoreError) -> Self {
        match e {
            StoreError::Taken(what) => Self {
                id: "invalid_params",
                kind: Kind::Invalid,
                ..Self::conflict(format!("That {what} is already taken. Choose another."))
            },
            StoreError::Missing(what) => Self::missing(what),
            other => Self::platform(other),
        }
    }
}

/// What users are told when the platform's disk is in the way. By text: the same errors come from the database, from
/// files, from git and from the spawner.
fn disk_trouble(cause: &str) -> Option<&'static str> {
    let any = |words: &[&str]| words.iter().any(|word| cause.contains(word));
    if any(&["disk is full", "No space left on device", "Disk quota exceeded"]) {
        return Some("The platform's disk is full. Nothing was changed; make room on it and try again.");
    }
    any(&["Read-only file system", "readonly database", "disk I/O error", "Input/output error"]).then_some(
        "The platform's disk cannot be written: it is read-only or damaged (its machine's kernel log says why). Nothing was \
         changed; try again when it is mended.",
    )
}

impl From<NameError> for Error {
    fn from(e: NameError) -> Self {
        let mut message = e.to_string();
        if let Some(first) = message.get(..1) {
            message = first.to_uppercase() + &message[1..];
        }
        Self::invalid(message + ".")
    }
}

impl From<Refused> for Error {
    fn from(e: Refused) -> Self {
        Self::forbidden(e.to_string())
    }
}

impl From<PortError> for Error {
    fn from(e: PortError) -> Self {
        Self::platform(e)
    }
}

impl From<shipway_runtime::RuntimeError> for Error {
    fn from(e: shipway_runtime::RuntimeError) -> Self {
        match e {
            shipway_runtime::RuntimeError::Unsupported { .. } => Self::invalid(format!("{e}.")),
            other => Self::platform(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_named_as_it_was_asked_for() {
        let check = |resource: &'static str, which: &str, message: &str| {
            let error = Error::missing_one(resource, which, "Look.");
            assert_eq!((error.kind, error.resource), (Kind::NotFound, Some(resource)));
            assert_eq!(error.message, message);
        };
        check("app", "acron", "Couldn't find that app: acron. Look.");
        check("add_on", "postgresql-calm-1", "Couldn't find that add-on: postgresql-calm-1. Look.");
        check("user", "ida@example.org", "Couldn't find that user: ida@example.org. Look.");
        check("app", "", "Couldn't find that app: \"\". Look.");
        check("app", "\u{1b}[31mred\n", "Couldn't find that app: \"\\u{1b}[31mred\\n\". Look.");
        check("app", "a b", "Couldn't find that app: \"a b\". Look.");
        let long = "x".repeat(300);
        check("app", &long, &format!("Couldn't find that app: {:?}. Look.", "x".repeat(64)));
        let id = Error::missing_named("app", &NameOrId::Id(uuid::Uuid::nil()), "Look.");
        assert_eq!(id.message, "Couldn't find that app.");
    }

    #[test]
    fn a_disk_in_the_way_is_said() {
        let check = |cause: &str, kind: Kind, words: &str| {
            let error = Error::platform(cause);
            assert_eq!(error.kind, kind, "{cause}");
            assert!(error.message.contains(words), "{}", error.message);
            assert_eq!(error.cause.as_deref(), Some(cause));
        };
        check("the database could not be written: database or disk is full", Kind::Unavailable, "disk is full");
        check("writing a blob: No space left on device (os error 28)", Kind::Unavailable, "disk is full");
        check("making work/x: Read-only file system (os error 30)", Kind::Unavailable, "read-only");
        check("database: disk I/O error", Kind::Unavailable, "read-only");
        check("the spawner has hung up", Kind::Platform, "operator");
    }
}
