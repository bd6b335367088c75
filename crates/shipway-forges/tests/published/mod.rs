//! What forges have published of their APIs, as far as requests can be held against it.

mod gitlab;

pub use gitlab::Gitbeaker;
use serde_json::Value;
use shipway_testkit::forge::Asked;
use std::path::Path;

/// GitHub's OpenAPI description.
pub struct Github(Value);

impl Github {
    pub fn read(path: &Path) -> Self {
        Self(serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap())
    }

    fn resolved<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value["$ref"].as_str() {
            Some(pointer) => self.0.pointer(pointer.trim_start_matches('#')).unwrap(),
            None => value,
        }
    }

    /// Whether a request and its answer are as described. The answer of a double may leave out what nobody reads.
    pub fn check(&self, asked: &Asked) -> Result<(), String> {
        let paths = self.0["paths"].as_object().unwrap();
        let found = paths.iter().filter(|(template, _)| is_like(&asked.path, template));
        let operation = found.map(|(_, methods)| &methods[asked.method.to_lowercase()]).find(|o| o.is_object());
        let operation = operation.ok_or("there is no such operation")?;
        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        for name in query_names(&asked.query) {
            let known = parameters.iter().map(|p| self.resolved(p)).any(|p| p["name"] == name && p["in"] == "query");
            known.then_some(()).ok_or_else(|| format!("there is no parameter {name}"))?;
        }
        if !asked.body.is_null() {
            let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
            self.fits(schema, &asked.body, true, "the request")?;
        }
        if asked.status == 404 {
            // Anything may be gone, described or not.
            return Ok(());
        }
        let answer = &operation["responses"][asked.status.to_string()];
        if answer.is_null() {
            return Err(format!("{} is never answered", asked.status));
        }
        let schema = &self.resolved(answer)["content"]["application/json"]["schema"];
        if asked.status < 400 { self.fits(schema, &asked.answer, false, "the answer") } else { Ok(()) }
    }

    fn fits(&self, schema: &Value, value: &Value, whole: bool, at: &str) -> Result<(), String> {
        let schema = self.resolved(schema);
        for either in ["oneOf", "anyOf"] {
            if let Some(any) = schema[either].as_array() {
                let mut tried = any.iter().map(|one| self.fits(one, value, whole, at));
                return if tried.any(|t| t.is_ok()) { Ok(()) } else { Err(format!("{at} fits none of {either}")) };
            }
        }
        if let Some(all) = schema["allOf"].as_array() {
            return all.iter().try_for_each(|one| self.fits(one, value, false, at));
        }
        if value.is_null() && schema["nullable"] == true {
            return Ok(());
        }
        if let Some(words) = schema["enum"].as_array().filter(|words| !words.contains(value)) {
            return Err(format!("{at} is {value}, none of {words:?}"));
        }
        match (schema["type"].as_str(), value) {
            (Some("object"), Value::Object(fields)) => {
                if let Some(missing) = required(schema).find(|name| whole && !fields.contains_key(*name)) {
                    return Err(format!("{at} lacks {missing}"));
                }
                let Some(properties) = schema["properties"].as_object() else { return Ok(()) };
                fields.iter().try_for_each(|(name, inner)| match properties.get(name) {
                    Some(property) => self.fits(property, inner, whole, &format!("{at}.{name}")),
                    None => Err(format!("{at} has {name}, which is not described")),
                })
            }
            (Some("array"), Value::Array(items)) => {
                items.iter().try_for_each(|item| self.fits(&schema["items"], item, whole, &format!("{at}[]")))
            }
            (Some("string"), Value::String(_))
            | (Some("integer" | "number"), Value::Number(_))
            | (Some("boolean"), Value::Bool(_))
            | (None, _) => Ok(()),
            (Some(kind), _) => Err(format!("{at} is {value}, not {kind}")),
        }
    }
}

fn required(schema: &Value) -> impl Iterator<Item = &str> {
    schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// The Swagger file of Gitea or Forgejo, as the types that were generated from it.
pub struct Swagger(String);

impl Swagger {
    pub fn read(path: &Path) -> Self {
        Self(std::fs::read_to_string(path).unwrap())
    }

    /// Whether operation, parameters and fields of a request are described.
    pub fn check(&self, asked: &Asked) -> Result<(), String> {
        let mark = format!("@request {}:", asked.method);
        let mut found = self.0.split("@request ").skip(1).filter(|block| {
            let line = block.lines().next().unwrap_or_default();
            line.strip_prefix(&mark["@request ".len()..]).is_some_and(|template| is_like(&asked.path, template.trim()))
        });
        let block = found.next().ok_or("there is no such operation")?;
        for name in query_names(&asked.query) {
            has(block, name).then_some(()).ok_or_else(|| format!("there is no parameter {name}"))?;
        }
        let Some(fields) = asked.body.as_object() else { return Ok(()) };
        let kind = block.split("body: ").nth(1).and_then(|rest| rest.split([',', ')']).next());
        let kind = kind.ok_or("it takes no body")?.trim();
        let interface = self.0.split(&format!("interface {kind} {{")).nth(1).ok_or("its body is not described")?;
        let interface = interface.split("\n}").next().unwrap_or_default();
        fields
            .keys()
            .try_for_each(|name| has(interface, name).then_some(()).ok_or_else(|| format!("{kind} has no {name}")))
    }

    /// Whether the fields of a part of a webhook's payload are described.
    pub fn fits(&self, interface: &str, value: &Value) -> Result<(), String> {
        let of =
            |name: &str| self.0.split(&format!("interface {name} {{")).nth(1)?.split("\n}").next().map(String::from);
        let text = of(interface).ok_or("there is no such type")?;
        described(&text, 1, value, interface, &of)
    }
}

/// Whether types of TypeScript describe a value: its fields are members of `text` at this level of indentation, and so on
/// inside. `of`: the text of another type. What a value leaves out, nobody here reads.
fn described(
    text: &str,
    level: usize,
    value: &Value,
    at: &str,
    of: &dyn Fn(&str) -> Option<String>,
) -> Result<(), String> {
    let indentation = " ".repeat(4 * level);
    for (name, inner) in value.as_object().into_iter().flatten() {
        let is_member =
            |line: &str| line.strip_prefix(&indentation).is_some_and(|line| has(line, name) && !line.starts_with(' '));
        let begin = text.lines().position(is_member).ok_or_else(|| format!("{at} has no {name}"))?;
        if !inner.is_object() {
            continue;
        }
        let at = format!("{at}.{name}");
        let kind = text.lines().nth(begin).and_then(|line| line.split_once(": ")).map_or("", |(_, kind)| kind);
        if kind.ends_with('{') {
            let close = format!("{indentation}}}");
            let inside: Vec<&str> = text.lines().skip(begin + 1).take_while(|line| !line.starts_with(&close)).collect();
            described(&inside.join("\n"), level + 1, inner, &at, of)?;
        } else {
            let named = kind.split(|c: char| !c.is_alphanumeric()).find_map(of);
            described(&named.ok_or_else(|| format!("{at} is {kind}"))?, 1, inner, &at, of)?;
        }
    }
    Ok(())
}

/// Whether a type of TypeScript has a member.
fn has(block: &str, name: &str) -> bool {
    block.lines().any(|line| {
        let rest = line.trim_start().strip_prefix(name);
        rest.is_some_and(|rest| rest.starts_with(':') || rest.starts_with("?:"))
    })
}

fn query_names(query: &str) -> impl Iterator<Item = &str> {
    query.split('&').filter_map(|field| field.split('=').next()).filter(|name| !name.is_empty())
}

fn is_like(path: &str, template: &str) -> bool {
    let (path, template): (Vec<&str>, Vec<&str>) = (path.split('/').collect(), template.split('/').collect());
    path.len() == template.len() && path.iter().zip(&template).all(|(part, of)| part == of || of.starts_with('{'))
}

/// A private key as GitHub hands them out: RSA, PEM. Made by openssl, which every machine with git has.
pub fn rsa_key() -> String {
    let made = std::process::Command::new("openssl").args(["genrsa", "-traditional", "2048"]).output().unwrap();
    String::from_utf8(made.stdout).unwrap()
}
