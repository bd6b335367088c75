//! What we read out of a Heroku command line before the CLI gets it.

/// Whether a command leaves everything as it is. Of what we do not know we say no.
///
/// Source: the command list of the `heroku` package, version 11.
pub fn only_reads(args: &[String]) -> bool {
    if args.iter().take_while(|a| *a != "--").any(|a| a == "--help" || a == "-h") {
        return true;
    }
    let Some(command) = args.iter().find(|a| !a.starts_with('-')) else { return true };
    const TOPICS: [&str; 12] = [
        "local",
        "help",
        "version",
        "status",
        "regions",
        "autocomplete",
        "commands",
        "which",
        "search",
        "plugins",
        "accounts",
        "local:run",
    ];
    const ALONE: [&str; 34] = [
        "access",
        "addons",
        "apps",
        "authorizations",
        "buildpacks",
        "certs",
        "ci",
        "clients",
        "config",
        "dashboard",
        "domains",
        "drains",
        "features",
        "git",
        "info",
        "keys",
        "labs",
        "list",
        "logs",
        "maintenance",
        "members",
        "notifications",
        "open",
        "orgs",
        "pg",
        "pipelines",
        "ps",
        "releases",
        "sessions",
        "spaces",
        "teams",
        "telemetry",
        "webhooks",
        "whoami",
    ];
    const VERBS: [&str; 28] = [
        "info",
        "get",
        "list",
        "output",
        "wait",
        "whoami",
        "token",
        "versions",
        "search",
        "services",
        "plans",
        "docs",
        "open",
        "diff",
        "errors",
        "url",
        "ps",
        "locks",
        "blocking",
        "bloat",
        "outliers",
        "diagnose",
        "credentials",
        "deliveries",
        "events",
        "stacks",
        "last",
        "schedules",
    ];
    // `backups` and `settings` list when they stand alone after their topic.
    const LISTS: [&str; 7] = ["backups", "settings", "links", "favorites", "maintenances", "levels", "default"];
    let mut parts = command.split(':');
    let topic = parts.next().unwrap_or_default();
    let verb = command.rsplit(':').next().unwrap_or_default();
    if TOPICS.contains(&topic) {
        return true;
    }
    match parts.count() {
        // `config --app shop` reads; `access shop` and the like do too.
        0 => ALONE.contains(&topic),
        _ => {
            VERBS.contains(&verb)
                || LISTS.contains(&verb)
                || matches!(command.as_str(), "git:credentials" | "git:clone")
        }
    }
}

/// Whether a command signs in or out, which the CLI refuses to do beside a token in the environment.
pub fn signs_in(args: &[String]) -> bool {
    matches!(
        args.iter().find(|a| !a.starts_with('-')).map(String::as_str),
        Some("login" | "logout" | "auth:login" | "auth:logout")
    )
}

/// Whether a command speaks to a package registry for itself and to no server.
pub fn stays_outside(args: &[String]) -> bool {
    let topic = args.iter().find(|a| !a.starts_with('-')).and_then(|c| c.split(':').next());
    matches!(topic, Some("plugins"))
}

/// Whether a command is about an app, which the CLI finds by a git remote where none is named.
///
/// Source: the flags of the commands of the `heroku` package, version 11.
pub fn is_about_an_app(args: &[String]) -> bool {
    if args.iter().take_while(|a| *a != "--").any(|a| a == "--help" || a == "-h") {
        return false;
    }
    const TOPICS: [&str; 36] = [
        "access",
        "addons",
        "apps",
        "buildpacks",
        "certs",
        "ci",
        "config",
        "console",
        "container",
        "data",
        "destroy",
        "domains",
        "drains",
        "features",
        "info",
        "labs",
        "logs",
        "maintenance",
        "notifications",
        "open",
        "pg",
        "pipelines",
        "ps",
        "psql",
        "rake",
        "redis",
        "releases",
        "rename",
        "resize",
        "restart",
        "rollback",
        "run",
        "scale",
        "stop",
        "webhooks",
        "dyno",
    ];
    // Of those topics, what is about something else.
    const OTHERS: [&str; 22] = [
        "addons:plans",
        "addons:rename",
        "addons:services",
        "apps",
        "apps:create",
        "apps:diff",
        "apps:favorites",
        "buildpacks:info",
        "buildpacks:search",
        "buildpacks:versions",
        "ci:migrate-manifest",
        "container:login",
        "container:logout",
        "data:pg:docs",
        "data:pg:levels",
        "pipelines",
        "pipelines:connect",
        "pipelines:destroy",
        "pipelines:info",
        "pipelines:rename",
        "pipelines:setup",
        "pipelines:transfer",
    ];
    let Some(command) = args.iter().find(|a| !a.starts_with('-')) else { return false };
    let topic = command.split(':').next().unwrap_or_default();
    TOPICS.contains(&topic) && !OTHERS.contains(&command.as_str())
}

/// The value of a flag that stands before `--`: `--app shop`, `--app=shop`, `-a shop`, `-ashop`.
pub fn flag<'a>(args: &'a [String], long: &str, short: char) -> Option<&'a str> {
    let mut args = args.iter().take_while(|a| *a != "--");
    while let Some(arg) = args.next() {
        if let Some(rest) = arg.strip_prefix("--") {
            match rest.split_once('=') {
                Some((name, value)) if name == long => return Some(value),
                None if rest == long => return args.next().map(String::as_str),
                _ => {}
            }
        } else if let Some(rest) = arg.strip_prefix('-').and_then(|r| r.strip_prefix(short)) {
            return if rest.is_empty() { args.next().map(String::as_str) } else { Some(rest.trim_start_matches('=')) };
        }
    }
    None
}

/// The pipeline of `pipelines:open PIPELINE`; none where help is asked for, or more or less than that is said.
pub fn opened_pipeline(args: &[String]) -> Option<&str> {
    match args {
        [command, pipeline] if command == "pipelines:open" && !pipeline.starts_with('-') => Some(pipeline),
        _ => None,
    }
}

/// Where the database of `pg:backups:restore DATABASE` stands, when it is given alone.
///
/// Heroku's documents allow that form, meaning the latest backup; the CLI takes the word for a backup's name and refuses.
pub fn lone_restore_target(args: &[String]) -> Option<usize> {
    let command = args.iter().position(|a| !a.starts_with('-'))?;
    if args[command] != "pg:backups:restore" {
        return None;
    }
    let mut positions = Vec::new();
    let mut i = command + 1;
    while i < args.len() {
        let arg = args[i].as_str();
        let takes_value = matches!(
            arg,
            "--app"
                | "-a"
                | "--remote"
                | "-r"
                | "--confirm"
                | "-c"
                | "--extensions"
                | "-e"
                | "--wait-interval"
                | "--prompt"
        );
        if takes_value && arg != "--prompt" {
            i += 1;
        } else if !arg.starts_with('-') {
            positions.push(i);
        }
        i += 1;
    }
    let [only] = positions.as_slice() else { return None };
    let word = args[*only].as_str();
    let is_number = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    let is_backup = word.contains("::")
        || word.contains("://")
        || word.get(..1).is_some_and(|c| "abrc".contains(c)) && is_number(&word[1..])
        || word.get(..2).is_some_and(|c| c == "oa" || c == "ob") && is_number(&word[2..]);
    (!is_backup).then_some(*only)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn commands_that_change_something_are_told_from_those_that_read() {
        let check = |line: &str, expected: bool| assert_eq!(only_reads(&words(line)), expected, "{line}");
        for line in [
            "",
            "ps",
            "ps -a shop",
            "config:get X",
            "logs --tail",
            "pg:backups",
            "releases:info v2",
            "apps:destroy --help",
        ] {
            check(line, true);
        }
        for line in
            ["create", "apps:create", "config:set A=1", "ps:scale web=2", "run bash", "rollback", "pg:reset", "login"]
        {
            check(line, false);
        }
        for line in [
            "maintenance:on",
            "pipelines:promote",
            "pg:backups:restore",
            "run -- echo --help",
            "git:remote -a x",
            "no-such",
        ] {
            check(line, false);
        }
    }

    #[test]
    fn commands_about_an_app_are_told_from_others() {
        let check = |line: &str, expected: bool| assert_eq!(is_about_an_app(&words(line)), expected, "{line}");
        for line in
            ["ps", "config:set A=1", "logs --tail", "run bash", "pg:psql", "pipelines:promote", "apps:info", "open"]
        {
            check(line, true);
        }
        for line in
            ["", "apps", "create", "apps:create shop", "whoami", "pipelines", "addons:plans x", "ps --help", "login"]
        {
            check(line, false);
        }
    }

    #[test]
    fn a_lone_database_is_seen_for_what_it_is() {
        let check = |line: &str, expected: Option<&str>| {
            let args = words(line);
            assert_eq!(lone_restore_target(&args).map(|i| args[i].as_str()), expected, "{line}");
        };
        check("pg:backups:restore DATABASE_URL --app shop", Some("DATABASE_URL"));
        check("pg:backups:restore --app shop --confirm shop postgresql-curved-1", Some("postgresql-curved-1"));
        check("pg:backups:restore b001 --app shop", None);
        check("pg:backups:restore b001 DATABASE_URL --app shop", None);
        check("pg:backups:restore other:: --app shop", None);
        check("pg:backups:restore https://x/dump --app shop", None);
        check("pg:backups:restore --app shop", None);
        check("pg:backups:capture DATABASE_URL", None);
    }

    #[test]
    fn a_pipeline_is_opened_here() {
        let check = |line: &str, expected: Option<&str>| assert_eq!(opened_pipeline(&words(line)), expected, "{line}");
        check("pipelines:open shop", Some("shop"));
        check("pipelines:open", None);
        check("pipelines:open --help", None);
        check("pipelines:info shop", None);
    }

    #[test]
    fn flags_are_read_in_all_their_spellings() {
        for line in ["ps --app shop", "ps --app=shop", "ps -a shop", "ps -ashop"] {
            assert_eq!(flag(&words(line), "app", 'a'), Some("shop"), "{line}");
        }
        assert_eq!(flag(&words("run -- tar -a x"), "app", 'a'), None);
    }
}
