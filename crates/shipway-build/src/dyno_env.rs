//! What the environment of a slug's dynos is by default, as Heroku's buildpacks set it.

use crate::model::SlugManifest;
use shipway_domain::size::DynoSize;
use std::collections::BTreeMap;

/// The slug's defaults with those that depend on the dyno's size. Config vars win over all of them.
///
/// `cores` is how many processors the machine has. Source: Heroku's Python and Node.js buildpacks, `WEB_CONCURRENCY.sh`.
pub fn dyno_env(slug: &SlugManifest, size: &DynoSize, cores: u64) -> BTreeMap<String, String> {
    let mut env = slug.env.clone();
    // With several buildpacks the last one is the app's main language.
    let known = ["heroku/python", "heroku/nodejs", "heroku/php"];
    let main = slug.buildpacks.iter().rev().find(|name| known.contains(&name.as_str()));
    let mut set = |name: &str, value: u64| {
        env.entry(name.into()).or_insert_with(|| value.to_string());
    };
    match main.map_or("", String::as_str) {
        // 256 MiB for each worker, and no more than keep the processors busy.
        "heroku/python" => set("WEB_CONCURRENCY", (size.memory_mib / 256).min(cores * 2 + 1).max(1)),
        "heroku/nodejs" => {
            set("MEMORY_AVAILABLE", size.memory_mib);
            set("WEB_MEMORY", 512);
            set("WEB_CONCURRENCY", (size.memory_mib / 512).clamp(1, 200));
        }
        // The rest depends on the app's memory_limit; what starts PHP works it out.
        "heroku/php" => set("MEMORY_AVAILABLE", size.memory_mib),
        _ => {}
    }
    env
}

#[cfg(test)]
mod tests {
    use super::*;
    use shipway_domain::size::DynoSizes;

    #[test]
    fn concurrency_follows_memory_and_cores() {
        let check = |buildpack: &str, size: &str, cores: u64, expected: Option<&str>| {
            let slug = SlugManifest {
                layers: Vec::new(),
                process_types: BTreeMap::new(),
                env: BTreeMap::new(),
                language: String::new(),
                buildpacks: buildpack.split(", ").map(String::from).collect(),
                stack: "heroku-24".into(),
            };
            let env = dyno_env(&slug, DynoSizes::default().find(size).unwrap(), cores);
            assert_eq!(env.get("WEB_CONCURRENCY").map(String::as_str), expected, "{buildpack} {size}");
        };
        check("heroku/python", "basic", 2, Some("2"));
        check("heroku/python", "standard-2x", 2, Some("4"));
        check("heroku/python", "standard-2x", 1, Some("3"));
        check("heroku/nodejs", "basic", 2, Some("1"));
        check("heroku/nodejs", "standard-2x", 2, Some("2"));
        check("heroku/php", "basic", 2, None);
        check("heroku/nodejs, heroku/php", "basic", 2, None);
        check("heroku/php, heroku/nodejs, https://example.org/own.git", "standard-2x", 2, Some("2"));
        check("heroku/procfile", "basic", 2, None);
    }
}
