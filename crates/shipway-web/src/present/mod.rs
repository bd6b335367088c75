//! The API's JSON, one file per noun. Rows in, values out; every key is always there, with an explicit `null` where
//! there is nothing, because clients read some of them without asking.

mod account;
mod addon;
mod app;
mod build;
mod catalog;
mod dyno;
mod formation;
mod pipeline;
mod promotion;
mod release;
mod review_app;
mod team;
mod transfer;

pub use account::{account, authorization, key, session, token};
pub use addon::{Expansion, Inclusion, addon, addon_plan, addon_service, addons_page, attachment};
pub use app::{app, buildpack_installation, collaborator, default_domain, domain, owner, permission_names, team_app};
pub use build::{build, pipeline_build, slug, source};
pub use catalog::{REGIONS, account_feature, app_feature, buildpack, dyno_metadata, dyno_size, region, stack};
pub use dyno::dyno;
pub use formation::{formation, release_phase};
pub use pipeline::{coupling, pipeline, pipeline_owner, pipeline_stack};
pub use promotion::{planned, planned_step, product, promotion, promotion_target, whole_promotion};
pub use release::release;
pub use review_app::{app_setup, branch, repository, review_app, review_app_config, whole_review_app};
pub use team::{app_transfer, team, team_features, team_member};
pub use transfer::transfer;

use crate::address::Origin;
use crate::{Call, OutputStream, Web};
use jiff::Timestamp;
use serde_json::{Value, json};
use shipway_domain::admission::Scope;
use shipway_domain::{AccountId, AppId};
use shipway_engine::Holder;
use shipway_store::App;
use std::collections::HashMap;
use uuid::Uuid;

/// A moment as the API writes it: `2026-01-01T12:00:00Z`.
pub fn time(t: Timestamp) -> Value {
    t.strftime("%Y-%m-%dT%H:%M:%SZ").to_string().into()
}

fn optional_time(t: Option<Timestamp>) -> Value {
    t.map_or(Value::Null, time)
}

/// The id of something that has none of its own: the same for the same noun and name, on every platform.
fn id_of(noun: &str, name: &str) -> Uuid {
    let digest = ring::digest::digest(&ring::digest::SHA256, format!("shipway {noun} {name}").as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest.as_ref()[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

/// `{id, name}` of something that has no id of its own.
fn named(noun: &str, name: &str) -> Value {
    json!({ "id": id_of(noun, name), "name": name })
}

fn app_reference(app: &App) -> Value {
    json!({ "id": app.id, "name": app.name })
}

/// Where the output of a build or a release phase is read without showing the token again, by its holder.
pub fn output(web: &Web, origin: &Origin, reader: &Holder, app: AppId, id: Uuid) -> String {
    origin.url(&web.signed().output(&OutputStream { id, app, holder: reader.clone() }))
}

/// Whom something is shown to, and addresses of accounts, each looked up once.
pub struct People<'a> {
    web: &'a Web,
    reader: Option<Holder>,
    known: HashMap<AccountId, Value>,
}

impl<'a> People<'a> {
    /// Nobody known yet, and nobody who reads.
    pub fn new(web: &'a Web) -> Self {
        Self { web, reader: None, known: HashMap::new() }
    }

    /// Nobody known yet; who calls reads.
    pub fn of(call: &'a Call) -> Self {
        Self { web: &call.web, reader: Some(call.holder.clone()), known: HashMap::new() }
    }

    /// [`output`] for the reader; null without one, as it opens without a token.
    fn output(&self, origin: &Origin, app: AppId, id: Uuid) -> Value {
        self.reader.as_ref().map_or(Value::Null, |reader| output(self.web, origin, reader, app, id).into())
    }

    /// A scope with the name of its app.
    fn scope(&self, scope: &Scope) -> String {
        self.web.platform().scope_name(scope)
    }

    /// `{id, email}`. Who was removed keeps both here.
    pub fn reference(&mut self, id: AccountId) -> Value {
        let store = self.web.platform().store();
        let look = || match store.read(|c| c.address_of(id)) {
            Ok(email) => json!({ "id": id, "email": email }),
            Err(_) => json!({ "id": id, "email": "nobody@localhost" }),
        };
        self.known.entry(id).or_insert_with(look).clone()
    }
}
