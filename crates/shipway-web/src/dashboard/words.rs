//! Operations, steps and entries of the ledger in the words of the pages.

use serde_json::Value;
use shipway_dashboard::model::{Event, Mark, Mention, StepRow, StepState};
use shipway_dashboard::path;
use shipway_domain::AppId;
use shipway_domain::admission::Trigger;
use shipway_engine::{BUILD_AGAIN, Plan, StepView};
use shipway_store::{LedgerEntry, Operation};
use std::collections::HashMap;

/// What an operation is: "Deploy 3f9c2a1", "Set FOO config vars", "Restart web.1".
pub(super) fn title(operation: &Operation) -> String {
    let Ok(plan) = serde_json::from_value::<Plan>(operation.plan.clone()) else { return operation.kind.clone() };
    let apps = plan.parts.len();
    let Some(part) = plan.parts.into_iter().next() else { return operation.kind.clone() };
    if part.destroy {
        return "Destroy".into();
    }
    if let Some(build) = &part.build {
        return format!("Deploy {}", build.commit.short());
    }
    if apps > 1 {
        return format!("Promote {apps} apps");
    }
    if let Some(release) = part.release {
        return release.description;
    }
    let restart = part.restart.and_then(|restart| restart.dyno.or(restart.process_type.map(|kind| kind.to_string())));
    format!("Restart {}", restart.as_deref().unwrap_or("all dynos"))
}

/// By which road something came.
pub(super) fn road(via: &str) -> String {
    match via {
        "git" => "git push",
        "api" => "API",
        "dashboard" => "dashboard",
        _ => "Shipway",
    }
    .into()
}

/// What a step does; of one of several apps, with the app's name.
fn step_title(title: &str) -> String {
    let (name, app) = title.split_once(' ').unwrap_or((title, ""));
    let what = match name {
        "create" => "Make the app",
        "carry" => "Bring the commit",
        "fetch" => "Fetch the commit",
        "setup" => "Set up what app.json says",
        "pin" => "Receive the commit",
        "build" => "Build",
        "release" => "Write the release down",
        "external" => "Step elsewhere",
        "release-phase" => "Release phase",
        "start" => "Start new dynos",
        "healthy" => "Wait until they are healthy",
        "switch" => "Switch",
        "route" => "Route requests to them",
        "settle" => "Move the branch",
        "postdeploy" => "Run the postdeploy script",
        "predestroy" => "Run the script before the end",
        "close" => "Close the routes",
        "stop-all" => "Stop its dynos",
        "erase" => "Erase its data",
        "provision" => "Make the add-on",
        "attach" => "Attach it",
        "detach" => "Detach it",
        "deprovision" => "Remove the add-on",
        "transfer" => "Move the data",
        other => other,
    };
    if app.is_empty() { what.into() } else { format!("{app}: {what}") }
}

/// What goes on while a step is at work; of one of several apps, with the app's name.
fn doing(title: &str) -> String {
    let (name, app) = title.split_once(' ').unwrap_or((title, ""));
    let what = match name {
        "create" => "Making the app",
        "carry" => "Bringing the commit",
        "fetch" => "Fetching the commit",
        "setup" => "Setting up what app.json says",
        "pin" => "Receiving the commit",
        "build" => "Building",
        "release" => "Writing the release down",
        "external" => "Running a step elsewhere",
        "release-phase" => "Running the release phase",
        "start" => "Starting new dynos",
        "healthy" => "Waiting until the new dynos are healthy",
        "switch" => "Switching",
        "route" => "Routing requests to the new dynos",
        "settle" => "Moving the branch",
        "postdeploy" => "Running the postdeploy script",
        "predestroy" => "Running the script before the end",
        "close" => "Closing the routes",
        "stop-all" => "Stopping its dynos",
        "erase" => "Erasing its data",
        "provision" => "Making the add-on",
        "attach" => "Attaching the add-on",
        "detach" => "Detaching the add-on",
        "deprovision" => "Removing the add-on",
        "transfer" => "Moving the data",
        other => other,
    };
    if app.is_empty() { what.into() } else { format!("{app}: {what}") }
}

/// What the step that is at work does.
pub(super) fn at_work(steps: &[StepView]) -> Option<String> {
    crate::own::at_step(steps).map(doing)
}

/// The title of the step that failed.
pub(super) fn failed_step(steps: &[StepView]) -> Option<String> {
    crate::own::at_step(steps).map(step_title)
}

/// What to do about an operation that failed; of an app that was `left` as it was, nothing.
pub(super) fn next(operation: &Operation, steps: &[StepView], left: bool) -> String {
    let plan = serde_json::from_value::<Plan>(operation.plan.clone()).ok();
    let again = match plan.map(|plan| plan.trigger) {
        Some(Trigger::Push | Trigger::Build) => "push again",
        Some(Trigger::Promotion) => "promote again",
        Some(Trigger::Rollback) => "go back again, or to another release",
        _ => "try again",
    };
    if left {
        return format!("Nothing is to be done here. Mend what is named and {again}.");
    }
    let step = crate::own::at_step(steps).and_then(|title| title.split(' ').next());
    if operation.error.as_ref().is_some_and(|error| error.contains(BUILD_AGAIN)) {
        return format!("Build it again as the reason says, and {again}.");
    }
    match step {
        Some("build") => format!("Change what the build names and {again}."),
        Some("release-phase") => {
            format!("Mend what the command says and {again}. What it did to the database stays.")
        }
        Some("start" | "healthy") => format!("Read in the logs what its dynos wrote, mend it and {again}."),
        _ => format!("Change what the reason names and {again}."),
    }
}

/// Of an operation that is under way: the step that is at work and those that follow, as many as a card has room for.
pub(super) fn ahead(steps: Vec<StepRow>) -> Vec<StepRow> {
    const ROOM: usize = 3;
    let passed = |step: &StepRow| matches!(step.state, StepState::Done | StepState::Skipped);
    let to_come = steps.iter().rposition(passed).map_or(0, |last| last + 1);
    // All done but the end of it: the last one stands there.
    let from = to_come.min(steps.len().saturating_sub(1));
    steps.into_iter().skip(from).take(ROOM).collect()
}

/// Steps as rows; of an operation that is over, those that never began were not needed.
pub(super) fn rows(steps: &[StepView], over: bool) -> Vec<StepRow> {
    let row = |step: &StepView| {
        let took = step.started_at.zip(step.ended_at).map(|(start, end)| end.duration_since(start).as_millis());
        StepRow {
            title: step_title(&step.title),
            state: match step.state {
                "running" => StepState::Running,
                "succeeded" => StepState::Done,
                "failed" => StepState::Failed,
                "undone" => StepState::Undone,
                _ if over => StepState::Skipped,
                _ => StepState::Next,
            },
            since: step.started_at.filter(|_| step.state == "running"),
            took_ms: took.map(|ms| u64::try_from(ms).unwrap_or(0)),
            detail: step.error.as_deref().and_then(|error| error.lines().next()).map(str::to_string),
        }
    };
    steps.iter().map(row).collect()
}

/// Where the app's name stands in a sentence that does not end with it.
const APP: &str = "{app}";

/// What was done, as the rest of a sentence that begins with who did it.
fn what(entry: &LedgerEntry) -> String {
    let text = |key: &str| entry.detail.get(key).and_then(Value::as_str).unwrap_or_default();
    let number = |key: &str| entry.detail.get(key).and_then(Value::as_u64).unwrap_or_default();
    let list = |key: &str| match entry.detail.get(key) {
        Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", "),
        Some(Value::Object(items)) => items.keys().cloned().collect::<Vec<_>>().join(", "),
        _ => String::new(),
    };
    let commit: String = text("commit").chars().take(7).collect();
    match entry.action.as_str() {
        "deploy" => format!("deployed {commit} as v{}", number("release")),
        "release" | "promotion" | "setup" => format!("released v{}: {}", number("release"), text("description")),
        "deploy-failed" => "failed to deploy".into(),
        "release-failed" => "failed to release".into(),
        "restart-failed" => "failed to restart".into(),
        "destroy-failed" => "failed to destroy {app}".into(),
        "promotion-failed" => "failed to promote to {app}".into(),
        "setup-failed" => "failed to set {app} up".into(),
        "left" => "left {app} as it was".into(),
        "deploy-unneeded" => format!("pushed {commit}, which v{} runs already", number("release")),
        "config" => match (list("set"), list("unset")) {
            (set, unset) if unset.is_empty() => format!("set {set}"),
            (set, unset) if set.is_empty() => format!("removed {unset}"),
            (set, unset) => format!("set {set} and removed {unset}"),
        },
        "config-revealed" if text("name").is_empty() => "looked at the values of all config vars".into(),
        "config-revealed" => format!("looked at the value of {}", text("name")),
        "scale" => format!("scaled to {}", list("to")),
        "restart" => "restarted dynos".into(),
        "stop" => "stopped dynos".into(),
        "run" => format!("ran `{}` in {}", text("command"), text("dyno")),
        "refused" => format!("was refused: {}", text("trigger")),
        "app-created" => "made {app}".into(),
        "app-changed" => match (text("name"), entry.detail.get("maintenance").and_then(Value::as_bool)) {
            ("", Some(on)) => format!("turned the maintenance mode of {APP} {}", if on { "on" } else { "off" }),
            ("", None) => "changed the settings of {app}".into(),
            (name, _) => format!("renamed {APP} to {name}"),
        },
        "app-destroyed" => "destroyed {app}".into(),
        "collaborator-added" => format!("gave access to {}", text("email")),
        "collaborator-removed" => format!("took access from {}", text("email")),
        "domain-added" => format!("added the domain {}", text("hostname")),
        "domain-removed" => format!("removed the domain {}", text("hostname")),
        "name-taken" => format!("took the name {} for the platform", text("hostname")),
        "buildpacks-set" => format!("set the buildpacks: {}", list("buildpacks")),
        "pipeline-app-added" => format!("put {APP} into {} of the pipeline {}", text("stage"), text("pipeline")),
        "pipeline-app-moved" if text("from") == text("to") => {
            let name = Some(text("display_name")).filter(|name| !name.is_empty());
            format!("calls {APP} {} in the pipeline {}", name.unwrap_or("by its name"), text("pipeline"))
        }
        "pipeline-app-moved" => format!("moved {APP} to {} of the pipeline {}", text("to"), text("pipeline")),
        "pipeline-app-removed" => format!("took {APP} out of the pipeline {}", text("pipeline")),
        "pipeline-created" => format!("made the pipeline {}", text("pipeline")),
        "pipeline-changed" => match text("name") {
            "" => format!("changed the settings of the pipeline {}", text("pipeline")),
            name => format!("renamed the pipeline {} to {name}", text("pipeline")),
        },
        "pipeline-transferred" => format!("gave the pipeline {} to {}", text("pipeline"), text("to")),
        "pipeline-destroyed" => format!("ended the pipeline {}", text("pipeline")),
        "stage-config" => {
            format!("set config vars of {} in the pipeline {}: {}", text("stage"), text("pipeline"), list("names"))
        }
        "product-created" => format!("made the product {}", text("product")),
        "product-destroyed" => format!("ended the product {}", text("product")),
        "product-steps" => format!("set the steps of the product {}", text("product")),
        "product-pipelines" => format!("set the pipelines of the product {}", text("product")),
        "promotion-asked" => format!("promoted {}", text("from")),
        "external-undo-failed" => format!("could not take the step {} back", text("step")),
        "review-apps-configured" => format!("set how the pipeline {} makes review apps", text("pipeline")),
        "review-apps-disabled" => format!("disabled review apps of the pipeline {}", text("pipeline")),
        "review-apps-password" => format!("changed the password of review apps of the pipeline {}", text("pipeline")),
        "fork-allowed" => format!("allowed the fork's pull request #{} once, at {commit}", number("pull_request")),
        "upstream-set" => format!("set the upstream of the pipeline {}: {}", text("pipeline"), text("branch")),
        "upstream-unset" => format!("forgot the upstream of the pipeline {}", text("pipeline")),
        "upstream-pushed" => format!("pushed {} to the upstream of the pipeline {}", text("branch"), text("pipeline")),
        "team-created" => format!("made the team {}", text("team")),
        "team-renamed" => format!("renamed the team {} to {}", text("team"), text("name")),
        "team-destroyed" => format!("ended the team {}", text("team")),
        "team-member-set" => format!("made {} {} of the team {}", text("email"), text("role"), text("team")),
        "team-member-removed" => format!("took {} out of the team {}", text("email"), text("team")),
        "app-offered" => format!("offered {APP} to {}", text("to")),
        "app-offer-withdrawn" => format!("took the offer of {APP} to {} back", text("to")),
        "app-declined" => "did not take {app}".into(),
        "app-transferred" => format!("gave {APP} from {} to {}", text("from"), text("to")),
        "app-locked" => "locked {app}".into(),
        "app-unlocked" => "unlocked {app}".into(),
        "access-asked" => "asked for access to {app}".into(),
        "access-declined" => format!("declined access to {}", text("email")),
        "addon-created" => format!("made the add-on {}", text("addon")),
        "addon-destroyed" => format!("destroyed the add-on {}", text("addon")),
        "addon-renamed" => format!("renamed the add-on {} to {}", text("addon"), text("name")),
        "addon-attached" => format!("attached {} as {}", text("addon"), text("attachment")),
        "addon-detached" => format!("detached {}, which was {}", text("addon"), text("attachment")),
        "addon-reset" => format!("emptied {}", text("addon")),
        "addon-connections-reset" => format!("ended all connections to {}", text("addon")),
        "tunnel-opened" => format!("opened a tunnel to {}", text("addon")),
        "addon-failed" => "failed to change an add-on".into(),
        "backup" => format!("backed {} up", text("addon")),
        "restore" => format!("restored a backup into {}", text("addon")),
        "copied-from" => format!("copied the data of {}", text("addon")),
        "copied-to" => format!("copied data into {}", text("addon")),
        "transfer-failed" => "failed to move data".into(),
        "transfer-deleted" => format!("deleted {}", text("transfer")),
        "backup-url" => format!("asked for the address of {}", text("transfer")),
        "deploy-triggered" => format!("deployed {commit} by a trigger"),
        "trigger-added" => format!("set a trigger for {}", text("pattern")),
        "trigger-removed" => format!("removed the trigger for {}", text("pattern")),
        "deployment-recorded" => format!("recorded a deployment to {}", text("environment")),
        "deployment-status" => format!("set a deployment's status to {}", text("state")),
        "app-reserved" => "reserved {app}".into(),
        "app-unreserved" => "ended the reservation of {app}".into(),
        "sign-offs-required" => match list("parties") {
            none if none.is_empty() => format!("set that {} of {} wants no sign-offs", text("stage"), text("pipeline")),
            parties => format!("set whose sign-offs {} of {} wants: {parties}", text("stage"), text("pipeline")),
        },
        "signed-off" => {
            format!("signed {commit} off for {} of {}, as {}", text("stage"), text("pipeline"), text("party"))
        }
        "sign-off-withdrawn" => {
            format!(
                "took the sign-off of {commit} for {} of {} back, as {}",
                text("stage"),
                text("pipeline"),
                text("party")
            )
        }
        "forge-connected" => format!("connected the pipeline {} to {}", text("pipeline"), text("repository")),
        "forge-disconnected" => format!("ended the connection of the pipeline {}", text("pipeline")),
        "forge-redelivered" => format!("had a webhook of the pipeline {} carried out again", text("pipeline")),
        "webhook-added" => format!("added a webhook for {}", list("include")),
        "webhook-changed" => "changed a webhook".into(),
        "webhook-removed" => "removed a webhook".into(),
        "build-cache-purged" => "purged the build cache".into(),
        "account-added" | "invited" => format!("added the user {}", text("email")),
        "account-removed" if text("given_to").is_empty() => format!("removed the user {}", text("email")),
        "account-removed" => {
            format!("removed the user {}, and gave what was theirs to {}", text("email"), text("given_to"))
        }
        "account-changed" => "changed their account".into(),
        "token-made" => format!("made a token: {}", text("description")),
        "token-given" => format!("gave {} a new token", text("email")),
        "token-revoked" => "ended a token".into(),
        other => other.replace('-', " "),
    }
}

/// An entry of the ledger as a sentence. A page that shows more than one app gives the names that they have now: what was
/// done is said of the name of then, which leads to the app as long as there is one.
pub(super) fn event(entry: &LedgerEntry, now: Option<&HashMap<AppId, String>>) -> Event {
    let text = |key: &str| entry.detail.get(key).and_then(Value::as_str).unwrap_or_default();
    let (what, app) = match (what(entry), now.zip(entry.app_name.clone())) {
        (what, None) => (what.replace(APP, "the app"), None),
        (what, Some((now, name))) => {
            let (before, rest) = what.split_once(APP).unwrap_or((&what, ""));
            let joint = if what.contains(APP) { " " } else { " on " };
            let now = entry.app.and_then(|app| now.get(&app).cloned());
            (before.trim_end().to_string(), Some(Mention { joint: joint.into(), name, now, rest: rest.into() }))
        }
    };
    let failed = entry.action.ends_with("-failed") || entry.action == "refused";
    let why = [text("error"), text("because")].into_iter().find_map(|why| why.lines().next()).map(str::to_string);
    let operation = text("operation");
    Event {
        at: entry.at,
        who: if entry.actor == "platform" { "Shipway".into() } else { entry.actor.clone() },
        what,
        app,
        road: road(&entry.via),
        why,
        mark: if failed { Mark::Bad } else { Mark::Quiet },
        link: (!operation.is_empty()).then(|| path("operation", &[operation])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use regex::Regex;
    use serde_json::json;

    /// What is between quotes after one of the ways in which the engine writes an entry.
    const WRITTEN: [&str; 4] = [
        r#"\.entry\(\s*[^,;"]+,\s*[^,;"]+,\s*"([a-z-]+)""#,
        r#"\.(?:keep_pipeline|change_data|transfer_entry)\([^;"]*?"([a-z-]+)""#,
        r#"let action = [^;]*?\{ "([a-z-]+)" \} else"#,
        r#"let action = [^;]*?else \{ "([a-z-]+)" \}"#,
    ];

    fn entry(action: &str) -> LedgerEntry {
        LedgerEntry {
            id: shipway_domain::LedgerId(uuid::Uuid::nil()),
            at: jiff::Timestamp::UNIX_EPOCH,
            actor: "ida@example.org".into(),
            via: "api".into(),
            app: None,
            app_name: None,
            action: action.into(),
            detail: Value::Null,
        }
    }

    #[test]
    fn entries_are_sentences_about_an_app() {
        let app = AppId(uuid::Uuid::from_u128(7));
        let now = HashMap::from([(app, "oak".to_string())]);
        let check = |action: &str, detail: Value, on_a_page_of_all: &str, on_its_own: &str| {
            let of = LedgerEntry { app: Some(app), app_name: Some("acorn".into()), detail, ..entry(action) };
            let said = event(&of, Some(&now));
            let mention = said.app.unwrap();
            assert_eq!(format!("{}{}{}{}", said.what, mention.joint, mention.name, mention.rest), on_a_page_of_all);
            assert_eq!(mention.now.as_deref(), Some("oak"), "it leads to the name of now");
            assert_eq!(event(&of, None).what, on_its_own);
        };
        let scaled = json!({ "to": ["web@2:Basic", "worker@1:Basic"] });
        check(
            "scale",
            scaled,
            "scaled to web@2:Basic, worker@1:Basic on acorn",
            "scaled to web@2:Basic, worker@1:Basic",
        );
        check("app-created", Value::Null, "made acorn", "made the app");
        let renamed = json!({ "name": "oak", "maintenance": null });
        check("app-changed", renamed, "renamed acorn to oak", "renamed the app to oak");
        let on = json!({ "name": null, "maintenance": true });
        check(
            "app-changed",
            on,
            "turned the maintenance mode of acorn on",
            "turned the maintenance mode of the app on",
        );
        let put = json!({ "stage": "staging", "pipeline": "shop" });
        check(
            "pipeline-app-added",
            put,
            "put acorn into staging of the pipeline shop",
            "put the app into staging of the pipeline shop",
        );
        let promoted = json!({ "release": 3, "description": "Promote acorn-staging v2 3f9c2a1" });
        let said = "released v3: Promote acorn-staging v2 3f9c2a1";
        check("promotion", promoted, &format!("{said} on acorn"), said);
        check("app-reserved", Value::Null, "reserved acorn", "reserved the app");
        let gone = LedgerEntry { app: Some(app), app_name: Some("acorn".into()), ..entry("app-destroyed") };
        assert_eq!(event(&gone, Some(&HashMap::new())).app.unwrap().now, None);
    }

    #[test]
    fn every_entry_that_the_engine_writes_has_words_of_its_own() {
        let engine = concat!(env!("CARGO_MANIFEST_DIR"), "/../shipway-engine/src");
        let files = std::fs::read_dir(engine).unwrap().map(|file| file.unwrap().path());
        let text: String = files.filter_map(|file| std::fs::read_to_string(file).ok()).collect();
        let found = WRITTEN.iter().flat_map(|pattern| {
            let pattern = Regex::new(pattern).unwrap();
            pattern.captures_iter(&text).map(|found| found[1].to_string()).collect::<Vec<_>>()
        });
        let mut actions: Vec<String> = found.collect();
        let kinds = ["deploy", "release", "promotion", "setup", "restart", "destroy", "addon", "transfer"];
        actions.extend(kinds.map(|kind| format!("{kind}-failed")));
        // What a switch is called after: the kinds of the operations that make releases.
        actions.extend(["deploy", "release", "promotion", "setup"].map(String::from));
        actions.sort();
        actions.dedup();
        assert!(actions.len() > 60, "the patterns find too little: {actions:?}");
        let wordless: Vec<_> =
            actions.iter().filter(|action| what(&entry(action)) == action.replace('-', " ")).collect();
        assert!(wordless.is_empty(), "written by the engine, without words here: {wordless:?}");
    }
}
