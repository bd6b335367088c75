//! Operations, steps and entries of the ledger in the words of the pages.

use serde_json::Value;
use shipway_dashboard::model::{Event, Mark, StepRow, StepState};
use shipway_dashboard::path;
use shipway_engine::{Plan, StepView};
use shipway_store::{LedgerEntry, Operation};

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
        "carry" => "Bring the commit",
        "pin" => "Receive the commit",
        "build" => "Build",
        "release" => "Write the release down",
        "release-phase" => "Release phase",
        "start" => "Start new dynos",
        "healthy" => "Wait until they are healthy",
        "switch" => "Switch",
        "route" => "Route requests to them",
        "settle" => "Move the branch",
        "close" => "Close the routes",
        "stop-all" => "Stop its dynos",
        "erase" => "Erase its data",
        other => other,
    };
    if app.is_empty() { what.into() } else { format!("{app}: {what}") }
}

/// The title of the step that is at work.
pub(super) fn at_work(steps: &[StepView]) -> Option<String> {
    crate::own::at_step(steps).map(step_title)
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

/// An entry of the ledger as a sentence; `with_app` where a page shows more than one app.
pub(super) fn event(entry: &LedgerEntry, with_app: bool) -> Event {
    let text = |key: &str| entry.detail.get(key).and_then(Value::as_str).unwrap_or_default();
    let number = |key: &str| entry.detail.get(key).and_then(Value::as_u64).unwrap_or_default();
    let list = |key: &str| match entry.detail.get(key) {
        Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", "),
        Some(Value::Object(items)) => items.keys().cloned().collect::<Vec<_>>().join(", "),
        _ => String::new(),
    };
    let commit: String = text("commit").chars().take(7).collect();
    let what = match entry.action.as_str() {
        "deploy" => format!("deployed {commit} as v{}", number("release")),
        "release" => format!("released v{}: {}", number("release"), text("description")),
        "deploy-failed" => "failed to deploy".into(),
        "release-failed" => "failed to release".into(),
        "restart-failed" => "failed to restart".into(),
        "destroy-failed" => "failed to destroy it".into(),
        "config" => match (list("set"), list("unset")) {
            (set, unset) if unset.is_empty() => format!("set {set}"),
            (set, unset) if set.is_empty() => format!("removed {unset}"),
            (set, unset) => format!("set {set} and removed {unset}"),
        },
        "config-revealed" if text("name").is_empty() => "looked at the values of all config vars".into(),
        "config-revealed" => format!("looked at the value of {}", text("name")),
        "scale" => format!("scaled to {}", text("to")),
        "restart" => "restarted dynos".into(),
        "stop" => "stopped dynos".into(),
        "run" => format!("ran `{}` in {}", text("command"), text("dyno")),
        "refused" => format!("was refused: {}", text("trigger")),
        "app-created" => "made the app".into(),
        "app-changed" => "changed its settings".into(),
        "app-destroyed" => "destroyed the app".into(),
        "collaborator-added" => format!("gave access to {}", text("email")),
        "collaborator-removed" => format!("took access from {}", text("email")),
        "domain-added" => format!("added the domain {}", text("hostname")),
        "domain-removed" => format!("removed the domain {}", text("hostname")),
        "buildpacks-set" => format!("set the buildpacks: {}", list("buildpacks")),
        "pipeline-app-added" => format!("put it into {} of the pipeline {}", text("stage"), text("pipeline")),
        "pipeline-app-moved" => format!("moved it to {} of the pipeline {}", text("to"), text("pipeline")),
        "pipeline-app-removed" => format!("took it out of the pipeline {}", text("pipeline")),
        "build-cache-purged" => "purged the build cache".into(),
        "account-added" | "invited" => format!("added the user {}", text("email")),
        "password-set" => "set a password".into(),
        "token-made" => format!("made a token: {}", text("description")),
        "token-revoked" => "ended a token".into(),
        other => other.replace('-', " "),
    };
    let failed = entry.action.ends_with("-failed") || entry.action == "refused";
    let why = [text("error"), text("because")].into_iter().find_map(|why| why.lines().next()).map(str::to_string);
    let operation = text("operation");
    Event {
        at: entry.at,
        who: if entry.actor == "platform" { "Shipway".into() } else { entry.actor.clone() },
        what,
        app: entry.app_name.clone().filter(|_| with_app),
        road: road(&entry.via),
        why,
        mark: if failed { Mark::Bad } else { Mark::Quiet },
        link: (!operation.is_empty()).then(|| path("operation", &[operation])),
    }
}
