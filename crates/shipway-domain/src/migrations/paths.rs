//! What a path says: whether a file may be a migration, and whose.

use super::{Tool, TreeFile};
use std::collections::BTreeSet;

/// A file that may be a migration.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) tool: Tool,
    pub(super) path: String,
    pub(super) blob: String,
    /// Django: the directory of the app. Rails: the database. Else empty.
    pub(super) scope: String,
    /// The file's name without its extension; Prisma: the directory's.
    pub(super) name: String,
    /// Whether it takes one back instead of being one.
    pub(super) down: bool,
}

impl Tool {
    /// Whether the content has a say. Of SQL there is nothing to learn from it.
    pub(super) fn is_read(self) -> bool {
        !matches!(self, Self::Prisma | Self::Sql | Self::Flyway)
    }
}

impl Found {
    /// The directory that it lies in.
    pub(super) fn directory(&self) -> &str {
        self.path.rsplit_once('/').map_or("", |(directory, _)| directory)
    }

    /// Paths of files that say how it is called or run.
    pub(super) fn support(&self) -> Vec<String> {
        match self.tool {
            Tool::Django => {
                let app = self.directory().strip_suffix("/migrations").unwrap_or_default();
                vec![format!("{app}/apps.py")]
            }
            Tool::Alembic => {
                let parts: Vec<&str> = self.directory().split('/').take_while(|part| *part != "versions").collect();
                vec![join(&parts.join("/"), "env.py")]
            }
            _ => Vec::new(),
        }
    }
}

/// `directory/name`, or `name` at the top.
pub(super) fn join(directory: &str, name: &str) -> String {
    if directory.is_empty() { name.into() } else { format!("{directory}/{name}") }
}

/// Directories of other people's code.
const VENDORED: [&str; 14] = [
    "node_modules",
    "bower_components",
    "vendor",
    "vendored",
    "third_party",
    "third-party",
    "site-packages",
    "dist-packages",
    "venv",
    ".venv",
    "virtualenv",
    ".tox",
    ".bundle",
    "Pods",
];
/// Directories whose code is not the app's own.
const ASIDE: [&str; 18] = [
    "test",
    "tests",
    "testing",
    "testdata",
    "test_data",
    "spec",
    "specs",
    "__tests__",
    "fixtures",
    "__fixtures__",
    "e2e",
    "example",
    "examples",
    "samples",
    "stubs",
    "templates",
    "doc",
    "docs",
];
/// Directories in which every SQL file is a migration.
const SQL_MIGRATIONS: [&str; 5] = ["migrations", "migration", "migrate", "migrates", "drizzle"];
/// Directories in which a numbered SQL file is one.
const SQL_NUMBERED: [&str; 14] = [
    "sql",
    "db",
    "database",
    "schema",
    "schemas",
    "patches",
    "upgrades",
    "updates",
    "deltas",
    "changes",
    "changelog",
    "evolutions",
    "versions",
    "up",
];

/// A path in its parts.
pub(super) struct Place<'a> {
    parts: Vec<&'a str>,
    stem: &'a str,
    extension: &'a str,
}

impl<'a> Place<'a> {
    /// The parts of a path; none for one that cannot matter.
    pub(super) fn of(path: &'a str) -> Option<Self> {
        let parts: Vec<&str> = path.split('/').collect();
        let (stem, extension) = parts.last()?.rsplit_once('.')?;
        matches!(extension, "py" | "rb" | "php" | "sql" | "java" | "kt").then_some(Self { parts, stem, extension })
    }

    /// Whether it says how something is called or run.
    pub(super) fn is_support(&self) -> bool {
        self.extension == "py" && matches!(self.stem, "apps" | "env" | "manage") && !self.is_aside(self.parts.len() - 1)
    }

    /// The `n`th directory from the file upwards, from 1.
    fn above(&self, n: usize) -> &'a str {
        self.parts.len().checked_sub(n + 1).map_or("", |at| self.parts[at])
    }

    /// Whether one of the first `n` directories holds other people's code, or none of the app's.
    fn is_aside(&self, n: usize) -> bool {
        let aside = |part: &&str| VENDORED.contains(part) || ASIDE.contains(part) || part.contains("{{");
        self.parts[..n.min(self.parts.len() - 1)].iter().any(aside)
    }

    /// What it may be, before anything is known of its neighbours.
    pub(super) fn found(&self, path: &str) -> Option<Found> {
        let made = |tool, scope: &str, name: &str, down| {
            let (scope, name) = (scope.to_string(), name.to_string());
            Some(Found { tool, path: path.to_string(), blob: String::new(), scope, name, down })
        };
        let directories = self.parts.len() - 1;
        match self.extension {
            "py" if self.above(1) == "migrations" && directories >= 2 => {
                // An app may be called `tests` or `vendor`; what lies below such a directory is aside.
                let own = !self.is_aside(directories - 2) && self.stem != "__init__";
                own.then(|| made(Tool::Django, self.above(2), self.stem, false)).flatten()
            }
            "py" if self.parts[..directories].contains(&"versions") => {
                let own = !self.is_aside(directories) && self.stem != "__init__";
                own.then(|| made(Tool::Alembic, "", self.stem, false)).flatten()
            }
            "rb" => {
                let db = self.parts.windows(2).position(|w| w[0] == "db" && w[1].ends_with("migrate"))?;
                let database = self.parts[db + 1].trim_end_matches("migrate").trim_end_matches('_');
                let database = if database == "post" { "" } else { database };
                let own = !self.is_aside(directories) && digits(self.stem) > 0 && self.stem.contains('_');
                own.then(|| made(Tool::Rails, database, self.stem, false)).flatten()
            }
            "php" => {
                let inside = self.parts[..directories].iter().any(|part| part.eq_ignore_ascii_case("migrations"));
                let own = inside && !self.is_aside(directories) && is_laravel_name(self.stem);
                own.then(|| made(Tool::Laravel, "", self.stem, false)).flatten()
            }
            "sql" | "java" | "kt" if is_flyway_name(self.stem) && !self.is_aside(directories) => {
                let here = self.extension == "sql" || self.above(1).starts_with("migration");
                here.then(|| made(Tool::Flyway, "", self.stem, self.stem.starts_with('U'))).flatten()
            }
            "sql" if !self.is_aside(directories) => self.sql(&made),
            _ => None,
        }
    }

    fn sql(&self, made: &dyn Fn(Tool, &str, &str, bool) -> Option<Found>) -> Option<Found> {
        let lower = self.stem.to_ascii_lowercase();
        let is_down =
            lower == "down" || [".down", "_down", "-down", ".undo", ".rollback"].iter().any(|end| lower.ends_with(end));
        if self.stem == "migration" && digits(self.above(1)) >= 14 {
            return made(Tool::Prisma, "", self.above(1), false);
        }
        if ["seed", "dump", "schema", "structure"]
            .iter()
            .any(|word| lower == *word || lower.starts_with(&format!("{word}s")))
        {
            return None;
        }
        let directories = &self.parts[..self.parts.len() - 1];
        let named = |part: &&str, names: &[&str]| names.iter().any(|name| part.eq_ignore_ascii_case(name));
        // `up.sql` and `down.sql` are named by their directory.
        let name = if matches!(lower.as_str(), "up" | "down") { self.above(1) } else { self.stem };
        let numbered = digits(name.trim_start_matches(['v', 'V'])) >= 1;
        let in_migrations = directories.iter().any(|part| named(part, &SQL_MIGRATIONS));
        let in_numbered = directories.iter().rev().take(2).any(|part| named(part, &SQL_NUMBERED)) && numbered;
        if directories.iter().any(|part| part.eq_ignore_ascii_case("down")) {
            return in_migrations.then(|| made(Tool::Sql, "", name, true)).flatten();
        }
        (in_migrations || in_numbered).then(|| made(Tool::Sql, "", name, is_down)).flatten()
    }
}

/// More candidates than this are not looked at: the largest known application has some 5,000 migrations.
const MOST_FILES: usize = 20_000;

/// The migrations that a tree may have. SQL that lies among the files of another tool is that tool's.
pub(super) fn found(files: &[TreeFile]) -> Vec<Found> {
    let with = |f: &TreeFile| Some(Found { blob: f.blob.clone(), ..Place::of(&f.path)?.found(&f.path)? });
    let all: Vec<Found> = files.iter().filter_map(with).take(MOST_FILES).collect();
    let claimed: BTreeSet<&str> = all.iter().filter(|f| f.tool.is_read()).map(Found::directory).collect();
    let mine = |f: &Found| {
        let above = f.path.match_indices('/').map(|(at, _)| &f.path[..at]);
        f.tool != Tool::Sql || !above.into_iter().any(|directory| claimed.contains(directory))
    };
    let keep: Vec<bool> = all.iter().map(mine).collect();
    all.into_iter().zip(keep).filter_map(|(f, keep)| keep.then_some(f)).collect()
}

/// How many digits a name begins with.
fn digits(name: &str) -> usize {
    name.bytes().take_while(u8::is_ascii_digit).count()
}

/// `2024_01_31_120000_create_orders`. Source: Laravel, `MigrationCreator::getDatePrefix`.
fn is_laravel_name(stem: &str) -> bool {
    let mut parts = stem.splitn(5, '_');
    let lengths = [4, 2, 2, 6];
    lengths.iter().all(|n| parts.next().is_some_and(|part| part.len() == *n && digits(part) == *n))
        && parts.next().is_some()
}

/// `V1_2__name`, `B1__name`, `U1__name`, `R__name`. Source: Flyway, "Migrations", naming.
fn is_flyway_name(stem: &str) -> bool {
    let Some((prefix, name)) = stem.split_once("__") else { return false };
    let version = |v: &str| {
        v.starts_with(|c: char| c.is_ascii_digit()) && v.bytes().all(|b| b.is_ascii_digit() || b == b'.' || b == b'_')
    };
    !name.is_empty() && (prefix == "R" || prefix.strip_prefix(['V', 'B', 'U']).is_some_and(version))
}
