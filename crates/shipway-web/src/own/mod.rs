use crate::Web;
use axum::Router;

/// The routes of this door.
pub fn routes(_: &Web) -> Router<Web> {
    Router::new()
}
