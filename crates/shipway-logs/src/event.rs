//! A line as it is read: its name, its parts, its text.

use crate::{Record, Source};
use std::fmt;
use std::fmt::Write;
use std::str::FromStr;
use std::sync::Arc;

/// Names one record of an app's log: time, writer, sequence.
///
/// On the wire `<time_us>-<writer>-<sequence>`, as an event stream's `id`, from which a reader goes on with
/// [`crate::Reader::after`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId {
    /// Microseconds since 1970-01-01T00:00:00Z.
    pub time_us: u64,
    /// The chain: a dyno's id, `router`, `platform`.
    pub writer: Arc<str>,
    /// The place in the chain, from 1.
    pub sequence: u64,
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.time_us, self.writer, self.sequence)
    }
}

/// A `Last-Event-ID` that none of ours has the form of.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an event id of a log: expected <microseconds>-<writer>-<sequence>")]
pub struct EventIdError;

impl FromStr for EventId {
    type Err = EventIdError;
    fn from_str(s: &str) -> Result<Self, EventIdError> {
        // A writer's own name may hold dashes, so the numbers are taken from both ends.
        let parts = s.split_once('-').and_then(|(time, rest)| Some((time, rest.rsplit_once('-')?)));
        let (time, (writer, sequence)) = parts.ok_or(EventIdError)?;
        let number = |s: &str| s.parse().map_err(|_| EventIdError);
        if writer.is_empty() {
            return Err(EventIdError);
        }
        Ok(Self { time_us: number(time)?, writer: writer.into(), sequence: number(sequence)? })
    }
}

/// One line of an app's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name; the time of the line is in it.
    pub id: EventId,
    /// Who speaks.
    pub source: Source,
    /// `web.1`, `router`, `api`.
    pub dyno: Arc<str>,
    /// The line without its end, as the process wrote it: any bytes.
    pub message: Vec<u8>,
}

impl Entry {
    pub(crate) fn new(writer: &Arc<str>, dyno: &mut Arc<str>, record: &Record<'_>) -> Self {
        // Nearly every line of a chain has the same name in brackets; it is kept instead of allocated anew.
        if dyno.as_ref() != record.dyno {
            *dyno = record.dyno.into();
        }
        Self {
            id: EventId { time_us: record.time_us, writer: writer.clone(), sequence: record.sequence },
            source: record.source,
            dyno: dyno.clone(),
            message: record.message.to_vec(),
        }
    }

    pub(crate) fn as_record(&self) -> Record<'_> {
        Record {
            time_us: self.id.time_us,
            sequence: self.id.sequence,
            source: self.source,
            dyno: &self.dyno,
            message: &self.message,
        }
    }

    /// The line as Heroku prints it, without a line end: `2026-01-01T00:00:00.000000+00:00 app[web.1]: hello`.
    ///
    /// Bytes that are not UTF-8 are replaced; a line break inside the message becomes a space, so that one record is
    /// never read as two.
    pub fn line(&self) -> String {
        let mut line = String::with_capacity(48 + self.dyno.len() + self.message.len());
        self.write_line(&mut line);
        line
    }

    /// Appends [`Entry::line`] to `line`.
    pub fn write_line(&self, line: &mut String) {
        write_time(line, self.id.time_us);
        line.push(' ');
        line.push_str(self.source.as_str());
        line.push('[');
        line.push_str(&self.dyno);
        line.push_str("]: ");
        let start = line.len();
        line.push_str(&String::from_utf8_lossy(&self.message));
        if line[start..].contains(['\n', '\r']) {
            let flat = line[start..].replace(['\n', '\r'], " ");
            line.replace_range(start.., &flat);
        }
    }
}

/// Appends microseconds since 1970 as `2026-01-01T00:00:00.000000+00:00`.
fn write_time(line: &mut String, time_us: u64) {
    let seconds = time_us / 1_000_000;
    let (year, month, day) = civil_from_days(seconds / 86_400);
    let of_day = seconds % 86_400;
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    let micros = time_us % 1_000_000;
    write!(line, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}+00:00")
        .expect("writing to a string");
}

/// Year, month, day of a day since 1970-01-01, in the Gregorian calendar.
/// Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`.
fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_line(time_us: u64, message: &[u8], expected: &str) {
        let id = EventId { time_us, writer: "w".into(), sequence: 1 };
        let entry = Entry { id, source: Source::App, dyno: "web.1".into(), message: message.to_vec() };
        assert_eq!(entry.line(), expected);
    }

    #[test]
    fn lines() {
        check_line(1_767_225_600_000_000, b"hello", "2026-01-01T00:00:00.000000+00:00 app[web.1]: hello");
        check_line(1_709_210_096_000_789, b"", "2024-02-29T12:34:56.000789+00:00 app[web.1]: ");
        check_line(0, b"a\nforged\xff", "1970-01-01T00:00:00.000000+00:00 app[web.1]: a forged\u{fffd}");
        check_line(u64::MAX, b"x", "586524-01-19T08:01:49.551615+00:00 app[web.1]: x");
    }

    #[test]
    fn event_ids_go_round() {
        for text in ["1-router-2", "18446744073709551615-0191d2c4-aaaa-7bbb-8ccc-dddddddddddd-77"] {
            assert_eq!(text.parse::<EventId>().unwrap().to_string(), text);
        }
        for text in ["", "-", "--", "1--2", "1-2", "x-router-2", "1-router-", "-1-router-2", "1-router-2 "] {
            assert_eq!(text.parse::<EventId>(), Err(EventIdError), "{text:?}");
        }
    }
}
