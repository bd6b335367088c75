//! A CONNECT proxy on loopback, for one run of the Heroku CLI, all of whose tunnels end at one server.
//!
//! The CLI speaks TLS inside a tunnel to the name it believes in (`api.paas.herokudev.com`, `kolkrabbi.heroku.com`, ...). The
//! bridge answers with a certificate of an authority that lives in its memory for this run, and speaks TLS anew to the
//! server, verified against the server's own name: so no server needs a certificate for Heroku's names, and no name that the
//! CLI has built in can be reached. A host that is not on the list is refused. The port asks for a secret that only the
//! CLI's environment holds.
//!
//! A name of [`DATABASES`] leads to an add-on's database by the server's own tunnel: from here `psql` has no other way.

use crate::error::{Error, Result};
use crate::http::{Client, Network, Route};
use crate::loopback::{self, Loopback};
use crate::profile::BRIDGED_DOMAIN;
use crate::tunnel;
use base64::Engine;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::TcpStream;

/// A request line and headers longer than this are not the CLI's.
const HEAD_BYTES: usize = 16 << 10;
/// For the head of a CONNECT, which the CLI sends at once.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// The domains, whole, whose hosts become the server; with them everything that the CLI has built in.
const DOMAINS: [&str; 3] = [BRIDGED_DOMAIN, "heroku.com", "herokai.com"];
/// Single hosts that become the server.
const HOSTS: [&str; 1] = ["api.github.com"];

/// The domain of add-ons' databases, each by its add-on's id. It can be nobody's (RFC 2606).
const DATABASES: &str = ".databases.invalid";
const ESTABLISHED: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";
const BAD_GATEWAY: &[u8] = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n";

/// What a bridge is asked for to lead to an add-on's database.
pub fn database_host(addon: &str) -> String {
    format!("{addon}{DATABASES}:5432")
}

/// An open bridge; closed when dropped.
pub struct Bridge {
    /// `http://user:secret@127.0.0.1:port`, for `HTTPS_PROXY`.
    pub proxy: String,
    /// The authority of its certificates, PEM.
    pub authority: String,
    _port: Loopback,
}

/// Opens a bridge to `server` on a port of loopback that the system picks. `token` opens the way to databases.
pub async fn open(server: Network, token: String) -> Result<Bridge> {
    let secret = secret()?;
    let minted =
        Arc::new(Minted::new().map_err(|e| Error::new(format!("the bridge's certificate could not be made: {e}")))?);
    let authority = minted.authority.clone();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| Error::new(format!("TLS cannot be set up: {e}")))?
        .with_no_client_auth()
        .with_cert_resolver(minted);
    let doors = Arc::new(Doors {
        client: Client::new(Route::Network(server.clone()), Some(token)),
        server,
        tls: Arc::new(tls),
        credentials: base64::engine::general_purpose::STANDARD.encode(format!("shipway:{secret}")),
    });
    let port = loopback::listen(0, move |stream| doors.clone().serve(stream))
        .await
        .map_err(|e| Error::new(format!("no port of 127.0.0.1 could be opened for the bridge: {e}")))?;
    Ok(Bridge { proxy: format!("http://shipway:{secret}@127.0.0.1:{}", port.port), authority, _port: port })
}

fn secret() -> Result<String> {
    let mut bytes = [0; 24];
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes)
        .map_err(|_| Error::new("this system gives no random numbers"))?;
    Ok(base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes))
}

struct Doors {
    server: Network,
    client: Client,
    tls: Arc<ServerConfig>,
    credentials: String,
}

impl Doors {
    /// Serves one connection. What goes wrong is answered in HTTP or by closing: the CLI says it in its own words.
    async fn serve(self: Arc<Self>, mut client: TcpStream) {
        let Ok(Ok(head)) = tokio::time::timeout(HEAD_TIME, read_head(&mut client)).await else { return };
        match self.judge(&head) {
            Verdict::Tunnel => {}
            Verdict::Database(addon) => return self.to_database(client, &addon).await,
            Verdict::Refused(status, why) => {
                let answer = format!(
                    "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{why}",
                    why.len()
                );
                let _ = client.write_all(answer.as_bytes()).await;
                return;
            }
        }
        // The server is asked first, so that a server that is away is an error of the tunnel and not of TLS in it.
        let mut server = match self.server.connect().await {
            Ok(server) => server,
            Err(e) => {
                eprintln!("error: {} does not answer: {e}", self.server.url);
                let _ = client.write_all(BAD_GATEWAY).await;
                return;
            }
        };
        if client.write_all(ESTABLISHED).await.is_err() {
            return;
        }
        let mut first = [0; 1];
        let is_tls = matches!(client.peek(&mut first).await, Ok(1) if first[0] == 0x16);
        if is_tls {
            if let Ok(mut client) = tokio_rustls::TlsAcceptor::from(self.tls.clone()).accept(client).await {
                let _ = copy_bidirectional(&mut client, &mut server).await;
            }
        } else {
            let _ = copy_bidirectional(&mut client, &mut server).await;
        }
    }

    async fn to_database(&self, mut client: TcpStream, addon: &str) {
        match self.client.upgrade(&tunnel::path(addon), tunnel::PROTOCOL).await {
            Ok(mut database) => {
                if client.write_all(ESTABLISHED).await.is_ok() {
                    let _ = copy_bidirectional(&mut client, &mut database).await;
                }
            }
            Err(error) => {
                error.show();
                let _ = client.write_all(BAD_GATEWAY).await;
            }
        }
    }

    fn judge(&self, head: &str) -> Verdict {
        let mut lines = head.split("\r\n");
        let mut request = lines.next().unwrap_or_default().split(' ');
        let (Some(method), Some(target)) = (request.next(), request.next()) else {
            return Verdict::Refused("400 Bad Request", "not a request".into());
        };
        let expected = format!("Basic {}", self.credentials);
        let authorized = lines
            .filter_map(|line| line.split_once(':'))
            .any(|(name, value)| name.eq_ignore_ascii_case("proxy-authorization") && value.trim() == expected);
        if !authorized {
            return Verdict::Refused("407 Proxy Authentication Required", "this bridge serves one program only".into());
        }
        if method != "CONNECT" {
            return Verdict::Refused("405 Method Not Allowed", "this bridge takes CONNECT only".into());
        }
        let host = target.rsplit_once(':').map_or(target, |(host, _)| host).to_ascii_lowercase();
        if host == self.server.url.host() || leads_to_server(&host) {
            return Verdict::Tunnel;
        }
        if let Some(addon) = host.strip_suffix(DATABASES)
            && addon.len() == 36
            && addon.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-')
        {
            return Verdict::Database(addon.to_owned());
        }
        eprintln!("shipway: the Heroku CLI was kept from reaching {}", crate::terminal::printable(&host));
        Verdict::Refused("403 Forbidden", format!("{host} is not part of this server"))
    }
}

enum Verdict {
    Tunnel,
    /// To the database of the add-on with this id.
    Database(String),
    Refused(&'static str, String),
}

fn leads_to_server(host: &str) -> bool {
    HOSTS.contains(&host)
        || DOMAINS.iter().any(|domain| {
            host == *domain
                || host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.') && !rest.starts_with('.'))
        })
}

/// Reads up to the empty line and not a byte further: what follows is the tunnel's.
async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> std::io::Result<String> {
    let mut head = Vec::with_capacity(512);
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
        if head.len() > HEAD_BYTES {
            return Err(std::io::ErrorKind::InvalidData.into());
        }
    }
    String::from_utf8(head).map_err(std::io::Error::other)
}

/// Certificates for the names that are asked for, signed by an authority of this run.
struct Minted {
    authority: String,
    issuer: Issuer<'static, KeyPair>,
    known: Mutex<HashMap<String, Arc<CertifiedKey>>>,
}

impl std::fmt::Debug for Minted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Minted")
    }
}

impl Minted {
    fn new() -> std::result::Result<Self, rcgen::Error> {
        let mut params = CertificateParams::new(Vec::<String>::new())?;
        params.distinguished_name.push(rcgen::DnType::CommonName, "Shipway bridge, this run only");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate()?;
        let authority = params.self_signed(&key)?.pem();
        Ok(Self { authority, issuer: Issuer::new(params, key), known: Mutex::default() })
    }

    fn mint(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        let mut params = CertificateParams::new(vec![name.to_owned()]).ok()?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().ok()?;
        let certificate = params.signed_by(&key, &self.issuer).ok()?;
        let der = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let signer = rustls::crypto::ring::sign::any_supported_type(&der).ok()?;
        Some(Arc::new(CertifiedKey::new(vec![certificate.der().clone()], signer)))
    }
}

impl ResolvesServerCert for Minted {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name()?.to_owned();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = known.get(&name) {
            return Some(key.clone());
        }
        let key = self.mint(&name)?;
        known.insert(name, key.clone());
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_the_cli_lead_to_the_server() {
        let check = |host: &str, expected: bool| assert_eq!(leads_to_server(host), expected, "{host}");
        check("api.paas.herokudev.com", true);
        check("kolkrabbi.heroku.com", true);
        check("api.metrics.herokai.com", true);
        check("api.github.com", true);
        check("github.com", false);
        check("evilheroku.com", false);
        check(".heroku.com", false);
        check("heroku.com.example.org", false);
        check("169.254.169.254", false);
        check("127.0.0.1", false);
    }

    #[test]
    fn strangers_other_hosts_and_plain_requests_are_turned_away() {
        let minted = Minted::new().unwrap();
        let server = Network { url: "https://paas.example.org".parse().unwrap(), tls: None, proxy: None };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let tls = Arc::new(config.with_no_client_auth().with_cert_resolver(Arc::new(minted)));
        let client = Client::new(Route::Network(server.clone()), None);
        let doors = Doors { server, client, tls, credentials: "c2VjcmV0".into() };
        let check = |head: &str, expected: &str| {
            let status = match doors.judge(head) {
                Verdict::Tunnel => "tunnel",
                Verdict::Database(_) => "database",
                Verdict::Refused(status, _) => &status[..3],
            };
            assert_eq!(status, expected, "{head:?}");
        };
        let login = "Proxy-Authorization: Basic c2VjcmV0\r\n\r\n";
        check(&format!("CONNECT api.paas.herokudev.com:443 HTTP/1.1\r\n{login}"), "tunnel");
        check(&format!("CONNECT PAAS.example.org:443 HTTP/1.1\r\n{login}"), "tunnel");
        let database = format!("CONNECT {} HTTP/1.1\r\n", database_host("01234567-89ab-cdef-0123-456789abcdef"));
        check(&format!("{database}{login}"), "database");
        check(&format!("{database}\r\n"), "407");
        check(&format!("CONNECT ../apps/shop.databases.invalid:5432 HTTP/1.1\r\n{login}"), "403");
        check("CONNECT api.paas.herokudev.com:443 HTTP/1.1\r\n\r\n", "407");
        check("CONNECT api.heroku.com:443 HTTP/1.1\r\nProxy-Authorization: Basic x\r\n\r\n", "407");
        check(&format!("CONNECT 169.254.169.254:80 HTTP/1.1\r\n{login}"), "403");
        check(&format!("CONNECT registry.example.com:443 HTTP/1.1\r\n{login}"), "403");
        check(&format!("GET http://api.heroku.com/ HTTP/1.1\r\n{login}"), "405");
        check("\r\n\r\n", "400");
    }
}
