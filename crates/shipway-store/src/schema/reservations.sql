-- Apps that somebody keeps for themselves for a while; one that is over is as good as none.
CREATE TABLE reservations (
  app_id TEXT PRIMARY KEY REFERENCES apps(id) ON DELETE CASCADE, account_id TEXT NOT NULL REFERENCES accounts(id) ON DELETE CASCADE,
  until INTEGER NOT NULL, reason TEXT, created_at INTEGER NOT NULL
) STRICT;

-- What somebody is to be told: that a version of theirs was replaced.
CREATE TABLE notices (
  id TEXT PRIMARY KEY, account_id TEXT NOT NULL REFERENCES accounts(id) ON DELETE CASCADE,
  app_id TEXT NOT NULL REFERENCES apps(id) ON DELETE CASCADE, text TEXT NOT NULL, read_at INTEGER, created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX notices_by_account ON notices(account_id, created_at);
