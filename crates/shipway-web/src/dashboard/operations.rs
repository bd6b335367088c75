//! Operations and the ledger.

use super::facts::{Facts, build_of_operation, build_url, email, repeatable};
use super::visit::Viewer;
use super::{Page, done, page, words};
use crate::{ApiError, Result, own};
use shipway_dashboard::model::{
    ActivityPage, ConfirmPage, Failure, Mark, OperationPage, OperationRow, OperationsPage, RollbackRow,
};
use shipway_dashboard::path;
use shipway_domain::admission::Trigger;
use shipway_domain::lifecycle::OperationStatus;
use shipway_domain::{AppId, NameOrId};
use shipway_engine::{Part, Plan, Platform};
use shipway_store::{LedgerEntry, Operation};
use std::collections::HashMap;

/// Rows of a page of operations, and of the ledger.
const OPERATIONS: usize = 25;
const ENTRIES: usize = 50;
/// Entries of the ledger that are looked through for a page.
const SEARCHED: u32 = 5000;

fn row(viewer: &Viewer, operation: &Operation) -> OperationRow {
    let platform = viewer.platform();
    let steps = platform.steps(operation.id).unwrap_or_default();
    let waits = own::waits_for(platform, operation).map(|before| format!("behind {before}"));
    let (mut apps, mut gone) = (Vec::new(), Vec::new());
    for id in &operation.apps {
        match platform.store().read(|c| c.app_by_id(*id)) {
            Ok(app) => apps.push(app.name.to_string()),
            Err(_) => gone.extend(platform.store().read(|c| c.last_name_of(*id)).ok().flatten()),
        }
    }
    let over = operation.status.is_final();
    let took = operation.updated_at.duration_since(operation.created_at).as_millis();
    OperationRow {
        id: operation.id.to_string(),
        title: words::title(operation),
        apps,
        gone,
        status: operation.status.into(),
        at_step: match operation.status {
            OperationStatus::Succeeded => None,
            OperationStatus::Failed => words::failed_step(&steps),
            _ => waits.or_else(|| words::at_work(&steps)),
        },
        by: email(platform, operation.account),
        at: operation.created_at,
        took_ms: over.then(|| u64::try_from(took).unwrap_or(0)),
    }
}

/// GET operations
pub(super) async fn list(viewer: Viewer) -> Page {
    let platform = viewer.platform();
    let wanted = viewer.query("app").filter(|app| !app.is_empty());
    let app = wanted.map(|app| platform.app(&viewer.caller, &NameOrId::parse(app))).transpose()?;
    let mut operations = platform.operations(&viewer.caller, app.as_ref())?;
    if let Some(before) = viewer.query("before")
        && let Some(at) = operations.iter().position(|operation| operation.id.to_string() == before)
    {
        operations.drain(..=at);
    }
    let more = operations.len() > OPERATIONS;
    operations.truncate(OPERATIONS);
    let older_url = operations.last().filter(|_| more).map(|last| {
        let of_app = app.as_ref().map(|app| format!("&app={}", app.name)).unwrap_or_default();
        format!("{}?before={}{of_app}", path("operations", &[]), last.id)
    });
    // Those under way stand on top, the rest as they came.
    operations.sort_by_key(|operation| operation.status.is_final());
    let rows = operations.iter().map(|operation| row(&viewer, operation)).collect();
    let app = app.map(|app| Facts::of(platform, app)).transpose()?.map(|facts| facts.head(&viewer));
    let model = OperationsPage { shell: viewer.shell(), app, operations: rows, older_url };
    page(&viewer, shipway_dashboard::operations(&model))
}

fn of_path(viewer: &Viewer) -> Result<Operation> {
    let id = viewer.parameter("operation").parse().map_err(|_| ApiError::missing("operation"))?;
    Ok(viewer.platform().operation(&viewer.caller, id)?)
}

/// Whether it has not switched yet, so that it can be undone.
fn can_be_undone(viewer: &Viewer, operation: &Operation) -> bool {
    let steps = viewer.platform().steps(operation.id).unwrap_or_default();
    let switched = steps.iter().any(|step| step.name == "switch" && step.state == "succeeded");
    let ends = matches!(operation.status, OperationStatus::Waiting | OperationStatus::Running);
    ends && !switched && !operation.cancel && operation.kind != "destroy"
}

fn facts(viewer: &Viewer, operation: &Operation) -> Result<Option<Facts>> {
    let mut apps = operation.apps.iter().map(|id| viewer.platform().app(&viewer.caller, &id.into()));
    apps.find_map(Result::ok).map(|app| Facts::of(viewer.platform(), app)).transpose()
}

fn may_cancel(viewer: &Viewer, operation: &Operation, facts: Option<&Facts>) -> bool {
    let trigger = operation.plan.get("trigger").cloned().and_then(|trigger| serde_json::from_value(trigger).ok());
    let may = trigger.zip(facts).is_some_and(|(trigger, facts)| viewer.may(trigger, &facts.app));
    may && can_be_undone(viewer, operation)
}

/// The apps whose current release an operation made, of those that the viewer can see.
fn made_by(viewer: &Viewer, operation: &Operation) -> Result<Vec<Facts>> {
    let Ok(plan) = serde_json::from_value::<Plan>(operation.plan.clone()) else { return Ok(Vec::new()) };
    let current = |part: Part| {
        let app = viewer.platform().app(&viewer.caller, &part.app.into()).ok()?;
        (app.current_release == Some(part.release?.release)).then(|| Facts::of(viewer.platform(), app))
    };
    plan.parts.into_iter().filter_map(current).collect()
}

fn way_back(viewer: &Viewer, facts: &Facts) -> Result<Option<RollbackRow>> {
    if !viewer.may(Trigger::Rollback, &facts.app) {
        return Ok(None);
    }
    let version = facts.previous(viewer.platform())?;
    Ok(version.map(|version| RollbackRow { app: facts.name().to_string(), version }))
}

fn visit(platform: &Platform, facts: &Facts) -> (String, String) {
    (facts.name().to_string(), platform.web_url(facts.name()))
}

/// GET operation
pub(super) async fn one(viewer: Viewer) -> Page {
    let platform = viewer.platform();
    let operation = of_path(&viewer)?;
    let facts = facts(&viewer, &operation)?;
    let steps = platform.steps(operation.id)?;
    let build = build_of_operation(platform, &operation);
    let build_url = facts.as_ref().zip(build.as_ref()).map(|(facts, build)| build_url(&facts.app, build));
    let made = made_by(&viewer, &operation)?;
    let failed = facts.as_ref().filter(|_| operation.status == OperationStatus::Failed);
    let model = OperationPage {
        shell: viewer.shell(),
        operation: row(&viewer, &operation),
        road: words::road(operation.plan.get("via").and_then(|via| via.as_str()).unwrap_or_default()),
        steps: words::rows(&steps, operation.status.is_final()),
        failure: failed.map(|facts| Failure { output_url: build_url.clone(), ..facts.failure_of(&viewer, &operation) }),
        build_url,
        may_cancel: may_cancel(&viewer, &operation, facts.as_ref()),
        rollbacks: made.iter().filter_map(|facts| way_back(&viewer, facts).transpose()).collect::<Result<_>>()?,
        visits: match operation.status {
            OperationStatus::Succeeded => made.iter().map(|facts| visit(platform, facts)).collect(),
            _ => Vec::new(),
        },
    };
    page(&viewer, shipway_dashboard::operation(&model))
}

/// GET cancel.ask
pub(super) async fn ask_cancel(viewer: Viewer) -> Page {
    let operation = of_path(&viewer)?;
    let facts = facts(&viewer, &operation)?;
    let id = operation.id.to_string();
    let refused = if !can_be_undone(&viewer, &operation) {
        Some("It is over or has switched, and only goes forward from there. Roll back instead.".to_string())
    } else if !may_cancel(&viewer, &operation, facts.as_ref()) {
        Some("You may look at it, not stop it. Ask whoever started it.".to_string())
    } else {
        None
    };
    let model = ConfirmPage {
        shell: viewer.shell(),
        app: facts.map(|facts| facts.head(&viewer)),
        title: format!("Cancel “{}”?", words::title(&operation)),
        meaning: "What it did so far is undone. What ran before runs on; no visitor notices.".into(),
        changes: Vec::new(),
        links: Vec::new(),
        warnings: Vec::new(),
        refused,
        asks_why: false,
        action_url: path("cancel", &[&id]),
        fields: Vec::new(),
        button: "Cancel it".into(),
        danger: true,
        back_url: path("operation", &[&id]),
    };
    page(&viewer, shipway_dashboard::confirm(&model))
}

/// POST cancel
pub(super) async fn cancel(viewer: Viewer) -> Page {
    let operation = of_path(&viewer)?;
    viewer.platform().cancel(&viewer.caller, operation.id).await?;
    let to = path("operation", &[&operation.id.to_string()]);
    done(&viewer, &to, Mark::Wait, "It is being cancelled: what it did so far is undone.")
}

/// POST retry: the same commit again, as a deploy of the viewer's.
pub(super) async fn retry(viewer: Viewer) -> Page {
    let operation = of_path(&viewer)?;
    let app = operation.apps.first().map(|id| viewer.platform().app(&viewer.caller, &id.into())).transpose()?;
    let (Some(app), Some(commit)) = (app, repeatable(&operation)) else {
        return Err(ApiError::invalid("Only the deploy of a commit that failed can be tried again. Push it instead."));
    };
    let (_, again) = viewer.platform().deploy(&viewer.caller, &app, commit).await?;
    done(&viewer, &path("operation", &[&again.to_string()]), Mark::Wait, "It is tried again.")
}

/// GET activity and app.activity
pub(super) async fn activity(viewer: Viewer) -> Page {
    let platform = viewer.platform();
    let facts = match viewer.parameter("app") {
        "" => None,
        _ => Some(Facts::of(platform, viewer.app()?)?),
    };
    let app = facts.as_ref().map(|facts| facts.app.id);
    let mut entries = platform.store().read(|c| c.ledger(app, SEARCHED))?;
    let admin = viewer.caller.actor.admin;
    let names: HashMap<AppId, String> =
        platform.apps(&viewer.caller, admin)?.into_iter().map(|app| (app.id, app.name.to_string())).collect();
    if app.is_none() && !admin {
        let mine = |entry: &LedgerEntry| match entry.app {
            Some(app) => names.contains_key(&app),
            None => entry.actor == viewer.caller.actor.email,
        };
        entries.retain(mine);
    }
    if let Some(before) = viewer.query("before")
        && let Some(at) = entries.iter().position(|entry| entry.id.to_string() == before)
    {
        entries.drain(..=at);
    }
    let more = entries.len() > ENTRIES;
    entries.truncate(ENTRIES);
    let here = match &facts {
        Some(facts) => path("app.activity", &[facts.name()]),
        None => path("activity", &[]),
    };
    let model = ActivityPage {
        shell: viewer.shell(),
        events: entries.iter().map(|entry| words::event(entry, Some(&names).filter(|_| facts.is_none()))).collect(),
        older_url: entries.last().filter(|_| more).map(|last| format!("{here}?before={}", last.id)),
        app: facts.map(|facts| facts.head(&viewer)),
    };
    page(&viewer, shipway_dashboard::activity(&model))
}
