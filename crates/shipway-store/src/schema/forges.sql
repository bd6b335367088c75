-- Pipelines' connections to their repositories at forges. What opens the forge, and what its webhooks are signed with, is
-- sealed.
CREATE TABLE forge_connections (
  id TEXT PRIMARY KEY, pipeline_id TEXT NOT NULL UNIQUE REFERENCES pipelines(id) ON DELETE CASCADE, kind TEXT NOT NULL,
  url TEXT NOT NULL, repository TEXT NOT NULL, home_url TEXT NOT NULL, secret_sealed BLOB NOT NULL,
  credentials_sealed BLOB NOT NULL, heard_at INTEGER, failure TEXT, created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL
) STRICT;

-- `given` is the forge's own id, `digest` is of what was signed: what came once is not carried out again. Both are kept
-- much longer than the body.
CREATE TABLE forge_deliveries (
  id TEXT PRIMARY KEY, connection_id TEXT NOT NULL REFERENCES forge_connections(id) ON DELETE CASCADE, given TEXT NOT NULL,
  digest TEXT NOT NULL, event TEXT NOT NULL, body BLOB, status TEXT NOT NULL, message TEXT, received_at INTEGER NOT NULL, finished_at INTEGER,
  UNIQUE (connection_id, given), UNIQUE (connection_id, digest)
) STRICT;
CREATE INDEX forge_deliveries_by_time ON forge_deliveries(connection_id, received_at);
CREATE INDEX forge_deliveries_waiting ON forge_deliveries(received_at) WHERE status = 'received';

-- What each check said of a commit.
CREATE TABLE forge_checks (
  pipeline_id TEXT NOT NULL REFERENCES pipelines(id) ON DELETE CASCADE, commit_id TEXT NOT NULL, context TEXT NOT NULL,
  state TEXT NOT NULL, changed_at INTEGER NOT NULL, PRIMARY KEY (pipeline_id, commit_id, context)
) STRICT;

-- What a forge should know (`wanted`), what it was told (`told`), and what names it there (`remote`), by subject.
CREATE TABLE forge_messages (
  connection_id TEXT NOT NULL REFERENCES forge_connections(id) ON DELETE CASCADE, subject TEXT NOT NULL,
  wanted TEXT NOT NULL, told TEXT, remote TEXT, failure TEXT, attempts INTEGER NOT NULL, due_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL, PRIMARY KEY (connection_id, subject)
) STRICT;
