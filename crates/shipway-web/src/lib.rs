//! The control plane's doors: Platform API, git, dashboard, rendezvous, log streams.
//!
//! A door parses, authorizes, makes one call of the engine, and presents; it decides nothing. [`routes`] is the map of
//! the Platform API on one page; `api` has one file per noun with its handlers, `present` one per noun with its JSON.
//! A handler is `async fn(Call) -> Result<Answer>`: [`call::Call`] is the authenticated request with its parameters,
//! [`payload::Payload`] reads bodies and names the field that is wrong, [`range`] reads and writes `Range`.

mod address;
mod answer;
mod api;
mod auth;
mod call;
mod dashboard;
mod error;
mod follow;
mod git;
mod limits;
mod own;
mod payload;
mod present;
mod range;
mod receivers;
mod rendezvous;
mod repeats;
pub mod routes;
mod serve;
mod signed;
mod sse;
mod streams;
mod version;

pub use address::BaseUrls;
pub use answer::Answer;
pub use auth::credentials;
pub use call::{Call, Open};
pub use error::{ApiError, Result};
pub use receivers::WebReceivers;
pub use serve::{Listeners, bind_socket, serve_api};
pub use signed::{LogSession, OutputStream, SignedUrls};

use axum::Router;
use shipway_engine::Platform;
use shipway_git::GitHttp;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// What every door shares. Cheap to clone.
#[derive(Clone)]
pub struct Web {
    inner: Arc<Inner>,
}

struct Inner {
    platform: Platform,
    base: BaseUrls,
    limits: limits::RateLimits,
    repeats: repeats::Repeats,
    git: Option<GitHttp>,
    authority: Option<String>,
    closing: CancellationToken,
    asked: own::login::Asked,
    repositories: api::github::Looked,
    webhooks: own::forges::Gate,
}

impl Web {
    /// The doors of `platform`, reached at `base` where a request does not say itself how it came.
    pub fn new(platform: Platform, base: BaseUrls) -> Self {
        let inner = Inner {
            platform,
            base,
            limits: limits::RateLimits::default(),
            repeats: repeats::Repeats::default(),
            git: None,
            authority: None,
            closing: CancellationToken::new(),
            asked: own::login::Asked::default(),
            repositories: api::github::Looked::default(),
            webhooks: own::forges::Gate::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The same doors with git behind one of them, and the server's own certificate authority (PEM) for those who must
    /// trust it; none where its certificate is publicly trusted. Shares nothing with the doors that it is made from.
    pub fn with(self, git: GitHttp, authority: Option<String>) -> Self {
        let inner = Inner {
            platform: self.inner.platform.clone(),
            base: self.inner.base.clone(),
            limits: limits::RateLimits::default(),
            repeats: repeats::Repeats::default(),
            git: Some(git),
            authority,
            closing: CancellationToken::new(),
            asked: own::login::Asked::default(),
            repositories: api::github::Looked::default(),
            webhooks: own::forges::Gate::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The engine.
    pub fn platform(&self) -> &Platform {
        &self.inner.platform
    }

    /// Where the doors are.
    pub fn base(&self) -> &BaseUrls {
        &self.inner.base
    }

    /// Git over HTTP; none in a server without repositories.
    pub(crate) fn git(&self) -> Option<&GitHttp> {
        self.inner.git.as_ref()
    }

    /// The server's own certificate authority, PEM.
    pub(crate) fn authority(&self) -> Option<&str> {
        self.inner.authority.as_deref()
    }

    /// Cancelled when the server retires: streams that can go on elsewhere end then.
    pub(crate) fn closing(&self) -> CancellationToken {
        self.inner.closing.clone()
    }

    /// Repositories that somebody has just looked at.
    pub(crate) fn repositories(&self) -> &api::github::Looked {
        &self.inner.repositories
    }

    /// Who may send a webhook now.
    pub(crate) fn webhooks(&self) -> &own::forges::Gate {
        &self.inner.webhooks
    }

    /// Browser logins that were asked for.
    pub(crate) fn asked(&self) -> &own::login::Asked {
        &self.inner.asked
    }

    /// Signatures of URLs that are opened without a token.
    pub fn signed(&self) -> SignedUrls<'_> {
        SignedUrls::new(self.platform().store().keys())
    }

    pub(crate) fn limits(&self) -> &limits::RateLimits {
        &self.inner.limits
    }

    pub(crate) fn repeats(&self) -> &repeats::Repeats {
        &self.inner.repeats
    }

    /// All routes of all doors.
    pub fn router(&self) -> Router {
        routes::all(self)
            .fallback(api::meta::nothing_here)
            .method_not_allowed_fallback(dashboard::wrong_method)
            .layer(axum::middleware::from_fn(answer::finish))
            .with_state(self.clone())
    }
}
