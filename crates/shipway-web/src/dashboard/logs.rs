//! Logs, and what builds wrote.

use super::facts::{Facts, Releases, email, failure};
use super::visit::Viewer;
use super::{Page, encoded, page, words};
use crate::follow::Follower;
use crate::sse;
use crate::{ApiError, Result};
use axum::http::{HeaderValue, header};
use shipway_dashboard::model::{BuildPage, LogLine, LogsPage, Mark, Pill};
use shipway_dashboard::path;
use shipway_domain::lifecycle::BuildStatus;
use shipway_engine::{OutputReader, Platform};
use shipway_logs::{Entry, Filter};
use shipway_store::Build;
use std::collections::BTreeSet;
use std::time::Duration;
use uuid::Uuid;

/// Lines that a page is given; it shows those that fit.
const LINES: usize = 200;
/// Bytes of an output that a page is given: it shows the end that fits.
const OUTPUT: usize = 64 * 1024;
/// After this long without a byte a growing output is taken as it is.
const CAUGHT_UP: Duration = Duration::from_millis(50);

/// Which lines a page or its stream shows.
pub(super) fn filter(viewer: &Viewer) -> Filter {
    let query = |name: &str| viewer.query(name).filter(|value| !value.is_empty());
    Filter { source: query("source").and_then(|source| source.parse().ok()), dyno: query("dyno").map(str::to_string) }
}

pub(super) fn line(entry: &Entry) -> LogLine {
    let time = i64::try_from(entry.id.time_us).ok().and_then(|us| jiff::Timestamp::from_microsecond(us).ok());
    LogLine {
        at: time.unwrap_or(jiff::Timestamp::MAX),
        source: entry.source.to_string(),
        dyno: entry.dyno.to_string(),
        text: String::from_utf8_lossy(&entry.message).into_owned(),
    }
}

/// GET logs
pub(super) async fn page_of(viewer: Viewer) -> Page {
    let facts = Facts::of(viewer.platform(), viewer.app()?)?;
    let directory = viewer.platform().log_dir(facts.app.id);
    let filter = filter(&viewer);
    let (entries, _) = Follower::last(&directory, filter.clone(), LINES).await.map_err(|error| {
        shipway_engine::Error::unavailable("The log cannot be read just now. Try again in a moment.", error)
    })?;
    let source = filter.source.map(|source| source.to_string()).unwrap_or_default();
    let dyno = filter.dyno.unwrap_or_default();
    let mut dynos: BTreeSet<String> = facts.dynos.iter().map(|dyno| dyno.name()).collect();
    dynos.extend(facts.dynos.iter().map(|dyno| dyno.process_type.to_string()));
    dynos.extend(["api", "router"].map(str::to_string));
    dynos.extend(Some(dyno.clone()).filter(|dyno| !dyno.is_empty()));
    // An empty log is followed from where time stands now.
    let now = format!("{}-platform-0", viewer.platform().now().as_microsecond());
    let after = entries.last().map_or(now, |entry| entry.id.to_string());
    let events_url = format!(
        "{}?source={}&dyno={}&after={}",
        path("logs.events", &[facts.name()]),
        encoded(&source),
        encoded(&dyno),
        encoded(&after)
    );
    let model = LogsPage {
        shell: viewer.shell(),
        app: facts.head(&viewer),
        source,
        dyno,
        dynos: dynos.into_iter().collect(),
        lines: entries.iter().map(line).collect(),
        events_url,
    };
    page(&viewer, shipway_dashboard::logs(&model))
}

/// The build of the path, which must be the app's.
pub(super) fn build_of_path(viewer: &Viewer) -> Result<Build> {
    let app = viewer.app()?;
    let id = viewer.parameter("build").parse().map_err(|_| ApiError::missing("build"))?;
    let build = viewer.platform().store().read(|c| c.build(id))?;
    build.filter(|build| build.app == app.id).ok_or_else(|| ApiError::missing("build"))
}

/// What an output holds up to now.
pub(super) struct SoFar {
    /// Its end, invalid UTF-8 replaced.
    pub(super) text: String,
    /// Bytes from its beginning to where `text` ends.
    pub(super) offset: u64,
    /// Whether nothing more comes.
    pub(super) ended: bool,
}

/// Reads an output up to now: at most the last 64 KiB of it are kept, up to the end of a line while it grows.
pub(super) async fn output_so_far(platform: &Platform, id: Uuid) -> SoFar {
    let mut reader: OutputReader = platform.read_output(id);
    let (mut end, mut offset, mut ended) = (Vec::new(), 0, false);
    while let Ok(next) = tokio::time::timeout(CAUGHT_UP, reader.next()).await {
        let Ok(Some(bytes)) = next else {
            ended = true;
            break;
        };
        offset += bytes.len() as u64;
        end.extend_from_slice(&bytes);
        end.drain(..end.len().saturating_sub(OUTPUT));
    }
    if !ended {
        let whole = end.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        offset -= (end.len() - whole) as u64;
        end.truncate(whole);
    }
    SoFar { text: String::from_utf8_lossy(&end).into_owned(), offset, ended }
}

/// GET build
pub(super) async fn build(viewer: Viewer) -> Page {
    let platform = viewer.platform();
    let build = build_of_path(&viewer)?;
    let facts = Facts::of(platform, viewer.app()?)?;
    let output = output_so_far(platform, build.id.0).await;
    let release = build.release.map(|id| platform.store().read(|c| c.release(id))).transpose()?.flatten();
    let subject = release.as_ref().and_then(|release| Releases::new(platform, &facts.app).row(release).subject);
    let id = build.id.to_string();
    let operation_url = path("operation", &[&build.operation.to_string()]);
    let events = format!("{}?after={}", path("build.events", &[facts.name(), &id]), output.offset);
    let steps = platform.steps(build.operation).unwrap_or_default();
    let failed = build.failure.as_deref().filter(|_| build.status == BuildStatus::Failed);
    let model = BuildPage {
        shell: viewer.shell(),
        status: match steps.iter().any(|step| step.name == "build" && step.state == "running") {
            true if build.status == BuildStatus::Pending => Pill::new(Mark::Wait, "running"),
            _ => build.status.into(),
        },
        commit: build.commit.as_ref().map(ToString::to_string),
        subject,
        by: email(platform, build.account),
        at: build.created_at,
        steps: words::rows(&steps, build.status != BuildStatus::Pending && output.ended),
        failure: failed.map(|error| failure(&facts, "The build failed", "Build", error)),
        version: release.map(|release| release.version),
        operation_url: Some(operation_url),
        output: output.text,
        events_url: (!output.ended).then_some(events),
        app: facts.head(&viewer),
        id,
    };
    page(&viewer, shipway_dashboard::build(&model))
}

/// GET build.output: all of it as text, while it grows.
pub(super) async fn build_output(viewer: Viewer) -> Page {
    let build = build_of_path(&viewer)?;
    let mut standing = viewer.stand_before(build.app)?;
    let mut reader = viewer.platform().read_output(build.id.0);
    let (pieces, mut response) = sse::chunks("text/plain; charset=utf-8");
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let stop = viewer.web.closing();
    tokio::spawn(async move {
        loop {
            let next = tokio::select! {
                biased;
                ended = standing.ended() => {
                    let _ = pieces.send(sse::last_line(ended)).await;
                    return;
                }
                next = reader.next() => next,
                () = pieces.closed() => return,
                () = stop.cancelled() => return,
            };
            let Ok(Some(bytes)) = next else { return };
            if pieces.send(bytes.into()).await.is_err() {
                return;
            }
        }
    });
    Ok(response)
}
