//! Pipelines and products: what is where, what would change, and how to carry it on.

use jiff::Timestamp;
use serde::Serialize;

use super::{AppState, Event, Failure, Pill, Running, Shell};

/// All pipelines and products that the viewer may see.
#[derive(Debug, Clone, Serialize)]
pub struct PipelinesPage {
    /// What every page has.
    pub shell: Shell,
    /// By name.
    pub pipelines: Vec<PipelineRow>,
    /// By name.
    pub products: Vec<ProductRow>,
}

/// One pipeline in the list.
#[derive(Debug, Clone, Serialize)]
pub struct PipelineRow {
    /// Its name.
    pub name: String,
    /// Its owner's e-mail address.
    pub owner: String,
    /// The stages that have apps, in order: "2 development".
    pub stages: Vec<String>,
    /// What waits for the last stage, or that nothing does, in a sentence.
    pub says: String,
}

/// One product in the list.
#[derive(Debug, Clone, Serialize)]
pub struct ProductRow {
    /// Its name.
    pub name: String,
    /// Its pipelines' names, in its order.
    pub pipelines: Vec<String>,
}

/// What is where: one pipeline, or all of a product, a row each.
#[derive(Debug, Clone, Serialize)]
pub struct BoardPage {
    /// What every page has.
    pub shell: Shell,
    /// The pipeline's or product's name.
    pub name: String,
    /// Whether it is a product.
    pub is_product: bool,
    /// The first facts, in words: "staging has v87, which production has not".
    pub says: Vec<String>,
    /// What review apps are filtered by; empty for none.
    pub filter: String,
    /// How a product's apps are carried on together, from each stage to the next; none for a pipeline.
    pub together: Vec<Together>,
    /// The rows, in the order of the product; one for a pipeline.
    pub rows: Vec<BoardRow>,
    /// The newest entries of the ledger about its apps, newest first.
    pub activity: Vec<Event>,
    /// The external steps of a product's promotions, in order.
    pub steps: Vec<ExternalStepRow>,
    /// The command that carries it on, for a product.
    pub command: Option<String>,
}

/// A command elsewhere that takes part in a product's promotions.
#[derive(Debug, Clone, Serialize)]
pub struct ExternalStepRow {
    /// What people call it.
    pub name: String,
    /// The pipeline with whose new code and config it runs.
    pub pipeline: String,
    /// The command.
    pub command: String,
    /// What takes it back.
    pub undo: String,
}

/// One pipeline on a board.
#[derive(Debug, Clone, Serialize)]
pub struct BoardRow {
    /// The pipeline's name.
    pub name: String,
    /// The line that its team works on; `None` when nobody told it.
    pub upstream: Option<UpstreamRow>,
    /// The stages that refuse commits which CI has not passed.
    pub checked_by: Vec<String>,
    /// Its columns, in the order in which a build travels.
    pub columns: Vec<Column>,
}

/// A pipeline's upstream.
#[derive(Debug, Clone, Serialize)]
pub struct UpstreamRow {
    /// Its branch.
    pub branch: String,
    /// Where it is, without what is secret of it; `None` when it is only pushed to us, or a forge is asked.
    pub from: Option<String>,
    /// Where it ended when it was last heard of.
    pub tip: Option<String>,
    /// When that was.
    pub heard_at: Option<Timestamp>,
    /// Why the last fetch failed.
    pub failure: Option<String>,
    /// The stages that refuse code which lacks commits of it.
    pub refused_by: Vec<String>,
}

/// One stage.
#[derive(Debug, Clone, Serialize)]
pub struct Column {
    /// Its name: "staging".
    pub stage: String,
    /// How many apps stand in it, those that are not shown included.
    pub count: usize,
    /// Its apps, in an order that does not change by itself.
    pub groups: Vec<Group>,
    /// How many are not shown.
    pub hidden: usize,
    /// What waits for sign-offs before it is deployed here.
    pub waits: Vec<Waits>,
    /// What a stage without apps says.
    pub empty: String,
    /// The command that puts one there.
    pub empty_command: Option<String>,
    /// Where the viewer has a review app of a branch made.
    pub make_url: Option<String>,
}

/// Code that is not deployed until its parties have signed it.
#[derive(Debug, Clone, Serialize)]
pub struct Waits {
    /// The commit, whole.
    pub commit: String,
    /// Where it comes from, and where it waits to go: "branch main, for shop".
    pub what: String,
    /// Whose sign-off it waits for: "qa and product".
    pub lacks: String,
    /// The parties that the viewer may sign it for.
    pub sign_as: Vec<String>,
}

/// One app of a stage, or several that run one commit.
#[derive(Debug, Clone, Serialize)]
pub struct Group {
    /// What several have in common, which is said once; `None` for one alone.
    pub shared: Option<Shared>,
    /// The apps.
    pub cards: Vec<Card>,
}

impl Group {
    /// One app alone.
    pub fn one(card: Card) -> Self {
        Self { shared: None, cards: vec![card] }
    }

    /// Apps of one stage, those on one commit together, where the first of them stood.
    pub fn by_commit(cards: Vec<Card>) -> Vec<Self> {
        let mut groups: Vec<Self> = Vec::new();
        for card in cards {
            let same = |group: &&mut Self| card.commit.is_some() && group.cards[0].commit == card.commit;
            match groups.iter_mut().find(same) {
                Some(group) => group.cards.push(card),
                None => groups.push(Self::one(card)),
            }
        }
        for group in &mut groups {
            group.shared = group.in_common();
        }
        groups
    }

    fn in_common(&self) -> Option<Shared> {
        let [first, others @ ..] = self.cards.as_slice() else { return None };
        let commit = first.commit.clone().filter(|_| !others.is_empty())?;
        let verdict = |card: &Card| card.promote.as_ref().and_then(|it| Some((it.verdict.clone()?, it.is_done)));
        let verdict =
            verdict(first).filter(|of_first| others.iter().all(|card| verdict(card).as_ref() == Some(of_first)));
        let (verdict, is_done) = verdict.unzip();
        Some(Shared { says: first.says.clone(), commit, verdict, is_done: is_done.unwrap_or(false) })
    }
}

/// What several apps on one commit have in common.
#[derive(Debug, Clone, Serialize)]
pub struct Shared {
    /// The commit's subject.
    pub says: Option<String>,
    /// The commit, whole.
    pub commit: String,
    /// What is said of carrying it on, where that is the same for all.
    pub verdict: Option<String>,
    /// Whether that says that all is done.
    pub is_done: bool,
}

/// One app on the board.
#[derive(Debug, Clone, Serialize)]
pub struct Card {
    /// What the team calls it.
    pub title: String,
    /// The app's name; `None` for a review app whose app is not there.
    pub app: Option<String>,
    /// What it does now; `None` with [`Self::app`].
    pub state: Option<AppState>,
    /// The current release's version.
    pub version: Option<u64>,
    /// What runs: the commit's subject, the pull request's title.
    pub says: Option<String>,
    /// The commit, whole.
    pub commit: Option<String>,
    /// Facts beside the commit: "#218", "gift-cards", "2 web, 1 worker".
    pub facts: Vec<String>,
    /// Who released it.
    pub by: Option<String>,
    /// When.
    pub at: Option<Timestamp>,
    /// Verdicts: "checks passed", "ahead of main by 2".
    pub pills: Vec<Pill>,
    /// What is under way: the step that is at work and the next ones.
    pub running: Option<Running>,
    /// The newest attempt, when it failed.
    pub failure: Option<Failure>,
    /// The page that allows the build of a fork's commit, which waits for that; for who may.
    pub allow_url: Option<String>,
    /// The page that removes a review app, for who may.
    pub remove_url: Option<String>,
    /// How it is carried on.
    pub promote: Option<Promote>,
    /// The next stage, where the commit lacks sign-offs for it that the viewer may give.
    pub sign_for: Option<SignFor>,
    /// The release that "Roll back to…" offers.
    pub previous_version: Option<u64>,
    /// Where visitors find it.
    pub url: Option<String>,
}

/// Sign-offs that the viewer may give.
#[derive(Debug, Clone, Serialize)]
pub struct SignFor {
    /// For which stage.
    pub stage: String,
    /// For which of its parties.
    pub parties: Vec<String>,
}

/// How an app's code is carried on.
#[derive(Debug, Clone, Serialize)]
pub struct Promote {
    /// The next stage's name.
    pub to: String,
    /// The page that shows the difference first.
    pub ask_url: String,
    /// Why there is nothing to promote, it is refused, with the way out, or would be a step backwards; then it is not the
    /// primary button.
    pub verdict: Option<String>,
    /// Whether [`Self::verdict`] says that all is done.
    pub is_done: bool,
}

/// How all of a product is carried on from a stage to the next one.
#[derive(Debug, Clone, Serialize)]
pub struct Together {
    /// From which stage.
    pub from: String,
    /// To which.
    pub to: String,
    /// The page that shows the difference first.
    pub ask_url: String,
    /// Why there is nothing to promote, it is refused, with the way out, or would be a step backwards; then it is not the
    /// primary button.
    pub verdict: Option<String>,
    /// Whether [`Self::verdict`] says that all is done.
    pub is_done: bool,
}
