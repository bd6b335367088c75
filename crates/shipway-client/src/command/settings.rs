//! `shipway settings [NAME=VALUE …]`.

use super::{App, table};
use crate::Context;
use crate::error::{Error, Result};
use crate::terminal::{Cell, Tone, printable};
use http::Method;
use serde_json::{Map, Value, json};

/// The flags of `settings`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What is to be otherwise, such as health_check_path=/health; with nothing after the = it is as usual again
    #[arg(value_name = "NAME=VALUE")]
    changes: Vec<String>,
    #[command(flatten)]
    app: App,
    /// Print the server's answer as JSON
    #[arg(long)]
    json: bool,
}

/// The settings that are a text, and those that are true or false.
const TEXTS: [&str; 2] = ["health_check_path", "health_check_status"];
const FLAGS: [&str; 2] = ["release_phase_last", "store_other_branches"];
/// What the names of settings of a process type begin with.
const OVERLAP: &str = "overlap.";

pub async fn run(args: &Args, context: &Context) -> Result<()> {
    let change = change(&args.changes)?;
    let account = context.account().await?;
    let app = args.app.resolve(context, &account)?;
    let path = format!("/shipway/v1/apps/{app}/settings");
    let client = account.client();
    let answer = match args.changes.is_empty() {
        true => client.get(&path).await?,
        false => client.send(Method::PATCH, &path, Some(&change)).await?.success()?,
    };
    if args.json {
        return context.terminal.json(&answer);
    }
    table(context.terminal, &["SETTING", "VALUE", "MEANS"], rows(&answer), "")
}

/// The body that asks for the changes. Errors: what is no setting, with those that there are; a value that it cannot have.
fn change(changes: &[String]) -> Result<Value> {
    let (mut body, mut overlap) = (Map::new(), Map::new());
    for given in changes {
        let Some((name, value)) = given.split_once('=') else {
            let given = printable(given);
            let error = Error::new(format!("\"{given}\" is not NAME=VALUE"));
            return Err(error
                .hint(format!("where it is the app: shipway settings -a {given}"))
                .hint("to change one: shipway settings health_check_path=/health -a APP"));
        };
        if let Some(process_type) = name.strip_prefix(OVERLAP) {
            let value = if value.is_empty() { Value::Null } else { flag(name, value)? };
            overlap.insert(process_type.to_owned(), value);
        } else if TEXTS.contains(&name) {
            body.insert(name.to_owned(), value.into());
        } else if FLAGS.contains(&name) {
            let value = if value.is_empty() { json!(false) } else { flag(name, value)? };
            body.insert(name.to_owned(), value);
        } else {
            let all = [&TEXTS[..], &["overlap.TYPE"], &FLAGS].concat().join(", ");
            let name = printable(name);
            return Err(Error::new(format!("there is no setting \"{name}\"")).hint(format!("there are {all}")));
        }
    }
    if !overlap.is_empty() {
        body.insert("overlap".into(), overlap.into());
    }
    Ok(body.into())
}

fn flag(name: &str, value: &str) -> Result<Value> {
    match value {
        "true" => Ok(json!(true)),
        "false" => Ok(json!(false)),
        _ => Err(Error::new(format!("{} is true or false, not \"{}\"", printable(name), printable(value)))),
    }
}

/// Every setting with its value and what comes of it.
fn rows(settings: &Value) -> Vec<Vec<Cell>> {
    let text = |name: &str| settings[name].as_str().unwrap_or_default();
    let is = |name: &str| settings[name].as_bool().unwrap_or(false);
    let (path, status) = (text("health_check_path"), text("health_check_status"));
    let path_means = match path {
        "" => {
            "a new web dyno is asked what healthchecks in app.json say; without, it is healthy when it listens on $PORT"
                .to_owned()
        }
        path => format!("a new web dyno is healthy when it answers GET {path}"),
    };
    let status_means = match status {
        "" => "an answer counts when app.json says so; without, any below 500".to_owned(),
        status => format!("only an answer of {status} counts"),
    };
    let mut rows = vec![row(TEXTS[0], path, &path_means), row(TEXTS[1], status, &status_means)];
    for (process_type, value) in settings["overlap"].as_object().into_iter().flatten() {
        let means = match value.as_bool().unwrap_or(false) {
            true => format!("new {process_type} dynos are up before the old ones go"),
            false => format!("old {process_type} dynos go before new ones start"),
        };
        rows.push(row(&format!("{OVERLAP}{process_type}"), &value.to_string(), &means));
    }
    if settings["overlap"].as_object().is_none_or(Map::is_empty) {
        let means = "new web dynos are up before the old ones go, those of other types start after them";
        rows.push(row("overlap.TYPE", "", means));
    }
    let phase = match is(FLAGS[0]) {
        true => "the release phase runs when the new dynos are healthy, before traffic moves",
        false => "the release phase runs before any new dyno starts",
    };
    let branches = match is(FLAGS[1]) {
        true => "pushes of branches other than main and master are kept and not deployed",
        false => "pushes of branches other than main and master are refused",
    };
    rows.extend([row(FLAGS[0], &is(FLAGS[0]).to_string(), phase), row(FLAGS[1], &is(FLAGS[1]).to_string(), branches)]);
    rows
}

fn row(name: &str, value: &str, means: &str) -> Vec<Cell> {
    let value = if value.is_empty() { "-" } else { value };
    vec![name.into(), value.into(), Cell::new(means, Tone::Quiet)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_as_people_type_them() {
        let check = |given: &[&str], expected: std::result::Result<Value, &str>| {
            let given: Vec<String> = given.iter().map(ToString::to_string).collect();
            assert_eq!(change(&given).map_err(|e| e.to_string()), expected.map_err(String::from), "{given:?}");
        };
        check(&[], Ok(json!({})));
        check(
            &[
                "health_check_path=/up?a=b",
                "health_check_status=",
                "overlap.worker=true",
                "overlap.web=",
                "release_phase_last=",
            ],
            Ok(json!({
                "health_check_path": "/up?a=b", "health_check_status": "", "release_phase_last": false,
                "overlap": { "worker": true, "web": null },
            })),
        );
        check(&["overlap=true"], Err("there is no setting \"overlap\""));
        check(&["colour=red"], Err("there is no setting \"colour\""));
        check(&["release_phase_last"], Err("\"release_phase_last\" is not NAME=VALUE"));
        check(&["release_phase_last=yes"], Err("release_phase_last is true or false, not \"yes\""));
        check(&["overlap.worker=1"], Err("overlap.worker is true or false, not \"1\""));
    }
}
