//! GitLab's API and webhooks as `@gitbeaker/core` describes them, a client that its users wrote by the documentation.

use super::{described, is_like, query_names};
use serde_json::Value;
use shipway_testkit::forge::Asked;
use std::path::Path;

/// What we ask, and the client's method that asks it.
const CALLS: &[(&str, &str, &str, &str)] = &[
    ("GET", "/projects/{}", "Projects", "show"),
    ("GET", "/projects/{}/merge_requests", "MergeRequests", "all"),
    ("GET", "/projects/{}/merge_requests/{}/notes", "MergeRequestNotes", "all"),
    ("POST", "/projects/{}/merge_requests/{}/notes", "MergeRequestNotes", "create"),
    ("PUT", "/projects/{}/merge_requests/{}/notes/{}", "MergeRequestNotes", "edit"),
    ("POST", "/projects/{}/statuses/{}", "Commits", "editStatus"),
    ("GET", "/projects/{}/deployments", "Deployments", "all"),
    ("POST", "/projects/{}/deployments", "Deployments", "create"),
    ("PUT", "/projects/{}/environments/{}", "Environments", "edit"),
    ("POST", "/projects/{}/environments/{}/stop", "Environments", "stop"),
];

/// The client: its types, and the paths that it asks.
pub struct Gitbeaker {
    types: String,
    paths: Vec<String>,
}

impl Gitbeaker {
    pub fn read(package: &Path) -> Self {
        let text = |name: &str| std::fs::read_to_string(package.join("dist").join(name)).unwrap();
        let code = text("index.js");
        let paths = code.split("endpoint`").skip(1).filter_map(|rest| rest.split('`').next());
        Self { types: text("index.d.ts"), paths: paths.map(template).collect() }
    }

    /// Whether path, parameters, fields and words of a request, and the fields of its answer, are described.
    pub fn check(&self, asked: &Asked) -> Result<(), String> {
        let call = CALLS.iter().find(|(method, path, ..)| *method == asked.method && is_like(&asked.path, path));
        let (_, path, class, method) = call.ok_or("it is not known which of the client's methods that is")?;
        // Those of notes are put together from the names of what they are about.
        let known = |t: &String| [format!("/{t}"), format!("/projects/{t}")].iter().any(|t| is_like(path, t));
        self.paths.iter().any(known).then_some(()).ok_or("there is no such path")?;
        let (takes, gives) = self.signature(class, method).ok_or("there is no such method")?;
        let takes = self.with_options(&takes, 3);
        for name in query_names(&asked.query) {
            member(&takes, &camel(name)).ok_or_else(|| format!("there is no parameter {name}"))?;
        }
        for (name, value) in asked.body.as_object().into_iter().flatten() {
            let kind = member(&takes, &camel(name)).ok_or_else(|| format!("there is no field {name}"))?;
            let words = self.definition(kind).unwrap_or(kind.to_string());
            if let Some(word) =
                value.as_str().filter(|word| words.contains('\'') && !words.contains(&format!("'{word}'")))
            {
                return Err(format!("{name} is {word}, none of {words}"));
            }
        }
        let one = asked.answer.get(0).unwrap_or(&asked.answer);
        match asked.status {
            200..300 if one.is_object() => self.fits(&gives, one),
            _ => Ok(()),
        }
    }

    /// Whether the fields of a webhook's payload are described.
    pub fn fits(&self, schema: &str, value: &Value) -> Result<(), String> {
        described(&self.schema(schema), 1, value, schema, &|name| Some(self.schema(name)).filter(|s| !s.is_empty()))
    }

    /// What a method takes, of all its forms, and the name of what it gives.
    fn signature(&self, class: &str, method: &str) -> Option<(String, String)> {
        let parts = ["interface", "class"].map(|word| between(&self.types, &format!("{word} {class}<"), "\n}"));
        let body = parts.into_iter().flatten().collect::<Vec<_>>().join("\n");
        let forms: Vec<&str> = body.split(&format!("\n    {method}<")).skip(1).collect();
        let takes: Vec<&str> = forms.iter().filter_map(|form| form.split("): Promise<").next()).collect();
        let gives = forms.first()?.split("GitlabAPIResponse<").nth(1)?;
        let end = gives.find(|c: char| !c.is_alphanumeric())?;
        Some((takes.join("\n"), gives[..end].to_string()))
    }

    /// The text with what the options in it are, so many levels deep.
    fn with_options(&self, text: &str, levels: usize) -> String {
        let names = words(text).filter(|word| levels > 0 && word.ends_with("Options"));
        let more = names.filter_map(|name| self.definition(name)).map(|found| self.with_options(&found, levels - 1));
        [text.to_string()].into_iter().chain(more).collect::<Vec<_>>().join("\n")
    }

    /// An interface or a type.
    fn definition(&self, name: &str) -> Option<String> {
        let begin = [
            format!("\ninterface {name} "),
            format!("\ninterface {name}<"),
            format!("\ntype {name} ="),
            format!("\ntype {name}<"),
        ];
        let at = begin.iter().find_map(|begin| self.types.find(begin))? + 1;
        let text = &self.types[at..];
        let line = text.lines().next()?;
        Some(if line.ends_with('{') { text.split("\n}").next()?.to_string() } else { line.to_string() })
    }

    /// A schema with what it extends.
    fn schema(&self, name: &str) -> String {
        let Some(own) = self.definition(name) else { return String::new() };
        let head = own.lines().next().unwrap_or_default();
        let above = words(head).filter(|word| *word != name && word.ends_with("Schema")).map(|word| self.schema(word));
        [own.clone()].into_iter().chain(above).collect::<Vec<_>>().join("\n")
    }
}

/// `projects/${projectId}/statuses/${sha}` as `projects/{}/statuses/{}`.
fn template(text: &str) -> String {
    let mut parts = text.split("${");
    let first = parts.next().unwrap_or_default().to_string();
    parts.fold(first, |path, part| path + "{}" + part.split_once('}').map_or("", |(_, rest)| rest))
}

/// Names are written in the client's way.
fn camel(name: &str) -> String {
    let mut words = name.split('_');
    let first = words.next().unwrap_or_default().to_string();
    words.fold(first, |all, word| all + &word[..1].to_uppercase() + &word[1..])
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty())
}

fn between<'a>(text: &'a str, begin: &str, end: &str) -> Option<&'a str> {
    text.split(begin).nth(1)?.split(end).next()
}

/// The type of a parameter or member.
fn member<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let starts = text.match_indices(name).filter(|(at, _)| !text[..*at].ends_with(|c: char| c.is_alphanumeric()));
    let rest =
        starts.filter_map(|(at, _)| text[at + name.len()..].trim_start_matches('?').strip_prefix(": ")).next()?;
    rest.split([';', ',', ')', '\n']).next()
}
