//! Django's static files, which are collected at build time.

use super::app_step;
use crate::languages::{Plan, tail};
use crate::model::BuildError;
use crate::session::Session;
use crate::tree::Tree;

pub(super) fn find_manage(tree: &Tree) -> Option<String> {
    if tree.has("manage.py") {
        return Some("manage.py".into());
    }
    let folders = tree.names(".").into_iter().filter(|n| !n.starts_with('.') && tree.has_directory(n));
    folders.map(|folder| format!("{folder}/manage.py")).find(|path| tree.has(path))
}

pub(super) async fn collect_static(plan: &Plan, manage: &str, session: &mut Session<'_>) -> Result<(), BuildError> {
    /// With the app's own bytecode in the same sandbox: compared by hash, so an edit in a one-off dyno counts.
    const COLLECT: &str = r#"python "$MANAGE" collectstatic --noinput || exit
python -m compileall -q --invalidation-mode checked-hash -x '/app/(\.heroku|\.git|node_modules)/' /app > /dev/null
exit 0"#;
    session.report.header("Collecting Django's static files");
    let step = app_step(plan, session, COLLECT, &[("MANAGE", &format!("./{manage}"))]);
    let finished = session.run(step).await?;
    if finished.status == 0 {
        return Ok(());
    }
    if finished.output.contains("Unknown command: 'collectstatic'") {
        session.report.detail("django.contrib.staticfiles is not among INSTALLED_APPS: there is nothing to collect");
        return Ok(());
    }
    Err(BuildError::User(explain_collectstatic(&finished.output, &session.request.app_name)))
}

/// Says why `collectstatic` failed and which command helps.
fn explain_collectstatic(output: &str, app: &str) -> String {
    let last = tail(output, 1);
    let set = |name: &str| {
        let value = if name.contains("SECRET") { "\"$(openssl rand -base64 48)\"" } else { "<value>" };
        format!(
            "collectstatic failed: the settings need {name}, which is not set.\n{last}\nSet it and push again: heroku config:set {name}={value} -a {app}"
        )
    };
    let missing = output.lines().rev().find_map(|line| {
        let line = line.trim();
        if let Some(name) = line.strip_prefix("KeyError: ") {
            return Some(name.trim_matches(['\'', '"']).to_string());
        }
        if line.contains("SECRET_KEY setting must not be empty") {
            return Some("SECRET_KEY".into());
        }
        let name = line.strip_prefix("decouple.UndefinedValueError: ")?.split_whitespace().next()?;
        Some(name.to_string())
    });
    if let Some(name) = missing.filter(|n| shipway_domain::ConfigKey::parse(n).is_ok()) {
        return set(&name);
    }
    if let Some(line) = output.lines().rev().find(|l| l.contains("ImproperlyConfigured: ")) {
        let environment = line.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).find(|word| {
            word.len() > 3
                && word.contains('_')
                && word.bytes().all(|b| b.is_ascii_uppercase() || b == b'_' || b.is_ascii_digit())
        });
        if line.contains("environment variable")
            && let Some(name) = environment
        {
            return set(name);
        }
        if line.contains("STATIC_ROOT") {
            return format!(
                "collectstatic failed: STATIC_ROOT is not set in the settings.\nAdd `STATIC_ROOT = BASE_DIR / \"staticfiles\"`, or go without: heroku config:set DISABLE_COLLECTSTATIC=1 -a {app}"
            );
        }
    }
    format!(
        "collectstatic failed: {last}\nFix what it names and push again, or go without: heroku config:set DISABLE_COLLECTSTATIC=1 -a {app}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_collectstatic_failed() {
        let check = |output: &str, expected: &str| {
            let text = explain_collectstatic(output, "shop");
            assert!(text.contains(expected), "{text}");
        };
        check(
            "Traceback\nKeyError: 'SECRET_KEY'\n",
            "heroku config:set SECRET_KEY=\"$(openssl rand -base64 48)\" -a shop",
        );
        check(
            "django.core.exceptions.ImproperlyConfigured: The SECRET_KEY setting must not be empty.",
            "needs SECRET_KEY".replace("needs", "need").as_str(),
        );
        check("decouple.UndefinedValueError: API_TOKEN not found. Declare it", "config:set API_TOKEN=<value> -a shop");
        check(
            "django.core.exceptions.ImproperlyConfigured: Set the MAIL_URL environment variable",
            "config:set MAIL_URL=",
        );
        check(
            "ImproperlyConfigured: You're using the staticfiles app without having set the STATIC_ROOT setting",
            "STATIC_ROOT = BASE_DIR",
        );
        check("KeyError: 'a; rm -rf /'", "DISABLE_COLLECTSTATIC=1");
        check("", "DISABLE_COLLECTSTATIC=1");
    }
}
