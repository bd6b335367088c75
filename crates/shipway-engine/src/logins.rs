//! Logging in by the browser: the CLI waits for what somebody approves on a page. Nothing of it is kept over a restart.

use crate::accounts::{MAX_DESCRIPTION, SESSION};
use crate::error::Error;
use crate::ports::Caller;
use crate::{Platform, Result};
use jiff::{SignedDuration, Timestamp};
use shipway_domain::admission::Scope;
use shipway_store::TokenKind;
use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;
use tokio::sync::watch;

/// A browser login that waits to be approved.
#[derive(Debug, Clone)]
pub struct Login {
    /// Stands in the page's address.
    pub request: String,
    /// What the CLI polls with.
    pub secret: String,
}

/// How long a browser login waits, and how many wait at most.
const LOGIN_WAIT: SignedDuration = SignedDuration::from_mins(10);
const MAX_LOGINS: usize = 1000;

#[derive(Default)]
pub(crate) struct Logins(Mutex<HashMap<String, Waiting>>);

struct Waiting {
    secret: String,
    description: String,
    since: Timestamp,
    token: watch::Sender<Option<String>>,
}

impl Platform {
    /// Begins a browser login.
    pub fn begin_login(&self, description: &str) -> Login {
        let login = Login { request: self.random_hex::<16>(), secret: self.random_hex::<32>() };
        let now = self.now();
        let mut waiting = self.inner.logins.0.lock().expect("no panic while logging in");
        waiting.retain(|_, w| now.duration_since(w.since) < LOGIN_WAIT);
        if waiting.len() >= MAX_LOGINS {
            // The oldest gives way: a flood of begun logins must not keep people out.
            if let Some(oldest) = waiting.iter().min_by_key(|(_, w)| w.since).map(|(k, _)| k.clone()) {
                waiting.remove(&oldest);
            }
        }
        waiting.insert(
            login.request.clone(),
            Waiting {
                secret: login.secret.clone(),
                description: description.chars().take(MAX_DESCRIPTION).collect(),
                since: now,
                token: watch::channel(None).0,
            },
        );
        login
    }

    /// What a waiting browser login called itself.
    pub fn login_request(&self, request: &str) -> Option<String> {
        let now = self.now();
        let waiting = self.inner.logins.0.lock().expect("no panic while logging in");
        waiting.get(request).filter(|w| now.duration_since(w.since) < LOGIN_WAIT).map(|w| w.description.clone())
    }

    /// Approves a browser login as the caller.
    pub async fn approve_login(&self, caller: &Caller, request: &str) -> Result<()> {
        self.whole_account(caller)?;
        let description = self.login_request(request).ok_or_else(|| Error::missing("login"))?;
        let (token, secret) =
            self.new_token(caller.actor.account, &description, Scope::Global, TokenKind::Authorization, Some(SESSION));
        let kept = secret.clone();
        self.store().write(move |c| c.insert_token(&token, &kept)).await?;
        let waiting = self.inner.logins.0.lock().expect("no panic while logging in");
        let waiting = waiting.get(request).ok_or_else(|| Error::missing("login"))?;
        waiting.token.send_replace(Some(secret));
        Ok(())
    }

    /// Turns a browser login down: whoever waits for it hears so at once.
    pub fn deny_login(&self, request: &str) {
        self.inner.logins.0.lock().expect("no panic while logging in").remove(request);
    }

    /// Waits at most `patience` for a browser login to be approved, and hands its token out once.
    pub async fn await_login(&self, secret: &str, patience: Duration) -> Result<Option<String>> {
        let found = {
            let waiting = self.inner.logins.0.lock().expect("no panic while logging in");
            let found = waiting.iter().find(|(_, w)| w.secret == secret);
            found.map(|(request, w)| (request.clone(), w.token.subscribe()))
        };
        let (request, mut token) = found.ok_or_else(Error::unauthorized)?;
        let approved = tokio::time::timeout(patience, token.wait_for(Option::is_some)).await;
        let Ok(Ok(approved)) = approved.map(|r| r.map(|t| t.clone())) else { return Ok(None) };
        self.inner.logins.0.lock().expect("no panic while logging in").remove(&request);
        Ok(approved)
    }
}
