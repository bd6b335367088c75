-- Who is told of what changes at an app. `authorization_sealed` and `secret_sealed` go out with what they are told.
CREATE TABLE webhooks (
  id TEXT PRIMARY KEY, app_id TEXT NOT NULL REFERENCES apps(id) ON DELETE CASCADE, url_sealed BLOB NOT NULL,
  include TEXT NOT NULL, level TEXT NOT NULL, authorization_sealed BLOB, secret_sealed BLOB NOT NULL,
  created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL
) STRICT;
CREATE INDEX webhooks_of_app ON webhooks(app_id);

-- The last look at the resources of an app that has webhooks, and how many events it has had.
CREATE TABLE webhook_looks (
  app_id TEXT PRIMARY KEY REFERENCES apps(id) ON DELETE CASCADE, resources TEXT NOT NULL, sequence INTEGER NOT NULL
) STRICT;

CREATE TABLE webhook_events (
  id TEXT PRIMARY KEY, app_id TEXT NOT NULL REFERENCES apps(id) ON DELETE CASCADE, include TEXT NOT NULL,
  sequence INTEGER NOT NULL, payload TEXT NOT NULL, created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX webhook_events_of_app ON webhook_events(app_id, sequence);

CREATE TABLE webhook_deliveries (
  id TEXT PRIMARY KEY, webhook_id TEXT NOT NULL REFERENCES webhooks(id) ON DELETE CASCADE,
  event_id TEXT NOT NULL REFERENCES webhook_events(id) ON DELETE CASCADE, status TEXT NOT NULL, attempts INTEGER NOT NULL,
  next_attempt_at INTEGER, attempt_id TEXT, attempt_code INTEGER, attempt_error TEXT, attempted_at INTEGER,
  created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL
) STRICT;
CREATE INDEX webhook_deliveries_due ON webhook_deliveries(next_attempt_at) WHERE next_attempt_at IS NOT NULL;
CREATE INDEX webhook_deliveries_of_event ON webhook_deliveries(event_id);
CREATE INDEX webhook_deliveries_of_webhook ON webhook_deliveries(webhook_id);
