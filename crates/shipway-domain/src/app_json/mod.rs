//! `app.json`: what a repository says of the app that is to be made from it. Read strictly: every problem at once, each
//! with its line and column.
//!
//! Source: Heroku Dev Center, "app.json Schema"; `cron` and `healthchecks` are extensions that other platforms share.

mod health;
mod reader;
mod schedule;

pub use schedule::Schedule;

use crate::health::HealthCheck;
use crate::names::{ConfigKey, ProcessType};
use crate::quantity::MAX_QUANTITY;
use reader::{Kind, Node};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Largest file that is read, in bytes.
pub const MAX_BYTES: usize = 256 * 1024;
/// Longest script or command, in bytes.
const MAX_COMMAND: usize = 64 * 1024;
/// Longest of the texts that are only shown, in characters.
const MAX_TEXT: usize = 1000;

/// What is wrong with a file, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("app.json:{line}:{column}: {message}")]
pub struct Problem {
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// Which value, and what it must be.
    pub message: String,
}

/// What an `app.json` says of its app to people. Whoever wrote the code wrote it: nothing of it is trusted, or fetched.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct About {
    /// The app's name as people read it, one line.
    pub name: Option<String>,
    /// What it is, at most 1,000 characters.
    pub description: Option<String>,
    /// What it can be found by.
    pub keywords: Vec<String>,
    /// Its page, an http or https URL.
    pub website: Option<String>,
    /// Where its code is, an http or https URL.
    pub repository: Option<String>,
    /// A picture, an http or https URL; [`Self::picture`] is what is shown of it.
    pub logo: Option<String>,
    /// Where to go after the setup: a path of the app, or an http or https URL.
    pub success_url: Option<String>,
}

impl About {
    /// The address of the picture, if it is one of https.
    pub fn picture(&self) -> Option<&str> {
        self.logo.as_deref().filter(|url| url.starts_with("https://"))
    }

    /// Where [`Self::success_url`] leads: `web_url` is the app's own address, with a slash at its end.
    pub fn resolved_success_url(&self, web_url: &str) -> Option<String> {
        self.success_url.as_deref().map(|url| resolved(url, web_url))
    }
}

/// A `success_url` as a whole address.
pub fn resolved(success_url: &str, web_url: &str) -> String {
    match success_url.strip_prefix('/') {
        Some(path) => format!("{web_url}{path}"),
        None => success_url.into(),
    }
}

/// An `app.json` that was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AppJson {
    /// What it says to people.
    pub about: About,
    /// What is asked of a new web dyno before it gets requests.
    pub health_check: Option<HealthCheck>,
    /// What an app is made of, wherever it is made.
    pub base: Parts,
    /// What review apps have instead.
    pub review: Parts,
    /// What test runs have instead.
    pub test: Parts,
    /// What was passed over: keys that nobody knows, and what has no effect here.
    pub warnings: Vec<Problem>,
}

/// What an app is made of. `None`: the file does not say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parts {
    /// Config vars, in the file's order of names.
    pub env: BTreeMap<ConfigKey, EnvVar>,
    /// How many dynos of which size.
    pub formation: BTreeMap<ProcessType, Quantity>,
    /// Add-ons.
    pub addons: Option<Vec<Addon>>,
    /// Buildpacks in order.
    pub buildpacks: Option<Vec<Placed>>,
    /// What runs once, after the first release is live.
    pub postdeploy: Option<String>,
    /// What runs before a review app is destroyed.
    pub pr_predestroy: Option<String>,
    /// The stack's name.
    pub stack: Option<Placed>,
    /// A container image; checked, and without effect.
    pub image: Option<String>,
    /// Commands that run by the clock.
    pub cron: Option<Vec<Cron>>,
}

/// A name, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// What the file says.
    pub name: String,
    /// Where, for messages.
    pub line: usize,
}

/// A config var as the file wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvVar {
    /// What it is for.
    pub description: Option<String>,
    /// What it is when nobody says otherwise.
    pub value: Option<String>,
    /// Whether an app cannot be set up without it. The default is that it cannot.
    pub required: bool,
    /// Whether the file says `"required": true` in so many words: then no release goes without it either.
    pub insisted: bool,
    /// Whether the platform makes up a secret for it.
    pub generated: bool,
    /// Where it stands, for messages.
    pub line: usize,
}

/// How many dynos of one process type, and how large.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quantity {
    /// How many; one where the file does not say.
    pub quantity: u32,
    /// A size's name.
    pub size: Option<String>,
}

/// An add-on of an app's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addon {
    /// `heroku-postgresql` or `heroku-postgresql:essential-0`.
    pub plan: String,
    /// The attachment's name: `DATABASE`.
    pub attachment: Option<ConfigKey>,
    /// The provider's options.
    pub options: BTreeMap<String, String>,
    /// Where it stands, for messages.
    pub line: usize,
}

/// A command that runs by the clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cron {
    /// One line, for a shell in a one-off dyno.
    pub command: String,
    /// When.
    pub schedule: Schedule,
}

/// For what an app is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Environment {
    /// For good.
    Plain,
    /// For a pull request or a branch.
    Review,
    /// For a test run.
    Test,
}

impl AppJson {
    /// Reads a file. Errors: every problem of it, in the file's order; unknown keys are only warned about.
    pub fn parse(text: &str) -> Result<Self, Vec<Problem>> {
        let mut reader = Reader::default();
        let mut app = Self::default();
        if text.len() > MAX_BYTES {
            let message = format!("the file is larger than {MAX_BYTES} bytes");
            return Err(vec![Problem { line: 1, column: 1, message }]);
        }
        let root = Node::read(text.trim_start_matches('\u{feff}')).map_err(|p| vec![p])?;
        reader.file(&mut app, &root);
        app.warnings = reader.warnings;
        match reader.problems.is_empty() {
            true => Ok(app),
            false => Err(reader.problems),
        }
    }

    /// What an app for `environment` is made of. Config vars, formation and scripts are merged by name; lists are
    /// replaced.
    pub fn parts(&self, environment: Environment) -> Parts {
        let over = match environment {
            Environment::Plain => return self.base.clone(),
            Environment::Review => &self.review,
            Environment::Test => &self.test,
        };
        let base = &self.base;
        let mut parts = Parts {
            addons: over.addons.clone().or_else(|| base.addons.clone()),
            buildpacks: over.buildpacks.clone().or_else(|| base.buildpacks.clone()),
            postdeploy: over.postdeploy.clone().or_else(|| base.postdeploy.clone()),
            pr_predestroy: over.pr_predestroy.clone().or_else(|| base.pr_predestroy.clone()),
            stack: over.stack.clone().or_else(|| base.stack.clone()),
            image: over.image.clone().or_else(|| base.image.clone()),
            cron: over.cron.clone().or_else(|| base.cron.clone()),
            ..base.clone()
        };
        parts.env.extend(over.env.clone());
        parts.formation.extend(over.formation.clone());
        parts
    }
}

impl Parts {
    /// Names that an app cannot be set up without and that nothing gives a value, with their lines.
    pub fn missing(&self, has: impl Fn(&ConfigKey) -> bool) -> Vec<(&ConfigKey, &EnvVar)> {
        let open = |v: &EnvVar| v.required && v.value.is_none() && !v.generated;
        self.env.iter().filter(|(key, var)| open(var) && !has(key)).collect()
    }

    /// Names that the file insists on (`"required": true`, nothing else gives a value) and that are missing.
    pub fn insisted(&self, has: impl Fn(&ConfigKey) -> bool) -> Vec<(&ConfigKey, &EnvVar)> {
        self.missing(has).into_iter().filter(|(_, var)| var.insisted).collect()
    }
}

/// Collects what is read and what is wrong.
#[derive(Default)]
struct Reader {
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
}

impl Reader {
    /// Keeps a value, or its problem.
    fn keep<T>(&mut self, result: Result<T, Problem>) -> Option<T> {
        result.map_err(|problem| self.problems.push(problem)).ok()
    }

    fn file(&mut self, app: &mut AppJson, root: &Node<'_>) {
        for (key, node) in self.keep(root.object()).unwrap_or_default() {
            match key.as_str() {
                "name" => app.about.name = self.keep(line_of_text(&node)),
                "description" => app.about.description = self.keep(shown_text(&node)),
                "keywords" => {
                    app.about.keywords = self.each(&node, |_, item| line_of_text(item)).unwrap_or_default();
                }
                "website" => app.about.website = self.keep(url(&node)),
                "repository" => app.about.repository = self.keep(url(&node)),
                "logo" => app.about.logo = self.keep(url(&node)),
                "success_url" => app.about.success_url = self.keep(place(&node)),
                "environments" => self.environments(app, &node),
                "healthchecks" => app.health_check = self.healthchecks(&node),
                "$schema" => {}
                _ => {
                    if !self.part(&mut app.base, &key, &node) {
                        self.warnings.push(node.problem("is not a key that is known here; it has no effect"));
                    }
                }
            }
        }
    }

    fn environments(&mut self, app: &mut AppJson, node: &Node<'_>) {
        for (key, environment) in self.keep(node.object()).unwrap_or_default() {
            let parts = match key.as_str() {
                "review" => &mut app.review,
                "test" => &mut app.test,
                _ => {
                    self.warnings.push(environment.problem("has no effect: there are `review` and `test`"));
                    continue;
                }
            };
            for (key, node) in self.keep(environment.object()).unwrap_or_default() {
                if !self.part(parts, &key, &node) {
                    self.warnings.push(node.problem("has no effect in an environment"));
                }
            }
        }
    }

    /// Reads one key of what an app is made of. False: it is none.
    fn part(&mut self, parts: &mut Parts, key: &str, node: &Node<'_>) -> bool {
        match key {
            "env" => parts.env = self.named(node, ConfigKey::parse, |_, node| env_var(node)),
            "formation" => {
                parts.formation = self.named(node, ProcessType::parse, |reader, node| reader.quantity(node));
            }
            "addons" => parts.addons = self.each(node, Self::addon),
            "buildpacks" => parts.buildpacks = self.each(node, |_, node| buildpack(node)),
            "scripts" => self.scripts(parts, node),
            "stack" => parts.stack = self.keep(placed(node)),
            "image" => {
                parts.image = self.keep(line_of_text(node));
                self.warnings.push(node.problem("has no effect: apps are built with buildpacks"));
            }
            "cron" => parts.cron = self.each(node, |_, node| cron(node)),
            _ => return false,
        }
        true
    }

    /// A list, each item read; none when the node is no list. Items with problems are left out.
    fn each<T>(
        &mut self,
        node: &Node<'_>,
        mut read: impl FnMut(&mut Self, &Node<'_>) -> Result<T, Problem>,
    ) -> Option<Vec<T>> {
        let items = self.keep(node.list())?;
        let mut all = Vec::with_capacity(items.len());
        for item in &items {
            let one = read(self, item);
            all.extend(self.keep(one));
        }
        Some(all)
    }

    /// An object whose keys are names of something.
    fn named<K: Ord, V>(
        &mut self,
        node: &Node<'_>,
        name: fn(&str) -> Result<K, crate::NameError>,
        mut read: impl FnMut(&mut Self, &Node<'_>) -> Result<V, Problem>,
    ) -> BTreeMap<K, V> {
        let mut all = BTreeMap::new();
        for (key, node) in self.keep(node.object()).unwrap_or_default() {
            let key = name(&key).map_err(|e| node.problem(format_args!("stands under a name that cannot be: {e}")));
            let value = read(self, &node);
            let (key, value) = (self.keep(key), self.keep(value));
            all.extend(key.zip(value));
        }
        all
    }

    fn quantity(&mut self, node: &Node<'_>) -> Result<Quantity, Problem> {
        let mut quantity = Quantity { quantity: 1, size: None };
        for (key, value) in node.object()? {
            match key.as_str() {
                "quantity" => {
                    quantity.quantity = value.number()?;
                    if quantity.quantity > MAX_QUANTITY {
                        return Err(value.problem(format_args!("must be {MAX_QUANTITY} at most")));
                    }
                }
                "size" => quantity.size = Some(line_of_text(&value)?),
                _ => self.warnings.push(value.problem("has no effect: there are `quantity` and `size`")),
            }
        }
        Ok(quantity)
    }

    fn addon(&mut self, node: &Node<'_>) -> Result<Addon, Problem> {
        let line = node.problem("").line;
        let mut addon = Addon { plan: String::new(), attachment: None, options: BTreeMap::new(), line };
        match node.kind()? {
            Kind::Text(_) => addon.plan = plan(node)?,
            Kind::Object(fields) => {
                for (key, value) in fields {
                    match key.as_str() {
                        "plan" => addon.plan = plan(&value)?,
                        "as" => {
                            let name = ConfigKey::parse(&value.text()?)
                                .map_err(|e| value.problem(format_args!("is no attachment's name: {e}")))?;
                            addon.attachment = Some(name);
                        }
                        "options" => addon.options = options(&value)?,
                        _ => self.warnings.push(value.problem("has no effect: there are `plan`, `as` and `options`")),
                    }
                }
            }
            _ => return Err(node.not("a plan's name, or an object with `plan`, `as` and `options`")),
        }
        if addon.plan.is_empty() {
            return Err(node.problem("has no `plan`"));
        }
        Ok(addon)
    }

    fn scripts(&mut self, parts: &mut Parts, node: &Node<'_>) {
        for (key, script) in self.keep(node.object()).unwrap_or_default() {
            match key.as_str() {
                "postdeploy" => parts.postdeploy = self.keep(command(&script)),
                "pr-predestroy" => parts.pr_predestroy = self.keep(command(&script)),
                // Scripts of test runs, which are another thing than apps.
                "test" | "test-setup" => drop(self.keep(command(&script))),
                _ => self.warnings.push(script.problem("has no effect: there are `postdeploy` and `pr-predestroy`")),
            }
        }
    }
}

fn env_var(node: &Node<'_>) -> Result<EnvVar, Problem> {
    let mut var = EnvVar {
        description: None,
        value: None,
        required: true,
        insisted: false,
        generated: false,
        line: node.problem("").line,
    };
    match node.kind()? {
        Kind::Text(_) => var.value = Some(value(node)?),
        Kind::Object(fields) => {
            for (key, field) in fields {
                match key.as_str() {
                    "description" => var.description = Some(shown_text(&field)?),
                    "value" => var.value = Some(value(&field)?),
                    "required" => {
                        var.required = field.flag()?;
                        var.insisted = var.required;
                    }
                    "generator" if field.text()? == "secret" => var.generated = true,
                    "generator" => return Err(field.problem("must be \"secret\", which is the only generator")),
                    // Clients keep things of their own here; none of it changes the app.
                    _ => {}
                }
            }
        }
        _ => return Err(node.not("a string, or an object with `description`, `value`, `required` or `generator`")),
    }
    Ok(var)
}

/// A config var's value: any text but NUL.
fn value(node: &Node<'_>) -> Result<String, Problem> {
    let text = match node.kind()? {
        Kind::Text(text) => text,
        Kind::Number | Kind::Flag(_) => {
            return Err(node.problem(format_args!("must be a string, not {}; put it in quotes", node.word())));
        }
        _ => return Err(node.not("a string")),
    };
    match text.contains('\0') {
        true => Err(node.problem("holds a NUL byte, which no environment can carry")),
        false => Ok(text),
    }
}

fn cron(node: &Node<'_>) -> Result<Cron, Problem> {
    let (mut line, mut schedule) = (None, None);
    for (key, value) in node.object()? {
        match key.as_str() {
            "command" => line = Some(line_of_command(&value)?),
            "schedule" => {
                schedule = Some(Schedule::parse(&value.text()?).map_err(|e| value.problem(e))?);
            }
            _ => return Err(value.problem("is not known here: there are `command` and `schedule`")),
        }
    }
    match (line, schedule) {
        (Some(command), Some(schedule)) => Ok(Cron { command, schedule }),
        (None, _) => Err(node.problem("has no `command`")),
        (_, None) => Err(node.problem("has no `schedule`, such as \"*/10 * * * *\"")),
    }
}

fn placed(node: &Node<'_>) -> Result<Placed, Problem> {
    Ok(Placed { name: line_of_text(node)?, line: node.problem("").line })
}

fn buildpack(node: &Node<'_>) -> Result<Placed, Problem> {
    let fields = node.object()?;
    let url = fields.iter().find(|(key, _)| key == "url").map(|(_, url)| url);
    let url = url.ok_or_else(|| node.problem("has no `url`"))?;
    let found = placed(url)?;
    match found.name.is_empty() || found.name.starts_with('-') {
        true => Err(url.problem("must be a name like heroku/python or the https URL of a git repository")),
        false => Ok(found),
    }
}

fn plan(node: &Node<'_>) -> Result<String, Problem> {
    let text = node.text()?;
    let ok = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c);
    let mut parts = text.split(':');
    let good = parts.clone().count() <= 2 && parts.all(|p| !p.is_empty() && p.len() <= 100 && p.chars().all(ok));
    match good {
        true => Ok(text),
        false => Err(node.problem("must be an add-on service and its plan, like heroku-postgresql:essential-0")),
    }
}

fn options(node: &Node<'_>) -> Result<BTreeMap<String, String>, Problem> {
    let option = |(name, value): (String, Node<'_>)| match value.kind()? {
        Kind::Text(text) => Ok((name, text)),
        Kind::Number => Ok((name, value.number()?.to_string())),
        Kind::Flag(flag) => Ok((name, flag.to_string())),
        _ => Err(value.not("a string")),
    };
    node.object()?.into_iter().map(option).collect()
}

/// A script: may have several lines.
fn command(node: &Node<'_>) -> Result<String, Problem> {
    let text = node.text()?;
    if text.trim().is_empty() || text.len() > MAX_COMMAND || text.contains('\0') {
        return Err(node.problem("must be a command: between 1 byte and 64 KiB, without NUL bytes"));
    }
    Ok(text)
}

fn line_of_command(node: &Node<'_>) -> Result<String, Problem> {
    let text = command(node)?;
    match text.contains(|c: char| c.is_control()) {
        true => Err(node.problem("must stand on one line, without control characters")),
        false => Ok(text),
    }
}

fn shown_text(node: &Node<'_>) -> Result<String, Problem> {
    let text = node.text()?;
    match text.chars().count() > MAX_TEXT {
        true => Err(node.problem(format_args!("must have {MAX_TEXT} characters at most"))),
        false => Ok(text),
    }
}

fn line_of_text(node: &Node<'_>) -> Result<String, Problem> {
    let text = shown_text(node)?;
    match text.contains(|c: char| c.is_control()) {
        true => Err(node.problem("must stand on one line, without control characters")),
        false => Ok(text),
    }
}

fn url(node: &Node<'_>) -> Result<String, Problem> {
    let text = line_of_text(node)?;
    match text.starts_with("https://") || text.starts_with("http://") {
        true => Ok(text),
        false => Err(node.problem("must be a URL that begins with https:// or http://")),
    }
}

fn place(node: &Node<'_>) -> Result<String, Problem> {
    match line_of_text(node)? {
        text if text.starts_with('/') && !text.starts_with("//") => Ok(text),
        _ => url(node).map_err(|_| node.problem("must be a path of the app, like /welcome, or a URL")),
    }
}

#[cfg(test)]
mod tests;
