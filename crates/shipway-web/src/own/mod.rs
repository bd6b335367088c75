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
use crate::routes::table;
use axum::Router;

/// The routes of this door.
pub fn routes(web: &Web) -> Router<Web> {
    declared().route_layer(axum::middleware::from_fn_with_state(web.clone(), crate::repeats::guard))
}

#[rustfmt::skip]
table! { Own:
    POST   "/shipway/v1/session"                                => session::create;
    GET    "/shipway/v1/status"                                 => status::show;
    GET    "/shipway/v1/findings"                               => status::findings;
    GET    "/shipway/v1/events"                                 => events::follow;
    GET    "/shipway/v1/users"                                  => users::list;
    POST   "/shipway/v1/users"                                  => users::create;
    DELETE "/shipway/v1/users/{user}"                           => users::remove;
    POST   "/shipway/v1/users/{user}/tokens"                    => users::give_token;
    GET    "/shipway/v1/operations"                             => operations::list;
    GET    "/shipway/v1/operations/{operation}"                 => operations::info;
    POST   "/shipway/v1/operations/{operation}/actions/cancel"  => operations::cancel;
    GET    "/shipway/v1/apps/{app}/builds"                      => apps::builds;
    POST   "/shipway/v1/apps/{app}/redeploy"                    => apps::redeploy;
    GET    "/shipway/v1/pipelines/{pipeline}/upstream"          => upstream::info;
    POST   "/shipway/v1/pipelines/{pipeline}/upstream"          => upstream::set;
    PATCH  "/shipway/v1/pipelines/{pipeline}/upstream"          => upstream::rule;
    DELETE "/shipway/v1/pipelines/{pipeline}/upstream"          => upstream::unset;
    POST   "/shipway/v1/pipelines/{pipeline}/upstream/actions/fetch" => upstream::fetch;
    GET    "/shipway/v1/apps/{app}/status"                      => upstream::of_app;
    GET    "/shipway/v1/apps/{app}/rollback"                    => apps::rollback_preview;
    POST   "/shipway/v1/apps/{app}/rollback"                    => apps::rollback;
    GET    "/shipway/v1/apps/{app}/settings"                    => apps::settings;
    PATCH  "/shipway/v1/apps/{app}/settings"                    => apps::set;
    GET    "/shipway/v1/apps/{app}/triggers"                    => triggers::list;
    POST   "/shipway/v1/apps/{app}/triggers"                    => triggers::create;
    DELETE "/shipway/v1/apps/{app}/triggers/{trigger}"          => triggers::destroy;
    POST   "/shipway/v1/pipelines/{pipeline}/checks"            => triggers::checks;
    GET    "/shipway/v1/apps/{app}/reservation"                 => reservations::info;
    PUT    "/shipway/v1/apps/{app}/reservation"                 => reservations::reserve;
    DELETE "/shipway/v1/apps/{app}/reservation"                 => reservations::unreserve;
    GET    "/shipway/v1/apps/{app}/previous"                    => reservations::previous;
    POST   "/shipway/v1/apps/{app}/previous"                    => reservations::bring_back;
    GET    "/shipway/v1/addons/{addon}/tunnel"                  => tunnels::open;
    GET    "/shipway/v1/notices"                                => reservations::notices;
    POST   "/shipway/v1/notices/actions/read"                   => reservations::read;
    GET    "/shipway/v1/compare"                                => compare::compare;
    GET    "/shipway/v1/parity"                                 => compare::parity;
    GET    "/shipway/v1/products"                               => promotions::products;
    POST   "/shipway/v1/products"                               => promotions::create_product;
    GET    "/shipway/v1/products/{product}"                     => promotions::product;
    PATCH  "/shipway/v1/products/{product}"                     => promotions::update_product;
    DELETE "/shipway/v1/products/{product}"                     => promotions::destroy_product;
    PUT    "/shipway/v1/products/{product}/pipelines/{pipeline}" => promotions::put_pipeline;
    DELETE "/shipway/v1/products/{product}/pipelines/{pipeline}" => promotions::remove_pipeline;
    PUT    "/shipway/v1/products/{product}/steps/{pipeline}"    => promotions::put_step;
    DELETE "/shipway/v1/products/{product}/steps/{pipeline}"    => promotions::remove_step;
    POST   "/shipway/v1/promotions"                             => promotions::promote;
    GET    "/shipway/v1/promotions/{promotion}"                 => promotions::promotion;
    GET    "/shipway/v1/pipelines/{pipeline}/settings"          => promotions::settings;
    PATCH  "/shipway/v1/pipelines/{pipeline}/settings"          => promotions::set;
    GET    "/shipway/v1/pipelines/{pipeline}/sign-offs"         => sign_offs::list;
    PUT    "/shipway/v1/pipelines/{pipeline}/stages/{stage}/parties" => sign_offs::require;
    POST   "/shipway/v1/pipelines/{pipeline}/stages/{stage}/sign-offs" => sign_offs::give;
    DELETE "/shipway/v1/pipelines/{pipeline}/stages/{stage}/sign-offs/{commit}" => sign_offs::withdraw;
    POST   "/shipway/v1/pipelines/{pipeline}/pull-requests/{number}/actions/allow" => review_apps::allow;
    GET    "/shipway/v1/pipelines/{pipeline}/review-apps"       => review_apps::list;
    PUT    "/shipway/v1/pipelines/{pipeline}/review-apps/password" => review_apps::password;
    GET    "/shipway/v1/forges"                                 => forges::list;
    POST   "/shipway/v1/forges/{connection}/webhook"            => forges::receive;
    POST   "/shipway/v1/forges/deliveries/{delivery}/actions/redeliver" => forges::redeliver;
    GET    "/shipway/v1/pipelines/{pipeline}/forge"             => forges::info;
    POST   "/shipway/v1/pipelines/{pipeline}/forge"             => forges::connect;
    DELETE "/shipway/v1/pipelines/{pipeline}/forge"             => forges::disconnect;
    GET    "/shipway/v1/pipelines/{pipeline}/forge/deliveries"  => forges::deliveries;
    POST   "/auth"                                              => login::begin;
    GET    "/auth/wait"                                         => login::wait;
}
