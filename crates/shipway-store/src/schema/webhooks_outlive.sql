-- Webhooks, their events and deliveries outlive their app until its end has been told. Tables in use change their
-- references by being made anew; the children go first, so that nothing cascades.
CREATE TABLE new_webhooks (
  id TEXT PRIMARY KEY, app_id TEXT NOT NULL, url_sealed BLOB NOT NULL, include TEXT NOT NULL, level TEXT NOT NULL,
  authorization_sealed BLOB, secret_sealed BLOB NOT NULL, created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL
) STRICT;
INSERT INTO new_webhooks SELECT id, app_id, url_sealed, include, level, authorization_sealed, secret_sealed, created_at,
  updated_at FROM webhooks;

CREATE TABLE new_webhook_events (
  id TEXT PRIMARY KEY, app_id TEXT NOT NULL, include TEXT NOT NULL, sequence INTEGER NOT NULL, payload TEXT NOT NULL,
  created_at INTEGER NOT NULL
) STRICT;
INSERT INTO new_webhook_events SELECT id, app_id, include, sequence, payload, created_at FROM webhook_events;

CREATE TABLE new_webhook_deliveries (
  id TEXT PRIMARY KEY, webhook_id TEXT NOT NULL REFERENCES new_webhooks(id) ON DELETE CASCADE,
  event_id TEXT NOT NULL REFERENCES new_webhook_events(id) ON DELETE CASCADE, status TEXT NOT NULL,
  attempts INTEGER NOT NULL, next_attempt_at INTEGER, attempt_id TEXT, attempt_code INTEGER, attempt_error TEXT,
  attempted_at INTEGER, created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL
) STRICT;
INSERT INTO new_webhook_deliveries SELECT id, webhook_id, event_id, status, attempts, next_attempt_at, attempt_id,
  attempt_code, attempt_error, attempted_at, created_at, updated_at FROM webhook_deliveries;

DROP TABLE webhook_deliveries;
DROP TABLE webhook_events;
DROP TABLE webhooks;
ALTER TABLE new_webhooks RENAME TO webhooks;
ALTER TABLE new_webhook_events RENAME TO webhook_events;
ALTER TABLE new_webhook_deliveries RENAME TO webhook_deliveries;
CREATE INDEX webhooks_of_app ON webhooks(app_id);
CREATE INDEX webhook_events_of_app ON webhook_events(app_id, sequence);
CREATE INDEX webhook_deliveries_due ON webhook_deliveries(next_attempt_at) WHERE next_attempt_at IS NOT NULL;
CREATE INDEX webhook_deliveries_of_event ON webhook_deliveries(event_id);
CREATE INDEX webhook_deliveries_of_webhook ON webhook_deliveries(webhook_id);
