//! What buildpacks are called.

/// What is built in: name and what it does.
pub const BUILT_IN: [(&str, &str); 5] = [
    ("heroku/python", "Python with pip, uv, Poetry or Pipenv; Django's static files are collected."),
    ("heroku/nodejs", "Node.js with npm, yarn or pnpm; build scripts run, development dependencies are pruned."),
    ("heroku/php", "PHP with Composer, behind Apache or nginx."),
    ("heroku/static", "Static sites: static.json or index.html."),
    ("heroku/procfile", "A Procfile and nothing else: what is pushed is what runs."),
];

/// Where the real registry keeps archives. The CLI turns names into these URLs before it sends them.
const REGISTRY: &str = "https://buildpack-registry.s3.amazonaws.com/buildpacks/";

/// What else people call them: buildpacks of others that do the same, and names of older times.
const OTHER_NAMES: [(&str, &str); 3] = [
    ("heroku-community/static", "heroku/static"),
    ("heroku-community/nginx-static", "heroku/static"),
    ("heroku/node", "heroku/nodejs"),
];

/// A buildpack as it is kept: built-in ones by name, in whichever spelling they came.
pub fn name(given: &str) -> String {
    let given = given.trim();
    let short = given.strip_prefix("urn:buildpack:").unwrap_or(given);
    let short = short.strip_prefix(REGISTRY).and_then(|s| s.strip_suffix(".tgz")).unwrap_or(short);
    let repository = short.strip_prefix("https://github.com/heroku/heroku-buildpack-");
    let named = match repository {
        Some(language) => format!("heroku/{}", language.trim_end_matches('/').trim_end_matches(".git")),
        None if short.contains('/') => short.to_string(),
        None => format!("heroku/{short}"),
    };
    let other = OTHER_NAMES.iter().find(|(other, _)| *other == named).map(|(_, name)| *name);
    let wanted = other.unwrap_or(&named);
    let built_in = BUILT_IN.iter().find(|(name, _)| *name == wanted);
    built_in.map_or(short, |(name, _)| name).to_string()
}

/// Whether a name as it is kept can mean a buildpack here: a built-in one, or where one lies.
pub fn can_be_found(name: &str) -> bool {
    BUILT_IN.iter().any(|(built_in, _)| *built_in == name) || name.contains("://") || name.starts_with('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (given, expected) in [
            ("heroku/python", "heroku/python"),
            ("urn:buildpack:heroku/python", "heroku/python"),
            ("https://buildpack-registry.s3.amazonaws.com/buildpacks/heroku/nodejs.tgz", "heroku/nodejs"),
            ("https://github.com/heroku/heroku-buildpack-python.git", "heroku/python"),
            ("python", "heroku/python"),
            ("heroku/node", "heroku/nodejs"),
            ("heroku-community/static", "heroku/static"),
            ("https://github.com/heroku/heroku-buildpack-static", "heroku/static"),
            ("heroku/ruby", "heroku/ruby"),
            ("https://github.com/acme/heroku-buildpack-python", "https://github.com/acme/heroku-buildpack-python"),
            ("https://github.com/heroku/heroku-buildpack-ruby", "https://github.com/heroku/heroku-buildpack-ruby"),
            ("https://example.org/b.git#v2", "https://example.org/b.git#v2"),
        ] {
            assert_eq!(name(given), expected);
        }
    }
}
