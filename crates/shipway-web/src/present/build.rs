//! Builds, what goes into them, and what comes out.

use super::{People, app::git_url, named, time};
use crate::Web;
use crate::address::Origin;
use serde_json::{Map, Value, json};
use shipway_store::{App, Build, Slug, Source};

/// A build. `output_stream_url` opens without a token, for as long as the reader's stands.
pub fn build(web: &Web, origin: &Origin, people: &mut People<'_>, app: &App, build: &Build) -> Value {
    let buildpacks: Vec<_> = build.buildpacks.iter().map(|b| json!({ "name": b, "url": b })).collect();
    let commit = build.commit.as_ref().map(|c| c.as_str());
    json!({
        "app": { "id": build.app },
        "buildpacks": if buildpacks.is_empty() { Value::Null } else { buildpacks.into() },
        "created_at": time(build.created_at),
        "id": build.id,
        "labs": {},
        "output_stream_url": people.output(origin, build.app, build.id.0),
        "release": build.release.map(|id| json!({ "id": id })),
        "slug": build.slug.map(|id| json!({ "id": id })),
        "source_blob": {
            "checksum": null,
            "url": build.source_url.clone().unwrap_or_else(|| git_url(web, app)),
            "version": build.source_version.as_deref().or(commit),
            "version_description": build.failure,
        },
        "stack": build.stack,
        "status": build.status.as_str(),
        "updated_at": time(build.updated_at),
        "user": people.reference(build.account),
    })
}

/// The same in a pipeline's list, where the schema has no `labs`.
pub fn pipeline_build(web: &Web, origin: &Origin, people: &mut People<'_>, app: &App, one: &Build) -> Value {
    let mut value = build(web, origin, people, app, one);
    if let Some(fields) = value.as_object_mut() {
        fields.remove("labs");
    }
    value
}

/// A slug. Its layers stay in the platform, so `blob` names the slug and is not for download.
pub fn slug(origin: &Origin, app: &App, slug: &Slug) -> Value {
    let none = Map::new();
    let types = slug.manifest.get("process_types").and_then(Value::as_object).unwrap_or(&none);
    json!({
        "blob": { "method": "GET", "url": origin.url(&format!("/apps/{}/slugs/{}", app.id, slug.id)) },
        "buildpack_provided_description": slug.language,
        "checksum": slug.digest,
        "commit": slug.commit,
        "commit_description": slug.commit_description,
        "created_at": time(slug.created_at),
        "deleted_at": null,
        "id": slug.id,
        "process_types": types,
        "size": slug.size_bytes,
        "stack": named("stack", &slug.stack),
        "updated_at": time(slug.created_at),
    })
}

/// Where a source can be put, and got from.
pub fn source(web: &Web, origin: &Origin, source: &Source) -> Value {
    let url = origin.url(&web.signed().source(source.id));
    json!({ "source_blob": { "get_url": url, "put_url": url } })
}
