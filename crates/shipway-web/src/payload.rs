//! Bodies, read field by field, so that an error names the field, what it must be, and what came.

use crate::{ApiError, Result};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// A JSON object of a request. Fields that nobody asks for are passed over, as clients are newer and older than we are.
#[derive(Debug, Clone, Default)]
pub struct Payload {
    fields: Map<String, Value>,
    /// `updates[0].` where this object is one inside of another.
    path: String,
}

impl Payload {
    /// Reads a body. An empty one is an object without fields. Errors: 400.
    pub fn parse(body: &[u8]) -> Result<Self> {
        if body.trim_ascii().is_empty() {
            return Ok(Self::default());
        }
        match serde_json::from_slice(body) {
            Ok(Value::Object(fields)) => Ok(Self { fields, path: String::new() }),
            Ok(Value::Null) => Ok(Self::default()),
            Ok(other) => {
                Err(ApiError::bad_request(format!("The request's body must be a JSON object, not {}.", kind(&other))))
            }
            Err(e) => Err(ApiError::bad_request(format!("The request's body is not valid JSON: {e}."))),
        }
    }

    /// The names of its fields.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.fields.keys().map(String::as_str)
    }

    /// A text; `null` counts as absent.
    pub fn text(&self, name: &str) -> Result<Option<String>> {
        match self.fields.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(s)) => Ok(Some(s.clone())),
            Some(other) => Err(self.wrong(name, "a string", other)),
        }
    }

    /// Anything but `null`.
    pub fn any(&self, name: &str) -> Option<&Value> {
        self.fields.get(name).filter(|value| !value.is_null())
    }

    /// A text that must be there.
    pub fn required(&self, name: &str) -> Result<String> {
        self.text(name)?.ok_or_else(|| ApiError::invalid(format!("`{}{name}` is missing.", self.path)))
    }

    /// A text, or what else names the same thing: its `id`, or its `name`, in an object.
    pub fn reference(&self, name: &str) -> Result<Option<String>> {
        match self.fields.get(name) {
            Some(Value::Object(_)) => {
                let inner = self.object(name)?.unwrap_or_default();
                match inner.text("id")? {
                    Some(id) => Ok(Some(id)),
                    None => inner.text("name"),
                }
            }
            _ => self.text(name),
        }
    }

    /// True or false.
    pub fn flag(&self, name: &str) -> Result<Option<bool>> {
        match self.fields.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Bool(b)) => Ok(Some(*b)),
            // Clients that send forms, or flags of a command line as they were typed.
            Some(Value::String(s)) if s == "true" => Ok(Some(true)),
            Some(Value::String(s)) if s == "false" => Ok(Some(false)),
            // heroku3 sends maintenance so.
            Some(Value::Number(n)) if n.as_u64() == Some(1) => Ok(Some(true)),
            Some(Value::Number(n)) if n.as_u64() == Some(0) => Ok(Some(false)),
            Some(other) => Err(self.wrong(name, "true or false", other)),
        }
    }

    /// A whole number from 0 on; one in a string counts.
    pub fn number(&self, name: &str) -> Result<Option<u64>> {
        let number = match self.fields.get(name) {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::String(s)) if s.is_empty() => return Ok(None),
            Some(Value::String(s)) => s.parse().ok(),
            Some(Value::Number(n)) => n.as_u64(),
            Some(_) => None,
        };
        match number {
            Some(n) => Ok(Some(n)),
            None => Err(self.wrong(name, "a whole number", &self.fields[name])),
        }
    }

    /// A number or a text, as text: quantities are sent as both.
    pub fn number_or_text(&self, name: &str) -> Result<Option<String>> {
        match self.fields.get(name) {
            Some(Value::Number(n)) => Ok(Some(n.to_string())),
            _ => self.text(name),
        }
    }

    /// An object inside.
    pub fn object(&self, name: &str) -> Result<Option<Self>> {
        match self.fields.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Object(fields)) => {
                Ok(Some(Self { fields: fields.clone(), path: format!("{}{name}.", self.path) }))
            }
            Some(other) => Err(self.wrong(name, "an object", other)),
        }
    }

    /// A list of objects.
    pub fn objects(&self, name: &str) -> Result<Option<Vec<Self>>> {
        let Some(items) = self.items(name)? else { return Ok(None) };
        let object = |(i, item): (usize, &Value)| match item {
            Value::Object(fields) => Ok(Self { fields: fields.clone(), path: format!("{}{name}[{i}].", self.path) }),
            other => Err(self.wrong(&format!("{name}[{i}]"), "an object", other)),
        };
        items.iter().enumerate().map(object).collect::<Result<_>>().map(Some)
    }

    /// A list of texts; one text alone counts as a list of one.
    pub fn texts(&self, name: &str) -> Result<Option<Vec<String>>> {
        if let Some(Value::String(one)) = self.fields.get(name) {
            return Ok(Some(vec![one.clone()]));
        }
        let Some(items) = self.items(name)? else { return Ok(None) };
        let text = |(i, item): (usize, &Value)| match item {
            Value::String(s) => Ok(s.clone()),
            other => Err(self.wrong(&format!("{name}[{i}]"), "a string", other)),
        };
        items.iter().enumerate().map(text).collect::<Result<_>>().map(Some)
    }

    /// All fields as texts or `null`: config vars. Numbers and flags are taken as they are written.
    pub fn texts_or_null(&self) -> Result<BTreeMap<String, Option<String>>> {
        let text = |(name, value): (&String, &Value)| match value {
            Value::Null => Ok((name.clone(), None)),
            Value::String(s) => Ok((name.clone(), Some(s.clone()))),
            Value::Number(n) => Ok((name.clone(), Some(n.to_string()))),
            Value::Bool(b) => Ok((name.clone(), Some(b.to_string()))),
            other => Err(self.wrong(name, "a string or null", other)),
        };
        self.fields.iter().map(text).collect()
    }

    fn items(&self, name: &str) -> Result<Option<&Vec<Value>>> {
        match self.fields.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Array(items)) => Ok(Some(items)),
            Some(other) => Err(self.wrong(name, "a list", other)),
        }
    }

    fn wrong(&self, name: &str, wanted: &str, got: &Value) -> ApiError {
        let name: String = name.chars().take(80).collect();
        ApiError::invalid(format!("`{}{name}` must be {wanted}, not {}.", self.path, kind(got)))
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number like that",
        Value::String(_) => "a string like that",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<T: std::fmt::Debug>(body: &str, read: impl Fn(&Payload) -> Result<T>, expected: &str) {
        let got = Payload::parse(body.as_bytes()).and_then(|p| read(&p));
        let got = got.map_or_else(|e| e.message().to_string(), |v| format!("{v:?}"));
        assert_eq!(got, expected, "{body}");
    }

    #[test]
    fn errors_name_the_field() {
        let name = |p: &Payload| p.text("name");
        check(r#"{"name":"a"}"#, name, r#"Some("a")"#);
        check("", name, "None");
        check(r#"{"name":null}"#, name, "None");
        check(r#"{"name":5}"#, name, "`name` must be a string, not a number like that.");
        check("[]", name, "The request's body must be a JSON object, not a list.");
        check("{", name, "The request's body is not valid JSON: EOF while parsing an object at line 1 column 1.");
        let deep = |p: &Payload| p.objects("updates")?.unwrap_or_default()[0].required("type");
        check(r#"{"updates":[{"type":[]}]}"#, deep, "`updates[0].type` must be a string, not a list.");
        check(r#"{"updates":[{}]}"#, deep, "`updates[0].type` is missing.");
        check(r#"{"updates":[7]}"#, deep, "`updates[0]` must be an object, not a number like that.");
        let on = |p: &Payload| p.flag("on");
        check(r#"{"on":"true"}"#, on, "Some(true)");
        check(r#"{"on":0}"#, on, "Some(false)");
        check(r#"{"on":2}"#, on, "`on` must be true or false, not a number like that.");
        check(r#"{"n":"12"}"#, |p| p.number("n"), "Some(12)");
        check(r#"{"n":-1}"#, |p| p.number("n"), "`n` must be a whole number, not a number like that.");
        check(&"[".repeat(100_000), name, &{
            let e = "recursion limit exceeded at line 1 column 128";
            format!("The request's body is not valid JSON: {e}.")
        });
    }
}
