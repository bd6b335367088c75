//! Releases.

use super::{People, app_reference, time};
use crate::Web;
use crate::address::Origin;
use serde_json::{Value, json};
use shipway_store::{App, Release};
use std::collections::HashSet;

/// A release. `output_stream_url` is there when a release phase ran, and opens without a token,
/// for as long as the reader's stands.
pub fn release(web: &Web, origin: &Origin, people: &mut People<'_>, app: &App, release: &Release) -> Value {
    let artifacts: Vec<_> = release.slug.iter().map(|id| json!({ "type": "slug", "id": id })).collect();
    // Once for each add-on, however often it is attached.
    let mut seen = HashSet::new();
    let plans: Vec<_> = release.attachments.iter().filter(|a| seen.insert(a.addon)).map(|a| a.plan).collect();
    json!({
        "addon_plan_names": plans,
        "app": app_reference(app),
        "artifacts": artifacts,
        "created_at": time(release.created_at),
        "current": app.current_release == Some(release.id),
        "description": release.description,
        "eligible_for_rollback": web.platform().eligible_for_rollback(release),
        "id": release.id,
        "oci_image": null,
        "output_stream_url": if release.has_output { people.output(origin, release.app, release.id.0) } else { Value::Null },
        "slug": release.slug.map(|id| json!({ "id": id })),
        "status": release.status.as_str(),
        "updated_at": time(release.updated_at),
        "user": people.reference(release.account),
        "version": release.version,
    })
}
