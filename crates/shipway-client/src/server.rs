//! Which server, and who we are there.

use crate::address::ServerUrl;
use crate::config::ConfigDir;
use crate::environment::Environment;
use crate::error::{Error, Result};
use crate::http::{Client, Network, Proxy, Route};
use crate::shell::Shell;
use crate::trust;
use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::path::{Path, PathBuf};

/// The data directory of a server that was started as root.
pub const SYSTEM_HOME: &str = "/var/lib/shipway";

/// The flags that say which server is meant; they stand before the command.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Place {
    /// A server elsewhere, such as https://paas.example.org (log in once with `shipway login`)
    #[arg(long, global = true, env = filled("SHIPWAY_SERVER"), value_name = "URL")]
    pub server: Option<ServerUrl>,
    /// The data directory of the server on this machine
    #[arg(long, global = true, env = filled("SHIPWAY_HOME"), value_name = "DIR")]
    pub home: Option<PathBuf>,
}

/// The name of a variable, unless it is set to nothing: then it counts as not set.
fn filled(name: &'static str) -> Option<&'static str> {
    std::env::var_os(name).is_none_or(|value| !value.is_empty()).then_some(name)
}

impl Place {
    /// What the variables alone say.
    fn of(environment: &Environment) -> Self {
        let server = environment.filled("SHIPWAY_SERVER").and_then(|url| url.parse().ok());
        Self { server, home: environment.filled("SHIPWAY_HOME").map(PathBuf::from) }
    }
}

/// A server that was chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Server {
    /// On this machine, by its data directory.
    Local(PathBuf),
    /// Elsewhere, by its address.
    Remote(ServerUrl),
}

/// Who we are at a server, and how to get there. The token is a secret.
#[derive(Clone)]
pub struct Account {
    /// The server.
    pub server: Server,
    /// Its address for other programs.
    pub url: ServerUrl,
    /// Sent as `Bearer` to the API and as the password to git.
    pub token: String,
    /// The user's address.
    pub email: String,
    /// The server's own authority as PEM; `None` when its certificate is publicly trusted.
    pub authority: Option<String>,
    /// How this crate itself reaches it.
    pub route: Route,
}

/// What the server answers to `POST /shipway/v1/session`, and what is kept of it.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
struct Session {
    token: String,
    email: String,
    url: String,
    /// The server's own authority, PEM.
    #[serde(default)]
    ca: Option<String>,
    /// The data directory or address this is the session of.
    #[serde(default)]
    of: String,
}

impl Server {
    /// The server that flags, variables and what is on this machine lead to, in this order: `--server`, `--home`, the server of
    /// this user, the server of this machine, the one server that was logged in to.
    pub fn choose(place: &Place, environment: &Environment, config: &ConfigDir) -> Result<Self> {
        if let Some(url) = &place.server {
            return Ok(Self::Remote(url.clone()));
        }
        if let Some(home) = &place.home {
            return Ok(Self::Local(absolute(home)?));
        }
        let homes = [user_home(environment), Some(PathBuf::from(SYSTEM_HOME))];
        if let Some(home) = homes.into_iter().flatten().find(|home| socket(home).exists()) {
            return Ok(Self::Local(home));
        }
        match config.names("servers").as_slice() {
            [] => Err(Error::new("no Shipway server was found on this machine")
                .hint("name the data directory of one that is not at its usual place: --home DIR, or SHIPWAY_HOME")
                .hint("start one with `bin/up`, or log in to another with `shipway login --server https://...`")),
            [one] => {
                let session = read_session(config, &format!("servers/{one}"))?;
                let url = session.and_then(|s| s.url.parse().ok());
                url.map(Self::Remote)
                    .ok_or_else(|| Error::new(format!("the stored login {one} cannot be read")).hint("log in again"))
            }
            several => Err(Error::new("you are logged in to several servers")
                .hint(format!("name one with --server or SHIPWAY_SERVER: {}", several.join(", ")))),
        }
    }

    /// `shipway` as it is typed in this shell to get to this server: with the flag that says which, where nothing else does.
    pub fn program(&self, environment: &Environment, config: &ConfigDir) -> String {
        match self {
            _ if Self::choose(&Place::of(environment), environment, config).is_ok_and(|found| found == *self) => {
                "shipway".to_owned()
            }
            Self::Local(home) => format!("shipway --home {}", Shell::Sh.word(&home.to_string_lossy())),
            Self::Remote(url) => format!("shipway --server {url}"),
        }
    }

    /// Signs in: with the stored session while it is valid, else with a new one (local), or not at all (remote).
    pub async fn account(&self, environment: &Environment, config: &ConfigDir) -> Result<Account> {
        match self {
            Self::Local(home) => self.local_account(home, config).await,
            Self::Remote(url) => {
                let session = read_session(config, &remote_file(url))?.ok_or_else(|| {
                    Error::new(format!("you are not logged in to {url}")).hint(format!("shipway login --server {url}"))
                })?;
                let route = network(url, session.ca.as_deref(), environment)?;
                Ok(Account {
                    server: self.clone(),
                    url: url.clone(),
                    token: session.token,
                    email: session.email,
                    authority: session.ca,
                    route: Route::Network(route),
                })
            }
        }
    }

    async fn local_account(&self, home: &Path, config: &ConfigDir) -> Result<Account> {
        let route = Route::Socket(socket(home));
        let file = local_file(home);
        let stored = read_session(config, &file)?.filter(|s| Path::new(&s.of) == home);
        let session = match stored {
            Some(session) if is_valid(&route, &session.token).await? && is_at(&session.url).await => session,
            _ => {
                let answer = Client::new(route.clone(), None).post("/shipway/v1/session", &json!({})).await?;
                let mut session: Session = serde_json::from_value(answer).map_err(|e| {
                    Error::new(format!("the server's answer is not a session: {e}")).hint("is it of this version?")
                })?;
                session.of = home.to_string_lossy().into_owned();
                store_session(config, &file, &session)?;
                session
            }
        };
        let url = session.url.parse().map_err(|e: String| Error::new(e))?;
        check_token(&session.token)?;
        Ok(Account {
            server: self.clone(),
            url,
            token: session.token,
            email: session.email,
            authority: session.ca,
            route,
        })
    }
}

impl Account {
    /// A client that is this user.
    pub fn client(&self) -> Client {
        Client::new(self.route.clone(), Some(self.token.clone()))
    }

    /// The same server as whoever has this token, which the Heroku CLI's own login got. Errors: it has ended.
    pub async fn logged_in(self, token: String) -> Result<Self> {
        let answer = Client::new(self.route.clone(), Some(token.clone())).send(Method::GET, "/account", None).await?;
        if answer.status == StatusCode::UNAUTHORIZED {
            return Err(Error::new(format!("your login to {} by `heroku login` has ended", self.url))
                .hint("log in again: shipway heroku login")
                .hint("or be the user that you are on this machine: shipway heroku logout"));
        }
        // A narrow token is not told whose it is.
        let email = answer.success().map_or_else(|_| "by ~/.netrc".into(), |a| crate::terminal::text(&a, &["email"]));
        Ok(Self { token, email, ..self })
    }

    /// The way to the server by the network, for programs that cannot use its socket.
    pub fn network(&self, environment: &Environment) -> Result<Network> {
        network(&self.url, self.authority.as_deref(), environment)
    }
}

/// Checks a token with a remote server and keeps it.
pub async fn log_in(
    url: &ServerUrl,
    token: &str,
    ca: Option<String>,
    environment: &Environment,
    config: &ConfigDir,
) -> Result<String> {
    check_token(token)?;
    let route = Route::Network(network(url, ca.as_deref(), environment)?);
    let account = Client::new(route, Some(token.to_owned())).get("/account").await?;
    let email = crate::terminal::text(&account, &["email"]);
    let session =
        Session { token: token.to_owned(), email: email.clone(), url: url.to_string(), ca, of: url.to_string() };
    store_session(config, &remote_file(url), &session)?;
    Ok(email)
}

/// Forgets the session of a server: it was refused somewhere.
pub fn forget(server: &Server, config: &ConfigDir) -> Result<()> {
    match server {
        Server::Local(home) => config.remove(&local_file(home)),
        // A token that somebody gave by hand is not ours to throw away.
        Server::Remote(_) => Ok(()),
    }
}

/// The network road to `url`.
pub fn network(url: &ServerUrl, authority: Option<&str>, environment: &Environment) -> Result<Network> {
    let tls = url.is_tls().then(|| trust::client_config(authority)).transpose()?;
    Ok(Network { url: url.clone(), tls, proxy: Proxy::for_url(environment, url) })
}

/// The data directory of a server without root: `$XDG_DATA_HOME/shipway` or `~/.local/share/shipway`.
pub fn user_home(environment: &Environment) -> Option<PathBuf> {
    let base = environment.filled("XDG_DATA_HOME").map(PathBuf::from);
    Some(base.or_else(|| environment.home().map(|h| h.join(".local/share")))?.join("shipway"))
}

fn socket(home: &Path) -> PathBuf {
    home.join("run/api.sock")
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|e| Error::new(format!("{} is not a directory: {e}", path.display())))
}

async fn is_valid(route: &Route, token: &str) -> Result<bool> {
    let answer = Client::new(route.clone(), Some(token.to_owned())).send(Method::GET, "/account", None).await?;
    if answer.status == StatusCode::UNAUTHORIZED {
        return Ok(false);
    }
    answer.success().map(|_| true)
}

/// Whether the server still listens where the session says: it may have been started anew with another `--listen`.
async fn is_at(url: &str) -> bool {
    let Ok(url) = url.parse::<ServerUrl>() else { return false };
    tokio::net::TcpStream::connect((url.host(), url.port())).await.is_ok()
}

fn check_token(token: &str) -> Result<()> {
    if token.is_empty() || token.len() > 512 || !token.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(Error::new("that is not a token: it must be 1 to 512 visible ASCII characters")
            .hint("`shipway users token EMAIL` and `heroku authorizations:create` print one, on a line of its own"));
    }
    Ok(())
}

fn local_file(home: &Path) -> String {
    let safe: String =
        home.to_string_lossy().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let tail: String = safe.chars().rev().take(100).collect::<Vec<_>>().into_iter().rev().collect();
    format!("sessions/local{tail}.json")
}

fn remote_file(url: &ServerUrl) -> String {
    format!("servers/{}.json", url.file_stem())
}

fn read_session(config: &ConfigDir, file: &str) -> Result<Option<Session>> {
    Ok(config.read(file)?.and_then(|text| serde_json::from_str(&text).ok()))
}

fn store_session(config: &ConfigDir, file: &str, session: &Session) -> Result<()> {
    let text = serde_json::to_string(session).map_err(|e| Error::new(format!("could not keep the session: {e}")))?;
    config.write(file, &text).map(drop)
}
