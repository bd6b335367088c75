//! Turns: how much of one sort goes at a time. Who comes later waits, first come, first served.
//!
//! - **Fetches** from servers elsewhere: commits of pull requests, upstreams, archives for builds. A storm of webhooks
//!   becomes a queue here, and no storm of connections at the forge. What an operation fetches is written down and may wait
//!   for as long as it takes; a request that waits holds a connection, so only so many of them do.
//! - **Dumps** of databases that are brought here, which may take hours.
//! - **Builds**, checkout and submodules included: each may fill its memory, so forty of them would take that of the apps.
//!   Builds that nobody sits in front of (of a review app, of a push that a forge told of) leave the last turn to people.

use crate::error::Error;
use crate::operation::Context;
use crate::ports::Lines;
use crate::{Platform, Result, change};
use tokio::sync::{Semaphore, SemaphorePermit};

/// Fetches at a time, of the whole platform.
pub const FETCHES_AT_ONCE: usize = 4;
/// Dumps of databases that are brought here at a time.
const DUMPS_AT_ONCE: usize = 2;
/// Requests that fetch something or wait for it; the next one is told to come again.
pub const FETCHES_ASKED: usize = 32;

/// Who has a turn, and who waits.
pub(crate) struct Turns {
    fetches: Semaphore,
    requests: Semaphore,
    dumps: Semaphore,
    builds: Semaphore,
    unattended_builds: Semaphore,
}

/// A turn, for as long as it is held.
pub(crate) struct Turn<'a> {
    _turn: SemaphorePermit<'a>,
    /// The place among those who may wait for it, where that is bounded too.
    _place: Option<SemaphorePermit<'a>>,
}

impl Turns {
    /// `builds_at_once`: one or more.
    pub(crate) fn new(builds_at_once: usize) -> Self {
        Self {
            fetches: Semaphore::new(FETCHES_AT_ONCE),
            requests: Semaphore::new(FETCHES_ASKED),
            dumps: Semaphore::new(DUMPS_AT_ONCE),
            builds: Semaphore::new(builds_at_once),
            unattended_builds: Semaphore::new(builds_at_once.saturating_sub(1).max(1)),
        }
    }
}

async fn take<'a>(turns: &'a Semaphore, place: Option<SemaphorePermit<'a>>) -> Result<Turn<'a>> {
    Ok(Turn { _turn: turns.acquire().await.map_err(Error::platform)?, _place: place })
}

impl Platform {
    /// Waits for an operation's turn to fetch, and says in its transcript when there is none at once. Errors: it was cancelled.
    pub(crate) async fn turn_of_operation(&self, ctx: &Context) -> Result<Turn<'_>> {
        if self.inner.turns.fetches.available_permits() == 0 {
            ctx.line(&format!(
                "-----> Waiting for a turn: {FETCHES_AT_ONCE} fetches from elsewhere are under way, no more at a time"
            ));
        }
        unless_cancelled(ctx, self.turn_to_fetch()).await
    }

    /// Waits for a request's turn to fetch. Errors: too many others wait.
    pub(crate) async fn turn_of_request(&self) -> Result<Turn<'_>> {
        let request = self.inner.turns.requests.try_acquire().map_err(|full| {
            let text = format!(
                "{FETCHES_ASKED} requests to fetch from servers elsewhere are under way or wait. Nothing was changed; \
                 try again in a minute."
            );
            Error::unavailable(text, full)
        })?;
        take(&self.inner.turns.fetches, Some(request)).await
    }

    /// Waits for a turn to fetch.
    pub(crate) async fn turn_to_fetch(&self) -> Result<Turn<'_>> {
        take(&self.inner.turns.fetches, None).await
    }

    /// Waits for a turn to bring a dump of a database here, and says so.
    pub(crate) async fn turn_of_dump(&self, out: &dyn Lines) -> Result<Turn<'_>> {
        let dumps = &self.inner.turns.dumps;
        if dumps.available_permits() == 0 {
            out.line(&format!("Waiting for a turn: {DUMPS_AT_ONCE} dumps are on their way here, no more at a time"));
        }
        take(dumps, None).await
    }

    /// Waits for an operation's turn to build, and says in its transcript when there is none at once. Errors: it was cancelled.
    pub(crate) async fn turn_to_build(&self, ctx: &Context) -> Result<Turn<'_>> {
        let Turns { builds, unattended_builds, .. } = &self.inner.turns;
        let behind = Some(unattended_builds).filter(|_| !ctx.plan.is_attended());
        if builds.available_permits() == 0 || behind.is_some_and(|turns| turns.available_permits() == 0) {
            let most = self.settings().builds_at_once;
            let under_way = if most == 1 { "a build is".to_string() } else { format!("{most} builds are") };
            let kept =
                if behind.is_some() && most > 1 { ", and the last turn is kept for people's pushes" } else { "" };
            ctx.line(&format!("-----> Waiting for a turn to build: {under_way} the most at a time{kept}"));
        }
        let turn = async {
            let place = match behind {
                Some(turns) => Some(turns.acquire().await.map_err(Error::platform)?),
                None => None,
            };
            take(builds, place).await
        };
        unless_cancelled(ctx, turn).await
    }
}

async fn unless_cancelled<'a>(ctx: &Context, turn: impl Future<Output = Result<Turn<'a>>>) -> Result<Turn<'a>> {
    tokio::select! {
        turn = turn => turn,
        () = ctx.cancel.cancelled() => Err(change::cancelled()),
    }
}
