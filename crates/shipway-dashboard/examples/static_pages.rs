//! Writes every page of the fixtures into a directory, as `<name>.html`, and the assets beside them.
//!
//! `cargo run -p shipway-dashboard --example static_pages -- target/pages`; `tests/pages` opens them in a browser.

#[path = "../tests/fixtures/mod.rs"]
mod fixtures;

use std::path::PathBuf;

fn main() -> std::io::Result<()> {
    let Some(directory) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("Name the directory to write to.");
        std::process::exit(2);
    };
    fixtures::write(&directory)
}
