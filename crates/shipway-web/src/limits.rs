//! How many calls an account may make: enough for every use, too few for a loop that has gone wild.

use crate::{ApiError, Result};
use axum::http::StatusCode;
use shipway_domain::AccountId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

/// Calls that an account may save up, and gets back in an hour. Heroku gives 4,500; here the machine is your own.
const PER_HOUR: f64 = 100_000.0;

/// Carries the number from where a call is read to where its answer gets its headers.
#[derive(Clone, Default)]
pub(crate) struct Remaining(pub(crate) Arc<OnceLock<u64>>);

/// A bucket per account. Lives in memory: a restart forgives.
#[derive(Default)]
pub(crate) struct RateLimits {
    buckets: Mutex<HashMap<AccountId, (f64, Instant)>>,
}

impl RateLimits {
    /// Takes one call out, and returns how many are left. Errors: 429.
    pub(crate) fn take(&self, account: AccountId) -> Result<u64> {
        self.take_at(account, Instant::now())
    }

    fn take_at(&self, account: AccountId, now: Instant) -> Result<u64> {
        let mut buckets = self.buckets.lock().expect("no panic while counting");
        let bucket = buckets.entry(account).or_insert((PER_HOUR, now));
        let refill = now.saturating_duration_since(bucket.1).as_secs_f64() * PER_HOUR / 3600.0;
        *bucket = ((bucket.0 + refill).min(PER_HOUR), now);
        if bucket.0 < 1.0 {
            return Err(ApiError::new(
                StatusCode::TOO_MANY_REQUESTS,
                "rate_limit",
                format!("Your account made more than {PER_HOUR} API requests in an hour. Wait a minute and try again."),
            ));
        }
        bucket.0 -= 1.0;
        // Never negative: a call is taken only where one is left.
        Ok(bucket.0 as u64)
    }

    /// How many calls an account has left.
    pub(crate) fn remaining(&self, account: AccountId) -> u64 {
        let buckets = self.buckets.lock().expect("no panic while counting");
        buckets.get(&account).map_or(PER_HOUR, |(left, _)| *left) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn attack_44_a_loop_is_stopped_and_forgiven() {
        let (limits, start) = (RateLimits::default(), Instant::now());
        let account = AccountId(uuid::Uuid::nil());
        assert_eq!(limits.remaining(account), 100_000);
        for _ in 0..100_000 {
            limits.take_at(account, start).unwrap();
        }
        assert_eq!(limits.take_at(account, start).unwrap_err().status(), StatusCode::TOO_MANY_REQUESTS);
        limits.take_at(account, start + Duration::from_secs(60)).unwrap();
        assert!(limits.remaining(account) > 1000);
        limits.take_at(AccountId(uuid::Uuid::max()), start).unwrap();
    }
}
