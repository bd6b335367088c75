//! Dynos.

use super::{app_reference, time};
use serde_json::{Value, json};
use shipway_domain::lifecycle::DynoState;
use shipway_domain::size::DynoSizes;
use shipway_store::{App, Dyno};

/// A dyno. `version` is its release's; `attach_url` is there only in the answer that made it.
pub fn dyno(sizes: &DynoSizes, app: &App, dyno: &Dyno, version: u64, attach_url: Option<String>) -> Value {
    // The API knows no state between up and down.
    let state = if dyno.state == DynoState::Stopping { DynoState::Down } else { dyno.state };
    json!({
        "app": app_reference(app),
        "attach_url": attach_url,
        "command": dyno.command,
        "created_at": time(dyno.created_at),
        "id": dyno.id,
        "name": dyno.name(),
        "release": { "id": dyno.release, "version": version },
        "size": sizes.find(&dyno.size).map_or_else(|_| dyno.size.clone(), |s| s.display_name()),
        "state": state.as_str(),
        "type": dyno.process_type,
        "updated_at": time(dyno.updated_at),
    })
}
