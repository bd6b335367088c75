//! What joins the engine's ports to the parts that do the work. No decisions here: words on one side become words on the
//! other.

mod builder;
mod router;

pub use builder::SlugBuilder;
pub use router::SocketRouter;
