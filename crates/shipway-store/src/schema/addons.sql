-- Add-ons, their places in apps, and what was done to their data.
CREATE TABLE addons (
  id TEXT PRIMARY KEY, app_id TEXT NOT NULL REFERENCES apps(id) ON DELETE CASCADE, name TEXT NOT NULL UNIQUE, plan TEXT NOT NULL,
  state TEXT NOT NULL, config_sealed BLOB NOT NULL, created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL
) STRICT;
CREATE INDEX addons_by_app ON addons(app_id);

CREATE TABLE attachments (
  id TEXT PRIMARY KEY, addon_id TEXT NOT NULL REFERENCES addons(id) ON DELETE CASCADE,
  app_id TEXT NOT NULL REFERENCES apps(id) ON DELETE CASCADE, name TEXT NOT NULL,
  created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL, UNIQUE (app_id, name)
) STRICT;
CREATE INDEX attachments_by_addon ON attachments(addon_id);

-- What a release was made with: add-on, plan and names of config vars, as JSON. The values are in config_sealed.
ALTER TABLE releases ADD COLUMN attachments TEXT NOT NULL DEFAULT '[]';

-- `number` is counted per app over all kinds. `source_sealed` is the address of a dump elsewhere, which may hold secrets.
CREATE TABLE transfers (
  id TEXT PRIMARY KEY, app_id TEXT NOT NULL REFERENCES apps(id) ON DELETE CASCADE, number INTEGER NOT NULL,
  operation_id TEXT NOT NULL, kind TEXT NOT NULL, addon_id TEXT NOT NULL, from_name TEXT NOT NULL, to_name TEXT NOT NULL,
  backup_id TEXT, source_sealed BLOB, started_at INTEGER, finished_at INTEGER, canceled_at INTEGER, succeeded INTEGER,
  warnings INTEGER NOT NULL, source_bytes INTEGER, processed_bytes INTEGER NOT NULL, created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL, UNIQUE (app_id, number)
) STRICT;
