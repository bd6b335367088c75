//! One bound on what is fetched from servers elsewhere at a time: commits of pull requests, upstreams, archives for builds.
//!
//! Whoever comes later waits, first come, first served: a storm of webhooks becomes a queue here, and no storm of
//! connections at the forge. What an operation fetches is written down and may wait for as long as it takes; a request
//! that waits holds a connection, so only so many of them do.

use crate::error::Error;
use crate::operation::Context;
use crate::ports::Lines;
use crate::{Platform, Result, change};
use tokio::sync::{Semaphore, SemaphorePermit};

/// Fetches at a time, of the whole platform.
pub const FETCHES_AT_ONCE: usize = 4;
/// Dumps of databases that are brought here at a time, which may take hours.
const DUMPS_AT_ONCE: usize = 2;
/// Requests that fetch something or wait for it; the next one is told to come again.
pub const FETCHES_ASKED: usize = 32;

/// Who fetches, and who waits.
pub(crate) struct Fetches {
    turns: Semaphore,
    requests: Semaphore,
    dumps: Semaphore,
}

impl Default for Fetches {
    fn default() -> Self {
        Self {
            turns: Semaphore::new(FETCHES_AT_ONCE),
            requests: Semaphore::new(FETCHES_ASKED),
            dumps: Semaphore::new(DUMPS_AT_ONCE),
        }
    }
}

/// A turn to fetch, for as long as it is held.
pub(crate) struct Turn<'a> {
    _turn: SemaphorePermit<'a>,
    _request: Option<SemaphorePermit<'a>>,
}

impl Platform {
    /// Waits for a turn of an operation's, and says in its transcript when there is none at once. Errors: it was cancelled.
    pub(crate) async fn turn_of_operation(&self, ctx: &Context) -> Result<Turn<'_>> {
        if self.inner.fetches.turns.available_permits() == 0 {
            ctx.line(&format!(
                "-----> Waiting for a turn: {FETCHES_AT_ONCE} fetches from elsewhere are under way, no more at a time"
            ));
        }
        tokio::select! {
            turn = self.turn_to_fetch() => turn,
            () = ctx.cancel.cancelled() => Err(change::cancelled()),
        }
    }

    /// Waits for a turn of a request's. Errors: too many others wait.
    pub(crate) async fn turn_of_request(&self) -> Result<Turn<'_>> {
        let request = self.inner.fetches.requests.try_acquire().map_err(|full| {
            let text = format!(
                "{FETCHES_ASKED} requests to fetch from servers elsewhere are under way or wait. Nothing was changed; \
                 try again in a minute."
            );
            Error::unavailable(text, full)
        })?;
        Ok(Turn { _request: Some(request), ..self.turn_to_fetch().await? })
    }

    /// Waits for a turn to bring a dump of a database here, and says so.
    pub(crate) async fn turn_of_dump(&self, out: &dyn Lines) -> Result<Turn<'_>> {
        let dumps = &self.inner.fetches.dumps;
        if dumps.available_permits() == 0 {
            out.line(&format!("Waiting for a turn: {DUMPS_AT_ONCE} dumps are on their way here, no more at a time"));
        }
        Ok(Turn { _turn: dumps.acquire().await.map_err(Error::platform)?, _request: None })
    }

    /// Waits for a turn.
    pub(crate) async fn turn_to_fetch(&self) -> Result<Turn<'_>> {
        let turn = self.inner.fetches.turns.acquire().await.map_err(Error::platform)?;
        Ok(Turn { _turn: turn, _request: None })
    }
}
