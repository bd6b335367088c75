//! Templates, the one formatter they share, and a function per page.

use std::sync::LazyLock;

use jiff::Timestamp;
use minijinja::value::Value;
use minijinja::{AutoEscape, Environment, Error, Output, State, UndefinedBehavior};
use serde::Serialize;

use crate::assets::ASSETS;
use crate::model::{
    AccessPage, ActivityPage, AppsPage, BoardPage, BuildPage, CliLoginPage, ConfigPage, ConfirmPage, DeploysPage,
    DynosPage, LogLine, LogsPage, OperationPage, OperationsPage, OverviewPage, PipelinesPage, ProblemPage, ReleasePage,
    ReleasesPage, ResourcesPage, SignInPage,
};
use crate::text;

/// Bytes of log or output that a page holds, as they stand in it. With everything else a page stays below 60 KB.
const OUTPUT_BUDGET: usize = 20 * 1024;

/// The longest line of a log on a page, in bytes; the whole line is a `heroku logs` away.
const LINE_LIMIT: usize = 2_000;

macro_rules! templates {
    ($($name:literal)*) => { [$(($name, include_str!(concat!("templates/", $name)))),*] };
}

const TEMPLATES: &[(&str, &str)] = &templates! {
    "parts.html" "base.html" "app.html"
    "access.html" "activity.html" "apps.html" "board.html" "build.html" "cli_login.html" "config.html" "confirm.html" "deploys.html" "dynos.html" "logs.html"
    "operation.html" "operations.html" "overview.html" "pipelines.html" "problem.html" "release.html" "releases.html" "resources.html" "sign_in.html"
};

static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut env = Environment::new();
    env.set_undefined_behavior(UndefinedBehavior::Strict);
    env.set_trim_blocks(true);
    env.set_lstrip_blocks(true);
    env.set_auto_escape_callback(|_| AutoEscape::Html);
    env.set_formatter(format);
    env.add_global("csrf_field", crate::CSRF_FIELD);
    env.add_global("style_path", ASSETS.style.path());
    env.add_global("script_path", ASSETS.script.path());
    env.add_global("mark_path", ASSETS.mark.path());
    env.add_function("path", |name: &str, a: Option<Value>, b: Option<Value>| {
        let given: Vec<String> = [a, b].into_iter().flatten().map(|v| v.to_string()).collect();
        crate::path(name, &given.iter().map(String::as_str).collect::<Vec<_>>())
    });
    env.add_filter("age", |at: &str, now: &str| Ok::<_, Error>(text::age(instant(at)?, instant(now)?)));
    env.add_filter("moment", |at: &str| instant(at).map(text::moment));
    env.add_filter("clock", |at: &str| instant(at).map(|t| t.strftime("%H:%M:%S").to_string()));
    env.add_filter("day", |at: &str| instant(at).map(|t| t.strftime("%A, %-d %B %Y").to_string()));
    env.add_filter("took", |ms: u64| text::duration(ms));
    env.add_filter("since", |at: &str, now: &str| {
        let ms = instant(now)?.as_millisecond() - instant(at)?.as_millisecond();
        Ok::<_, Error>(text::duration(u64::try_from(ms).unwrap_or(0) / 1_000 * 1_000))
    });
    env.add_filter("short", |id: &str| id.chars().take(7).collect::<String>());
    env.add_filter("href", |url: &str| text::href(url).to_owned());
    env.add_filter("query", |value: &str| {
        let mut out = String::new();
        text::push_encoded(&mut out, value);
        out
    });
    env.add_filter("host", |url: &str| {
        url.split_once("://").map_or(url, |(_, rest)| rest).trim_end_matches('/').to_owned()
    });
    env.add_filter("cut", cut);
    env.add_filter("exact", |value: &str| Value::from_safe_string(text::escape(value).into_owned()));
    for (name, source) in TEMPLATES {
        env.add_template(name, source).unwrap_or_else(|e| panic!("{name}: {e:#}"));
    }
    env
});

/// Writes a value into a page: made fit for it ([`text::plain`]), then escaped. `exact` is the one way around the
/// first half, for what is edited in a form and must come back as it was; nothing is a way around the second.
fn format(out: &mut Output<'_>, state: &State<'_, '_>, value: &Value) -> Result<(), Error> {
    match value.as_str() {
        Some(s) if !value.is_safe() => Ok(out.write_str(&text::escape(&text::plain(s)))?),
        _ => minijinja::escape_formatter(out, state, value),
    }
}

fn instant(text: &str) -> Result<Timestamp, Error> {
    text.parse().map_err(|e| Error::new(minijinja::ErrorKind::InvalidOperation, format!("not an instant: {e}")))
}

/// A name that is cut in its middle where there is no room, and whole while it has the focus.
fn cut(name: &str) -> Value {
    let name = text::plain(name);
    Value::from_safe_string(match text::cut(&name) {
        None => text::escape(&name).into_owned(),
        Some((start, end)) => format!(
            "<span class=\"cut\" title=\"{}\"><span>{}</span><span>{}</span></span>",
            text::escape(&name),
            text::escape(start),
            text::escape(end)
        ),
    })
}

/// Renders `name` from `model`. Templates are part of the program and every branch of them is rendered by a test, so a
/// failure here is a mistake in this crate, never in a model's text.
fn page(name: &str, model: &impl Serialize) -> String {
    let template = ENVIRONMENT.get_template(name).expect("templates are loaded with the environment");
    template.render(model).unwrap_or_else(|e| panic!("{name}: {e:#}"))
}

/// The page of a failed or refused request; also send its status.
pub fn problem(model: &ProblemPage) -> String {
    page("problem.html", model)
}

/// Signing in.
pub fn sign_in(model: &SignInPage) -> String {
    page("sign_in.html", model)
}

/// Letting the CLI in.
pub fn cli_login(model: &CliLoginPage) -> String {
    page("cli_login.html", model)
}

/// The list of apps; without any, the two commands that make one.
pub fn apps(model: &AppsPage) -> String {
    page("apps.html", model)
}

/// One app at a glance.
pub fn app_overview(model: &OverviewPage) -> String {
    page("overview.html", model)
}

/// The releases of an app.
pub fn releases(model: &ReleasesPage) -> String {
    page("releases.html", model)
}

/// One release.
pub fn release(model: &ReleasePage) -> String {
    let (output, is_cut) = text::tail(model.output.as_deref().unwrap_or_default(), OUTPUT_BUDGET);
    page("release.html", &Shortened { model, output, is_cut })
}

/// Formation and dynos.
pub fn dynos(model: &DynosPage) -> String {
    page("dynos.html", model)
}

/// What deploys an app, and whose turn it is.
pub fn deploys(model: &DeploysPage) -> String {
    page("deploys.html", model)
}

/// Config vars.
pub fn config(model: &ConfigPage) -> String {
    page("config.html", model)
}

/// Who has access to an app.
pub fn access(model: &AccessPage) -> String {
    page("access.html", model)
}

/// Add-ons, backups and domains.
pub fn resources(model: &ResourcesPage) -> String {
    page("resources.html", model)
}

/// The difference before an act, and the form that acts.
pub fn confirm(model: &ConfirmPage) -> String {
    page("confirm.html", model)
}

/// The log of an app: its newest lines, then live.
pub fn logs(model: &LogsPage) -> String {
    /// Bytes of markup around a line.
    const AROUND: usize = 80;
    let mut budget = OUTPUT_BUDGET + 12 * 1024;
    let mut lines: Vec<LogLine> = Vec::new();
    for line in model.lines.iter().rev() {
        let line = shown(line);
        let size = AROUND + text::escaped_len(&line.text) + text::escaped_len(&line.dyno);
        if size > budget {
            break;
        }
        budget -= size;
        lines.push(line);
    }
    lines.reverse();
    let is_cut = lines.len() < model.lines.len();
    page("logs.html", &ShortenedLogs { model, shown: lines, is_cut })
}

/// One build with its output, live while it runs.
pub fn build(model: &BuildPage) -> String {
    let (output, is_cut) = text::tail(&model.output, OUTPUT_BUDGET);
    page("build.html", &Shortened { model, output, is_cut })
}

/// Pipelines and products; without any, the commands that make one.
pub fn pipelines(model: &PipelinesPage) -> String {
    page("pipelines.html", model)
}

/// What is where in a pipeline or a product.
pub fn board(model: &BoardPage) -> String {
    page("board.html", model)
}

/// The ledger.
pub fn activity(model: &ActivityPage) -> String {
    page("activity.html", model)
}

/// Operations.
pub fn operations(model: &OperationsPage) -> String {
    page("operations.html", model)
}

/// One operation with its steps.
pub fn operation(model: &OperationPage) -> String {
    page("operation.html", model)
}

/// A model whose output is too long for a page, with the end of it.
#[derive(Serialize)]
struct Shortened<'a, M> {
    #[serde(flatten)]
    model: &'a M,
    #[serde(rename = "shown_output")]
    output: &'a str,
    is_cut: bool,
}

#[derive(Serialize)]
struct ShortenedLogs<'a> {
    #[serde(flatten)]
    model: &'a LogsPage,
    shown: Vec<LogLine>,
    is_cut: bool,
}

/// A line as a page shows it: fit for it, on one line, cut when it is long.
fn shown(line: &LogLine) -> LogLine {
    let mut text = text::plain(&line.text).replace('\n', " ");
    if text.len() > LINE_LIMIT {
        text.truncate(text.floor_char_boundary(LINE_LIMIT));
        text.push_str(" … (line cut)");
    }
    LogLine {
        text,
        dyno: text::plain(&line.dyno).into_owned(),
        source: text::plain(&line.source).into_owned(),
        ..*line
    }
}

/// The `data:` of an event `line`, as JSON without line feeds: `{at, clock, source, dyno, text}`.
pub fn log_event(line: &LogLine) -> String {
    let line = shown(line);
    let clock = line.at.strftime("%H:%M:%S").to_string();
    serde_json::json!({ "at": text::moment(line.at), "clock": clock, "source": line.source, "dyno": line.dyno, "text": line.text })
        .to_string()
}

/// The `data:` of an event `text`: a piece of a build's output as a JSON string. Pieces should end where a line ends,
/// or an escape sequence that is parted by a piece's end shows its second half.
pub fn text_event(output: &str) -> String {
    serde_json::Value::from(&*text::plain(output)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_template_steps_around_the_formatter() {
        for (name, source) in TEMPLATES {
            for forbidden in ["|safe", "| safe", "autoescape", " style=", "<script>", "onclick", "javascript:"] {
                assert!(!source.contains(forbidden), "{name} contains {forbidden}");
            }
        }
    }

    #[test]
    fn events_are_one_line_of_json() {
        let at = "2026-11-21T01:30:11.123456Z".parse().unwrap();
        let line = LogLine { at, source: "app".into(), dyno: "web.1".into(), text: "\x1b[31ma\"b\nc</script>".into() };
        let expected = r#"{"at":"2026-11-21 01:30:11 UTC","clock":"01:30:11","source":"app","dyno":"web.1","text":"a\"b c</script>"}"#;
        assert_eq!(log_event(&line), expected);
        assert_eq!(text_event("-----> Done\n\x1b[0m"), r#""-----> Done\n""#);
    }
}
