//! Pull requests from forks, which wait until somebody allows their commit to be built.

use super::visit::Viewer;
use super::{Page, done, page};
use crate::{ApiError, Result};
use shipway_dashboard::model::{ConfirmPage, Mark};
use shipway_dashboard::path;
use shipway_domain::CommitId;
use shipway_domain::admission::Trigger;
use shipway_store::{Pipeline, PullRequest};

/// The open pull request of the path.
fn request(viewer: &Viewer, pipeline: &Pipeline) -> Result<PullRequest> {
    let missing = || ApiError::missing("pull_request");
    let number: u64 = viewer.parameter("number").parse().map_err(|_| missing())?;
    let found = viewer.platform().store().read(|c| c.pull_request(pipeline.id, number))?;
    found.filter(|request| request.open).ok_or_else(missing)
}

/// GET fork.ask
pub(super) async fn ask(viewer: Viewer) -> Page {
    let platform = viewer.platform();
    let pipeline = viewer.pipeline()?;
    let request = request(&viewer, &pipeline)?;
    let number = request.number;
    let fork = request.fork.as_deref().unwrap_or("no fork");
    let refused = match platform.review_parent(&pipeline)? {
        _ if !platform.waits_for_permission(&pipeline, &request)? => {
            Some(format!("#{number} does not wait for it: the commit is built as others are."))
        }
        None => Some(format!("{} has no app that review apps are made like.", pipeline.name)),
        Some(parent) => {
            let refusal = platform.refusal(&viewer.caller, Trigger::Push, &parent)?;
            refusal.map(|refusal| refusal.to_string())
        }
    };
    let forge = platform.store().read(|c| c.forge_of(pipeline.id))?;
    let link = forge.map(|forge| {
        let at = format!("{}/{}/{}", forge.url, forge.repository, forge.kind.pull_request_path(number));
        (format!("look at #{number} first"), at)
    });
    let model = ConfirmPage {
        shell: viewer.shell(),
        app: None,
        title: format!("Allow the build of #{number}?"),
        meaning: format!(
            "Builds and runs {}, “{}”, from {fork}: somebody else’s code, on this machine. Its app gets none of your config vars.",
            request.commit.short(),
            request.title
        ),
        changes: Vec::new(),
        links: link.into_iter().collect(),
        warnings: Vec::new(),
        refused,
        asks_why: false,
        action_url: path("fork.allow", &[pipeline.name.as_str(), &number.to_string()]),
        fields: vec![("commit".into(), request.commit.to_string())],
        button: format!("Allow {}", request.commit.short()),
        danger: false,
        back_url: path("pipeline", &[pipeline.name.as_str()]),
    };
    page(&viewer, shipway_dashboard::confirm(&model))
}

/// POST fork.allow
pub(super) async fn allow(viewer: Viewer) -> Page {
    let pipeline = viewer.pipeline()?;
    let request = request(&viewer, &pipeline)?;
    let commit = CommitId::parse(&viewer.field("commit").unwrap_or_default());
    let commit = commit.map_err(|_| ApiError::invalid("Name the commit that you looked at: `commit`."))?;
    let (number, platform) = (request.number, viewer.platform());
    let allowed = platform.allow_pull_request(&viewer.caller, &pipeline, number, Some(&commit)).await?;
    let text = format!("{} of #{number} is allowed: its review app is being made.", allowed.commit.short());
    done(&viewer, &path("pipeline", &[pipeline.name.as_str()]), Mark::Good, &text)
}
