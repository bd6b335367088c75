//! The map of the Platform API: method, path, handler; and the tables of all doors as data, for tests and documents.
//!
//! A route is a line of its door's table, and a door an entry of [`DOORS`]: nothing else is served, so what walks
//! [`every`] (who may what, what nonsense is answered with) also walks what is added later.

use crate::Web;
use crate::api::{
    absent, accounts, addons, app_setups, app_transfers, apps, attachments, authorizations, buildpacks, builds,
    catalog, collaborators, config_vars, couplings, databases, deployments, domains, dynos, features, formation,
    github, keys, log_sessions, meta, pipelines, promotions, releases, review_apps, sources, teams, transfers,
    webhooks,
};
use crate::{dashboard, git, own, repeats, streams, version};
use axum::{Router, middleware};

/// Who comes through a door, and so what its answers look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Door {
    /// The Platform API, and what the CLI asks of other hosts of Heroku's at our port: JSON.
    Api,
    /// `/shipway/v1` and `/auth`: JSON.
    Own,
    /// Git's clients: its own formats, and sentences.
    Git,
    /// Whoever has a signed URL: what it names; errors in JSON.
    Streams,
    /// People: pages.
    Dashboard,
}

/// One route of a door, as data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Whose table it stands in.
    pub door: Door,
    /// `GET`, …
    pub method: &'static str,
    /// The path in axum's syntax: `/apps/{app}`.
    pub path: &'static str,
    /// The function that answers: `apps::info`; of a page its name in `shipway_dashboard::ROUTES`.
    pub handler: &'static str,
}

type Table = fn() -> Vec<Route>;
type Routes = fn(&Web) -> Router<Web>;

/// Every door: its table, and its routes with what is asked before their handlers.
const DOORS: [(Table, Routes); 5] = [
    (|| TABLE.to_vec(), api),
    (|| own::TABLE.to_vec(), own::routes),
    (|| git::TABLE.to_vec(), git::routes),
    (|| streams::TABLE.to_vec(), streams::routes),
    (dashboard::table, dashboard::routes),
];

/// Every route of every door.
pub fn every() -> Vec<Route> {
    DOORS.iter().flat_map(|(table, _)| table()).collect()
}

/// The routes of all doors with their handlers.
pub(crate) fn all(web: &Web) -> Router<Web> {
    DOORS.iter().fold(Router::new(), |all, (_, routes)| all.merge(routes(web)))
}

fn api(web: &Web) -> Router<Web> {
    declared()
        .route_layer(middleware::from_fn_with_state(web.clone(), repeats::guard))
        .route_layer(middleware::from_fn(version::guard))
}

macro_rules! method {
    (GET $handler:path) => {
        axum::routing::get($handler)
    };
    (POST $handler:path) => {
        axum::routing::post($handler)
    };
    (PUT $handler:path) => {
        axum::routing::put($handler)
    };
    (PATCH $handler:path) => {
        axum::routing::patch($handler)
    };
    (DELETE $handler:path) => {
        axum::routing::delete($handler)
    };
}

/// The table of a door, as data and as a router.
macro_rules! table {
    ($door:ident: $($method:ident $path:literal => $handler:path;)*) => {
        /// Every route of this door.
        pub const TABLE: &[$crate::routes::Route] = &[$($crate::routes::Route {
            door: $crate::routes::Door::$door,
            method: stringify!($method),
            path: $path,
            handler: stringify!($handler),
        }),*];

        /// The routes with their handlers.
        #[expect(clippy::disallowed_methods, reason = "the place where a table becomes a router")]
        fn declared() -> axum::Router<$crate::Web> {
            axum::Router::new()$(.route($path, $crate::routes::method!($method $handler)))*
        }
    };
}

pub(crate) use {method, table};

#[rustfmt::skip]
table! { Api:
    // Accounts
    GET    "/account"                                   => accounts::info;
    PATCH  "/account"                                   => accounts::update;
    DELETE "/account"                                   => accounts::destroy;
    GET    "/users/{user}"                              => accounts::by_user;
    PATCH  "/users/{user}"                              => accounts::update_by_user;
    DELETE "/users/{user}"                              => accounts::destroy_by_user;
    GET    "/users/{user}/apps"                         => apps::of_user;
    GET    "/account/rate-limits"                       => meta::rate_limits;
    GET    "/account/features"                          => features::of_account;
    GET    "/account/features/{feature}"                => features::one_of_account;
    PATCH  "/account/features/{feature}"                => features::set_of_account;
    GET    "/account/keys"                              => keys::list;
    POST   "/account/keys"                              => keys::add;
    GET    "/account/keys/{key}"                        => keys::info;
    DELETE "/account/keys/{key}"                        => keys::remove;

    // Authorizations
    GET    "/oauth/authorizations"                      => authorizations::list;
    POST   "/oauth/authorizations"                      => authorizations::create;
    GET    "/oauth/authorizations/{authorization}"      => authorizations::info;
    PATCH  "/oauth/authorizations/{authorization}"      => authorizations::update;
    DELETE "/oauth/authorizations/{authorization}"      => authorizations::revoke;
    POST   "/oauth/authorizations/{authorization}/actions/regenerate-tokens" => authorizations::rotate;
    GET    "/oauth/sessions"                            => authorizations::sessions;
    DELETE "/oauth/sessions/{authorization}"            => authorizations::end_session;
    POST   "/oauth/tokens"                              => authorizations::exchange;
    DELETE "/oauth/tokens/{authorization}"              => authorizations::end_token;

    // Apps
    GET    "/apps"                                      => apps::list;
    POST   "/apps"                                      => apps::create;
    POST   "/filters/apps"                              => apps::filter;
    GET    "/apps/{app}"                                => apps::info;
    PATCH  "/apps/{app}"                                => apps::update;
    DELETE "/apps/{app}"                                => apps::destroy;
    GET    "/apps/{app}/features"                       => features::of_app;
    GET    "/apps/{app}/features/{feature}"             => features::one_of_app;
    PATCH  "/apps/{app}/features/{feature}"             => features::set_of_app;
    GET    "/apps/{app}/collaborators"                  => collaborators::list;
    POST   "/apps/{app}/collaborators"                  => collaborators::add;
    GET    "/apps/{app}/collaborators/{collaborator}"   => collaborators::info;
    DELETE "/apps/{app}/collaborators/{collaborator}"   => collaborators::remove;
    GET    "/apps/{app}/domains"                        => domains::list;
    POST   "/apps/{app}/domains"                        => domains::add;
    GET    "/apps/{app}/domains/{domain}"               => domains::info;
    PATCH  "/apps/{app}/domains/{domain}"               => domains::update;
    DELETE "/apps/{app}/domains/{domain}"               => domains::remove;

    // Teams, and apps that change hands
    GET    "/teams"                                     => teams::list;
    POST   "/teams"                                     => teams::create;
    GET    "/teams/permissions"                         => teams::permissions;
    GET    "/teams/{team}"                              => teams::info;
    PATCH  "/teams/{team}"                              => teams::update;
    DELETE "/teams/{team}"                              => teams::destroy;
    GET    "/teams/{team}/members"                      => teams::members;
    PUT    "/teams/{team}/members"                      => teams::put_member;
    POST   "/teams/{team}/members"                      => teams::put_member;
    PATCH  "/teams/{team}/members"                      => teams::update_member;
    DELETE "/teams/{team}/members/{member}"             => teams::remove_member;
    GET    "/teams/{team}/members/{member}/apps"        => teams::apps_of_member;
    GET    "/teams/{team}/features"                     => teams::features;
    GET    "/teams/{team}/features/{feature}"           => teams::feature;
    GET    "/teams/{team}/apps"                         => teams::owned;
    GET    "/teams/{team}/addons"                       => addons::list_of_team;
    GET    "/teams/{team}/pipeline-couplings"           => teams::couplings;
    POST   "/teams/apps"                                => teams::create_app;
    GET    "/teams/apps/{app}"                          => teams::app;
    PATCH  "/teams/apps/{app}"                          => teams::update_app;
    GET    "/teams/apps/{app}/collaborators"            => collaborators::list;
    POST   "/teams/apps/{app}/collaborators"            => collaborators::add;
    GET    "/teams/apps/{app}/collaborators/{collaborator}" => collaborators::info;
    PATCH  "/teams/apps/{app}/collaborators/{collaborator}" => collaborators::update;
    DELETE "/teams/apps/{app}/collaborators/{collaborator}" => collaborators::remove;
    GET    "/account/app-transfers"                     => app_transfers::list;
    POST   "/account/app-transfers"                     => app_transfers::create;
    GET    "/account/app-transfers/{app_transfer}"      => app_transfers::info;
    PATCH  "/account/app-transfers/{app_transfer}"      => app_transfers::update;
    DELETE "/account/app-transfers/{app_transfer}"      => app_transfers::withdraw;

    // Code, config, releases
    POST   "/sources"                                   => sources::create;
    POST   "/apps/{app}/sources"                        => sources::create_for_app;
    PUT    "/sources/{source}/{signature}"              => sources::upload;
    GET    "/apps/{app}/builds"                         => builds::list;
    POST   "/apps/{app}/builds"                         => builds::create;
    GET    "/apps/{app}/builds/{build}"                 => builds::info;
    DELETE "/apps/{app}/builds/{build}"                 => builds::cancel;
    DELETE "/apps/{app}/build-cache"                    => builds::purge_cache;
    GET    "/apps/{app}/slugs/{slug}"                   => builds::slug;
    GET    "/apps/{app}/buildpack-installations"        => buildpacks::list;
    PUT    "/apps/{app}/buildpack-installations"        => buildpacks::update;
    GET    "/apps/{app}/config-vars"                    => config_vars::info;
    PATCH  "/apps/{app}/config-vars"                    => config_vars::update;
    GET    "/apps/{app}/releases"                       => releases::list;
    POST   "/apps/{app}/releases"                       => releases::create;
    GET    "/apps/{app}/releases/{release}"             => releases::info;
    GET    "/apps/{app}/releases/{release}/config-vars" => config_vars::of_release;

    // What runs
    GET    "/apps/{app}/formation"                      => formation::list;
    PATCH  "/apps/{app}/formation"                      => formation::update_all;
    GET    "/apps/{app}/formation/{formation}"          => formation::info;
    PATCH  "/apps/{app}/formation/{formation}"          => formation::update_one;
    GET    "/apps/{app}/dynos"                          => dynos::list;
    POST   "/apps/{app}/dynos"                          => dynos::run;
    DELETE "/apps/{app}/dynos"                          => dynos::restart_all;
    GET    "/apps/{app}/dynos/{dyno}"                   => dynos::info;
    POST   "/apps/{app}/dynos/{dyno}"                   => dynos::run_inside;
    DELETE "/apps/{app}/dynos/{dyno}"                   => dynos::restart_one;
    POST   "/apps/{app}/dynos/{dyno}/actions/stop"      => dynos::stop_one;
    DELETE "/apps/{app}/formations/{type}"              => dynos::restart_type;
    POST   "/apps/{app}/formations/{type}/actions/stop" => dynos::stop_type;
    POST   "/apps/{app}/log-sessions"                   => log_sessions::create;

    // Pipelines
    GET    "/pipelines"                                 => pipelines::list;
    POST   "/pipelines"                                 => pipelines::create;
    GET    "/pipelines/{pipeline}"                      => pipelines::info;
    PATCH  "/pipelines/{pipeline}"                      => pipelines::update;
    DELETE "/pipelines/{pipeline}"                      => pipelines::destroy;
    POST   "/pipeline-transfers"                        => pipelines::transfer;
    POST   "/pipeline-promotions"                       => promotions::create;
    GET    "/pipeline-promotions/{promotion}"           => promotions::info;
    GET    "/pipeline-promotions/{promotion}/promotion-targets" => promotions::targets;
    GET    "/pipelines/{pipeline}/pipeline-stack"       => pipelines::stack;
    GET    "/pipelines/{pipeline}/latest-builds"        => pipelines::latest_builds;
    GET    "/pipelines/{pipeline}/latest-releases"      => pipelines::latest_releases;
    GET    "/pipelines/{pipeline}/latest-deployments"   => pipelines::latest_deployments;
    GET    "/pipelines/{pipeline}/stage/{stage}/config-vars" => pipelines::config_vars;
    PATCH  "/pipelines/{pipeline}/stage/{stage}/config-vars" => pipelines::set_config_vars;
    GET    "/pipelines/{pipeline}/pipeline-couplings"   => couplings::of_pipeline;
    GET    "/apps/{app}/pipeline-couplings"             => couplings::of_app;
    GET    "/users/~/pipeline-couplings"                => couplings::list;
    POST   "/app-setups"                                => app_setups::create;
    GET    "/app-setups/{setup}"                        => app_setups::info;
    GET    "/pipelines/{pipeline}/review-app-config"    => review_apps::config;
    POST   "/pipelines/{pipeline}/review-app-config"    => review_apps::enable;
    PATCH  "/pipelines/{pipeline}/review-app-config"    => review_apps::update;
    DELETE "/pipelines/{pipeline}/review-app-config"    => review_apps::disable;
    GET    "/pipelines/{pipeline}/repo"                 => review_apps::repo;
    GET    "/pipelines/{pipeline}/repo/branches/{branch}" => review_apps::branch;
    GET    "/pipelines/{pipeline}/review-apps"          => review_apps::list;
    POST   "/review-apps"                               => review_apps::create;
    GET    "/review-apps/{review_app}"                  => review_apps::info;
    DELETE "/review-apps/{review_app}"                  => review_apps::delete;
    GET    "/apps/{app}/review-app"                     => review_apps::of_app;
    GET    "/pipeline-couplings"                        => couplings::list;
    POST   "/pipeline-couplings"                        => couplings::create;
    GET    "/pipeline-couplings/{coupling}"             => couplings::info;
    PATCH  "/pipeline-couplings/{coupling}"             => couplings::update;
    DELETE "/pipeline-couplings/{coupling}"             => couplings::remove;

    // Add-ons
    GET    "/addon-services"                            => addons::services;
    GET    "/addon-services/{service}"                  => addons::service;
    GET    "/addon-services/{service}/plans"            => addons::plans;
    GET    "/addon-services/{service}/plans/{plan}"     => addons::plan_of_service;
    GET    "/plans/{plan}"                              => addons::plan;
    GET    "/addons"                                    => addons::list;
    GET    "/users/{user}/addons"                       => addons::list_of_user;
    GET    "/addons/{addon}"                            => addons::info;
    GET    "/addons/{addon}/config"                     => addons::config;
    GET    "/addons/{addon}/addon-attachments"          => attachments::list_of_addon;
    GET    "/apps/{app}/addons"                         => addons::list_of_app;
    POST   "/apps/{app}/addons"                         => addons::create;
    GET    "/apps/{app}/addons/{addon}"                 => addons::info_of_app;
    PATCH  "/apps/{app}/addons/{addon}"                 => addons::update;
    DELETE "/apps/{app}/addons/{addon}"                 => addons::destroy;
    GET    "/addon-attachments"                         => attachments::list;
    POST   "/addon-attachments"                         => attachments::create;
    GET    "/addon-attachments/{attachment}"            => attachments::info;
    DELETE "/addon-attachments/{attachment}"            => attachments::remove;
    GET    "/apps/{app}/addon-attachments"              => attachments::list_of_app;
    GET    "/apps/{app}/addon-attachments/{attachment}" => attachments::info_of_app;
    POST   "/actions/addons/resolve"                    => addons::resolve;
    POST   "/actions/addon-attachments/resolve"         => attachments::resolve;

    // The data API: another host of Heroku's, our own port
    GET    "/client/v11/databases/{database}"                   => databases::info;
    GET    "/client/v11/databases/{database}/wait_status"       => databases::wait_status;
    PUT    "/client/v11/databases/{database}/reset"             => databases::reset;
    POST   "/client/v11/databases/{database}/connection_reset"  => databases::connection_reset;
    POST   "/client/v11/databases/{database}/backups"           => transfers::capture;
    POST   "/client/v11/databases/{database}/restores"          => transfers::restore;
    POST   "/client/v11/databases/{database}/transfers"         => transfers::copy;
    GET    "/client/v11/databases/{database}/transfer-schedules" => databases::schedules;
    POST   "/client/v11/databases/{database}/transfer-schedules" => databases::schedule;
    GET    "/client/v11/apps/{app}/transfers"                   => transfers::list;
    GET    "/client/v11/apps/{app}/transfers/{transfer}"        => transfers::info;
    DELETE "/client/v11/apps/{app}/transfers/{transfer}"        => transfers::remove;
    POST   "/client/v11/apps/{app}/transfers/{transfer}/actions/public-url" => transfers::public_url;
    POST   "/client/v11/apps/{app}/transfers/{transfer}/actions/cancel"     => transfers::cancel;
    GET    "/postgres/v0/databases/{database}/credentials"              => databases::credentials;
    GET    "/postgres/v0/databases/{database}/credentials/{credential}" => databases::credential;

    // What there is to choose from
    GET    "/stacks"                                    => catalog::stacks;
    GET    "/stacks/{stack}"                            => catalog::stack;
    GET    "/apps/{app}/available-stacks"               => catalog::stacks_of_app;
    GET    "/regions"                                   => catalog::regions;
    GET    "/regions/{region}"                          => catalog::region;
    GET    "/dyno-sizes"                                => catalog::dyno_sizes;
    GET    "/dyno-sizes/{dyno_size}"                    => catalog::dyno_size;
    GET    "/apps/{app}/available-dyno-sizes"           => catalog::dyno_sizes_of_app;

    // Webhooks
    GET    "/apps/{app}/webhooks"                       => webhooks::list;
    POST   "/apps/{app}/webhooks"                       => webhooks::create;
    GET    "/apps/{app}/webhooks/{webhook}"             => webhooks::info;
    PATCH  "/apps/{app}/webhooks/{webhook}"             => webhooks::update;
    DELETE "/apps/{app}/webhooks/{webhook}"             => webhooks::destroy;
    GET    "/apps/{app}/webhook-deliveries"             => webhooks::deliveries;
    GET    "/apps/{app}/webhook-deliveries/{delivery}"  => webhooks::delivery;
    GET    "/apps/{app}/webhook-events"                 => webhooks::events;
    GET    "/apps/{app}/webhook-events/{event}"         => webhooks::event;

    // What is asked for on the way and of which there is none
    GET    "/apps/{app}/log-drains"                     => absent::none_of_app;
    GET    "/apps/{app}/sni-endpoints"                  => absent::none_of_app;
    GET    "/spaces"                                    => absent::none;
    GET    "/apps/{app}/usage"                          => absent::no_usage;
    GET    "/data/maintenances/v1/apps/{app}"           => absent::no_maintenances;

    // Other hosts of Heroku's that the CLI asks at our port
    GET    "/account/github/token"                      => github::token;
    GET    "/apps/{app}/github"                         => github::of_app;
    PATCH  "/apps/{app}/github"                         => github::link;
    GET    "/pipelines/{pipeline}/github"               => github::of_pipeline;
    GET    "/pipelines/{pipeline}/repository"           => github::of_pipeline;
    POST   "/pipelines/{pipeline}/repository"           => github::connect;
    PATCH  "/pipelines/{pipeline}/repository"           => github::update;
    GET    "/github/repos/{owner}/{repository}/tarball/{*reference}" => github::tarball;
    GET    "/repos/{owner}/{repository}"                => github::info;
    GET    "/repos/{owner}/{repository}/compare/{commits}" => github::compare;
    GET    "/repos/{owner}/{repository}/deployments"    => deployments::list;
    POST   "/repos/{owner}/{repository}/deployments"    => deployments::create;
    GET    "/repos/{owner}/{repository}/deployments/{deployment}" => deployments::info;
    GET    "/repos/{owner}/{repository}/deployments/{deployment}/statuses" => deployments::statuses;
    POST   "/repos/{owner}/{repository}/deployments/{deployment}/statuses" => deployments::create_status;
    GET    "/repos/{owner}/{repository}/deployments/{deployment}/statuses/{status}" => deployments::status;
    GET    "/favorites"                                 => absent::none;
    GET    "/user/notifications"                        => absent::none;
    GET    "/api/v4/current-status"                     => meta::status;
    GET    "/buildpacks"                                => buildpacks::search;
    GET    "/buildpacks/{name}"                         => buildpacks::info;
    GET    "/buildpacks/{name}/readme"                  => buildpacks::readme;
    GET    "/buildpacks/{name}/revisions"               => buildpacks::revisions;
}
