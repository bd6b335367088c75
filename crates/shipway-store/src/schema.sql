-- The platform's own state. Ids are UUIDs as text, times are µs since 1970 in UTC, *_sealed columns are sealed (seal.rs).
CREATE TABLE accounts (
  id TEXT PRIMARY KEY, email TEXT NOT NULL UNIQUE, name TEXT, admin INTEGER NOT NULL,
  password_hash TEXT, created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL
) STRICT;

-- `hash` is SHA-256 of a 256-bit random token; `hint` is what a list may show of it.
CREATE TABLE tokens (
  id TEXT PRIMARY KEY, account_id TEXT NOT NULL REFERENCES accounts(id) ON DELETE CASCADE, hash BLOB NOT NULL UNIQUE,
  hint TEXT NOT NULL, description TEXT NOT NULL, scope TEXT NOT NULL, kind TEXT NOT NULL,
  created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL, expires_at INTEGER
) STRICT;
CREATE INDEX tokens_by_account ON tokens(account_id);

CREATE TABLE keys (
  id TEXT PRIMARY KEY, account_id TEXT NOT NULL REFERENCES accounts(id) ON DELETE CASCADE, public_key TEXT NOT NULL,
  fingerprint TEXT NOT NULL UNIQUE, comment TEXT NOT NULL, created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE apps (
  id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, owner_id TEXT NOT NULL REFERENCES accounts(id), region TEXT NOT NULL,
  stack TEXT NOT NULL, build_stack TEXT NOT NULL, maintenance INTEGER NOT NULL, uid_block INTEGER NOT NULL UNIQUE,
  settings TEXT NOT NULL, buildpacks TEXT NOT NULL, config_sealed BLOB NOT NULL, current_release_id TEXT,
  ending INTEGER NOT NULL, repo_size INTEGER, slug_size INTEGER, released_at INTEGER,
  created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL
) STRICT;

CREATE TABLE collaborators (
  id TEXT PRIMARY KEY, app_id TEXT NOT NULL REFERENCES apps(id) ON DELETE CASCADE,
  account_id TEXT NOT NULL REFERENCES accounts(id) ON DELETE CASCADE, permission TEXT NOT NULL,
  created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL, UNIQUE (app_id, account_id)
) STRICT;

CREATE TABLE domains (
  id TEXT PRIMARY KEY, app_id TEXT NOT NULL REFERENCES apps(id) ON DELETE CASCADE, hostname TEXT NOT NULL UNIQUE,
  created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL
) STRICT;

CREATE TABLE slugs (
  id TEXT PRIMARY KEY, app_id TEXT NOT NULL REFERENCES apps(id) ON DELETE CASCADE, digest TEXT NOT NULL, manifest TEXT NOT NULL,
  commit_id TEXT, commit_description TEXT, size_bytes INTEGER NOT NULL, stack TEXT NOT NULL, language TEXT,
  inputs TEXT NOT NULL, created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX slugs_by_inputs ON slugs(app_id, inputs);

CREATE TABLE builds (
  id TEXT PRIMARY KEY, app_id TEXT NOT NULL REFERENCES apps(id) ON DELETE CASCADE, account_id TEXT NOT NULL,
  operation_id TEXT NOT NULL, status TEXT NOT NULL, commit_id TEXT, source_url TEXT, source_version TEXT, buildpacks TEXT NOT NULL,
  stack TEXT NOT NULL, slug_id TEXT, release_id TEXT, failure TEXT, created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL
) STRICT;
CREATE INDEX builds_by_app ON builds(app_id, created_at);

-- A release never changes, but for its status while it is pending.
CREATE TABLE releases (
  id TEXT PRIMARY KEY, app_id TEXT NOT NULL REFERENCES apps(id) ON DELETE CASCADE, version INTEGER NOT NULL,
  status TEXT NOT NULL, description TEXT NOT NULL, account_id TEXT NOT NULL, slug_id TEXT, config_sealed BLOB NOT NULL,
  config_hash TEXT NOT NULL, has_output INTEGER NOT NULL, failure TEXT, created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL,
  UNIQUE (app_id, version)
) STRICT;

CREATE TABLE formation (
  id TEXT PRIMARY KEY, app_id TEXT NOT NULL REFERENCES apps(id) ON DELETE CASCADE, process_type TEXT NOT NULL,
  quantity INTEGER NOT NULL, size TEXT NOT NULL, created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL,
  UNIQUE (app_id, process_type)
) STRICT;

-- Live dynos only; one that is gone has no row. `operation_id` is set until the operation that started it has switched.
CREATE TABLE dynos (
  id TEXT PRIMARY KEY, app_id TEXT NOT NULL REFERENCES apps(id) ON DELETE CASCADE, process_type TEXT NOT NULL,
  slot INTEGER NOT NULL, release_id TEXT NOT NULL, state TEXT NOT NULL, size TEXT NOT NULL, command TEXT NOT NULL,
  operation_id TEXT, routed INTEGER NOT NULL, unrouted_epoch INTEGER, address TEXT, crashes INTEGER NOT NULL, one_off TEXT,
  created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL
) STRICT;
CREATE INDEX dynos_by_app ON dynos(app_id);

CREATE TABLE epochs (epoch INTEGER PRIMARY KEY, at INTEGER NOT NULL, operation_id TEXT) STRICT;

CREATE TABLE operations (
  id TEXT PRIMARY KEY, app_id TEXT, kind TEXT NOT NULL, plan TEXT NOT NULL, status TEXT NOT NULL, account_id TEXT NOT NULL,
  error TEXT, cancel INTEGER NOT NULL, created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL
) STRICT;
CREATE INDEX operations_open ON operations(status) WHERE status NOT IN ('succeeded', 'failed');
CREATE INDEX operations_by_app ON operations(app_id, created_at);

CREATE TABLE journal (
  sequence INTEGER PRIMARY KEY, operation_id TEXT NOT NULL REFERENCES operations(id) ON DELETE CASCADE, step TEXT NOT NULL,
  event TEXT NOT NULL, output TEXT, at INTEGER NOT NULL
) STRICT;
CREATE INDEX journal_by_operation ON journal(operation_id, sequence);

-- Append-only: the triggers below make it so for every writer.
CREATE TABLE ledger (
  sequence INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, at INTEGER NOT NULL, actor TEXT NOT NULL, via TEXT NOT NULL,
  app_id TEXT, app_name TEXT, action TEXT NOT NULL, detail TEXT NOT NULL
) STRICT;
CREATE INDEX ledger_by_app ON ledger(app_id, sequence);
CREATE TRIGGER ledger_no_update BEFORE UPDATE ON ledger BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
CREATE TRIGGER ledger_no_delete BEFORE DELETE ON ledger BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;

CREATE TABLE sources (
  id TEXT PRIMARY KEY, account_id TEXT NOT NULL, created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE features (subject TEXT NOT NULL, name TEXT NOT NULL, enabled INTEGER NOT NULL, PRIMARY KEY (subject, name)) STRICT;
