//! The event streams behind open pages. Each ends with the session that opened it.

use super::Page;
use super::logs::{build_of_path, filter, line};
use super::visit::Viewer;
use crate::follow::Follower;
use crate::sse::{self, Events, Gone, HEARTBEAT, event};
use shipway_dashboard::{log_event, text_event};
use shipway_domain::{AppId, NameOrId, PipelineId};
use shipway_engine::ports::Caller;
use shipway_engine::{Event, Platform, Standing};
use shipway_logs::EventId;
use std::time::{Duration, Instant};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

/// At most one change a second is told, the first of several at once: each makes a page be fetched and drawn again, which
/// costs apps on the same machine their processor.
const QUIET: Duration = Duration::from_secs(1);

/// GET apps.events
pub(super) async fn apps(viewer: Viewer) -> Page {
    changes(viewer, |_| true, |_, _| Ok(()))
}

/// GET operations.events
pub(super) async fn operations(viewer: Viewer) -> Page {
    changes(viewer, |event| matches!(event, Event::App(_)), |_, _| Ok(()))
}

/// GET app.events
pub(super) async fn app(viewer: Viewer) -> Page {
    let app = viewer.app()?.id;
    let sees = move |platform: &Platform, caller: &Caller| platform.app(caller, &app.into()).map(drop);
    changes(viewer, move |event| event == Event::App(app), sees)
}

/// GET pipeline.events
pub(super) async fn pipeline(viewer: Viewer) -> Page {
    let id = viewer.pipeline()?.id;
    let sees = move |platform: &Platform, caller: &Caller| platform.pipeline(caller, &id.into()).map(drop);
    of_pipelines(viewer, vec![id], sees)
}

/// GET product.events
pub(super) async fn product(viewer: Viewer) -> Page {
    let product = viewer.product()?;
    let id = NameOrId::Id(product.id.0);
    of_pipelines(viewer, product.pipelines, move |platform, caller| platform.product(caller, &id).map(drop))
}

/// What these pipelines show: themselves, and the apps that stand in them by then.
fn of_pipelines(viewer: Viewer, pipelines: Vec<PipelineId>, sees: impl Sees) -> Page {
    let web = viewer.web.clone();
    let wanted = move |event| match event {
        Event::Pipeline(pipeline) => pipelines.contains(&pipeline),
        Event::App(app) => {
            let place = web.platform().store().read(|c| c.coupling_of(app)).ok().flatten();
            place.is_some_and(|place| pipelines.contains(&place.pipeline))
        }
        Event::Apps => true,
    };
    changes(viewer, wanted, sees)
}

/// Whether somebody still sees what a page shows.
trait Sees: Fn(&Platform, &Caller) -> shipway_engine::Result<()> + Send + Sync + 'static {}
impl<F: Fn(&Platform, &Caller) -> shipway_engine::Result<()> + Send + Sync + 'static> Sees for F {}

/// Tells of what is `wanted` until the session ends, or the viewer `sees` it no longer. The last word is that something has
/// changed, so that the page asks again and says what.
fn changes(viewer: Viewer, wanted: impl Fn(Event) -> bool + Send + Sync + 'static, sees: impl Sees) -> Page {
    let mut standing = viewer.stand(sees)?;
    let (events, response) = sse::stream();
    let mut receiver = viewer.platform().events();
    // What happened between the making of the page and now is told first: nothing may follow that tells it.
    let mut missed = after(&viewer).is_some_and(|seen| seen != viewer.platform().told().to_string());
    tokio::spawn(async move {
        let stop = viewer.web.closing();
        loop {
            let told = match std::mem::take(&mut missed) {
                true => Told::Changed,
                false => tokio::select! {
                    biased;
                    _ = standing.ended() => Told::Changed,
                    told = next_change(&mut receiver, &wanted) => told,
                    () = events.gone() => return,
                    () = stop.cancelled() => return,
                },
            };
            let goes_on = standing.stands().is_ok();
            let sent = match told {
                Told::Changed => events.send(changed()).await,
                Told::Nothing => events.beat().await,
                Told::Over => return,
            };
            if sent.is_err() || !goes_on {
                return;
            }
            if matches!(told, Told::Changed) {
                tokio::select! {
                    () = tokio::time::sleep(QUIET) => {}
                    () = events.gone() => return,
                    () = stop.cancelled() => return,
                }
            }
        }
    });
    Ok(response)
}

/// What became of waiting for a change.
#[derive(Clone, Copy)]
enum Told {
    Changed,
    Nothing,
    Over,
}

async fn next_change(receiver: &mut Receiver<Event>, wanted: &impl Fn(Event) -> bool) -> Told {
    let change = async {
        loop {
            match receiver.recv().await {
                Ok(event) if wanted(event) => break,
                Ok(_) => {}
                Err(RecvError::Lagged(_)) => break,
                Err(RecvError::Closed) => return Told::Over,
            }
        }
        // The rest of a burst is told by the same word.
        while receiver.try_recv().is_ok() {}
        Told::Changed
    };
    tokio::time::timeout(HEARTBEAT, change).await.unwrap_or(Told::Nothing)
}

fn changed() -> String {
    let mut text = String::new();
    event(&mut text, Some("changed"), None, "");
    text
}

/// The header that a browser sends when it comes back, before what the page asked for first.
fn after(viewer: &Viewer) -> Option<&str> {
    let last = viewer.headers.get("last-event-id").and_then(|id| id.to_str().ok());
    last.or_else(|| viewer.query("after")).filter(|id| !id.is_empty())
}

/// GET logs.events
pub(super) async fn logs(viewer: Viewer) -> Page {
    let app = viewer.app()?.id;
    let directory = viewer.platform().log_dir(app);
    let seen = after(&viewer).and_then(|id| id.parse::<EventId>().ok());
    let follower = match seen {
        Some(seen) => Follower::after(&directory, filter(&viewer), seen).await,
        None => Follower::last(&directory, filter(&viewer), 0).await.map(|(_, follower)| follower),
    };
    let follower = follower.map_err(|error| {
        shipway_engine::Error::unavailable("The log cannot be read just now. Try again in a moment.", error)
    })?;
    let standing = viewer.stand_before(app)?;
    let (events, response) = sse::stream();
    tokio::spawn(async move {
        // An end is a page that was closed, or a session that ended.
        let _ = send_log((viewer, standing), follower, app, events).await;
    });
    Ok(response)
}

async fn send_log(
    (viewer, mut standing): (Viewer, Standing),
    mut follower: Follower,
    app: AppId,
    events: Events,
) -> Result<(), Gone> {
    let stop = viewer.web.closing();
    let mut last = Instant::now();
    loop {
        let now_us = u64::try_from(viewer.platform().now().as_microsecond()).unwrap_or(0);
        let lines = follower.next(now_us).await.map_err(|error| {
            tracing::warn!(app.id = %app, %error, "a log could not be read on");
            Gone
        })?;
        // The session may have ended meanwhile, access may have been taken away, or the app is gone.
        if standing.stands().is_err() {
            return events.send(changed()).await;
        }
        let beats = last.elapsed() >= HEARTBEAT;
        if !lines.is_empty() {
            let mut text = String::new();
            for entry in &lines {
                event(&mut text, Some("line"), Some(&entry.id), &log_event(&line(entry)));
            }
            events.send(text).await?;
            continue;
        }
        if beats {
            events.beat().await?;
            last = Instant::now();
        }
        tokio::select! {
            () = tokio::time::sleep(follower.pause()) => {}
            _ = standing.ended() => {}
            () = events.gone() => return Err(Gone),
            () = stop.cancelled() => return Ok(()),
        }
    }
}

/// GET build.events
pub(super) async fn build(viewer: Viewer) -> Page {
    let build = build_of_path(&viewer)?;
    let from: u64 = after(&viewer).and_then(|after| after.parse().ok()).unwrap_or(0);
    let standing = viewer.stand_before(build.app)?;
    let (events, response) = sse::stream();
    tokio::spawn(async move {
        let _ = send_output((viewer, standing), build, from, events).await;
    });
    Ok(response)
}

async fn send_output(
    (viewer, mut standing): (Viewer, Standing),
    build: shipway_store::Build,
    from: u64,
    events: Events,
) -> Result<(), Gone> {
    let stop = viewer.web.closing();
    let mut reader = viewer.platform().read_output(build.id.0);
    let mut changes = viewer.platform().events();
    let of_app = |event| event == Event::App(build.app);
    // Where in the output `held` begins; what lies before `from` has been seen.
    let (mut at, mut held) = (0_u64, Vec::new());
    loop {
        let next = tokio::select! {
            biased;
            _ = standing.ended() => return events.send(changed()).await,
            next = reader.next() => next,
            told = next_change(&mut changes, &of_app) => {
                match told {
                    Told::Changed => events.send(changed()).await?,
                    Told::Nothing => events.beat().await?,
                    Told::Over => return Ok(()),
                }
                continue;
            }
            () = events.gone() => return Err(Gone),
            () = stop.cancelled() => return Ok(()),
        };
        let ended = !matches!(next, Ok(Some(_)));
        held.extend_from_slice(&next.ok().flatten().unwrap_or_default());
        let whole =
            if ended { held.len() } else { held.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1) };
        let seen = usize::try_from(from.saturating_sub(at)).unwrap_or(usize::MAX).min(whole);
        at += whole as u64;
        if seen < whole {
            let mut text = String::new();
            let piece = String::from_utf8_lossy(&held[seen..whole]);
            event(&mut text, Some("text"), Some(&at), &text_event(&piece));
            events.send(text).await?;
        }
        held.drain(..whole);
        if ended {
            let mut text = String::new();
            event(&mut text, Some("end"), None, "");
            return events.send(text).await;
        }
    }
}
