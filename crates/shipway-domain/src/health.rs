//! Health checks: what a new web dyno is asked before it gets requests, and which answers count.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Longest path of a check, in bytes.
const MAX_PATH: usize = 1000;
/// Most statuses and ranges of a check.
const MAX_RANGES: usize = 50;

/// A check by HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    /// What is asked for, with a slash before it.
    pub path: String,
    /// The statuses that count; none is any below 500.
    pub statuses: Option<Statuses>,
}

impl HealthCheck {
    /// Whether an answer with this status means that a dyno is healthy.
    pub fn counts(&self, status: u16) -> bool {
        self.statuses.as_ref().map_or(status < 500, |statuses| statuses.has(status))
    }

    /// What counts, as a sentence without its end: `only 200-299 counts as healthy`.
    pub fn rule(&self) -> String {
        match &self.statuses {
            Some(statuses) => format!("only {statuses} counts as healthy"),
            None => "a status below 500 counts as healthy".into(),
        }
    }
}

/// A path that can be asked for. Errors: the end of a sentence about it.
pub fn check_path(text: &str) -> Result<(), &'static str> {
    // It becomes part of a request's first line.
    match text.starts_with('/') && text.len() <= MAX_PATH && text.bytes().all(|b| b.is_ascii_graphic()) {
        true => Ok(()),
        false => Err("must be a path like /health: a slash, then up to 1000 ASCII characters without spaces"),
    }
}

/// Statuses of HTTP and ranges of them: `200-299,301`. One at least, 50 at most.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Statuses(Vec<(u16, u16)>);

impl Statuses {
    /// Reads `200-299,301`. Errors: the end of a sentence about it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let status = |s: &str| {
            let digits = s.len() == 3 && s.bytes().all(|b| b.is_ascii_digit());
            s.parse().ok().filter(|status| digits && (100..=599).contains(status))
        };
        let range = |piece: &str| match piece.trim().split_once('-') {
            Some((from, to)) => status(from).zip(status(to)).filter(|(from, to)| from <= to),
            None => status(piece.trim()).map(|one| (one, one)),
        };
        let ranges: Option<Vec<_>> = text.split(',').take(MAX_RANGES + 1).map(range).collect();
        let ranges = ranges.filter(|ranges| ranges.len() <= MAX_RANGES);
        ranges.map(Self).ok_or_else(|| {
            format!("must be statuses from 100 to 599 and ranges of them, {MAX_RANGES} at most, such as 200-299,301")
        })
    }

    /// Whether a status is among them.
    pub fn has(&self, status: u16) -> bool {
        self.0.iter().any(|(from, to)| (from..=to).contains(&&status))
    }
}

impl fmt::Display for Statuses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (from, to)) in self.0.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            match from == to {
                true => write!(f, "{comma}{from}")?,
                false => write!(f, "{comma}{from}-{to}")?,
            }
        }
        Ok(())
    }
}

impl TryFrom<String> for Statuses {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text)
    }
}

impl From<Statuses> for String {
    fn from(statuses: Statuses) -> Self {
        statuses.to_string()
    }
}

/// What programs write that cannot begin, and what is likely behind it. Written as the languages and databases write it.
const SIGNS: [(&[&str], &str); 6] = [
    (
        &[
            "No module named",
            "Cannot find module",
            "Cannot find package",
            "cannot load such file",
            "Could not find gem",
        ],
        "a package or file of the code is not there: name it among the dependencies, and commit it with its lock file.",
    ),
    (
        &["KeyError:", "environment variable", "is not set", "must be set", "not configured"],
        "a config var is not set; those that are: heroku config. To set one: heroku config:set NAME=VALUE",
    ),
    (
        &[
            "ECONNREFUSED",
            "Connection refused",
            "could not connect to server",
            "could not translate host name",
            "ENOTFOUND",
        ],
        "what it connects to is not there: look for the add-on and its config var, heroku addons and heroku config.",
    ),
    (
        &["no such table", "UndefinedTable", "relation \"", "Table doesn't exist"],
        "the database is behind the code: run the migrations in the Procfile's `release` line.",
    ),
    (
        &["EADDRINUSE", "Address already in use"],
        "something of the dyno listens on that port already: it listens twice, or on a fixed port instead of $PORT.",
    ),
    (
        &["SyntaxError", "IndentationError", "Parse error", "syntax error"],
        "the code cannot be read as it was committed: start it once where you work.",
    ),
];

/// What is likely behind the end of a program that wrote these lines last; none where nothing in them tells.
pub fn likely_cause(lines: &[String]) -> Option<&'static str> {
    let cause = |line: &String| {
        let found = SIGNS.iter().find(|(signs, _)| signs.iter().any(|sign| line.contains(sign)));
        found.map(|(_, cause)| *cause)
    };
    // The last line is what it ended of.
    lines.iter().rev().find_map(cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_and_ranges_of_them() {
        let check = |given: &str, expected: &str| {
            let got = Statuses::parse(given).map_or_else(|e| e, |statuses| statuses.to_string());
            assert!(got.starts_with(expected), "{given:?}: {got}");
        };
        check("200", "200");
        check(" 200-299, 301", "200-299,301");
        for bad in ["", ",", "200,", "20", "2xx", "099", "600", "299-200", "200-", "+20", "200-299-301", "２００"] {
            check(bad, "must be statuses from 100 to 599");
        }
        check(&["200"; 51].join(","), "must be statuses");
        let statuses = Statuses::parse("200-299,301").unwrap();
        let counting: Vec<u16> = [199, 200, 299, 300, 301, 302].into_iter().filter(|s| statuses.has(*s)).collect();
        assert_eq!(counting, [200, 299, 301]);
    }

    #[test]
    fn what_a_program_writes_last_tells_its_likely_end() {
        let check = |lines: &[&str], expected: Option<&str>| {
            let lines: Vec<String> = lines.iter().map(ToString::to_string).collect();
            let cause = likely_cause(&lines);
            assert!(
                cause.map_or(expected.is_none(), |c| expected.is_some_and(|e| c.contains(e))),
                "{lines:?}: {cause:?}"
            );
        };
        check(
            &["Traceback (most recent call last):", "ModuleNotFoundError: No module named 'flask'"],
            Some("dependencies"),
        );
        check(&["Error: Cannot find module 'express'", "Require stack:", "- /app/server.js"], Some("dependencies"));
        check(&["    return os.environ[key]", "KeyError: 'SECRET_KEY'"], Some("config var is not set"));
        check(&["Error: listen EADDRINUSE: address already in use :::3000"], Some("$PORT"));
        check(&["psycopg.OperationalError: Connection refused"], Some("heroku addons"));
        check(&["no luck"], None);
        check(&[], None);
    }

    #[test]
    fn attack_a_path_is_one_word_of_one_line() {
        for good in ["/", "/health?deep=1", "/%20"] {
            assert_eq!(check_path(good), Ok(()), "{good}");
        }
        for bad in ["", "health", "/a b", "/a\r\nX-Evil: 1", "/ä", "/a\0", &"/".repeat(1001)] {
            assert!(check_path(bad).is_err(), "{bad:?}");
        }
    }
}
