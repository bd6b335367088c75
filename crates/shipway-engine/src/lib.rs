//! What the platform does: build, release, scale, roll back; operations that survive a crash.
