//! What the CLI asks of GitHub, and of the go-between that Heroku keeps before it, when it comes by our bridge.
//!
//! `pipelines:diff` asks for the repository of two apps and compares commits in it: we compare them in our own, so no
//! forge is needed. The apps of a pipeline share one repository: the one that `pipelines:connect` named, else
//! `shipway/<pipeline>`. The token that is handed out is the caller's own, which leads back here.

use super::pipelines::named as pipeline;
use crate::{Answer, ApiError, Call, Result};
use serde_json::{Value, json};
use shipway_domain::CommitId;
use shipway_domain::triggers::{RefKind, RefPattern};
use shipway_store::{App, Pipeline, PipelineSettings, RefTrigger, ReviewAppSettings};

/// How long an archive's link can be opened, in seconds: the CLI uses it at once.
const LINK: i64 = 3600;

/// GET /account/github/token
pub async fn token(call: Call) -> Result<Answer> {
    let own = crate::credentials(&call.headers).ok_or_else(ApiError::unauthorized)?;
    Ok(Answer::ok(json!({ "github": { "token": own.secret } })))
}

/// GET /apps/{app}/github: in which repository its commits are found.
pub async fn of_app(call: Call) -> Result<Answer> {
    let app = call.app()?;
    let pipeline = pipeline_of(&call, &app)?;
    Ok(Answer::ok(link_of(&call, &app, &pipeline)?))
}

fn pipeline_of(call: &Call, app: &App) -> Result<Pipeline> {
    let coupling = call.platform().coupling_of(app)?;
    Ok(call.platform().pipeline(&call.caller, &coupling.pipeline.into())?)
}

fn link_of(call: &Call, app: &App, pipeline: &Pipeline) -> Result<Value> {
    let review = call.platform().review_app_config(pipeline).ok().map(|config| config.settings);
    let (trigger, branch) = auto_deploy(call, app, pipeline)?;
    Ok(json!({
        "app_id": app.id,
        "auto_deploy": trigger.is_some(),
        "branch": branch,
        "pull_requests": {
            "enabled": review.is_some(),
            "auto_deploy": review.as_ref().is_some_and(|r| r.automatic_review_apps),
            "auto_destroy": review.as_ref().is_some_and(|r| r.destroy_stale_apps),
        },
        "repo": call.platform().repository_of(pipeline),
        "wait_for_ci": trigger.is_some_and(|trigger| trigger.wait_for_ci),
    }))
}

fn show(call: &Call, pipeline: &Pipeline) -> Value {
    let name = call.platform().repository_of(pipeline);
    json!({
        "organization": null,
        "pipeline": { "id": pipeline.id },
        "repository": { "id": repository_id(&name), "name": name, "type": "github" },
    })
}

/// GET /pipelines/{pipeline}/repository
pub async fn of_pipeline(call: Call) -> Result<Answer> {
    let pipeline = pipeline(&call)?;
    if pipeline.settings.repository.is_none() {
        return Err(ApiError::missing("repository"));
    }
    Ok(Answer::ok(show(&call, &pipeline)))
}

/// POST /pipelines/{pipeline}/repository `{repository: ID}`, the id from [`info`].
pub async fn connect(call: Call) -> Result<Answer> {
    let pipeline = pipeline(&call)?;
    let id = call.payload()?.number("repository")?.ok_or_else(|| ApiError::invalid("`repository` is missing."))?;
    let name = call.web.repositories().name(id).ok_or_else(|| ApiError::missing("repository"))?;
    let change = move |settings: &mut PipelineSettings| settings.repository = Some(name);
    let changed = call.platform().change_pipeline_settings(&call.caller, &pipeline, change).await?;
    Ok(Answer::created(show(&call, &changed)))
}

/// PATCH /pipelines/{pipeline}/repository: `pipelines:setup` asks for Heroku CI there, which is not here.
pub async fn update(call: Call) -> Result<Answer> {
    let pipeline = pipeline(&call)?;
    let mut shown = show(&call, &pipeline);
    shown["ci"] = json!(false);
    Ok(Answer::ok(shown))
}

/// The trigger by which the repository's default branch deploys the app, and that branch.
fn auto_deploy(call: &Call, app: &App, pipeline: &Pipeline) -> Result<(Option<RefTrigger>, String)> {
    let branch = call.platform().default_branch(&call.caller, &call.platform().repository_of(pipeline))?;
    let wanted = RefPattern::parse(RefKind::Branch, &branch).map_err(shipway_engine::Error::from)?;
    let there = call.platform().triggers(app)?.into_iter().find(|trigger| trigger.pattern == wanted);
    Ok((there, branch))
}

/// What is not given stays as it is.
async fn set_auto_deploy(
    call: &Call,
    app: &App,
    pipeline: &Pipeline,
    on: Option<bool>,
    wait_for_ci: Option<bool>,
) -> Result<()> {
    let (there, branch) = auto_deploy(call, app, pipeline)?;
    let before = there.as_ref().map(|trigger| trigger.wait_for_ci);
    let wanted = on.unwrap_or(before.is_some()).then(|| wait_for_ci.or(before).unwrap_or(false));
    if wanted == before {
        return Ok(());
    }
    if let Some(trigger) = there {
        call.platform().remove_trigger(&call.caller, app, trigger.id).await?;
    }
    if let Some(wait_for_ci) = wanted {
        call.platform().add_trigger(&call.caller, app, RefKind::Branch, &branch, wait_for_ci).await?;
    }
    Ok(())
}

/// PATCH /apps/{app}/github `{auto_deploy, wait_for_ci, pull_requests: {enabled, auto_deploy, auto_destroy}}`: whether
/// the repository's default branch deploys the app by itself, and review apps of the app's pipeline.
pub async fn link(call: Call) -> Result<Answer> {
    let app = call.app()?;
    let pipeline = pipeline_of(&call, &app)?;
    let payload = call.payload()?;
    set_auto_deploy(&call, &app, &pipeline, payload.flag("auto_deploy")?, payload.flag("wait_for_ci")?).await?;
    let wanted = payload.object("pull_requests")?.unwrap_or_default();
    let here = call.platform().review_app_config(&pipeline).is_ok();
    let enabled = wanted.flag("enabled")?;
    if enabled == Some(true) || (here && enabled.is_none()) {
        let repo = call.platform().repository_of(&pipeline);
        let (by_itself, stale) = (wanted.flag("auto_deploy")?, wanted.flag("auto_destroy")?);
        let change = move |settings: &mut ReviewAppSettings| {
            settings.repo = repo;
            settings.automatic_review_apps = by_itself.unwrap_or(settings.automatic_review_apps);
            settings.destroy_stale_apps = stale.unwrap_or(settings.destroy_stale_apps);
        };
        call.platform().set_review_app_config(&call.caller, &pipeline, change).await?;
    } else if here {
        call.platform().disable_review_apps(&call.caller, &pipeline).await?;
    }
    Ok(Answer::ok(link_of(&call, &app, &pipeline)?))
}

pub(super) fn full_name(call: &Call) -> Result<String> {
    let name = format!("{}/{}", call.parameter("owner"), call.parameter("repository"));
    let plain = |part: &str| {
        let known = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        !part.is_empty() && part.len() <= 100 && !part.starts_with('.') && part.bytes().all(known)
    };
    match name.split_once('/') {
        Some((owner, repository)) if plain(owner) && plain(repository) => Ok(name),
        _ => Err(ApiError::missing("repository")),
    }
}

/// An id that a name always has, and that is exact as a JSON number.
fn repository_id(name: &str) -> u64 {
    let digest = ring::digest::digest(&ring::digest::SHA256, name.to_ascii_lowercase().as_bytes());
    digest.as_ref()[..6].iter().fold(0, |id, byte| id << 8 | u64::from(*byte))
}

/// GET /github/repos/{owner}/{repository}/tarball/{*reference}: a link to the archive, for a while.
pub async fn tarball(call: Call) -> Result<Answer> {
    let at = call.platform().find_source(&call.caller, &full_name(&call)?, call.parameter("reference")).await?;
    let path = call.web.signed().archive(&at, call.platform().now().as_second() + LINK);
    Ok(Answer::ok(json!({ "archive_link": call.origin.url(&path) })))
}

/// GET /repos/{owner}/{repository}. Whether a forge has it is not asked: the name is what is kept.
pub async fn info(call: Call) -> Result<Answer> {
    let name = full_name(&call)?;
    let id = repository_id(&name);
    call.web.repositories().remember(id, &name);
    let branch = call.platform().default_branch(&call.caller, &name)?;
    Ok(Answer::ok(json!({ "id": id, "full_name": name, "default_branch": branch })))
}

/// GET /repos/{owner}/{repository}/compare/{commits}: `BASE...HEAD`, commits that apps of the pipeline run. Oldest first.
pub async fn compare(call: Call) -> Result<Answer> {
    let (name, missing) = (full_name(&call)?, || ApiError::missing("commit"));
    let (base, head) = call.parameter("commits").split_once("...").ok_or_else(missing)?;
    let (base, head) = (CommitId::parse(base).map_err(|_| missing())?, CommitId::parse(head).map_err(|_| missing())?);
    for pipeline in call.platform().pipelines(&call.caller)? {
        if !call.platform().repository_of(&pipeline).eq_ignore_ascii_case(&name) {
            continue;
        }
        let (Some(base), Some(head)) = (at(&call, &pipeline, &base)?, at(&call, &pipeline, &head)?) else { continue };
        let base = call.platform().point(&call.caller, Some(&pipeline), &base).await?;
        let head = call.platform().point(&call.caller, Some(&pipeline), &head).await?;
        let commits = call.platform().compare(&call.caller, &base, &head).await?.commits.unwrap_or_default();
        let shown = commits.ahead.iter().rev().map(|c| {
            let author = json!({ "name": c.author, "date": crate::present::time(c.committed_at) });
            json!({ "sha": c.id, "commit": { "author": author, "message": c.subject } })
        });
        return Ok(Answer::ok(json!({
            "status": if commits.behind_count == 0 { "ahead" } else { "diverged" },
            "ahead_by": commits.ahead_count,
            "behind_by": commits.behind_count,
            "total_commits": commits.ahead_count,
            "commits": shown.collect::<Vec<_>>(),
        })));
    }
    Err(missing())
}

/// `app@commit` of an app of the pipeline that runs the commit.
fn at(call: &Call, pipeline: &Pipeline, commit: &CommitId) -> Result<Option<String>> {
    for (_, app) in call.platform().pipeline_apps(&call.caller, pipeline)? {
        let running = call.platform().store().read(|c| c.running(&app))?;
        if running.and_then(|(_, slug)| slug.commit).as_ref() == Some(commit) {
            return Ok(Some(format!("{}@{commit}", app.name)));
        }
    }
    Ok(None)
}

/// Repositories that somebody has just looked at, by the id that [`connect`] names them with.
#[derive(Default)]
pub(crate) struct Looked(std::sync::Mutex<std::collections::VecDeque<(u64, String)>>);

/// The CLI connects a moment after it looked.
const LOOKED: usize = 1000;

impl Looked {
    fn remember(&self, id: u64, name: &str) {
        let mut seen = self.0.lock().expect("no panic while looked at");
        seen.retain(|(known, _)| *known != id);
        seen.push_back((id, name.to_string()));
        if seen.len() > LOOKED {
            seen.pop_front();
        }
    }

    fn name(&self, id: u64) -> Option<String> {
        let seen = self.0.lock().expect("no panic while looked at");
        seen.iter().find(|(known, _)| *known == id).map(|(_, name)| name.clone())
    }
}
