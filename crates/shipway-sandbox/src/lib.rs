//! The embedded runtime: dynos as processes of this machine, with and without root.
//!
//! ```text
//! Embedded (in the server)  --run/spawner.sock-->  spawner  --socketpair-->  shim  --fork-->  sandbox
//!        \_______________ run/dynos/<dyno-id>/shim.sock ___________________/
//! ```
//!
//! The [`spawner`] (root on the `root` tier) keeps a few networks and disks ready, starts one [`shim`] per dyno and
//! forgets it. The shim makes the sandbox, owns the dyno's output and exit status, and outlives everybody who started
//! it: a new server finds it by its directory under `run/dynos/`. Whatever belongs to one dyno (network, disk, mounts,
//! processes) hangs on its first process and goes with it; nothing needs to be swept up after a `kill -9`.
//!
//! `docs/decisions/0002-sandbox.md` says why the sandbox is our own.

#![allow(
    unsafe_code,
    reason = "sandboxes are made of system calls that no crate wraps; each block says why it is sound"
)]
#![warn(clippy::undocumented_unsafe_blocks)]

mod builds;
mod bwrap;
mod cgroup;
mod client;
mod config;
mod disk;
pub mod doctor;
mod loopback;
mod metronome;
mod network;
mod process;
mod purge;
mod record;
mod sandbox;
pub mod shim;
pub mod spawner;
mod wire;

pub use client::Embedded;
pub use config::{Config, Tier};
pub use purge::purge;
