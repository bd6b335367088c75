//! Text for people: aligned columns, one accent, plain when nobody looks.

use crate::environment::Environment;
use crate::error::{Error, Result};
use serde_json::Value;
use std::io::{IsTerminal, Write};

/// How to write on standard output.
#[derive(Debug, Clone, Copy)]
pub struct Terminal {
    colour: bool,
}

/// How a cell reads. Its word says the same without the colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// As it is.
    Plain,
    /// Less important than its neighbours.
    Quiet,
    /// Something that wants attention.
    Accent,
}

/// One cell of a table.
#[derive(Debug, Clone)]
pub struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// A cell whose text is made safe to print.
    pub fn new(text: impl AsRef<str>, tone: Tone) -> Self {
        Self { text: printable(text.as_ref()), tone }
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::new(text, Tone::Plain)
    }
}

impl Terminal {
    /// Colour only on a terminal that can show it, and never against `NO_COLOR` (<https://no-color.org>).
    pub fn detect(environment: &Environment) -> Self {
        let wanted = environment.get("NO_COLOR").is_none_or(str::is_empty) && environment.get("TERM") != Some("dumb");
        Self { colour: wanted && std::io::stdout().is_terminal() }
    }

    /// Never any colour.
    #[cfg(test)]
    pub fn plain() -> Self {
        Self { colour: false }
    }

    /// `rows` as lines, each column as wide as its widest cell, two spaces between, nothing after the last.
    pub fn columns(&self, rows: &[Vec<Cell>]) -> String {
        let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns)
            .map(|i| rows.iter().filter_map(|r| r.get(i)).map(|c| c.text.chars().count()).max().unwrap_or(0))
            .collect();
        let mut out = String::new();
        for row in rows {
            let mut line = String::new();
            for (i, cell) in row.iter().enumerate() {
                line.push_str(&self.paint(cell));
                let pad = widths[i] - cell.text.chars().count() + 2;
                line.extend(std::iter::repeat_n(' ', pad));
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }

    fn paint(&self, cell: &Cell) -> String {
        match (self.colour && !cell.text.is_empty(), cell.tone) {
            (true, Tone::Accent) => format!("\x1b[35m{}\x1b[0m", cell.text),
            (true, Tone::Quiet) => format!("\x1b[2m{}\x1b[0m", cell.text),
            _ => cell.text.clone(),
        }
    }

    /// Writes on standard output. A reader that has gone (`| head`) is not an error.
    pub fn say(&self, text: &str) -> Result<()> {
        let mut out = std::io::stdout().lock();
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
                Err(Error::new(format!("could not write to standard output: {e}")))
            }
            _ => Ok(()),
        }
    }

    /// Writes a value as indented JSON.
    pub fn json(&self, value: &Value) -> Result<()> {
        self.say(&format!("{value:#}\n"))
    }
}

/// Makes text of a stranger safe on a terminal: control characters (so every escape sequence) become `\u{..}`.
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { out.extend(c.escape_unicode()) } else { out.push(c) }
    }
    out
}

/// The text at a path of object keys, empty when there is none. Numbers and booleans are written out.
pub fn text(value: &Value, path: &[&str]) -> String {
    match path.iter().try_fold(value, |v, key| v.get(key)) {
        Some(Value::String(s)) => s.clone(),
        Some(Value::Null) | None => String::new(),
        Some(v @ (Value::Number(_) | Value::Bool(_))) => v.to_string(),
        Some(_) => String::new(),
    }
}

/// A name given either as `{"app": {"name": "shop"}}` or as `{"app": "shop"}`.
pub fn name_of(value: &Value, key: &str) -> String {
    let nested = text(value, &[key, "name"]);
    if nested.is_empty() { text(value, &[key]) } else { nested }
}

/// How long ago an RFC 3339 time was, in one unit: `5 s`, `3 min`, `2 h`, `9 d`. The text itself when it is not a time.
pub fn age(at: &str, now: jiff::Timestamp) -> String {
    let Ok(then) = at.parse::<jiff::Timestamp>() else { return at.to_owned() };
    match now.as_second() - then.as_second() {
        s if s < 0 => "0 s".to_owned(),
        s if s < 60 => format!("{s} s"),
        s if s < 3600 => format!("{} min", s / 60),
        s if s < 48 * 3600 => format!("{} h", s / 3600),
        s => format!("{} d", s / 86_400),
    }
}

/// An RFC 3339 time as a person would say it, to the minute. The text itself when it is not a time.
pub fn minute(at: &str) -> String {
    match at.parse::<jiff::Timestamp>() {
        Ok(at) => at.strftime("%Y-%m-%d %H:%M UTC").to_string(),
        Err(_) => at.to_owned(),
    }
}

/// Milliseconds as a person would say them: `12 ms`, `3.4 s`, `2 min 5 s`.
pub fn duration(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
        _ => format!("{} min {} s", ms / 60_000, ms % 60_000 / 1000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_end_without_spaces() {
        let rows = vec![vec!["ID".into(), "APP".into()], vec!["7".into(), "a-long-name".into(), "x".into()]];
        assert_eq!(Terminal::plain().columns(&rows), "ID  APP\n7   a-long-name  x\n");
    }

    #[test]
    fn attack_12_escape_sequences_of_a_name_are_shown_not_obeyed() {
        let rows = vec![vec![Cell::from("\x1b]0;owned\x07shop\r\n")]];
        assert_eq!(Terminal::plain().columns(&rows), "\\u{1b}]0;owned\\u{7}shop\\u{d}\\u{a}\n");
    }

    #[test]
    fn times_are_said_in_one_unit() {
        let now: jiff::Timestamp = "2026-01-02T00:00:00Z".parse().unwrap();
        let check = |at: &str, expected: &str| assert_eq!(age(at, now), expected);
        check("2026-01-01T23:59:55Z", "5 s");
        check("2026-01-01T23:57:00Z", "3 min");
        check("2025-12-31T22:00:00Z", "26 h");
        check("2025-12-01T00:00:00Z", "32 d");
        check("yesterday", "yesterday");
        assert_eq!(
            (duration(12), duration(3_456), duration(125_000)),
            ("12 ms".into(), "3.4 s".into(), "2 min 5 s".into())
        );
    }
}
