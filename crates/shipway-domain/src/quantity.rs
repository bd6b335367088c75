//! How many dynos: a number, or a change to one.

use crate::names::NameError;

/// A wanted quantity as `ps:scale` writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quantity {
    /// `2`
    Exactly(u32),
    /// `+1`
    More(u32),
    /// `-1`
    Less(u32),
}

/// The most dynos of one process type.
pub const MAX_QUANTITY: u32 = 100;

impl Quantity {
    /// Reads `2`, `+1` or `-1`.
    pub fn parse(s: &str) -> Result<Self, NameError> {
        let bad = || NameError {
            what: "quantity",
            given: s.chars().take(80).collect(),
            problem: format!("is not a number from 0 to {MAX_QUANTITY}, optionally with + or - before it"),
        };
        let (make, digits): (fn(u32) -> Self, _) = match s.as_bytes().first() {
            Some(b'+') => (Self::More, &s[1..]),
            Some(b'-') => (Self::Less, &s[1..]),
            _ => (Self::Exactly, s),
        };
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(bad());
        }
        digits.parse().ok().filter(|n| *n <= MAX_QUANTITY).map(make).ok_or_else(bad)
    }

    /// The quantity that results when `present` run now; never below 0, never above [`MAX_QUANTITY`].
    pub fn apply(self, present: u32) -> u32 {
        match self {
            Self::Exactly(n) => n,
            Self::More(n) => present.saturating_add(n),
            Self::Less(n) => present.saturating_sub(n),
        }
        .min(MAX_QUANTITY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities() {
        assert_eq!(Quantity::parse("2").map(|q| q.apply(7)), Ok(2));
        assert_eq!(Quantity::parse("+1").map(|q| q.apply(7)), Ok(8));
        assert_eq!(Quantity::parse("-9").map(|q| q.apply(7)), Ok(0));
        assert_eq!(Quantity::parse("+100").map(|q| q.apply(7)), Ok(MAX_QUANTITY));
        for bad in ["", "+", "-", "two", "1.5", "--1", "101", "99999999999", " 1", "1\n"] {
            assert!(Quantity::parse(bad).is_err(), "{bad:?}");
        }
    }
}
