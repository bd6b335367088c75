//! The pages that visitors see when the app does not answer: one small document, no request besides it.

use crate::fault::{Cause, Fault};
use bytes::Bytes;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Response, StatusCode};

/// What a page says.
struct Words<'a> {
    title: &'a str,
    text: String,
    next: String,
    commands: Vec<String>,
}

/// A page for `fault` of the app `name`, as HTML or, for clients that do not ask for it, as plain text.
pub fn fault_page(fault: Fault, name: &str, request: &HeaderMap) -> Response<Bytes> {
    let app = if name.is_empty() { String::new() } else { format!(" -a {name}") };
    let logs = || vec![format!("heroku logs --tail{app}")];
    let owner = |next: &str| format!("If this is your app, {next}");
    let words = match fault {
        Fault::H80 => Words {
            title: "Back soon",
            text: "This app is being worked on. Nothing is lost; try again in a few minutes.".into(),
            next: owner("end the maintenance when you are ready:"),
            commands: vec![format!("heroku maintenance:off{app}")],
        },
        Fault::H81 => Words {
            title: "Nothing here yet",
            text: "This app was created and waits for its first deploy.".into(),
            next: owner("push it from your checkout:"),
            commands: vec![format!("heroku git:remote{app}"), "git push heroku main".into()],
        },
        Fault::H14 => Words {
            title: "No web process is running",
            text: "This app is deployed, but none of its web dynos is running.".into(),
            next: owner("start one. If nothing starts, its Procfile has no line that begins with \"web:\"."),
            commands: vec![format!("heroku ps:scale web=1{app}")],
        },
        Fault::H10 => Words {
            title: "The app has crashed",
            text: "Its processes ended and are being started again, with growing pauses.".into(),
            next: owner("its log says why:"),
            commands: logs(),
        },
        Fault::H20 => Words {
            title: "The app did not start in time",
            text: "Its process was started and did not begin to listen within 75 seconds.".into(),
            next: owner("its log says what it was doing:"),
            commands: logs(),
        },
        Fault::H12 => Words {
            title: "The app took too long",
            text:
                "It was asked and had not begun to answer after 30 seconds. The request may still have had an effect."
                    .into(),
            next: owner("its log shows the request; long work belongs into a worker:"),
            commands: logs(),
        },
        Fault::H11 => Words {
            title: "Too many visitors at once",
            text: "More requests are waiting for this app than it may hold. Try again in a moment.".into(),
            next: owner("add dynos:"),
            commands: vec![format!("heroku ps:scale web=+1{app}")],
        },
        Fault::H13 | Fault::H18 => Words {
            title: "The app broke off",
            text: "It closed the connection before its answer was complete. The request may have had an effect.".into(),
            next: owner("its log shows what happened then:"),
            commands: logs(),
        },
        Fault::H17 => Words {
            title: "The app's answer made no sense",
            text: "It answered with something that is not HTTP.".into(),
            next: owner("check that the web process speaks HTTP on $PORT:"),
            commands: logs(),
        },
        Fault::H19 | Fault::H21 => Words {
            title: "The app is out of reach",
            text: "Its processes do not take connections at the moment.".into(),
            next: owner("its log says whether they are running:"),
            commands: vec![format!("heroku ps{app}")],
        },
        Fault::H26(Cause::Chunk) => Words {
            title: "The request made no sense",
            text: "Its body comes in chunks, and one of them cannot be read.".into(),
            next: "Send it as HTTP has it, or with its Content-Length.".into(),
            commands: Vec::new(),
        },
        Fault::H26(Cause::Expectation) => Words {
            title: "An expectation that cannot be met",
            text: "The request's Expect header asks for something other than 100-continue.".into(),
            next: "Leave the header out and send the request again.".into(),
            commands: Vec::new(),
        },
        Fault::H28 => Words {
            title: "The request did not arrive",
            text: "No more of it came for 55 seconds.".into(),
            next: "Check the connection and send it again.".into(),
            commands: Vec::new(),
        },
        Fault::H15 | Fault::H27 | Fault::H99 => Words {
            title: "That did not work",
            text: "The platform could not pass the request on.".into(),
            next: "Try again; if it stays, tell whoever runs this platform the code below.".into(),
            commands: Vec::new(),
        },
    };
    render(fault.status(), fault.words().0, &words, request)
}

/// Nobody has this host.
pub fn no_such_app(host: &str, request: &HeaderMap) -> Response<Bytes> {
    let shown = if host.is_empty() { "This address".to_string() } else { host.chars().take(100).collect() };
    let words = Words {
        title: "No such app",
        text: format!("{shown} is not the address of an app on this platform."),
        next: "If it is your domain, add it to the app that it belongs to:".into(),
        commands: vec!["heroku domains:add DOMAIN -a APP".into(), "heroku apps".into()],
    };
    render(StatusCode::NOT_FOUND, "404", &words, request)
}

/// A request to an app that asks its visitors for a password.
pub fn locked(app: &str, request: &HeaderMap) -> Response<Bytes> {
    let words = Words {
        title: "A password is needed",
        text: format!("{app} is a review app that its team shares with a password."),
        next: "The user name is: review".into(),
        commands: Vec::new(),
    };
    let mut response = render(StatusCode::UNAUTHORIZED, "401", &words, request);
    let ask = HeaderValue::from_static("Basic realm=\"Review app\", charset=\"UTF-8\"");
    response.headers_mut().insert(WWW_AUTHENTICATE, ask);
    response
}

/// A request that is not passed on because of what it is.
pub fn refused(status: StatusCode, text: &str, next: &str, request: &HeaderMap) -> Response<Bytes> {
    let title = status.canonical_reason().unwrap_or("Refused");
    let words = Words { title, text: text.into(), next: next.into(), commands: Vec::new() };
    render(status, status.as_str(), &words, request)
}

fn render(status: StatusCode, code: &str, words: &Words<'_>, request: &HeaderMap) -> Response<Bytes> {
    let wants_html =
        request.get_all(ACCEPT).iter().any(|accept| accept.as_bytes().windows(9).any(|w| w == b"text/html"));
    let (content_type, body) = if wants_html {
        ("text/html; charset=utf-8", html(code, words))
    } else {
        ("text/plain; charset=utf-8", plain(code, words))
    };
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, no-store"));
    headers
        .insert("content-security-policy", HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'"));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(RETRY_AFTER, HeaderValue::from_static("5"));
    }
    response
}

fn plain(code: &str, words: &Words<'_>) -> String {
    let mut text = format!("{} ({code})\n\n{}\n{}\n", words.title, words.text, words.next);
    for command in &words.commands {
        text += &format!("\n    {command}");
    }
    if !words.commands.is_empty() {
        text.push('\n');
    }
    text
}

fn html(code: &str, words: &Words<'_>) -> String {
    let commands: Vec<String> = words.commands.iter().map(|command| escape(command)).collect();
    let commands = if commands.is_empty() {
        String::new()
    } else {
        format!("<pre tabindex=\"0\">{}</pre>\n", commands.join("\n"))
    };
    include_str!("page.html")
        .replace("{code}", &escape(code))
        .replace("{title}", &escape(words.title))
        .replace("{commands}", &commands)
        .replace("{next}", &escape(&words.next))
        .replace("{text}", &escape(&words.text))
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            // A host with braces must not name one of our placeholders.
            '{' => out.push_str("&#123;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(response: &Response<Bytes>, status: u16, words: &[&str]) {
        let text = std::str::from_utf8(response.body()).unwrap();
        assert_eq!(response.status(), status);
        for word in words {
            assert!(text.contains(word), "{word:?} is missing in:\n{text}");
        }
    }

    #[test]
    fn pages_say_the_code_and_the_next_step() {
        let mut browser = HeaderMap::new();
        browser.insert(ACCEPT, HeaderValue::from_static("text/html,application/xhtml+xml"));
        let page = fault_page(Fault::H14, "quiet-river-1", &browser);
        check(&page, 503, &["<!doctype html>", "H14", "heroku ps:scale web=1 -a quiet-river-1"]);
        assert!(page.body().len() < 4096);
        check(&fault_page(Fault::H81, "quiet-river-1", &HeaderMap::new()), 502, &["(H81)", "git push heroku main"]);
    }

    #[test]
    fn attack_43_hosts_cannot_write_into_the_page() {
        let mut browser = HeaderMap::new();
        browser.insert(ACCEPT, HeaderValue::from_static("text/html"));
        let page = no_such_app("<script>\"{commands}", &browser);
        check(&page, 404, &["&lt;script&gt;", "&#123;commands}"]);
    }
}
