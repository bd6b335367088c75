//! The client as people use it: in a shell, with git, and with the unmodified Heroku CLI where `bin/test` names one.
#![cfg(unix)]

mod stage;
#[cfg(target_os = "linux")]
mod trap;

use stage::{ADDON, LOGIN_TOKEN, Stage, TOKEN, assert_done, heroku, texts};

/// Says that a session was left out. `bin/test` brings the Heroku CLI, so there none is.
fn without_cli() -> bool {
    if heroku().is_none() {
        eprintln!("skipped: SHIPWAY_TEST_HEROKU does not name the Heroku CLI");
    }
    heroku().is_none()
}

#[test]
fn evaluating_the_environment_twice_is_the_same_as_once() {
    let stage = Stage::open();
    std::fs::write(stage.path("corporate.pem"), "-----BEGIN CERTIFICATE-----\nY29ycA==\n-----END CERTIFICATE-----\n")
        .unwrap();
    let before =
        format!("export NODE_EXTRA_CA_CERTS='{0}' GIT_SSL_CAINFO='{0}'\n", stage.path("corporate.pem").display());
    let script = before.clone()
        + "eval \"$(shipway env)\"; env | grep -v ^_= | sort > once
        eval \"$(shipway env)\"; env | grep -v ^_= | sort > twice
        diff once twice && cat \"$NODE_EXTRA_CA_CERTS\" \"$GIT_SSL_CAINFO\"";
    let (out, _) = assert_done(stage.shell(&script).output().unwrap());
    assert_eq!(out.matches("Y29ycA==").count(), 2, "what was trusted before still is");
    assert_eq!(out.matches("BEGIN CERTIFICATE").count(), 4, "and the server is");
}

#[test]
fn the_session_is_asked_for_once_and_kept_private() {
    use std::os::unix::fs::PermissionsExt;
    let stage = Stage::open();
    for _ in 0..2 {
        let (out, _) = assert_done(stage.shipway(&["env"]).output().unwrap());
        assert!(out.contains(&format!("export HEROKU_API_KEY='{TOKEN}'")));
        assert!(out.contains(&format!("export HEROKU_HOST='{}'", stage.http())));
    }
    let sessions = stage.seen().iter().filter(|s| s.line == "POST /shipway/v1/session").count();
    assert_eq!(sessions, 1);
    let mut files = std::fs::read_dir(stage.path("home/.config/shipway/sessions")).unwrap();
    let file = files.next().unwrap().unwrap();
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);

    // A server that was set up anew does not know the old token; nobody has to notice.
    let stale = std::fs::read_to_string(file.path()).unwrap().replace(TOKEN, "HRKU-old");
    std::fs::write(file.path(), stale).unwrap();
    let (out, _) = assert_done(stage.shipway(&["env", "--login"]).output().unwrap());
    assert!(out.contains("unset HEROKU_API_KEY"));
    assert_eq!(stage.seen().iter().filter(|s| s.line == "POST /shipway/v1/session").count(), 1);
}

#[test]
fn a_push_is_signed_in_by_our_helper_and_another_host_is_left_alone() {
    let stage = Stage::open();
    stage.checkout();
    let elsewhere = stage.path("elsewhere.git");
    let script = format!(
        "git remote add heroku {}/shop.git && git push -q heroku main
         git init -q --bare {1} && git push -q {1} main && git -C {1} rev-parse main",
        stage.https(),
        elsewhere.display()
    );
    let mut shell = stage.shell(&script);
    // A proxy that is nowhere, and a helper of the user's that must not be asked for our host.
    shell.env("HTTPS_PROXY", "http://127.0.0.1:1").env("GIT_CONFIG_COUNT", "1");
    shell.env("GIT_CONFIG_KEY_0", "credential.helper").env("GIT_CONFIG_VALUE_0", "!touch asked; :");
    assert_done(shell.output().unwrap());
    assert!(!stage.path("checkout/asked").exists());
    let pushed = stage.command("git", &["-C", stage.path("repos/shop.git").to_str().unwrap(), "rev-parse", "main"]);
    let mut pushed = pushed;
    assert_done(pushed.output().unwrap());
}

#[test]
fn a_push_to_the_real_heroku_stops_before_it_leaves() {
    let stage = Stage::open();
    stage.checkout();
    for url in [
        "https://heroku:token@git.heroku.com/shop.git",
        "https://git.heroku.com:443/shop.git",
        "https://Git.Heroku.com/shop.git",
        "http://me@git.heroku.com/shop.git",
        "http://git.heroku.com/shop.git",
        "heroku.com:shop.git",
        "ssh://git@heroku.com:22/shop.git",
    ] {
        let output = stage.shell(&format!("git push {url} main")).output().unwrap();
        let (_, err) = texts(&output);
        assert!(!output.status.success() && err.contains("shipway-refuses-the-real-heroku"), "{url}: {err}");
    }
    for url in ["https://git.heroku.com/shop.git", "git@heroku.com:shop.git", "ssh://git@heroku.com/shop.git"] {
        let output = stage.shell(&format!("git push {url} main")).output().unwrap();
        let (_, err) = texts(&output);
        assert!(!output.status.success() && err.contains("shipway-refuses-the-real-heroku"), "{err}");
        assert!(err.starts_with(&format!("error: git would have gone to the real Heroku: {url}\n")), "{err}");
        assert!(
            err.contains("hint: have the remote heroku lead to your own server: shipway heroku git:remote -a shop\n")
        );
    }
}

#[test]
fn hints_name_the_server_that_was_meant() {
    let stage = Stage::open();
    let home = stage.path("data").display().to_string();
    let meant = |args: &[&str], variable: Option<&str>| {
        let mut command = stage.shipway(args);
        match variable {
            Some(value) => command.env("SHIPWAY_HOME", value),
            None => command.env_remove("SHIPWAY_HOME"),
        };
        let (out, err) = texts(&command.output().unwrap());
        format!("{out}{err}")
    };
    let check = |said: &str, words: &[&str]| {
        for word in words {
            assert!(said.contains(word), "no {word:?} in: {said}");
        }
    };
    let flag = format!("shipway --home {home} env");
    check(&meant(&["--home", &home, "doctor"], None), &[&format!("eval \"$({flag})\""), &format!("{flag} --install")]);
    check(&meant(&["doctor"], Some(&home)), &["    eval \"$(shipway env)\"", "    shipway env --install"]);
    // Set to nothing is not set.
    for unset in [None, Some("")] {
        // A server of this very machine would be found.
        if !std::path::Path::new("/var/lib/shipway/run/api.sock").exists() {
            check(
                &meant(&["status"], unset),
                &["no Shipway server was found on this machine", "--home DIR, or SHIPWAY_HOME"],
            );
        }
        check(&meant(&["--home", &home, "ops"], unset), &["op1"]);
    }
}

#[test]
fn attack_41_the_token_is_in_no_argument_and_no_message() {
    let stage = Stage::open();
    let (out, err) = assert_done(stage.shipway(&["doctor"]).output().unwrap());
    assert!(!out.contains(TOKEN) && !err.contains(TOKEN));
    let (out, _) = assert_done(stage.shipway(&["env"]).output().unwrap());
    let lines: Vec<&str> = out.lines().filter(|line| line.contains(TOKEN)).collect();
    assert_eq!(lines.len(), 1, "only HEROKU_API_KEY holds it: {lines:?}");
}

#[test]
fn refusals_are_said_in_the_servers_words() {
    let stage = Stage::open();
    let check = |args: &[&str], code: i32, words: &[&str]| {
        let output = stage.shipway(args).output().unwrap();
        let (out, err) = texts(&output);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {out}{err}");
        for word in words {
            assert!(format!("{out}{err}").contains(word), "{args:?} lacks {word:?}: {out}{err}");
        }
    };
    check(&["users", "add", "bob"], 2, &["error: bob is not an e-mail address."]);
    check(
        &["ops"],
        0,
        &[
            "ID   APP   KIND     STATE    STEP     AGE\nop1  shop  release  failed   healthy  soon\nop2  shop  deploy   running  build    soon\n",
        ],
    );
    check(&["ops", "../../account"], 1, &["is not the name of an operation"]);
    check(&["builds"], 1, &["no app was named", "hint: name it with --app NAME"]);
    check(&["builds", "--app", "shop"], 2, &["Couldn't find that thing."]);
    check(&["builds", "shop"], 2, &["Couldn't find that thing."]);
    check(&["builds", "shop", "--app", "shop"], 2, &["cannot be used with"]);
    check(&["redeploy", "../x"], 1, &["is not the name of an app"]);
    check(&["status", "-a", "shop"], 2, &["Couldn't find that thing."]);
    check(&["rollback", "-a", "shop", "v2"], 2, &["Couldn't find that thing."]);
    check(&["rollback", "shop", "v2", "-a", "shop"], 1, &["the app is named twice"]);
    check(&["settings", "shop"], 1, &["\"shop\" is not NAME=VALUE", "shipway settings -a shop"]);
    check(&["pg", "tunnel", "--app", "shop"], 2, &["Couldn't find that thing."]);
    check(&["pg", "tunnel", "../x", "--app", "shop"], 1, &["is not the name of a database"]);
    check(&["--home", "/nowhere", "status"], 1, &["/nowhere/run/api.sock does not answer", "hint: start it"]);
    check(
        &["--server", "https://127.0.0.1:1", "env"],
        1,
        &["variables cannot point", "hint: use the bridge", "shipway --server https://127.0.0.1:1 heroku"],
    );
    check(&["--server", "htps://127.0.0.1", "env"], 2, &["is not the address of a server"]);
    check(&["--server", "https://api.heroku.com", "heroku", "apps"], 2, &["that is the real Heroku"]);
}

#[test]
fn what_has_no_command_of_herokus_has_one_of_ours() {
    let stage = Stage::open();
    let run = |args: &[&str]| assert_done(stage.shipway(args).output().unwrap());
    let (screen, _) = run(&["settings", "overlap.worker=true", "--app", "shop"]);
    assert_eq!(
        screen,
        "\
SETTING               VALUE  MEANS
health_check_path     /up    a new web dyno is healthy when it answers GET /up
health_check_status   -      an answer counts when app.json says so; without, any below 500
overlap.worker        true   new worker dynos are up before the old ones go
release_phase_last    true   the release phase runs when the new dynos are healthy, before traffic moves
store_other_branches  false  pushes of branches other than main and master are refused
"
    );
    let output = stage.shipway(&["settings", "colour=red", "--app", "shop"]).output().unwrap();
    let (_, err) = texts(&output);
    let all =
        "there are health_check_path, health_check_status, overlap.TYPE, release_phase_last, store_other_branches";
    assert!(!output.status.success() && err.contains("there is no setting \"colour\"") && err.contains(all), "{err}");

    let (out, _) = run(&["builds", "--purge-cache", "--app", "shop"]);
    assert_eq!(out, "The next build of shop finds nothing that earlier ones left.\n");
    assert_eq!(run(&["users", "list"]), run(&["users"]));
    let (out, err) = run(&["users", "token", "bob@example.org", "--revoke"]);
    assert_eq!(out, "SWAY-new\n", "a script can take it");
    assert!(err.contains("Ended 2 tokens and sign-ins of bob@example.org"), "{err}");
    let lines: Vec<String> =
        stage.seen().into_iter().map(|s| s.line).filter(|line| !line.ends_with("/session")).collect();
    let asked = ["PATCH /shipway/v1/apps/shop/settings", "DELETE /apps/shop/build-cache"];
    assert!(asked.iter().all(|line| lines.contains(&line.to_string())), "{lines:?}");
}

#[test]
fn the_heroku_cli_finds_the_server_by_the_environment() {
    if without_cli() {
        return;
    }
    let stage = Stage::open();
    stage.checkout();
    let (out, err) = assert_done(
        stage.shell("heroku create shop && heroku config:set A=1 && git push -q heroku main").output().unwrap(),
    );
    assert!(out.contains("shop") || err.contains("shop"), "{out}{err}");
    let lines: Vec<String> = stage.seen().into_iter().map(|s| s.line).collect();
    assert!(
        lines.contains(&"POST /apps".to_owned()) && lines.contains(&"PATCH /apps/shop/config-vars".to_owned()),
        "{lines:?}"
    );
}

#[test]
fn the_heroku_cli_reaches_a_server_elsewhere_by_the_bridge() {
    if without_cli() {
        return;
    }
    let stage = Stage::open();
    stage.checkout();
    std::fs::write(stage.path("ca.pem"), &stage.authority).unwrap();
    let server = stage.https();
    let login = format!("printf %s {TOKEN} | \"$0\" --server {server} login --ca '{}'", stage.path("ca.pem").display());
    let bin = env!("CARGO_BIN_EXE_shipway-client");
    let (_, err) = assert_done(stage.command("sh", &["-ec", &login, bin]).output().unwrap());
    assert!(err.contains("as ada@example.org"), "{err}");

    stage.seen();
    let (_, err) = assert_done(stage.shipway(&["--server", &server, "heroku", "create", "shop"]).output().unwrap());
    assert!(
        err.contains(&format!("shipway: {server} (ada@example.org)")),
        "the server is named before a change: {err}"
    );
    let seen = stage.seen();
    let create = seen.iter().find(|s| s.line == "POST /apps").unwrap_or_else(|| panic!("{seen:?}"));
    assert_eq!(
        (create.host.as_str(), create.authorization.as_str()),
        ("api.paas.herokudev.com", format!("Bearer {TOKEN}").as_str())
    );
    // The remote outlives the bridge.
    let (remote, _) = assert_done(stage.command("git", &["remote", "get-url", "heroku"]).output().unwrap());
    assert_eq!(remote.trim(), format!("{server}/shop.git"));

    let output = stage.shipway(&["--server", &server, "heroku", "apps:info", "-a", "missing"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "the CLI's exit code is ours: {:?}", texts(&output));
}

#[test]
fn a_lone_database_is_restored_from_the_latest_backup() {
    if without_cli() {
        return;
    }
    let stage = Stage::open();
    let args = ["heroku", "pg:backups:restore", "DATABASE_URL", "--app", "shop", "--confirm", "shop"];
    let (_, err) = texts(&stage.shipway(&args).output().unwrap());
    assert!(err.contains("restoring the latest backup of shop into DATABASE_URL"), "{err}");
}

#[test]
fn a_pipeline_is_opened_on_the_board_and_not_at_the_real_heroku() {
    let stage = Stage::open();
    let browser = stage.path("browser");
    std::fs::create_dir(&browser).unwrap();
    // In the place of both the browser and the CLI, which is not asked.
    let opened = stage.path("opened");
    for program in ["xdg-open", "open", "heroku"] {
        let script = format!("#!/bin/sh\necho \"$0 $*\" >> '{}'\n", opened.display());
        std::fs::write(browser.join(program), script).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(browser.join(program), mode).unwrap();
    }
    let path = format!("{}:/usr/bin:/bin", browser.display());
    let open = |name: &str| stage.shipway(&["heroku", "pipelines:open", name]).env("PATH", &path).output().unwrap();
    let (out, _) = assert_done(open("shop"));
    let url = format!("{}/dashboard/pipelines/shop", stage.http());
    assert_eq!(out, format!("Opening {url}...\n"));
    let mut seen = String::new();
    for _ in 0..500 {
        seen = std::fs::read_to_string(&opened).unwrap_or_default();
        if seen.ends_with('\n') {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert!(seen.ends_with(&format!("open {url}\n")) && seen.lines().count() == 1, "{seen}");
    let refused = texts(&open("other")).1;
    assert!(refused.contains("Couldn't find that thing."), "{refused}");
    assert!(texts(&open("../x")).1.contains("is not the name of a pipeline"));
}

#[test]
fn the_wrapper_leads_here_and_never_to_itself() {
    let stage = Stage::open();
    let fake = stage.path("real");
    std::fs::create_dir(&fake).unwrap();
    std::fs::write(fake.join("heroku"), "#!/bin/sh\necho \"$HEROKU_HOST $*\"; exit 7\n").unwrap();
    std::fs::set_permissions(fake.join("heroku"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    assert_done(stage.shipway(&["env", "--install"]).output().unwrap());
    let path = format!("{}:{}:/usr/bin:/bin", stage.path("home/.shipway/bin").display(), fake.display());
    let output = stage.command("sh", &["-c", "heroku ps -a 'two words'"]).env("PATH", &path).output().unwrap();
    let (out, err) = texts(&output);
    assert_eq!((out.trim(), output.status.code()), ("paas.herokudev.com ps -a two words", Some(7)), "{err}");

    let alone = format!("{}:/usr/bin:/bin", stage.path("home/.shipway/bin").display());
    let output = stage.command("sh", &["-c", "heroku ps"]).env("PATH", alone).output().unwrap();
    assert!(texts(&output).1.contains("the Heroku CLI itself is not"), "{output:?}");

    // Shipway was removed, and this was left.
    let wrapper = stage.path("home/.shipway/bin/heroku");
    let script = std::fs::read_to_string(&wrapper).unwrap();
    let left = script.replace(env!("CARGO_BIN_EXE_shipway-client"), "/nowhere/shipway");
    std::fs::write(&wrapper, left).unwrap();
    let output = stage.command("sh", &["-c", "heroku ps"]).env("PATH", &path).output().unwrap();
    let (_, err) = texts(&output);
    assert_eq!(output.status.code(), Some(127), "{err}");
    assert!(err.starts_with("error: this heroku command leads to your Shipway server by /nowhere/shipway"), "{err}");
    assert!(err.contains("hint: bring Shipway back: bin/up\n") && err.contains("rm ~/.shipway/bin/heroku"), "{err}");
}

#[test]
fn a_remote_that_leads_elsewhere_is_said_to_be_left_out() {
    let stage = Stage::open();
    stage.checkout();
    let fake = stage.path("real");
    std::fs::create_dir(&fake).unwrap();
    std::fs::write(fake.join("heroku"), "#!/bin/sh\n").unwrap();
    std::fs::set_permissions(fake.join("heroku"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", fake.display(), std::env::var("PATH").unwrap());
    let check = |args: &[&str], expected: &str| {
        let (_, err) = assert_done(stage.shipway(args).env("PATH", &path).output().unwrap());
        assert_eq!(err, expected, "{args:?}");
    };
    let remote = |name: &str, url: &str| {
        assert_done(stage.command("git", &["remote", "add", name, url]).output().unwrap());
    };
    remote("heroku", "https://git.heroku.com/shop.git");
    remote("origin", "https://github.com/acme/shop.git");
    let left = "shipway: the git remote heroku leads to git.heroku.com and was not used";
    let none = format!("{left}; to have one lead here: shipway heroku git:remote -a NAME\n");
    check(&["heroku", "ps"], &none);
    for quiet in [["heroku", "ps", "-a", "shop"].as_slice(), &["heroku", "apps"], &["heroku", "ps", "--help"]] {
        check(quiet, "");
    }
    let (_, err) = texts(&stage.shipway(&["builds"]).output().unwrap());
    assert!(err.contains("hint: the git remote heroku leads to git.heroku.com and was not used\n"), "{err}");
    remote("staging", &format!("{}/shop-staging.git", stage.https()));
    check(&["heroku", "ps"], &format!("{left}; this is about shop-staging\n"));
    check(&["heroku", "ps", "-r", "staging"], "");
    check(&["heroku", "ps", "-r", "heroku"], &none);
    remote("live", &format!("{}/shop.git", stage.https()));
    check(&["heroku", "ps"], "");
}

#[test]
fn which_operation_is_to_be_cancelled_is_answered_with_the_command() {
    let stage = Stage::open();
    let (_, err) = texts(&stage.shipway(&["ops", "--cancel"]).output().unwrap());
    assert_eq!(
        err,
        "error: one operation of yours is in progress\nhint: deploy of shop, yours, for soon: shipway ops op2 --cancel\n"
    );
    let (_, err) = texts(&stage.shipway(&["ops", "--cancel", "--app", "quiet"]).output().unwrap());
    assert!(err.starts_with("error: nothing is in progress that could be cancelled\nhint: "), "{err}");
}

#[test]
fn a_login_by_the_clis_own_commands_is_who_we_are_until_it_ends() {
    let stage = Stage::open();
    let fake = stage.path("real");
    std::fs::create_dir(&fake).unwrap();
    std::fs::write(fake.join("heroku"), "#!/bin/sh\necho \"$HEROKU_API_KEY\"\n").unwrap();
    std::fs::set_permissions(fake.join("heroku"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/bin:/bin", fake.display());
    let run = |command: &str| stage.shipway(&["heroku", command]).env("PATH", &path).output().unwrap();
    let netrc = |token: &str| {
        let text = format!("machine 127.0.0.1:{}\n  login grace@example.org\n  password {token}\n", stage.port);
        std::fs::write(stage.path("home/.netrc"), text).unwrap();
    };
    let server = stage.http();
    assert_eq!(texts(&run("create")), (format!("{TOKEN}\n"), format!("shipway: {server} (ada@example.org)\n")));
    netrc(LOGIN_TOKEN);
    assert_eq!(texts(&run("create")), (format!("{LOGIN_TOKEN}\n"), format!("shipway: {server} (grace@example.org)\n")));
    netrc("HRKU-old");
    let (out, err) = texts(&run("apps"));
    assert_eq!(out, "", "the CLI is not asked");
    assert!(err.contains(&format!("your login to {server} by `heroku login` has ended")), "{err}");
    assert!(err.contains("hint: log in again: shipway heroku login\n"), "{err}");
    assert_eq!(texts(&run("logout")), ("\n".into(), format!("shipway: {server}\n")), "which works all the same");
}

#[test]
fn words_reach_the_cli_as_they_were_typed_and_signals_too() {
    use std::io::{BufRead, BufReader};
    let stage = Stage::open();
    let fake = stage.path("real");
    std::fs::create_dir(&fake).unwrap();
    let script = "#!/bin/sh\n[ \"$1\" = wait ] || { printf '%s|' \"$@\"; exit; }\ntrap 'exit 42' TERM\necho ready\nwhile :; do sleep 0.05; done\n";
    std::fs::write(fake.join("heroku"), script).unwrap();
    std::fs::set_permissions(fake.join("heroku"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/bin:/bin", fake.display());
    for words in [["--help", "x"], ["--version", "-h"], ["run", "--"], ["ps", "--server"], ["-a", "a b"]] {
        let args = [["heroku"].as_slice(), &words].concat();
        let (out, _) = assert_done(stage.shipway(&args).env("PATH", &path).output().unwrap());
        assert_eq!(out, format!("{}|{}|", words[0], words[1]));
    }

    let mut child = stage.shipway(&["heroku", "wait"]);
    let mut child = child.env("PATH", &path).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    assert_done(stage.command("kill", &["-TERM", &child.id().to_string()]).output().unwrap());
    assert_eq!(child.wait().unwrap().code(), Some(42));
}

#[test]
fn psql_reaches_the_database_of_a_server_elsewhere_by_the_bridge() {
    let stage = Stage::open();
    std::fs::write(stage.path("ca.pem"), &stage.authority).unwrap();
    let (server, bin) = (stage.https(), env!("CARGO_BIN_EXE_shipway-client"));
    let login = format!("printf %s {TOKEN} | \"$0\" --server {server} login --ca '{}'", stage.path("ca.pem").display());
    assert_done(stage.command("sh", &["-ec", &login, bin]).output().unwrap());

    // The CLI and psql as far as it matters here: one starts the other with what DATABASE_URL says, that one says where it goes.
    let programs = stage.path("real");
    std::fs::create_dir(&programs).unwrap();
    let heroku = "#!/bin/sh\nexport PGHOST=10.1.2.3 PGPORT=5432 PGUSER=$1\nshift\nexec psql -c 'two words' \"$@\"\n";
    let psql = "#!/bin/bash\necho \"${PGHOSTADDR:-$PGHOST} ${PGPORT/#5432/theirs} $*\"\n[ \"$PGPORT\" = 5432 ] && exit\n\
                exec 3<>/dev/tcp/$PGHOSTADDR/$PGPORT && echo SELECT >&3 && head -1 <&3\nexit 3\n";
    for (name, script) in [("heroku", heroku), ("psql", psql)] {
        std::fs::write(programs.join(name), script).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(programs.join(name), mode).unwrap();
    }
    let path = format!("{}:/usr/bin:/bin", programs.display());
    let run = |args: &[&str]| stage.shipway(args).env("PATH", &path).output().unwrap();
    let role = format!("u{}", ADDON.replace('-', ""));

    let output = run(&["--server", &server, "heroku", &role, "-h"]);
    let (out, err) = texts(&output);
    let (first, second) = out.trim().split_once('\n').unwrap_or_else(|| panic!("{out}{err}"));
    assert!(first.starts_with("127.0.0.1 ") && first.ends_with(" -c two words -h"), "{out}");
    assert_eq!((second, output.status.code()), ("SELECT", Some(3)), "{err}");
    // What is no database of the server's goes where it says.
    assert_eq!(texts(&run(&["--server", &server, "heroku", "ada"])).0, "10.1.2.3 theirs -c two words\n");
    // One that the server does not lead to: why is said, and psql finds nobody.
    let (out, err) = texts(&run(&["--server", &server, "heroku", &role.replace('0', "f")]));
    assert!(err.contains("error: Couldn't find that thing.") && !out.contains("SELECT"), "{out}{err}");
    // On the server's own machine it is reached as it is.
    assert_eq!(texts(&run(&["heroku", &role])).0, "10.1.2.3 theirs -c two words\n");
}
