//! Review apps on the board: their cards, and what is done about them.

use super::pipelines::{card, filter};
use super::visit::Viewer;
use super::{Page, done, page};
use crate::{ApiError, Result};
use shipway_dashboard::model::{Card, ConfirmPage, Failure, Mark, Pill};
use shipway_dashboard::path;
use shipway_domain::admission::Trigger;
use shipway_domain::review::{Checks, ReviewAppStatus};
use shipway_domain::{BranchName, ReviewAppId};
use shipway_engine::{NewReviewApp, ReviewSource};
use shipway_store::{App, ConfigVars, Coupling, Pipeline, PullRequest, ReviewApp, ReviewOrigin};

/// Review apps of a pipeline before "show all".
const REVIEW_APPS: usize = 8;

/// Whether the viewer may have review apps made and removed: who may deploy to the app that they are made like.
fn may_build(viewer: &Viewer, pipeline: &Pipeline) -> Result<bool> {
    let parent = viewer.platform().review_parent(pipeline)?;
    Ok(parent.is_some_and(|parent| viewer.may(Trigger::Push, &parent)))
}

/// Where the viewer has a review app of a branch made, where review apps are enabled.
pub(super) fn make_url(viewer: &Viewer, pipeline: &Pipeline) -> Result<Option<String>> {
    let enabled = viewer.platform().review_app_config(pipeline).is_ok();
    Ok((enabled && may_build(viewer, pipeline)?).then(|| path("review.make", &[pipeline.name.as_str()])))
}

/// The cards of review apps, what needs somebody first; how many there are in all; how many fit the filter and are not
/// shown.
pub(super) async fn cards(
    viewer: &Viewer,
    pipeline: &Pipeline,
    apps: &[(Coupling, App)],
) -> Result<(Vec<Card>, usize, usize)> {
    let platform = viewer.platform();
    let requests = platform.store().read(|c| c.pull_requests(pipeline.id))?;
    let request = |review: &ReviewApp| requests.iter().find(|r| Some(r.number) == review.pr_number);
    let reviews = platform.review_apps(pipeline)?;
    let count = reviews.len();
    let wanted = filter(viewer);
    let mut shown: Vec<(&ReviewApp, Option<&PullRequest>)> = reviews.iter().map(|r| (r, request(r))).collect();
    shown.retain(|(review, request)| {
        let title = request.map_or(String::new(), |r| format!("#{} {}", r.number, r.title.to_lowercase()));
        title.contains(&wanted) || review.branch.as_str().to_lowercase().contains(&wanted)
    });
    let may_build = may_build(viewer, pipeline)?;
    let me = viewer.caller.actor.account;
    shown.sort_by_key(|(review, request)| {
        let failed = review.status == ReviewAppStatus::Errored || request.is_some_and(|r| r.checks == Checks::Failed);
        let runs = matches!(review.status, ReviewAppStatus::Pending | ReviewAppStatus::Creating);
        (!failed, !runs, review.creator != me, std::cmp::Reverse(review.created_at))
    });
    let fitting = shown.len();
    if viewer.query("all").is_none() {
        shown.truncate(REVIEW_APPS);
    }
    let hidden = fitting - shown.len();
    let mut cards = Vec::with_capacity(shown.len());
    for (review, request) in shown {
        let place = apps.iter().find(|(_, app)| Some(app.id) == review.app);
        let mut card = match place {
            Some((coupling, app)) => card(viewer, pipeline, apps, coupling, app).await?,
            None => nothing_yet(review),
        };
        dress(&mut card, review, request);
        if review.status == ReviewAppStatus::Errored {
            card.failure = Some(failure_of(pipeline, review, may_build));
        }
        if let Some(request) = request.filter(|_| may_build)
            && platform.waits_for_permission(pipeline, request)?
        {
            card.allow_url = Some(path("fork.ask", &[pipeline.name.as_str(), &request.number.to_string()]));
        }
        if may_build && review.status != ReviewAppStatus::Deleting {
            card.remove_url = Some(path("review.remove.ask", &[pipeline.name.as_str(), &review.id.to_string()]));
        }
        cards.push(card);
    }
    Ok((cards, count, hidden))
}

/// A review app whose app is not there.
fn nothing_yet(review: &ReviewApp) -> Card {
    Card {
        title: review.app_name.as_ref().map_or_else(|| review.branch.to_string(), ToString::to_string),
        app: None,
        state: None,
        version: None,
        says: None,
        commit: Some(review.commit.to_string()),
        facts: Vec::new(),
        by: None,
        at: Some(review.updated_at),
        pills: Vec::new(),
        running: None,
        failure: None,
        allow_url: None,
        remove_url: None,
        promote: None,
        sign_for: None,
        previous_version: None,
        url: None,
    }
}

/// Says of a card what its pull request and its review say.
fn dress(card: &mut Card, review: &ReviewApp, request: Option<&PullRequest>) {
    if let Some(request) = request {
        card.says = Some(request.title.clone());
    }
    let number = review.pr_number.map(|number| format!("#{number}"));
    let from = review.fork.as_ref().map(|fork| format!("from {fork}"));
    card.facts = number.into_iter().chain([review.branch.to_string()]).chain(from).collect();
    let (mark, word) = match review.status {
        ReviewAppStatus::Pending => (Mark::Wait, "waits"),
        ReviewAppStatus::Creating => (Mark::Wait, "being made"),
        ReviewAppStatus::Deleting => (Mark::Wait, "being removed"),
        ReviewAppStatus::Errored => (Mark::Bad, "failed"),
        ReviewAppStatus::Created | ReviewAppStatus::Deleted => (Mark::Quiet, ""),
    };
    if !word.is_empty() {
        card.pills.push(Pill::new(mark, word));
        if let Some(message) = review.message.as_ref().filter(|_| review.status != ReviewAppStatus::Errored) {
            card.says = Some(message.clone());
        }
    }
    match request.map(|request| request.checks) {
        Some(Checks::Succeeded) => card.pills.push(Pill::new(Mark::Good, "checks passed")),
        Some(Checks::Failed) => card.pills.push(Pill::new(Mark::Bad, "checks failed")),
        Some(Checks::Pending) => card.pills.push(Pill::new(Mark::Wait, "checks run")),
        Some(Checks::Unknown) | None => {}
    }
    card.previous_version = None;
}

/// What went wrong with a review app. One whose app is there failed in its last step, which runs once in an app's life.
fn failure_of(pipeline: &Pipeline, review: &ReviewApp, may_retry: bool) -> Failure {
    let mut lines = review.message.iter().flat_map(|message| message.lines()).filter(|line| !line.trim().is_empty());
    let because = lines.next().unwrap_or("It gave no reason.").to_string();
    let (what, step) = match review.app {
        None => ("The review app could not be made.", "Make the app"),
        Some(_) => ("The review app is there, and not as its app.json wants it.", "Postdeploy script"),
    };
    let can_retry = may_retry && review.app.is_none() && review.origin != ReviewOrigin::Source;
    Failure {
        what: what.into(),
        step: step.into(),
        because,
        lines: lines.map(str::to_string).collect(),
        next: format!("Push what mends it to {}{}.", review.branch, if can_retry { ", or try again" } else { "" }),
        output_url: None,
        retry_url: can_retry.then(|| path("review.retry", &[pipeline.name.as_str(), &review.id.to_string()])),
    }
}

/// The review app of the path.
fn named(viewer: &Viewer, pipeline: &Pipeline) -> Result<ReviewApp> {
    let missing = || ApiError::missing("review_app");
    let id: ReviewAppId = viewer.parameter("review").parse().map_err(|_| missing())?;
    let review = viewer.platform().review_app(&viewer.caller, id)?;
    if review.pipeline == pipeline.id { Ok(review) } else { Err(missing()) }
}

/// POST review.retry
pub(super) async fn retry(viewer: Viewer) -> Page {
    let pipeline = viewer.pipeline()?;
    let review = named(&viewer, &pipeline)?;
    let again = viewer.platform().retry_review_app(&viewer.caller, &pipeline, review).await?;
    said(&viewer, &pipeline, &again, "is being made again")
}

/// POST review.make
pub(super) async fn make(viewer: Viewer) -> Page {
    let pipeline = viewer.pipeline()?;
    let branch = BranchName::parse(viewer.field("branch").unwrap_or_default().trim())?;
    let new = NewReviewApp { branch, pr_number: None, source: ReviewSource::Branch, environment: ConfigVars::new() };
    let made = viewer.platform().create_review_app(&viewer.caller, &pipeline, new).await?;
    said(&viewer, &pipeline, &made, "is being made")
}

/// Back to the board, with what is done about a review app: `goes_on`, unless it has to wait first.
fn said(viewer: &Viewer, pipeline: &Pipeline, review: &ReviewApp, goes_on: &str) -> Page {
    let text = match (&review.status, &review.message) {
        (ReviewAppStatus::Pending, Some(why)) => format!("The review app of {} is not made yet. {why}", review.branch),
        _ => format!("The review app of {} {goes_on}.", review.branch),
    };
    done(viewer, &path("pipeline", &[pipeline.name.as_str()]), Mark::Good, &text)
}

/// GET review.remove.ask
pub(super) async fn ask_remove(viewer: Viewer) -> Page {
    let pipeline = viewer.pipeline()?;
    let review = named(&viewer, &pipeline)?;
    let name = review.app_name.as_ref().map_or_else(|| review.branch.to_string(), ToString::to_string);
    let again = match review.pr_number {
        Some(number) => format!("It is made again when #{number} gets another commit."),
        None => "It can be made again from its branch.".into(),
    };
    let refused = (!may_build(&viewer, &pipeline)?).then(|| {
        format!("Whoever may deploy to the app that review apps of {} are made like may remove them.", pipeline.name)
    });
    let model = ConfirmPage {
        shell: viewer.shell(),
        app: None,
        title: format!("Remove {name}?"),
        meaning: format!("Ends the review app of {} with all that it owns, its database too. {again}", review.branch),
        changes: Vec::new(),
        links: Vec::new(),
        warnings: Vec::new(),
        refused,
        asks_why: false,
        action_url: path("review.remove", &[pipeline.name.as_str(), &review.id.to_string()]),
        fields: Vec::new(),
        button: format!("Remove {name}"),
        danger: true,
        back_url: path("pipeline", &[pipeline.name.as_str()]),
    };
    page(&viewer, shipway_dashboard::confirm(&model))
}

/// POST review.remove
pub(super) async fn remove(viewer: Viewer) -> Page {
    let pipeline = viewer.pipeline()?;
    let review = named(&viewer, &pipeline)?;
    viewer.platform().delete_review_app(&viewer.caller, &review).await?;
    let text = format!("The review app of {} is being removed.", review.branch);
    done(&viewer, &path("pipeline", &[pipeline.name.as_str()]), Mark::Good, &text)
}
