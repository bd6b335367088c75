-- Whether a notice says that code was replaced, as all did before there were others.
ALTER TABLE notices ADD COLUMN replaced INTEGER NOT NULL DEFAULT 1;
