//! App webhooks: what has changed between two looks at an app's resources, and when a delivery is tried again.
//!
//! Events are not sent by whoever changes something: two looks at the resources, as the API shows them, are compared. So no
//! change needs to remember to tell of itself, and a server that was killed in between tells at its next look. What came
//! and went between two looks is one event, or none.

use crate::lifecycle::states;
use jiff::SignedDuration;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

states! {
    /// What a webhook hears of.
    /// Source: Heroku Dev Center, "App Webhooks".
    #[derive(PartialOrd, Ord)]
    Include {
        /// The app itself.
        App = "api:app",
        /// Its builds.
        Build = "api:build",
        /// Its releases.
        Release = "api:release",
        /// Its formation.
        Formation = "api:formation",
        /// Its dynos.
        Dyno = "dyno",
        /// Its add-ons.
        Addon = "api:addon",
        /// Attachments of add-ons.
        Attachment = "api:addon-attachment",
        /// Who has access.
        Collaborator = "api:collaborator",
        /// Its domains.
        Domain = "api:domain",
        /// Its certificates, of which there are none.
        SniEndpoint = "api:sni-endpoint",
    }
}

impl Include {
    /// Reads what somebody asked for; `api:dyno`, as examples of the CLI have it, means `dyno`.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "api:dyno" { Some(Self::Dyno) } else { Self::from_text(text) }
    }

    /// The noun: `release`.
    pub fn resource(self) -> &'static str {
        self.as_str().trim_start_matches("api:")
    }

    /// Whether only the newest are looked at, so that one that is not seen any more is not gone.
    fn is_window(self) -> bool {
        matches!(self, Self::Build | Self::Release)
    }
}

states! {
    /// How much a receiver matters.
    /// Source: Heroku Platform API, "App Webhook".
    Level {
        /// Tried once.
        Notify = "notify",
        /// Tried until it was received, for 72 hours.
        Sync = "sync",
    }
}

states! {
    /// What became of a delivery.
    /// Source: Heroku Platform API, "App Webhook Delivery".
    DeliveryStatus {
        /// It is to be tried.
        Pending = "pending",
        /// It was tried, and will be again.
        Retrying = "retrying",
        /// It is given up.
        Failed = "failed",
        /// It was received.
        Succeeded = "succeeded",
    }
}

/// Resources as the API shows them, by sort and id.
pub type Resources = BTreeMap<(Include, String), Value>;

/// One thing that has changed.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// What.
    pub include: Include,
    /// `create`, `update`, `destroy`.
    pub action: &'static str,
    /// It as it is now, or was when it went.
    pub data: Value,
    /// The fields that were different before, with what they were.
    pub previous_data: Value,
}

/// What has changed between two looks.
pub fn changes(before: &Resources, after: &Resources) -> Vec<Change> {
    let mut all = Vec::new();
    for (key @ (include, _), data) in after {
        let (action, previous_data) = match before.get(key) {
            None => ("create", Value::Object(Map::new())),
            Some(old) if old == data => continue,
            Some(old) => ("update", previous(old, data)),
        };
        all.push(Change { include: *include, action, data: data.clone(), previous_data });
    }
    for (key @ (include, _), data) in before {
        if !after.contains_key(key) && !include.is_window() {
            let previous_data = Value::Object(Map::new());
            all.push(Change { include: *include, action: "destroy", data: data.clone(), previous_data });
        }
    }
    all
}

fn previous(old: &Value, new: &Value) -> Value {
    let fields = old.as_object().into_iter().flatten();
    Value::Object(
        fields.filter(|(name, was)| new.get(*name) != Some(was)).map(|(n, w)| (n.clone(), w.clone())).collect(),
    )
}

/// How long a delivery waits after its n-th attempt failed, `age` after its event; none: it is given up.
///
/// Bounds: 30 s, doubled each time, an hour at most; 72 hours in all. Source: Heroku Dev Center, "App Webhooks".
pub fn back_off(level: Level, attempts: u32, age: SignedDuration) -> Option<SignedDuration> {
    let wait = SignedDuration::from_secs(30 << attempts.saturating_sub(1).min(7)).min(SignedDuration::from_hours(1));
    (level == Level::Sync && age + wait <= SignedDuration::from_hours(72)).then_some(wait)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_came_changed_and_went() {
        let resources = |all: &[(Include, &str, Value)]| -> Resources {
            all.iter().map(|(include, id, data)| ((*include, id.to_string()), data.clone())).collect()
        };
        let before = resources(&[
            (Include::App, "a", json!({ "name": "shop", "stack": "x" })),
            (Include::Domain, "d", json!({ "hostname": "x" })),
            (Include::Release, "r1", json!({ "version": 1 })),
        ]);
        let after = resources(&[
            (Include::App, "a", json!({ "name": "store", "stack": "x" })),
            (Include::Release, "r2", json!({ "version": 2 })),
        ]);
        let shown: Vec<String> = changes(&before, &after)
            .iter()
            .map(|c| format!("{} {} {} {}", c.include, c.action, c.data, c.previous_data))
            .collect();
        assert_eq!(
            shown,
            [
                r#"api:app update {"name":"store","stack":"x"} {"name":"shop"}"#,
                r#"api:release create {"version":2} {}"#,
                r#"api:domain destroy {"hostname":"x"} {}"#,
            ],
            "an old release is not gone: only the newest are looked at"
        );
        assert!(changes(&after, &after).is_empty());
    }

    #[test]
    fn notify_is_tried_once_and_sync_for_three_days() {
        let check = |level, attempts, hours, expected: Option<i64>| {
            let wait = back_off(level, attempts, SignedDuration::from_hours(hours));
            assert_eq!(wait.map(|wait| wait.as_secs()), expected, "{level} {attempts}");
        };
        check(Level::Notify, 1, 0, None);
        check(Level::Sync, 1, 0, Some(30));
        check(Level::Sync, 2, 0, Some(60));
        check(Level::Sync, 8, 1, Some(3600));
        check(Level::Sync, 400, 71, Some(3600));
        check(Level::Sync, 400, 72, None);
    }
}
