//! The list of apps, one app, its dynos.

use super::facts::{Facts, Releases, dyno_rows};
use super::visit::Viewer;
use super::{Page, done, page, words};
use crate::{ApiError, Result};
use shipway_dashboard::model::{
    AboutRow, AppRow, AppsPage, Change, ChangeKind, Changes, ConfirmPage, DynosPage, FormationRow, Mark, OverviewPage,
};
use shipway_dashboard::path;
use shipway_domain::admission::Trigger;
use shipway_domain::app_json::About;
use shipway_domain::quantity::{MAX_QUANTITY, Quantity};
use shipway_engine::{ScaleUpdate, Which};
use shipway_store::Formation;

/// Rows of the list before "show all".
const ROWS: usize = 50;

/// GET apps
pub(super) async fn list(viewer: Viewer) -> Page {
    let platform = viewer.platform();
    let filter = viewer.query("q").unwrap_or_default().trim().to_lowercase();
    let mut apps = platform.apps(&viewer.caller, viewer.caller.actor.admin)?;
    apps.retain(|app| app.name.as_str().contains(&filter));
    let all = viewer.query("all").is_some();
    let shown = if all { apps.len() } else { apps.len().min(ROWS) };
    let hidden = apps.len() - shown;
    apps.truncate(shown);
    let mut rows = Vec::with_capacity(shown);
    for app in apps {
        let facts = Facts::of(platform, app)?;
        rows.push(AppRow {
            name: facts.name().to_string(),
            url: Some(platform.web_url(facts.name())),
            state: facts.state(platform),
            release: facts.release.as_ref().map(|release| Releases::new(platform, &facts.app).row(release)),
        });
    }
    let env_command = "eval \"$(shipway env)\"".to_string();
    let offers = super::people::offers(&viewer)?;
    let notices = super::deploys::notices(&viewer, None)?;
    let model = AppsPage { shell: viewer.shell(), filter, apps: rows, hidden, offers, notices, env_command };
    page(&viewer, shipway_dashboard::apps(&model))
}

/// GET app
pub(super) async fn overview(viewer: Viewer) -> Page {
    let platform = viewer.platform();
    let facts = Facts::of(platform, viewer.app()?)?;
    let mut rows = Releases::new(platform, &facts.app);
    let activity = platform.store().read(|c| c.ledger(Some(facts.app.id), 8))?;
    let model = OverviewPage {
        shell: viewer.shell(),
        app: facts.head(&viewer),
        reserved: super::deploys::reserved(&viewer, &facts.app)?,
        notices: super::deploys::notices(&viewer, Some(&facts.app))?,
        previous_code: super::deploys::previous_code(&viewer, &facts)?,
        running: facts.running(platform)?,
        failure: facts.failed(&viewer)?,
        // The initial release runs nothing.
        release: facts.release.as_ref().filter(|release| release.slug.is_some()).map(|release| rows.row(release)),
        previous_version: facts.previous(platform)?,
        dynos: dyno_rows(platform, &facts.dynos),
        activity: activity.iter().map(|entry| words::event(entry, None)).collect(),
        git_url: format!("{}/{}.git", viewer.web.base().https, facts.name()),
        about: about(&viewer, &facts)?,
    };
    page(&viewer, shipway_dashboard::app_overview(&model))
}

/// What the app.json of the running code says.
fn about(viewer: &Viewer, facts: &Facts) -> Result<Option<AboutRow>> {
    let slug = facts.release.as_ref().and_then(|release| release.slug);
    let slug = slug.map(|slug| viewer.platform().store().read(|c| c.slug(slug))).transpose()?.flatten();
    let Some(about) = slug.map(|slug| slug.about).filter(|about| *about != About::default()) else { return Ok(None) };
    let links = [
        ("Website", about.website.clone()),
        ("Repository", about.repository.clone()),
        ("First page", about.resolved_success_url(&viewer.platform().web_url(facts.name()))),
        ("Logo", about.picture().map(String::from)),
    ];
    let links = links.into_iter().filter_map(|(label, url)| Some((label.to_string(), url?))).collect();
    Ok(Some(AboutRow { name: about.name, description: about.description, keywords: about.keywords, links }))
}

/// GET dynos
pub(super) async fn dynos(viewer: Viewer) -> Page {
    let platform = viewer.platform();
    let facts = Facts::of(platform, viewer.app()?)?;
    let row = |(formation, command): (Formation, String)| FormationRow {
        process_type: formation.process_type.to_string(),
        command,
        quantity: formation.quantity,
        size: formation.size,
    };
    let model = DynosPage {
        shell: viewer.shell(),
        app: facts.head(&viewer),
        formation: platform.formation(&facts.app)?.into_iter().map(row).collect(),
        dynos: dyno_rows(platform, &facts.dynos),
        sizes: platform.settings().sizes.0.iter().map(|size| size.name.clone()).collect(),
        max_quantity: MAX_QUANTITY,
    };
    page(&viewer, shipway_dashboard::dynos(&model))
}

/// What a form of the formation asks for, and how it is now.
fn wanted(viewer: &Viewer, quantity: &str, size: &str) -> Result<(Formation, u32)> {
    let app = viewer.app()?;
    let name = viewer.parameter("type");
    let formation = viewer.platform().formation(&app)?;
    let now = formation.into_iter().map(|(f, _)| f).find(|f| f.process_type.as_str() == name);
    let now = now.ok_or_else(|| ApiError::missing("formation"))?;
    viewer.platform().settings().sizes.find(size)?;
    let quantity = Quantity::parse(quantity.trim())?.apply(now.quantity);
    Ok((now, quantity))
}

/// GET scale.ask
pub(super) async fn ask_scale(viewer: Viewer) -> Page {
    let facts = Facts::of(viewer.platform(), viewer.app()?)?;
    let (quantity, size) = (viewer.query("quantity").unwrap_or_default(), viewer.query("size").unwrap_or_default());
    let (now, wanted) = wanted(&viewer, quantity, size)?;
    let kind = now.process_type.to_string();
    let mut lines = Vec::new();
    if now.quantity != wanted {
        lines.push(changed(format!("dynos: {} → {wanted}", now.quantity)));
    }
    if now.size != size {
        lines.push(changed(format!("size: {} → {size}", now.size)));
    }
    let warnings = match (kind.as_str(), wanted) {
        ("web", 0) => vec!["Without a web dyno visitors see an error page (H14).".to_string()],
        _ => Vec::new(),
    };
    let model = ConfirmPage {
        shell: viewer.shell(),
        app: Some(facts.head(&viewer)),
        title: format!("Scale {kind} to {wanted} x {size}?"),
        meaning: "New dynos start before old ones stop where both may run at once; no release is made.".into(),
        changes: vec![Changes { title: kind.clone(), lines }],
        links: Vec::new(),
        warnings,
        refused: refusal(&viewer, Trigger::Scale, &facts),
        asks_why: false,
        action_url: path("scale", &[facts.name(), &kind]),
        fields: vec![("quantity".into(), wanted.to_string()), ("size".into(), size.to_string())],
        button: format!("Scale {kind}"),
        danger: wanted == 0,
        back_url: path("dynos", &[facts.name()]),
    };
    page(&viewer, shipway_dashboard::confirm(&model))
}

fn changed(text: String) -> Change {
    Change { kind: ChangeKind::Changed, code: String::new(), text }
}

/// Why a page has no button: whom to ask.
pub(super) fn refusal(viewer: &Viewer, trigger: Trigger, facts: &Facts) -> Option<String> {
    let owner = facts.app.owner_email.to_ask();
    let access = || format!("You may look at {}, not do this. Ask {owner}, who owns it.", facts.name());
    match viewer.platform().refusal(&viewer.caller, trigger, &facts.app) {
        Ok(None) => None,
        Ok(Some(refused)) if refused.rule == "reserved" => Some(refused.to_string()),
        _ => Some(access()),
    }
}

/// POST scale
pub(super) async fn scale(viewer: Viewer) -> Page {
    let app = viewer.app()?;
    let field = |name: &str| viewer.field(name).unwrap_or_default();
    let (now, quantity) = wanted(&viewer, &field("quantity"), &field("size"))?;
    let kind = now.process_type.to_string();
    let update = ScaleUpdate {
        process_type: kind.clone(),
        quantity: Some(Quantity::Exactly(quantity)),
        size: Some(field("size")),
    };
    viewer.platform().scale(&viewer.caller, &app, vec![update]).await?;
    let text = format!("{kind} is being brought to {quantity}.");
    done(&viewer, &path("dynos", &[app.name.as_str()]), Mark::Good, &text)
}

/// GET restart.ask
pub(super) async fn ask_restart(viewer: Viewer) -> Page {
    let facts = Facts::of(viewer.platform(), viewer.app()?)?;
    let dyno = viewer.query("dyno").unwrap_or_default();
    if !dyno.is_empty() && !facts.dynos.iter().any(|row| row.name() == dyno) {
        return Err(ApiError::missing("dyno"));
    }
    let what = if dyno.is_empty() { "all dynos" } else { dyno };
    let model = ConfirmPage {
        shell: viewer.shell(),
        title: format!("Restart {what} of {}?", facts.name()),
        meaning: "A web dyno's successor is up before it stops; others stop, then start. What they wrote to their disk is lost.".into(),
        changes: Vec::new(),
        links: Vec::new(),
        warnings: Vec::new(),
        refused: refusal(&viewer, Trigger::Restart, &facts),
        asks_why: false,
        action_url: path("restart", &[facts.name()]),
        fields: if dyno.is_empty() { Vec::new() } else { vec![("dyno".into(), dyno.to_string())] },
        button: format!("Restart {what}"),
        danger: false,
        back_url: path("dynos", &[facts.name()]),
        app: Some(facts.head(&viewer)),
    };
    page(&viewer, shipway_dashboard::confirm(&model))
}

/// POST restart
pub(super) async fn restart(viewer: Viewer) -> Page {
    let app = viewer.app()?;
    let dyno = viewer.field("dyno").filter(|dyno| !dyno.is_empty());
    let text = format!("{} restarting.", dyno.as_deref().map_or("All dynos are".into(), |dyno| format!("{dyno} is")));
    let which = dyno.map_or(Which::All, Which::Dyno);
    viewer.platform().restart(&viewer.caller, &app, which).await?;
    done(&viewer, &path("dynos", &[app.name.as_str()]), Mark::Good, &text)
}
