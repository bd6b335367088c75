//! JSON whose values know where they stand, so that an error can name line and column.
//!
//! `serde_json` hands out each value as a slice of the source (`RawValue`), and where that slice begins is where the
//! value stands. That is all the position that is needed, without a second JSON parser.

use super::Problem;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;

/// One value of a file.
#[derive(Clone)]
pub(super) struct Node<'a> {
    source: &'a str,
    text: &'a str,
    /// `env.SECRET_KEY`; empty for the whole file.
    pub(super) path: String,
}

/// What kind of value it is.
pub(super) enum Kind<'a> {
    Null,
    Flag(bool),
    Number,
    Text(String),
    List(Vec<Node<'a>>),
    Object(Vec<(String, Node<'a>)>),
}

impl<'a> Node<'a> {
    /// The whole of a file. Errors: what is no JSON, with where.
    pub(super) fn read(source: &'a str) -> Result<Self, Problem> {
        // The whole file once, for its syntax: the readers below only see parts. Depth costs nothing: what is not asked
        // for is passed over without recursion.
        match serde_json::from_str::<serde::de::IgnoredAny>(source) {
            Ok(_) => Ok(Self { source, text: source.trim_ascii(), path: String::new() }),
            Err(e) => Err(Problem {
                line: e.line().max(1),
                column: e.column().max(1),
                message: format!("is not valid JSON: {}", without_position(&e.to_string())),
            }),
        }
    }

    /// A complaint about this value: its path, then the end of a sentence.
    pub(super) fn problem(&self, what: impl fmt::Display) -> Problem {
        let offset = (self.text.as_ptr() as usize).saturating_sub(self.source.as_ptr() as usize);
        let before = &self.source[..offset.min(self.source.len())];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let message = match self.path.is_empty() {
            true => format!("the file {what}"),
            false => format!("{} {what}", self.path),
        };
        Problem { line: before.matches('\n').count() + 1, column: before[line_start..].chars().count() + 1, message }
    }

    fn inner(&self, text: &'a RawValue, path: String) -> Self {
        Self { source: self.source, text: text.get(), path }
    }

    /// The value, one level deep. Errors: a key that stands twice, whose second value would silently win.
    pub(super) fn kind(&self) -> Result<Kind<'a>, Problem> {
        Ok(match self.text.as_bytes().first() {
            Some(b'{') => {
                let fields = members(self.text).map_err(|e| self.problem(e))?;
                let mut named: Vec<(String, Node<'a>)> = Vec::with_capacity(fields.len());
                for (name, value) in fields {
                    let shown: String = name.chars().filter(|c| !c.is_control()).take(80).collect();
                    let path = if self.path.is_empty() { shown } else { format!("{}.{shown}", self.path) };
                    let node = self.inner(value, path);
                    if named.iter().any(|(other, _)| *other == name) {
                        return Err(node.problem("stands twice; keep one of them"));
                    }
                    named.push((name, node));
                }
                Kind::Object(named)
            }
            Some(b'[') => {
                let items: Vec<&'a RawValue> = items(self.text).map_err(|e| self.problem(e))?;
                let node = |(i, item): (usize, &'a RawValue)| self.inner(item, format!("{}[{i}]", self.path));
                Kind::List(items.into_iter().enumerate().map(node).collect())
            }
            Some(b'"') => Kind::Text(serde_json::from_str(self.text).map_err(|e| self.problem(e))?),
            Some(b't') => Kind::Flag(true),
            Some(b'f') => Kind::Flag(false),
            Some(b'n') => Kind::Null,
            _ => Kind::Number,
        })
    }

    /// What kind it is, in words.
    pub(super) fn word(&self) -> &'static str {
        match self.text.as_bytes().first() {
            Some(b'{') => "an object",
            Some(b'[') => "a list",
            Some(b'"') => "a string",
            Some(b't' | b'f') => "true or false",
            Some(b'n') => "null",
            _ => "a number",
        }
    }

    /// A complaint about the kind of this value.
    pub(super) fn not(&self, wanted: &str) -> Problem {
        self.problem(format_args!("must be {wanted}, not {}", self.word()))
    }

    /// Its text. Errors: it is none.
    pub(super) fn text(&self) -> Result<String, Problem> {
        match self.kind()? {
            Kind::Text(text) => Ok(text),
            _ => Err(self.not("a string")),
        }
    }

    /// True or false. Errors: it is neither.
    pub(super) fn flag(&self) -> Result<bool, Problem> {
        match self.kind()? {
            Kind::Flag(flag) => Ok(flag),
            _ => Err(self.not("true or false")),
        }
    }

    /// A whole number from 0 on. Errors: it is none.
    pub(super) fn number(&self) -> Result<u32, Problem> {
        serde_json::from_str(self.text).map_err(|_| self.not("a whole number"))
    }

    /// Its members. Errors: it is no object.
    pub(super) fn object(&self) -> Result<Vec<(String, Node<'a>)>, Problem> {
        match self.kind()? {
            Kind::Object(fields) => Ok(fields),
            _ => Err(self.not("an object")),
        }
    }

    /// Its items. Errors: it is no list.
    pub(super) fn list(&self) -> Result<Vec<Node<'a>>, Problem> {
        match self.kind()? {
            Kind::List(items) => Ok(items),
            _ => Err(self.not("a list")),
        }
    }
}

/// `expected value at line 1 column 2` without what the problem says already.
fn without_position(message: &str) -> &str {
    message.split(" at line ").next().unwrap_or(message)
}

fn members(text: &str) -> serde_json::Result<Vec<(String, &RawValue)>> {
    struct Members;
    impl<'de> Visitor<'de> for Members {
        type Value = Vec<(String, &'de RawValue)>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut all = Vec::new();
            while let Some(member) = map.next_entry()? {
                all.push(member);
            }
            Ok(all)
        }
    }
    serde_json::Deserializer::from_str(text).deserialize_map(Members)
}

fn items(text: &str) -> serde_json::Result<Vec<&RawValue>> {
    struct Items;
    impl<'de> Visitor<'de> for Items {
        type Value = Vec<&'de RawValue>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list")
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            let mut all = Vec::new();
            while let Some(item) = seq.next_element()? {
                all.push(item);
            }
            Ok(all)
        }
    }
    serde_json::Deserializer::from_str(text).deserialize_seq(Items)
}
