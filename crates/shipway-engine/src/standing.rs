//! Whether what somebody has opened may go on: a terminal, a stream, a tunnel.
//!
//! Whatever is still sent after an answer has begun holds a [`Standing`]. It asks the store when something was committed
//! from which rights follow, when its token expires, and once in a while in case the clock was set or another server of
//! this data directory wrote: not for each piece that is sent.

use crate::error::Error;
use crate::ports::Caller;
use crate::{Platform, Result};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use shipway_domain::{AppId, TokenId};
use shipway_store::token_mark;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// How often is looked when nothing is told: by a server, say, whose successor writes already.
const LOOK: Duration = Duration::from_secs(10);

/// Who has opened something: by which token, with the secret that it had then. Not a secret itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The token.
    pub token: TokenId,
    /// Tells its secret from the next one's.
    mark: String,
}

impl Holder {
    /// Of a token and the secret that was shown.
    pub fn of(token: TokenId, secret: &str) -> Self {
        Self { token, mark: token_mark(secret) }
    }
}

/// Why something may not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The token was revoked, got another secret, or has expired.
    Token,
    /// What it shows is gone, or may not be seen or done any more.
    Right,
}

impl Ended {
    /// What its reader is told last.
    pub fn words(self) -> &'static str {
        match self {
            Self::Token => "The token that this was opened with has ended. Log in again: heroku login",
            Self::Right => "What this shows is gone, or your access to it has ended.",
        }
    }

    /// The same to whom a process runs for.
    pub fn words_of_process(self) -> &'static str {
        match self {
            Self::Token => "The token that this was opened with has ended, so this process is stopped.",
            Self::Right => "Your access to this has ended, so this process is stopped.",
        }
    }
}

type Right = Box<dyn Fn(&Platform, &Caller) -> Result<()> + Send + Sync>;

/// The right to go on. See the [module](self).
pub struct Standing {
    platform: Platform,
    holder: Holder,
    caller: Caller,
    right: Right,
    rights: watch::Receiver<u64>,
    /// Whether a change was told of that was not looked at.
    stale: bool,
    looked: Instant,
    until: Option<Timestamp>,
}

impl Platform {
    /// Begins something that goes on for as long as the holder's token stands and `right` is given to whoever it is by then.
    /// Errors: it is over before it began.
    pub fn stand(
        &self,
        holder: Holder,
        via: &'static str,
        right: impl Fn(&Self, &Caller) -> Result<()> + Send + Sync + 'static,
    ) -> Result<Standing, Ended> {
        // Before the first look: a change between the two is told.
        let rights = self.store().rights();
        let (caller, until) = self.shown(&holder, via)?;
        right(self, &caller).map_err(|_| Ended::Right)?;
        let (platform, right) = (self.clone(), Box::new(right));
        Ok(Standing { platform, holder, caller, right, rights, stale: false, looked: Instant::now(), until })
    }

    /// The same for what shows an app.
    pub fn stand_before(&self, holder: Holder, via: &'static str, app: AppId) -> Result<Standing, Ended> {
        self.stand(holder, via, move |platform, caller| platform.app(caller, &app.into()).map(drop))
    }

    /// Whether the caller may read what a build or a release phase of an app says. Of an app that is gone because its setup
    /// failed, whoever may see that may read why.
    pub fn may_read_output(&self, caller: &Caller, app: AppId) -> Result<()> {
        let (there, setup) = self.store().read(|c| {
            let there = c.app(&app.into())?.is_some();
            Ok((there, c.app_setup_of(app)?))
        })?;
        match setup.filter(|_| !there) {
            Some(setup) => self.app_setup(caller, setup.id).map(drop),
            None => self.app(caller, &app.into()).map(drop),
        }
    }

    /// Whose a token is now, and until when.
    fn shown(&self, holder: &Holder, via: &'static str) -> Result<(Caller, Option<Timestamp>), Ended> {
        let now = self.now();
        let found = self.store().read(|c| c.token_stands(holder.token, &holder.mark, now)).unwrap_or_else(|e| {
            // What cannot be looked at does not go on.
            let error = Error::from(e);
            tracing::error!(%error, cause = ?error.cause, "a token could not be read");
            None
        });
        let (actor, until) = found.ok_or(Ended::Token)?;
        Ok((Caller { actor, via }, until))
    }
}

impl Standing {
    /// Who holds it, as they are now.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Whether it still stands, before something is sent. Errors: why it does not.
    pub fn stands(&mut self) -> Result<(), Ended> {
        let told = self.stale || self.rights.has_changed().unwrap_or(true);
        let expired = self.until.is_some_and(|until| until <= self.platform.now());
        if !told && !expired && self.looked.elapsed() < LOOK {
            return Ok(());
        }
        // Seen before it is looked at: what changes meanwhile is told again.
        self.rights.mark_unchanged();
        (self.stale, self.looked) = (false, Instant::now());
        let looked = self.platform.shown(&self.holder, self.caller.via).and_then(|shown| {
            (self.caller, self.until) = shown;
            (self.right)(&self.platform, &self.caller).map_err(|_| Ended::Right)
        });
        // Whoever asks again what was over hears it again.
        self.stale = looked.is_err();
        looked
    }

    /// Waits until it does not stand any longer. May be dropped and called again.
    pub async fn ended(&mut self) -> Ended {
        loop {
            if let Err(ended) = self.stands() {
                return ended;
            }
            let lives = self.until.map(|until| until.duration_since(self.platform.now()).unsigned_abs());
            let pause = LOOK.saturating_sub(self.looked.elapsed()).min(lives.unwrap_or(LOOK));
            tokio::select! {
                told = self.rights.changed() => self.stale = told.is_ok(),
                () = tokio::time::sleep(pause) => {}
            }
        }
    }
}
