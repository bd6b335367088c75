//! A comparison as the lines of a page: what comes, what goes, what becomes other.

use shipway_dashboard::model::{Change, ChangeKind, Changes};
use shipway_domain::compare::{self, Commits, Comparison, KeyChanges, Side, Verdict};
use shipway_domain::migrations::Migrations;

/// Commits that a page names of each side.
const COMMITS: usize = 20;

/// Everything that differs, the code first. Code, config and migrations are said also when they do not; without a commit
/// on either side nothing is said of code, and a warning says why. Between two apps only code moves: what else differs
/// stays where it is, and is no change.
pub(super) fn changes(it: &Comparison) -> Vec<Changes> {
    let mut all: Vec<Changes> = it.commits.as_ref().map(|commits| code(it, commits)).into_iter().collect();
    all.extend(it.migrations.as_ref().map(migrations));
    let is_between_apps = it.base.app != it.head.app;
    all.extend(it.config.as_ref().map(|keys| if is_between_apps { config_of_each(it, keys) } else { config(keys) }));
    let tables = [
        ("Process types", &it.processes, false),
        ("Formation, which stays as it is there", &it.formation, true),
        ("Buildpacks and stack", &it.build, false),
        ("Add-ons, which stay as they are there", &it.addons, true),
        ("Schedules", &it.schedules, false),
    ];
    for (title, changes, is_kept) in tables {
        if !changes.is_empty() {
            let line = |of: &compare::Change| if is_kept { kept_line(it, of) } else { table_line(of) };
            all.push(Changes { title: title.into(), lines: changes.iter().map(line).collect() });
        }
    }
    all
}

/// Where a forge shows the commits of both sides beside each other.
pub(super) fn links(it: &Comparison) -> Vec<(String, String)> {
    let name = |side: &Side| match side.version {
        Some(version) => format!("{} v{version}", side.name),
        None => side.name.to_string(),
    };
    let text = || format!("compare {} with {}", name(&it.base), name(&it.head));
    it.url.iter().map(|url| (text(), url.clone())).collect()
}

/// What somebody should know before the code of `head` runs in the place of `base`.
pub(super) fn warnings(it: &Comparison) -> Vec<String> {
    let mut all = Vec::new();
    if let Some(commits) = it.commits.as_ref().filter(|commits| commits.behind_count > 0) {
        all.push(format!("{} would be taken away from {}.", counted(commits.behind_count, "commit"), it.base.name));
    }
    if let Some(size) = &it.size
        && let Some(usual) = size.usual.filter(|usual| usual.verdict == Verdict::Large)
    {
        all.push(format!(
            "Larger than usual here: {}, where {} is usual.",
            lines_of(size.extent.added, size.extent.removed),
            lines_of(usual.extent.added, usual.extent.removed)
        ));
    }
    if let Some(edited) = it.migrations.as_ref().map(|all| &all.edited).filter(|edited| !edited.is_empty()) {
        let names: Vec<String> = edited.iter().map(ToString::to_string).collect();
        all.push(format!("Edited, and not run again where it has run: {}.", names.join(", ")));
    }
    if let Some(baked) = it.config.as_ref().map(|config| &config.baked).filter(|baked| !baked.is_empty()) {
        let names: Vec<&str> = baked.iter().map(|key| key.as_str()).collect();
        all.push(format!(
            "Builds write {} into what they make: {} would get the values of {}.",
            names.join(", "),
            it.base.name,
            it.head.name
        ));
    }
    all.extend(it.unknown.iter().cloned());
    all
}

fn code(it: &Comparison, commits: &Commits) -> Changes {
    let mut parts = match (commits.ahead_count, commits.behind_count) {
        (0, gone) if gone > 0 => vec![format!("{} taken away", counted(gone, "commit"))],
        (ahead, _) => vec![counted(ahead, "commit")],
    };
    if !commits.authors.is_empty() {
        parts.push(match commits.authors.len() {
            1 => "1 person".into(),
            people => format!("{people} people"),
        });
    }
    parts.extend(it.size.as_ref().map(|size| lines_of(size.extent.added, size.extent.removed)));
    let usual = it.size.as_ref().and_then(|size| size.usual);
    parts.extend(usual.map(|usual| format!("{} usual", lines_of(usual.extent.added, usual.extent.removed))));
    let line = |kind, commit: &compare::Commit| Change {
        kind,
        code: commit.id.short().to_string(),
        text: commit.subject.clone(),
    };
    let mut lines: Vec<Change> =
        commits.ahead.iter().take(COMMITS).map(|commit| line(ChangeKind::Added, commit)).collect();
    lines.extend(more(commits.ahead_count, ChangeKind::Added));
    lines.extend(commits.behind.iter().take(COMMITS).map(|commit| line(ChangeKind::Removed, commit)));
    lines.extend(more(commits.behind_count, ChangeKind::Removed));
    Changes { title: if lines.is_empty() { "Code".into() } else { parts.join(", ") }, lines }
}

fn more(count: usize, kind: ChangeKind) -> Option<Change> {
    (count > COMMITS).then(|| Change { kind, code: String::new(), text: format!("and {} more", count - COMMITS) })
}

fn migrations(all: &Migrations) -> Changes {
    let lines = |kind, list: &[shipway_domain::migrations::Migration]| -> Vec<Change> {
        list.iter().map(|one| Change { kind, code: one.to_string(), text: one.tool.to_string() }).collect()
    };
    let mut shown = lines(ChangeKind::Added, &all.added);
    shown.extend(lines(ChangeKind::Removed, &all.removed));
    Changes { title: "Migrations".into(), lines: shown }
}

/// Names only: whoever looks need not be allowed to read values.
fn config(keys: &KeyChanges) -> Changes {
    let sides =
        [(ChangeKind::Added, &keys.added), (ChangeKind::Removed, &keys.removed), (ChangeKind::Changed, &keys.changed)];
    let line = |kind, key: &shipway_domain::ConfigKey| Change { kind, code: String::new(), text: key.to_string() };
    let lines = sides.into_iter().flat_map(|(kind, keys)| keys.iter().map(move |key| line(kind, key))).collect();
    Changes { title: "Config".into(), lines }
}

/// The same of two apps, which keep what they have: `only in shop-staging: SECRET_KEY, SENTRY_DSN`.
fn config_of_each(it: &Comparison, keys: &KeyChanges) -> Changes {
    let groups = [
        (format!("only in {}", it.head.name), &keys.added),
        (format!("only in {}", it.base.name), &keys.removed),
        ("another value in each".into(), &keys.changed),
    ];
    let line = |(whose, keys): (String, &Vec<shipway_domain::ConfigKey>)| {
        let names: Vec<&str> = keys.iter().map(|key| key.as_str()).collect();
        (!names.is_empty()).then(|| kept(format!("{whose}: {}", names.join(", "))))
    };
    Changes { title: "Config, which stays as it is there".into(), lines: groups.into_iter().filter_map(line).collect() }
}

/// What differs between two apps and is no part of their code.
fn kept_line(it: &Comparison, of: &compare::Change) -> Change {
    let (base, head) = (&it.base.name, &it.head.name);
    kept(match (&of.base, &of.head) {
        (Some(here), Some(there)) => format!("{}: {here} in {base}, {there} in {head}", of.name),
        (None, Some(there)) => format!("only in {head}: {}, {there}", of.name),
        (Some(here), None) => format!("only in {base}: {}, {here}", of.name),
        (None, None) => of.name.clone(),
    })
}

fn kept(text: String) -> Change {
    Change { kind: ChangeKind::Stays, code: String::new(), text }
}

fn table_line(it: &compare::Change) -> Change {
    let (kind, text) = match (&it.base, &it.head) {
        (Some(base), Some(head)) => (ChangeKind::Changed, format!("{}: {base} → {head}", it.name)),
        (None, Some(head)) => (ChangeKind::Added, format!("{}: {head}", it.name)),
        (Some(base), None) => (ChangeKind::Removed, format!("{}: {base}", it.name)),
        (None, None) => (ChangeKind::Changed, it.name.clone()),
    };
    Change { kind, code: String::new(), text }
}

fn counted(n: usize, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}

fn lines_of(added: usize, removed: usize) -> String {
    format!("+{added} −{removed}")
}
