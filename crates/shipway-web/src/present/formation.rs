//! Formations.

use super::{app_reference, id_of, time};
use serde_json::{Value, json};
use shipway_domain::ProcessType;
use shipway_domain::size::DynoSizes;
use shipway_store::{App, Formation};

/// One process type of a formation.
pub fn formation(sizes: &DynoSizes, app: &App, formation: &Formation, command: &str) -> Value {
    let size = sizes.find(&formation.size).map_or_else(|_| formation.size.clone(), |s| s.display_name());
    json!({
        "app": app_reference(app),
        "command": command,
        "created_at": time(formation.created_at),
        "dyno_size": { "id": id_of("dyno size", &formation.size), "name": size },
        "id": formation.id,
        "quantity": formation.quantity,
        "size": size,
        "type": formation.process_type,
        "updated_at": time(formation.updated_at),
    })
}

/// The release phase as a process type, of which no dynos are wanted. Its id is derived from the app's.
pub fn release_phase(sizes: &DynoSizes, app: &App, command: &str) -> Value {
    let size = sizes.default_size();
    json!({
        "app": app_reference(app),
        "command": command,
        "created_at": time(app.created_at),
        "dyno_size": { "id": id_of("dyno size", &size.name), "name": size.display_name() },
        "id": id_of("release phase", &app.id.to_string()),
        "quantity": 0,
        "size": size.display_name(),
        "type": ProcessType::RELEASE,
        "updated_at": time(app.updated_at),
    })
}
