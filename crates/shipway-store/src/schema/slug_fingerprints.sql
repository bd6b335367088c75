-- What the host was when the slug was built: distribution and versions of languages. Empty: built before that was kept.
ALTER TABLE slugs ADD COLUMN stack_fingerprint TEXT NOT NULL DEFAULT '';
