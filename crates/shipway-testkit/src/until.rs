//! Waiting for what comes about by itself.

use std::time::{Duration, Instant};

/// What comes, comes long before; more is a machine that does other things.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(5);

/// Looks again and again until `found` finds something. Panics: it has not within a minute.
#[track_caller]
pub fn until<T>(what: &str, mut found: impl AsyncFnMut() -> Option<T>) -> impl Future<Output = T> {
    let at = std::panic::Location::caller();
    async move {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = found().await {
                return found;
            }
            assert!(Instant::now() < end, "{at}: never: {what}");
            tokio::time::sleep(PAUSE).await;
        }
    }
}
