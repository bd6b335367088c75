//! An app's buildpacks, and the registry in which the CLI looks up their names.

use crate::call::Open;
use crate::{Answer, ApiError, Call, Result, present};
use serde_json::{Value, json};

/// What is built in: name and what it does.
const BUILT_IN: [(&str, &str); 4] = [
    ("heroku/python", "Python with pip or uv; Django's static files are collected."),
    ("heroku/nodejs", "Node.js with npm or yarn; build scripts run, development dependencies are pruned."),
    ("heroku/static", "Static sites: static.json or index.html."),
    ("heroku/procfile", "A Procfile and nothing else: what is pushed is what runs."),
];

/// Where the real registry keeps archives. The CLI turns names into these URLs before it sends them.
const REGISTRY: &str = "https://buildpack-registry.s3.amazonaws.com/buildpacks/";

/// A buildpack as it is kept: built-in ones by name, in whichever spelling they came.
pub(super) fn name(given: &str) -> String {
    let given = given.trim();
    let short = given.strip_prefix("urn:buildpack:").unwrap_or(given);
    let short = short.strip_prefix(REGISTRY).and_then(|s| s.strip_suffix(".tgz")).unwrap_or(short);
    let git = BUILT_IN.iter().find(|(name, _)| {
        let repository = name.replacen('/', "/heroku-buildpack-", 1);
        short.trim_end_matches(".git") == format!("https://github.com/{repository}")
    });
    git.map_or(short, |(name, _)| name).to_string()
}

/// GET /apps/{app}/buildpack-installations
pub async fn list(call: Call) -> Result<Answer> {
    Ok(installations(&call.app()?.buildpacks))
}

/// PUT /apps/{app}/buildpack-installations
pub async fn update(call: Call) -> Result<Answer> {
    let app = call.app()?;
    let updates = call.payload()?.objects("updates")?;
    let updates =
        updates.ok_or_else(|| ApiError::invalid("`updates` is missing: a list of `{\"buildpack\": NAME}`."))?;
    let wanted = updates.iter().map(|u| Ok(name(&u.required("buildpack")?))).collect::<Result<Vec<_>>>()?;
    Ok(installations(&call.platform().set_buildpacks(&call.caller, &app, wanted).await?))
}

fn installations(buildpacks: &[String]) -> Answer {
    Answer::ok(buildpacks.iter().enumerate().map(|(i, b)| present::buildpack_installation(i, b)).collect())
}

/// GET /buildpacks: the registry's search. No token: the CLI sends none.
pub async fn search(open: Open) -> Result<Answer> {
    let any = |field: &str, value: &str| open.query(field).is_none_or(|wanted| value.contains(&wanted.to_lowercase()));
    let found = BUILT_IN.iter().filter(|(name, description)| {
        let (namespace, short) = name.split_once('/').unwrap_or(("", name));
        any("in[namespace][]", namespace)
            && any("in[name][]", short)
            && any("like[description]", &description.to_lowercase())
    });
    Ok(Answer::ok(found.map(|(name, description)| present::buildpack(name, description)).collect()))
}

/// GET /buildpacks/{name}, where the name holds an encoded slash.
pub async fn info(open: Open) -> Result<Answer> {
    let (name, description) = find(&open)?;
    Ok(Answer::ok(present::buildpack(name, description)))
}

/// GET /buildpacks/{name}/readme
pub async fn readme(open: Open) -> Result<Answer> {
    let (_, description) = find(&open)?;
    Ok(Answer::ok(json!({ "content": description, "name": "README.md" })))
}

/// GET /buildpacks/{name}/revisions: a built-in buildpack has the one that is in the binary.
pub async fn revisions(open: Open) -> Result<Answer> {
    let (name, description) = find(&open)?;
    let mut revision: Value = present::buildpack(name, description);
    revision["release"] = 1.into();
    revision["status"] = "published".into();
    revision["license"] = "Apache-2.0".into();
    Ok(Answer::ok(json!([revision])))
}

fn find(open: &Open) -> Result<(&'static str, &'static str)> {
    let wanted = open.parameter("name");
    BUILT_IN.iter().find(|(name, _)| *name == wanted).copied().ok_or_else(|| ApiError::missing("buildpack"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn names() {
        for (given, expected) in [
            ("heroku/python", "heroku/python"),
            ("urn:buildpack:heroku/python", "heroku/python"),
            ("https://buildpack-registry.s3.amazonaws.com/buildpacks/heroku/nodejs.tgz", "heroku/nodejs"),
            ("https://github.com/heroku/heroku-buildpack-python.git", "heroku/python"),
            ("https://github.com/heroku/heroku-buildpack-ruby", "https://github.com/heroku/heroku-buildpack-ruby"),
            ("https://example.org/b.git#v2", "https://example.org/b.git#v2"),
        ] {
            assert_eq!(super::name(given), expected);
        }
    }
}
