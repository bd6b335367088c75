//! The stylesheet, the script and the mark, each under a name that holds its hash.

use std::sync::LazyLock;

/// A file that never changes under its name.
#[derive(Debug)]
pub struct Asset {
    /// The last segment of its path: `style-0123456789abcdef.css`.
    pub name: String,
    /// Its media type.
    pub content_type: &'static str,
    /// Its bytes.
    pub body: &'static [u8],
}

impl Asset {
    /// What `Cache-Control` to answer with.
    pub const CACHE_CONTROL: &'static str = "public, max-age=31536000, immutable";

    /// Its whole path.
    pub fn path(&self) -> String {
        crate::path("asset", &[&self.name])
    }
}

/// FNV-1a, 64 bits: tells versions apart; nothing is trusted because of it.
const fn fnv1a(bytes: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325;
    let mut i = 0;
    while i < bytes.len() {
        hash = (hash ^ bytes[i] as u64).wrapping_mul(0x0100_0000_01b3);
        i += 1;
    }
    hash
}

fn named(stem: &str, extension: &str, content_type: &'static str, body: &'static [u8]) -> Asset {
    Asset { name: format!("{stem}-{:016x}.{extension}", fnv1a(body)), content_type, body }
}

pub(crate) struct Assets {
    pub style: Asset,
    pub script: Asset,
    pub mark: Asset,
}

pub(crate) static ASSETS: LazyLock<Assets> = LazyLock::new(|| Assets {
    style: named("style", "css", "text/css; charset=utf-8", include_bytes!("assets/style.css")),
    script: named("script", "js", "text/javascript; charset=utf-8", include_bytes!("assets/script.js")),
    mark: named("mark", "svg", "image/svg+xml", include_bytes!("assets/mark.svg")),
});

/// The asset called `file` (the last segment of the route `asset`), or `None`: answer 404.
pub fn asset(file: &str) -> Option<&'static Asset> {
    let assets = &*ASSETS;
    [&assets.style, &assets.script, &assets.mark].into_iter().find(|a| a.name == file)
}
