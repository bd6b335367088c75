//! Procfile, read strictly: a bad line is named by its number and its reason.

use crate::names::ProcessType;
use std::collections::BTreeMap;

/// Why a Procfile was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Procfile, line {line}: {problem}")]
pub struct ProcfileError {
    /// The line's number, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub problem: String,
}

/// Largest Procfile that is read, in bytes.
pub const MAX_BYTES: usize = 64 * 1024;

/// Reads `type: command` lines; blank lines and lines that start with `#` are passed over.
///
/// Errors: the first line without a colon, with an illegal type, without a command, or naming a type twice.
pub fn parse(text: &str) -> Result<BTreeMap<ProcessType, String>, ProcfileError> {
    let mut types = BTreeMap::new();
    if text.len() > MAX_BYTES {
        return Err(ProcfileError { line: 1, problem: format!("the file is larger than {MAX_BYTES} bytes") });
    }
    for (i, raw) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let error = |problem: String| ProcfileError { line: i + 1, problem };
        let line = raw.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if line.contains('\0') {
            return Err(error("holds a NUL byte".into()));
        }
        let Some((name, command)) = line.split_once(':') else {
            return Err(error(format!("{:?} has no colon; write `type: command`", cut(line))));
        };
        let name = ProcessType::parse(name.trim()).map_err(|e| error(e.to_string()))?;
        let command = command.trim();
        if command.is_empty() {
            return Err(error(format!("the process type {name} has no command")));
        }
        if types.insert(name.clone(), command.to_string()).is_some() {
            return Err(error(format!("the process type {name} is named twice")));
        }
    }
    Ok(types)
}

fn cut(s: &str) -> String {
    s.chars().take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&[(&str, &str)], &str>) {
        let got = parse(text).map_err(|e| e.to_string());
        let expected = expected
            .map(|l| l.iter().map(|(t, c)| (ProcessType::parse(t).unwrap(), c.to_string())).collect())
            .map_err(String::from);
        assert_eq!(got, expected);
    }

    #[test]
    fn procfiles() {
        check("web: a --port $PORT\r\n\n# no\nworker:b: c\n", Ok(&[("web", "a --port $PORT"), ("worker", "b: c")]));
        check("", Ok(&[]));
        check("web: a\nworker b", Err("Procfile, line 2: \"worker b\" has no colon; write `type: command`"));
        check("web:", Err("Procfile, line 1: the process type web has no command"));
        check("web: a\nweb: b", Err("Procfile, line 2: the process type web is named twice"));
        check(
            "we b: a",
            Err("Procfile, line 1: process type \"we b\" may only contain letters, digits, dashes and underscores"),
        );
    }
}
