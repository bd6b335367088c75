//! Names that parse once, at the edge, and are true from there on.

use std::ops::RangeInclusive;

/// Why a name was refused: what it is, what was wrong, what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {given:?} {problem}")]
pub struct NameError {
    /// The kind of name, with its article left out: "app name", "process type".
    pub what: &'static str,
    /// What was given, cut to 80 characters.
    pub given: String,
    /// What is wrong and what is allowed, as the end of a sentence.
    pub problem: String,
}

impl NameError {
    pub(crate) fn new(what: &'static str, given: &str, problem: impl Into<String>) -> Self {
        Self { what, given: given.chars().take(80).collect(), problem: problem.into() }
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks `s` against this name's rules.
            pub fn parse(s: &str) -> Result<Self, $crate::names::NameError> {
                let check: fn(&str) -> Result<String, $crate::names::NameError> = $check;
                check(s).map(Self)
            }
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{:?}", self.0)
            }
        }
        impl std::str::FromStr for $name {
            type Err = $crate::names::NameError;
            fn from_str(s: &str) -> Result<Self, $crate::names::NameError> {
                Self::parse(s)
            }
        }
        impl TryFrom<String> for $name {
            type Error = $crate::names::NameError;
            fn try_from(s: String) -> Result<Self, $crate::names::NameError> {
                Self::parse(&s)
            }
        }
        impl From<$name> for String {
            fn from(n: $name) -> String {
                n.0
            }
        }
        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

pub(crate) use name;

/// Names that would collide with hosts or paths of the platform itself.
pub const RESERVED_APP_NAMES: &[&str] = &[
    "admin",
    "api",
    "app",
    "apps",
    "auth",
    "dashboard",
    "data",
    "db",
    "git",
    "heroku",
    "internal",
    "localhost",
    "login",
    "mail",
    "registry",
    "root",
    "router",
    "shipway",
    "static",
    "status",
    "support",
    "system",
    "www",
];

/// Checks a name (`what`) that stands in addresses and commands: `a-z`, `0-9` and `-`, starting with a letter.
pub(crate) fn check_label(what: &'static str, s: &str, length: RangeInclusive<usize>) -> Result<(), NameError> {
    let bad = |problem: String| Err(NameError::new(what, s, problem));
    if !length.contains(&s.len()) {
        return bad(format!("must have between {} and {} characters", length.start(), length.end()));
    }
    if !s.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        return bad("may only contain lowercase letters, digits and dashes".into());
    }
    if !s.as_bytes()[0].is_ascii_lowercase() {
        return bad("must start with a letter".into());
    }
    Ok(())
}

name! {
    /// An app's name: 3 to 30 characters, `a-z`, `0-9` and `-`, starting with a letter, not ending in `-`.
    /// Source: Heroku Platform API, "App".
    AppName, |s| {
        check_label("app name", s, 3..=30)?;
        let bad = |problem: &str| Err(NameError::new("app name", s, problem));
        if s.ends_with('-') {
            return bad("must not end with a dash");
        }
        if s.starts_with("xn--") {
            return bad("must not start with xn--, which is kept for encoded domain names");
        }
        if RESERVED_APP_NAMES.contains(&s) {
            return bad("is reserved for the platform");
        }
        Ok(s.to_string())
    }
}

name! {
    /// A process type as a Procfile names it: 1 to 63 characters of `A-Za-z0-9_-`.
    ProcessType, |s| {
        if s.is_empty() || s.len() > 63 {
            return Err(NameError::new("process type", s, "must have between 1 and 63 characters"));
        }
        if !s.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-') {
            return Err(NameError::new("process type", s, "may only contain letters, digits, dashes and underscores"));
        }
        if !s.as_bytes()[0].is_ascii_alphanumeric() {
            return Err(NameError::new("process type", s, "must start with a letter or a digit"));
        }
        Ok(s.to_string())
    }
}

name! {
    /// The name of a config var: a letter or `_`, then letters, digits and `_`; at most 256 characters.
    ConfigKey, |s| {
        if s.is_empty() || s.len() > 256 {
            return Err(NameError::new("config var name", s, "must have between 1 and 256 characters"));
        }
        let first = s.as_bytes()[0];
        if !(first.is_ascii_alphabetic() || first == b'_')
            || !s.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        {
            return Err(NameError::new(
                "config var name", s, "may only contain letters, digits and underscores, and must not start with a digit",
            ));
        }
        Ok(s.to_string())
    }
}

/// What the platform sets in every dyno by itself: config vars of these names change nothing there.
/// Source: Heroku Dev Center, "Dynos" (local environment variables) and "Dyno Metadata".
pub const SET_IN_DYNOS: [&str; 11] = [
    "DYNO",
    "HEROKU_APP_DEFAULT_DOMAIN_NAME",
    "HEROKU_APP_ID",
    "HEROKU_APP_NAME",
    "HEROKU_BUILD_COMMIT",
    "HEROKU_RELEASE_CREATED_AT",
    "HEROKU_RELEASE_VERSION",
    "HEROKU_SLUG_COMMIT",
    "HEROKU_SLUG_DESCRIPTION",
    "HOME",
    "PORT",
];

name! {
    /// An e-mail address, lower-cased; only its shape is checked.
    Email, |s| {
        let bad = || Err(NameError::new("e-mail address", s, "does not look like name@host"));
        let s = s.trim();
        let Some((local, host)) = s.split_once('@') else { return bad() };
        let ok = |part: &str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_graphic() && !b"@<>()[],;:\\\"'`".contains(&b))
        };
        if s.len() > 254 || !ok(local) || !ok(host) || host.starts_with('.') || host.ends_with('.') {
            return bad();
        }
        Ok(s.to_ascii_lowercase())
    }
}

name! {
    /// A host name of a domain: lower case, at least two labels, `*` allowed as the first; at most 253 characters.
    Hostname, |s| {
        let bad = |p: &str| Err(NameError::new("domain", s, p));
        let host = s.trim_end_matches('.').to_ascii_lowercase();
        if host.is_empty() || host.len() > 253 {
            return bad("must have between 1 and 253 characters");
        }
        let labels: Vec<&str> = host.split('.').collect();
        if labels.len() < 2 {
            return bad("needs at least two parts, like www.example.com");
        }
        for (i, label) in labels.iter().enumerate() {
            if i == 0 && *label == "*" {
                continue;
            }
            let ok = !label.is_empty() && label.len() <= 63
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
                && !label.starts_with('-') && !label.ends_with('-');
            if !ok {
                return bad("has a part that is empty, too long, or holds something other than letters, digits and dashes (write international names in their xn-- form)");
            }
        }
        if labels.last().is_some_and(|l| l.bytes().all(|b| b.is_ascii_digit())) {
            return bad("looks like an IP address; a domain is needed");
        }
        Ok(host)
    }
}

impl Hostname {
    /// Whether it is a wildcard that means `host`.
    pub fn covers(&self, host: &str) -> bool {
        self.0.strip_prefix('*').is_some_and(|suffix| host.len() > suffix.len() && host.ends_with(suffix))
    }

    /// Whether some name is meant by both: they are the same, or one is a wildcard around the other.
    pub fn overlaps(&self, other: &Self) -> bool {
        self == other || self.covers(&other.0) || other.covers(&self.0)
    }
}

name! {
    /// The name of a git branch, without `refs/heads/`: 1 to 200 characters that git allows.
    /// Source: git, `Documentation/git-check-ref-format`.
    BranchName, |s| check_ref_name("branch", s)
}

name! {
    /// The name of a git tag, without `refs/tags/`: 1 to 200 characters that git allows.
    /// Source: git, `Documentation/git-check-ref-format`.
    TagName, |s| check_ref_name("tag", s)
}

/// Checks the name of a branch or tag (`what`): 1 to 200 characters that git allows.
pub(crate) fn check_ref_name(what: &'static str, s: &str) -> Result<String, NameError> {
    let bad_part = |part: &str| part.is_empty() || part.starts_with('.') || part.ends_with(".lock");
    let bad_byte = |b: u8| b <= b' ' || b == 0x7f || b"~^:?*[\\".contains(&b);
    if s.is_empty() || s.len() > 200 {
        return Err(NameError::new(what, s, "must have between 1 and 200 characters"));
    }
    let bad = s.starts_with('-') || s == "@" || s.ends_with('.') || s.contains("..") || s.contains("@{");
    if bad || s.bytes().any(bad_byte) || s.split('/').any(bad_part) {
        return Err(NameError::new(what, s, format!("is not a {what} name that git allows")));
    }
    Ok(s.to_string())
}

name! {
    /// A full git object name: 40 lower-case hex digits (SHA-1 repositories).
    CommitId, |s| {
        if s.len() == 40 && s.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
            Ok(s.to_string())
        } else {
            Err(NameError::new("commit", s, "is not a full 40-digit commit id"))
        }
    }
}

name! {
    /// The digest of a blob: `sha256:` and 64 lower-case hex digits.
    Digest, |s| {
        match s.strip_prefix("sha256:") {
            Some(hex) if hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) =>
                Ok(s.to_string()),
            _ => Err(NameError::new("digest", s, "is not sha256: and 64 hex digits")),
        }
    }
}

impl Digest {
    /// The 64 hex digits without the algorithm.
    pub fn hex(&self) -> &str {
        &self.0["sha256:".len()..]
    }
}

impl CommitId {
    /// The first seven digits, as people read them.
    pub fn short(&self) -> &str {
        &self.0[..7]
    }
}

impl ProcessType {
    /// The type that the router sends requests to.
    pub const WEB: &'static str = "web";
    /// The type that runs once before a release goes live.
    pub const RELEASE: &'static str = "release";

    /// Whether this is the `web` type.
    pub fn is_web(&self) -> bool {
        self.0 == Self::WEB
    }
    /// Whether this is the `release` type, which is never scaled.
    pub fn is_release(&self) -> bool {
        self.0 == Self::RELEASE
    }
}

/// Where an API path takes "the name or the id" of something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NameOrId {
    /// It parsed as a UUID.
    Id(uuid::Uuid),
    /// Anything else, unchecked: it is only ever compared.
    Name(String),
}

impl NameOrId {
    /// Reads a path segment.
    pub fn parse(s: &str) -> Self {
        // `Uuid` also reads the forms without dashes and with braces; only the one that we print counts as an id.
        match (s.len() == 36).then(|| s.parse()).and_then(Result::ok) {
            Some(id) => Self::Id(id),
            None => Self::Name(s.to_string()),
        }
    }
}

macro_rules! found_by_id {
    ($($id:ident),*) => {$(
        impl From<crate::$id> for NameOrId {
            fn from(id: crate::$id) -> Self {
                Self::Id(id.0)
            }
        }

        impl From<&crate::$id> for NameOrId {
            fn from(id: &crate::$id) -> Self {
                Self::Id(id.0)
            }
        }
    )*};
}
found_by_id!(AccountId, AddonId, AppId, PipelineId, ProductId);

pub(crate) const ADJECTIVES: &[&str] = &[
    "aged", "amber", "autumn", "bold", "bright", "calm", "clear", "cold", "cool", "coral", "damp", "dawn", "deep",
    "early", "fair", "fresh", "gentle", "glad", "golden", "green", "hidden", "high", "hollow", "icy", "keen", "late",
    "light", "lively", "long", "lucky", "mellow", "misty", "morning", "mossy", "nimble", "noble", "old", "open",
    "pale", "patient", "polar", "proud", "quiet", "rapid", "rough", "salty", "sharp", "shy", "silent", "silver",
    "small", "snowy", "solid", "spring", "steady", "still", "summer", "swift", "tidal", "warm", "wide", "wild",
    "winter", "young",
];
const NOUNS: &[&str] = &[
    "anchor", "bay", "beacon", "boat", "breeze", "bridge", "brook", "buoy", "canal", "cape", "cliff", "cloud", "coast",
    "compass", "coral", "cove", "current", "deck", "delta", "dock", "dune", "ferry", "field", "fjord", "gale", "gull",
    "harbor", "haven", "heron", "hill", "inlet", "island", "jetty", "keel", "lagoon", "lake", "lantern", "meadow",
    "moon", "oar", "ocean", "peak", "pier", "pond", "port", "quay", "rain", "reef", "river", "sail", "sea", "shore",
    "sky", "sound", "star", "stone", "stream", "surf", "tide", "tower", "wave", "wharf", "wind", "wood",
];

/// A name in Heroku's `adjective-noun-12345` style from 64 bits of the caller's randomness.
pub fn generated_app_name(random: u64) -> AppName {
    let adjective = ADJECTIVES[(random & 0xff) as usize % ADJECTIVES.len()];
    let noun = NOUNS[(random >> 8 & 0xff) as usize % NOUNS.len()];
    AppName(format!("{adjective}-{noun}-{:05}", (random >> 16) % 100_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<T: std::str::FromStr<Err = NameError> + std::fmt::Debug>(good: &[&str], bad: &[&str]) {
        for g in good {
            assert!(g.parse::<T>().is_ok(), "{g:?} should be accepted");
        }
        for b in bad {
            assert!(b.parse::<T>().is_err(), "{b:?} should be refused");
        }
    }

    #[test]
    fn attack_02_app_names_carry_no_metacharacters() {
        check::<AppName>(
            &["abc", "quiet-river-12345", "a1-"][..2],
            &[
                "",
                "ab",
                "Abc",
                "1abc",
                "abc-",
                "a b c",
                "a;curl x|sh",
                "$(id)",
                "`id`",
                "a\nb",
                "a\0b",
                "-abc",
                "../../x",
                "api",
                "xn--caf-dma",
                &"a".repeat(31),
            ],
        );
    }

    #[test]
    fn attack_01_branch_names() {
        check::<BranchName>(
            &["main", "feature/x-1", "release;x", "$(id)"],
            &["", "-x", "a b", "a..b", "a~1", "/a", "a/", ".a", "a.lock", "a@{1}", "a:b", "a\nb", "@"],
        );
    }

    #[test]
    fn hostnames() {
        check::<Hostname>(
            &["www.example.com", "*.example.com", "EXAMPLE.com.", "xn--caf-dma.example"],
            &["localhost", "1.2.3.4", "a..b", "-a.b", "a.*.b", "a b.c", "a.b/c", "exa\nmple.com", "café.example"],
        );
    }

    #[test]
    fn attack_11_config_keys() {
        check::<ConfigKey>(&["A", "_x", "DATABASE_URL", "LD_PRELOAD"], &["", "1A", "A=B", "A B", "A\n", "A-B", "Ä"]);
    }

    #[test]
    fn generated_names_are_names() {
        for r in (0..200_000_u64).map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15)) {
            let name = generated_app_name(r);
            assert_eq!(AppName::parse(name.as_str()).as_ref(), Ok(&name));
        }
    }
}
