//! `shipway reviewapps set`: how a pipeline's review apps are made.

use super::pipelines::yes;
use super::{items, segment};
use crate::Context;
use crate::error::Result;
use crate::http::Client;
use crate::terminal::{Cell, Tone, name_of, text};
use http::Method;
use serde_json::{Value, json};

/// The flags of `reviewapps set`. What is not named stays; without any the settings are shown.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pipeline: Which,
    /// How many there may be at once
    #[arg(long, value_name = "N")]
    quota: Option<u32>,
    /// Whether a pull request gets one by itself
    #[arg(long, value_name = "YES|NO", value_parser = yes)]
    autodeploy: Option<bool>,
    /// Whether one is removed that was not deployed to for so many days
    #[arg(long, value_name = "YES|NO", value_parser = yes)]
    autodestroy: Option<bool>,
    /// After how many days it is removed
    #[arg(long, value_name = "N")]
    stale_days: Option<u32>,
    /// Whether a commit waits until its checks have passed
    #[arg(long, value_name = "YES|NO", value_parser = yes)]
    wait_for_ci: Option<bool>,
    /// What their names begin with, instead of the pipeline's; '' goes back to that
    #[arg(long, value_name = "NAME")]
    base_name: Option<String>,
    /// The app whose config vars they begin with and whose branches they are for; '' goes back to the first of staging
    #[arg(long, value_name = "APP")]
    parent_app: Option<String>,
    /// Inherit only these config vars of the parent
    #[arg(long, value_name = "KEYS", value_delimiter = ',', conflicts_with = "inherit_all")]
    inherit_allow: Option<Vec<String>>,
    /// Inherit all config vars of the parent, but for what leads to its data
    #[arg(long)]
    inherit_all: bool,
    /// Do not inherit these config vars; '' takes the list away
    #[arg(long, value_name = "KEYS", value_delimiter = ',')]
    inherit_deny: Option<Vec<String>>,
    /// Whether a fork's pull request stays allowed when it gets another commit
    #[arg(long, value_name = "YES|NO", value_parser = yes)]
    keep_fork_permission: Option<bool>,
    /// Whether add-ons of an app.json that are not here are left out, instead of refused
    #[arg(long, value_name = "YES|NO", value_parser = yes)]
    without_addons: Option<bool>,
    /// Print the server's answer as JSON
    #[arg(long)]
    json: bool,
}

/// The pipeline, by itself or as the other commands of review apps take it.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Which {
    /// The pipeline
    #[arg(value_name = "PIPELINE")]
    positional: Option<String>,
    /// The same
    #[arg(short, long, value_name = "NAME")]
    pipeline: Option<String>,
}

/// Changes what was named, and shows the settings.
pub async fn run(args: &Args, client: &Client, context: &Context) -> Result<()> {
    let pipeline = args.pipeline.positional.as_ref().or(args.pipeline.pipeline.as_ref()).map_or("", String::as_str);
    let path = format!("/pipelines/{}/review-app-config", segment("pipeline", pipeline)?);
    // A change by itself would enable review apps.
    let before = client.get(&path).await?;
    let change = change(args);
    let answer = match change.as_object().is_some_and(serde_json::Map::is_empty) {
        true => before,
        false => client.send(Method::PATCH, &path, Some(&change)).await?.success()?,
    };
    if args.json {
        return context.terminal.json(&answer);
    }
    context.terminal.say(&context.terminal.columns(&rows(&answer)))
}

/// What is to change, as the API takes it: an empty name or parent goes back to what there is without one.
fn change(args: &Args) -> Value {
    let plain = |keys: &Vec<String>| -> Vec<String> {
        keys.iter().map(|key| key.trim().to_string()).filter(|key| !key.is_empty()).collect()
    };
    let mut inherit = serde_json::Map::new();
    if args.inherit_allow.is_some() || args.inherit_all {
        inherit.insert("allow".into(), json!(args.inherit_allow.as_ref().map(plain)));
    }
    if let Some(keys) = &args.inherit_deny {
        inherit.insert("deny".into(), json!(plain(keys)));
    }
    let inherit = Some(inherit).filter(|inherit| !inherit.is_empty());
    let all = [
        ("quota", json!(args.quota)),
        ("automatic_review_apps", json!(args.autodeploy)),
        ("destroy_stale_apps", json!(args.autodestroy)),
        ("stale_days", json!(args.stale_days)),
        ("wait_for_ci", json!(args.wait_for_ci)),
        ("base_name", json!(args.base_name)),
        ("parent_app", json!(args.parent_app)),
        ("inherit", json!(inherit)),
        ("keep_fork_permission", json!(args.keep_fork_permission)),
        ("without_addons", json!(args.without_addons)),
    ];
    let named = all.into_iter().filter(|(_, value)| !value.is_null());
    named.map(|(name, value)| (name.to_string(), value)).collect()
}

fn rows(answer: &Value) -> Vec<Vec<Cell>> {
    let on = |name: &str| answer[name].as_bool().unwrap_or(false);
    let either = |name: &str, yes: &str, no: &str| if on(name) { yes.to_string() } else { no.to_string() };
    let or = |value: String, without: &str| if value.is_empty() { without.to_string() } else { value };
    let keys = |name: &str| {
        let all: Vec<&str> = items(&answer["inherit"][name]).into_iter().filter_map(Value::as_str).collect();
        all.join(", ")
    };
    let (allow, deny) = (keys("allow"), keys("deny"));
    let inherited = match (answer["inherit"]["allow"].is_array(), allow.is_empty()) {
        (true, true) => "nothing".to_string(),
        (true, false) => allow,
        (false, _) => "all but what leads to the parent's data".to_string(),
    };
    let inherited = if deny.is_empty() { inherited } else { format!("{inherited}; never {deny}") };
    let days = format!("removed after {} days without a deploy", text(answer, &["stale_days"]));
    [
        ("quota", text(answer, &["quota"])),
        ("pull requests", either("automatic_review_apps", "get one by themselves", "get one when somebody asks")),
        ("stale", if on("destroy_stale_apps") { days } else { "they stay".into() }),
        ("CI", either("wait_for_ci", "waited for", "not waited for")),
        ("names begin with", or(text(answer, &["base_name"]), "the pipeline's name")),
        ("parent", or(name_of(answer, "parent_app"), "the first app of staging, else of development")),
        ("inherited", inherited),
        (
            "forks",
            either("keep_fork_permission", "stay allowed with their next commit", "are allowed commit by commit"),
        ),
        ("other add-ons", either("without_addons", "left out", "refused")),
        ("password", either("password", "asked for", "none")),
    ]
    .into_iter()
    .map(|(name, value)| vec![Cell::new(name, Tone::Quiet), value.into()])
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn what_is_not_named_stays() {
        let check = |line: &str, expected: Value| {
            let words = ["set"].into_iter().chain(line.split(' ').map(|word| if word == "''" { "" } else { word }));
            assert_eq!(change(&Line::try_parse_from(words).unwrap().args), expected, "{line}");
        };
        check("shop", json!({}));
        check("-p shop --quota 3 --autodestroy yes", json!({ "quota": 3, "destroy_stale_apps": true }));
        check("shop --without-addons false", json!({ "without_addons": false }));
        check("shop --inherit-deny C,D", json!({ "inherit": { "deny": ["C", "D"] } }));
        check("shop --inherit-deny ''", json!({ "inherit": { "deny": [] } }));
        check("shop --inherit-all", json!({ "inherit": { "allow": null } }));
        check("shop --inherit-allow C", json!({ "inherit": { "allow": ["C"] } }));
        check("shop --base-name '' --parent-app ''", json!({ "base_name": "", "parent_app": "" }));
        for wrong in ["", "shop -p shop", "shop --inherit-all --inherit-allow A", "shop --quota -1"] {
            let words = ["set"].into_iter().chain(wrong.split_whitespace());
            assert!(Line::try_parse_from(words).is_err(), "{wrong}");
        }
    }

    #[test]
    fn settings_are_said_in_words() {
        let answer = json!({
            "quota": 3, "destroy_stale_apps": true, "stale_days": 5, "parent_app": { "name": "shop-staging" },
            "inherit": { "allow": null, "deny": ["A", "B"] }, "base_name": null,
        });
        let said = crate::terminal::Terminal::plain().columns(&rows(&answer));
        for line in [
            "quota             3",
            "stale             removed after 5 days without a deploy",
            "names begin with  the pipeline's name",
            "parent            shop-staging",
            "inherited         all but what leads to the parent's data; never A, B",
            "other add-ons     refused",
        ] {
            assert!(said.lines().any(|said| said == line), "{line}\n{said}");
        }
    }
}
