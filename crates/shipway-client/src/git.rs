//! The git remotes of the checkout we stand in, and where they lead.

use crate::address::ServerUrl;
use crate::environment::Environment;
use crate::error::{Error, Result};
use std::process::Command;

/// One remote's address as it is written down, before git rewrites it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    /// Its name, such as `heroku` or `origin`.
    pub name: String,
    /// Its address.
    pub url: String,
}

/// Where an address leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leads {
    /// To this app of the server in question.
    Here(String),
    /// To the real Heroku.
    RealHeroku,
    /// Somewhere else.
    Elsewhere,
}

/// The remotes of the checkout at the current directory; none outside of one, or where there is no git.
pub fn remotes() -> Vec<Remote> {
    let output =
        Command::new("git").args(["config", "--null", "--get-regexp", r"^remote\..*\.(url|pushurl)$"]).output();
    output.map(|o| parse(&String::from_utf8_lossy(&o.stdout))).unwrap_or_default()
}

/// The whole id of the commit that the checkout at the current directory calls `name`; none where it knows none, or where
/// there is no git.
pub fn commit(name: &str) -> Option<String> {
    // What begins so would be an option of git's.
    if name.starts_with('-') {
        return None;
    }
    let output =
        Command::new("git").args(["rev-parse", "--verify", "--quiet", &format!("{name}^{{commit}}")]).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Reads `git config --null --get-regexp`: entries end in NUL, the key ends at the first line feed.
fn parse(listing: &str) -> Vec<Remote> {
    let mut remotes = Vec::new();
    for entry in listing.split('\0') {
        let Some((key, url)) = entry.split_once('\n') else { continue };
        let name =
            key.strip_prefix("remote.").and_then(|k| k.strip_suffix(".pushurl").or_else(|| k.strip_suffix(".url")));
        if let Some(name) = name {
            remotes.push(Remote { name: name.to_owned(), url: url.to_owned() });
        }
    }
    remotes
}

/// Says where `url` leads, seen from `server`.
pub fn leads(url: &str, server: &ServerUrl) -> Leads {
    for prefix in [format!("{}/", server.https()), format!("{server}/")] {
        if let Some(app) = url.strip_prefix(&prefix).map(|rest| rest.strip_suffix(".git").unwrap_or(rest))
            && !app.is_empty()
            && !app.contains('/')
        {
            return Leads::Here(app.to_owned());
        }
    }
    let real = ["https://git.heroku.com/", "git@heroku.com:", "ssh://git@heroku.com/", "https://git.herokuapp.com/"];
    let without_user = url.split_once("://").and_then(|(scheme, rest)| {
        let (user, rest) = rest.split_once('@')?;
        (!user.contains('/')).then(|| format!("{scheme}://{rest}"))
    });
    let is_real = |url: &str| real.iter().any(|prefix| url.starts_with(prefix));
    if is_real(url) || without_user.is_some_and(|url| is_real(&url)) { Leads::RealHeroku } else { Leads::Elsewhere }
}

/// Where the remotes lead that look as if they meant an app and lead to none here, in words; none where there is no such one.
/// `wanted`: the one that was named. Of the others, those to the real Heroku and the one that the CLI calls `heroku` do.
pub fn passed_over(wanted: Option<&str>, server: &ServerUrl, remotes: &[Remote]) -> Option<String> {
    let mut found: Vec<(&str, &str)> = Vec::new();
    for remote in remotes.iter().filter(|r| wanted.is_none_or(|wanted| wanted == r.name)) {
        let means_an_app = match leads(&remote.url, server) {
            Leads::Here(_) => false,
            Leads::RealHeroku => true,
            Leads::Elsewhere => wanted.is_some() || remote.name == "heroku",
        };
        if means_an_app && !found.iter().any(|(name, _)| *name == remote.name) {
            found.push((&remote.name, host(&remote.url)));
        }
    }
    match found.as_slice() {
        [] => None,
        [(name, host)] => Some(format!("the git remote {name} leads to {host} and was not used")),
        several => {
            let list: Vec<String> = several.iter().map(|(name, host)| format!("{name} ({host})")).collect();
            Some(format!("the git remotes {} lead elsewhere and were not used", list.join(", ")))
        }
    }
}

/// The host of an address as git reads it, with its port and without a user; of a path, the path.
fn host(url: &str) -> &str {
    let authority = match url.split_once("://") {
        Some((_, rest)) => rest.split('/').next().unwrap_or(rest),
        None => match url.split_once(':') {
            Some((host, _)) if !host.contains('/') => host,
            _ => return url,
        },
    };
    authority.rsplit_once('@').map_or(authority, |(_, host)| host)
}

/// The app that is meant: the one named, `HEROKU_APP`, or the one app that the checkout's remotes lead to.
///
/// Errors: none named and the remotes lead to no app here, or to several.
pub fn app(
    named: Option<&str>,
    remote: Option<&str>,
    environment: &Environment,
    server: &ServerUrl,
    remotes: &[Remote],
) -> Result<String> {
    if let Some(app) = named.or_else(|| environment.filled("HEROKU_APP").filter(|_| remote.is_none())) {
        return Ok(app.to_owned());
    }
    let mut found: Vec<(String, &str)> = Vec::new();
    for candidate in remotes.iter().filter(|r| remote.is_none_or(|wanted| wanted == r.name)) {
        if let Leads::Here(app) = leads(&candidate.url, server)
            && !found.iter().any(|(known, _)| *known == app)
        {
            found.push((app, &candidate.name));
        }
    }
    match found.as_slice() {
        [(app, _)] => Ok(app.clone()),
        [] => {
            let error = Error::new(format!("no app was named, and no git remote here leads to {server}"));
            let error = match passed_over(remote, server, remotes) {
                Some(words) => error.hint(words),
                None => error,
            };
            Err(error.hint("name it with --app NAME, or add a remote: shipway heroku git:remote --app NAME"))
        }
        several => {
            let list: Vec<String> = several.iter().map(|(app, remote)| format!("{app} ({remote})")).collect();
            Err(Error::new(format!("the git remotes here lead to several apps: {}", list.join(", ")))
                .hint("name one with --app NAME"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn here() -> ServerUrl {
        "http://127.0.0.1:5000".parse().unwrap()
    }

    #[test]
    fn addresses_lead_where_git_would_go() {
        let check = |url: &str, expected: Leads| assert_eq!(leads(url, &here()), expected, "{url}");
        check("https://127.0.0.1:5000/shop.git", Leads::Here("shop".into()));
        check("http://127.0.0.1:5000/shop", Leads::Here("shop".into()));
        check("https://127.0.0.1:50001/shop.git", Leads::Elsewhere);
        check("https://git.heroku.com/shop.git", Leads::RealHeroku);
        check("https://heroku@git.heroku.com/shop.git", Leads::RealHeroku);
        check("git@heroku.com:shop.git", Leads::RealHeroku);
        check("git@github.com:me/shop.git", Leads::Elsewhere);
        check("/srv/git.heroku.com/shop.git", Leads::Elsewhere);
    }

    #[test]
    fn the_app_is_inferred_only_when_it_is_the_only_one() {
        let remote = |name: &str, url: &str| Remote { name: name.into(), url: url.into() };
        let both = [
            remote("origin", "git@github.com:me/shop.git"),
            remote("heroku", "https://127.0.0.1:5000/shop.git"),
            remote("staging", "https://127.0.0.1:5000/shop-staging.git"),
        ];
        let none = Environment::default();
        let get = |named, wanted, env: &Environment, remotes: &[Remote]| app(named, wanted, env, &here(), remotes).ok();
        assert_eq!(get(None, None, &none, &both[..2]).as_deref(), Some("shop"));
        assert_eq!(get(None, None, &none, &both), None);
        assert_eq!(get(None, Some("staging"), &none, &both).as_deref(), Some("shop-staging"));
        assert_eq!(get(None, None, &none, &both[..1]), None);
        let variable = Environment::from_iter([("HEROKU_APP", "other")]);
        assert_eq!(get(None, None, &variable, &both).as_deref(), Some("other"));
        assert_eq!(get(Some("named"), None, &variable, &both).as_deref(), Some("named"));
    }

    #[test]
    fn a_remote_that_leads_elsewhere_is_told_where_it_seems_to_mean_an_app() {
        let remote = |name: &str, url: &str| Remote { name: name.into(), url: url.into() };
        let check = |remotes: &[Remote], wanted: Option<&str>, expected: Option<&str>| {
            assert_eq!(passed_over(wanted, &here(), remotes).as_deref(), expected, "{remotes:?}");
        };
        let (real, origin) =
            ("https://me:secret@git.heroku.com/shop.git", remote("origin", "git@github.com:me/shop.git"));
        let one = "the git remote heroku leads to git.heroku.com and was not used";
        check(&[origin.clone(), remote("heroku", real), remote("heroku", real)], None, Some(one));
        check(&[origin.clone(), remote("heroku", "https://127.0.0.1:5000/shop.git")], None, None);
        let other = "the git remote heroku leads to paas.example.org:5000 and was not used";
        check(&[remote("heroku", "https://paas.example.org:5000/shop.git")], None, Some(other));
        check(
            std::slice::from_ref(&origin),
            Some("origin"),
            Some("the git remote origin leads to github.com and was not used"),
        );
        let both = "the git remotes heroku (/srv/shop.git), live (heroku.com) lead elsewhere and were not used";
        check(&[remote("heroku", "/srv/shop.git"), remote("live", "git@heroku.com:shop.git")], None, Some(both));
    }

    #[test]
    fn odd_names_of_remotes_are_read_whole() {
        let listing = "remote.a.b.url\nhttps://x/y\nz\0remote.up.pushurl\ngit@heroku.com:s.git\0";
        let expected = [("a.b", "https://x/y\nz"), ("up", "git@heroku.com:s.git")];
        let expected = expected.map(|(n, u)| Remote { name: n.into(), url: u.into() });
        assert_eq!(parse(listing), expected);
    }
}
