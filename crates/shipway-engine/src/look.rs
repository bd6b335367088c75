//! What keeps something as it is wanted looks when it is asked to, and once in a while without a reason.

use std::time::Duration;
use tokio::sync::Notify;

/// How often is looked without a reason.
const EVERY: Duration = Duration::from_secs(60);

/// Waits for the next look: until one is `wanted`, a minute at most.
pub(crate) async fn next(wanted: &Notify) {
    // Whether somebody asked or the time is over, the look is the same.
    let _ = tokio::time::timeout(EVERY, wanted.notified()).await;
}
