//! The repositories that the platform keeps: what the engine asks of them, answered by the machine's git.
//!
//! One bare repository per app at `repos/<app-id>.git`, and one per pipeline at `upstreams/<pipeline-id>.git` for the
//! line that its team works on. No decisions here: words on one side become words on the other.

mod histories;
mod repositories;

pub use repositories::GitRepositories;
