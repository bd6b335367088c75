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
mod git;
mod limits;
mod own;
mod payload;
mod present;
mod range;
pub mod routes;
mod signed;
mod streams;

pub use address::BaseUrls;
pub use answer::Answer;
pub use auth::credentials;
pub use call::{Call, Open};
pub use error::{ApiError, Result};
pub use signed::{LogSession, SignedUrls};

use axum::Router;
use shipway_engine::Platform;
use std::sync::Arc;

/// What every door shares. Cheap to clone.
#[derive(Clone)]
pub struct Web {
    inner: Arc<Inner>,
}

struct Inner {
    platform: Platform,
    base: BaseUrls,
    limits: limits::RateLimits,
}

impl Web {
    /// The doors of `platform`, reached at `base` where a request does not say itself how it came.
    pub fn new(platform: Platform, base: BaseUrls) -> Self {
        Self { inner: Arc::new(Inner { platform, base, limits: limits::RateLimits::default() }) }
    }

    /// The engine.
    pub fn platform(&self) -> &Platform {
        &self.inner.platform
    }

    /// Where the doors are.
    pub fn base(&self) -> &BaseUrls {
        &self.inner.base
    }

    /// Signatures of URLs that are opened without a token.
    pub fn signed(&self) -> SignedUrls<'_> {
        SignedUrls::new(self.platform().store().keys())
    }

    pub(crate) fn limits(&self) -> &limits::RateLimits {
        &self.inner.limits
    }

    /// All routes of all doors.
    pub fn router(&self) -> Router {
        routes::api()
            .merge(git::routes(self))
            .merge(dashboard::routes(self))
            .merge(own::routes(self))
            .merge(streams::routes(self))
            .fallback(api::meta::nothing_here)
            .method_not_allowed_fallback(api::meta::wrong_method)
            .layer(axum::middleware::from_fn(answer::finish))
            .with_state(self.clone())
    }
}
