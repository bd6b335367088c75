//! The classic buildpack API: `bin/detect`, `bin/compile`, `bin/release`, `export`.
//!
//! Source: Heroku, "Buildpack API". The build directory is `/app`, as in Heroku CI, so that paths stay true in dynos.

use crate::languages::tail;
use crate::model::BuildError;
use crate::session::{Session, Show, Step, work_mount};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::OpenOptionsExt;

/// One classic buildpack of a build, copied to `work/<build>/buildpack-<n>`.
pub(crate) struct Classic {
    pub(crate) index: usize,
    /// What was asked for.
    pub(crate) name: String,
}

/// What `bin/release` says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Released {
    pub(crate) process_types: BTreeMap<String, String>,
    pub(crate) config_vars: BTreeMap<String, String>,
    pub(crate) addons: Vec<String>,
}

impl Classic {
    /// `bin/detect`: its name for the app when it takes it.
    pub(crate) async fn detect(&self, session: &mut Session<'_>) -> Result<Option<String>, BuildError> {
        const DETECT: &str = r#"exec "/buildpacks/$BUILDPACK/bin/detect" /app"#;
        let finished = self.run(session, DETECT, Show::Hidden).await?;
        let name = finished.output.lines().next().unwrap_or(&self.name).trim().to_string();
        Ok((finished.status == 0).then_some(name))
    }

    /// `bin/compile`, with what the buildpacks before it exported.
    pub(crate) async fn compile(&self, session: &mut Session<'_>) -> Result<(), BuildError> {
        const COMPILE: &str = r#"for before in /buildpacks/*/export; do
  if [ -f "$before" ]; then . "$before"; fi
done
exec "/buildpacks/$BUILDPACK/bin/compile" /app /cache /env"#;
        let finished = self.run(session, COMPILE, Show::AsIs).await?;
        if finished.status == 0 {
            return Ok(());
        }
        Err(BuildError::User(format!(
            "bin/compile of the buildpack {} exited with {}:\n{}",
            self.name,
            finished.status,
            tail(&finished.output, 3)
        )))
    }

    /// What its `export` sets for the buildpacks after it. A newline in a value is read as a blank.
    pub(crate) async fn exports(&self, session: &mut Session<'_>) -> Result<BTreeMap<String, String>, BuildError> {
        const EXPORTS: &str = r#"env -0 | sort -z > /tmp/before
. "/buildpacks/$BUILDPACK/export" > /dev/null 2>&1
env -0 | sort -z | comm -z -13 /tmp/before - | tr '\n\0' ' \n'"#;
        if !session.work.join(format!("buildpack-{}/export", self.index)).is_file() {
            return Ok(BTreeMap::new());
        }
        let finished = self.run(session, EXPORTS, Show::Hidden).await?;
        let set = finished.output.lines().filter_map(|line| line.split_once('='));
        let named = set.filter(|(name, _)| *name != "_" && shipway_domain::ConfigKey::parse(name).is_ok());
        Ok(named.map(|(name, value)| (name.to_string(), value.to_string())).collect())
    }

    /// `bin/release`; a buildpack without one releases nothing.
    pub(crate) async fn release(&self, session: &mut Session<'_>) -> Result<Released, BuildError> {
        const RELEASE: &str = r#"if [ -e "/buildpacks/$BUILDPACK/bin/release" ]; then exec "/buildpacks/$BUILDPACK/bin/release" /app 2> /dev/null; fi"#;
        let finished = self.run(session, RELEASE, Show::Hidden).await?;
        if finished.status != 0 {
            return Err(BuildError::User(format!(
                "bin/release of the buildpack {} exited with {}.",
                self.name, finished.status
            )));
        }
        read_release(&finished.output).map_err(|problem| {
            BuildError::User(format!(
                "bin/release of the buildpack {} wrote what is not its YAML: {problem}",
                self.name
            ))
        })
    }

    async fn run(
        &self,
        session: &mut Session<'_>,
        command: &'static str,
        show: Show,
    ) -> Result<crate::session::Finished, BuildError> {
        let index = self.index.to_string();
        let path = session.path();
        let mut env = session.base_env(&[("BUILDPACK", &index), ("PATH", &path), ("CURL_CONNECT_TIMEOUT", "30")]);
        env.insert("BUILDPACK_LOG_FILE".into(), "/dev/null".into());
        let mut mounts = Session::app_mounts();
        mounts.push(work_mount("env", "/env"));
        for before in 0..=self.index {
            mounts.push(work_mount(&format!("buildpack-{before}"), &format!("/buildpacks/{before}")));
        }
        session.run(Step { command, env, mounts, directory: "/app", show }).await
    }
}

/// Writes `ENV_DIR`: one file per config var, as `bin/compile` gets them.
pub(crate) fn write_env_directory(session: &Session<'_>) -> Result<(), BuildError> {
    let directory = session.work.join("env");
    if directory.is_dir() {
        return Ok(());
    }
    let writing = || BuildError::platform("writing the build's config vars");
    fs::create_dir(&directory).map_err(writing())?;
    for (name, value) in &session.request.env {
        // Names were checked when they were set; a path is never made from one that was not.
        if shipway_domain::ConfigKey::parse(name).is_err() {
            continue;
        }
        let file = fs::File::options().write(true).create_new(true).mode(0o600).open(directory.join(name));
        std::io::Write::write_all(&mut file.map_err(writing())?, value.as_bytes()).map_err(writing())?;
    }
    Ok(())
}

fn read_release(text: &str) -> Result<Released, String> {
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Yaml {
        default_process_types: Option<BTreeMap<String, String>>,
        config_vars: Option<BTreeMap<String, serde_yaml_ng::Value>>,
        addons: Option<Vec<String>>,
    }
    if text.trim().trim_start_matches("---").trim().is_empty() {
        return Ok(Released::default());
    }
    if text.len() > 64 * 1024 {
        return Err("it is larger than 64 KiB".into());
    }
    let yaml: Option<Yaml> = serde_yaml_ng::from_str(text).map_err(|e| e.to_string())?;
    let yaml = yaml.unwrap_or_default();
    let scalar = |value: serde_yaml_ng::Value| match value {
        serde_yaml_ng::Value::String(s) => Some(s),
        serde_yaml_ng::Value::Number(n) => Some(n.to_string()),
        serde_yaml_ng::Value::Bool(b) => Some(b.to_string()),
        _ => None,
    };
    let config_vars = yaml.config_vars.unwrap_or_default();
    Ok(Released {
        process_types: yaml.default_process_types.unwrap_or_default(),
        config_vars: config_vars.into_iter().filter_map(|(k, v)| Some((k, scalar(v)?))).collect(),
        addons: yaml.addons.unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn release_files() {
        let released = read_release("---\nconfig_vars:\n  A: 1\n  PATH: bin:/usr/bin\ndefault_process_types:\n  web: bin/web -p $PORT\naddons:\n  - heroku-postgresql\n").unwrap();
        assert_eq!(released.process_types, BTreeMap::from([("web".into(), "bin/web -p $PORT".into())]));
        assert_eq!(released.config_vars["A"], "1");
        assert_eq!(released.addons, ["heroku-postgresql"]);
        for nothing in ["", "---\n", "--- {}\n", "---\ndefault_process_types:\n", "{}"] {
            assert_eq!(read_release(nothing), Ok(Released::default()), "{nothing:?}");
        }
        assert!(read_release("a: [").is_err());
        assert!(read_release("default_process_types: [1]").is_err());
        let level = |name: char, of: char| format!("{name}: &{name} [{}]\n", vec![format!("*{of}"); 9].join(","));
        let bomb =
            ('b'..='i').fold("a: &a [x,x]\n".to_string(), |text, name| text + &level(name, (name as u8 - 1) as char));
        let bomb = format!("{bomb}config_vars: {{A: *i}}\n");
        assert!(read_release(&bomb).is_err());
    }
}
