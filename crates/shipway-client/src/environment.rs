//! The environment of a process as a value, and the changes to one.

use std::collections::BTreeMap;

/// Environment variables, taken once at the start so that everything after is a function of it.
///
/// Variables that are not UTF-8 are left out here; a child process still inherits them.
#[derive(Debug, Clone, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// The variables of this process.
    pub fn of_process() -> Self {
        Self(std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))).collect())
    }

    /// The value of a variable, set or empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The value of a variable that is set to something.
    pub fn filled(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|v| !v.is_empty())
    }

    /// The user's home directory, by `HOME` or, on Windows, `USERPROFILE`.
    pub fn home(&self) -> Option<std::path::PathBuf> {
        self.filled("HOME").or_else(|| self.filled("USERPROFILE")).map(Into::into)
    }

    /// This environment after `changes`.
    #[must_use]
    pub fn after(&self, changes: &[Change]) -> Self {
        let mut map = self.0.clone();
        for change in changes {
            match change {
                Change::Set(name, value) => drop(map.insert(name.clone(), value.clone())),
                Change::Unset(name) => drop(map.remove(name)),
            }
        }
        Self(map)
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        Self(pairs.into_iter().map(|(k, v)| (k.into(), v.into())).collect())
    }
}

/// One change to an environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Sets a variable.
    Set(String, String),
    /// Removes a variable, set or not.
    Unset(String),
}

impl Change {
    /// Sets `name` to `value`.
    pub fn set(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self::Set(name.into(), value.into())
    }

    /// Removes `name`.
    pub fn unset(name: impl Into<String>) -> Self {
        Self::Unset(name.into())
    }
}
