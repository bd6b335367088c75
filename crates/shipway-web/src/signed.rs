//! URLs that are opened without a token: what may be read is in the path, signed with the platform's key.
//!
//! Nothing is stored, so they outlive a restart of the server. What goes on, or can be opened for long, says to whom it is
//! shown, and ends with their token. Paths: `/streams/output/<output>/<signature>`,
//! `/streams/logs/<session>/<signature>`, `/sources/<uuid>/<signature>`, `/backups/<uuid>/<expiry>/<signature>`,
//! `/archives/<app or pipeline>/<uuid>/<commit>/<expiry>/<signature>`.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use shipway_domain::{AppId, CommitId, PipelineId, SourceId, TransferId};
use shipway_engine::Holder;
use shipway_engine::ports::{Place, Spot};
use shipway_store::Keys;
use uuid::Uuid;

/// What a log session shows, as its URL carries it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogSession {
    /// Makes each session's URL another one.
    pub id: Uuid,
    /// Whose logs.
    pub app: AppId,
    /// To whom they are shown: when their token ends, the session does.
    pub holder: Holder,
    /// How many lines of the past, [`Self::MAX_LINES`] at most.
    pub lines: u32,
    /// Whether what comes is shown too.
    pub tail: bool,
    /// A dyno's name, `web.1`, or a process type, `web`.
    pub dyno: Option<String>,
    /// `app` or `heroku`.
    pub source: Option<String>,
    /// Until when the URL may be opened: seconds since 1970.
    pub expires_at: i64,
}

impl LogSession {
    /// The most lines of the past that a session shows; Heroku keeps 1,500.
    pub const MAX_LINES: u32 = 10_000;
}

/// The output of a build or a release phase, as its URL carries it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputStream {
    /// The build's or release's id.
    pub id: Uuid,
    /// Whose it is.
    pub app: AppId,
    /// To whom it is shown.
    pub holder: Holder,
}

/// Makes and checks the URLs.
pub struct SignedUrls<'a> {
    keys: &'a Keys,
}

impl<'a> SignedUrls<'a> {
    pub(crate) fn new(keys: &'a Keys) -> Self {
        Self { keys }
    }

    /// The path of the output of a build or a release phase.
    pub fn output(&self, output: &OutputStream) -> String {
        self.sign(&format!("/streams/output/{}", encoded(output)))
    }

    /// Reads the two last segments of [`Self::output`].
    pub fn read_output(&self, output: &str, signature: &str) -> Option<OutputStream> {
        self.check(&format!("/streams/output/{output}"), signature)?;
        decoded(output)
    }

    /// The path to which a source is put, and from which it is got.
    pub fn source(&self, id: SourceId) -> String {
        self.sign(&format!("/sources/{id}"))
    }

    /// Reads the two last segments of [`Self::source`].
    pub fn read_source(&self, id: &str, signature: &str) -> Option<SourceId> {
        self.check(&format!("/sources/{id}"), signature)?;
        id.parse().ok()
    }

    /// The path of a backup's data, until `expires_at` (seconds since 1970).
    pub fn backup(&self, id: TransferId, expires_at: i64) -> String {
        self.sign(&format!("/backups/{id}/{expires_at}"))
    }

    /// Reads the three last segments of [`Self::backup`], at `now`.
    pub fn read_backup(&self, id: &str, expires_at: &str, signature: &str, now: i64) -> Option<TransferId> {
        self.check(&format!("/backups/{id}/{expires_at}"), signature)?;
        (expires_at.parse::<i64>().ok()? > now).then(|| id.parse().ok()).flatten()
    }

    /// The path of a commit's tree as an archive, until `expires_at` (seconds since 1970).
    pub fn archive(&self, at: &Spot, expires_at: i64) -> String {
        let (kind, id) = match at.place {
            Place::App(app) => ("app", app.0),
            Place::Upstream(pipeline) => ("pipeline", pipeline.0),
        };
        self.sign(&format!("/archives/{kind}/{id}/{}/{expires_at}", at.commit))
    }

    /// Reads the path of [`Self::archive`], at `now`.
    pub fn read_archive(&self, path: &str, now: i64) -> Option<Spot> {
        let (signed, signature) = path.rsplit_once('/')?;
        self.check(signed, signature)?;
        let mut parts = signed.strip_prefix("/archives/")?.split('/');
        let (kind, id) = (parts.next()?, parts.next()?.parse().ok()?);
        let place = if kind == "app" { Place::App(AppId(id)) } else { Place::Upstream(PipelineId(id)) };
        let commit = CommitId::parse(parts.next()?).ok()?;
        (parts.next()?.parse::<i64>().ok()? > now).then_some(Spot { place, commit })
    }

    /// The path of a log session.
    pub fn logs(&self, session: &LogSession) -> String {
        self.sign(&format!("/streams/logs/{}", encoded(session)))
    }

    /// Reads the two last segments of [`Self::logs`]. Whether it has expired is the reader's to see.
    pub fn read_logs(&self, session: &str, signature: &str) -> Option<LogSession> {
        self.check(&format!("/streams/logs/{session}"), signature)?;
        decoded(session)
    }

    fn sign(&self, path: &str) -> String {
        format!("{path}/{}", self.keys.sign_url(path))
    }

    fn check(&self, path: &str, signature: &str) -> Option<()> {
        self.keys.url_is_ours(path, signature).then_some(())
    }
}

fn encoded(what: &impl Serialize) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(serde_json::to_vec(what).expect("ids, numbers and texts are JSON"))
}

fn decoded<T: DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(text).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use shipway_domain::TokenId;

    #[test]
    fn attack_14_only_our_own_urls_open_a_stream() {
        let home = tempfile::tempdir().unwrap();
        let keys = Keys::load_or_create(home.path()).unwrap();
        let urls = SignedUrls::new(&keys);
        let session = LogSession {
            id: Uuid::nil(),
            app: AppId(Uuid::nil()),
            holder: Holder::of(TokenId(Uuid::nil()), "secret"),
            lines: 100,
            tail: true,
            dyno: Some("web.1".into()),
            source: None,
            expires_at: 9,
        };
        let path = urls.logs(&session);
        let mut parts = path.rsplit('/');
        let (signature, body) = (parts.next().unwrap(), parts.next().unwrap());
        assert_eq!(urls.read_logs(body, signature), Some(session));
        assert_eq!(urls.read_logs(&body[1..], signature), None);
        // A signature of one kind of URL opens no other kind.
        let shown = OutputStream {
            id: Uuid::nil(),
            app: AppId(Uuid::nil()),
            holder: Holder::of(TokenId(Uuid::nil()), "secret"),
        };
        let output = urls.output(&shown);
        let mut parts = output.rsplit('/');
        let (signature, body) = (parts.next().unwrap(), parts.next().unwrap());
        let nil = Uuid::nil().to_string();
        assert_eq!(urls.read_logs(body, signature), None);
        assert_eq!(urls.read_source(&nil, signature), None);
        assert_eq!(urls.read_output(body, signature), Some(shown));
        let next = OutputStream {
            id: Uuid::nil(),
            app: AppId(Uuid::nil()),
            holder: Holder::of(TokenId(Uuid::nil()), "rotated"),
        };
        assert_eq!(urls.read_output(&encoded(&next), signature), None, "to whom it is shown is signed");
        let backup = urls.backup(shipway_domain::TransferId(Uuid::nil()), 100);
        let signature = backup.rsplit('/').next().unwrap();
        assert!(urls.read_backup(&nil, "100", signature, 99).is_some());
        assert!(urls.read_backup(&nil, "100", signature, 100).is_none(), "its time is over");
        assert!(urls.read_backup(&nil, "999", signature, 99).is_none(), "its time is signed");
        let app = shipway_domain::AppId(Uuid::from_u128(7));
        let spot = Spot { place: Place::App(app), commit: CommitId::parse(&"a".repeat(40)).unwrap() };
        let archive = urls.archive(&spot, 100);
        assert_eq!(urls.read_archive(&archive, 99), Some(spot));
        assert_eq!(urls.read_archive(&archive, 100), None, "its time is over");
        assert_eq!(urls.read_archive(&archive.replace("/app/", "/pipeline/"), 99), None, "its place is signed");
        let signature = output.rsplit('/').next().unwrap();
        let other = Keys::load_or_create(tempfile::tempdir().unwrap().path()).unwrap();
        assert_eq!(SignedUrls::new(&other).read_output(body, signature), None);
    }
}
