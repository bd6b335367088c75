//! A clock that a test can move, and chance that is the same in every run.

use jiff::{SignedDuration, Timestamp};
use shipway_engine::ports::{RealWorld, World};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// The machine's clock plus an offset; ids from a counter, so that the same session gets the same ones.
///
/// It belongs to the ground: a second server on it goes on where the first stopped, and no id comes twice.
#[derive(Default)]
pub struct SetWorld {
    offset: Mutex<SignedDuration>,
    drawn: AtomicU64,
}

impl SetWorld {
    /// Sets the clock forwards (or backwards, with a negative step), as an operator or a time daemon does.
    pub fn jump(&self, step: SignedDuration) {
        *self.offset.lock().unwrap() += step;
    }
}

impl World for SetWorld {
    fn now(&self) -> Timestamp {
        RealWorld.now() + *self.offset.lock().unwrap()
    }

    fn uuid(&self) -> uuid::Uuid {
        uuid::Builder::from_random_bytes((u128::from(self.random()) << 64 | u128::from(self.random())).to_be_bytes())
            .into_uuid()
    }

    /// SplitMix64 (Steele, Lea and Flood, 2014) over a counter.
    fn random(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut z = self.drawn.fetch_add(1, Ordering::Relaxed).wrapping_add(1).wrapping_mul(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
