//! The embedded runtime: shim, spawner, sandboxes with and without root.
