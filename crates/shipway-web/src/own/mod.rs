//! What the Platform API has no words for: operations, this machine's sessions, users, and logging in by a browser.
//!
//! Served under `/shipway/v1` for the `shipway` command and whoever scripts it; `/auth` is where the Heroku CLI's own
//! browser login asks.

mod apps;
mod compare;
mod events;
pub(crate) mod forges;
pub(crate) mod login;
mod operations;
mod promotions;
mod reservations;
mod review_apps;
mod session;
mod sign_offs;
mod status;
mod triggers;
mod tunnels;
mod upstream;
mod users;

pub(crate) use operations::{at_step, waits_for};

use crate::Web;
use axum::Router;
use axum::routing::{delete, get, post, put};

/// The routes of this door.
#[rustfmt::skip]
pub fn routes(web: &Web) -> Router<Web> {
    Router::new()
        .route("/shipway/v1/session", post(session::create))
        .route("/shipway/v1/status", get(status::show))
        .route("/shipway/v1/events", get(events::follow))
        .route("/shipway/v1/users", get(users::list).post(users::create))
        .route("/shipway/v1/users/{user}/tokens", post(users::give_token))
        .route("/shipway/v1/operations", get(operations::list))
        .route("/shipway/v1/operations/{operation}", get(operations::info))
        .route("/shipway/v1/operations/{operation}/actions/cancel", post(operations::cancel))
        .route("/shipway/v1/apps/{app}/builds", get(apps::builds))
        .route("/shipway/v1/apps/{app}/redeploy", post(apps::redeploy))
        .route("/shipway/v1/pipelines/{pipeline}/upstream",
            get(upstream::info).post(upstream::set).patch(upstream::rule).delete(upstream::unset))
        .route("/shipway/v1/pipelines/{pipeline}/upstream/actions/fetch", post(upstream::fetch))
        .route("/shipway/v1/apps/{app}/status", get(upstream::of_app))
        .route("/shipway/v1/apps/{app}/rollback", get(apps::rollback_preview).post(apps::rollback))
        .route("/shipway/v1/apps/{app}/settings", get(apps::settings).patch(apps::set))
        .route("/shipway/v1/apps/{app}/triggers", get(triggers::list).post(triggers::create))
        .route("/shipway/v1/apps/{app}/triggers/{trigger}", delete(triggers::destroy))
        .route("/shipway/v1/pipelines/{pipeline}/checks", post(triggers::checks))
        .route("/shipway/v1/apps/{app}/reservation",
            get(reservations::info).put(reservations::reserve).delete(reservations::unreserve))
        .route("/shipway/v1/apps/{app}/previous", get(reservations::previous).post(reservations::bring_back))
        .route("/shipway/v1/addons/{addon}/tunnel", get(tunnels::open))
        .route("/shipway/v1/notices", get(reservations::notices))
        .route("/shipway/v1/notices/actions/read", post(reservations::read))
        .route("/shipway/v1/compare", get(compare::compare))
        .route("/shipway/v1/parity", get(compare::parity))
        .route("/shipway/v1/products", get(promotions::products).post(promotions::create_product))
        .route("/shipway/v1/products/{product}", get(promotions::product).patch(promotions::update_product).delete(promotions::destroy_product))
        .route("/shipway/v1/products/{product}/pipelines/{pipeline}",
            put(promotions::put_pipeline).delete(promotions::remove_pipeline))
        .route("/shipway/v1/products/{product}/steps/{pipeline}",
            put(promotions::put_step).delete(promotions::remove_step))
        .route("/shipway/v1/promotions", post(promotions::promote))
        .route("/shipway/v1/promotions/{promotion}", get(promotions::promotion))
        .route("/shipway/v1/pipelines/{pipeline}/settings", get(promotions::settings).patch(promotions::set))
        .route("/shipway/v1/pipelines/{pipeline}/sign-offs", get(sign_offs::list))
        .route("/shipway/v1/pipelines/{pipeline}/stages/{stage}/parties", put(sign_offs::require))
        .route("/shipway/v1/pipelines/{pipeline}/stages/{stage}/sign-offs", post(sign_offs::give))
        .route("/shipway/v1/pipelines/{pipeline}/stages/{stage}/sign-offs/{commit}", delete(sign_offs::withdraw))
        .route("/shipway/v1/pipelines/{pipeline}/pull-requests/{number}/actions/allow", post(review_apps::allow))
        .route("/shipway/v1/pipelines/{pipeline}/review-apps", get(review_apps::list))
        .route("/shipway/v1/pipelines/{pipeline}/review-apps/password", put(review_apps::password))
        .route("/shipway/v1/forges", get(forges::list))
        .route("/shipway/v1/forges/{connection}/webhook", post(forges::receive))
        .route("/shipway/v1/forges/deliveries/{delivery}/actions/redeliver", post(forges::redeliver))
        .route("/shipway/v1/pipelines/{pipeline}/forge",
            get(forges::info).post(forges::connect).delete(forges::disconnect))
        .route("/shipway/v1/pipelines/{pipeline}/forge/deliveries", get(forges::deliveries))
        .route("/auth", post(login::begin))
        .route("/auth/wait", get(login::wait))
        .route_layer(axum::middleware::from_fn_with_state(web.clone(), crate::repeats::guard))
}
