//! Transfers, in the shape of the data API's v11.

use jiff::Timestamp;
use serde_json::{Value, json};
use shipway_domain::addon::TransferKind;
use shipway_engine::{Platform, TransferLine};
use shipway_store::Transfer;

/// A time as this API writes it, unlike the others: `2026-11-21 22:15:23 +0000`.
fn time(at: Timestamp) -> Value {
    at.strftime("%Y-%m-%d %H:%M:%S +0000").to_string().into()
}

fn optional_time(at: Option<Timestamp>) -> Value {
    at.map_or(Value::Null, time)
}

/// A transfer; with what it said where that was asked for. A backup's `to_url` is what a restore of it is asked with.
pub fn transfer(one: &Transfer, lines: Option<&[TransferLine]>) -> Value {
    let (from_type, to_type) = match one.kind {
        TransferKind::Backup => ("pg_dump", "gof3r"),
        TransferKind::Restore => ("gof3r", "pg_restore"),
        TransferKind::Copy => ("pg_dump", "pg_restore"),
    };
    let mut shown = json!({
        "canceled_at": optional_time(one.canceled_at),
        "created_at": time(one.created_at),
        "finished_at": optional_time(one.finished_at),
        "from_name": one.from_name,
        "from_type": from_type,
        "from_url": null,
        "num": one.number,
        "options": {},
        "processed_bytes": one.processed_bytes,
        "schedule": null,
        "source_bytes": one.source_bytes,
        "started_at": optional_time(one.started_at),
        "succeeded": one.succeeded,
        "to_name": one.to_name,
        "to_type": to_type,
        "to_url": (one.kind == TransferKind::Backup).then(|| Platform::backup_address(one)),
        "updated_at": time(one.updated_at),
        "uuid": one.id,
        "warnings": one.warnings,
    });
    if let Some(lines) = lines {
        let line = |l: &TransferLine| json!({ "created_at": time(l.at), "message": l.message });
        shown["logs"] = lines.iter().map(line).collect();
    }
    shown
}
