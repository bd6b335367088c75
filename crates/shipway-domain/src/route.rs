//! The route table: what the router knows, swapped whole, numbered by epoch.

use crate::ids::{AppId, DynoId};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// All routes of the platform at one epoch. The switch of a release is the commit of the next epoch.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RouteTable {
    /// Grows by one with each switch; a table with a lower number never replaces one with a higher.
    pub epoch: u64,
    /// Routes by app, sorted by app id.
    pub apps: Vec<AppRoute>,
}

/// Where one app's requests go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppRoute {
    /// The app, whose log gets the router's lines.
    pub app: AppId,
    /// The app's name, for error pages.
    pub name: String,
    /// Lower-case host names without port; `*.example.com` matches one or more labels before the rest.
    pub hosts: Vec<String>,
    /// What to do with a request.
    pub mode: RouteMode,
    /// Healthy dynos to spread over. May be empty in any mode but `Serve`.
    pub targets: Vec<Target>,
    /// Only visitors with this `Authorization` header are let in: SHA-256 of its whole value, as 64 hex digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
}

/// What the router does with an app's requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RouteMode {
    /// Forward to a target.
    Serve,
    /// Maintenance page, 503, H80.
    Maintenance,
    /// The app has no web process type or it is scaled to 0: 503, H14.
    NoWeb,
    /// All web dynos are crashed: 503, H10.
    Crashed,
    /// Web dynos exist but none is up yet: wait for one up to 75 s, then 503, H20.
    Starting,
    /// The app exists and was never deployed: a page that says how, 502 ("Blank app", H81).
    Blank,
}

/// One dyno that takes requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// The dyno's id: stays the same while its address is reused by nobody else.
    pub dyno: DynoId,
    /// The dyno's name in the request log, `web.1`.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
}
