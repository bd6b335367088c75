//! What webhooks are told, as the API shows it, and the way to them.

use crate::address::Origin;
use crate::present::{self, Expansion, Inclusion, People};
use crate::{Inner, Web};
use async_trait::async_trait;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use ring::hmac;
use serde_json::Value;
use shipway_domain::address::{RemoteAddress, is_public};
use shipway_domain::webhooks::{Include, Resources};
use shipway_engine::ports::{Post, Receivers};
use shipway_net::outward::Outward;
use shipway_store::App;
use std::net::IpAddr;
use std::sync::{Arc, Weak};

/// Builds and releases that are looked at.
const NEWEST: usize = 20;

/// The receivers of app webhooks.
pub struct WebReceivers {
    // The platform keeps its receivers, and the doors keep the platform: with a strong one none of them would ever end.
    doors: Weak<Inner>,
    outward: Outward,
}

impl WebReceivers {
    /// They see what `web` shows, for as long as it is there; `outward` is how they are reached.
    pub fn new(web: &Web, outward: Outward) -> Self {
        Self { doors: Arc::downgrade(&web.inner), outward }
    }
}

impl Web {
    fn runs(&self, app: &App, all: &mut Resources) -> shipway_engine::Result<()> {
        let platform = self.platform();
        let origin = Origin::configured(self.base());
        let mut people = People::new(self);
        let (builds, releases, dynos) =
            platform.store().read(|c| Ok((c.builds(app.id)?, c.releases(app.id)?, c.dynos(app.id)?)))?;
        for build in builds.iter().rev().take(NEWEST) {
            put(all, Include::Build, present::build(self, &origin, &mut people, app, build));
        }
        for release in releases.iter().take(NEWEST) {
            put(all, Include::Release, present::release(self, &origin, &mut people, app, release));
        }
        let sizes = &platform.settings().sizes;
        for dyno in &dynos {
            let version = releases.iter().find(|r| r.id == dyno.release).map_or(0, |r| r.version);
            put(all, Include::Dyno, present::dyno(sizes, app, dyno, version, None));
        }
        for (formation, command) in platform.formation(app)? {
            put(all, Include::Formation, present::formation(sizes, app, &formation, &command));
        }
        Ok(())
    }

    fn addons(&self, app: &App, all: &mut Resources) -> shipway_engine::Result<()> {
        let origin = Origin::configured(self.base());
        let page = |owner: &App| present::addons_page(&origin, owner);
        let shown = self.platform().store().read(|c| {
            let mut shown = Vec::new();
            for addon in c.addons(app.id)? {
                let mut keys = Vec::new();
                for attachment in c.attachments_of(addon.id)?.iter().filter(|a| a.app == addon.app) {
                    keys.extend(c.attachment_vars(attachment)?.into_keys());
                }
                shown.push((Include::Addon, present::addon(app, &addon, &keys, Expansion::default(), &page(app))));
            }
            for attachment in c.attachments(app.id)? {
                let addon = c.addon_by_id(attachment.addon)?;
                let owner = c.app_by_id(addon.app)?;
                let about = (&addon, &owner);
                let attachment = present::attachment(app, &attachment, about, &[], Inclusion::default(), &page(&owner));
                shown.push((Include::Attachment, attachment));
            }
            Ok(shown)
        })?;
        shown.into_iter().for_each(|(include, data)| put(all, include, data));
        Ok(())
    }
}

fn put(all: &mut Resources, include: Include, data: Value) {
    let id = data["id"].as_str().unwrap_or_default().to_string();
    all.insert((include, id), data);
}

#[async_trait]
impl Receivers for WebReceivers {
    fn resources(&self, app: &App) -> shipway_engine::Result<Resources> {
        let doors = self.doors.upgrade().ok_or_else(|| shipway_engine::Error::platform("the server has ended"))?;
        let web = Web { inner: doors };
        let mut all = Resources::new();
        put(&mut all, Include::App, present::app(&web, app));
        put(&mut all, Include::Domain, present::default_domain(&web, app));
        let (domains, people) = web.platform().store().read(|c| Ok((c.domains(app.id)?, c.collaborators(app.id)?)))?;
        domains.iter().for_each(|domain| put(&mut all, Include::Domain, present::domain(&web, app, domain)));
        people.iter().for_each(|one| put(&mut all, Include::Collaborator, present::collaborator(app, one)));
        web.runs(app, &mut all)?;
        web.addons(app, &mut all)?;
        Ok(all)
    }

    fn check(&self, url: &str) -> Result<(), String> {
        let named = self.outward.private_hosts();
        let address = RemoteAddress::parse_within(url, named).map_err(|problem| problem.to_string())?;
        let host = address.host();
        let literal = host.trim_matches(['[', ']']).parse::<IpAddr>();
        let private = host == "localhost" || literal.is_ok_and(|address| !is_public(address));
        // A name is looked up, and checked, each time that something is sent.
        match private && !named.iter().any(|name| name == host) {
            true => Err(format!("{host} is in a private network")),
            false => Ok(()),
        }
    }

    async fn send(&self, post: Post) -> Result<u16, String> {
        let to = RemoteAddress::parse_within(&post.url, self.outward.private_hosts()).map_err(|p| p.to_string())?;
        let key = hmac::Key::new(hmac::HMAC_SHA256, post.secret.as_bytes());
        let signature = BASE64_STANDARD.encode(hmac::sign(&key, post.body.as_bytes()));
        let mut request = axum::http::Request::post("/")
            .header("content-type", "application/json")
            .header("user-agent", "shipway")
            .header("heroku-webhook-hmac-sha256", signature);
        if let Some(authorization) = &post.authorization {
            request = request.header("authorization", authorization);
        }
        let request = request.body(Bytes::from(post.body)).map_err(|_| "it cannot be sent".to_string())?;
        Ok(self.outward.send(&to, request).await?.status().as_u16())
    }
}
