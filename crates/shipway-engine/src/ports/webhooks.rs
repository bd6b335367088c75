//! What the engine needs of the doors to tell of changes.

use async_trait::async_trait;
use shipway_domain::webhooks::Resources;
use shipway_store::App;

/// One request to a receiver.
pub struct Post {
    /// Where to.
    pub url: String,
    /// What is sent as `Authorization`.
    pub authorization: Option<String>,
    /// What the body is signed with.
    pub secret: String,
    /// The body, JSON.
    pub body: String,
}

/// Shows what an app has as the API does, and reaches receivers.
#[async_trait]
pub trait Receivers: Send + Sync {
    /// An app's resources. Values of config vars and addresses that open without a token are not in them.
    fn resources(&self, app: &App) -> crate::Result<Resources>;
    /// Checks an address without asking it. Errors: the end of a sentence.
    fn check(&self, url: &str) -> Result<(), String>;
    /// Sends, and returns the status that came back. Errors: why none came, without any of the secrets.
    async fn send(&self, post: Post) -> Result<u16, String>;
}
