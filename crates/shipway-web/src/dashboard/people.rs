//! Who may do what with an app, apps that change hands, and what belongs to an app.

use super::facts::Facts;
use super::visit::Viewer;
use super::{Page, done, page};
use crate::{ApiError, Result};
use shipway_dashboard::model::{
    AccessPage, AddonRow, BackupRow, Mark, Offer, PersonRow, Pill, RequestRow, ResourcesPage,
};
use shipway_dashboard::path;
use shipway_domain::addon::{AddonState, TransferKind};
use shipway_domain::admission::{Permission, Trigger};
use shipway_domain::team::TransferState;
use shipway_engine::Within;
use shipway_store::{App, Transfer};

/// Backups that are shown.
const BACKUPS: usize = 10;

fn may(permission: Permission) -> &'static str {
    match permission {
        Permission::View => "look",
        Permission::Deploy => "change code",
        Permission::Operate => "change code, config and dynos",
        Permission::Manage => "do everything",
    }
}

/// GET access
pub(super) async fn access(viewer: Viewer) -> Page {
    let platform = viewer.platform();
    let facts = Facts::of(platform, viewer.app()?)?;
    let app = &facts.app;
    let may_manage = viewer.may(Trigger::Access, app);
    let owner = PersonRow { email: app.owner_email.to_string(), may: "owns it".into(), removable: false };
    let others = platform.store().read(|c| c.collaborators(app.id))?;
    let others = others.into_iter().map(|c| PersonRow {
        email: c.email.to_string(),
        may: may(c.permission).into(),
        removable: may_manage,
    });
    let team = app.owner_email.team().map(str::to_string);
    let owner = Some(owner).filter(|_| team.is_none());
    let lacks = !viewer.may(Trigger::Settings, app);
    let request = |r: shipway_store::AccessRequest| RequestRow { email: r.email.to_string(), at: r.created_at };
    let model = AccessPage {
        shell: viewer.shell(),
        app: facts.head(&viewer),
        team,
        people: owner.into_iter().chain(others).collect(),
        requests: platform.access_requests(&viewer.caller, app)?.into_iter().map(request).collect(),
        may_manage,
        asked: lacks.then(|| platform.has_asked(&viewer.caller, app)).transpose()?,
    };
    page(&viewer, shipway_dashboard::access(&model))
}

fn email(viewer: &Viewer) -> String {
    viewer.field("email").unwrap_or_default().trim().to_lowercase()
}

fn back(viewer: &Viewer, app: &App, text: &str) -> Page {
    done(viewer, &path("access", &[app.name.as_str()]), Mark::Good, text)
}

/// POST access.give
pub(super) async fn give(viewer: Viewer) -> Page {
    let (app, email) = (viewer.app()?, email(&viewer));
    let permission = match viewer.field("permission").as_deref() {
        Some("view") => Permission::View,
        Some("deploy") => Permission::Deploy,
        Some("manage") => Permission::Manage,
        _ => Permission::Operate,
    };
    let (added, invitation) = viewer.platform().give_access(&viewer.caller, &app, &email, permission).await?;
    let what = format!("{} may now {}.", added.email, may(permission));
    match invitation {
        None => back(&viewer, &app, &what),
        Some(token) => {
            let text =
                format!("{what} They had no account: send them this token, shown only now, to sign in with: {token}");
            back(&viewer, &app, &text)
        }
    }
}

/// POST access.remove
pub(super) async fn remove(viewer: Viewer) -> Page {
    let (app, email) = (viewer.app()?, email(&viewer));
    let gone = viewer.platform().remove_collaborator(&viewer.caller, &app, &email).await?;
    back(&viewer, &app, &format!("{} has no access any more.", gone.email))
}

/// POST access.decline
pub(super) async fn decline(viewer: Viewer) -> Page {
    let (app, email) = (viewer.app()?, email(&viewer));
    viewer.platform().decline_access(&viewer.caller, &app, &email).await?;
    back(&viewer, &app, &format!("{email} was not let in."))
}

/// POST access.ask: also for an app that the viewer cannot see, and the answer is the same when there is none.
pub(super) async fn ask(viewer: Viewer) -> Page {
    let name = viewer.parameter("app").to_string();
    viewer.platform().ask_for_access(&viewer.caller, &name).await?;
    match viewer.app() {
        Ok(app) => back(&viewer, &app, &format!("You have asked {} for access.", app.owner_email.to_ask())),
        Err(_) => {
            let text = "If there is such an app, whoever owns it sees now that you ask for access.";
            done(&viewer, &path("apps", &[]), Mark::Good, text)
        }
    }
}

/// The apps that the viewer was offered.
pub(super) fn offers(viewer: &Viewer) -> Result<Vec<Offer>> {
    let me = viewer.caller.actor.account;
    let all = viewer.platform().app_transfers(&viewer.caller)?;
    let open = all.into_iter().filter(|t| t.recipient == me && t.state == TransferState::Pending);
    let offer = |t: shipway_store::AppTransfer| Offer {
        id: t.id.to_string(),
        app: t.app_name.to_string(),
        from: t.owner_email.to_string(),
        at: t.created_at,
    };
    Ok(open.map(offer).collect())
}

/// POST offer
pub(super) async fn answer_offer(viewer: Viewer) -> Page {
    let transfer = viewer.platform().app_transfer(&viewer.caller, viewer.parameter("offer"))?;
    let state = match viewer.field("answer").as_deref() {
        Some("take") => TransferState::Accepted,
        Some("leave") => TransferState::Declined,
        _ => return Err(ApiError::invalid("`answer` must be take or leave.")),
    };
    let answered = viewer.platform().answer_transfer(&viewer.caller, transfer, state).await?;
    let text = match state {
        TransferState::Accepted => format!("{} is yours.", answered.app_name),
        _ => format!("{} stays with {}.", answered.app_name, answered.owner_email),
    };
    done(&viewer, &path("apps", &[]), Mark::Good, &text)
}

/// GET resources
pub(super) async fn resources(viewer: Viewer) -> Page {
    let platform = viewer.platform();
    let facts = Facts::of(platform, viewer.app()?)?;
    let app = &facts.app;
    let (attachments, domains) = platform.store().read(|c| Ok((c.attachments(app.id)?, c.domains(app.id)?)))?;
    let mut addons = Vec::new();
    for addon in platform.addons(&viewer.caller, Within::App(app))? {
        let here = attachments.iter().filter(|a| a.addon == addon.id).map(|a| a.name.to_string());
        let other = (addon.app != app.id).then(|| platform.store().read(|c| c.app_by_id(addon.app))).transpose()?;
        addons.push(AddonRow {
            name: addon.name.to_string(),
            plan: addon.plan.to_string(),
            state: state(addon.state),
            of: other.map(|app| app.name.to_string()),
            attached: here.collect(),
        });
    }
    let mut backups = platform.store().read(|c| c.transfers(app.id))?;
    backups.retain(|t| t.kind == TransferKind::Backup);
    backups.sort_by_key(|t| std::cmp::Reverse(t.number));
    let hidden_backups = backups.len().saturating_sub(BACKUPS);
    let own = format!("{}.{}", app.name, platform.settings().domain);
    let model = ResourcesPage {
        shell: viewer.shell(),
        app: facts.head(&viewer),
        addons,
        backups: backups.iter().take(BACKUPS).map(backup).collect(),
        hidden_backups,
        domains: std::iter::once(own).chain(domains.into_iter().map(|d| d.hostname.to_string())).collect(),
    };
    page(&viewer, shipway_dashboard::resources(&model))
}

fn state(state: AddonState) -> Pill {
    match state {
        AddonState::Provisioned => Pill::new(Mark::Good, "there"),
        AddonState::Provisioning => Pill::new(Mark::Wait, "being made"),
        AddonState::Deprovisioning => Pill::new(Mark::Wait, "going"),
        AddonState::Deprovisioned => Pill::new(Mark::Quiet, "gone"),
    }
}

fn backup(transfer: &Transfer) -> BackupRow {
    let state = match (transfer.succeeded, transfer.canceled_at) {
        (Some(true), _) => Pill::new(Mark::Good, "complete"),
        (_, Some(_)) => Pill::new(Mark::Quiet, "cancelled"),
        (Some(false), None) => Pill::new(Mark::Bad, "failed"),
        (None, None) => Pill::new(Mark::Wait, "running"),
    };
    BackupRow {
        name: format!("b{:03}", transfer.number),
        database: transfer.from_name.clone(),
        state,
        at: transfer.created_at,
        size: size(transfer.processed_bytes),
    }
}

/// Bytes for people, in steps of a thousand.
fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}
