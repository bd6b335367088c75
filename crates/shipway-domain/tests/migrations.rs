//! The migrations detector on repositories as teams have them. `tests/migrations/*.txt`, in each:
//!
//! ```text
//! # A repository in one line.
//! = path      a file of both trees, its content in the lines below    + path  head's alone    - path  base's alone
//! > Tool name     added      < command     how to go back     ~ Tool name  edited      x Tool name  removed
//! ```
//!
//! `{django}`, `{rails}` … stand for the least content that the tool writes. `? Tool name` is one that is found and is
//! none: wrong, known, counted.

use shipway_domain::migrations::{Migration, Scan, TreeFile, is_candidate};
use std::collections::BTreeMap;

#[derive(Default)]
struct Repository {
    title: String,
    base: BTreeMap<String, String>,
    head: BTreeMap<String, String>,
    expected: Vec<String>,
    known_false: Vec<String>,
}

fn expand(line: &str) -> String {
    let django = |body: &str| {
        format!(
            "from django.db import migrations, models\n\nclass Migration(migrations.Migration):\n    {body}\n    operations = [migrations.AddField()]"
        )
    };
    match line.trim().strip_prefix('{').and_then(|l| l.strip_suffix('}')) {
        None => line.to_string(),
        Some("rails") => "class X < ActiveRecord::Migration[7.1]\n  def change\n  end\nend".into(),
        Some("laravel") => {
            "<?php\nuse Illuminate\\Database\\Migrations\\Migration;\nreturn new class extends Migration {};".into()
        }
        Some(other) => match other.split_once(' ').unwrap_or((other, "")) {
            ("django", body) => django(body),
            ("alembic", body) => {
                let (revision, down) = body.split_once(" after ").unwrap_or((body, ""));
                let down = if down.is_empty() { "None".to_string() } else { down.to_string() };
                format!(
                    "from alembic import op\n\nrevision: str = \"{revision}\"\ndown_revision: Union[str, None] = {down}\n"
                )
            }
            _ => panic!("no template {line}"),
        },
    }
}

fn read(text: &str) -> Vec<Repository> {
    let mut all: Vec<Repository> = Vec::new();
    let mut place: Option<(bool, bool, String)> = None;
    for line in text.lines() {
        let (mark, rest) = line.split_at(line.len().min(2));
        match mark {
            "# " => {
                all.push(Repository { title: rest.into(), ..Repository::default() });
                place = None;
            }
            "= " | "+ " | "- " => {
                let (in_base, in_head) = (mark != "+ ", mark != "- ");
                let repository = all.last_mut().unwrap();
                for (tree, there) in [(&mut repository.base, in_base), (&mut repository.head, in_head)] {
                    if there {
                        tree.insert(rest.to_string(), String::new());
                    }
                }
                place = Some((in_base, in_head, rest.to_string()));
            }
            "> " | "< " | "~ " | "x " => all.last_mut().unwrap().expected.push(line.to_string()),
            "? " => all.last_mut().unwrap().known_false.push(format!("> {rest}")),
            _ => {
                let Some((in_base, in_head, path)) = &place else { continue };
                let repository = all.last_mut().unwrap();
                for (tree, there) in [(&mut repository.base, *in_base), (&mut repository.head, *in_head)] {
                    if there && !line.is_empty() {
                        let content = tree.get_mut(path).unwrap();
                        *content += &expand(line);
                        content.push('\n');
                    }
                }
            }
        }
    }
    all
}

/// The same lines as a file of the corpus has them.
fn found(repository: &Repository) -> Vec<String> {
    let mut contents = BTreeMap::new();
    let mut tree = |files: &BTreeMap<String, String>| -> Vec<TreeFile> {
        let kept = files.iter().filter(|(path, _)| is_candidate(path));
        kept.map(|(path, content)| {
            let blob = format!("blob of {content}");
            contents.insert(blob.clone(), content.clone());
            TreeFile { path: path.clone(), blob }
        })
        .collect()
    };
    let (base, head) = (tree(&repository.base), tree(&repository.head));
    let scan = Scan::new(&base, &head);
    let wanted = scan.wanted();
    contents.retain(|blob, _| wanted.contains(blob));
    let differ = scan.finish(&contents);
    let shown = |mark: &'static str, list: &[Migration]| -> Vec<String> {
        list.iter().map(|m| format!("{mark} {} {m}", m.tool)).collect()
    };
    let mut lines = shown(">", &differ.added);
    lines.extend(differ.reversals.iter().map(|r| match (&r.command, r.scripts.as_slice()) {
        (Some(command), _) => format!("< {command}"),
        (None, []) => "< nothing".to_string(),
        (None, scripts) => format!("< {}", scripts.join(" ")),
    }));
    lines.extend(shown("~", &differ.edited));
    lines.extend(shown("x", &differ.removed));
    lines
}

#[test]
fn thirty_repositories_none_missed() {
    let corpus = [
        include_str!("migrations/python.txt"),
        include_str!("migrations/ruby_php_node.txt"),
        include_str!("migrations/sql.txt"),
        include_str!("migrations/decoys.txt"),
    ];
    let repositories: Vec<Repository> = corpus.into_iter().flat_map(read).collect();
    let mut wrong = String::new();
    let (mut missed, mut false_ones) = (0, 0);
    for repository in &repositories {
        let found = found(repository);
        let added =
            |lines: &[String]| -> Vec<String> { lines.iter().filter(|l| l.starts_with("> ")).cloned().collect() };
        let (expected, got) = (added(&repository.expected), added(&found));
        missed += expected.iter().filter(|line| !got.contains(line)).count();
        false_ones += got.iter().filter(|line| !expected.contains(line)).count();
        let told: Vec<String> = found.into_iter().filter(|line| !repository.known_false.contains(line)).collect();
        if told != repository.expected {
            wrong += &format!(
                "\n{}\n  expected\n    {}\n  found\n    {}\n",
                repository.title,
                repository.expected.join("\n    "),
                told.join("\n    ")
            );
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(repositories.len() >= 30, "{} repositories", repositories.len());
    assert_eq!(missed, 0);
    assert!(false_ones <= 2, "{false_ones} false ones");
}
