-- An operation is on one app or on several.
CREATE TABLE operation_apps (
  operation_id TEXT NOT NULL REFERENCES operations(id) ON DELETE CASCADE, app_id TEXT NOT NULL,
  PRIMARY KEY (operation_id, app_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX operation_apps_by_app ON operation_apps(app_id);
INSERT INTO operation_apps SELECT id, app_id FROM operations WHERE app_id IS NOT NULL;
DROP INDEX operations_by_app;
ALTER TABLE operations DROP COLUMN app_id;
CREATE INDEX operations_by_time ON operations(created_at);
