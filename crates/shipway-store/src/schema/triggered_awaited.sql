-- Whether somebody's push waits for how it ends.
ALTER TABLE triggered_deploys ADD COLUMN awaited INTEGER NOT NULL DEFAULT 0;
