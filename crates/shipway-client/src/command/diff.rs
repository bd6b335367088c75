//! `shipway diff SOURCE TARGET`, `shipway diff APP FROM TO`.

use super::comparison::{self, Lines, names, number};
use crate::error::Result;
use crate::terminal::{Cell, Tone, age, text};
use crate::{Context, Error};
use serde_json::Value;

/// The flags of `diff`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// SOURCE TARGET (stages or apps, also app@v12 or app@commit): what would change on TARGET if it ran what SOURCE runs.
    /// APP FROM TO (releases or commits): what changed from one to the other
    #[arg(value_names = ["SOURCE", "TARGET"], num_args = 2..=3, required = true)]
    sides: Vec<String>,
    /// The pipeline whose stages are meant
    #[arg(short, long, value_name = "NAME")]
    pipeline: Option<String>,
    /// Print the server's answer as JSON
    #[arg(long)]
    json: bool,
}

/// Commits that are printed of each side.
const SHOWN: usize = 12;

pub async fn run(args: &Args, context: &Context) -> Result<()> {
    let (base, head) = match args.sides.as_slice() {
        [source, target] => (target.clone(), source.clone()),
        [app, from, to] => (format!("{app}@{from}"), format!("{app}@{to}")),
        _ => return Err(Error::new("give two sides: shipway diff staging production, or shipway diff APP v12 v15")),
    };
    let client = context.account().await?.client();
    let path = comparison::path("/shipway/v1/compare", &base, &head, args.pipeline.as_deref());
    let answer = client.get(&path).await?;
    if args.json {
        return context.terminal.json(&answer);
    }
    context.terminal.say(&screen(&answer, context, jiff::Timestamp::now()))
}

fn screen(answer: &Value, context: &Context, now: jiff::Timestamp) -> String {
    let mut lines = Lines::new(context.terminal);
    let (base, head) = (comparison::side(&answer["base"]), comparison::side(&answer["head"]));
    lines.title(&format!("What {head} would change on {base}"));
    if answer["same_artifact"] == Value::Bool(true) {
        lines.row("code", "the same, byte for byte", Tone::Plain);
    }
    for (side, label) in [("head", &head), ("base", &base)] {
        let words = text(&answer[side], &["beside", "words"]);
        if !words.is_empty() {
            lines.quiet("upstream", &format!("{label}: {words}"));
        }
    }
    if let Some(commits) = answer["commits"].as_object() {
        let commits = Value::Object(commits.clone());
        list(&mut lines, "commits", &commits, "ahead", "would come", now);
        list(&mut lines, "taken away", &commits, "behind", "would go", now);
        let authors = comparison::items(&commits["authors"]);
        let authors = authors.iter().map(|a| format!("{} {}", text(a, &["name"]), number(a, "commits")));
        lines.words("authors", authors.collect());
        let requests = comparison::items(&commits["pull_requests"]);
        let requests = requests.iter().map(|p| format!("#{} {}", number(p, "number"), text(p, &["title"])));
        lines.each("pull requests", requests.collect());
    }
    size(&mut lines, &answer["size"]);
    migrations(&mut lines, &answer["migrations"]);
    comparison::config(&mut lines, &answer["config"]);
    let baked = names(&answer["config"]["baked"]);
    if !baked.is_empty() {
        let told = format!(
            "{}: builds write these into what they make; {base} would get the values of {head}",
            baked.join(", ")
        );
        lines.row("baked in", &told, Tone::Accent);
    }
    for (label, key) in [
        ("processes", "processes"),
        ("formation", "formation"),
        ("build", "build"),
        ("add-ons", "addons"),
        ("schedules", "schedules"),
    ] {
        lines.changes(label, &answer[key]);
    }
    lines.words("see", text(answer, &["url"]).split_whitespace().map(String::from).collect());
    lines.each("unknown", names(&answer["unknown"]));
    lines.end("Nothing would change.")
}

fn list(lines: &mut Lines, label: &str, commits: &Value, side: &str, verb: &str, now: jiff::Timestamp) {
    let count = commits[format!("{side}_count")].as_u64().unwrap_or(0);
    if count == 0 {
        return;
    }
    lines.row(label, &format!("{count} {verb}"), if side == "behind" { Tone::Accent } else { Tone::Plain });
    let all = comparison::items(&commits[side]);
    let rows = all.iter().take(SHOWN).map(|commit| {
        vec![
            Cell::new(text(commit, &["id"]).chars().take(7).collect::<String>(), Tone::Quiet),
            text(commit, &["subject"]).into(),
            Cell::new(text(commit, &["author"]), Tone::Quiet),
            Cell::new(age(&text(commit, &["committed_at"]), now), Tone::Quiet),
        ]
    });
    lines.table(rows.collect());
    let shown = all.len().min(SHOWN) as u64;
    if count > shown {
        lines.row("", &format!("and {} more", count - shown), Tone::Quiet);
    }
}

fn size(lines: &mut Lines, size: &Value) {
    let said = |of: &Value| {
        let (files, added, removed) = (number(of, "files"), number(of, "added"), number(of, "removed"));
        format!("{files} file{}, +{added} -{removed}", if files == 1 { "" } else { "s" })
    };
    if size.is_null() || (number(size, "files"), number(size, "commits")) == (0, 0) {
        return;
    }
    let (told, tone) = match text(&size["usual"], &["verdict"]).as_str() {
        "" => (said(size), Tone::Plain),
        verdict => {
            let beside = match verdict {
                "large" => "larger than usual",
                "small" => "smaller than usual",
                _ => "as usual",
            };
            let tone = if verdict == "large" { Tone::Accent } else { Tone::Plain };
            (format!("{}: {beside} ({})", said(size), said(&size["usual"])), tone)
        }
    };
    lines.row("size", &told, tone);
}

fn migrations(lines: &mut Lines, migrations: &Value) {
    if migrations.is_null() {
        return;
    }
    let named = |key: &str| -> Vec<String> {
        let all = comparison::items(&migrations[key]);
        let name = |m: &&Value| {
            let scope = text(m, &["scope"]);
            let dot = if scope.is_empty() { "" } else { "." };
            format!("{scope}{dot}{} ({})", text(m, &["name"]), text(m, &["tool"]))
        };
        all.iter().map(name).collect()
    };
    match named("added") {
        none if none.is_empty() => lines.quiet("migrations", "none"),
        added => lines.each("migrations", added),
    }
    lines.each("  taken away", named("removed"));
    lines.each("  edited", named("edited"));
}
