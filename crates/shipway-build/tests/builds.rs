//! Builds as a pusher sees them, without the package registries.

mod support;

use shipway_build::{BuildError, LayerKind, Limit};
use shipway_runtime::ExitCause;
use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;
use support::{fixture, platform};

fn process_types(outcome: &shipway_build::BuildOutcome) -> Vec<(&str, &str)> {
    outcome.slug.process_types.iter().map(|(name, command)| (name.as_str(), command.as_str())).collect()
}

#[tokio::test]
async fn a_procfile_is_enough() {
    let mut platform = platform();
    let run = platform.build(&fixture("binary")).await;
    assert_eq!(run.steps, 0, "nothing is started for it");
    let (outcome, output) = run.ok();
    assert_eq!(process_types(&outcome), [("web", "./serve $PORT")]);
    assert_eq!(outcome.slug.env["PATH"], "/usr/local/bin:/usr/bin:/bin");
    assert!(output.starts_with("-----> Procfile app detected\n-----> Discovering process types\n"), "{output}");
    let app = platform.app(&outcome);
    assert!(app.path().join("serve").is_file());
    let manifest = platform.blobs.get(&outcome.manifest_digest).unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    assert_eq!(manifest["layers"][0]["digest"], outcome.slug.layers[0].digest.as_str());
    assert_eq!(manifest["config"]["digest"], outcome.config_digest.as_str());
}

#[tokio::test]
async fn the_same_tree_gives_the_same_artifact() {
    let mut platform = platform();
    let (one, _) = platform.build(&fixture("binary")).await.ok();
    let (two, _) = platform.build(&fixture("binary")).await.ok();
    assert_eq!(one.manifest_digest, two.manifest_digest);
    assert!(!two.reused);
}

#[tokio::test]
async fn an_already_built_commit_reuses_its_slug_and_says_so() {
    let mut platform = platform();
    platform.commit('a');
    let (first, _) = platform.build(&fixture("binary")).await.ok();
    platform.remember(&first.pins);
    let (second, output) = platform.build(&fixture("binary")).await.ok();
    assert!(second.reused);
    assert_eq!(second.manifest_digest, first.manifest_digest);
    assert_eq!(output, "-----> This commit was built before with the same inputs: its slug is used again");
    // Another config var, another commit, an emptied cache, a missing blob: built again.
    platform.set("COLOR", "red");
    assert!(!platform.build(&fixture("binary")).await.ok().0.reused);
    platform.request.env.clear();
    platform.commit('b');
    assert!(!platform.build(&fixture("binary")).await.ok().0.reused);
    platform.commit('a');
    platform.request.clear_cache = true;
    assert!(!platform.build(&fixture("binary")).await.ok().0.reused);
    platform.request.clear_cache = false;
    platform.blobs.remove(&first.slug.layers[0].digest).unwrap();
    assert!(!platform.build(&fixture("binary")).await.ok().0.reused);
}

#[tokio::test]
async fn what_is_wrong_with_an_app_is_said_with_the_next_step() {
    let mut platform = platform();
    let check = async |platform: &mut support::Platform, files: &[(&str, &str)], expected: &str| {
        let text = platform.build_files(files).await.refusal();
        assert!(text.contains(expected), "{text}\nshould say\n{expected}");
    };
    let p = &mut platform;
    check(p, &[("README", "")], "No buildpack knows this app. Add a Procfile").await;
    check(p, &[("Procfile", "web: a\nworker b\n")], "Procfile, line 2: \"worker b\" has no colon").await;
    check(p, &[("package.json", "{")], "package.json is not JSON").await;
    check(p, &[("package.json", "[]")], "package.json is not a JSON object").await;
    check(p, &[("package.json", r#"{"engines":{"node":"$(id)"}}"#)], "engines.node is \"$(id)\", which is not a range")
        .await;
    check(p, &[("a.py", ""), (".python-version", "two")], ".python-version: \"two\" is not a version of Python 3")
        .await;
    check(p, &[("Pipfile", "")], "has only Pipfile. Run `pipenv lock`, commit its result").await;
    check(p, &[("Pipfile.lock", "{}")], "There is a Pipfile.lock but no Pipfile beside it").await;
    check(p, &[("Pipfile", ""), ("Pipfile.lock", "[")], "Pipfile.lock is not JSON").await;
    let three = r#"{"_meta":{"requires":{"python_version":"3"}}}"#;
    check(p, &[("Pipfile", ""), ("Pipfile.lock", three)], "below [requires] in Pipfile, run `pipenv lock`").await;
    let poetry = "[tool.poetry.dependencies]\npython = \"^3.11\"\n";
    check(p, &[("pyproject.toml", poetry)], "has only pyproject.toml. Run `poetry lock`").await;
    check(p, &[("pyproject.toml", "[project]\ndependencies = []\n")], "Run `uv lock`, commit its result").await;
    check(p, &[("pyproject.toml", "[project"), ("uv.lock", "")], "pyproject.toml is not TOML").await;
    check(
        p,
        &[("requirements.txt", ""), ("pyproject.toml", poetry), ("poetry.lock", "")],
        "the files of several package managers: requirements.txt (pip), poetry.lock (Poetry). Keep those of the one",
    )
    .await;
    check(p, &[("requirements.txt", "-r more.txt")], "requirements.txt names more.txt, which is not in the tree").await;
    check(p, &[("static.json", r#"{"root":"../.."}"#)], "static.json: root \"../..\" leads out of the app").await;
    check(
        p,
        &[("package.json", r#"{"dependencies":{"a":"1"}}"#), ("yarn.lock", ""), ("package-lock.json", "{}")],
        "two lock files, package-lock.json and yarn.lock",
    )
    .await;
    let ours = [("package.json", r#"{"dependencies":{"a":"1"}}"#), ("pnpm-lock.yaml", "")];
    check(p, &[&ours[..], &[("pnpm-workspace.yaml", "packages: [")]].concat(), "pnpm-workspace.yaml: ").await;
    let odd = r#"{"dependencies":{"a":"1"},"packageManager":"pnpm@$(id)"}"#;
    check(p, &[("package.json", odd), ours[1]], "packageManager is \"$(id)\", which is not a version of pnpm").await;
    check(
        p,
        &[("a.py", ""), ("runtime.txt", "python-2.7.18")],
        "runtime.txt: \"python-2.7.18\" is not a version of Python 3. Write a line like `python-3.12.4`",
    )
    .await;
    let yarn =
        [("package.json", "{}"), ("yarn.lock", ""), (".yarnrc.yml", "yarnPath: .yarn/releases/yarn-4.0.0.cjs\n")];
    check(p, &yarn, "yarnPath is .yarn/releases/yarn-4.0.0.cjs, which is not in the repository").await;
    p.request.buildpacks = vec!["acme/pack".into()];
    check(p, &[("Procfile", "web: a")], "The buildpack \"acme/pack\" is not known here. Built in are heroku/python")
        .await;
    p.request.buildpacks = vec!["heroku/nodejs".into()];
    check(p, &[("Procfile", "web: a")], "heroku/nodejs does not know this app").await;
}

#[tokio::test]
async fn without_a_web_process_the_build_succeeds_and_says_so() {
    let mut platform = platform();
    let (outcome, output) = platform.build_files(&[("Procfile", "worker: ./work\n"), (".env", "SECRET=1")]).await.ok();
    assert_eq!(process_types(&outcome), [("worker", "./work")]);
    assert!(output.contains(" !     There is no web process type"), "{output}");
    assert!(output.contains(" !     .env is in the repository"), "{output}");
    assert_eq!(outcome.warnings.len(), 2);
}

#[tokio::test]
async fn slugignore_and_git_stay_out() {
    let mut platform = platform();
    let files = [
        ("Procfile", "web: a"),
        (".slugignore", "*.psd\n/docs\n"),
        ("a.psd", ""),
        ("docs/x", ""),
        ("src/docs/x", ""),
        (".git/HEAD", ""),
    ];
    let (outcome, _) = platform.build_files(&files).await.ok();
    let app = platform.app(&outcome);
    for (path, expected) in
        [("a.psd", false), ("docs", false), (".git", false), ("src/docs/x", true), ("Procfile", true)]
    {
        assert_eq!(app.path().join(path).exists(), expected, "{path}");
    }
}

#[tokio::test]
async fn a_python_app_without_requirements_starts_no_process() {
    let mut platform = platform();
    let run = platform.build(&fixture("../../examples/hello")).await;
    assert_eq!(run.steps, 0);
    let (outcome, output) = run.ok();
    assert!(output.contains("-----> Python app detected"), "{output}");
    assert_eq!(outcome.slug.layers.len(), 1);
    assert_eq!(outcome.slug.env["PYTHONUNBUFFERED"], "true");
    // The version of the first build stays.
    platform.remember(&outcome.pins);
    let (_, output) = platform.build(&fixture("../../examples/hello")).await.ok();
    assert!(output.contains("(the app's first build)"), "{output}");
}

#[tokio::test]
async fn the_version_of_python_is_that_of_its_file() {
    let mut platform = platform();
    let (outcome, _) = platform.build_files(&[("app.py", "")]).await.ok();
    let version = &outcome.pins.versions["python"];
    let minor = version.rsplit_once('.').expect("three numbers").0;
    let check = async |platform: &mut support::Platform, files: &[(&str, &str)], because: &str| {
        let output = platform.build_files(files).await.ok().1;
        assert!(output.contains(&format!("Using Python {version} ({because})")), "{output}");
    };
    check(&mut platform, &[("runtime.txt", &format!("python-{version}\n"))], "runtime.txt").await;
    check(&mut platform, &[(".python-version", &format!("# ours\n{minor}\n"))], ".python-version").await;
    let both = [("runtime.txt", &*format!("python-{version}\n")), (".python-version", "3.2")];
    check(&mut platform, &both, "runtime.txt").await;
}

#[tokio::test]
async fn a_node_app_is_built_and_started_by_its_scripts() {
    let mut platform = platform();
    platform.commit('a');
    for (name, value) in [("FLAVOUR", "plain"), ("GIT_DIR", "/nowhere"), ("STACK", "mine")] {
        platform.set(name, value);
    }
    let package = r#"{"engines":{"node":">=18"},"scripts":{
        "build":"echo the other one >built",
        "heroku-postbuild":"echo $STACK $SOURCE_VERSION ${#REQUEST_ID} $FLAVOUR ${GIT_DIR:-none} $NODE_ENV >built",
        "start":"node -p \"require('fs').readFileSync('built', 'utf8')\""}}"#;
    let run = platform.build_files(&[("package.json", package)]).await;
    assert_eq!(run.steps, 1);
    let (outcome, output) = run.ok();
    for line in ["(engines in package.json)", "-----> Running the heroku-postbuild script"] {
        assert!(output.contains(line), "{output}");
    }
    assert_eq!(process_types(&outcome), [("web", "npm start")]);
    let said = platform.run(&outcome, "npm start --silent", &[]);
    assert_eq!(said.trim(), format!("heroku-24 {} 36 plain none production", "a".repeat(40)));

    // What `npm start` does where no script says it.
    let files = [("package.json", "{}"), ("server.js", "console.log('server.js')")];
    let (outcome, _) = platform.build_files(&files).await.ok();
    assert_eq!(process_types(&outcome), [("web", "npm start")]);
    assert_eq!(platform.run(&outcome, "npm start --silent", &[]), "server.js\n");
    // Beside it there is what a Procfile adds, and in its place what that says.
    for (procfile, types) in [
        ("worker: node work.js", vec![("web", "npm start"), ("worker", "node work.js")]),
        ("web: node other.js", vec![("web", "node other.js")]),
    ] {
        let (outcome, _) = platform.build_files(&[files[0], files[1], ("Procfile", procfile)]).await.ok();
        assert_eq!(process_types(&outcome), types);
    }
}

#[tokio::test]
async fn a_node_app_finds_its_cache_directories_again() {
    let mut platform = platform();
    let package = r#"{"cacheDirectories":[".next/cache","../x"],"scripts":{"start":"cat seen","build":"ls -A .next/cache >seen 2>&1; mkdir -p .next/cache; touch .next/cache/page","heroku-cleanup":"rm -r .next"}}"#;
    for (restored, seen) in [
        ("- .next/cache (not kept before)", "ls: cannot access '.next/cache': No such file or directory\n"),
        ("- .next/cache", "page\n"),
    ] {
        let (outcome, output) = platform.build_files(&[("package.json", package)]).await.ok();
        assert!(output.contains(&format!("-----> Restoring cacheDirectories\n       {restored}\n")), "{output}");
        assert!(output.contains("-----> Saving cacheDirectories\n       - .next/cache\n"), "{output}");
        assert_eq!(platform.run(&outcome, "cat seen; ls -d .next 2>/dev/null", &[]), seen);
    }
}

/// What a cell of the table in `docs/buildpack-env.md` says of a basic dyno on two cores.
fn in_a_basic_dyno(cell: &str, php: bool) -> Option<String> {
    let quoted: Vec<&str> = cell.split('`').skip(1).step_by(2).collect();
    let stack = "/usr/local/bin:/usr/bin:/bin";
    Some(match cell {
        "–" | "not set" => return None,
        // The rest of it depends on what the app says in php.ini.
        _ if cell.ends_with("worked out by `heroku-php-*`") && php => return None,
        "the stack's" => stack.into(),
        "memory / 256 MiB, at most 2 x cores + 1, at least 1" => "2".into(),
        "memory / 512 MiB, at least 1" => "1".into(),
        "the dyno size's memory in MiB" => "512".into(),
        _ if cell.ends_with("before the stack's") => format!("{}:{stack}", quoted.join(":")),
        _ if quoted.len() == 1 => quoted[0].into(),
        other => panic!("what is {other:?}?"),
    })
}

#[tokio::test]
async fn the_environment_of_dynos_is_as_the_docs_list_it() {
    let mut platform = platform();
    let docs = include_str!("../../../docs/buildpack-env.md");
    let rows: Vec<Vec<&str>> = docs
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    let apps: [&[(&str, &str)]; 4] = [
        &[("app.py", "")],
        &[("package.json", "{}"), ("server.js", "")],
        &[("index.php", "<?php")],
        &[("Procfile", "web: ./serve")],
    ];
    let sizes = shipway_domain::size::DynoSizes::default();
    for (column, files) in apps.into_iter().enumerate() {
        let (outcome, _) = platform.build_files(files).await.ok();
        let mut env = shipway_build::dyno_env(&outcome.slug, sizes.find("basic").expect("a size"), 2);
        let said = rows.iter().filter_map(|row| {
            Some((row[0].trim_matches('`').to_owned(), in_a_basic_dyno(row[column + 1], files[0].0 == "index.php")?))
        });
        let mut said: std::collections::BTreeMap<String, String> = said.collect();
        if files[0].0 == "app.py" {
            // An app without dependencies has no environment of its own; `django` in registries.rs has one.
            for env in [&mut env, &mut said] {
                env.remove("PATH");
            }
        }
        assert_eq!(env, said, "{files:?}");
    }
}

#[tokio::test]
async fn a_static_site_brings_its_server_as_a_layer() {
    let mut platform = platform();
    let run = platform.build(&fixture("static")).await;
    assert_eq!(run.steps, 0);
    let (outcome, _) = run.ok();
    assert_eq!(process_types(&outcome), [("web", "/app/.heroku/bin/shipway static")]);
    let kinds: Vec<_> = outcome.slug.layers.iter().map(|l| l.kind).collect();
    assert_eq!(kinds, [LayerKind::Toolchain, LayerKind::App]);
    let app = platform.app(&outcome);
    assert!(app.path().join(".heroku/bin/shipway").is_file() && app.path().join("site/index.html").is_file());
}

#[tokio::test]
async fn attack_31_two_classic_buildpacks_run_in_order_and_offline_from_what_was_pinned() {
    let mut platform = platform();
    let packs = platform.home.path().join("packs");
    fs::create_dir(&packs).unwrap();
    // One from a directory, one from a git repository with a branch.
    let repository = packs.join("second.git");
    let git = |arguments: &[&str]| {
        let status = std::process::Command::new("git").arg("-C").arg(&repository).args(arguments).status().unwrap();
        assert!(status.success(), "{arguments:?}");
    };
    fs::create_dir(&repository).unwrap();
    assert!(
        std::process::Command::new("cp")
            .arg("-a")
            .arg(fixture("classic/second").join("bin"))
            .arg(&repository)
            .status()
            .unwrap()
            .success()
    );
    git(&["init", "-q", "-b", "stable"]);
    git(&["add", "."]);
    git(&["-c", "user.name=a", "-c", "user.email=a@example.com", "commit", "-qm", "one"]);
    platform.request.buildpacks =
        vec![fixture("classic/first").display().to_string(), format!("file://{}#stable", repository.display())];
    platform.set("GREETING", "good morning");
    platform.commit('c');
    let (outcome, output) = platform.build(&fixture("classic/app")).await.ok();
    assert!(output.contains(&format!("-----> First compiles for heroku-24 at {}", "c".repeat(40))), "{output}");
    assert!(output.contains("-----> Second sees from-first"), "{output}");
    assert_eq!(process_types(&outcome), [("web", "bin/second"), ("worker", "bin/work")]);
    assert_eq!(outcome.slug.env["FIRST_DEFAULT"], "1");
    let app = platform.app(&outcome);
    let read = |path: &str| fs::read_to_string(app.path().join(path)).unwrap();
    assert_eq!(read(".first/greeting"), "good morning");
    assert_eq!(read(".first/count").trim(), "1");
    assert!(read(".profile.d/first.sh").contains("FIRST_HOME"));

    // The cache lasts, until it is purged. An unreachable repository falls back to what was used.
    platform.remember(&outcome.pins);
    fs::rename(&repository, packs.join("gone")).unwrap();
    fs::create_dir(&repository).unwrap();
    fs::create_dir(repository.join(".git")).unwrap();
    let (outcome, output) = platform.build(&fixture("classic/app")).await.ok();
    assert!(output.contains("could not be fetched") && output.contains("using what the last build used"), "{output}");
    assert_eq!(fs::read_to_string(platform.app(&outcome).path().join(".first/count")).unwrap().trim(), "2");
    platform.builder.purge_cache(platform.request.app).unwrap();
    let (outcome, _) = platform.build(&fixture("classic/app")).await.ok();
    assert_eq!(fs::read_to_string(platform.app(&outcome).path().join(".first/count")).unwrap().trim(), "1");
}

#[tokio::test]
async fn a_failing_buildpack_is_named_with_its_last_lines() {
    let mut platform = platform();
    let pack = platform.home.path().join("packs/bad/bin");
    fs::create_dir_all(&pack).unwrap();
    for (name, script) in [("detect", "#!/bin/sh\necho Bad\n"), ("compile", "#!/bin/sh\necho it broke; exit 3\n")] {
        fs::write(pack.join(name), script).unwrap();
        fs::set_permissions(pack.join(name), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    let name = pack.parent().unwrap().display().to_string();
    platform.request.buildpacks = vec![name.clone()];
    let text = platform.build(&fixture("classic/app")).await.refusal();
    assert_eq!(text, format!("bin/compile of the buildpack {name} exited with 3:\nit broke"));
}

/// A buildpack whose compile step is this script.
fn compile(platform: &mut support::Platform, script: &str) {
    let pack = platform.home.path().join("packs/own/bin");
    fs::create_dir_all(&pack).unwrap();
    for (name, script) in [("detect", "echo Own"), ("compile", script)] {
        fs::write(pack.join(name), format!("#!/bin/bash\n{script}\n")).unwrap();
        fs::set_permissions(pack.join(name), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    platform.request.buildpacks = vec![pack.parent().unwrap().display().to_string()];
}

#[tokio::test]
async fn attack_44_a_build_that_breaks_a_limit_is_killed_and_the_limit_named() {
    let mut platform = platform();
    let check = async |platform: &mut support::Platform, which: Limit, expected: &str| {
        let result = platform.build(&fixture("classic/app")).await.result;
        let error = result.unwrap_err();
        assert!(matches!(&error, BuildError::Limit { which: w, .. } if *w == which), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    };
    compile(&mut platform, "exit 1");
    *platform.runtime.cause.lock().unwrap() = ExitCause::Memory;
    check(&mut platform, Limit::Memory, "it used more than 2048 MiB of memory. Build with less").await;
    *platform.runtime.cause.lock().unwrap() = ExitCause::Processes;
    check(&mut platform, Limit::Processes, "it wanted more than 512 processes and threads at once. Build with fewer")
        .await;
    *platform.runtime.cause.lock().unwrap() = ExitCause::Exited;
    compile(&mut platform, "yes");
    check(&mut platform, Limit::Output, "it wrote more than 1 MiB of output").await;
    compile(&mut platform, "head -c 64M /dev/zero > \"$1/big\"; sleep 60");
    platform.request.size.disk_mib = 16;
    check(&mut platform, Limit::Disk, "it filled more than 16 MiB of disk").await;
    compile(&mut platform, "head -c 64M /dev/zero > /tmp/big; sleep 60");
    check(&mut platform, Limit::Disk, "it filled more than 16 MiB of disk").await;
    compile(&mut platform, "head -c 64M /dev/zero > \"$2/big\"; sleep 60");
    check(&mut platform, Limit::Disk, "it filled more than 16 MiB of disk").await;
    compile(&mut platform, "test ! -e \"$2/big\" && test ! -e /tmp/big; exit $((3 + $?))");
    let refusal = platform.build(&fixture("classic/app")).await.refusal();
    assert!(refusal.contains("exited with 3"), "what was too much is gone: {refusal}");
    compile(&mut platform, "sleep 60");
    platform.request.time_limit = Duration::from_millis(700);
    check(&mut platform, Limit::Time, "it took longer than 0.7 s").await;
    // A daemon that closed its output is under the same clock.
    compile(&mut platform, "exec > /dev/null 2>&1; sleep 60");
    check(&mut platform, Limit::Time, "it took longer than 0.7 s").await;
}

#[tokio::test]
async fn attack_40_what_a_killed_server_left_is_swept_and_what_is_whole_stays() {
    let mut platform = platform();
    let (outcome, _) = platform.build(&fixture("binary")).await.ok();
    let home = platform.home.path().to_owned();
    let left =
        ["work/b/app/x", "buildpacks/.new-1/x", "toolchains/.new-1/x", "layers/.new-1-0/x", "blobs/sha256/.new-1-0"];
    for path in left {
        fs::create_dir_all(home.join(path).parent().unwrap()).unwrap();
        fs::write(home.join(path), "half").unwrap();
    }
    platform.builder.sweep().unwrap();
    for path in left {
        assert!(!home.join(path).exists(), "{path}");
    }
    assert!(platform.app(&outcome).path().join("serve").is_file());
    assert!(platform.blobs.get(&outcome.manifest_digest).is_ok());
}

#[tokio::test]
async fn a_cancelled_build_ends_at_once() {
    let mut platform = platform();
    compile(&mut platform, "echo begun; sleep 60");
    let cancel = platform.cancel.clone();
    let runtime = platform.runtime.clone();
    tokio::spawn(async move {
        // bin/detect, then bin/compile.
        while runtime.started.load(std::sync::atomic::Ordering::Relaxed) < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        cancel.cancel();
    });
    let run = platform.build(&fixture("classic/app")).await;
    assert!(matches!(run.result, Err(BuildError::Cancelled)));
}

#[tokio::test]
async fn attack_11_config_vars_do_not_reach_the_platforms_own_tools() {
    let mut platform = platform();
    compile(&mut platform, "env; ls $3; cat $3/LD_PRELOAD");
    for (name, value) in [("LD_PRELOAD", "/app/evil.so"), ("BASH_ENV", "/app/evil.sh"), ("PATH", "/app"), ("A", "x\ny")]
    {
        platform.set(name, value);
    }
    let (_, output) = platform.build(&fixture("classic/app")).await.ok();
    assert!(!output.contains("LD_PRELOAD=") && !output.contains("BASH_ENV="), "{output}");
    assert!(output.contains("PATH=/usr/local/bin:/usr/bin:/bin"), "{output}");
    assert!(output.contains("/app/evil.so"), "the buildpack reads it from ENV_DIR: {output}");
}

#[tokio::test]
async fn attack_26_trees_that_lead_out_are_refused_or_harmless() {
    let mut platform = platform();
    let secret = platform.home.path().join("secret");
    fs::create_dir(&secret).unwrap();
    fs::create_dir(secret.join("node_modules")).unwrap();
    fs::create_dir(secret.join("python")).unwrap();
    let empty = tempfile::tempdir().unwrap();
    // The Procfile is a link out.
    let run = platform.build_changed(empty.path(), |app| symlink("/etc/passwd", app.join("Procfile")).unwrap()).await;
    assert_eq!(run.refusal(), "Procfile is a symbolic link that leads out of the app. Commit the file itself.");
    let run = platform
        .build_changed(empty.path(), |app| {
            fs::write(app.join("a.py"), "").unwrap();
            symlink("/etc/passwd", app.join(".slugignore")).unwrap();
        })
        .await;
    assert!(run.refusal().starts_with(".slugignore is a symbolic link that leads out of the app"));
    // Options, collisions of case, a device's name: all just files.
    let files = [("Procfile", "web: a"), ("-rf", ""), ("--help", ""), ("README", ""), ("readme", "")];
    let (outcome, _) = platform.build_files(&files).await.ok();
    assert_eq!(fs::read_dir(platform.app(&outcome).path()).unwrap().count(), 5);
    // Directories that the platform fills are links out: nothing is removed or written there.
    let run = platform
        .build_changed(empty.path(), |app| {
            fs::write(app.join("package.json"), r#"{"dependencies":{"none-such":"file:./none"}}"#).unwrap();
            symlink(&secret, app.join(".heroku")).unwrap();
            symlink(secret.join("node_modules"), app.join("node_modules")).unwrap();
        })
        .await;
    assert!(run.result.is_err() || run.output.contains("node_modules is in the repository"), "{}", run.output);
    assert!(secret.join("node_modules").is_dir() && secret.join("python").is_dir());
}

#[tokio::test]
async fn attack_30_a_build_cannot_change_what_another_app_runs() {
    let mut platform = platform();
    compile(&mut platform, "echo good > $1/shared; ln $1/shared $2/link; chmod 755 $1");
    let (first, _) = platform.build(&fixture("classic/app")).await.ok();
    // The hard link in the cache is to the build's file, not to the layer's.
    compile(&mut platform, "echo evil > $2/link; echo good > $1/shared; ls $2");
    let (second, output) = platform.build(&fixture("classic/app")).await.ok();
    assert!(output.contains("link"), "{output}");
    for outcome in [&first, &second] {
        assert_eq!(fs::read_to_string(platform.app(outcome).path().join("shared")).unwrap(), "good\n");
    }
    // Links in the cache directory lead the platform nowhere.
    let outside = platform.home.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "").unwrap();
    compile(&mut platform, &format!("rm -rf $2/*; ln -s {} $2/dependencies", outside.display()));
    platform.build(&fixture("classic/app")).await.ok();
    platform.builder.purge_cache(platform.request.app).unwrap();
    assert!(outside.join("file").is_file());
}

#[tokio::test]
async fn attack_12_output_is_cleaned_and_long_silence_is_not_silent() {
    let mut platform = platform();
    compile(&mut platform, r#"printf '\033]0;title\007\033[2Jclean\033[31m red\033[0m\n'; sleep 6; echo end"#);
    let (_, output) = platform.build(&fixture("classic/app")).await.ok();
    assert!(output.contains("\nclean\u{1b}[31m red\u{1b}[0m\n"), "{output:?}");
    assert!(output.contains("       ... still running ("), "{output:?}");
}
