//! Which lines somebody wants to see.

use crate::{Record, Source};

/// What a line must be to be shown; an empty filter shows all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only lines of this source.
    pub source: Option<Source>,
    /// A dyno (`web.1`), or a process type (`web`) for all of its dynos. Names without a number (`router`, `api`) are
    /// told by the same word.
    pub dyno: Option<String>,
}

impl Filter {
    pub(crate) fn matches(&self, record: &Record<'_>) -> bool {
        self.source.is_none_or(|source| source == record.source)
            && self.dyno.as_deref().is_none_or(|wanted| {
                record.dyno == wanted
                    || record.dyno.strip_prefix(wanted).and_then(|rest| rest.strip_prefix('.')).is_some_and(is_number)
            })
    }
}

fn is_number(s: &str) -> bool {
    !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dynos_and_process_types() {
        let check = |filter: &str, dyno: &str, expected: bool| {
            let filter = Filter { source: None, dyno: Some(filter.into()) };
            let record = Record { time_us: 0, sequence: 0, source: Source::App, dyno, message: b"" };
            assert_eq!(filter.matches(&record), expected, "{filter:?} on {dyno}");
        };
        check("web", "web.1", true);
        check("web", "web.12", true);
        check("web.1", "web.1", true);
        check("web.1", "web.12", false);
        check("web", "webhook.1", false);
        check("web", "web.blue.1", false);
        check("router", "router", true);
        check("run", "run.4821", true);
    }
}
