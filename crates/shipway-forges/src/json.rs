//! JSON of others: read whole, refused where a key stands twice, asked field by field.

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use shipway_domain::CommitId;
use std::fmt;

/// Reads a document. Errors: what is no JSON, and a key that stands twice, of which two readers may see different ones.
pub(crate) fn read(bytes: &[u8]) -> Result<Value, String> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = Strict.deserialize(&mut reader).map_err(|e| e.to_string())?;
    reader.end().map_err(|e| e.to_string())?;
    Ok(value)
}

struct Strict;

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_bool<E>(self, b: bool) -> Result<Value, E> {
        Ok(b.into())
    }
    fn visit_i64<E>(self, n: i64) -> Result<Value, E> {
        Ok(n.into())
    }
    fn visit_u64<E>(self, n: u64) -> Result<Value, E> {
        Ok(n.into())
    }
    fn visit_f64<E>(self, n: f64) -> Result<Value, E> {
        Ok(n.into())
    }
    fn visit_str<E>(self, s: &str) -> Result<Value, E> {
        Ok(s.into())
    }
    fn visit_string<E>(self, s: String) -> Result<Value, E> {
        Ok(s.into())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element_seed(Strict)? {
            items.push(item);
        }
        Ok(items.into())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = fields.next_key::<String>()? {
            let value = fields.next_value_seed(Strict)?;
            if object.contains_key(&key) {
                let shown: String = key.chars().filter(|c| !c.is_control()).take(80).collect();
                return Err(A::Error::custom(format!("the key {shown:?} stands twice")));
            }
            object.insert(key, value);
        }
        Ok(object.into())
    }
}

/// A field by its path: `pull_request.head.sha`.
pub(crate) fn at<'a>(value: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(value, |inner, name| &inner[name])
}

/// A text that must be there.
pub(crate) fn text<'a>(value: &'a Value, path: &str) -> Result<&'a str, String> {
    at(value, path).as_str().ok_or_else(|| format!("`{path}` is no text"))
}

/// A text that may be missing.
pub(crate) fn maybe<'a>(value: &'a Value, path: &str) -> Option<&'a str> {
    at(value, path).as_str().filter(|text| !text.is_empty())
}

/// A whole number that must be there.
pub(crate) fn number(value: &Value, path: &str) -> Result<u64, String> {
    at(value, path).as_u64().ok_or_else(|| format!("`{path}` is no number"))
}

/// A name or id that parses.
pub(crate) fn parsed<T: std::str::FromStr>(value: &Value, path: &str) -> Result<T, String>
where
    T::Err: fmt::Display,
{
    text(value, path)?.parse().map_err(|e: T::Err| e.to_string())
}

/// A commit; none where it is all zeros, which is how forges say that a ref did not exist.
pub(crate) fn commit(value: &Value, path: &str) -> Result<Option<CommitId>, String> {
    let id = text(value, path)?;
    if id.bytes().all(|b| b == b'0') {
        return Ok(None);
    }
    CommitId::parse(id).map(Some).map_err(|e| e.to_string())
}

/// A time, as RFC 3339 or as older GitLabs write it: `2017-09-15 16:50:55 UTC`.
pub(crate) fn time(value: &Value, path: &str) -> Result<jiff::Timestamp, String> {
    let text = text(value, path)?;
    let plain = match text.strip_suffix(" UTC") {
        Some(time) => format!("{}Z", time.replace(' ', "T")),
        None => text.to_owned(),
    };
    plain.parse().map_err(|_| format!("`{path}` is no time"))
}

/// Printable text of bounded length.
pub(crate) fn printable(text: &str, characters: usize) -> String {
    text.chars().filter(|c| !c.is_control()).take(characters).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attack_21_duplicate_keys_are_refused_at_any_depth() {
        let check = |text: &str, expected: &str| {
            let read = read(text.as_bytes()).map_or_else(|e| e, |v| v.to_string());
            assert!(read.contains(expected), "{text}: {read}");
        };
        check(r#"{"a":1,"b":[{"c":"x"},null,true,-1,1.5]}"#, r#"{"a":1,"b":[{"c":"x"},null,true,-1,1.5]}"#);
        check(r#"{"ref":"refs/heads/main","ref":"refs/heads/evil"}"#, "the key \"ref\" stands twice");
        check(r#"{"a":[{"b":1,"b":1}]}"#, "the key \"b\" stands twice");
        check(r#"{"a":1} {"a":2}"#, "trailing");
        check(&"[".repeat(100_000), "recursion limit");
        check("", "EOF");
    }

    #[test]
    fn times_of_all_forges() {
        let check = |text: &str, expected: i64| {
            let value = serde_json::json!({ "at": text });
            assert_eq!(time(&value, "at").unwrap().as_second(), expected, "{text}");
        };
        check("2019-05-15T15:20:33Z", 1_557_933_633);
        check("2019-05-15T17:20:33+02:00", 1_557_933_633);
        check("2019-05-15 15:20:33 UTC", 1_557_933_633);
    }
}
