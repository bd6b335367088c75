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
    std::fs::create_dir_all(&directory)?;
    for (name, html) in fixtures::all(&str::to_owned) {
        for file in html.split("/dashboard/assets/").skip(1).filter_map(|rest| rest.split('"').next()) {
            let asset = shipway_dashboard::asset(file).expect("pages name assets that there are");
            std::fs::write(directory.join(file), asset.body)?;
        }
        std::fs::write(directory.join(name).with_extension("html"), html)?;
    }
    let headers: Vec<String> =
        shipway_dashboard::HEADERS.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    std::fs::write(directory.join("headers.txt"), headers.join("\n"))
}
