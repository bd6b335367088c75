//! The map of the Platform API: method, path, handler. [`TABLE`] is the same as data, for tests and documents.

use crate::Web;
use crate::api::meta;
use axum::Router;
use axum::routing;

macro_rules! method {
    (GET $handler:path) => {
        routing::get($handler)
    };
    (POST $handler:path) => {
        routing::post($handler)
    };
    (PUT $handler:path) => {
        routing::put($handler)
    };
    (PATCH $handler:path) => {
        routing::patch($handler)
    };
    (DELETE $handler:path) => {
        routing::delete($handler)
    };
}

macro_rules! routes {
    ($($method:ident $path:literal => $handler:path;)*) => {
        /// Method and path (in axum's syntax) of every route of the API.
        pub const TABLE: &[(&str, &str)] = &[$((stringify!($method), $path)),*];

        /// The routes with their handlers.
        pub(crate) fn api() -> Router<Web> {
            Router::new()$(.route($path, method!($method $handler)))*
        }
    };
}

#[rustfmt::skip]
routes! {
    GET    "/account/rate-limits"   => meta::rate_limits;
}
