//! A product's apps, carried on together: what would move, and one operation for all of it.

use super::pipelines::{no_such_stage, refusal};
use super::visit::Viewer;
use super::{Page, difference, done, page};
use crate::{ApiError, Result};
use shipway_dashboard::model::{Change, ChangeKind, Changes, ConfirmPage, Mark, Together};
use shipway_dashboard::path;
use shipway_domain::Stage;
use shipway_engine::{Move, Seen, TogetherOrder, external_steps};
use shipway_store::Product;

/// With a reason, a look finds also what is not promoted without one.
const LOOK: &str = "a look";

/// A promotion of all of a product, as it would go.
struct Prospect {
    moves: Vec<Move>,
    /// Why nothing is done, with the way out.
    verdict: Option<String>,
    /// Whether that says that all is done.
    is_done: bool,
}

impl Prospect {
    async fn of(viewer: &Viewer, product: &Product, from: Stage, to: Stage) -> Result<Self> {
        let order = TogetherOrder { reason: Some(LOOK.into()), ..order(product, from, to) };
        let moves = match viewer.platform().moves(&viewer.caller, &order) {
            Ok((_, moves)) => moves,
            Err(e) if e.kind == shipway_engine::Kind::Platform => return Err(e.into()),
            Err(e) => return Ok(Self { moves: Vec::new(), verdict: Some(e.to_string()), is_done: false }),
        };
        let is_done = moves.iter().all(|one| one.unchanged.is_some());
        let verdict = match is_done {
            true => Some(format!("No changes to promote: {to} already runs all that {from} runs.")),
            false => kept_out(viewer, &moves).await,
        };
        Ok(Self { moves, verdict, is_done })
    }

    fn going(&self) -> impl Iterator<Item = &Move> {
        self.moves.iter().filter(|one| one.unchanged.is_none())
    }
}

/// Why none of these moves is made, where one of them would be refused to the viewer.
async fn kept_out(viewer: &Viewer, moves: &[Move]) -> Option<String> {
    for one in moves.iter().filter(|one| one.unchanged.is_none()) {
        if let Some(because) = refusal(viewer, &one.target, &one.source).await {
            return Some(format!("All of it moves, or none. {because}"));
        }
    }
    None
}

fn order(product: &Product, from: Stage, to: Stage) -> TogetherOrder {
    TogetherOrder {
        from: from.to_string(),
        to: to.to_string(),
        product: Some(product.id.to_string()),
        ..TogetherOrder::default()
    }
}

/// What a product's board offers: from each stage to the next one, where a pipeline of it has apps in both.
pub(super) async fn offers(viewer: &Viewer, product: &Product) -> Result<Vec<Together>> {
    let all = product.pipelines.iter().map(|pipeline| viewer.platform().store().read(|c| c.couplings(*pipeline)));
    let all = all.collect::<shipway_store::Result<Vec<_>>>()?;
    let mut offers = Vec::new();
    for from in Stage::ALL {
        let Some(to) = from.next() else { continue };
        let has = |stage: Stage| move |of: &Vec<shipway_store::Coupling>| of.iter().any(|it| it.stage == stage);
        if !all.iter().any(|of| has(from)(of) && has(to)(of)) {
            continue;
        }
        let prospect = Prospect::of(viewer, product, from, to).await?;
        let behind = if prospect.verdict.is_none() { behind(viewer, &prospect).await? } else { None };
        let Prospect { verdict, is_done, .. } = prospect;
        let ask = path("together.ask", &[product.name.as_str()]);
        offers.push(Together {
            from: from.to_string(),
            to: to.to_string(),
            ask_url: format!("{ask}?from={from}&to={to}"),
            verdict: verdict.or(behind),
            is_done,
        });
    }
    Ok(offers)
}

/// What is said of a step backwards of all that would change.
async fn behind(viewer: &Viewer, prospect: &Prospect) -> Result<Option<String>> {
    let mut said = Vec::new();
    for one in prospect.going() {
        if !viewer.platform().would_go_back(&one.source, &one.target).await? {
            return Ok(None);
        }
        said.push(format!("{} ({}) is behind {}.", one.source.app.name, one.source.commit(), one.target.name));
    }
    Ok(Some(said.join(" ")).filter(|said| !said.is_empty()))
}

fn stage(text: Option<&str>, field: &str) -> Result<Stage> {
    let stage = text.and_then(Stage::from_people);
    stage.ok_or_else(|| match text.filter(|text| !text.is_empty()) {
        Some(text) => no_such_stage(text),
        None => ApiError::invalid(format!("Name a stage, such as staging: `{field}`.")),
    })
}

/// GET together.ask
pub(super) async fn ask(viewer: Viewer) -> Page {
    let platform = viewer.platform();
    let product = viewer.product()?;
    let (from, to) = (stage(viewer.query("from"), "from")?, stage(viewer.query("to"), "to")?);
    let prospect = Prospect::of(&viewer, &product, from, to).await?;
    let (mut changes, mut links, mut warnings) = (Vec::new(), Vec::new(), Vec::new());
    for one in prospect.going() {
        let (there, source) =
            (platform.point_of(&one.target, None, None).await?, platform.point_of(&one.source.app, None, None).await?);
        let difference = platform.compare(&viewer.caller, &there, &source).await?;
        let lines = difference::changes(&difference).into_iter();
        changes.extend(lines.map(|it| Changes { title: format!("{}: {}", one.target.name, it.title), ..it }));
        links.extend(difference::links(&difference));
        let of = |warning: String| format!("{}: {warning}", one.target.name);
        warnings.extend(difference::warnings(&difference).into_iter().map(of));
        warnings.extend(one.against.clone());
    }
    changes.extend(beside(&prospect, &product));
    let asks_why = prospect.going().any(|one| one.against.is_some());
    let names: Vec<&str> = prospect.going().map(|one| one.target.name.as_str()).collect();
    let seen: Vec<String> =
        prospect.moves.iter().map(|one| format!("{}={}", one.target.name, one.source.slug.digest)).collect();
    let model = ConfirmPage {
        shell: viewer.shell(),
        app: None,
        title: format!("Promote all of {} from {from} to {to}?", product.name),
        meaning: match names.as_slice() {
            [] => String::new(),
            names => format!(
                "Releases what {from} runs, unchanged, on {}. When all new dynos are healthy and all release phases have run, one \
                 switch is for all; if anything fails before, all run on as they are.",
                names.join(", ")
            ),
        },
        changes,
        links,
        warnings,
        refused: prospect.verdict,
        asks_why,
        action_url: path("together", &[product.name.as_str()]),
        fields: vec![("from".into(), from.to_string()), ("to".into(), to.to_string()), ("seen".into(), seen.join(" "))],
        button: format!("Promote to {to}"),
        danger: false,
        back_url: path("product", &[product.name.as_str()]),
    };
    page(&viewer, shipway_dashboard::confirm(&model))
}

/// What stays as it is, and what else takes part.
fn beside(prospect: &Prospect, product: &Product) -> Vec<Changes> {
    let unchanged = prospect.moves.iter().filter_map(|one| Some((one, one.unchanged.as_ref()?)));
    let stays = unchanged.map(|(one, there)| Change {
        kind: ChangeKind::Changed,
        code: format!("v{}", there.version),
        text: format!("{} runs {} already", one.target.name, one.source.commit()),
    });
    let steps = external_steps(Some(product), &prospect.moves).into_iter().map(|(step, _)| Change {
        kind: ChangeKind::Added,
        code: step.name.clone(),
        text: step.command.clone(),
    });
    let groups = [("Stay as they are", stays.collect::<Vec<_>>()), ("Steps elsewhere, in this order", steps.collect())];
    let groups = groups.into_iter().filter(|(_, lines)| !lines.is_empty());
    groups.map(|(title, lines)| Changes { title: title.into(), lines }).collect()
}

/// POST together
pub(super) async fn promote(viewer: Viewer) -> Page {
    let product = viewer.product()?;
    let field = |name: &str| viewer.field(name).unwrap_or_default();
    let (from, to) = (stage(Some(&field("from")), "from")?, stage(Some(&field("to")), "to")?);
    let read = |one: &str| one.split_once('=').map(|(app, digest)| Seen { app: app.into(), digest: digest.into() });
    let seen = field("seen").split(' ').map(read).collect::<Option<Vec<Seen>>>();
    let seen = seen.ok_or_else(|| ApiError::invalid("Say what you looked at: `seen`, app=digest for each app."))?;
    let order = TogetherOrder { seen: Some(seen), reason: viewer.field("reason"), ..order(&product, from, to) };
    let view = viewer.platform().promote_together(&viewer.caller, &order).await?;
    let operation = view.targets.iter().find_map(|target| target.target.operation);
    let to_see = match operation {
        Some(operation) => path("operation", &[&operation.to_string()]),
        None => path("product", &[product.name.as_str()]),
    };
    done(&viewer, &to_see, Mark::Good, &format!("What {from} runs of {} is on its way to {to}.", product.name))
}
