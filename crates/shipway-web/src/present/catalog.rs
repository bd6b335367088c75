//! What there is to choose from: stacks, regions, dyno sizes, features, buildpacks. Fixed by the platform.

use super::{id_of, named};
use serde_json::{Value, json};
use shipway_domain::size::DynoSize;

/// Since when the fixed things are there; the API wants a date.
pub(super) const SINCE: &str = "2026-01-01T00:00:00Z";

/// Names that are accepted for the one machine that there is, with what stands beside them.
pub const REGIONS: [(&str, &str, &str, &str, &str); 2] = [
    ("us", "This machine", "United States", "Here", "us-east-1"),
    ("eu", "This machine", "Ireland", "Here", "eu-west-1"),
];

/// A stack.
pub fn stack(name: &str, default: &str) -> Value {
    json!({
        "created_at": SINCE,
        "default": name == default,
        "id": id_of("stack", name),
        "name": name,
        "state": "public",
        "updated_at": SINCE,
    })
}

/// A region.
pub fn region((name, description, country, locale, provider): &(&str, &str, &str, &str, &str)) -> Value {
    json!({
        "country": country,
        "created_at": SINCE,
        "description": description,
        "id": id_of("region", name),
        "locale": locale,
        "name": name,
        "private_capable": false,
        "provider": { "name": "self-hosted", "region": provider },
        "updated_at": SINCE,
    })
}

/// A dyno size. `memory` is in GiB, `compute` a share of the processor relative to other dynos.
pub fn dyno_size(size: &DynoSize) -> Value {
    json!({
        "architecture": std::env::consts::ARCH,
        "can_autoscale": false,
        "compute": size.cpu_weight.div_ceil(100),
        "cost": null,
        "dedicated": false,
        "generation": named("generation", "cedar"),
        "id": id_of("dyno size", &size.name),
        "infrastructure_tier": "production",
        "memory": size.memory_mib as f64 / 1024.0,
        "name": size.display_name(),
        "precise_dyno_units": f64::from(size.cpu_weight) / 100.0,
        "private_space_only": false,
        "product_dyno_tier": size.name.split('-').next().unwrap_or_default(),
    })
}

/// The one feature that accounts have.
pub fn account_feature() -> Value {
    let doc = "https://devcenter.heroku.com/articles/github-integration";
    feature("account feature", "dashboard-repositories-api", "Repositories are asked for at this platform.", doc, true)
}

/// Dynos know their app, release and commit, whether an app asks for it or not.
pub fn dyno_metadata() -> Value {
    let description = "Dynos know their app, release and commit. Always on.";
    feature(
        "app feature",
        "runtime-dyno-metadata",
        description,
        "https://devcenter.heroku.com/articles/dyno-metadata",
        true,
    )
}

/// The feature of apps that can be switched.
pub fn app_feature(enabled: bool) -> Value {
    let description = "New web dynos are up and healthy before the old ones stop. Off: the old ones stop first.";
    feature("app feature", "preboot", description, "https://devcenter.heroku.com/articles/preboot", enabled)
}

fn feature(noun: &str, name: &str, description: &str, doc_url: &str, enabled: bool) -> Value {
    json!({
        "created_at": SINCE,
        "description": description,
        "display_name": name,
        "doc_url": doc_url,
        "enabled": enabled,
        "feedback_email": "",
        "id": id_of(noun, name),
        "name": name,
        "state": "general",
        "updated_at": SINCE,
    })
}

/// A built-in buildpack as the buildpack registry describes it. The CLI turns `blob_url` back into the name.
pub fn buildpack(name: &str, description: &str) -> Value {
    let (namespace, short) = name.split_once('/').unwrap_or(("heroku", name));
    json!({
        "blob_url": format!("https://buildpack-registry.s3.amazonaws.com/buildpacks/{name}.tgz"),
        "category": "languages",
        "created_at": SINCE,
        "description": description,
        "id": id_of("buildpack", name),
        "logo": {},
        "name": short,
        "namespace": namespace,
        "source": { "type": "built-in" },
        "support": { "method": "unsupported" },
        "two_factor_authentication": false,
        "updated_at": SINCE,
    })
}
