//! `Range: version 12..; max=10, order=desc`, read in every spelling that clients use; and `Next-Range`.

use crate::{Answer, ApiError, Result};
use axum::http::StatusCode;
use serde_json::Value;

/// How many items a page has when nobody says, and at most.
const DEFAULT_MAX: usize = 200;
const MOST: usize = 1000;

/// What a list can be sorted by: names of fields, and how to read them. The first is the default.
pub type Fields<T> = [(&'static str, fn(&T) -> Key)];

/// What a list is sorted by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// By number.
    Number(u64),
    /// By bytes.
    Text(String),
}

impl Key {
    /// A key of anything that prints.
    pub fn text(value: impl ToString) -> Self {
        Self::Text(value.to_string())
    }

    fn print(&self) -> String {
        match self {
            Self::Number(n) => n.to_string(),
            Self::Text(s) => s.clone(),
        }
    }

    /// `text` as a key of the same kind; `None` where it cannot be.
    fn like(&self, text: &str) -> Option<Self> {
        match self {
            Self::Number(_) => text.parse().ok().map(Self::Number),
            Self::Text(_) => Some(Self::Text(text.to_string())),
        }
    }
}

/// One `Range` header.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Range {
    field: Option<String>,
    /// The first key, and whether it is left out (`]`).
    from: Option<(String, bool)>,
    to: Option<(String, bool)>,
    max: Option<usize>,
    descending: Option<bool>,
}

impl Range {
    /// Reads a header. An empty one asks for nothing. Errors: 416 with what was expected.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = |what: &str| {
            let given: String = text.chars().take(80).collect();
            ApiError::new(
                StatusCode::RANGE_NOT_SATISFIABLE,
                "invalid_range",
                format!("The header `Range: {given}` {what}. Write it like `Range: id ..; max=200, order=desc`."),
            )
        };
        let mut range = Self::default();
        let mut parts = text.splitn(2, ';');
        let span = parts.next().unwrap_or_default().trim();
        if let Some((field, bounds)) = span.split_once(' ') {
            let (from, to) = bounds.trim().split_once("..").ok_or_else(|| wrong("has no `..`"))?;
            range.field = Some(field.to_string());
            range.from = bound(from);
            range.to = bound(to);
        } else if !span.is_empty() && span != ".." {
            // `bytes=0-99` of a download manager, or only a field: nothing that restricts a list.
            range.field = Some(span.to_string());
        }
        for option in parts.next().unwrap_or_default().split([',', ';', ' ']).filter(|o| !o.is_empty()) {
            match option.split_once('=') {
                Some(("max", n)) => {
                    let n: usize = n.parse().map_err(|_| wrong("has a `max` that is not a number"))?;
                    if n == 0 {
                        return Err(wrong("asks for no items"));
                    }
                    range.max = Some(n.min(MOST));
                }
                Some(("order", order)) => match order {
                    "desc" => range.descending = Some(true),
                    "asc" => range.descending = Some(false),
                    _ => return Err(wrong("has an `order` that is neither asc nor desc")),
                },
                _ => return Err(wrong("has an unknown option")),
            }
        }
        Ok(range)
    }

    /// Sorts, cuts, presents. 206 with `Next-Range` when there is more.
    pub fn page<T>(&self, rows: Vec<T>, fields: &Fields<T>, mut present: impl FnMut(&T) -> Value) -> Answer {
        let accepted = fields.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
        let wanted = self.field.as_deref();
        let chosen = fields.iter().find(|(name, _)| Some(*name) == wanted).or(fields.first());
        let Some((name, key)) = chosen else {
            return Answer::ok(rows.iter().map(present).collect());
        };
        let mut keyed: Vec<(Key, T)> = rows.into_iter().map(|row| (key(&row), row)).collect();
        keyed.sort_by(|a, b| a.0.cmp(&b.0));
        let descending = self.descending.unwrap_or(false);
        if descending {
            keyed.reverse();
        }
        let inside = |k: &Key| {
            let after = |bound: &Option<(String, bool)>, reversed: bool| {
                let Some((text, exclusive)) = bound else { return true };
                let Some(bound) = k.like(text) else { return true };
                let order = if reversed { bound.cmp(k) } else { k.cmp(&bound) };
                order.is_gt() || (order.is_eq() && !exclusive)
            };
            after(&self.from, descending) && after(&self.to, !descending)
        };
        keyed.retain(|(k, _)| inside(k));
        let max = self.max.unwrap_or(DEFAULT_MAX);
        let more = keyed.len() > max;
        keyed.truncate(max);
        let body: Value = keyed.iter().map(|(_, row)| present(row)).collect();
        let status = if more { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
        let mut answer = Answer::new(status, body).header("accept-ranges", &accepted);
        if let (Some((first, _)), Some((last, _))) = (keyed.first(), keyed.last()) {
            answer = answer.header("content-range", &format!("{name} {}..{}", first.print(), last.print()));
            // A client that wants one item and finds a `Next-Range` walks the whole list, one by one.
            if more && max > 1 {
                let order = if descending { ", order=desc" } else { "" };
                answer = answer.header("next-range", &format!("{name} ]{}..; max={max}{order}", last.print()));
            }
        }
        answer
    }
}

fn bound(text: &str) -> Option<(String, bool)> {
    let text = text.trim();
    let stripped = text.strip_prefix(']').or_else(|| text.strip_suffix('['));
    match (stripped, text) {
        (Some(inner), _) => Some((inner.to_string(), true)),
        (None, "") => None,
        (None, inner) => Some((inner.to_string(), false)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::response::IntoResponse;

    /// The numbers 1 to 10, as the header asks; and the header for the rest.
    fn check(header: &str, expected: &[u64], next: Option<&str>) {
        let range = Range::parse(header).unwrap_or_else(|e| panic!("{header}: {}", e.message()));
        let fields: &Fields<u64> = &[("version", |n| Key::Number(*n)), ("id", |n| Key::text(n))];
        let mut seen = Vec::new();
        let answer = range.page((1..=10).collect(), fields, |n| {
            seen.push(*n);
            Value::from(*n)
        });
        let response = answer.into_response();
        assert_eq!(seen, expected, "{header}");
        assert_eq!(response.headers().get("next-range").map(|v| v.to_str().unwrap()), next, "{header}");
    }

    #[test]
    fn every_spelling() {
        let all: Vec<u64> = (1..=10).collect();
        check("", &all, None);
        check("version ..", &all, None);
        check("version ..; max=1, order=desc", &[10], None);
        check("version ..; order=desc,max=1", &[10], None);
        check("version ..; order=desc,max=2", &[10, 9], Some("version ]9..; max=2, order=desc"));
        check("version ]9..; max=2, order=desc", &[8, 7], Some("version ]7..; max=2, order=desc"));
        check("version ]3..; max=3", &[4, 5, 6], Some("version ]6..; max=3"));
        check("version 3..5", &[3, 4, 5], None);
        check("version 3..5[", &[3, 4], None);
        check("id ..; max=1000;", &[1, 10, 2, 3, 4, 5, 6, 7, 8, 9], None);
        check("number ..; order=desc,max=1", &[10], None);
        check("bytes=0-99", &all, None);
        check("version a..", &all, None);
    }

    #[test]
    fn refusals_say_what_was_expected() {
        for bad in ["id 5", "id ..; max=0", "id ..; max=-1", "id ..; max=many", "id ..; order=up", "id ..; colour=red"]
        {
            let e = Range::parse(bad).expect_err(bad);
            assert_eq!(e.status(), StatusCode::RANGE_NOT_SATISFIABLE);
        }
    }
}
