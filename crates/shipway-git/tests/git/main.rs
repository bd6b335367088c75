//! Repositories, with the real git.

mod compare;
mod sessions;
mod support;
mod trees;
mod volume;
