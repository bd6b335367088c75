//! When a command runs: the five fields of cron, read strictly.

use std::fmt;

/// A schedule that was checked: five fields, single spaces between them. Nothing else can be in it, so that it can be
/// written anywhere without breaking out.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Schedule(String);

/// The fields: what they are called, and what they may hold.
const FIELDS: [(&str, u32, u32); 5] =
    [("minute", 0, 59), ("hour", 0, 23), ("day of the month", 1, 31), ("month", 1, 12), ("day of the week", 0, 7)];
const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
/// Words for whole schedules.
const WORDS: [(&str, &str); 6] = [
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@weekly", "0 0 * * 0"),
    ("@monthly", "0 0 1 * *"),
    ("@yearly", "0 0 1 1 *"),
];

impl Schedule {
    /// Reads `*/10 * * * *` or `@daily`. Errors: the end of a sentence about the schedule.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.contains(|c: char| c.is_control()) {
            return Err("must stand on one line, without control characters".into());
        }
        if let Some((_, fields)) = WORDS.iter().find(|(word, _)| *word == text.trim()) {
            return Ok(Self((*fields).into()));
        }
        let parts: Vec<&str> = text.split_ascii_whitespace().collect();
        if parts.len() != FIELDS.len() {
            return Err(format!(
                "must have five fields (minute, hour, day of the month, month, day of the week) or be a word like \
                 @daily; it has {}",
                parts.len()
            ));
        }
        for (i, (part, (name, low, high))) in parts.iter().zip(FIELDS).enumerate() {
            let names: &[&str] = match i {
                3 => &MONTHS,
                4 => &DAYS,
                _ => &[],
            };
            if !part.split(',').all(|piece| is_piece(piece, names, low, high)) {
                let part: String = part.chars().take(40).collect();
                return Err(format!(
                    "has {part:?} as its {name}: numbers from {low} to {high} with * , - / are allowed"
                ));
            }
        }
        Ok(Self(parts.join(" ").to_ascii_lowercase()))
    }

    /// The five fields.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `*`, `5`, `1-5`, each with `/2` after it.
fn is_piece(piece: &str, names: &[&str], low: u32, high: u32) -> bool {
    let (range, step) = match piece.split_once('/') {
        Some((range, step)) => (range, Some(step)),
        None => (piece, None),
    };
    let digits =
        |s: &str| (s.len() <= 2 && s.bytes().all(|b| b.is_ascii_digit())).then(|| s.parse::<u32>().ok()).flatten();
    let value = |s: &str| {
        let named = names.iter().position(|name| s.eq_ignore_ascii_case(name));
        // Months are counted from 1, days from 0: both begin with the field's lowest.
        named.map(|at| at as u32 + low).or_else(|| digits(s)).filter(|n| (low..=high).contains(n))
    };
    let range_is_good = range == "*"
        || match range.split_once('-') {
            Some((from, to)) => value(from).zip(value(to)).is_some_and(|(from, to)| from <= to),
            None => value(range).is_some(),
        };
    range_is_good && step.is_none_or(|s| digits(s).is_some_and(|n| n > 0 && n <= high))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules() {
        let check = |text: &str, expected: &str| {
            let got = Schedule::parse(text).map_or_else(|e| e, |s| s.to_string());
            assert_eq!(got, expected, "{text:?}");
        };
        check("*/10 * * * *", "*/10 * * * *");
        check("  0   4,16 1-15/2 JAN Mon-Fri ", "0 4,16 1-15/2 jan mon-fri");
        check("@daily", "0 0 * * *");
        check("60 * * * *", "has \"60\" as its minute: numbers from 0 to 59 with * , - / are allowed");
        check("* * 0 * *", "has \"0\" as its day of the month: numbers from 1 to 31 with * , - / are allowed");
        check("* * * * mon-", "has \"mon-\" as its day of the week: numbers from 0 to 7 with * , - / are allowed");
        check("5-1 * * * *", "has \"5-1\" as its minute: numbers from 0 to 59 with * , - / are allowed");
        check("*/0 * * * *", "has \"*/0\" as its minute: numbers from 0 to 59 with * , - / are allowed");
    }

    #[test]
    fn attack_05_nothing_but_five_fields_gets_through() {
        for text in [
            "* * * * *\n* * * * * root id",
            "* * * * * root",
            "* * * * *%id",
            "$(id) * * * *",
            "`id` * * * *",
            "@reboot",
            "* * * *",
            "",
            "\0 * * * *",
            "+1 * * * *",
            "* * * * *;id",
            "１ * * * *",
        ] {
            assert!(Schedule::parse(text).is_err(), "{text:?}");
        }
    }
}
