//! What a content says: whether a file is a migration, what it is called and what it follows.

use super::paths::Found;
use super::{Id, Known, Tool};
use std::collections::BTreeMap;

/// The contents that were read.
pub(super) struct Reader<'a> {
    /// By blob.
    pub(super) contents: &'a BTreeMap<String, String>,
    /// The blobs of files that say how something is called, by path.
    pub(super) support: &'a BTreeMap<String, String>,
}

impl Reader<'_> {
    fn content(&self, blob: &str) -> Option<&str> {
        self.contents.get(blob).map(String::as_str)
    }

    /// The content of a file that says how something is called.
    pub(super) fn support(&self, path: &str) -> Option<&str> {
        self.content(self.support.get(path)?)
    }

    /// What the tool knows it by, as far as its path and what was read of it say.
    pub(super) fn id(&self, file: &Found) -> Id {
        let (scope, name) = match file.tool {
            Tool::Django => (self.label(file), file.name.clone()),
            // The version alone is kept in `schema_migrations`.
            Tool::Rails => (file.scope.clone(), file.name.split('_').next().unwrap_or_default().to_string()),
            Tool::Alembic => {
                let revision = self.content(&file.blob).and_then(|text| assigned(text, "revision"));
                (String::new(), revision.and_then(|r| r.into_iter().next()).unwrap_or_else(|| file.name.clone()))
            }
            _ => (String::new(), file.name.clone()),
        };
        (file.tool, scope, name)
    }

    /// The label of the app that a Django migration belongs to. Source: Django, `AppConfig.label`.
    fn label(&self, file: &Found) -> String {
        let config = file.support().first().and_then(|path| self.support(path));
        let said = config.and_then(|text| {
            let one = |key| indented(text, key).into_iter().next();
            one("label").or_else(|| one("name").and_then(|name| name.rsplit('.').next().map(str::to_string)))
        });
        said.unwrap_or_else(|| file.scope.clone())
    }

    /// The migration that a file is; none when its content says that it is none.
    pub(super) fn known(&self, file: &Found) -> Option<Known> {
        let id = self.id(file);
        let mut known =
            Known { name: file.name.clone(), id, found: file.clone(), replaces: Vec::new(), depends: Vec::new() };
        let Some(text) = self.content(&file.blob) else { return Some(known) };
        let is_one = match file.tool {
            Tool::Django => text.contains("class Migration("),
            Tool::Rails => text.contains("Migration"),
            Tool::Laravel => text.contains("extends Migration") || text.contains("Migrations\\Migration"),
            Tool::Alembic => assigned(text, "revision").is_some() && assigned(text, "down_revision").is_some(),
            Tool::Prisma | Tool::Flyway | Tool::Sql => true,
        };
        let pairs = |key: &str| pairs(text, key).into_iter().map(|(app, name)| (Tool::Django, app, name)).collect();
        match file.tool {
            Tool::Django => (known.replaces, known.depends) = (pairs("replaces"), pairs("dependencies")),
            Tool::Alembic => {
                let before = assigned(text, "down_revision").unwrap_or_default();
                known.depends = before.into_iter().map(|name| (Tool::Alembic, String::new(), name)).collect();
                known.name = known.id.2.clone();
            }
            _ => {}
        }
        is_one.then_some(known)
    }
}

/// Longer lists, of a first deploy at most, stay sorted by name: the work grows with the square.
const MOST_SORTED: usize = 2000;

/// Puts migrations into the order in which their tools would run them: by name, where numbers count as numbers, but
/// never before what they depend on.
pub(super) fn sort(list: &mut Vec<Known>) {
    list.sort_by_cached_key(|k| (k.found.tool, k.id.1.clone(), natural(&k.name), k.found.path.clone()));
    if list.len() > MOST_SORTED {
        return;
    }
    let mut waiting = std::mem::take(list);
    while !waiting.is_empty() {
        let free = waiting.iter().position(|k| !waiting.iter().any(|other| k.depends.contains(&other.id)));
        // A circle is its author's to mend; here it is only not followed.
        list.push(waiting.remove(free.unwrap_or(0)));
    }
}

/// A name in pieces that sort as people count: `V1_10` after `V1_9`.
pub(super) fn natural(name: &str) -> Vec<(u64, String)> {
    let mut pieces = Vec::new();
    let mut rest = name;
    while !rest.is_empty() {
        let number = rest.bytes().take_while(u8::is_ascii_digit).count();
        let word = rest[number..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |at| number + at);
        pieces.push((rest[..number].parse().unwrap_or(0), rest[number..word].to_string()));
        rest = &rest[word..];
    }
    pieces
}

/// The strings that a line `key = …` or `key: type = …` at the margin assigns; `None` is an empty list. None when there
/// is no such line.
fn assigned(text: &str, key: &str) -> Option<Vec<String>> {
    text.lines().find_map(|line| {
        let rest = line.strip_prefix(key)?.trim_start();
        let value = if rest.starts_with(':') { rest.split_once('=')?.1 } else { rest.strip_prefix('=')? };
        Some(strings(value))
    })
}

/// The strings that an indented line `key = "…"` assigns.
fn indented(text: &str, key: &str) -> Vec<String> {
    let found = text.lines().find_map(|line| {
        let rest = line.trim_start().strip_prefix(key)?.trim_start();
        Some(strings(rest.strip_prefix('=')?))
    });
    found.unwrap_or_default()
}

/// The `("app", "name")` pairs of a list `key = [ … ]`.
fn pairs(text: &str, key: &str) -> Vec<(String, String)> {
    let list = text.match_indices(key).find_map(|(at, _)| {
        let rest = text[at + key.len()..].trim_start().strip_prefix('=')?.trim_start().strip_prefix('[')?;
        Some(&rest[..rest.find(']')?])
    });
    let tuples = list.unwrap_or_default().split('(').skip(1).filter_map(|tuple| tuple.split(')').next());
    tuples
        .filter_map(|tuple| match strings(tuple).as_slice() {
            [app, name] => Some((app.clone(), name.clone())),
            _ => None,
        })
        .collect()
}

/// The quoted strings of a piece of Python, up to a comment.
fn strings(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find(['"', '\'', '#']) {
        let quote = rest.as_bytes()[start] as char;
        if quote == '#' {
            // The rest of its line; a list goes on in the next one.
            let Some(end) = rest[start..].find('\n') else { break };
            rest = &rest[start + end..];
            continue;
        }
        let Some(length) = rest[start + 1..].find(quote) else { break };
        found.push(rest[start + 1..start + 1 + length].to_string());
        rest = &rest[start + length + 2..];
    }
    found
}
