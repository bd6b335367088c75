//! Pipelines and products: the board, and the way on from it.

use super::facts::{Facts, email};
use super::visit::Viewer;
use super::{Page, difference, done, page, reviews, together, words};
use crate::{ApiError, Result};
use shipway_dashboard::model::{
    BoardPage, BoardRow, Card, Changes, Column, ConfirmPage, Event, ExternalStepRow, Group, Mark, Pill, PipelineRow,
    PipelinesPage, ProductRow, Promote, Running, SignFor, UpstreamRow, Waits,
};
use shipway_dashboard::path;
use shipway_domain::address::RemoteAddress;
use shipway_domain::admission::Trigger;
use shipway_domain::sign_off::{Party, and};
use shipway_domain::{AppId, CommitId, Stage};
use shipway_engine::{Outlook, Promotable, PromotionOrder};
use shipway_store::{App, Coupling, ExternalStep, Pipeline, Upstream};
use std::collections::HashMap;

/// Entries of the ledger on a board, and how many are looked through for them.
const ACTIVITY: usize = 10;
const SEARCHED: u32 = 500;

/// GET pipelines
pub(super) async fn list(viewer: Viewer) -> Page {
    let platform = viewer.platform();
    let mut pipelines = Vec::new();
    let mut names = HashMap::new();
    for pipeline in platform.pipelines(&viewer.caller)? {
        let apps = platform.pipeline_apps(&viewer.caller, &pipeline)?;
        let count = |stage: Stage| apps.iter().filter(|(coupling, _)| coupling.stage == stage).count();
        let stages = Stage::ALL.into_iter().map(|stage| (stage, count(stage))).filter(|(_, count)| *count > 0);
        names.insert(pipeline.id, pipeline.name.to_string());
        pipelines.push(PipelineRow {
            name: pipeline.name.to_string(),
            owner: pipeline.owner_email.to_string(),
            stages: stages.map(|(stage, count)| format!("{count} {stage}")).collect(),
            says: waiting(&viewer, &apps).await?.join(" "),
        });
    }
    let products = platform.products(&viewer.caller)?;
    let products = products.into_iter().map(|product| ProductRow {
        name: product.name.to_string(),
        pipelines: product.pipelines.iter().filter_map(|id| names.get(id).cloned()).collect(),
    });
    let model = PipelinesPage { shell: viewer.shell(), pipelines, products: products.collect() };
    page(&viewer, shipway_dashboard::pipelines(&model))
}

/// What has not been carried on yet, a sentence per app that has a next stage.
async fn waiting(viewer: &Viewer, apps: &[(Coupling, App)]) -> Result<Vec<String>> {
    let mut says = Vec::new();
    for (_, app) in apps.iter().rev() {
        let Some(outlook) = viewer.platform().outlook(apps, app, None)? else { continue };
        let waits = outlook.targets.iter().any(|(_, done)| done.is_none());
        let (to, version) = (outlook.to, outlook.source.release.version);
        says.push(match (waits, behind(viewer, &outlook).await?) {
            (true, Some(behind)) => behind,
            (true, None) => format!("v{version} of {} ({}) waits for {to}.", app.name, outlook.source.commit()),
            (false, _) => format!("Nothing of {} waits for {to}.", app.name),
        });
    }
    says.dedup();
    if says.is_empty() {
        says.push(if apps.is_empty() { "No apps yet." } else { "Nothing to promote." }.into());
    }
    Ok(says)
}

/// What is said of a step backwards: every app that would change has what it would get, and more.
async fn behind(viewer: &Viewer, outlook: &Outlook) -> Result<Option<String>> {
    let open = || outlook.targets.iter().filter(|(_, done)| done.is_none());
    for (target, _) in open() {
        if !viewer.platform().would_go_back(&outlook.source, target).await? {
            return Ok(None);
        }
    }
    let source = &outlook.source;
    Ok(open().next().map(|_| format!("{} ({}) is behind {}.", source.app.name, source.commit(), outlook.to)))
}

/// GET pipeline
pub(super) async fn board(viewer: Viewer) -> Page {
    let pipeline = viewer.pipeline()?;
    let apps = viewer.platform().pipeline_apps(&viewer.caller, &pipeline)?;
    let model = BoardPage {
        shell: viewer.shell(),
        name: pipeline.name.to_string(),
        is_product: false,
        says: waiting(&viewer, &apps).await?,
        filter: filter(&viewer),
        together: Vec::new(),
        rows: vec![row(&viewer, &pipeline, &apps).await?],
        activity: activity(&viewer, &apps)?,
        steps: Vec::new(),
        command: None,
    };
    page(&viewer, shipway_dashboard::board(&model))
}

/// GET product
pub(super) async fn product(viewer: Viewer) -> Page {
    let product = viewer.product()?;
    let (mut rows, mut all) = (Vec::new(), Vec::new());
    let mut steps = Vec::new();
    for id in &product.pipelines {
        let Ok(pipeline) = viewer.platform().pipeline(&viewer.caller, &id.into()) else { continue };
        let apps = viewer.platform().pipeline_apps(&viewer.caller, &pipeline)?;
        rows.push(row(&viewer, &pipeline, &apps).await?);
        all.extend(apps);
        let its_step = product.settings.steps.iter().enumerate().find(|(_, step)| step.pipeline == *id);
        steps.extend(its_step.map(|(at, step)| (at, step_row(&pipeline, step))));
    }
    steps.sort_by_key(|(at, _)| *at);
    let hidden = product.pipelines.len() - rows.len();
    // All of it moves, or none: also what the viewer may not see.
    let together = if hidden == 0 { together::offers(&viewer, &product).await? } else { Vec::new() };
    let mut says = match product.pipelines.len() {
        0 => vec!["No pipeline is left in it, so there is nothing to promote.".to_string()],
        1 => vec!["1 pipeline.".to_string()],
        several => vec![format!("{several} pipelines, promoted together.")],
    };
    if hidden > 0 {
        says.push(format!("{hidden} of them you may not see. Ask {}.", product.owner_email.to_ask()));
    }
    let model = BoardPage {
        shell: viewer.shell(),
        name: product.name.to_string(),
        is_product: true,
        says,
        filter: filter(&viewer),
        together,
        rows,
        activity: activity(&viewer, &all)?,
        steps: steps.into_iter().map(|(_, step)| step).collect(),
        command: Some(match product.pipelines.is_empty() {
            true => format!("shipway products add {} PIPELINE", product.name),
            false => format!("shipway promote staging production --product {} --dry-run", product.name),
        }),
    };
    page(&viewer, shipway_dashboard::board(&model))
}

fn step_row(pipeline: &Pipeline, step: &ExternalStep) -> ExternalStepRow {
    ExternalStepRow {
        name: step.name.clone(),
        pipeline: pipeline.name.to_string(),
        command: step.command.clone(),
        undo: step.undo.clone(),
    }
}

pub(super) fn filter(viewer: &Viewer) -> String {
    viewer.query("q").unwrap_or_default().trim().to_lowercase()
}

fn activity(viewer: &Viewer, apps: &[(Coupling, App)]) -> Result<Vec<Event>> {
    let entries = viewer.platform().store().read(|c| c.ledger(None, SEARCHED))?;
    let names: HashMap<AppId, String> = apps.iter().map(|(_, app)| (app.id, app.name.to_string())).collect();
    let mine = entries.iter().filter(|entry| entry.app.is_some_and(|app| names.contains_key(&app)));
    Ok(mine.take(ACTIVITY).map(|entry| words::event(entry, Some(&names))).collect())
}

/// A pipeline's columns. Stages without apps stand there only where a build would pass through them.
async fn row(viewer: &Viewer, pipeline: &Pipeline, apps: &[(Coupling, App)]) -> Result<BoardRow> {
    let mut columns = Vec::new();
    let waiting = viewer.platform().waiting_for_sign_offs(&viewer.caller, pipeline)?;
    for stage in Stage::ALL {
        let mut make_url = None;
        let (groups, count, hidden) = match stage {
            Stage::Review => {
                make_url = reviews::make_url(viewer, pipeline)?;
                let (cards, count, hidden) = reviews::cards(viewer, pipeline, apps).await?;
                (cards.into_iter().map(Group::one).collect(), count, hidden)
            }
            _ => {
                let mut cards = Vec::new();
                for (coupling, app) in apps.iter().filter(|(coupling, _)| coupling.stage == stage) {
                    cards.push(card(viewer, pipeline, apps, coupling, app).await?);
                }
                let count = cards.len();
                (Group::by_commit(cards), count, 0)
            }
        };
        if count == 0 && make_url.is_none() && !matches!(stage, Stage::Staging | Stage::Production) {
            continue;
        }
        columns.push(Column {
            stage: stage.to_string(),
            hidden,
            waits: waiting.iter().filter(|it| it.stage == stage).map(|it| waits(viewer, it)).collect(),
            empty: match count {
                0 if stage == Stage::Review => "No review app yet.".into(),
                0 => "No app here yet.".into(),
                _ => "No review app has that in its title, branch or number.".into(),
            },
            empty_command: (count == 0 && stage != Stage::Review)
                .then(|| format!("heroku pipelines:add {} -a APP -s {stage}", pipeline.name)),
            make_url,
            count,
            groups,
        });
    }
    let checked_by = pipeline.settings.refuse_unchecked.iter().map(ToString::to_string).collect();
    Ok(BoardRow { name: pipeline.name.to_string(), upstream: upstream(viewer, pipeline)?, checked_by, columns })
}

fn waits(viewer: &Viewer, it: &shipway_engine::Waits) -> Waits {
    Waits {
        commit: it.deploy.commit.to_string(),
        what: format!("{}, for {}", it.deploy.reference, it.app),
        lacks: and(it.missing.iter().map(|party| &party.name)),
        sign_as: mine(viewer, &it.missing),
    }
}

/// The parties that the viewer may sign for.
fn mine(viewer: &Viewer, missing: &[Party]) -> Vec<String> {
    let me = viewer.caller.actor.account;
    let mine = missing.iter().filter(|party| party.people.iter().any(|person| person.account == me));
    mine.map(|party| party.name.to_string()).collect()
}

/// POST sign_off
pub(super) async fn sign_off(viewer: Viewer) -> Page {
    let pipeline = viewer.pipeline()?;
    let stage = Stage::parse(viewer.parameter("stage"))?;
    let field = |name: &str| viewer.field(name).unwrap_or_default();
    let (commit, party) = (field("commit"), field("party"));
    let signed = viewer.platform().sign_off(&viewer.caller, &pipeline, stage, &commit, &party, None).await?;
    let text = format!("You signed {} off for {stage}, as {party}.", signed.commit.short());
    done(&viewer, &path("pipeline", &[pipeline.name.as_str()]), Mark::Good, &text)
}

fn upstream(viewer: &Viewer, pipeline: &Pipeline) -> Result<Option<UpstreamRow>> {
    let row = |it: Upstream| {
        let address = it.url.as_deref().and_then(|url| RemoteAddress::parse(url).ok());
        UpstreamRow {
            branch: it.branch.to_string(),
            from: address.map(|address| address.shown().to_string()),
            tip: it.tip.map(|tip| tip.to_string()),
            heard_at: it.heard_at,
            failure: it.failure,
            refused_by: pipeline.settings.refuse_behind.iter().map(ToString::to_string).collect(),
        }
    };
    Ok(viewer.platform().upstream(pipeline)?.map(row))
}

pub(super) async fn card(
    viewer: &Viewer,
    pipeline: &Pipeline,
    apps: &[(Coupling, App)],
    coupling: &Coupling,
    app: &App,
) -> Result<Card> {
    let platform = viewer.platform();
    let facts = Facts::of(platform, app.clone())?;
    let slug = facts.release.as_ref().and_then(|release| release.slug);
    let slug = slug.map(|slug| platform.store().read(|c| c.slug(slug))).transpose()?.flatten();
    let formation = platform.formation(app)?.into_iter().filter(|(formation, _)| formation.quantity > 0);
    let dynos: Vec<String> = formation.map(|(f, _)| format!("{} {}", f.quantity, f.process_type)).collect();
    let release = facts.release.as_ref().filter(|_| slug.is_some());
    let promoted = release.and_then(|release| release.description.strip_prefix("Promote "));
    let origin = promoted.map(|what| format!("from {}", what.split(' ').take(2).collect::<Vec<_>>().join(" ")));
    let mut pills = Vec::new();
    // A history that cannot be read takes nothing else from the page.
    if let Ok(Some(beside)) = platform.beside(app).await {
        let same = beside.standing.ahead_count == 0 && beside.standing.behind_count == 0;
        pills.extend((!same).then(|| Pill::new(Mark::Wait, beside.sentence())));
    }
    pills.extend(platform.reservation(app)?.map(|held| Pill::new(Mark::Wait, format!("reserved by {}", held.email))));
    let running = facts.running(platform)?.map(|it| Running { steps: words::ahead(it.steps), ..it });
    let commit = slug.as_ref().and_then(|slug| slug.commit.as_ref());
    let sign_for = commit.map(|commit| sign_for(viewer, pipeline, coupling.stage, commit)).transpose()?.flatten();
    let may_go_back = running.is_none() && viewer.may(Trigger::Rollback, app);
    Ok(Card {
        title: coupling.display_name.as_ref().map_or_else(|| app.name.to_string(), ToString::to_string),
        app: Some(app.name.to_string()),
        state: Some(facts.state(platform)),
        version: release.map(|release| release.version),
        says: release.map(|release| {
            let subject = slug.as_ref().and_then(|slug| slug.commit_description.clone());
            subject.unwrap_or_else(|| release.description.clone())
        }),
        commit: slug.and_then(|slug| slug.commit).map(|commit| commit.to_string()),
        facts: origin.into_iter().chain((!dynos.is_empty()).then(|| dynos.join(", "))).collect(),
        by: release.map(|release| email(platform, release.account)),
        at: release.map(|release| release.created_at),
        pills,
        failure: if running.is_some() { None } else { facts.failed(viewer)? },
        allow_url: None,
        remove_url: None,
        promote: match platform.outlook(apps, app, None)? {
            Some(outlook) => Some(way_on(viewer, pipeline, app, &outlook).await?),
            None => None,
        },
        sign_for,
        previous_version: if may_go_back { facts.previous(platform)? } else { None },
        url: release.map(|_| platform.web_url(app.name.as_str())),
        running,
    })
}

/// What the viewer may sign of a commit so that the stage after its own takes it.
fn sign_for(viewer: &Viewer, pipeline: &Pipeline, stage: Stage, commit: &CommitId) -> Result<Option<SignFor>> {
    let Some(next) = stage.next() else { return Ok(None) };
    let parties = mine(viewer, &viewer.platform().unsigned_by(pipeline, next, commit)?);
    Ok((!parties.is_empty()).then(|| SignFor { stage: next.to_string(), parties }))
}

async fn way_on(viewer: &Viewer, pipeline: &Pipeline, app: &App, outlook: &Outlook) -> Result<Promote> {
    let done: Option<Vec<&str>> = outlook.targets.iter().map(|(_, done)| done.as_deref()).collect();
    let verdict = match &done {
        Some(done) => Some(done.join(" ")),
        None => match out_of_reach(viewer, outlook).await.filter(|refused| refused.all) {
            Some(refused) => refused.because.into_iter().next(),
            None => match &outlook.against {
                Some(against) => Some(against.refusal.clone()),
                None => behind(viewer, outlook).await?,
            },
        },
    };
    Ok(Promote {
        to: outlook.to.to_string(),
        ask_url: path("promote.ask", &[pipeline.name.as_str(), app.name.as_str()]),
        is_done: done.is_some(),
        verdict,
    })
}

/// What keeps a viewer from some targets of a promotion, or from all.
struct OutOfReach {
    /// Why, target by target.
    because: Vec<String>,
    /// Whether none is left.
    all: bool,
}

/// Which targets would be refused: this viewer may not deploy there, or the gate would keep the code out.
async fn out_of_reach(viewer: &Viewer, outlook: &Outlook) -> Option<OutOfReach> {
    let (mut because, mut open) = (Vec::new(), 0);
    for (target, _) in outlook.targets.iter().filter(|(_, done)| done.is_none()) {
        open += 1;
        because.extend(refusal(viewer, target, &outlook.source).await);
    }
    let all = because.len() == open;
    because.dedup();
    (!because.is_empty()).then_some(OutOfReach { because, all })
}

/// Why a promotion to an app would be refused to the viewer. A history that cannot be read keeps the code out, and takes
/// nothing else from the page.
pub(super) async fn refusal(viewer: &Viewer, target: &App, source: &Promotable) -> Option<String> {
    if !viewer.may_deploy(target) {
        return Some(not_to_deploy(target));
    }
    let asked = viewer.platform().promotion_refusal(&viewer.caller, target, source).await;
    asked.unwrap_or_else(|error| {
        tracing::error!(app.name = %target.name, %error, cause = ?error.cause, "admission could not be asked for a page");
        Some(error.message)
    })
}

/// What somebody reads who sees an app and may not deploy to it.
fn not_to_deploy(app: &App) -> String {
    format!("You may look at {}, not deploy to it. Ask {}, who owns it.", app.name, app.owner_email.to_ask())
}

/// What stages in between a promotion would leave out: `staging`.
fn left_out(outlook: &Outlook) -> Option<String> {
    let stages: Vec<&str> = outlook.leaves_out.iter().map(|stage| stage.as_str()).collect();
    (!stages.is_empty()).then(|| stages.join(" and "))
}

/// Why a promotion that leaves a stage out is refused, whoever asks for it.
fn leaves_too_much_out(viewer: &Viewer, pipeline: &Pipeline, outlook: &Outlook) -> Option<String> {
    let stages = left_out(outlook).filter(|_| !pipeline.settings.may_skip_stages)?;
    let owner = pipeline.owner_email.to_ask();
    let way_out = match viewer.caller.actor.owns(&owner) {
        true => format!("allow it: shipway pipelines set {} --may-skip-stages yes", pipeline.name),
        false => format!("ask {owner}, who owns it."),
    };
    Some(format!(
        "From {} to {} leaves out {stages}, which the pipeline {} does not allow. Promote to {stages} first, or {way_out}",
        outlook.from, outlook.to, pipeline.name
    ))
}

pub(super) fn no_such_stage(text: &str) -> ApiError {
    let shown: String = text.chars().take(40).collect();
    let stages = Stage::ALL.map(|stage| stage.to_string()).join(", ");
    ApiError::invalid(format!("There is no stage {shown:?}. The stages are {stages}."))
}

/// What a promotion of an app to the stage that the viewer named would find, else to the next one.
fn outlook(viewer: &Viewer, pipeline: &Pipeline, app: &App, to: Option<&str>) -> Result<Outlook> {
    let apps = viewer.platform().pipeline_apps(&viewer.caller, pipeline)?;
    let stage = |to| Stage::from_people(to).ok_or_else(|| no_such_stage(to));
    let to = to.filter(|to| !to.is_empty()).map(stage).transpose()?;
    let found = viewer.platform().outlook(&apps, app, to)?;
    found.ok_or_else(|| {
        ApiError::invalid(format!(
            "{} has nothing to promote: no code yet, or no app that you can see in the stage to promote to.",
            app.name
        ))
    })
}

/// GET promote.ask
pub(super) async fn ask_promote(viewer: Viewer) -> Page {
    let platform = viewer.platform();
    let (pipeline, app) = (viewer.pipeline()?, viewer.app()?);
    let outlook = outlook(&viewer, &pipeline, &app, viewer.query("to"))?;
    let (mut changes, mut links, mut warnings) = (Vec::new(), Vec::new(), Vec::new());
    let open: Vec<&App> = outlook.targets.iter().filter(|(_, done)| done.is_none()).map(|(app, _)| app).collect();
    let source = platform.point_of(&app, None, None).await?;
    let refused = out_of_reach(&viewer, &outlook).await;
    for target in &open {
        let there = platform.point_of(target, None, None).await?;
        let difference = platform.compare(&viewer.caller, &there, &source).await?;
        let of = |title: String| if open.len() > 1 { format!("{}: {title}", target.name) } else { title };
        let lines = difference::changes(&difference).into_iter();
        changes.extend(lines.map(|it| Changes { title: of(it.title), ..it }));
        links.extend(difference::links(&difference));
        warnings.extend(difference::warnings(&difference));
    }
    warnings.dedup();
    // Where one target of several is refused, the others get theirs.
    let refused = match refused {
        Some(refused) if refused.all => refused.because.into_iter().next(),
        some => {
            warnings.extend(some.into_iter().flat_map(|refused| refused.because));
            None
        }
    };
    warnings.extend(outlook.against.iter().map(|against| against.fact.clone()));
    warnings.extend(left_out(&outlook).map(|stages| format!("It leaves out {stages}.")));
    if pipeline.settings.may_skip_stages && outlook.leaves_out.is_empty() {
        links.extend(further(&viewer, &pipeline, &app, &outlook)?);
    }
    let (version, to) = (outlook.source.release.version, outlook.to);
    let names: Vec<&str> = outlook.targets.iter().map(|(app, _)| app.name.as_str()).collect();
    let done: Option<Vec<&str>> = outlook.targets.iter().map(|(_, done)| done.as_deref()).collect();
    let model = ConfirmPage {
        shell: viewer.shell(),
        app: None,
        title: format!("Promote {} v{version} to {to}?", app.name),
        meaning: format!(
            "Releases the build of v{version}, {}, unchanged on {} with the config that is there. New dynos start first; no visitor notices.",
            outlook.source.commit(),
            names.join(", ")
        ),
        changes,
        links,
        warnings,
        refused: done
            .map(|done| done.join(" "))
            .or(refused)
            .or_else(|| leaves_too_much_out(&viewer, &pipeline, &outlook)),
        asks_why: outlook.against.is_some() || !outlook.leaves_out.is_empty(),
        action_url: path("promote", &[pipeline.name.as_str(), app.name.as_str()]),
        fields: vec![("release".into(), format!("v{version}")), ("to".into(), to.to_string())],
        button: format!("Promote to {to}"),
        danger: false,
        back_url: path("pipeline", &[pipeline.name.as_str()]),
    };
    page(&viewer, shipway_dashboard::confirm(&model))
}

/// The stages beyond, where the pipeline lets stages be left out: text and address.
fn further(viewer: &Viewer, pipeline: &Pipeline, app: &App, outlook: &Outlook) -> Result<Vec<(String, String)>> {
    let couplings = viewer.platform().store().read(|c| c.couplings(pipeline.id))?;
    let beyond = Stage::ALL.into_iter().filter(|stage| *stage > outlook.to);
    let beyond = beyond.filter(|stage| couplings.iter().any(|coupling| coupling.stage == *stage));
    let ask = path("promote.ask", &[pipeline.name.as_str(), app.name.as_str()]);
    Ok(beyond.map(|to| (format!("Promote to {to} instead"), format!("{ask}?to={to}"))).collect())
}

/// POST promote
pub(super) async fn promote(viewer: Viewer) -> Page {
    let platform = viewer.platform();
    let (pipeline, app) = (viewer.pipeline()?, viewer.app()?);
    let outlook = outlook(&viewer, &pipeline, &app, viewer.field("to").as_deref())?;
    let release = viewer.field("release").filter(|release| !release.is_empty());
    let release = release.ok_or_else(|| ApiError::invalid("Name the release that you looked at: `release`."))?;
    let order = PromotionOrder {
        pipeline: pipeline.clone(),
        source: app.clone(),
        release: Some(release.clone()),
        targets: outlook.targets.into_iter().map(|(app, _)| app).collect(),
        reason: viewer.field("reason"),
    };
    let view = platform.promote(&viewer.caller, order).await?;
    let operations: Vec<_> = view.targets.iter().filter_map(|target| target.target.operation).collect();
    let to = match operations.as_slice() {
        [only] => path("operation", &[&only.to_string()]),
        _ => path("pipeline", &[pipeline.name.as_str()]),
    };
    done(&viewer, &to, Mark::Good, &format!("{release} of {} is on its way to {}.", app.name, outlook.to))
}
