//! Stacks, regions, dyno sizes: what the platform offers.

use crate::{Answer, ApiError, Call, Result, present};
use serde_json::Value;
use shipway_engine::STACKS;

/// GET /stacks
pub async fn stacks(call: Call) -> Result<Answer> {
    Ok(all_stacks(&call))
}

/// GET /apps/{app}/available-stacks
pub async fn stacks_of_app(call: Call) -> Result<Answer> {
    call.app()?;
    Ok(all_stacks(&call))
}

/// GET /stacks/{stack}
pub async fn stack(call: Call) -> Result<Answer> {
    let default = &call.platform().settings().stack;
    by_name_or_id(&call, "stack", STACKS.iter().map(|s| present::stack(s, default)))
}

/// GET /regions
pub async fn regions(_: Call) -> Result<Answer> {
    Ok(Answer::ok(present::REGIONS.iter().map(present::region).collect()))
}

/// GET /regions/{region}
pub async fn region(call: Call) -> Result<Answer> {
    by_name_or_id(&call, "region", present::REGIONS.iter().map(present::region))
}

/// GET /dyno-sizes
pub async fn dyno_sizes(call: Call) -> Result<Answer> {
    Ok(all_sizes(&call))
}

/// GET /apps/{app}/available-dyno-sizes
pub async fn dyno_sizes_of_app(call: Call) -> Result<Answer> {
    call.app()?;
    Ok(all_sizes(&call))
}

/// GET /dyno-sizes/{dyno_size}
pub async fn dyno_size(call: Call) -> Result<Answer> {
    by_name_or_id(&call, "dyno_size", call.platform().settings().sizes.0.iter().map(present::dyno_size))
}

fn all_stacks(call: &Call) -> Answer {
    let default = &call.platform().settings().stack;
    Answer::ok(STACKS.iter().map(|s| present::stack(s, default)).collect())
}

fn all_sizes(call: &Call) -> Answer {
    Answer::ok(call.platform().settings().sizes.0.iter().map(present::dyno_size).collect())
}

fn by_name_or_id(call: &Call, noun: &'static str, mut all: impl Iterator<Item = Value>) -> Result<Answer> {
    let wanted = call.parameter(noun);
    let is = |v: &Value, field: &str| v[field].as_str().is_some_and(|s| s.eq_ignore_ascii_case(wanted));
    all.find(|v| is(v, "name") || is(v, "id")).map(Answer::ok).ok_or_else(|| ApiError::missing(noun))
}
