//! Every page is made, is small, is whole, and lets nothing through.

mod fixtures;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use shipway_dashboard::{ROUTES, asset};

/// `bin/test` runs this; `SHIPWAY_TEST_PAGES` names `tests/pages`, with its modules installed.
#[test]
#[ignore = "needs Chromium: bin/test"]
fn every_page_holds_in_a_real_browser() {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pages");
    // Pages that there are no more would be looked at as well.
    if directory.exists() {
        std::fs::remove_dir_all(&directory).unwrap();
    }
    fixtures::write(&directory).unwrap();
    let scripts = std::env::var_os("SHIPWAY_TEST_PAGES").expect("SHIPWAY_TEST_PAGES names tests/pages");
    let ended = Command::new("node").current_dir(scripts).arg("axe.mjs").arg(&directory).output().unwrap();
    let [said, complaints] = [&ended.stdout, &ended.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
    assert!(ended.status.success(), "{said}{complaints}");
}

const MAX_PAGE_BYTES: usize = 60 * 1024;

fn pages() -> Vec<(&'static str, String)> {
    fixtures::all(&str::to_owned)
}

/// Values of all attributes called `name`.
fn attributes<'a>(html: &'a str, name: &str) -> Vec<&'a str> {
    let start = format!(" {name}=\"");
    html.split(&start).skip(1).filter_map(|rest| rest.split('"').next()).collect()
}

#[test]
fn a_page_with_its_stylesheet_and_script_is_at_most_60_kib() {
    for (name, html) in pages() {
        let assets: usize = [attributes(&html, "href"), attributes(&html, "src")]
            .concat()
            .iter()
            .filter_map(|p| p.strip_prefix("/dashboard/assets/"))
            .map(|file| asset(file).unwrap_or_else(|| panic!("{name}: no asset {file}")).body.len())
            .sum();
        assert!(assets > 10_000, "{name} lacks its assets");
        let total = html.len() + assets;
        assert!(total <= MAX_PAGE_BYTES, "{name} takes {total} bytes");
    }
}

#[test]
fn every_local_link_and_form_leads_to_a_route() {
    fn leads_somewhere(path: &str) -> bool {
        let path = path.split(['?', '#']).next().unwrap_or_default();
        ROUTES.iter().any(|route| {
            let (a, b): (Vec<_>, Vec<_>) = (route.path.split('/').collect(), path.split('/').collect());
            a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| a == b || (a.starts_with('{') && !b.is_empty()))
        })
    }
    for (name, html) in pages() {
        for kind in ["href", "action", "src", "data-events", "data-log", "data-text"] {
            for link in attributes(&html, kind) {
                let link = link.replace("&amp;", "&");
                let fine = link == "#main" || link.starts_with("https://") || leads_somewhere(&link);
                assert!(fine, "{name}: {kind}={link}");
            }
        }
    }
}

#[test]
fn every_post_form_carries_the_token() {
    for (name, html) in pages() {
        for form in html.split("<form").skip(1) {
            let form = form.split("</form>").next().unwrap_or_default();
            if form.contains("method=\"post\"") {
                assert!(form.contains("name=\"csrf\" value=\"c2Vzc2lvbg\""), "{name}: {form}");
            }
        }
    }
}

#[test]
fn ids_are_unique_and_labels_name_them() {
    for (name, html) in pages() {
        let ids = attributes(&html, "id");
        let set: BTreeSet<_> = ids.iter().collect();
        assert_eq!(ids.len(), set.len(), "{name}: {ids:?}");
        for kind in ["for", "aria-labelledby", "aria-describedby"] {
            for id in attributes(&html, kind) {
                assert!(set.contains(&id), "{name}: {kind}={id}");
            }
        }
        assert_eq!(html.matches("<h1").count(), 1, "{name}");
    }
}

/// Takes a page apart the way a browser does, as far as this is needed: the tags with their attributes, and the text.
fn tags(html: &str) -> Vec<String> {
    let mut tags = Vec::new();
    let mut rest = html;
    while let Some(start) = rest.find('<') {
        let mut quote = None;
        let end = rest[start..]
            .find(|c| match (quote, c) {
                (None, '>') => true,
                (None, '"' | '\'') => {
                    quote = Some(c);
                    false
                }
                (Some(q), c) if q == c => {
                    quote = None;
                    false
                }
                _ => false,
            })
            .expect("every tag ends");
        tags.push(rest[start..start + end].to_owned());
        rest = &rest[start + end + 1..];
    }
    tags
}

#[test]
fn attack_43_no_text_breaks_out_of_its_place() {
    let corpus = [
        "<script>alert(1)</script>",
        "\"><img src=x onerror=alert(1)>",
        "' onmouseover='alert(1)",
        "\" autofocus onfocus=\"alert(1)",
        "</title></textarea></pre></style><svg/onload=alert(1)>",
        "<!--<script>",
        "]]><a href=javascript:alert(1)>",
        "javascript:alert(1)",
        "data:text/html,<script>alert(1)</script>",
        "{{ 7 * 7 }}{% include 'base.html' %}${7*7}",
        "&lt;script&gt;&#x3c;script&#x3e;",
        "\u{1b}]8;;javascript:alert(1)\u{1b}\\click\u{1b}]8;;\u{1b}\\",
        "\u{1b}[2J\u{1b}[31mred\r\nover\rwritten",
        "\u{202e}gpj.exe\u{0}\u{200b}",
        "<a-very-long-name-made-of-markup onclick=\"alert(1)\">of more than twenty-eight characters</a>",
        "../../../etc/passwd",
        "%2e%2e/%00",
    ];
    // Only the shape is compared: names of elements and of attributes. An attack may add none of either, nor turn a link
    // into something that runs. Names that are long or empty change nothing else.
    for attack in corpus {
        for (name, html) in fixtures::all(&|_| attack.to_owned()) {
            // What is edited in a form comes back as it was; everything else is made inert.
            let exact = name.starts_with("config") || name.starts_with("rollback");
            assert!(exact || !html.contains(['\u{1b}', '\0', '\u{202e}']), "{name}: {attack:?}");
            assert!(!html.contains("49$"), "{name}: a template ran {attack:?}");
            for tag in tags(&html) {
                let lower = tag.to_lowercase();
                let element: String =
                    lower[1..].chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '/' || *c == '!').collect();
                let known = [
                    "!doctype", "html", "head", "meta", "title", "link", "script", "body", "a", "header", "span",
                    "nav", "form", "article", "input", "button", "main", "p", "div", "h1", "h2", "h3", "section", "ul",
                    "ol", "li", "dl", "dt", "dd", "table", "thead", "tbody", "tr", "th", "td", "pre", "code", "b", "i",
                    "time", "label", "select", "option", "textarea", "br",
                ];
                assert!(known.contains(&element.trim_start_matches('/')), "{name}: {attack:?} made {tag}");
                if element == "script" {
                    assert!(lower.starts_with("<script src=\"/dashboard/assets/script-"), "{name}: {tag}");
                }
                let outside_quotes: String = tag.split('"').step_by(2).collect();
                assert!(!outside_quotes.to_lowercase().contains(" on"), "{name}: {attack:?} made {tag}");
            }
            for kind in ["href", "action", "src", "data-log", "data-text", "data-events"] {
                for link in attributes(&html, kind) {
                    let fine = link.starts_with('#')
                        || link.starts_with('/') && !link.starts_with("//")
                        || link.starts_with("http");
                    assert!(fine, "{name}: {attack:?} made {kind}={link}");
                }
            }
        }
    }
}

#[test]
fn a_value_comes_back_from_its_form_as_it_was() {
    use shipway_dashboard::model::Shown;
    let strange = "\n  first line is empty\u{1b}[0m \u{202e}";
    let shown = fixtures::all(&|_| strange.to_owned()).into_iter().find(|(n, _)| *n == "config-revealed").unwrap().1;
    // The line feed after the tag is the one that HTML drops.
    assert!(shown.contains("autocomplete=\"off\">\n\n  first line is empty\u{1b}[0m \u{202e}</textarea>"), "{shown}");
    assert_eq!(shipway_dashboard::form_text("a\r\nb\rc"), "a\nb\rc");
    assert!(matches!(Shown::of(&"x".repeat(401), false), Shown::Start(s) if s.len() == 400));
    assert!(matches!(Shown::of(&"ü".repeat(300), false), Shown::Start(s) if s.len() == 400));
    assert!(matches!(Shown::of(&"x".repeat(401), true), Shown::Whole(s) if s.len() == 401));
}

#[test]
fn a_failure_says_what_where_the_last_three_lines_and_what_next() {
    let html = pages().into_iter().find(|(n, _)| *n == "overview-failed").unwrap().1;
    let start = html.find("<section class=\"failure\"").unwrap();
    let end = start + html[start..].find("</section>").unwrap();
    insta::assert_snapshot!(&html[start..end], @r#"
    <section class="failure" aria-label="What failed">
      <h2><span class="sign" aria-hidden="true">▲</span> v65 failed; v64 still serves.</h2>
      <p><b>Release phase:</b> `python manage.py migrate` exited with status 1</p>
    <pre>django.db.utils.OperationalError: could not connect
      Is the server running on that host?
    exit status 1
    </pre>
      <p>Set DATABASE_URL and push again. <a href="/dashboard/apps/shop/releases/v65">Whole output</a></p>
      <form method="post" action="/dashboard/operations/0193a5/retry"><input type="hidden" name="csrf" value="c2Vzc2lvbg"><div class="row"><button>Retry<span class="unseen">: v65 failed; v64 still serves.</span></button></div></form>
    "#);
}

#[test]
fn hidden_values_are_not_in_the_page() {
    let html = pages().into_iter().find(|(n, _)| *n == "config").unwrap().1;
    assert!(html.contains("DATABASE_URL") && !html.contains("s3cr3t") && !html.contains("BEGIN KEY"));
}

#[test]
fn apps_of_a_stage_on_one_commit_share_what_is_said_of_it() {
    let html = pages().into_iter().find(|(n, _)| *n == "board-many").unwrap().1;
    let staging =
        html.split_once("aria-label=\"staging\"").unwrap().1.split_once("aria-label=\"production\"").unwrap().0;
    assert_eq!(staging.matches("<article").count(), 5);
    assert_eq!(staging.matches("No changes to promote").count(), 1, "{staging}");
    assert_eq!(staging.matches(">3f9c2a1</code>").count(), 1, "{staging}");
    assert!(staging.contains("· 2 apps"), "{staging}");
    assert_eq!(staging.matches("Promote to production…").count(), 3, "{staging}");
}
