//! Forges: a team's day with pull requests at a forge, by the real door, adapter and engine; the forge is a double.

mod approvals;
mod bounds;
mod forks;
mod keys;
mod killed;
mod late;
mod overwritten;
mod postgres;
mod rights;
mod storm;
mod telling;
mod webhooks;
mod world;
