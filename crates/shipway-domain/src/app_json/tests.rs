use super::*;

/// What a reader sees: each problem and warning on a line, or what was read.
fn check(text: &str, expected: &str) {
    let got = match AppJson::parse(text) {
        Ok(app) => app.warnings.iter().map(|w| format!("warning {w}\n")).collect(),
        Err(problems) => problems.iter().map(|p| format!("{p}\n")).collect::<String>(),
    };
    assert_eq!(got.trim_end(), expected.trim(), "{text}");
}

const WHOLE: &str = r#"{
  "$schema": "https://example.org/app.schema.json",
  "name": "Acorn", "description": "Grows oaks.\nSlowly.", "keywords": ["tree", "forest"],
  "website": "https://acorn.example", "repository": "https://git.example/acorn", "logo": "http://acorn.example/a.svg",
  "success_url": "/welcome", "stack": "heroku-24",
  "env": {
    "PLAIN": "value",
    "SECRET_KEY": { "description": "Signs sessions.", "generator": "secret" },
    "SENTRY_DSN": { "required": false },
    "API_KEY": { "description": "Ask Ida.", "required": true },
    "REGION": {}
  },
  "formation": { "web": { "quantity": 2, "size": "standard-1x" }, "worker": {} },
  "addons": ["heroku-postgresql", { "plan": "heroku-postgresql:essential-0", "as": "ARCHIVE", "options": { "version": "16", "n": 3 } }],
  "buildpacks": [{ "url": "heroku/nodejs" }, { "url": "https://git.example/pack.git#v2" }],
  "scripts": { "postdeploy": "bin/seed\nbin/index", "pr-predestroy": "bin/bye", "test": "pytest" },
  "cron": [{ "command": "bin/sweep --all", "schedule": "*/10 * * * *" }],
  "environments": {
    "review": {
      "env": { "PLAIN": "review", "DEBUG": "1" }, "formation": { "worker": { "quantity": 0 } },
      "addons": ["heroku-postgresql:essential-0"], "scripts": { "postdeploy": "bin/seed --small" }
    },
    "test": { "buildpacks": [{ "url": "heroku/python" }], "scripts": { "test-setup": "true" } }
  }
}"#;

#[test]
fn the_whole_of_it() {
    let app = AppJson::parse(WHOLE).unwrap();
    assert_eq!(app.warnings, []);
    assert_eq!((app.about.name.as_deref(), app.about.success_url.as_deref()), (Some("Acorn"), Some("/welcome")));
    assert_eq!(app.about.keywords, ["tree", "forest"]);
    assert_eq!(app.about.picture(), None, "not over http");
    let welcome = app.about.resolved_success_url("https://acorn.example/");
    assert_eq!(welcome.as_deref(), Some("https://acorn.example/welcome"));
    let plain = app.parts(Environment::Plain);
    let missing: Vec<_> = plain.missing(|_| false).into_iter().map(|(k, v)| format!("{k}:{}", v.line)).collect();
    assert_eq!(missing, ["API_KEY:10", "REGION:11"]);
    let insisted: Vec<_> = plain.insisted(|_| false).into_iter().map(|(k, _)| k.as_str()).collect();
    assert_eq!(insisted, ["API_KEY"]);
    assert_eq!(plain.addons.as_ref().unwrap()[1].options["n"], "3");
    assert_eq!(plain.buildpacks.as_ref().unwrap().len(), 2);
    assert_eq!(plain.postdeploy.as_deref(), Some("bin/seed\nbin/index"));
    assert_eq!(plain.cron.as_ref().unwrap()[0].schedule.as_str(), "*/10 * * * *");
}

#[test]
fn a_review_app_has_its_own_on_top() {
    let app = AppJson::parse(WHOLE).unwrap();
    let review = app.parts(Environment::Review);
    let value = |key: &str| review.env[&ConfigKey::parse(key).unwrap()].value.clone();
    assert_eq!((value("PLAIN").as_deref(), value("DEBUG").as_deref()), (Some("review"), Some("1")));
    assert_eq!(review.env.len(), 6, "what it does not name is the base's");
    let formation: Vec<_> = review.formation.iter().map(|(t, q)| format!("{t}={}", q.quantity)).collect();
    assert_eq!(formation, ["web=2", "worker=0"]);
    assert_eq!(review.addons.as_ref().unwrap().len(), 1, "lists are replaced");
    assert_eq!(review.postdeploy.as_deref(), Some("bin/seed --small"));
    assert_eq!(review.pr_predestroy.as_deref(), Some("bin/bye"));
    let python = Placed { name: "heroku/python".into(), line: 23 };
    assert_eq!(app.parts(Environment::Test).buildpacks.unwrap(), [python]);
}

#[test]
fn problems_name_line_and_column_and_come_all_at_once() {
    check(
        r#"{
  "env": { "PORTS": 8080, "2FA": "x",
           "KEY": { "generator": "uuid" } },
  "formation": { "web": { "quantity": "two" }, "worker": { "quantity": 101 } },
  "addons": [ "heroku postgres", { "as": "DB" }, 7 ],
  "buildpacks": [ "heroku/python" ],
  "scripts": { "postdeploy": [] },
  "website": "javascript:alert(1)",
  "success_url": "//evil.example"
}"#,
        "
app.json:2:21: env.PORTS must be a string, or an object with `description`, `value`, `required` or `generator`, not a number
app.json:2:34: env.2FA stands under a name that cannot be: config var name \"2FA\" may only contain letters, digits and underscores, and must not start with a digit
app.json:3:34: env.KEY.generator must be \"secret\", which is the only generator
app.json:4:39: formation.web.quantity must be a whole number, not a string
app.json:4:72: formation.worker.quantity must be 100 at most
app.json:5:15: addons[0] must be an add-on service and its plan, like heroku-postgresql:essential-0
app.json:5:34: addons[1] has no `plan`
app.json:5:50: addons[2] must be a plan's name, or an object with `plan`, `as` and `options`, not a number
app.json:6:19: buildpacks[0] must be an object, not a string
app.json:7:30: scripts.postdeploy must be a string, not a list
app.json:8:14: website must be a URL that begins with https:// or http://
app.json:9:18: success_url must be a path of the app, like /welcome, or a URL",
    );
    check("{\n  \"env\": {\n    \"A\": \"1\",\n  }\n}", "app.json:4:3: is not valid JSON: key must be a string");
    check("", "app.json:1:1: is not valid JSON: EOF while parsing a value");
    check("[]", "app.json:1:1: the file must be an object, not a list");
    check("{\"env\":{\"A\":\"1\",\n\"A\":\"2\"}}", "app.json:2:5: env.A stands twice; keep one of them");
    check(
        "{\"env\":{\"Ä\":\"é\", \"B\": 1}}",
        "app.json:1:13: env.Ä stands under a name that cannot be: config var name \"Ä\" may only contain letters, digits and underscores, and must not start with a digit\napp.json:1:23: env.B must be a string, or an object with `description`, `value`, `required` or `generator`, not a number",
    );
    check(
        "{\"env\":{\"A\":{\"value\":true}}}",
        "app.json:1:22: env.A.value must be a string, not true or false; put it in quotes",
    );
}

#[test]
fn unknown_keys_are_only_warned_about() {
    check(
        r#"{ "colour": "red", "image": "heroku/ruby",
  "environments": { "staging": {}, "review": { "name": "x" } }, "scripts": { "predeploy": "x" } }"#,
        "
warning app.json:1:13: colour is not a key that is known here; it has no effect
warning app.json:1:29: image has no effect: apps are built with buildpacks
warning app.json:2:32: environments.staging has no effect: there are `review` and `test`
warning app.json:2:56: environments.review.name has no effect in an environment
warning app.json:2:91: scripts.predeploy has no effect: there are `postdeploy` and `pr-predestroy`",
    );
}

#[test]
fn one_health_check_of_web_counts_and_the_rest_is_named() {
    let text = r#"{ "healthchecks": {
  "worker": [{ "type": "startup", "uptime": 5 }],
  "web": [
    { "type": "liveness", "path": "/live" }, { "path": "/plain" },
    { "type": "startup", "command": ["true"] },
    { "type": "startup", "name": "web", "path": "/health", "status": 200, "attempts": 3 },
    { "type": "startup", "path": "/other" }
  ] }, "environments": { "review": { "healthchecks": {} } } }"#;
    check(
        text,
        r#"
warning app.json:2:13: healthchecks.worker has no effect: only dynos of `web` are checked
warning app.json:4:5: healthchecks.web[0] has no effect: only checks with "type": "startup" are made
warning app.json:4:46: healthchecks.web[1] has no effect: only checks with "type": "startup" are made
warning app.json:5:37: healthchecks.web[2].command has no effect: there are `path` and `status`
warning app.json:5:5: healthchecks.web[2] has no effect: it has no `path`
warning app.json:6:87: healthchecks.web[3].attempts has no effect: there are `path` and `status`
warning app.json:7:5: healthchecks.web[4] has no effect: the first check with a `path` is made
warning app.json:8:54: environments.review.healthchecks has no effect in an environment"#,
    );
    let found = AppJson::parse(text).unwrap().health_check.unwrap();
    assert_eq!((found.path.as_str(), found.rule().as_str()), ("/health", "only 200 counts as healthy"));

    check(
        r#"{ "healthchecks": { "web": [
  { "type": "startup", "path": "health" },
  { "type": "startup", "path": "/a b" },
  { "type": "startup", "path": "/", "status": "2xx" },
  { "type": "startup", "path": "/", "status": true },
  { "type": 1 }, "web"
] } }"#,
        "
app.json:2:32: healthchecks.web[0].path must be a path like /health: a slash, then up to 1000 ASCII characters without spaces
app.json:3:32: healthchecks.web[1].path must be a path like /health: a slash, then up to 1000 ASCII characters without spaces
app.json:4:47: healthchecks.web[2].status must be statuses from 100 to 599 and ranges of them, 50 at most, such as 200-299,301
app.json:5:47: healthchecks.web[3].status must be a status like 200, or a string like \"200-299,301\", not true or false
app.json:6:13: healthchecks.web[4].type must be a string, not a number
app.json:6:18: healthchecks.web[5] must be an object, not a string",
    );
    check(r#"{ "healthchecks": [] }"#, "app.json:1:19: healthchecks must be an object, not a list");
}

#[test]
fn attack_05_cron_lines_stay_one_command_and_five_fields() {
    check(
        r#"{ "cron": [
  { "command": "bin/a\n* * * * * root id", "schedule": "* * * * *" },
  { "command": "bin/a", "schedule": "* * * * *\n* * * * * root id" },
  { "command": "bin/a", "schedule": "* * * * *%id" },
  { "command": "bin/a" }, { "schedule": "@daily" },
  { "command": "bin/a", "schedule": "@daily", "user": "root" },
  { "command": "", "schedule": "@daily" }
] }"#,
        "
app.json:2:16: cron[0].command must stand on one line, without control characters
app.json:3:37: cron[1].schedule must stand on one line, without control characters
app.json:4:37: cron[2].schedule has \"*%id\" as its day of the week: numbers from 0 to 7 with * , - / are allowed
app.json:5:3: cron[3] has no `schedule`, such as \"*/10 * * * *\"
app.json:5:27: cron[4] has no `command`
app.json:6:55: cron[5].user is not known here: there are `command` and `schedule`
app.json:7:16: cron[6].command must be a command: between 1 byte and 64 KiB, without NUL bytes",
    );
}

#[test]
fn hostile_files_are_refused_in_one_line() {
    let deep = "[".repeat(100_000);
    for (text, words) in [
        (deep.as_str(), "EOF while parsing a list"),
        (&format!("{{\"env\":{deep}{}}}", "]".repeat(100_000)), "not a list"),
        (&format!("{{\"description\":\"{}\"}}", "x".repeat(300 * 1024)), "larger than"),
        (&format!("{{\"description\":\"{}\"}}", "x".repeat(2000)), "1000 characters"),
        ("{\"name\":\"a\\u0000b\"}", "control characters"),
        ("{\"env\":{\"A\":\"a\\u0000b\"}}", "NUL"),
        ("{\"env\":{\"A\\u001b[31m\":\"b\"}}", "may only contain"),
    ] {
        let problems = AppJson::parse(text).unwrap_err();
        let shown = problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        assert!(shown.contains(words), "{shown}");
        assert!(!shown.contains('\u{1b}') && shown.len() < 500, "{shown:?}");
    }
}
