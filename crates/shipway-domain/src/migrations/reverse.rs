//! How migrations are taken back, the last one first.

use super::contents::{Reader, natural};
use super::paths::{Found, join};
use super::{Id, Known, Reversal, Tool};
use std::collections::BTreeMap;

/// The steps that take `added` back. `kept`: the ids of the other migrations of head; `support`: its `manage.py` and the like.
pub(super) fn reversals(
    added: &[Known],
    kept: &[Id],
    head: &[Found],
    support: &BTreeMap<String, String>,
    reader: &Reader<'_>,
) -> Vec<Reversal> {
    let mut groups: Vec<Vec<&Known>> = Vec::new();
    // `added` is in the order of running, so the group that ends last is undone first.
    for known in added.iter().rev() {
        match groups.iter_mut().find(|g| (g[0].found.tool, &g[0].id.1) == (known.found.tool, &known.id.1)) {
            Some(group) => group.push(known),
            None => groups.push(vec![known]),
        }
    }
    let scripts = Scripts::of(head);
    let step = |group: Vec<&Known>| {
        let first = group[0];
        let tool = first.found.tool;
        let command = match tool {
            Tool::Django => Some(django(&group, kept, support)),
            Tool::Rails => Some(rails(&group, kept)),
            Tool::Laravel => Some(format!("php artisan migrate:rollback --step={}", group.len())),
            Tool::Alembic => Some(alembic(&group, reader)),
            Tool::Prisma | Tool::Flyway | Tool::Sql => None,
        };
        let scripts = group.iter().filter_map(|known| scripts.undoing(known)).collect();
        let migrations = group.iter().map(|known| known.name.clone()).collect();
        Reversal { tool, scope: first.id.1.clone(), migrations, command, scripts }
    };
    groups.into_iter().map(step).collect()
}

/// Back to the last migration of the app that stays; `zero` when none does.
fn django(group: &[&Known], kept: &[Id], support: &BTreeMap<String, String>) -> String {
    let label = &group[0].id.1;
    let stays = kept.iter().filter(|(tool, scope, name)| {
        *tool == Tool::Django && scope == label && name.starts_with(|c: char| c.is_ascii_digit())
    });
    let target = stays.map(|id| id.2.as_str()).max_by_key(|name| natural(name)).unwrap_or("zero");
    // The nearest one above the app: a repository may hold more than one project.
    let mut above = group[0].found.directory();
    let manage = loop {
        above = above.rsplit_once('/').map_or("", |(directory, _)| directory);
        let path = join(above, "manage.py");
        if support.contains_key(&path) || above.is_empty() {
            break path;
        }
    };
    format!("python {manage} migrate {label} {target}")
}

/// `db:rollback` takes the newest ones; where others are newer, each is named.
fn rails(group: &[&Known], kept: &[Id]) -> String {
    let (database, oldest) = (&group[0].id.1, group.iter().map(|known| natural(&known.id.2)).min());
    let newer = kept
        .iter()
        .any(|(tool, scope, version)| *tool == Tool::Rails && scope == database && Some(natural(version)) > oldest);
    let of = if database.is_empty() { String::new() } else { format!(":{database}") };
    if newer {
        let each = group.iter().map(|known| format!("bin/rails db:migrate:down{of} VERSION={}", known.id.2));
        each.collect::<Vec<_>>().join(" && ")
    } else {
        format!("bin/rails db:rollback{of} STEP={}", group.len())
    }
}

/// Back to what the first of them follows.
fn alembic(group: &[&Known], reader: &Reader<'_>) -> String {
    let new: Vec<&Id> = group.iter().map(|known| &known.id).collect();
    let before: Vec<&str> =
        group.iter().flat_map(|known| &known.depends).filter(|id| !new.contains(id)).map(|id| id.2.as_str()).collect();
    let target = match before.as_slice() {
        [] => "base".to_string(),
        [one] => (*one).to_string(),
        // Where several lines of revisions met there is no one name to go back to.
        _ => format!("-{}", group.len()),
    };
    let environment = group[0].found.support();
    let is_flask =
        environment.first().and_then(|path| reader.support(path)).is_some_and(|text| text.contains("current_app"));
    if is_flask { format!("flask db downgrade {target}") } else { format!("alembic downgrade {target}") }
}

/// The scripts of a tree that take migrations back, by what finds them.
struct Scripts<'a>(BTreeMap<(Tool, String), &'a str>);

impl<'a> Scripts<'a> {
    fn of(head: &'a [Found]) -> Self {
        let downs = head.iter().filter(|file| file.down);
        Self(downs.flat_map(|f| keys(f.tool, &f.name).map(|key| ((f.tool, key), f.path.as_str()))).collect())
    }

    fn undoing(&self, known: &Known) -> Option<String> {
        let tool = known.found.tool;
        keys(tool, &known.name).find_map(|key| self.0.get(&(tool, key)).map(|path| (*path).to_string()))
    }
}

/// What a migration and its script have in common: the name without `.up` and `.down`, else the version.
fn keys(tool: Tool, name: &str) -> impl Iterator<Item = String> {
    let plain = match tool {
        Tool::Flyway => None,
        _ => Some(name.trim_end_matches(".down").trim_end_matches(".up").to_string()),
    };
    let version = name.split("__").next().unwrap_or_default().trim_start_matches(['V', 'U', 'v']);
    let version: String =
        version.chars().take_while(|c| c.is_ascii_digit() || (tool == Tool::Flyway && "._".contains(*c))).collect();
    plain.into_iter().chain((!version.is_empty()).then_some(version))
}
