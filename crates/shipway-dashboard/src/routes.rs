//! The map from page to path, on one screen.

/// The method of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Reads; never changes anything.
    Get,
    /// Acts; carries the CSRF field.
    Post,
}

/// One door of the dashboard.
#[derive(Debug, Clone, Copy)]
pub struct Route {
    /// What [`path`] and the templates call it.
    pub name: &'static str,
    /// Its method.
    pub method: Method,
    /// Path with `{parameters}` in axum's syntax.
    pub path: &'static str,
    /// Query fields of a GET, form fields of a POST (besides the CSRF field); a `?` marks what may be missing.
    pub fields: &'static [&'static str],
    /// The view model that the answer is made from, or what the answer is.
    pub answer: &'static str,
}

const fn get(name: &'static str, path: &'static str, fields: &'static [&'static str], answer: &'static str) -> Route {
    Route { name, method: Method::Get, path, fields, answer }
}

const fn post(name: &'static str, path: &'static str, fields: &'static [&'static str], answer: &'static str) -> Route {
    Route { name, method: Method::Post, path, fields, answer }
}

/// Every route of the dashboard. A POST that worked answers 303 to where its result can be seen; one that did not
/// answers its page again with the reason, or a [`crate::model::ProblemPage`].
#[rustfmt::skip]
pub const ROUTES: &[Route] = &[
    get("asset",            "/dashboard/assets/{file}",                         &[],                    "crate::asset"),
    get("sign_in",          "/dashboard/sign-in",                               &["next?"],             "SignInPage"),
    // `token` alone, or `email` and `password`. `next` is followed only when it starts with `/dashboard`.
    post("sign_in.post",    "/dashboard/sign-in",                               &["token?", "email?", "password?", "next?"], "303 next; SignInPage with its error"),
    post("sign_out",        "/dashboard/sign-out",                              &[],                    "303 sign_in"),
    // The browser half of `heroku login`: `browser_url` of `POST /auth` leads here.
    get("cli_login",        "/dashboard/login/{request}",                       &[],                    "CliLoginPage"),
    post("cli_login.post",  "/dashboard/login/{request}",                       &["decision=approve|deny"], "CliLoginPage, decided"),
    get("apps",             "/dashboard",                                       &["q?", "all?"],        "AppsPage"),
    get("apps.events",      "/dashboard/events",                                &[],                    "events: changed"),
    get("app",              "/dashboard/apps/{app}",                            &[],                    "OverviewPage"),
    // One stream for all pages of an app but logs: something that they show has changed.
    get("app.events",       "/dashboard/apps/{app}/events",                     &[],                    "events: changed"),
    get("releases",         "/dashboard/apps/{app}/releases",                   &["before?"],           "ReleasesPage"),
    get("release",          "/dashboard/apps/{app}/releases/{version}",         &[],                    "ReleasePage"),
    get("rollback.ask",     "/dashboard/apps/{app}/releases/{version}/rollback", &[],                   "ConfirmPage"),
    post("rollback",        "/dashboard/apps/{app}/releases/{version}/rollback", &[],                   "303 operation"),
    get("dynos",            "/dashboard/apps/{app}/dynos",                      &[],                    "DynosPage"),
    get("scale.ask",        "/dashboard/apps/{app}/formation/{type}",           &["quantity", "size"],  "ConfirmPage"),
    post("scale",           "/dashboard/apps/{app}/formation/{type}",           &["quantity", "size"],  "303 dynos"),
    // Without `dyno`: all of them.
    get("restart.ask",      "/dashboard/apps/{app}/restart",                    &["dyno?"],             "ConfirmPage"),
    post("restart",         "/dashboard/apps/{app}/restart",                    &["dyno?"],             "303 dynos"),
    get("deploys",          "/dashboard/apps/{app}/deploys",                    &[],                    "DeploysPage"),
    post("trigger.add",     "/dashboard/apps/{app}/triggers",                   &["kind=branch|tag", "pattern", "wait?"], "303 deploys; DeploysPage with its error"),
    post("trigger.remove",  "/dashboard/apps/{app}/triggers/{trigger}/remove",  &[],                    "303 deploys"),
    post("reserve",         "/dashboard/apps/{app}/reservation",                &["hours", "reason?"],  "303 deploys"),
    post("unreserve",       "/dashboard/apps/{app}/reservation/end",            &[],                    "303 deploys"),
    get("previous.ask",     "/dashboard/apps/{app}/previous",                   &[],                    "ConfirmPage"),
    // `version` is the release that was looked at: when another one would come back by now, nothing does.
    post("previous",        "/dashboard/apps/{app}/previous",                   &["version"],           "303 operation"),
    post("notices.read",    "/dashboard/apps/{app}/notices/read",               &[],                    "303 app"),
    get("config",           "/dashboard/apps/{app}/config",                     &[],                    "ConfigPage, values hidden"),
    // Goes into the ledger: who looked at which value. Without `name`: all of them.
    post("config.reveal",   "/dashboard/apps/{app}/config/reveal",              &["name?"],             "ConfigPage, values shown"),
    post("config.set",      "/dashboard/apps/{app}/config",                     &["name", "value"],     "303 config; ConfigPage with its error"),
    get("config.unset.ask", "/dashboard/apps/{app}/config/unset",               &["name"],              "ConfirmPage"),
    post("config.unset",    "/dashboard/apps/{app}/config/unset",               &["name"],              "303 config"),
    get("resources",        "/dashboard/apps/{app}/resources",                  &[],                    "ResourcesPage"),
    get("access",           "/dashboard/apps/{app}/access",                     &[],                    "AccessPage"),
    post("access.give",     "/dashboard/apps/{app}/access",                     &["email", "permission?"], "303 access"),
    post("access.remove",   "/dashboard/apps/{app}/access/remove",              &["email"],             "303 access"),
    post("access.decline",  "/dashboard/apps/{app}/access/decline",             &["email"],             "303 access"),
    // Also of an app that the viewer cannot see.
    post("access.ask",      "/dashboard/apps/{app}/access/ask",                 &[],                    "303 access, or apps"),
    post("offer",           "/dashboard/offers/{offer}",                        &["answer=take|leave"], "303 apps"),
    get("logs",             "/dashboard/apps/{app}/logs",                       &["source?=app|heroku", "dyno?"], "LogsPage"),
    // Newer than `after` (an event id) or than the header `Last-Event-ID`, which wins.
    get("logs.events",      "/dashboard/apps/{app}/logs/events",                &["source?", "dyno?", "after?"], "events: line"),
    get("build",            "/dashboard/apps/{app}/builds/{build}",             &[],                    "BuildPage"),
    // From byte `after` of the output, or from `Last-Event-ID`; an event's id is the offset after its text.
    get("build.events",     "/dashboard/apps/{app}/builds/{build}/events",      &["after?"],            "events: text, changed, end"),
    get("build.output",     "/dashboard/apps/{app}/builds/{build}/output",      &[],                    "text/plain, whole"),
    get("pipelines",        "/dashboard/pipelines",                             &[],                    "PipelinesPage"),
    get("pipeline",         "/dashboard/pipelines/{pipeline}",                  &["q?", "all?"],        "BoardPage"),
    get("pipeline.events",  "/dashboard/pipelines/{pipeline}/events",           &[],                    "events: changed"),
    // In the viewer's name, for a party that they may sign for.
    post("sign_off",        "/dashboard/pipelines/{pipeline}/stages/{stage}/sign-offs", &["commit", "party"], "303 pipeline"),
    // To all apps of the next stage, or of the stage `to`. `release` is what was looked at: another one that runs by now
    // is not promoted.
    get("promote.ask",      "/dashboard/pipelines/{pipeline}/apps/{app}/promote", &["to?"],             "ConfirmPage"),
    post("promote",         "/dashboard/pipelines/{pipeline}/apps/{app}/promote", &["release", "to?", "reason?"], "303 operation, or pipeline when there are several"),
    post("review.make",     "/dashboard/pipelines/{pipeline}/review-apps",      &["branch"],            "303 pipeline"),
    get("review.remove.ask", "/dashboard/pipelines/{pipeline}/review-apps/{review}/remove", &[],        "ConfirmPage"),
    post("review.remove",   "/dashboard/pipelines/{pipeline}/review-apps/{review}/remove", &[],         "303 pipeline"),
    post("review.retry",    "/dashboard/pipelines/{pipeline}/review-apps/{review}/retry", &[],          "303 pipeline"),
    // `commit` is what was looked at: another one that is there by now is not allowed.
    get("fork.ask",         "/dashboard/pipelines/{pipeline}/pull-requests/{number}/allow", &[],        "ConfirmPage"),
    post("fork.allow",      "/dashboard/pipelines/{pipeline}/pull-requests/{number}/allow", &["commit"], "303 pipeline"),
    get("product",          "/dashboard/products/{product}",                    &["q?", "all?"],        "BoardPage"),
    get("product.events",   "/dashboard/products/{product}/events",             &[],                    "events: changed"),
    // `seen` is what was looked at, `app=digest` and a space between two: when it would be anything else by now, nothing is.
    get("together.ask",     "/dashboard/products/{product}/promote",            &["from", "to"],        "ConfirmPage"),
    post("together",        "/dashboard/products/{product}/promote",            &["from", "to", "seen", "reason?"], "303 operation"),
    get("activity",         "/dashboard/activity",                              &["before?"],           "ActivityPage without app"),
    get("app.activity",     "/dashboard/apps/{app}/activity",                   &["before?"],           "ActivityPage"),
    get("operations",       "/dashboard/operations",                            &["app?", "before?"],   "OperationsPage"),
    get("operations.events", "/dashboard/operations/events",                    &[],                    "events: changed"),
    get("operation",        "/dashboard/operations/{operation}",                &[],                    "OperationPage"),
    get("cancel.ask",       "/dashboard/operations/{operation}/cancel",         &[],                    "ConfirmPage"),
    post("cancel",          "/dashboard/operations/{operation}/cancel",         &[],                    "303 operation"),
    post("retry",           "/dashboard/operations/{operation}/retry",          &[],                    "303 operation, the new one"),
];

/// Forms of the page Deploys that send to addresses beside it, not below.
const OF_DEPLOYS: [&str; 4] = ["trigger.add", "trigger.remove", "reserve", "unreserve"];

/// The page of a form that is sent to `path`, where nothing else answers: what is above it, mostly.
///
/// ```
/// let page = shipway_dashboard::page_of_form("/dashboard/apps/shop/config/reveal");
/// assert_eq!(page.as_deref(), Some("/dashboard/apps/shop/config"));
/// ```
pub fn page_of_form(path: &str) -> Option<String> {
    let is_of = |route: &Route, path: &str| {
        let (pattern, segments): (Vec<_>, Vec<_>) = (route.path.split('/').collect(), path.split('/').collect());
        let same = |(pattern, segment): (&&str, &&str)| pattern == segment || pattern.starts_with('{');
        pattern.len() == segments.len() && pattern.iter().zip(&segments).all(same)
    };
    let form = ROUTES.iter().find(|route| route.method == Method::Post && is_of(route, path))?;
    if OF_DEPLOYS.contains(&form.name) {
        let app: Vec<&str> = path.split('/').take(4).collect();
        return Some(format!("{}/deploys", app.join("/")));
    }
    let above = std::iter::successors(path.rsplit_once('/'), |(above, _)| above.rsplit_once('/'));
    let is_page = |above: &&str| ROUTES.iter().any(|route| route.method == Method::Get && is_of(route, above));
    above.map(|(above, _)| above).find(is_page).map(String::from)
}

/// The path of route `name` with its parameters filled in, in order, each percent-encoded as one segment.
///
/// ```
/// assert_eq!(shipway_dashboard::path("release", &["shop", "v64"]), "/dashboard/apps/shop/releases/v64");
/// ```
///
/// Panics when the route does not exist or takes another number of parameters: both are mistakes in our own text.
pub fn path(name: &str, parameters: &[&str]) -> String {
    let route = ROUTES.iter().find(|r| r.name == name).unwrap_or_else(|| panic!("no route is called `{name}`"));
    let mut out = String::new();
    let mut given = parameters.iter();
    for segment in route.path.split('/').skip(1) {
        out.push('/');
        if segment.starts_with('{') {
            let value = given.next().unwrap_or_else(|| panic!("route `{name}` takes more parameters"));
            crate::text::push_segment(&mut out, value);
        } else {
            out.push_str(segment);
        }
    }
    assert!(given.next().is_none(), "route `{name}` takes fewer parameters");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_paths_do_not_clash() {
        for (i, a) in ROUTES.iter().enumerate() {
            for b in &ROUTES[i + 1..] {
                assert_ne!(a.name, b.name);
                assert!(a.path != b.path || a.method != b.method, "{} and {}", a.name, b.name);
            }
        }
    }

    #[test]
    fn every_form_stands_on_a_page() {
        let given = |path: &str| path.replace("{app}", "shop").replace("{pipeline}", "acorn");
        for form in ROUTES.iter().filter(|route| route.method == Method::Post) {
            let page = page_of_form(&given(form.path)).unwrap_or_else(|| panic!("{} stands nowhere", form.path));
            assert!(page.starts_with("/dashboard") && page.len() < given(form.path).len() + 2, "{}: {page}", form.path);
        }
        let check = |path: &str, page: Option<&str>| assert_eq!(page_of_form(path).as_deref(), page, "{path}");
        check("/dashboard/apps/shop/triggers", Some("/dashboard/apps/shop/deploys"));
        check("/dashboard/apps/shop/triggers/7/remove", Some("/dashboard/apps/shop/deploys"));
        check("/dashboard/apps/shop/access/remove", Some("/dashboard/apps/shop/access"));
        check("/dashboard/apps/shop/notices/read", Some("/dashboard/apps/shop"));
        check("/dashboard/pipelines/acorn/stages/production/sign-offs", Some("/dashboard/pipelines/acorn"));
        check("/dashboard/operations/7/retry", Some("/dashboard/operations/7"));
        check("/dashboard/sign-out", Some("/dashboard"));
        check("/dashboard/apps/shop/releases", None);
    }

    #[test]
    fn a_hostile_name_stays_one_segment() {
        assert_eq!(path("app", &["../../x?y#z"]), "/dashboard/apps/..%2F..%2Fx%3Fy%23z");
        assert_eq!(path("app", &[".."]), "/dashboard/apps/%2E%2E");
        assert_eq!(path("app", &[""]), "/dashboard/apps/-");
    }
}
