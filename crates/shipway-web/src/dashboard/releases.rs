//! Releases, and the way back to one.

use super::apps::refusal;
use super::facts::{Facts, Releases, build_of, build_url, failure};
use super::logs::output_so_far;
use super::visit::Viewer;
use super::{Page, difference, done, page};
use crate::api::releases::{coming, schema_moved};
use crate::{ApiError, Result};
use shipway_dashboard::model::{ConfirmPage, Failure, Mark, ProcessRow, ReleasePage, ReleasesPage};
use shipway_dashboard::path;
use shipway_domain::admission::Trigger;
use shipway_domain::lifecycle::ReleaseStatus;
use shipway_store::{Operation, Release, Slug};
use std::collections::BTreeMap;

/// Rows of a page.
const ROWS: usize = 25;

/// GET releases
pub(super) async fn list(viewer: Viewer) -> Page {
    let platform = viewer.platform();
    let facts = Facts::of(platform, viewer.app()?)?;
    let before: u64 = viewer.query("before").and_then(|before| before.parse().ok()).unwrap_or(u64::MAX);
    let mut releases = platform.store().read(|c| c.releases(facts.app.id))?;
    releases.retain(|release| release.version < before);
    let older = releases.get(ROWS).map(|_| releases[ROWS - 1].version);
    releases.truncate(ROWS);
    let mut rows = Releases::new(platform, &facts.app);
    let model = ReleasesPage {
        shell: viewer.shell(),
        app: facts.head(&viewer),
        releases: releases.iter().map(|release| rows.row(release)).collect(),
        older_url: older.map(|before| format!("{}?before={before}", path("releases", &[facts.name()]))),
    };
    page(&viewer, shipway_dashboard::releases(&model))
}

fn release(viewer: &Viewer, facts: &Facts) -> Result<Release> {
    Ok(viewer.platform().release(&facts.app, viewer.parameter("version"))?)
}

fn slug(viewer: &Viewer, release: &Release) -> Result<Option<Slug>> {
    let slug = release.slug.map(|id| viewer.platform().store().read(|c| c.slug(id))).transpose()?;
    Ok(slug.flatten())
}

/// Commands by process type.
fn commands(slug: &Slug) -> BTreeMap<String, String> {
    let types = slug.manifest.get("process_types").and_then(|types| types.as_object()).into_iter().flatten();
    types.filter_map(|(name, command)| Some((name.clone(), command.as_str()?.to_string()))).collect()
}

/// GET release
pub(super) async fn one(viewer: Viewer) -> Page {
    let platform = viewer.platform();
    let facts = Facts::of(platform, viewer.app()?)?;
    let release = release(&viewer, &facts)?;
    let build = build_of(platform, facts.app.id, &release)?;
    let config = platform.store().read(|c| c.release_config(release.id))?;
    let processes = slug(&viewer, &release)?.map(|slug| {
        let row = |(process_type, command)| ProcessRow { process_type, command, digest: slug.digest.to_string() };
        commands(&slug).into_iter().map(row).collect()
    });
    let output = match release.has_output {
        true => Some(output_so_far(platform, release.id.0).await.text),
        false => None,
    };
    let url = build.as_ref().map(|build| build_url(&facts.app, build));
    let failed = release.failure.as_deref();
    let model = ReleasePage {
        shell: viewer.shell(),
        failure: failed.map(|error| {
            let version = release.version;
            let what = match release.status {
                ReleaseStatus::Expired => format!("v{version} was not released"),
                _ => format!("v{version} failed"),
            };
            Failure { output_url: url.clone(), ..failure(&facts, &what, "Release", error) }
        }),
        release: Releases::new(platform, &facts.app).row(&release),
        processes: processes.unwrap_or_default(),
        config_names: config.keys().map(ToString::to_string).collect(),
        build_url: url,
        output,
        app: facts.head(&viewer),
    };
    page(&viewer, shipway_dashboard::release(&model))
}

/// GET rollback.ask
pub(super) async fn ask_rollback(viewer: Viewer) -> Page {
    let platform = viewer.platform();
    let facts = Facts::of(platform, viewer.app()?)?;
    let target = release(&viewer, &facts)?;
    let current = facts.release.clone().ok_or_else(|| ApiError::missing("release"))?;
    let refused = if target.id == current.id {
        Some(format!("v{} is what runs now.", target.version))
    } else if !platform.eligible_for_rollback(&target) {
        Some(format!("v{} failed, or its code is not kept any more. Choose another one.", target.version))
    } else {
        refusal(&viewer, Trigger::Rollback, &facts)
    };
    let newest = platform.store().read(|c| c.releases(facts.app.id))?.first().map_or(0, |release| release.version);
    let version = target.version;
    let now = platform.point_of(&facts.app, None, None).await?;
    let then = platform.point_of(&facts.app, None, Some(&format!("v{version}"))).await?;
    let difference = platform.compare(&viewer.caller, &now, &then).await?;
    let moved = schema_moved(platform, &facts.app, &target).await;
    let mut warnings = match moved {
        Some(moved) => moved.sentences(facts.name()),
        None if current.has_output => {
            vec!["A release phase ran since then. What it did to the database stays as it is.".to_string()]
        }
        None => Vec::new(),
    };
    warnings.extend(coming(platform, &facts.app)?);
    let model = ConfirmPage {
        shell: viewer.shell(),
        app: Some(facts.head(&viewer)),
        title: format!("Roll {} back to v{version}?", facts.name()),
        meaning: format!(
            "Makes v{} from v{version}’s build and config. Its dynos start first; no visitor notices.",
            newest + 1
        ),
        changes: difference::changes(&difference),
        links: difference::links(&difference),
        warnings,
        refused,
        asks_why: false,
        action_url: path("rollback", &[facts.name(), &format!("v{version}")]),
        fields: Vec::new(),
        button: format!("Roll back to v{version}"),
        danger: false,
        back_url: path("releases", &[facts.name()]),
    };
    page(&viewer, shipway_dashboard::confirm(&model))
}

/// POST rollback
pub(super) async fn rollback(viewer: Viewer) -> Page {
    let facts = Facts::of(viewer.platform(), viewer.app()?)?;
    let target = release(&viewer, &facts)?;
    let made = viewer.platform().rollback(&viewer.caller, &facts.app, &target).await?;
    let operations = viewer.platform().store().read(|c| c.operations(Some(facts.app.id), 20))?;
    let id = made.id.to_string();
    let makes = |operation: &&Operation| operation.plan["parts"][0]["release"]["release"] == id.as_str();
    let mine = operations.iter().find(makes);
    let text = format!("v{} is on its way: {} goes back to v{}.", made.version, facts.name(), target.version);
    let to = match mine {
        Some(operation) => path("operation", &[&operation.id.to_string()]),
        None => path("releases", &[facts.name()]),
    };
    done(&viewer, &to, Mark::Good, &text)
}
