//! What deploys an app: reservations, what the last deploy replaced, triggers, and who is told.

use super::apps::refusal;
use super::facts::Facts;
use super::visit::Viewer;
use super::{Page, difference, done, page};
use crate::api::releases::schema_moved;
use crate::{ApiError, Result};
use axum::http::StatusCode;
use jiff::SignedDuration;
use shipway_dashboard::model::{
    AppNotice, CodeRow, ConfirmPage, DeploysPage, Mark, Pill, RefusedTrigger, ReservedRow, TriggerRow, TriggeredRow,
};
use shipway_dashboard::path;
use shipway_domain::admission::Trigger;
use shipway_domain::triggers::RefKind;
use shipway_domain::{TriggerId, minute};
use shipway_engine::{Deployed, Kind, TriggeredView};
use shipway_store::{App, Notice};

/// Triggered deploys that are shown.
const SHOWN: u32 = 15;

/// GET deploys
pub(super) async fn list(viewer: Viewer) -> Page {
    let facts = Facts::of(viewer.platform(), viewer.app()?)?;
    show(&viewer, &facts, None)
}

fn show(viewer: &Viewer, facts: &Facts, refused: Option<RefusedTrigger>) -> Page {
    let (platform, app) = (viewer.platform(), &facts.app);
    let triggers = platform.triggers(app)?.into_iter().map(|trigger| TriggerRow {
        id: trigger.id.to_string(),
        kind: trigger.pattern.kind().to_string(),
        pattern: trigger.pattern.glob().to_string(),
        waits: trigger.wait_for_ci,
    });
    let model = DeploysPage {
        shell: viewer.shell(),
        app: facts.head(viewer),
        reserved: reserved(viewer, app)?,
        may_reserve: viewer.may(Trigger::Push, app),
        now: platform.deployed(app)?.as_ref().map(|now| {
            let current = facts.release.as_ref().map(|release| release.version);
            CodeRow { runs_as: current.filter(|version| *version != now.release.version), ..code(now) }
        }),
        previous: platform.previous_code(app)?.as_ref().map(code),
        may_bring_back: facts.under_way.is_none() && viewer.may(Trigger::Rollback, app),
        triggers: triggers.collect(),
        deploys: platform.triggered(app, SHOWN)?.iter().map(triggered).collect(),
        refused,
    };
    page(viewer, shipway_dashboard::deploys(&model))
}

/// Who keeps an app for themselves. Its holder may end that, and so may who says who has access.
pub(super) fn reserved(viewer: &Viewer, app: &App) -> Result<Option<ReservedRow>> {
    let row = |held: shipway_store::Reservation| {
        let mine = held.account == viewer.caller.actor.account;
        ReservedRow {
            by: held.email.to_string(),
            until: held.until,
            reason: held.reason,
            may_end: viewer.may(if mine { Trigger::Push } else { Trigger::Access }, app),
        }
    };
    Ok(viewer.platform().reservation(app)?.map(row))
}

fn code(code: &Deployed) -> CodeRow {
    CodeRow {
        version: code.release.version,
        runs_as: None,
        commit: code.slug.commit.as_ref().map(ToString::to_string),
        subject: code.slug.commit_description.clone(),
        name: code.name().map(str::to_string),
        by: code.by.clone(),
        at: code.release.created_at,
    }
}

fn triggered(view: &TriggeredView) -> TriggeredRow {
    let deploy = &view.deploy;
    let mark = match view.state {
        "succeeded" => Mark::Good,
        "waiting" | "deploying" => Mark::Wait,
        "failed" | "refused" => Mark::Bad,
        _ => Mark::Quiet,
    };
    TriggeredRow {
        name: deploy.reference.name().to_string(),
        commit: deploy.commit.to_string(),
        state: Pill::new(mark, view.state),
        message: view.message.as_deref().and_then(|message| message.lines().next()).map(str::to_string),
        by: deploy.by.clone(),
        at: deploy.created_at,
        operation_url: deploy.operation.map(|id| path("operation", &[&id.to_string()])),
    }
}

fn back(viewer: &Viewer, app: &App, text: &str) -> Page {
    done(viewer, &path("deploys", &[app.name.as_str()]), Mark::Good, text)
}

/// POST trigger.add
pub(super) async fn add_trigger(viewer: Viewer) -> Page {
    let facts = Facts::of(viewer.platform(), viewer.app()?)?;
    let kind = match viewer.field("kind").as_deref() {
        Some("branch") => RefKind::Branch,
        Some("tag") => RefKind::Tag,
        _ => return Err(ApiError::invalid("`kind` must be branch or tag.")),
    };
    let pattern = viewer.field("pattern").unwrap_or_default().trim().to_string();
    let waits = viewer.field("wait").is_some();
    match viewer.platform().add_trigger(&viewer.caller, &facts.app, kind, &pattern, waits).await {
        Ok(made) => back(&viewer, &facts.app, &format!("From now on {} deploys {}.", made.pattern, facts.name())),
        Err(error) if matches!(error.kind, Kind::Invalid | Kind::Conflict) => {
            let refused = RefusedTrigger { kind: kind.to_string(), pattern, waits, because: error.message };
            show(&viewer, &facts, Some(refused))
        }
        Err(error) => Err(error.into()),
    }
}

/// POST trigger.remove
pub(super) async fn remove_trigger(viewer: Viewer) -> Page {
    let app = viewer.app()?;
    let id: TriggerId = viewer.parameter("trigger").parse().map_err(|_| ApiError::missing("trigger"))?;
    let removed = viewer.platform().remove_trigger(&viewer.caller, &app, id).await?;
    back(&viewer, &app, &format!("{} does not deploy {} any more.", removed.pattern, app.name))
}

/// POST reserve
pub(super) async fn reserve(viewer: Viewer) -> Page {
    let app = viewer.app()?;
    let hours = viewer.field("hours").and_then(|hours| hours.parse::<u16>().ok());
    let hours = hours.ok_or_else(|| ApiError::invalid("`hours` must be a number of hours."))?;
    let reason = viewer.field("reason");
    let length = SignedDuration::from_hours(hours.into());
    let made = viewer.platform().reserve(&viewer.caller, &app, length, reason.as_deref()).await?;
    let until = minute(made.until);
    back(&viewer, &app, &format!("{} is yours until {until}.", app.name))
}

/// POST unreserve
pub(super) async fn unreserve(viewer: Viewer) -> Page {
    let app = viewer.app()?;
    viewer.platform().unreserve(&viewer.caller, &app).await?;
    back(&viewer, &app, &format!("{} is free.", app.name))
}

fn previous(viewer: &Viewer, app: &App) -> Result<Deployed> {
    let found = viewer.platform().previous_code(app)?;
    found.ok_or_else(|| ApiError::invalid(format!("{} ran no other code before that is still kept.", app.name)))
}

/// The code that one press brings back, where the viewer may.
pub(super) fn previous_code(viewer: &Viewer, facts: &Facts) -> Result<Option<CodeRow>> {
    if facts.under_way.is_some() || !viewer.may(Trigger::Rollback, &facts.app) {
        return Ok(None);
    }
    let told = viewer.platform().notices(&viewer.caller, Some(&facts.app))?;
    if !told.iter().any(|notice| notice.replaced) {
        return Ok(None);
    }
    Ok(viewer.platform().previous_code(&facts.app)?.as_ref().map(code))
}

/// GET previous.ask
pub(super) async fn ask_previous(viewer: Viewer) -> Page {
    let platform = viewer.platform();
    let facts = Facts::of(platform, viewer.app()?)?;
    let before = previous(&viewer, &facts.app)?;
    let version = before.release.version;
    let now = platform.point_of(&facts.app, None, None).await?;
    let then = platform.point_of(&facts.app, None, Some(&format!("v{version}"))).await?;
    let mut difference = platform.compare(&viewer.caller, &now, &then).await?;
    // It comes with today's.
    difference.config = None;
    let moved = schema_moved(platform, &facts.app, &before.release).await;
    let model = ConfirmPage {
        shell: viewer.shell(),
        app: Some(facts.head(&viewer)),
        title: format!("Bring v{version} back to {}?", facts.name()),
        meaning: format!(
            "Releases the code of {}, deployed by {}, with today’s config vars. Its dynos start first; no visitor notices.",
            before.words(),
            before.by
        ),
        changes: difference::changes(&difference),
        links: difference::links(&difference),
        warnings: moved.map(|moved| moved.sentences(facts.name())).unwrap_or_default(),
        refused: refusal(&viewer, Trigger::Rollback, &facts),
        asks_why: false,
        action_url: path("previous", &[facts.name()]),
        fields: vec![("version".into(), version.to_string())],
        button: format!("Bring v{version} back"),
        danger: false,
        back_url: path("deploys", &[facts.name()]),
    };
    page(&viewer, shipway_dashboard::confirm(&model))
}

/// POST previous
pub(super) async fn bring_back(viewer: Viewer) -> Page {
    let app = viewer.app()?;
    let before = previous(&viewer, &app)?;
    if viewer.field("version").as_deref() != Some(before.release.version.to_string().as_str()) {
        let message = format!(
            "{} has changed since you looked: v{} would come back now. Look at it first.",
            app.name, before.release.version
        );
        return Err(ApiError::new(StatusCode::CONFLICT, "conflict", message));
    }
    let (release, before, operation) = viewer.platform().bring_back(&viewer.caller, &app).await?;
    viewer.platform().notices_read(&viewer.caller, Some(&app)).await?;
    let text = format!("v{} is on its way: it brings v{} back.", release.version, before.release.version);
    done(&viewer, &path("operation", &[&operation.to_string()]), Mark::Good, &text)
}

/// What the viewer has not read yet: about one app, or about all that they can see.
pub(super) fn notices(viewer: &Viewer, app: Option<&App>) -> Result<Vec<AppNotice>> {
    let platform = viewer.platform();
    let unread = platform.notices(&viewer.caller, app)?.into_iter().filter(|notice| notice.read_at.is_none());
    let row = |notice: Notice| {
        let app = platform.app(&viewer.caller, &notice.app.into()).ok()?;
        Some(AppNotice { app: app.name.to_string(), text: notice.text, at: notice.created_at })
    };
    Ok(unread.filter_map(row).collect())
}

/// POST notices.read
pub(super) async fn read(viewer: Viewer) -> Page {
    let app = viewer.app()?;
    viewer.platform().notices_read(&viewer.caller, Some(&app)).await?;
    done(&viewer, &path("app", &[app.name.as_str()]), Mark::Good, "You have read it.")
}
