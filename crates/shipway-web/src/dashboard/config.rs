//! Config vars: hidden until somebody asks, and who asks is written down.

use super::apps::refusal;
use super::facts::Facts;
use super::visit::Viewer;
use super::{Page, done, page};
use crate::Result;
use shipway_dashboard::model::{
    Change, ChangeKind, Changes, ConfigPage, ConfigVar, ConfirmPage, Mark, RefusedVar, Shown,
};
use shipway_dashboard::{form_text, path};
use shipway_domain::ConfigKey;
use shipway_domain::admission::Trigger;
use shipway_engine::without_effect;
use shipway_store::ConfigVars;
use std::collections::BTreeMap;

/// Entries of the ledger that are searched for who set what.
const SEARCHED: u32 = 500;

/// GET config
pub(super) async fn list(viewer: Viewer) -> Page {
    let facts = Facts::of(viewer.platform(), viewer.app()?)?;
    let vars = viewer.platform().config_vars(&viewer.caller, &facts.app)?;
    show(&viewer, &facts, &vars, |_, _| Shown::Hidden, None)
}

/// POST config.reveal
pub(super) async fn reveal(viewer: Viewer) -> Page {
    let facts = Facts::of(viewer.platform(), viewer.app()?)?;
    let wanted = viewer.field("name").filter(|name| !name.is_empty());
    let vars = viewer.platform().reveal_config_vars(&viewer.caller, &facts.app, wanted.as_deref()).await?;
    let shown = |name: &str, value: &str| match wanted.as_deref() {
        Some(wanted) if wanted != name => Shown::Hidden,
        wanted => Shown::of(value, wanted.is_some()),
    };
    show(&viewer, &facts, &vars, shown, None)
}

fn show(
    viewer: &Viewer,
    facts: &Facts,
    vars: &ConfigVars,
    shown: impl Fn(&str, &str) -> Shown,
    refused: Option<RefusedVar>,
) -> Page {
    let ledger = viewer.platform().store().read(|c| c.ledger(Some(facts.app.id), SEARCHED))?;
    let row = |(name, value): (&ConfigKey, &String)| {
        let names = |entry: &&shipway_store::LedgerEntry| {
            let set = entry.detail.get("set").and_then(|set| set.as_array());
            entry.action == "config" && set.is_some_and(|set| set.iter().any(|one| one == name.as_str()))
        };
        let last = ledger.iter().find(names);
        ConfigVar {
            name: name.to_string(),
            value: shown(name.as_str(), value),
            set_at: last.map(|entry| entry.at),
            set_by: last.map(|entry| entry.actor.clone()),
        }
    };
    let vars = vars.iter().map(row).collect();
    let model = ConfigPage { shell: viewer.shell(), app: facts.head(viewer), vars, refused };
    page(viewer, shipway_dashboard::config(&model))
}

/// POST config.set
pub(super) async fn set(viewer: Viewer) -> Page {
    let facts = Facts::of(viewer.platform(), viewer.app()?)?;
    let name = viewer.field("name").unwrap_or_default().trim().to_string();
    let value = form_text(&viewer.field("value").unwrap_or_default());
    let change = BTreeMap::from([(name.clone(), Some(value.clone()))]);
    match viewer.platform().set_config_vars(&viewer.caller, &facts.app, change).await {
        Ok(_) => match without_effect(&facts.app, [name.as_str()].into_iter()) {
            Some(warning) => done(&viewer, &path("config", &[facts.name()]), Mark::Bad, &warning),
            None => changed(&viewer, &facts, &format!("{name} is set. A release with it is on its way.")),
        },
        Err(error) if error.kind == shipway_engine::Kind::Invalid => {
            let vars = viewer.platform().config_vars(&viewer.caller, &facts.app)?;
            let refused = RefusedVar { name, value, because: error.message };
            show(&viewer, &facts, &vars, |_, _| Shown::Hidden, Some(refused))
        }
        Err(error) => Err(error.into()),
    }
}

fn changed(viewer: &Viewer, facts: &Facts, text: &str) -> Page {
    done(viewer, &path("config", &[facts.name()]), Mark::Good, text)
}

/// The config var that a request names, which must be there.
fn there(viewer: &Viewer, facts: &Facts, name: &str) -> Result<String> {
    let vars = viewer.platform().config_vars(&viewer.caller, &facts.app)?;
    let found = vars.keys().find(|key| key.as_str() == name).map(ToString::to_string);
    found.ok_or_else(|| crate::ApiError::missing("config_var"))
}

/// GET config.unset.ask
pub(super) async fn ask_unset(viewer: Viewer) -> Page {
    let facts = Facts::of(viewer.platform(), viewer.app()?)?;
    let name = there(&viewer, &facts, viewer.query("name").unwrap_or_default())?;
    let gone = Change { kind: ChangeKind::Removed, code: String::new(), text: name.clone() };
    let model = ConfirmPage {
        shell: viewer.shell(),
        app: Some(facts.head(&viewer)),
        title: format!("Remove {name}?"),
        meaning: "Makes a new release without it; its dynos replace the running ones.".into(),
        changes: vec![Changes { title: "Config".into(), lines: vec![gone] }],
        links: Vec::new(),
        warnings: vec!["Its value is gone then. Reveal and copy it first if somebody may need it.".into()],
        refused: refusal(&viewer, Trigger::Config, &facts),
        asks_why: false,
        action_url: path("config.unset", &[facts.name()]),
        fields: vec![("name".into(), name.clone())],
        button: format!("Remove {name}"),
        danger: true,
        back_url: path("config", &[facts.name()]),
    };
    page(&viewer, shipway_dashboard::confirm(&model))
}

/// POST config.unset
pub(super) async fn unset(viewer: Viewer) -> Page {
    let facts = Facts::of(viewer.platform(), viewer.app()?)?;
    let name = there(&viewer, &facts, &viewer.field("name").unwrap_or_default())?;
    let change = BTreeMap::from([(name.clone(), None)]);
    viewer.platform().set_config_vars(&viewer.caller, &facts.app, change).await?;
    changed(&viewer, &facts, &format!("{name} is removed. A release without it is on its way."))
}
