//! Language versions: the host's own, and those fetched once for all apps into `toolchains/<name>/`.
//!
//! A toolchain lies as it will lie below `/app`: `toolchains/node-20.11.0/.heroku/node/bin/node`. It is fetched in a sandbox
//! that sees neither the app nor its config vars, so that no app can choose what another one gets.

use crate::languages::tail;
use crate::model::{BuildError, BuilderConfig};
use crate::session::{Session, Show, Step, work_mount};
use crate::tree::hex;
use crate::versions::{Range, Version};
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::sync::{Mutex, OnceCell};

pub(crate) struct Toolchains {
    directory: PathBuf,
    host_bin: PathBuf,
    static_server: PathBuf,
    pythons: OnceCell<Vec<(Version, String)>>,
    node: OnceCell<Option<Version>>,
    npm: OnceCell<Option<Version>>,
    server: Mutex<Option<String>>,
    /// One fetch at a time: two builds that want the same version share it.
    fetching: Mutex<()>,
}

/// Where a chosen version lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// The stack's own, by its command's path.
    Host(String),
    /// `toolchains/<name>`
    Toolchain(String),
}

impl Toolchains {
    pub(crate) fn new(home: &Path, config: &BuilderConfig) -> std::io::Result<Self> {
        let directory = home.join("toolchains");
        fs::create_dir_all(&directory)?;
        Ok(Self {
            directory,
            host_bin: config.host_bin.clone(),
            static_server: config.static_server.clone(),
            pythons: OnceCell::new(),
            node: OnceCell::new(),
            npm: OnceCell::new(),
            server: Mutex::new(None),
            fetching: Mutex::new(()),
        })
    }

    /// The directory of a toolchain.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Every Python of the stack and of `toolchains/`, newest first.
    pub(crate) async fn pythons(&self) -> Vec<(Version, Place)> {
        let host = self.pythons.get_or_init(|| async {
            let mut found = Vec::new();
            for name in names(&self.host_bin) {
                if name
                    .strip_prefix("python3.")
                    .is_some_and(|minor| minor.bytes().all(|b| b.is_ascii_digit()) && !minor.is_empty())
                {
                    let path = self.host_bin.join(&name);
                    if let Some(version) = ask_version(&path).await {
                        found.push((version, path.display().to_string()));
                    }
                }
            }
            found
        });
        let mut all: Vec<_> = host.await.iter().map(|(v, path)| (v.clone(), Place::Host(path.clone()))).collect();
        all.extend(self.fetched("python-"));
        all.sort_by(|a, b| b.0.cmp(&a.0));
        all
    }

    /// The stack's default Python: what `python3` is.
    pub(crate) async fn default_python(&self) -> Option<Version> {
        ask_version(&self.host_bin.join("python3")).await
    }

    /// Every Node.js of the stack and of `toolchains/`, newest first.
    pub(crate) async fn nodes(&self) -> Vec<(Version, Place)> {
        let path = self.host_bin.join("node");
        let host = self.node.get_or_init(|| ask_version(&path)).await;
        let mut all: Vec<_> = host
            .iter()
            .map(|v| (v.clone(), Place::Host(path.display().to_string())))
            .chain(self.fetched("node-"))
            .collect();
        all.sort_by(|a, b| b.0.cmp(&a.0));
        all
    }

    /// Whether the stack's own npm satisfies `range`.
    pub(crate) async fn has_npm(&self, range: &str) -> bool {
        let path = self.host_bin.join("npm");
        let host = self.npm.get_or_init(|| ask_version(&path)).await;
        host.as_ref().is_some_and(|version| Range::parse(range).is_some_and(|range| range.contains(version)))
    }

    fn fetched(&self, prefix: &str) -> Vec<(Version, Place)> {
        let names = names(&self.directory).into_iter();
        names.filter_map(|name| Some((Version::parse(name.strip_prefix(prefix)?)?, Place::Toolchain(name)))).collect()
    }

    /// Fetches the newest Node.js of the registry that satisfies `range`, checked against the registry's checksum.
    pub(crate) async fn fetch_node(&self, range: &str, session: &mut Session<'_>) -> Result<(Version, Place), String> {
        const FETCH: &str = r#"set -e
npm view "node-linux-$ARCH@$RANGE" version --json > versions.json
version=$(node -e 'const v = JSON.parse(require("fs").readFileSync("versions.json")); const at = (v) => v.split(".").map(Number); console.log([].concat(v).sort((a, b) => { const [x, y] = [at(a), at(b)]; return x[0] - y[0] || x[1] - y[1] || x[2] - y[2] }).pop())')
npm pack --silent "node-linux-$ARCH@$version" > /dev/null
mv node-linux-*.tgz node.tgz
echo "version $version""#;
        let _one = self.fetching.lock().await;
        let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "x64" };
        let (work, output) = self.fetch(FETCH, &[("RANGE", range), ("ARCH", arch)], session).await?;
        let version = output
            .lines()
            .find_map(|l| Version::parse(l.strip_prefix("version ")?))
            .filter(|v| Range::parse(range).is_some_and(|r| r.contains(v)))
            .ok_or_else(|| format!("the registry has no Node.js that satisfies {range}"))?;
        let name = format!("node-{version}");
        let unpack = || -> Result<(), String> {
            let archive = fs::File::open(work.join("node.tgz")).map_err(|e| e.to_string())?;
            let unpacked = work.join("unpacked");
            fs::create_dir(&unpacked).map_err(|e| e.to_string())?;
            let plain = flate2::read::GzDecoder::new(archive).take(4 << 30);
            shipway_blobs::archive::unpack(plain, &unpacked, &Default::default()).map_err(|e| e.to_string())?;
            let made = work.join("made");
            fs::create_dir_all(made.join(".heroku/node/bin"))
                .and_then(|()| fs::rename(unpacked.join("package/bin/node"), made.join(".heroku/node/bin/node")))
                .and_then(|()| self.keep(&made, &name))
                .map_err(|e| e.to_string())
        };
        unpack()?;
        Ok((version, Place::Toolchain(name)))
    }

    /// Fetches uv from the package index. Returns the toolchain's name.
    pub(crate) async fn uv(&self, session: &mut Session<'_>) -> Result<String, String> {
        const FETCH: &str = r#"python3 -m pip install --quiet --no-input --disable-pip-version-check --only-binary :all: --target made/.heroku/uv "uv==$VERSION""#;
        /// Known to work with our `uv sync`; a newer one is a change of ours, not a surprise of a build.
        const VERSION: &str = "0.13.8";
        let name = format!("uv-{VERSION}");
        let _one = self.fetching.lock().await;
        if !self.path(&name).is_dir() {
            session.report.detail(&format!("Fetching uv {VERSION} for all apps of this platform"));
            let (work, _) = self.fetch(FETCH, &[("VERSION", VERSION)], session).await?;
            self.keep(&work.join("made"), &name).map_err(|e| e.to_string())?;
        }
        Ok(name)
    }

    /// Fetches a program of the package index that is itself Python, such as `poetry`. The stack's own Python runs it, and
    /// it lies apart from what any app installs. Returns the toolchain's name.
    pub(crate) async fn python_program(
        &self,
        program: &'static str,
        version: &'static str,
        session: &mut Session<'_>,
    ) -> Result<String, String> {
        const FETCH: &str = r#"set -e
"$PYTHON" -m pip install --quiet --no-input --disable-pip-version-check --only-binary :all: --no-compile --target lib "$PROGRAM==$VERSION"
rm -rf lib/bin
"$PYTHON" -m compileall -q -j 2 --invalidation-mode unchecked-hash lib || true
mkdir -p "made/.heroku/$PROGRAM/bin"
mv lib "made/.heroku/$PROGRAM/lib""#;
        let own = self.default_python().await.ok_or("this platform has no python3")?;
        let python = self.host_bin.join(format!("python{}", own.minor())).display().to_string();
        // Parts of it are compiled for that Python alone.
        let name = format!("{program}-{version}-python{}", own.minor());
        let _one = self.fetching.lock().await;
        if !self.path(&name).is_dir() {
            session.report.detail(&format!("Fetching {program} {version} for all apps of this platform"));
            let env = [("PROGRAM", program), ("VERSION", version), ("PYTHON", &python)];
            let (work, _) = self.fetch(FETCH, &env, session).await?;
            let starter = format!(
                r#"#!{python} -I
import os, runpy, sys
sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.realpath(__file__))), "lib"))
runpy.run_module("{program}", run_name="__main__", alter_sys=True)
"#
            );
            write_program(&work.join("made/.heroku").join(program).join("bin").join(program), starter.as_bytes())
                .and_then(|()| self.keep(&work.join("made"), &name))
                .map_err(|e| e.to_string())?;
        }
        Ok(name)
    }

    /// A program of the npm registry, such as `yarn`, in a version of its package that satisfies `range`: the newest that
    /// was fetched before, else the registry's newest. Returns the toolchain's name.
    pub(crate) async fn npm_program(
        &self,
        program: &str,
        package: &str,
        range: &str,
        session: &mut Session<'_>,
    ) -> Result<String, String> {
        const FETCH: &str = r#"set -e
npm install --silent --no-audit --no-fund --ignore-scripts --prefix "made/.heroku/$PROGRAM" "$PACKAGE@$RANGE"
node -p '"version " + JSON.parse(require("fs").readFileSync("made/.heroku/" + process.env.PROGRAM + "/node_modules/" + process.env.PACKAGE + "/package.json")).version'"#;
        let fits = |version: &Version| Range::parse(range).is_some_and(|range| range.contains(version));
        let _one = self.fetching.lock().await;
        let here = self.fetched(&format!("{program}-")).into_iter().map(|(version, _)| version);
        let version = match here.filter(|version| fits(version)).max() {
            Some(version) => version,
            None => {
                let (work, output) =
                    self.fetch(FETCH, &[("PROGRAM", program), ("PACKAGE", package), ("RANGE", range)], session).await?;
                let said = output.lines().find_map(|line| Version::parse(line.strip_prefix("version ")?));
                let version =
                    said.filter(fits).ok_or_else(|| format!("the registry has none that satisfies {range}"))?;
                self.keep(&work.join("made"), &format!("{program}-{version}")).map_err(|e| e.to_string())?;
                version
            }
        };
        Ok(format!("{program}-{version}"))
    }

    /// Fetches a Python by uv, where a mirror of its builds is reachable.
    pub(crate) async fn fetch_python(
        &self,
        wanted: &str,
        session: &mut Session<'_>,
    ) -> Result<(Version, Place), String> {
        const FETCH: &str = r#"set -e
mkdir -p made/.heroku
/toolchain/.heroku/uv/bin/uv python install --no-bin --no-config --install-dir "$PWD/pythons" "$WANTED"
rm -f pythons/.lock pythons/.gitignore
mv pythons/cpython-*-*/ made/.heroku/python
made/.heroku/python/bin/python3 -c 'import platform; print("version", platform.python_version())'"#;
        let uv = self.uv(session).await?;
        let _one = self.fetching.lock().await;
        let env = [("WANTED", wanted), ("TOOLCHAIN", &uv)];
        let (work, output) = self.fetch(FETCH, &env, session).await?;
        let version = output
            .lines()
            .find_map(|l| Version::parse(l.strip_prefix("version ")?))
            .ok_or("it does not say its version")?;
        let name = format!("python-{version}");
        self.keep(&work.join("made"), &name).map_err(|e| e.to_string())?;
        Ok((version, Place::Toolchain(name)))
    }

    /// Every PHP of the stack, newest first. Asked anew each time, because it takes a moment to install one more.
    pub(crate) async fn phps(&self) -> Vec<Version> {
        let mut found = Vec::new();
        for name in names(&self.host_bin) {
            if name.strip_prefix("php").is_some_and(|minor| minor.contains('.') && minor.starts_with(['7', '8', '9'])) {
                found.extend(ask_version(&self.host_bin.join(name)).await);
            }
        }
        found.sort_by(|a, b| b.cmp(a));
        found
    }

    /// The extensions of one of [`Toolchains::phps`], as `php -m` writes them, in small letters.
    pub(crate) async fn php_extensions(&self, version: &Version) -> Vec<String> {
        let said = ask(&self.host_bin.join(format!("php{}", version.minor())), "-m").await.unwrap_or_default();
        said.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('[')).map(str::to_lowercase).collect()
    }

    /// Whether the stack has a program: by name, in the directory of administrators' programs or in the other.
    pub(crate) fn has_program(&self, name: &str) -> bool {
        [self.host_bin.with_file_name("sbin"), self.host_bin.clone()].iter().any(|bin| bin.join(name).exists())
    }

    /// The layer that makes a PHP of the stack the app's, with what starts it behind a web server. Returns the
    /// toolchain's name, which holds the starter's digest.
    pub(crate) async fn php(&self, version: &Version) -> Result<String, BuildError> {
        const STARTER: &str = include_str!("languages/php/heroku-php");
        const COMPOSER: &str = "#!/bin/sh\nexec \"${0%/*}/php\" /usr/bin/composer \"$@\"\n";
        let minor = version.minor();
        let digest = ring::digest::digest(&ring::digest::SHA256, [STARTER, COMPOSER].concat().as_bytes());
        let name = format!("php-{minor}-{}", &hex(digest.as_ref())[..16]);
        self.make(&name, ".heroku/php/bin", |bin| {
            write_program(&bin.join("heroku-php"), STARTER.as_bytes())?;
            write_program(&bin.join("composer"), COMPOSER.as_bytes())?;
            for (link, to) in [
                ("heroku-php-apache2", "heroku-php"),
                ("heroku-php-nginx", "heroku-php"),
                ("php", &format!("/usr/bin/php{minor}")),
                ("php-fpm", &format!("/usr/sbin/php-fpm{minor}")),
            ] {
                symlink(to, bin.join(link))?;
            }
            Ok(())
        })
        .map_err(BuildError::platform("making what starts PHP"))?;
        Ok(name)
    }

    /// The layer with the server of static sites. Returns the toolchain's name, which holds the executable's digest.
    pub(crate) async fn static_server(&self) -> Result<String, BuildError> {
        let mut known = self.server.lock().await;
        if let Some(name) = &*known {
            return Ok(name.clone());
        }
        let copying = || BuildError::platform(format!("copying {} for static sites", self.static_server.display()));
        let bytes = fs::read(&self.static_server).map_err(copying())?;
        let digest = ring::digest::digest(&ring::digest::SHA256, &bytes);
        let name = format!("static-{}", &hex(digest.as_ref())[..16]);
        self.make(&name, ".heroku/bin", |bin| write_program(&bin.join("shipway"), &bytes)).map_err(copying())?;
        *known = Some(name.clone());
        Ok(name)
    }

    /// Runs a fetch in an empty directory of its own. Returns that directory and what it wrote.
    async fn fetch(
        &self,
        command: &'static str,
        env: &[(&str, &str)],
        session: &mut Session<'_>,
    ) -> Result<(PathBuf, String), String> {
        let name = format!("toolchain-{}", uuid::Uuid::new_v4());
        let work = session.work.join(&name);
        fs::create_dir(&work).map_err(|e| e.to_string())?;
        let mut mounts = vec![work_mount(&name, "/fetch")];
        let mut own = session.base_env(&[("HOME", "/fetch")]);
        for (key, value) in env {
            if *key == "TOOLCHAIN" {
                mounts.push(toolchain_mount(value, "/toolchain"));
            } else {
                own.insert(key.to_string(), value.to_string());
            }
        }
        let step = Step { command, env: own, mounts, directory: "/fetch", show: Show::Hidden };
        let finished = session.run(step).await.map_err(|e| e.to_string())?;
        if finished.status != 0 {
            return Err(tail(&finished.output, 3));
        }
        Ok((work, finished.output))
    }

    /// Makes a toolchain of our own, unless it is there: `fill` is given its directory `below`.
    fn make(&self, name: &str, below: &str, fill: impl FnOnce(&Path) -> std::io::Result<()>) -> std::io::Result<()> {
        if self.path(name).is_dir() {
            return Ok(());
        }
        let made = self.directory.join(format!(".new-{}", uuid::Uuid::new_v4()));
        fs::create_dir_all(made.join(below))?;
        fill(&made.join(below))?;
        self.keep(&made, name)
    }

    /// Moves a made toolchain to its name; one that is there already is as good.
    fn keep(&self, made: &Path, name: &str) -> std::io::Result<()> {
        // All of it on disk before the name: no later build can tell a half one, and it happens once per version.
        rustix::fs::syncfs(fs::File::open(made)?)?;
        match fs::rename(made, self.path(name)) {
            Err(_) if self.path(name).is_dir() => fs::remove_dir_all(made),
            other => other,
        }
    }
}

/// A toolchain where build steps find it, read-only.
pub(crate) fn toolchain_mount(name: &str, target: &str) -> shipway_runtime::BuildMount {
    shipway_runtime::BuildMount {
        source: shipway_runtime::BuildSource::Toolchain(name.into()),
        target: target.into(),
        writable: false,
    }
}

/// The sentence that lists what is there.
pub(crate) fn present(found: &[(Version, Place)]) -> String {
    if found.is_empty() {
        return "none".into();
    }
    found.iter().map(|(v, _)| v.to_string()).collect::<Vec<_>>().join(", ")
}

fn names(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    entries.flatten().filter_map(|e| e.file_name().into_string().ok()).collect()
}

fn write_program(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    fs::write(path, bytes)?;
    fs::set_permissions(path, PermissionsExt::from_mode(0o755))
}

async fn ask_version(program: &Path) -> Option<Version> {
    ask(program, "--version").await?.split_whitespace().find_map(Version::parse)
}

/// What a program of the host says when it is asked so, with nothing of our environment.
async fn ask(program: &Path, option: &str) -> Option<String> {
    let run = tokio::process::Command::new(program)
        .arg(option)
        .env_clear()
        .envs(BTreeMap::from([("PATH", crate::session::DEFAULT_PATH)]))
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(std::time::Duration::from_secs(5), run).await.ok()?.ok()?;
    String::from_utf8(output.stdout).ok()
}
