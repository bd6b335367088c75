//! Where buildpacks come from: built in, a directory that the operator allows, or git over https.

use crate::languages::{self, Language, tail};
use crate::model::{BuildError, BuilderConfig};
use crate::session::{Session, Show, Step, work_mount};
use shipway_blobs::{PackLimits, PackSpec, archive, pack};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// A buildpack by what was asked for.
#[derive(Clone)]
pub(crate) enum Source {
    BuiltIn(&'static dyn Language),
    /// A directory, or a repository when it holds one; already resolved and inside the operator's roots.
    Local {
        path: PathBuf,
        reference: Option<String>,
    },
    /// A repository behind https.
    Git {
        url: String,
        reference: Option<String>,
    },
}

/// Reads what a user asked for. Nothing is fetched.
///
/// Only https and the operator's own directories: git's other transports start programs (`ext::`), reach local files or
/// take options from host names.
pub(crate) fn read(name: &str, config: &BuilderConfig) -> Result<Source, BuildError> {
    let shown: String = name.chars().take(120).collect();
    let refuse = |problem: &str| Err(BuildError::User(format!("The buildpack {shown:?} {problem}")));
    if let Some(language) = languages::by_name(name) {
        return Ok(Source::BuiltIn(language));
    }
    if name.len() > 1000 || name.starts_with('-') || name.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return refuse("is not a buildpack's name or URL.");
    }
    let (place, reference) = match name.split_once('#') {
        Some((place, reference)) => (place, Some(reference.to_string())),
        None => (name, None),
    };
    if let Some(reference) = &reference {
        let fine = |c: char| c.is_ascii_alphanumeric() || "._/-".contains(c);
        if reference.is_empty()
            || reference.starts_with('-')
            || reference.contains("..")
            || !reference.chars().all(fine)
        {
            return refuse("names a branch, tag or commit after # that cannot be one.");
        }
    }
    if let Some(rest) = place.strip_prefix("https://") {
        let host = rest.split('/').next().unwrap_or_default();
        if host.is_empty() || host.starts_with('-') || host.contains('@') {
            return refuse("has no plain host. Write it like https://example.com/team/buildpack.git#v1.");
        }
        if rest.ends_with(".tgz") || rest.ends_with(".tar.gz") {
            return refuse("is an archive. Name the git repository it was made from.");
        }
        return Ok(Source::Git { url: place.to_string(), reference });
    }
    let path = place.strip_prefix("file://").unwrap_or(place);
    if !path.starts_with('/') {
        return refuse(
            "is not known here. Built in are heroku/python, heroku/nodejs, heroku/php, heroku/static and heroku/procfile; others go by their https git URL. Change it with `heroku buildpacks:set`.",
        );
    }
    let Ok(resolved) = fs::canonicalize(path) else {
        return refuse(
            "does not exist on the platform's machine. Name an https git URL, or one that is there: heroku buildpacks:set.",
        );
    };
    let allowed = config.buildpack_roots.iter().filter_map(|root| fs::canonicalize(root).ok());
    if !allowed.into_iter().any(|root| resolved.starts_with(root)) {
        return refuse(
            "lies outside the directories that the operator allows for buildpacks (shipway up --buildpack-directory). Name an https git URL, or have it allowed.",
        );
    }
    Ok(Source::Local { path: resolved, reference })
}

/// Brings a buildpack's files into `buildpacks/<hex>` and returns that hex: the digest of the files.
pub(crate) async fn fetch(source: &Source, name: &str, session: &mut Session<'_>) -> Result<String, BuildError> {
    let buildpacks = session.home.join("buildpacks");
    fs::create_dir_all(&buildpacks).map_err(BuildError::platform("making the directory of buildpacks"))?;
    let checkout = format!("fetch-{}", uuid::Uuid::new_v4());
    let work = session.work.join(&checkout);
    let fetched = match source {
        Source::BuiltIn(_) => {
            return Err(BuildError::Platform(format!("{name} is built in; there is nothing to fetch")));
        }
        Source::Local { path, .. } if !is_repository(path) => {
            // A plain directory is taken as it is.
            return store(path, &buildpacks).await;
        }
        Source::Local { path, reference } => clone_local(path, reference.as_deref(), &work, &session.work).await,
        Source::Git { url, reference } => clone_https(url, reference.as_deref(), &checkout, session).await?,
    };
    match fetched {
        Ok(()) => store(&work, &buildpacks).await,
        Err(why) => {
            let known = session.request.previous.as_ref().and_then(|p| p.buildpacks.get(name)).cloned();
            match known.filter(|hex| buildpacks.join(hex).is_dir()) {
                Some(hex) => {
                    session
                        .report
                        .warning(&format!("{name} could not be fetched ({why}); using what the last build used"));
                    Ok(hex)
                }
                None => Err(BuildError::User(format!(
                    "The buildpack {name} could not be fetched: {why}\nCheck its URL with `heroku buildpacks -a {}`.",
                    session.request.app_name
                ))),
            }
        }
    }
}

fn is_repository(path: &Path) -> bool {
    path.join(".git").exists() || (path.join("HEAD").is_file() && path.join("objects").is_dir())
}

/// Clones inside the sandbox: the platform's own network stays out of reach of a URL.
async fn clone_https(
    url: &str,
    reference: Option<&str>,
    checkout: &str,
    session: &mut Session<'_>,
) -> Result<Result<(), String>, BuildError> {
    const CLONE: &str = r#"set -e
git init -q .
git -c protocol.allow=never -c protocol.https.allow=always fetch -q --depth 1 --no-tags --no-recurse-submodules -- "$URL" "$REF"
git -c advice.detachedHead=false checkout -q FETCH_HEAD"#;
    fs::create_dir(session.work.join(checkout)).map_err(BuildError::platform("making a directory for a buildpack"))?;
    let mut env = session.base_env(&[("HOME", "/fetch"), ("URL", url), ("REF", reference.unwrap_or("HEAD"))]);
    env.insert("GIT_TERMINAL_PROMPT".into(), "0".into());
    env.insert("GIT_CONFIG_NOSYSTEM".into(), "1".into());
    let mounts = vec![work_mount(checkout, "/fetch")];
    let step = Step { command: CLONE, env, mounts, directory: "/fetch", show: Show::Hidden };
    let finished = session.run(step).await?;
    Ok(if finished.status == 0 { Ok(()) } else { Err(tail(&finished.output, 2)) })
}

/// Clones a repository of the operator's, which the sandbox cannot see.
async fn clone_local(path: &Path, reference: Option<&str>, target: &Path, work: &Path) -> Result<(), String> {
    let config = work.join("gitconfig");
    // The repository may be another user's; it lies in a directory that the operator named.
    fs::write(&config, "[safe]\n\tdirectory = *\n").map_err(|e| e.to_string())?;
    let git = |arguments: Vec<std::ffi::OsString>| {
        let mut command = tokio::process::Command::new("git");
        command
            .args(["-c", "protocol.allow=never", "-c", "protocol.file.allow=always", "-c", "core.hooksPath=/dev/null"])
            .args(arguments)
            .env_clear()
            .env("PATH", crate::session::DEFAULT_PATH)
            .env("HOME", work)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", &config)
            .env("GIT_TERMINAL_PROMPT", "0")
            .stdin(Stdio::null())
            .kill_on_drop(true);
        async move {
            let output = command.output().await.map_err(|e| format!("git: {e}"))?;
            if output.status.success() {
                return Ok(());
            }
            Err(tail(&String::from_utf8_lossy(&output.stderr), 2))
        }
    };
    git(vec!["init".into(), "-q".into(), target.into()]).await?;
    let at = |rest: Vec<std::ffi::OsString>| {
        let mut all: Vec<std::ffi::OsString> = vec!["-C".into(), target.into()];
        all.extend(rest);
        all
    };
    let reference = reference.unwrap_or("HEAD");
    git(at(vec![
        "fetch".into(),
        "-q".into(),
        "--no-tags".into(),
        "--no-recurse-submodules".into(),
        "--".into(),
        path.into(),
        reference.into(),
    ]))
    .await?;
    git(at(vec!["checkout".into(), "-q".into(), "FETCH_HEAD".into()])).await
}

/// Copies a buildpack's files, without `.git`, to where their digest says.
async fn store(from: &Path, buildpacks: &Path) -> Result<String, BuildError> {
    let (from, buildpacks) = (from.to_owned(), buildpacks.to_owned());
    let storing = move || -> Result<String, BuildError> {
        let bytes = pack_files(&from)?;
        let hex = crate::tree::hex(ring::digest::digest(&ring::digest::SHA256, &bytes).as_ref());
        let target = buildpacks.join(&hex);
        if target.is_dir() {
            return Ok(hex);
        }
        let new = buildpacks.join(format!(".new-{}", uuid::Uuid::new_v4()));
        fs::create_dir(&new).map_err(BuildError::platform("making a buildpack's directory"))?;
        archive::unpack(&bytes[..], &new, &archive::Limits::default())?;
        match fs::rename(&new, &target) {
            Err(e) if !target.is_dir() => Err(BuildError::platform("keeping a buildpack")(e)),
            _ => Ok(hex),
        }
    };
    tokio::task::spawn_blocking(storing).await.map_err(|e| BuildError::Platform(e.to_string()))?
}

/// Copies a kept buildpack into the build: `bin/compile` may write an `export` file beside itself.
pub(crate) fn copy(home: &Path, hex: &str, target: &Path) -> Result<(), BuildError> {
    let bytes = pack_files(&home.join("buildpacks").join(hex))?;
    fs::create_dir(target).map_err(BuildError::platform("making a buildpack's copy"))?;
    Ok(archive::unpack(&bytes[..], target, &archive::Limits::default())?)
}

fn pack_files(from: &Path) -> Result<Vec<u8>, BuildError> {
    let mut bytes = Vec::new();
    let spec = PackSpec {
        root: from,
        subtree: Path::new(""),
        exclude: &|path, _| path == Path::new(".git"),
        // Heroku's largest have a few MiB.
        limits: PackLimits { entries: 20_000, bytes: 64 << 20, depth: 64 },
    };
    pack(&spec, &mut bytes).map_err(|e| BuildError::User(format!("The buildpack cannot be used: {e}")))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn attack_03_only_https_and_the_operators_directories() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("packs");
        fs::create_dir_all(root.join("one")).unwrap();
        std::os::unix::fs::symlink("/etc", root.join("out")).unwrap();
        let config = BuilderConfig {
            stack: "heroku-24".into(),
            stack_fingerprint: String::new(),
            buildpack_roots: vec![root.clone()],
            client_settings: BTreeMap::new(),
            static_server: PathBuf::new(),
            host_bin: "/usr/bin".into(),
            inputs_key: [0; 32],
            output_limit_bytes: 1 << 20,
        };
        let root = root.display();
        for good in [
            "https://example.com/team/pack.git",
            "https://example.com/team/pack#v1.2",
            "https://example.com/p.git#0123456789abcdef0123456789abcdef01234567",
            &format!("{root}/one"),
            &format!("file://{root}/one#main"),
            "heroku/nodejs",
        ] {
            assert!(read(good, &config).is_ok(), "{good} should be taken");
        }
        for bad in [
            "",
            "-u",
            "--upload-pack=x",
            "ext::sh -c id",
            "ext::sh",
            "git@example.com:x",
            "ssh://-oProxyCommand=id/x",
            "http://example.com/x",
            "git://example.com/x",
            "https://",
            "https://-x/y",
            "https://user:pw@host/x",
            "https://example.com/x#--upload-pack=id",
            "https://example.com/x#a..b",
            "https://example.com/x#$(id)",
            "https://example.com/x\nhost",
            "https://example.com/x.tgz",
            "/etc",
            "file:///etc/passwd",
            &format!("{root}/out"),
            &format!("{root}/../.."),
            &format!("{root}/none"),
            "heroku/ruby",
            "acme/pack",
        ] {
            assert!(matches!(read(bad, &config), Err(BuildError::User(_))), "{bad:?} should be refused");
        }
    }
}
