//! App webhooks: receivers elsewhere that are told what has changed at an app.
//!
//! A look compares an app's resources with those of the look before, and writes events and deliveries down with the new
//! look in one transaction. What is due is sent, and tried again with growing pauses; a delivery that was sent when the
//! server was killed is sent again, under the same id. Webhooks outlive their app until its end has been told.

use crate::error::Error;
use crate::operation::Effect;
use crate::ports::{Caller, Post, Receivers};
use crate::{Event, Platform, Result};
use jiff::Timestamp;
use serde_json::{Value, json};
use shipway_domain::admission::Trigger;
use shipway_domain::webhooks::{Change, DeliveryStatus, Include, Level, Resources, back_off, changes};
use shipway_domain::{AppId, NameOrId, WebhookDeliveryId, WebhookEventId, WebhookId};
use shipway_store::{App, Attempt, Conn, Webhook, WebhookDelivery, WebhookEvent};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::{self, JoinSet};

/// How often is looked without a reason.
const EVERY: Duration = Duration::from_secs(60);
/// Webhooks of one app.
const MOST: usize = 20;
/// Events of one app that are kept.
const KEPT: u64 = 1000;
/// Deliveries that are under way at once.
const AT_ONCE: usize = 32;
/// Those of one app, so that its receivers, which may be slow to answer, hold up nobody else's.
const OF_ONE_APP: usize = 2;
/// Pause after trouble of our own.
const TROUBLE: Duration = Duration::from_secs(1);

/// What is to be of a webhook; what is not named stays, or has its default.
#[derive(Debug, Clone, Default)]
pub struct WebhookOrder {
    /// Where to.
    pub url: Option<String>,
    /// Of what.
    pub include: Option<Vec<String>>,
    /// `notify` or `sync`.
    pub level: Option<String>,
    /// What is sent as `Authorization`; `Some(None)`: nothing.
    pub authorization: Option<Option<String>>,
    /// What bodies are signed with; `Some(None)`, and without one at first: made up.
    pub secret: Option<Option<String>>,
}

impl Platform {
    /// Tells webhooks of what changes, from now on. Once.
    pub fn keep_webhooks(&self, receivers: Arc<dyn Receivers>) {
        if self.inner.receivers.set(receivers.clone()).is_err() {
            return;
        }
        self.spawn(Self::keep_looking);
        self.spawn(move |platform| platform.keep_sending(receivers));
    }

    fn receivers(&self) -> Result<&Arc<dyn Receivers>> {
        self.inner.receivers.get().ok_or_else(|| Error::platform("nobody can be told"))
    }

    /// The webhooks of an app, for who may change them.
    pub async fn webhooks(&self, caller: &Caller, app: &App) -> Result<Vec<Webhook>> {
        self.admit(caller, Trigger::Settings, app).await?;
        Ok(self.store().read(|c| c.webhooks(app.id))?)
    }

    /// A webhook of an app by its id.
    pub async fn webhook(&self, caller: &Caller, app: &App, id: &str) -> Result<Webhook> {
        let all = self.webhooks(caller, app).await?;
        let next = || format!("`heroku webhooks -a {}` lists them with their ids.", app.name);
        let found = all.into_iter().find(|webhook| webhook.id.to_string() == id);
        found.ok_or_else(|| Error::missing_one("webhook", id, &next()))
    }

    /// Makes a webhook. Errors: fields that are missing or illegal, an address in a private network, more than 20.
    pub async fn create_webhook(&self, caller: &Caller, app: &App, order: WebhookOrder) -> Result<Webhook> {
        let there = self.webhooks(caller, app).await?;
        if there.len() >= MOST {
            return Err(Error::invalid(format!("{} has {MOST} webhooks, and may not have more.", app.name)));
        }
        for (field, given) in
            [("url", order.url.is_some()), ("include", order.include.is_some()), ("level", order.level.is_some())]
        {
            if !given {
                return Err(Error::invalid(format!("`{field}` is missing.")));
            }
        }
        let now = self.now();
        let webhook = Webhook {
            id: self.id(WebhookId),
            app: app.id,
            url: String::new(),
            include: BTreeSet::new(),
            level: Level::Notify,
            authorization: None,
            secret: self.new_secret(),
            created_at: now,
            updated_at: now,
        };
        let webhook = self.ordered(webhook, order)?;
        // What happened before is not for the new one.
        self.look_at(app.id).await?;
        self.put_webhook(caller, app, &webhook, "webhook-added").await?;
        self.look_at(app.id).await?;
        Ok(webhook)
    }

    /// Changes a webhook.
    pub async fn update_webhook(&self, caller: &Caller, app: &App, id: &str, order: WebhookOrder) -> Result<Webhook> {
        let there = self.webhook(caller, app, id).await?;
        let mut webhook = self.ordered(there, order)?;
        webhook.updated_at = self.now();
        self.put_webhook(caller, app, &webhook, "webhook-changed").await?;
        Ok(webhook)
    }

    /// Removes a webhook with its deliveries.
    pub async fn remove_webhook(&self, caller: &Caller, app: &App, id: &str) -> Result<Webhook> {
        let webhook = self.webhook(caller, app, id).await?;
        let entry = self.entry(caller, Some(app), "webhook-removed", json!({ "webhook": webhook.id }));
        let gone = webhook.id;
        self.write_with(entry, move |c| {
            c.delete_webhook(gone)?;
            c.forget_webhook_looks()
        })
        .await?;
        Ok(webhook)
    }

    /// An app's events, newest first.
    pub async fn webhook_events(&self, caller: &Caller, app: &App) -> Result<Vec<WebhookEvent>> {
        self.admit(caller, Trigger::Settings, app).await?;
        Ok(self.store().read(|c| c.webhook_events(app.id, KEPT as u32))?)
    }

    /// An app's deliveries, newest first.
    pub async fn webhook_deliveries(&self, caller: &Caller, app: &App) -> Result<Vec<WebhookDelivery>> {
        self.admit(caller, Trigger::Settings, app).await?;
        Ok(self.store().read(|c| c.webhook_deliveries(app.id, KEPT as u32))?)
    }

    fn new_secret(&self) -> String {
        (0..4).map(|_| format!("{:016x}", self.world().uuid().as_u64_pair().1 ^ self.world().random())).collect()
    }

    fn ordered(&self, mut webhook: Webhook, order: WebhookOrder) -> Result<Webhook> {
        if let Some(url) = order.url {
            let checked = self.receivers()?.check(&url);
            checked.map_err(|problem| Error::invalid(format!("Nothing can be sent to this url: {problem}.")))?;
            webhook.url = url;
        }
        if let Some(include) = order.include {
            let read = |text: &String| {
                Include::parse(text.trim()).ok_or_else(|| {
                    let known = words(&Include::ALL.into()).join(", ");
                    Error::invalid(format!("`include` has no {text:?}: it may have {known}."))
                })
            };
            webhook.include = include.iter().map(read).collect::<Result<_>>()?;
            if webhook.include.is_empty() {
                return Err(Error::invalid("`include` is empty: name what is to be told, such as api:release."));
            }
        }
        if let Some(level) = order.level {
            webhook.level =
                Level::from_text(&level).ok_or_else(|| Error::invalid("`level` is either notify or sync."))?;
        }
        if let Some(authorization) = order.authorization {
            let printable = |text: &str| text.len() <= 4096 && text.bytes().all(|b| (b' '..=b'~').contains(&b));
            if authorization.as_deref().is_some_and(|text| !printable(text)) {
                return Err(Error::invalid("`authorization` may have 4,096 printable characters at most."));
            }
            webhook.authorization = authorization.filter(|text| !text.is_empty());
        }
        match order.secret {
            Some(Some(secret)) if secret.len() > 4096 => {
                return Err(Error::invalid("`secret` may have 4,096 characters at most."));
            }
            Some(Some(secret)) if !secret.is_empty() => webhook.secret = secret,
            Some(_) => webhook.secret = self.new_secret(),
            None => {}
        }
        Ok(webhook)
    }

    async fn put_webhook(&self, caller: &Caller, app: &App, webhook: &Webhook, action: &str) -> Result<()> {
        let detail = json!({ "webhook": webhook.id, "include": words(&webhook.include), "level": webhook.level });
        let entry = self.entry(caller, Some(app), action, detail);
        let row = webhook.clone();
        self.write_with(entry, move |c| c.put_webhook(&row)).await?;
        Ok(())
    }

    /// Looks at an app's resources, and writes down what there is to tell. Any number of times.
    pub async fn look_at(&self, id: AppId) -> Result<()> {
        let _turn = self.inner.looking.lock().await;
        let found = self.store().read(|c| Ok((c.app(&id.into())?, c.webhooks(id)?)))?;
        let (Some(app), webhooks) = found else {
            // It has ended, which there may be to tell.
            self.inner.deliveries_wanted.notify_one();
            return Ok(());
        };
        if webhooks.is_empty() {
            return Ok(());
        }
        let resources = self.receivers()?.resources(&app)?;
        let (before, actor) = self.store().read(|c| Ok((c.webhook_look(id)?, actor(c, &app)?)))?;
        let (seen, sequence) = before.unwrap_or_else(|| (resources.clone(), 0));
        let news = self.news(id, &webhooks, changes(&seen, &resources), sequence, &actor);
        let any = !news.deliveries.is_empty();
        let written = self.store().write(move |c| {
            news.write(c)?;
            c.prune_webhook_events(id, KEPT)?;
            c.put_webhook_look(id, &resources, news.sequence)
        });
        written.await?;
        if any {
            self.inner.deliveries_wanted.notify_one();
        }
        Ok(())
    }

    /// The end of an app for its webhooks, to be written with it: all that was seen last is gone.
    pub(crate) async fn farewell(&self, app: &App) -> Effect {
        if self.inner.receivers.get().is_some()
            && let Err(e) = self.look_at(app.id).await
        {
            // Its end is told all the same.
            tracing::error!(app.id = %app.id, error = %e, cause = ?e.cause, "webhooks could not be told of an app's last changes");
        }
        let (platform, app) = (self.clone(), app.clone());
        Box::new(move |c| {
            if let Some((seen, sequence)) = c.webhook_look(app.id)? {
                let (webhooks, gone) = (c.webhooks(app.id)?, changes(&seen, &Resources::new()));
                platform.news(app.id, &webhooks, gone, sequence, &actor(c, &app)?).write(c)?;
            }
            Ok(())
        })
    }

    /// Events and deliveries of what has changed at an app, which has had `sequence` events.
    fn news(&self, app: AppId, webhooks: &[Webhook], all: Vec<Change>, sequence: u64, actor: &Value) -> News {
        let mut news = News { events: Vec::new(), deliveries: Vec::new(), sequence };
        let now = self.now();
        for change in all {
            let told: Vec<&Webhook> = webhooks.iter().filter(|w| w.include.contains(&change.include)).collect();
            if told.is_empty() {
                continue;
            }
            news.sequence += 1;
            let event = WebhookEvent {
                id: self.id(WebhookEventId),
                app,
                include: change.include,
                sequence: news.sequence,
                payload: json!({
                    "action": change.action, "actor": change.data.get("user").unwrap_or(actor), "data": change.data,
                    "previous_data": change.previous_data, "resource": change.include.resource(),
                    "version": "application/vnd.heroku+json; version=3",
                }),
                created_at: now,
            };
            news.deliveries.extend(told.iter().map(|webhook| WebhookDelivery {
                id: self.id(WebhookDeliveryId),
                webhook: webhook.id,
                level: webhook.level,
                event: event.id,
                app,
                include: event.include,
                status: DeliveryStatus::Pending,
                attempts: 0,
                next_attempt_at: Some(now),
                last: None,
                created_at: now,
                updated_at: now,
            }));
            news.events.push(event);
        }
        news
    }

    async fn keep_looking(self) {
        let mut events = self.events();
        loop {
            let heard = tokio::time::timeout(EVERY, events.recv()).await;
            let apps = match heard {
                Ok(Ok(Event::App(app))) => Ok(vec![app]),
                Ok(Ok(_)) => continue,
                Ok(Err(RecvError::Closed)) => return,
                // Some were missed, or it is time.
                Ok(Err(RecvError::Lagged(_))) | Err(_) => self.store().read(|c| c.apps_with_webhooks()),
            };
            for app in apps.unwrap_or_default() {
                if let Err(e) = self.look_at(app).await {
                    tracing::error!(app.id = %app, error = %e, cause = ?e.cause, "webhooks could not be told of an app");
                }
            }
        }
    }

    async fn keep_sending(self, receivers: Arc<dyn Receivers>) {
        let mut under_way = UnderWay::default();
        loop {
            let wait = match self.send_due(&receivers, &mut under_way) {
                Ok(None) => EVERY,
                Ok(Some(next)) => Duration::try_from(next.duration_since(self.now())).unwrap_or_default(),
                Err(e) => {
                    tracing::error!(error = %e, cause = ?e.cause, "webhooks could not be sent");
                    TROUBLE
                }
            };
            tokio::select! {
                () = self.inner.deliveries_wanted.notified() => {}
                () = under_way.ended() => {}
                () = tokio::time::sleep(wait.clamp(Duration::from_millis(100), EVERY)) => {}
            }
        }
    }

    /// Sends of what is due as much as there is room for, and returns when more will be due.
    fn send_due(&self, receivers: &Arc<dyn Receivers>, under_way: &mut UnderWay) -> Result<Option<Timestamp>> {
        let now = self.now();
        let (due, next) = self.store().read(|c| {
            // What is under way is among what is due.
            let due = c.due_webhook_deliveries(now, OF_ONE_APP as u32, 2 * AT_ONCE as u32)?;
            Ok((due, c.next_webhook_delivery(now)?))
        })?;
        for delivery in due {
            if !under_way.has_room_for(&delivery) {
                continue;
            }
            let (platform, receivers) = (self.clone(), receivers.clone());
            let (id, app) = (delivery.id, delivery.app);
            let task = under_way.tasks.spawn(async move {
                if let Err(e) = platform.deliver(delivery, &*receivers).await {
                    // It is due still, and was sent perhaps: not again at once.
                    tracing::error!(webhook_delivery.id = %id, error = %e, cause = ?e.cause, "a delivery could not be noted");
                    tokio::time::sleep(TROUBLE).await;
                }
            });
            under_way.of.insert(task.id(), (id, app));
        }
        Ok(next)
    }

    async fn deliver(&self, mut delivery: WebhookDelivery, receivers: &dyn Receivers) -> Result<()> {
        let (webhook, event) =
            self.store().read(|c| Ok((c.webhook(delivery.webhook)?, c.webhook_event(delivery.event)?)))?;
        let (Some(webhook), Some(event)) = (webhook, event) else { return Ok(()) };
        let attempt = self.world().uuid();
        let body = body(&webhook, &event, &delivery, attempt).to_string();
        let Webhook { url, authorization, secret, .. } = webhook;
        let sent = receivers.send(Post { url, authorization, secret, body }).await;
        let now = self.now();
        let (code, error) = match sent {
            Ok(code @ 200..=299) => (Some(code), None),
            Ok(code) => (Some(code), Some(format!("it answered {code}"))),
            Err(error) => (None, Some(error.chars().take(200).collect())),
        };
        delivery.attempts += 1;
        let age = now.duration_since(event.created_at);
        let wait = error.as_ref().and_then(|_| back_off(delivery.level, delivery.attempts, age));
        delivery.next_attempt_at = wait.map(|wait| now + wait);
        delivery.status = match (&error, wait) {
            (None, _) => DeliveryStatus::Succeeded,
            (Some(_), Some(_)) => DeliveryStatus::Retrying,
            (Some(_), None) => DeliveryStatus::Failed,
        };
        delivery.last = Some(Attempt { id: attempt, code, error, at: now });
        delivery.updated_at = now;
        self.store()
            .write(move |c| match c.webhook_delivery(delivery.id)? {
                Some(_) => {
                    c.put_webhook_delivery(&delivery)?;
                    c.forget_ended_webhooks()
                }
                // Its webhook was removed meanwhile.
                None => Ok(()),
            })
            .await?;
        Ok(())
    }
}

/// Deliveries that are being sent.
#[derive(Default)]
struct UnderWay {
    tasks: JoinSet<()>,
    of: HashMap<task::Id, (WebhookDeliveryId, AppId)>,
}

impl UnderWay {
    fn has_room_for(&self, delivery: &WebhookDelivery) -> bool {
        let of_app = self.of.values().filter(|(_, app)| *app == delivery.app).count();
        let there = self.of.values().any(|(id, _)| *id == delivery.id);
        !there && of_app < OF_ONE_APP && self.of.len() < AT_ONCE
    }

    /// Waits until one has ended; for ever while there is none.
    async fn ended(&mut self) {
        let Some(ended) = self.tasks.join_next_with_id().await else { return std::future::pending().await };
        match ended {
            Ok((id, ())) => {
                self.of.remove(&id);
            }
            Err(e) => {
                self.of.remove(&e.id());
                tracing::error!(error = %e, "a delivery ended in the middle");
                tokio::time::sleep(TROUBLE).await;
            }
        }
    }
}

/// What there is to tell.
struct News {
    events: Vec<WebhookEvent>,
    deliveries: Vec<WebhookDelivery>,
    /// The number of the last event.
    sequence: u64,
}

impl News {
    fn write(&self, c: &Conn<'_>) -> shipway_store::Result<()> {
        self.events.iter().try_for_each(|event| c.insert_webhook_event(event))?;
        self.deliveries.iter().try_for_each(|delivery| c.put_webhook_delivery(delivery))
    }
}

fn words(include: &BTreeSet<Include>) -> Vec<&'static str> {
    include.iter().map(|include| include.as_str()).collect()
}

/// Who changed something of an app last, as its ledger has it; its owner where nobody is known.
fn actor(c: &Conn<'_>, app: &App) -> shipway_store::Result<Value> {
    let last = c.ledger(Some(app.id), 1)?.pop();
    let account = last.map(|entry| c.account(&NameOrId::Name(entry.actor))).transpose()?.flatten();
    Ok(match account {
        Some(account) => json!({ "email": account.email, "id": account.id }),
        None => json!({ "email": app.owner_email, "id": app.owner }),
    })
}

/// What is told of an event, with the moment that lists of events show.
pub fn webhook_payload(event: &WebhookEvent) -> Value {
    let mut told = event.payload.clone();
    told["published_at"] = event.created_at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string().into();
    told
}

/// What a receiver is sent. Source: Heroku Dev Center, "App Webhooks".
fn body(webhook: &Webhook, event: &WebhookEvent, delivery: &WebhookDelivery, attempt: uuid::Uuid) -> Value {
    let mut body = webhook_payload(event);
    let at = body["published_at"].clone();
    body["id"] = json!(event.id);
    body["sequence"] = event.sequence.to_string().into();
    (body["created_at"], body["updated_at"]) = (at.clone(), at);
    body["webhook_metadata"] = json!({
        "attempt": { "id": attempt }, "delivery": { "id": delivery.id },
        "event": { "id": event.id, "include": event.include.as_str() }, "webhook": { "id": webhook.id },
    });
    body
}
