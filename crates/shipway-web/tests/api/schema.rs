//! The API's published hyperschema, and as much of JSON schema as it uses.

use regex::Regex;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{LazyLock, Mutex};

/// The schema's file is not ours to copy in; `bin/test` says where one is.
pub fn load() -> Option<Schema> {
    let path = std::env::var_os("SHIPWAY_TEST_SCHEMA")?;
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("SHIPWAY_TEST_SCHEMA {path:?}: {e}"));
    Some(Schema { root: serde_json::from_str(&text).unwrap() })
}

pub struct Schema {
    root: Value,
}

/// One thing that the API can do.
#[derive(Debug, Clone)]
pub struct Link {
    pub noun: String,
    pub title: String,
    pub method: String,
    /// `/apps/{}/builds`
    pub shape: String,
    pub target: Option<Value>,
}

/// Where we answer something else on purpose: our own addresses, and a clock that the whole stack shares.
const OTHER_PATTERNS: [&str; 2] = ["git_url", "web_url"];
/// What we answer beyond the schema, because the CLI or another client reads it.
const EXTRA: [&str; 6] = ["create_status", "locked", "joined", "extended", "published_at", "invitation"];

impl Schema {
    /// All links, by noun.
    pub fn links(&self) -> Vec<Link> {
        let mut links = Vec::new();
        for (noun, definition) in self.root["definitions"].as_object().unwrap() {
            for link in definition["links"].as_array().into_iter().flatten() {
                links.push(Link {
                    noun: noun.clone(),
                    title: link["title"].as_str().unwrap_or_default().into(),
                    method: link["method"].as_str().unwrap_or_default().to_uppercase(),
                    shape: shape(link["href"].as_str().unwrap_or_default()),
                    target: link.get("targetSchema").filter(|t| t.is_object()).cloned(),
                });
            }
        }
        links
    }

    /// What is wrong with `value`, each with its place; nothing when it is as `schema` says.
    pub fn problems(&self, schema: &Value, value: &Value) -> Vec<String> {
        let mut out = Vec::new();
        self.check(schema, value, "", &mut out);
        out
    }

    fn check(&self, schema: &Value, value: &Value, at: &str, out: &mut Vec<String>) {
        if let Some(reference) = schema["$ref"].as_str() {
            let target = self.root.pointer(reference.trim_start_matches('#'));
            return self.check(target.unwrap_or_else(|| panic!("{reference} leads nowhere")), value, at, out);
        }
        for any in ["anyOf", "oneOf"] {
            let Some(choices) = schema[any].as_array() else { continue };
            if !choices.iter().any(|s| self.problems(s, value).is_empty()) {
                out.push(format!("{at}: {value} is none of what it may be"));
            }
        }
        if let Some(types) = schema["type"].as_array()
            && !types.iter().any(|t| is_type(t.as_str().unwrap_or_default(), value))
        {
            return out.push(format!("{at}: {value} is not {}", Value::from(types.clone())));
        }
        if value.is_null() {
            return;
        }
        if let Some(allowed) = schema["enum"].as_array()
            && !allowed.contains(value)
        {
            out.push(format!("{at}: {value} is not one of {}", Value::from(allowed.clone())));
        }
        if let Some(text) = value.as_str() {
            let name = at.rsplit(['.', '/']).next().unwrap_or_default();
            let own_address = OTHER_PATTERNS.contains(&name);
            if let Some(pattern) = schema["pattern"].as_str().filter(|_| !own_address)
                && !pattern_matches(pattern, text)
            {
                out.push(format!("{at}: {text:?} does not match {pattern}"));
            }
            if !is_format(schema["format"].as_str().unwrap_or_default(), text) {
                out.push(format!("{at}: {text:?} is not a {}", schema["format"]));
            }
        }
        if let Some(items) = value.as_array() {
            for (i, item) in items.iter().enumerate().filter(|_| schema["items"].is_object()) {
                self.check(&schema["items"], item, &format!("{at}[{i}]"), out);
            }
        }
        if let Some(fields) = value.as_object() {
            self.check_object(schema, fields, at, out);
        }
    }

    fn check_object(&self, schema: &Value, fields: &serde_json::Map<String, Value>, at: &str, out: &mut Vec<String>) {
        let known = schema["properties"].as_object();
        let strict = schema["strictProperties"] == true && known.is_some();
        let mut required: BTreeSet<&str> = BTreeSet::new();
        required.extend(schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str));
        // "strict" says: exactly these, all of them.
        required.extend(known.into_iter().flatten().map(|(name, _)| name.as_str()).filter(|_| strict));
        for name in required {
            if !fields.contains_key(name) {
                out.push(format!("{at}.{name}: is missing"));
            }
        }
        for (name, field) in fields {
            let at = format!("{at}.{name}");
            let by_pattern = schema["patternProperties"].as_object().into_iter().flatten();
            let by_pattern = by_pattern.filter(|(p, _)| pattern_matches(p, name)).map(|(_, s)| s).next();
            match known.and_then(|k| k.get(name)).or(by_pattern) {
                Some(s) => self.check(s, field, &at, out),
                None if EXTRA.contains(&name.as_str()) => {}
                None if strict || schema["additionalProperties"] == false => out.push(format!("{at}: is not known")),
                None => {}
            }
        }
    }
}

fn is_type(name: &str, value: &Value) -> bool {
    match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("unknown type {other}"),
    }
}

fn is_format(name: &str, text: &str) -> bool {
    match name {
        "uuid" => text.len() == 36 && text.parse::<uuid::Uuid>().is_ok(),
        "date-time" => text.ends_with('Z') && text.parse::<jiff::Timestamp>().is_ok(),
        "email" => text.contains('@'),
        _ => true,
    }
}

/// Patterns with look-ahead are for names of spaces, which we never answer.
fn pattern_matches(pattern: &str, text: &str) -> bool {
    // The same few patterns stand in thousands of answers, and to compile one takes milliseconds.
    static COMPILED: Mutex<BTreeMap<String, Option<Regex>>> = Mutex::new(BTreeMap::new());
    let mut compiled = COMPILED.lock().unwrap();
    let regex = compiled.entry(pattern.into()).or_insert_with(|| Regex::new(pattern).ok());
    regex.as_ref().is_none_or(|regex| regex.is_match(text))
}

/// A route or a link without the names of its parameters: `/apps/{}/builds`.
pub fn shape(route: &str) -> String {
    static PARAMETER: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\{[^}]*\}").unwrap());
    PARAMETER.replace_all(route, "{}").into_owned()
}
