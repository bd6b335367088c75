//! Real Django and Node.js apps, installed from their registries.

mod support;

use shipway_build::LayerKind;
use std::fs;
use std::time::Instant;
use support::{fixture, platform, platform_with};

fn kinds(outcome: &shipway_build::BuildOutcome) -> Vec<LayerKind> {
    outcome.slug.layers.iter().map(|l| l.kind).collect()
}

#[tokio::test]
async fn django() {
    let mut platform = platform();
    // Without the secret key: named, with the command that sets it.
    let text = platform.build(&fixture("django5")).await.refusal();
    assert!(text.contains("heroku config:set SECRET_KEY=\"$(openssl rand -base64 48)\" -a shop"), "{text}");

    // What was installed is not lost with the failure.
    platform.set("SECRET_KEY", "only-for-this-test");
    let run = platform.build(&fixture("django5")).await;
    assert_eq!(run.steps, 1, "collectstatic alone");
    let (first, output) = run.ok();
    for line in ["-----> Python app detected", "requirements.txt is unchanged: installed before", "static file copied"]
    {
        assert!(output.contains(line), "{output}");
    }
    assert_eq!(kinds(&first), [LayerKind::Dependencies, LayerKind::App]);
    assert_eq!(first.slug.env["PATH"], "/app/.heroku/python/bin:/usr/local/bin:/usr/bin:/bin");
    let app = platform.app(&first);
    assert!(app.path().join("staticfiles/staticfiles.json").is_file());
    let check = "python manage.py check 2>&1 && python manage.py migrate -v0 && gunicorn --version";
    let said = platform.run(&first, check, &[("SECRET_KEY", "x")]);
    assert!(said.contains("no issues") && said.contains("gunicorn (version"), "{said}");
    // The layers' bytecode is what Python loads: nothing is compiled at the first start.
    let said =
        platform.run(&first, "python -v -c 'import django.http, gunicorn.app.base' 2>&1 | grep -c '# wrote'", &[]);
    assert_eq!(said.trim(), "0");

    // A change of the app alone: the dependency layer is the same and pip is not started.
    platform.remember(&first.pins);
    let began = Instant::now();
    let run = platform
        .build_changed(&fixture("django5"), |app| fs::write(app.join("shop/static/shop/shop.css"), "h1 {}").unwrap())
        .await;
    eprintln!("a push of the Django app with unchanged requirements: {:?}", began.elapsed());
    assert_eq!(run.steps, 1, "collectstatic alone");
    let (second, output) = run.ok();
    assert!(output.contains("requirements.txt is unchanged: its layer is used again"), "{output}");
    assert_eq!(second.slug.layers[0], first.slug.layers[0]);
    assert_ne!(second.slug.layers[1].digest, first.slug.layers[1].digest);

    // The same without the cache: collectstatic finds the layer's files in place.
    platform.builder.purge_cache(platform.request.app).unwrap();
    let run = platform.build(&fixture("django5")).await;
    assert_eq!(run.steps, 1);
    let (third, _) = run.ok();
    assert_eq!(third.slug.layers[0], first.slug.layers[0]);
    // Unpacked dependencies are not taken for something that the build step wrote.
    let layer = platform.home.path().join("layers").join(third.slug.layers[1].digest.hex());
    assert!(layer.join("staticfiles/staticfiles.json").is_file() && !layer.join(".heroku/python").exists());

    platform.set("DISABLE_COLLECTSTATIC", "1");
    let run = platform.build(&fixture("django5")).await;
    assert_eq!(run.steps, 0);
    assert!(run.ok().1.contains("DISABLE_COLLECTSTATIC is set"));
}

#[tokio::test]
async fn node() {
    let mut platform = platform();
    let (first, output) = platform.build(&fixture("node")).await.ok();
    for line in
        ["-----> Node.js app detected", "-----> Running the build script", "-----> Pruning development dependencies"]
    {
        assert!(output.contains(line), "{output}");
    }
    assert_eq!(kinds(&first), [LayerKind::Dependencies, LayerKind::App]);
    let check = |platform: &support::Platform, outcome: &shipway_build::BuildOutcome| {
        let app = platform.app(outcome);
        assert!(app.path().join("dist/page.js").is_file() && app.path().join("node_modules/mime").is_dir());
        assert!(!app.path().join("node_modules/esbuild").exists(), "development dependencies are pruned");
        let said = platform.run(
            outcome,
            "node -e 'console.log(require(\"./dist/page.js\").render(process.env.NODE_ENV))'",
            &[],
        );
        assert!(said.contains("<h1>node production</h1>"), "{said}");
    };
    check(&platform, &first);

    platform.remember(&first.pins);
    let began = Instant::now();
    let run = platform.build(&fixture("node")).await;
    eprintln!("a push of the Node app with an unchanged lock file: {:?}", began.elapsed());
    assert_eq!(run.steps, 1, "the build script alone");
    let (second, _) = run.ok();
    assert_eq!(second.slug.layers[0], first.slug.layers[0]);
    check(&platform, &second);

    // Without the cache the build script still has what it needs.
    platform.builder.purge_cache(platform.request.app).unwrap();
    let (third, output) = platform.build(&fixture("node")).await.ok();
    assert!(output.contains("Installing node modules"), "{output}");
    assert_eq!(third.slug.layers[0], first.slug.layers[0]);
    check(&platform, &third);
}

#[tokio::test]
async fn yarn() {
    let mut platform = platform();
    let package = r#"{"name":"fixture","version":"1.0.0","scripts":{"build":"maker >made.js","start":"node made.js"},
        "dependencies":{"tool":"file:./tool"},"devDependencies":{"maker":"file:./maker"}}"#;
    let lock = "# yarn lockfile v1\n\n\n\"maker@file:./maker\":\n  version \"1.0.0\"\n\n\"tool@file:./tool\":\n  version \"2.0.0\"\n";
    let mut files = [
        ("package.json", package),
        ("yarn.lock", lock),
        ("tool/package.json", r#"{"name":"tool","version":"2.0.0"}"#),
        ("tool/index.js", "module.exports = 'made with the tool'"),
        ("maker/package.json", r#"{"name":"maker","version":"1.0.0","bin":"make.js"}"#),
        ("maker/make.js", "#!/usr/bin/env node\nconsole.log('console.log(require(\"tool\"))')\n"),
    ];
    let (first, output) = platform.build_files(&files).await.ok();
    for line in ["Installing node modules (yarn.lock)", "Running the build script", "Pruning development dependencies"]
    {
        assert!(output.contains(&format!("-----> {line}")), "{output}");
    }
    assert_eq!(kinds(&first), [LayerKind::Toolchain, LayerKind::Dependencies, LayerKind::App]);
    // A Procfile may start the app by yarn.
    let said = platform.run(&first, "ls node_modules; npm start --silent; command -v yarn", &[]);
    assert_eq!(said, "tool\nmade with the tool\n/app/.heroku/yarn/node_modules/.bin/yarn\n");

    platform.remember(&first.pins);
    let run = platform.build_files(&files).await;
    assert_eq!(run.steps, 1, "the build script alone");
    assert_eq!(run.ok().0.slug.layers, first.slug.layers);

    // A lock file of something else.
    let other = package.replace("file:./tool", "file:./maker");
    files[0].1 = &other;
    let text = platform.build_files(&files).await.refusal();
    assert!(text.contains("needs to be updated") && text.contains("Run `yarn install`, commit yarn.lock"), "{text}");
}

#[tokio::test]
async fn a_version_that_the_host_lacks_is_fetched_once_or_the_refusal_lists_what_is_there() {
    let mut platform = platform();
    let package = r#"{"engines":{"node":"22.12.0"},"scripts":{"start":"node -v"}}"#;
    let (outcome, output) = platform.build_files(&[("package.json", package)]).await.ok();
    assert!(output.contains("Using Node.js 22.12.0 (engines in package.json)"), "{output}");
    assert_eq!(kinds(&outcome), [LayerKind::Toolchain, LayerKind::App]);
    assert_eq!(platform.run(&outcome, "node -v", &[]).trim(), "v22.12.0");
    // The next app finds it there.
    let run = platform.build_files(&[("package.json", package)]).await;
    assert_eq!(run.steps, 0);

    let package = r#"{"engines":{"node":"1.2.3"}}"#;
    let text = platform.build_files(&[("package.json", package)]).await.refusal();
    for part in ["wants Node.js 1.2.3 (from engines", "Present on this platform: ", "npm pkg set engines.node="] {
        assert!(text.contains(part), "{text}");
    }
}

#[tokio::test]
async fn pnpm() {
    let mut platform = platform();
    let (first, output) = platform.build(&fixture("pnpm")).await.ok();
    for line in
        ["Installing node modules (pnpm-lock.yaml)", "Running the build script", "Pruning development dependencies"]
    {
        assert!(output.contains(line), "{output}");
    }
    assert_eq!(kinds(&first), [LayerKind::Toolchain, LayerKind::Dependencies, LayerKind::App]);
    // What the build left, what it needed no longer, and the program that the Procfile starts the app by.
    let said = platform.run(&first, "cat built.txt; ls node_modules; pnpm --version; pnpm --silent start", &[]);
    assert_eq!(said, "true\nms\n9.15.0\n172800000\n");

    platform.remember(&first.pins);
    let run = platform.build(&fixture("pnpm")).await;
    assert_eq!(run.steps, 1, "the build script alone");
    assert_eq!(run.ok().0.slug.layers[..2], first.slug.layers[..2]);

    let stale = |app: &std::path::Path| {
        let package = fs::read_to_string(app.join("package.json")).unwrap();
        fs::write(app.join("package.json"), package.replace("2.1.3", "2.1.2")).unwrap();
    };
    let text = platform.build_changed(&fixture("pnpm"), stale).await.refusal();
    assert!(text.contains("Run `pnpm install`, commit pnpm-lock.yaml, and push again."), "{text}");
    a_pnpm_workspace(&mut platform).await;
}

#[tokio::test]
async fn a_later_yarn() {
    let mut platform = platform();
    let (first, output) = platform.build(&fixture("yarn")).await.ok();
    for line in ["Using yarn 4.12.0", "Running the build script", "Pruning development dependencies"] {
        assert!(output.contains(line), "{output}");
    }
    assert_eq!(kinds(&first), [LayerKind::Toolchain, LayerKind::Dependencies, LayerKind::App]);
    assert_eq!(first.slug.process_types.values().collect::<Vec<_>>(), ["yarn start"]);
    let command = "cat built.txt; ls node_modules .yarn; yarn start";
    let said = platform.run(&first, command, &[]);
    let expected = "built, and has-flag says false\n.yarn:\ninstall-state.gz\n\nnode_modules:\nms\n172800000\n";
    assert_eq!(said, expected);

    platform.remember(&first.pins);
    let run = platform.build(&fixture("yarn")).await;
    assert_eq!(run.steps, 1, "the build script alone");
    let (second, _) = run.ok();
    assert_eq!(second.slug.layers[..2], first.slug.layers[..2]);
    assert!(platform.run(&second, command, &[]).ends_with("172800000\n"));

    let stale = |app: &std::path::Path| {
        let package = fs::read_to_string(app.join("package.json")).unwrap();
        fs::write(app.join("package.json"), package.replace("2.1.3", "2.1.2")).unwrap();
    };
    let text = platform.build_changed(&fixture("yarn"), stale).await.refusal();
    assert!(text.contains("Run `yarn install`, commit yarn.lock, and push again."), "{text}");

    plug_n_play_from_the_registry_and_from_the_repository(&mut platform).await;

    // What tests of the app need stays where that is asked for, in words that this Yarn knows.
    platform.set("YARN2_SKIP_PRUNING", "true");
    platform.set("YARN_PRODUCTION", "true");
    let (kept, output) = platform.build(&fixture("yarn")).await.ok();
    assert!(output.contains("kept, because of the config var YARN2_SKIP_PRUNING"), "{output}");
    assert!(output.contains(" !     YARN_PRODUCTION is a config var, with which"), "{output}");
    assert!(platform.app(&kept).path().join("node_modules/has-flag").is_dir());
}

/// With the program that the platform has fetched.
async fn plug_n_play_from_the_registry_and_from_the_repository(platform: &mut support::Platform) {
    let plain = |app: &std::path::Path| fs::write(app.join(".yarnrc.yml"), "").unwrap();
    let (first, _) = platform.build_changed(&fixture("yarn"), plain).await.ok();
    assert_eq!(kinds(&first), [LayerKind::Toolchain, LayerKind::Dependencies, LayerKind::App]);
    let command = "cat built.txt; ls -d node_modules; ls .yarn/cache; yarn start";
    let said = platform.run(&first, command, &[]);
    let archive = "ms-npm-2.1.3-81ff3cfac1-d924b57e73.zip";
    let expected = format!(
        "built, and has-flag says false\n{archive}\n172800000\nls: cannot access 'node_modules': No such file or directory\n"
    );
    assert_eq!(said, expected);

    // The same archives again, which came from the app's cache, and from the repository.
    platform.remember(&first.pins);
    let (second, _) = platform.build_changed(&fixture("yarn"), plain).await.ok();
    assert_eq!(second.slug.layers[..2], first.slug.layers[..2]);
    let app = platform.app(&first);
    platform.builder.purge_cache(platform.request.app).unwrap();
    let zero = |tree: &std::path::Path| {
        plain(tree);
        let cache = tree.join(".yarn/cache");
        fs::create_dir_all(&cache).unwrap();
        fs::copy(app.path().join(".yarn/cache").join(archive), cache.join(archive)).unwrap();
    };
    let (third, output) = platform.build_changed(&fixture("yarn"), zero).await.ok();
    assert!(output.contains("Pruning") && !output.contains("is in the repository"), "{output}");
    assert_eq!(third.slug.layers[1].digest, first.slug.layers[1].digest);
    assert_eq!(platform.run(&third, command, &[]), said);
}

/// With the program that the platform has fetched.
async fn a_pnpm_workspace(platform: &mut support::Platform) {
    let (first, output) = platform.build(&fixture("pnpm-workspace")).await.ok();
    for line in ["Running the heroku-prebuild script", "Running the build script", "Pruning development dependencies"] {
        assert!(output.contains(line), "{output}");
    }
    // What the packages need lies in one directory, and is linked to from theirs. The hook for cleaning comes last.
    let said =
        platform.run(&first, "cat order.txt; ls -A node_modules/.pnpm; node packages/web; pnpm --silent start", &[]);
    assert_eq!(said, "before\nmade\nms\nlock.yaml\nms@2.1.3\nnode_modules\n172800000 false\n172800000 false\n");

    platform.remember(&first.pins);
    let (second, _) = platform.build(&fixture("pnpm-workspace")).await.ok();
    assert_eq!(kinds(&second), [LayerKind::Toolchain, LayerKind::Dependencies, LayerKind::App]);
    assert_eq!(second.slug.layers[1].digest, first.slug.layers[1].digest, "the same packages are the same layer");
}

#[tokio::test]
async fn an_npm_workspace_has_what_its_packages_have_of_their_own() {
    let mut platform = platform();
    let files = [
        (
            "package.json",
            r#"{"workspaces":["packages/*"],"dependencies":{"ms":"2.1.3"},"scripts":{"start":"node packages/web"}}"#,
        ),
        (
            "packages/library/package.json",
            r#"{"name":"library","version":"1.0.0","main":"main.js","dependencies":{"ms":"2.0.0"}}"#,
        ),
        ("packages/library/main.js", "module.exports = require('ms/package.json').version"),
        ("packages/web/package.json", r#"{"name":"web","version":"1.0.0","dependencies":{"library":"1.0.0"}}"#),
        ("packages/web/index.js", "console.log(require('library'), require('ms/package.json').version)"),
    ];
    for round in ["first", "second"] {
        let (outcome, output) = platform.build_files(&files).await.ok();
        assert_eq!(platform.run(&outcome, "npm start --silent", &[]), "2.0.0 2.1.3\n", "{round}: {output}");
        platform.remember(&outcome.pins);
    }
}

#[tokio::test]
async fn what_is_installed_may_be_cleaned_away_once_the_app_is_built() {
    let mut platform = platform();
    let files = [
        (
            "package.json",
            r#"{"dependencies":{"tool":"file:./tool"},"scripts":{"build":"node -p 'require(`tool`)' >made","heroku-cleanup":"rm -r node_modules"}}"#,
        ),
        ("tool/package.json", r#"{"name":"tool","version":"1.0.0","main":"tool.js"}"#),
        ("tool/tool.js", "module.exports = 'made'"),
    ];
    for _ in 0..2 {
        let (outcome, _) = platform.build_files(&files).await.ok();
        assert_eq!(kinds(&outcome), [LayerKind::App]);
        assert_eq!(platform.run(&outcome, "cat made; ls", &[]), "made\nmade\npackage.json\ntool\n");
        platform.remember(&outcome.pins);
    }
}

#[tokio::test]
async fn npm_is_the_machines_where_engines_lets_it_be() {
    let mut platform = platform();
    let wants = |version: &str| format!(r#"{{"engines":{{"npm":">=6"}},"dependencies":{{"ms":"{version}"}}}}"#);
    let (outcome, _) = platform.build_files(&[("package.json", &wants("2.1.3"))]).await.ok();
    assert_eq!(kinds(&outcome), [LayerKind::Dependencies, LayerKind::App]);
    // What npm says first is what went wrong.
    let text = platform.build_files(&[("package.json", &wants("0.0.404"))]).await.refusal();
    assert!(text.contains("No matching version found for ms@0.0.404"), "{text}");
}

#[tokio::test]
async fn uv() {
    let mut platform = platform();
    let project = "[project]\nname = \"fixture\"\nversion = \"1\"\nrequires-python = \">=3.11\"\ndependencies = [\"iniconfig==2.0.0\"]\n";
    // A lock file of something else is refused before anything is installed.
    let stale = "version = 1\nrequires-python = \">=3.11\"\n";
    let text = platform.build_files(&[("pyproject.toml", project), ("uv.lock", stale)]).await.refusal();
    assert!(text.contains("`uv sync` failed") && text.contains("uv lock"), "{text}");
    let lock = {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("pyproject.toml"), project).unwrap();
        let uv = platform.home.path().join("toolchains/uv-0.13.8/.heroku/uv/bin/uv");
        let mut command = std::process::Command::new(uv);
        command.arg("lock").current_dir(&directory).env("UV_PYTHON", "/usr/bin/python3");
        assert!(command.status().unwrap().success());
        fs::read_to_string(directory.path().join("uv.lock")).unwrap()
    };
    let files =
        [("pyproject.toml", project), ("uv.lock", &lock), ("Procfile", "web: uv run python -c 'import iniconfig'")];
    let (first, output) = platform.build_files(&files).await.ok();
    assert!(output.contains("-----> Installing dependencies with uv"), "{output}");
    assert_eq!(kinds(&first), [LayerKind::Toolchain, LayerKind::Dependencies, LayerKind::App]);
    let said = platform.run(&first, "uv run python -c 'import iniconfig; print(iniconfig.__file__)'", &[]);
    assert!(said.starts_with("/app/.heroku/python/lib/"), "{said}");
    platform.remember(&first.pins);
    let run = platform.build_files(&files).await;
    assert_eq!(run.steps, 0);
    assert_eq!(run.ok().0.slug.layers, first.slug.layers);
}

#[tokio::test]
async fn uv_is_fetched_from_the_index_that_the_operator_names() {
    // Nothing answers there.
    let mut platform = platform_with(&[("PIP_INDEX_URL", "http://127.0.0.1:9/simple"), ("PIP_RETRIES", "0")]);
    let files = [("pyproject.toml", "[project]\nname = \"shop\"\nversion = \"1\"\n"), ("uv.lock", "version = 1\n")];
    let text = platform.build_files(&files).await.refusal();
    assert!(text.contains("uv could not be fetched for uv.lock"), "{text}");
}

/// What the fixtures of Poetry and Pipenv print where they run with what was installed for them, and that alone.
const SHOP: &str = "runs with /app/.heroku/python/lib/";
const NO_DEVELOPMENT: &str = "development dependencies: None\n";

#[tokio::test]
async fn poetry() {
    let mut platform = platform();
    let (first, output) = platform.build(&fixture("poetry")).await.ok();
    assert!(output.contains("       Fetching poetry "), "{output}");
    for line in ["-----> Installing dependencies with Poetry", "Installing iniconfig (2.0.0)", "current project: shop"]
    {
        assert!(output.contains(line), "{output}");
    }
    assert_eq!(kinds(&first), [LayerKind::Toolchain, LayerKind::Dependencies, LayerKind::App]);
    // By the script of the package, and as the Procfile does.
    for command in ["shop", "poetry run shop"] {
        let said = platform.run(&first, command, &[]);
        assert!(said.starts_with(SHOP) && said.ends_with(NO_DEVELOPMENT), "{said}");
    }
    assert_eq!(platform.run(&first, "ls -A", &[]), ".heroku\nProcfile\npoetry.lock\npyproject.toml\nsrc\n");

    platform.remember(&first.pins);
    let run = platform.build(&fixture("poetry")).await;
    assert_eq!(run.steps, 0);
    assert_eq!(run.ok().0.slug.layers, first.slug.layers);

    let stale = |app: &std::path::Path| {
        let project = fs::read_to_string(app.join("pyproject.toml")).unwrap();
        fs::write(app.join("pyproject.toml"), project.replace("2.0.0", "2.1.0")).unwrap();
    };
    let text = platform.build_changed(&fixture("poetry"), stale).await.refusal();
    assert!(text.contains("changed significantly since poetry.lock was last generated"), "{text}");
    assert!(text.ends_with("Run `poetry lock`, commit poetry.lock, and push again."), "{text}");
}

#[tokio::test]
async fn pipenv() {
    let mut platform = platform();
    let (first, output) = platform.build(&fixture("pipenv")).await.ok();
    assert!(output.contains("-----> Installing dependencies with Pipenv"), "{output}");
    assert_eq!(kinds(&first), [LayerKind::Toolchain, LayerKind::Dependencies, LayerKind::App]);
    for command in ["python shop.py", "pipenv run shop"] {
        let said = platform.run(&first, command, &[]);
        assert!(said.starts_with(SHOP) && said.ends_with(NO_DEVELOPMENT), "{said}");
    }
    assert_eq!(platform.run(&first, "ls -A", &[]), ".heroku\nPipfile\nPipfile.lock\nProcfile\nshop.py\n");

    platform.remember(&first.pins);
    let run = platform.build(&fixture("pipenv")).await;
    assert_eq!(run.steps, 0);
    assert_eq!(run.ok().0.slug.layers, first.slug.layers);

    let change = |file: &'static str, from: &'static str, to: &'static str| {
        move |app: &std::path::Path| {
            let text = fs::read_to_string(app.join(file)).unwrap();
            fs::write(app.join(file), text.replace(from, to)).unwrap();
        }
    };
    let stale = change("Pipfile", "2.0.0", "2.1.0");
    let text = platform.build_changed(&fixture("pipenv"), stale).await.refusal();
    assert!(text.contains("is out of date") && !text.contains("Exception"), "{text}");
    assert!(text.ends_with("Run `pipenv lock`, commit Pipfile.lock, and push again."), "{text}");
    let missing = change("Pipfile.lock", "==2.0.0", "==2.0.404");
    let text = platform.build_changed(&fixture("pipenv"), missing).await.refusal();
    assert!(text.contains("ERROR: No matching distribution found for iniconfig==2.0.404"), "{text}");
}
