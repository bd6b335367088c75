//! What is said before code goes back to before its schema.

use super::Migrations;
use crate::{CommitId, minute};
use jiff::Timestamp;
use serde::Serialize;

/// A schema that has moved on since a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SchemaMoved {
    /// The release to go back to.
    pub to: u64,
    /// The release whose code has the files of the migrations.
    pub with_code_of: u64,
    /// The commit of that code.
    pub commit: CommitId,
    /// Whether the app can go on to that release.
    pub onward: Onward,
    /// The first release that may have brought some of the migrations.
    pub brought_by: u64,
    /// The newest backup from before that release.
    pub backup: Option<Backup>,
    /// What has run since: `added` is what is meant.
    pub migrations: Migrations,
}

/// Whether an app can go on to a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Onward {
    /// It can.
    Open,
    /// The release failed, as a release phase does that stops after its migrations.
    Failed,
    /// Its code is not kept any more.
    Gone,
}

/// A backup that can be restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Backup {
    /// `b012`.
    pub name: String,
    /// When it was done.
    pub finished_at: Timestamp,
}

/// Names that are told in one sentence.
const NAMED: usize = 5;

impl SchemaMoved {
    /// What happened, what to do, and the way out, a sentence or a command each. Commands are indented.
    pub fn sentences(&self, app: &str) -> Vec<String> {
        let (to, code) = (self.to, self.with_code_of);
        let added = &self.migrations.added;
        let mut names: Vec<String> = added.iter().take(NAMED).map(|m| format!("{m} ({})", m.tool)).collect();
        if added.len() > NAMED {
            names.push(format!("and {} more", added.len() - NAMED));
        }
        let mut said =
            vec![format!("The schema has moved on since v{to}, whose code does not know: {}.", names.join(", "))];
        let commands: Vec<String> = self
            .migrations
            .reversals
            .iter()
            .filter_map(|reversal| reversal.command.as_ref())
            // In one argument: of several the CLI loses count where one is the app's name, as a Django app's may be.
            .map(|command| format!("  heroku run -a {app} \"{command}\""))
            .collect();
        if !commands.is_empty() {
            said.push(format!("To take them back, the last one first, with the code of v{code} running:"));
            said.extend(commands);
            let commit = self.commit.short();
            said.push(match self.onward {
                Onward::Open => format!(
                    "They need the code of v{code}. Once v{to} runs, go on again first: heroku rollback v{code} -a {app}"
                ),
                Onward::Failed => format!(
                    "They need the code of v{code}, which failed: push {commit} again with its release phase mended, then \
                     run the commands."
                ),
                Onward::Gone => format!(
                    "They need the code of v{code}, which is not kept any more: push {commit} again, then run the commands."
                ),
            });
        }
        for reversal in self.migrations.reversals.iter().filter(|reversal| reversal.command.is_none()) {
            let names = reversal.migrations.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
            said.push(match reversal.scripts.as_slice() {
                [] => format!("{} has no way back for {names}: write a migration that undoes it.", reversal.tool),
                scripts => format!("Scripts that undo {names}: {}.", scripts.join(", ")),
            });
        }
        said.push(match &self.backup {
            Some(Backup { name, finished_at }) => format!(
                "Or put the database back as it was in {name} of {}, which loses what was written since: heroku \
                 pg:backups:restore {name} -a {app}",
                minute(*finished_at)
            ),
            None => format!("There is no backup from before v{}, to put the database back as it was.", self.brought_by),
        });
        said
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Migration, Reversal, Tool};
    use super::*;

    #[test]
    fn the_way_back_is_told_with_its_commands() {
        let migration = |tool, scope: &str, name: &str| Migration {
            tool,
            scope: scope.into(),
            name: name.into(),
            path: String::new(),
        };
        let reversal = |tool, name: &str, command: Option<&str>| Reversal {
            tool,
            scope: String::new(),
            migrations: vec![name.into()],
            command: command.map(String::from),
            scripts: vec![],
        };
        let migrations = Migrations {
            added: vec![migration(Tool::Django, "orders", "0008_total"), migration(Tool::Prisma, "", "2024_x")],
            reversals: vec![
                reversal(Tool::Prisma, "2024_x", None),
                reversal(Tool::Django, "0008_total", Some("python manage.py migrate orders 0007_a")),
            ],
            ..Migrations::default()
        };
        let finished_at = "2026-11-22T09:12:31Z".parse().unwrap();
        let mut moved = SchemaMoved {
            to: 5,
            with_code_of: 7,
            commit: CommitId::parse(&"7c813d6e".repeat(5)).unwrap(),
            onward: Onward::Open,
            brought_by: 6,
            backup: Some(Backup { name: "b012".into(), finished_at }),
            migrations,
        };
        assert_eq!(
            moved.sentences("shop").join("\n"),
            "The schema has moved on since v5, whose code does not know: orders.0008_total (Django), 2024_x (Prisma).\n\
             To take them back, the last one first, with the code of v7 running:\n  \
             heroku run -a shop \"python manage.py migrate orders 0007_a\"\n\
             They need the code of v7. Once v5 runs, go on again first: heroku rollback v7 -a shop\n\
             Prisma has no way back for 2024_x: write a migration that undoes it.\n\
             Or put the database back as it was in b012 of 2026-11-22 09:12 UTC, which loses what was written since: heroku \
             pg:backups:restore b012 -a shop"
        );
        (moved.onward, moved.backup) = (Onward::Failed, None);
        let said = moved.sentences("shop");
        assert_eq!(
            said[3],
            "They need the code of v7, which failed: push 7c813d6 again with its release phase mended, then run the commands."
        );
        assert_eq!(said[5], "There is no backup from before v6, to put the database back as it was.");
        moved.onward = Onward::Gone;
        assert!(moved.sentences("shop")[3].ends_with("not kept any more: push 7c813d6 again, then run the commands."));
    }
}
