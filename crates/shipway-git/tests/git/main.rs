//! Repositories, with the real git.

mod bombs;
mod compare;
mod sessions;
mod support;
mod trees;
mod volume;
