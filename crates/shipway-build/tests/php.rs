//! PHP apps with the real Composer, PHP-FPM, Apache and nginx; no registry.

mod support;

use shipway_build::{BuildOutcome, LayerKind};
use std::fs;
use std::path::Path;
use support::{Platform, fixture, platform};

const COMPOSER: &str = r#"{"require":{"php":"^8.0"},"autoload":{"psr-4":{"App\\":"src/"}}}"#;
const HELLO: &str = "<?php error_log('asked'); echo 'hello from ', $_SERVER['REQUEST_URI'], ' ', getenv('WHO');";

/// The rogue app's two buildpacks, Node.js first.
fn rogue() -> Platform {
    let mut platform = platform();
    platform.request.buildpacks = vec!["heroku/nodejs".into(), "heroku/php".into()];
    platform
}

fn kinds(outcome: &BuildOutcome) -> Vec<LayerKind> {
    outcome.slug.layers.iter().map(|l| l.kind).collect()
}

fn free_port() -> String {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string()
}

/// Starts the web process and asks it for these paths; what it wrote, and its exit status after SIGTERM, come last.
fn serve(platform: &Platform, outcome: &BuildOutcome, start: &str, paths: &[&str]) -> String {
    let port = free_port();
    let asked: String = paths.iter().map(|p| format!("ask {p}; ")).collect();
    let session = format!(
        r#"ask() {{ curl -s -o - -w ' %{{http_code}}\n' "http://127.0.0.1:$PORT$1"; }}
{start} > /tmp/log 2>&1 & web=$!
for _ in $(seq 200); do curl -s -o /dev/null "http://127.0.0.1:$PORT/" && break; kill -0 $web || break; sleep 0.05; done
{asked}
kill -TERM $web; wait $web; echo "exit $?"; for left in /tmp/heroku-php*; do [ ! -e "$left" ] || echo "left over: $left"; done; cat /tmp/log"#
    );
    platform.run(outcome, &session, &[("PORT", &port), ("WHO", "me"), ("MEMORY_AVAILABLE", "512")])
}

#[tokio::test]
async fn a_page_of_php_needs_no_composer() {
    let mut platform = platform();
    let run = platform.build_files(&[("index.php", HELLO), (".hidden", "secret"), ("style.css", "h1 {}")]).await;
    assert_eq!(run.steps, 0);
    let (outcome, output) = run.ok();
    assert!(output.contains("-----> PHP app detected\n       Using PHP 8."), "{output}");
    assert_eq!(kinds(&outcome), [LayerKind::Toolchain, LayerKind::App]);
    let types: Vec<_> = outcome.slug.process_types.values().map(String::as_str).collect();
    assert_eq!(types, ["heroku-php-apache2"]);
    assert_eq!(outcome.slug.env["PATH"], "/app/.heroku/php/bin:/app/vendor/bin:/usr/local/bin:/usr/bin:/bin");
    for start in ["heroku-php-apache2", "heroku-php-nginx", "exec heroku-php-nginx ."] {
        let said = serve(&platform, &outcome, start, &["/", "/style.css", "/.hidden", "/none.php"]);
        let expected = "hello from / me 200\nh1 {} 200\n";
        assert!(said.starts_with(expected), "{start}: {said}");
        assert!(!said.contains("secret") && said.contains("403\n") && said.contains("404\n"), "{start}: {said}");
        // Graceful, nothing left, and the app's log has PHP's words once and every request.
        assert!(said.contains("\nexit 0\n") && !said.contains("left over"), "{start}: {said}");
        assert!(said.contains("PHP message: asked") && said.contains("\"GET /style.css HTTP/1.1\" 200"), "{said}");
    }
}

#[tokio::test]
async fn the_starters_options_are_those_of_herokus() {
    let mut platform = platform();
    let include =
        "location / { try_files $uri @rewriteapp; }\nlocation @rewriteapp { rewrite ^(.*)$ /index.php$1 last; }\n";
    let page = "<?php echo ini_get('memory_limit'), ' ', getenv('WEB_CONCURRENCY'), ' ', ini_get('date.timezone');";
    let files = [
        ("Procfile", "web: vendor/bin/heroku-php-nginx -C nginx.conf public/\n"),
        ("index.php", ""),
        ("public/index.php", page),
        ("public/.htaccess", "RewriteEngine On\nRewriteCond %{REQUEST_FILENAME} !-f\nRewriteRule ^ index.php [L]\n"),
        ("nginx.conf", include),
        ("apache.conf", "Header set X-Site rogue\n"),
        ("fpm.conf", "php_value[memory_limit] = 64M\n"),
        ("own.ini", "date.timezone = Europe/Paris\nmemory_limit = 256M\n"),
    ];
    let (outcome, _) = platform.build_files(&files).await.ok();
    let web = outcome.slug.process_types.values().next().unwrap().clone();
    let check = |start: &str, expected: &str| {
        let said = serve(&platform, &outcome, start, &["/any/path"]);
        assert!(said.starts_with(expected), "{start}: {said}");
    };
    check(&web, "128M 4 UTC 200");
    check("heroku-php-apache2 -F fpm.conf -C apache.conf public/", "64M 8 UTC 200");
    check("heroku-php-nginx -i own.ini -C nginx.conf public", "256M 2 Europe/Paris 200");
    check("WEB_CONCURRENCY=3 heroku-php-apache2 public", "128M 3 UTC 200");
    let said = serve(
        &platform,
        &outcome,
        "heroku-php-nginx -C nginx.conf -l log/app.log public",
        &["/; echo written >> log/app.log; sleep 1.5"],
    );
    assert!(said.contains("\nwritten\n"), "{said}");
    for (command, expected) in [
        (
            "heroku-php-apache2 nowhere/",
            "heroku-php-apache2: the document root 'nowhere/' is not a directory of the app\n1",
        ),
        ("heroku-php-nginx -C none.conf public", "heroku-php-nginx: there is no file 'none.conf'\n1"),
        ("heroku-php-nginx -x", "heroku-php-nginx: there is no option -x; see heroku-php-nginx -h\n2"),
        (
            "WEB_CONCURRENCY=many heroku-php-nginx",
            "heroku-php-nginx: WEB_CONCURRENCY is 'many', which is not a number from 1 on\n1",
        ),
        ("PORT= heroku-php-nginx", "heroku-php-nginx: PORT is not set to a port\n1"),
        // Attack 10: neither a path nor the port closes a block of what is generated.
        ("PORT='1; } http {' heroku-php-nginx", "heroku-php-nginx: PORT is not set to a port\n1"),
        (
            "mkdir -p '/tmp/a\"; }' && heroku-php-nginx '/tmp/a\"; }'",
            "heroku-php-nginx: quotes, backslashes and dollar signs cannot be in these paths\n1",
        ),
    ] {
        let said = platform.run(&outcome, &format!("{command} 2>&1; echo $?"), &[("PORT", "1")]);
        assert_eq!(said.trim(), expected, "{command}");
    }
    for server in ["apache2", "nginx"] {
        let said =
            platform.run(&outcome, &format!("heroku-php-{server} -t public && echo fine"), &[("PORT", &free_port())]);
        assert!(said.contains("fine"), "{said}");
    }
}

#[tokio::test]
async fn composer_installs_and_node_makes_the_assets() {
    let mut platform = rogue();
    let (first, output) = platform.build(&fixture("rogue")).await.ok();
    for line in [
        "-----> Node.js app detected",
        "-----> PHP app detected",
        "Using PHP 8.",
        "(^8.1 in composer.json)",
        "-----> Installing dependencies with Composer",
        "Discovered package: acme/money",
        "-----> Running the compile script",
        "Views cached with app-",
        "beside Node.js ",
    ] {
        assert!(output.contains(line), "{line}:\n{output}");
    }
    assert_eq!(kinds(&first), [LayerKind::Dependencies, LayerKind::Toolchain, LayerKind::Dependencies, LayerKind::App]);
    assert_eq!(first.slug.buildpacks, ["heroku/nodejs", "heroku/php"]);
    let app = platform.app(&first);
    for path in ["public/build/manifest.json", "bootstrap/cache/packages.php", "vendor/acme/money/src/Money.php"] {
        assert!(app.path().join(path).is_file(), "{path}");
    }
    let said = serve(&platform, &first, &first.slug.process_types.values().nth(1).unwrap().clone(), &["/"]);
    assert!(said.contains("<h1>Rogue v0</h1>") && said.contains("19.99 EUR by 4 processes of PHP 8"), "{said}");

    // A class more: the layer is the same, Composer makes the autoloader for it and installs nothing.
    platform.remember(&first.pins);
    let class = "<?php\nnamespace App;\nclass Late { const WORD = 'late'; }\n";
    let add = |app: &Path| fs::write(app.join("src/Late.php"), class).unwrap();
    let (second, output) = platform.build_changed(&fixture("rogue"), add).await.ok();
    for lock in ["package-lock.json", "composer.lock"] {
        assert!(output.contains(&format!("{lock} is unchanged: its layer is used again")), "{output}");
    }
    assert!(!output.contains("-----> Installing"), "{output}");
    assert_eq!(second.slug.layers[2], first.slug.layers[2]);
    let word = "php -r 'require \"vendor/autoload.php\"; echo App\\Late::WORD, \" \", new Acme\\Money\\Money(5);'";
    assert_eq!(platform.run(&second, word, &[]), "late 0.05 EUR");
    let mapped = platform.run(&second, "grep -c Late vendor/composer/autoload_classmap.php", &[]);
    assert_eq!(mapped.trim(), "1", "the autoloader of this build is the optimized one");

    // Without what was kept from the last build, the layer itself is enough.
    platform.builder.purge_cache(platform.request.app).unwrap();
    let (third, output) = platform.build_changed(&fixture("rogue"), add).await.ok();
    assert!(!output.contains("Installing dependencies with Composer"), "{output}");
    assert_eq!(third.slug.layers[2], first.slug.layers[2]);
    assert_eq!(platform.run(&third, word, &[]), "late 0.05 EUR");

    // A package of the app's own is an input of npm's layer.
    let (_, output) = platform
        .build_changed(&fixture("rogue"), |app| {
            let path = app.join("tools/asset/asset.js");
            fs::write(&path, fs::read_to_string(&path).unwrap() + "// Changed\n").unwrap();
        })
        .await
        .ok();
    assert!(output.contains("-----> Installing node modules"), "{output}");

    // The package of a path repository is an input of its own.
    let (fourth, output) = platform
        .build_changed(&fixture("rogue"), |app| {
            let path = app.join("packages/money/src/Money.php");
            fs::write(&path, fs::read_to_string(&path).unwrap().replace(" EUR", " euros")).unwrap();
        })
        .await
        .ok();
    assert!(output.contains("Installing dependencies with Composer"), "{output}");
    assert_eq!(platform.run(&fourth, word.replace("App\\Late::WORD, \" \", ", "").as_str(), &[]), "0.05 euros");
}

#[tokio::test]
async fn what_a_failed_build_installed_is_there_for_the_next() {
    let mut platform = rogue();
    let break_it = |app: &Path| fs::write(app.join("artisan"), "<?php fwrite(STDERR, 'no'); exit(3);").unwrap();
    let text = platform.build_changed(&fixture("rogue"), break_it).await.refusal();
    assert!(text.contains("`composer install` failed (exit status 3)"), "{text}");
    let (_, output) = platform.build(&fixture("rogue")).await.ok();
    assert!(output.contains("composer.lock is unchanged: installed before"), "{output}");
}

#[tokio::test]
async fn what_the_platform_lacks_is_listed_with_the_way_out() {
    let mut platform = platform();
    let check = async |platform: &mut Platform, files: &[(&str, &str)], expected: &[&str]| {
        let run = platform.build_files(files).await;
        assert_eq!(run.steps, 0, "nothing is started for it");
        let text = run.refusal();
        expected.iter().for_each(|part| assert!(text.contains(part), "{text}\nshould say\n{part}"));
    };
    let p = &mut platform;
    check(p, &[("composer.json", "{")], &["composer.json is not JSON"]).await;
    check(p, &[("composer.json", "[]")], &["composer.json is not a JSON object"]).await;
    check(
        p,
        &[("composer.json", r#"{"require":{"acme/money":"*"}}"#)],
        &["there is no composer.lock beside it. Run `composer update`"],
    )
    .await;
    let old = [("composer.json", r#"{"require":{"php":"~7.1"}}"#)];
    check(
        p,
        &old,
        &["This app wants PHP ~7.1 (from composer.json). Present on this platform: 8.", "composer require 'php:^8."],
    )
    .await;
    let lock =
        r#"{"packages":[{"name":"acme/queue","require":{"php":">=5.6","ext-nonesuch":"*","ext-Mbstring":"*"}}]}"#;
    let files = [("composer.json", r#"{"require":{"acme/queue":"*","ext-oracle":"*"}}"#), ("composer.lock", lock)];
    check(
        p,
        &files,
        &["lacks: ext-nonesuch (acme/queue), ext-oracle (composer.json).", "Present: ", "-nonesuch php8."],
    )
    .await;
    check(p, &[("composer.json", r#"{"config":{"vendor-dir":"lib"}}"#)], &["config.vendor-dir"]).await;
    // Composer itself says what is wrong with a lock file.
    let files = [
        ("composer.json", r#"{"require":{"acme/money":"*"},"repositories":[{"packagist.org":false}]}"#),
        ("composer.lock", r#"{"packages":[],"packages-dev":[]}"#),
    ];
    let text = p.build_files(&files).await.refusal();
    assert!(text.contains("Run `composer update`, commit composer.lock"), "{text}");
}

#[tokio::test]
async fn attack_11_what_opens_private_repositories_is_not_shown_and_not_an_input() {
    let mut platform = platform();
    let files = [("composer.json", COMPOSER), ("src/A.php", "<?php namespace App; class A {}")];
    platform.set("COMPOSER_AUTH", r#"{"http-basic":{"repo.example":{"username":"u","password":"very-secret"}}}"#);
    let (first, output) = platform.build_files(&files).await.ok();
    assert!(!output.contains("very-secret"), "{output}");
    platform.remember(&first.pins);
    platform.set("COMPOSER_AUTH", r#"{"http-basic":{"repo.example":{"username":"u","password":"another"}}}"#);
    let (second, output) = platform.build_files(&files).await.ok();
    assert!(output.contains("its layer is used again"), "{output}");
    assert_eq!(second.slug.layers[1], first.slug.layers[1]);
    let app = platform.app(&second);
    let found = std::process::Command::new("grep").args(["-rl", "very-secret"]).arg(app.path()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&found.stdout), "");
}

#[tokio::test]
async fn a_classic_buildpack_gives_its_exports_to_a_built_in_one() {
    let mut platform = platform();
    let pack = platform.home.path().join("packs/tools/bin");
    fs::create_dir_all(&pack).unwrap();
    let compile = "mkdir -p $1/.tools && printf '#!/bin/sh\\necho a tool for $FOR\\n' > $1/.tools/tool && chmod +x $1/.tools/tool\nprintf 'export PATH=/app/.tools:$PATH FOR=\"two words\"\\n' > $(dirname $0)/../export";
    for (name, script) in [("detect", "echo Tools"), ("compile", compile)] {
        fs::write(pack.join(name), format!("#!/bin/bash\n{script}\n")).unwrap();
        fs::set_permissions(pack.join(name), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    platform.request.buildpacks = vec![pack.parent().unwrap().display().to_string(), "heroku/php".into()];
    let files = [("composer.json", r#"{"scripts":{"compile":"tool"}}"#)];
    let (_, output) = platform.build_files(&files).await.ok();
    assert!(output.contains("a tool for two words"), "{output}");
}

#[tokio::test]
async fn whichever_comes_first_its_programs_are_there_for_the_next() {
    let mut platform = platform();
    platform.request.buildpacks = vec!["heroku/php".into(), "heroku/nodejs".into()];
    let package = r#"{"scripts":{"build":"php -r 'echo 40 + 2, PHP_EOL;'"}}"#;
    let files = [("index.php", HELLO), ("package.json", package)];
    let (outcome, output) = platform.build_files(&files).await.ok();
    assert!(output.contains("       42\n"), "{output}");
    // Node.js names no web process here, so PHP's stays; where both do, the later one's counts.
    let types: Vec<_> = outcome.slug.process_types.values().map(String::as_str).collect();
    assert_eq!(types, ["heroku-php-apache2"]);
    let files = [files[0], ("package.json", r#"{"scripts":{"start":"node ."}}"#)];
    let (outcome, _) = platform.build_files(&files).await.ok();
    let types: Vec<_> = outcome.slug.process_types.values().map(String::as_str).collect();
    assert_eq!(types, ["npm start"]);
    assert!(serve(&platform, &outcome, "heroku-php-nginx", &["/"]).starts_with("hello from / me 200\n"));
}
