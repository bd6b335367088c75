//! What is said before code goes back to before its schema.

use super::Migrations;
use serde::Serialize;

/// A schema that has moved on since a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SchemaMoved {
    /// The release to go back to.
    pub to: u64,
    /// The release whose code has the files of the migrations.
    pub with_code_of: u64,
    /// What has run since: `added` is what is meant.
    pub migrations: Migrations,
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
            said.push(format!(
                "They need the code of v{code}. Once v{to} runs, go on again first: heroku rollback v{code} -a {app}"
            ));
        }
        for reversal in self.migrations.reversals.iter().filter(|reversal| reversal.command.is_none()) {
            let names = reversal.migrations.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
            said.push(match reversal.scripts.as_slice() {
                [] => format!("{} has no way back for {names}: write a migration that undoes it.", reversal.tool),
                scripts => format!("Scripts that undo {names}: {}.", scripts.join(", ")),
            });
        }
        said.push(format!(
            "Or put the database back as it was, which loses what was written since: heroku pg:backups:restore -a {app}"
        ));
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
        let said = SchemaMoved { to: 5, with_code_of: 7, migrations }.sentences("shop");
        assert_eq!(
            said.join("\n"),
            "The schema has moved on since v5, whose code does not know: orders.0008_total (Django), 2024_x (Prisma).\n\
             To take them back, the last one first, with the code of v7 running:\n  \
             heroku run -a shop \"python manage.py migrate orders 0007_a\"\n\
             They need the code of v7. Once v5 runs, go on again first: heroku rollback v7 -a shop\n\
             Prisma has no way back for 2024_x: write a migration that undoes it.\n\
             Or put the database back as it was, which loses what was written since: heroku pg:backups:restore -a shop"
        );
    }
}
