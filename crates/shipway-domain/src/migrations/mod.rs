//! Which schema migrations one tree of files has that another has not, and how to take them back.
//!
//! A migration is known by what its own tool knows it by (an app's label and a name, a version, a revision), never by its
//! place: a directory that moved brings nothing new, a renamed Django migration does. Paths say which files may be one,
//! contents which are; contents are read only where the two trees differ. Known limits: names that settings override
//! (`MIGRATION_MODULES`, `schema_migrations_path`) are not followed, and what a vendored package brings is its own affair.

mod contents;
mod paths;
mod reverse;
mod rollback;

pub use rollback::{Backup, Onward, SchemaMoved};

use paths::{Found, Place};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// A file of a tree: where, and the name of its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeFile {
    /// Its path from the top, with `/`.
    pub path: String,
    /// What names its content: equal contents have equal names.
    pub blob: String,
}

/// A tool that changes schemas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tool {
    /// Django: `<app>/migrations/0001_initial.py`.
    Django,
    /// Rails: `db/migrate/20240101000000_create_orders.rb`.
    Rails,
    /// Laravel: `database/migrations/2024_01_01_000000_create_orders.php`.
    Laravel,
    /// Alembic and Flask-Migrate: `versions/1a2b3c_create_orders.py`.
    Alembic,
    /// Prisma: `migrations/20240101000000_orders/migration.sql`.
    Prisma,
    /// Flyway: `V1__orders.sql`, `R__view.sql`.
    Flyway,
    /// A directory of SQL files, whatever runs them.
    Sql,
}

impl fmt::Display for Tool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Django => "Django",
            Self::Rails => "Rails",
            Self::Laravel => "Laravel",
            Self::Alembic => "Alembic",
            Self::Prisma => "Prisma",
            Self::Flyway => "Flyway",
            Self::Sql => "SQL",
        })
    }
}

/// One migration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Migration {
    /// Whose.
    pub tool: Tool,
    /// Django: the app's label. Rails: the database, when it is not the primary one. Else empty.
    pub scope: String,
    /// Its name as the tool prints it.
    pub name: String,
    /// Where it lies.
    pub path: String,
}

impl fmt::Display for Migration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.scope.is_empty() {
            write!(f, "{}.", self.scope)?;
        }
        f.write_str(&self.name)
    }
}

/// How migrations that were added are taken back: one step of several, in the order in which they have to be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reversal {
    /// By which tool.
    pub tool: Tool,
    /// Django: the app's label. Rails: the database. Else empty.
    pub scope: String,
    /// What it takes back, the last one first.
    pub migrations: Vec<String>,
    /// The command for a one-off dyno that has the files of the migrations; none where the tool has none.
    pub command: Option<String>,
    /// Scripts in the tree that undo it by hand, the last one first.
    pub scripts: Vec<String>,
}

/// What two trees differ by. All lists are in the order in which a tool would run them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Migrations {
    /// Head has them, base has not.
    pub added: Vec<Migration>,
    /// Base has them, head has not: a database that ran them is ahead of head's code.
    pub removed: Vec<Migration>,
    /// Both have them with different contents: where one has run already it will not run again.
    pub edited: Vec<Migration>,
    /// How `added` is taken back, the last one first.
    pub reversals: Vec<Reversal>,
}

impl Migrations {
    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.edited.is_empty()
    }
}

/// Whether a file matters here, by its path: the only ones of a tree that [`Scan`] has to be given.
pub fn is_candidate(path: &str) -> bool {
    Place::of(path).is_some_and(|place| place.found(path).is_some() || place.is_support())
}

/// Two trees, looked at by their paths.
#[derive(Debug)]
pub struct Scan {
    base: Vec<Found>,
    head: Vec<Found>,
    /// `apps.py`, `env.py`, `manage.py`: files of head that say how something is called.
    support: BTreeMap<String, String>,
}

impl Scan {
    /// Looks at the paths of two trees.
    pub fn new(base: &[TreeFile], head: &[TreeFile]) -> Self {
        let support = base.iter().chain(head).filter(|f| Place::of(&f.path).is_some_and(|p| p.is_support()));
        let support = support.map(|f| (f.path.clone(), f.blob.clone())).collect();
        Self { base: paths::found(base), head: paths::found(head), support }
    }

    /// The contents that [`Self::finish`] needs, by blob.
    pub fn wanted(&self) -> BTreeSet<String> {
        let (same, mut wanted) = (self.unchanged(), BTreeSet::new());
        for file in self.base.iter().chain(&self.head).filter(|f| !same.contains(&(f.path.as_str(), f.blob.as_str()))) {
            if file.tool.is_read() {
                wanted.insert(file.blob.clone());
            }
            wanted.extend(file.support().iter().filter_map(|path| self.support.get(path)).cloned());
        }
        wanted
    }

    fn unchanged(&self) -> BTreeSet<(&str, &str)> {
        let of = |files: &'_ [Found]| -> BTreeSet<(String, String)> {
            files.iter().map(|f| (f.path.clone(), f.blob.clone())).collect()
        };
        let base = of(&self.base);
        self.head
            .iter()
            .filter(|f| base.contains(&(f.path.clone(), f.blob.clone())))
            .map(|f| (f.path.as_str(), f.blob.as_str()))
            .collect()
    }

    /// Compares. `contents` by blob; one that is missing (too large, no text) leaves the path to decide.
    pub fn finish(&self, contents: &BTreeMap<String, String>) -> Migrations {
        let reader = contents::Reader { contents, support: &self.support };
        let unchanged = self.unchanged();
        let changed = |files: &[Found]| -> Vec<Known> {
            let all = files.iter().filter(|f| !f.down && !unchanged.contains(&(f.path.as_str(), f.blob.as_str())));
            all.filter_map(|f| reader.known(f)).collect()
        };
        let (mut gone, mut come) = (changed(&self.base), changed(&self.head));
        let edited = take_pairs(&mut gone, &mut come, |known| (known.found.path.clone(), known.id.clone()));
        // What moved is what it was: its tool knows it by its id.
        let moved = take_pairs(&mut gone, &mut come, |known| known.id.clone());
        let (again, mut edited): (Vec<Known>, Vec<Known>) = edited
            .into_iter()
            .chain(moved.into_iter().filter(|(old, new)| old.found.blob != new.found.blob))
            .map(|(_, new)| new)
            .partition(Known::is_repeatable);
        come.extend(again);
        let base: BTreeSet<Id> = self.base.iter().map(|f| reader.id(f)).collect();
        // Squashed: what it replaces has run, so it will not.
        let squashes: Vec<Id> = come.iter().flat_map(|k| k.replaces.clone()).collect();
        come.retain(|k| k.replaces.is_empty() || !k.replaces.iter().all(|id| base.contains(id)));
        gone.retain(|k| !squashes.contains(&k.id));
        for list in [&mut gone, &mut come, &mut edited] {
            contents::sort(list);
        }
        let kept: Vec<Id> = {
            let new: BTreeSet<&Id> = come.iter().map(|k| &k.id).collect();
            self.head.iter().filter(|f| !f.down).map(|f| reader.id(f)).filter(|id| !new.contains(id)).collect()
        };
        let reversals = reverse::reversals(&come, &kept, &self.head, &self.support, &reader);
        let shown = |list: Vec<Known>| list.into_iter().map(Known::migration).collect();
        Migrations { added: shown(come), removed: shown(gone), edited: shown(edited), reversals }
    }
}

/// What a tool knows a migration by: the tool, its scope, the name without what does not count.
type Id = (Tool, String, String);

/// A file that is a migration for certain.
#[derive(Debug, Clone)]
struct Known {
    found: Found,
    id: Id,
    /// Its name as the tool prints it.
    name: String,
    /// Django: what it stands in for.
    replaces: Vec<Id>,
    /// Django, Alembic: what must run before it.
    depends: Vec<Id>,
}

impl Known {
    /// Flyway runs it whenever its content has changed.
    fn is_repeatable(&self) -> bool {
        self.found.tool == Tool::Flyway && self.name.starts_with("R__")
    }

    fn migration(self) -> Migration {
        Migration { tool: self.found.tool, scope: self.id.1, name: self.name, path: self.found.path }
    }
}

/// Takes the pairs out of two lists that have the same key; each file is in one pair at most.
fn take_pairs<K: Ord>(old: &mut Vec<Known>, new: &mut Vec<Known>, key: impl Fn(&Known) -> K) -> Vec<(Known, Known)> {
    let mut partners: BTreeMap<K, Vec<Known>> = BTreeMap::new();
    for known in new.drain(..) {
        partners.entry(key(&known)).or_default().push(known);
    }
    let mut pairs = Vec::new();
    old.retain(|one| {
        let Some(partner) = partners.get_mut(&key(one)).and_then(Vec::pop) else { return true };
        pairs.push((one.clone(), partner));
        false
    });
    new.extend(partners.into_values().flatten());
    pairs
}
