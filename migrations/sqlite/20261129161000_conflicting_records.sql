-- Records that were dropped because a later one of their page has the same ID and another content. A version before this
-- one counts none.
ALTER TABLE sync_runs ADD COLUMN conflicting INTEGER NOT NULL DEFAULT 0;
