-- Streaks of a job's partitions: one partition that fails for good must be escalated although others are read, and must be
-- so after a restart too. Only partitions with a streak have a row.
CREATE TABLE sync_partitions (
  namespace      TEXT NOT NULL,
  job            TEXT NOT NULL,
  partition      TEXT NOT NULL,
  failure_streak BIGINT NOT NULL DEFAULT 0,
  empty_streak   BIGINT NOT NULL DEFAULT 0,
  updated_ms     BIGINT NOT NULL,
  PRIMARY KEY (namespace, job, partition)
) WITHOUT ROWID;

-- Every resync that was completed: an id is served once, however long ago.
CREATE TABLE sync_resyncs (
  namespace TEXT NOT NULL,
  job       TEXT NOT NULL,
  resync_id TEXT NOT NULL,
  run_id    TEXT NOT NULL,
  done_ms   BIGINT NOT NULL,
  PRIMARY KEY (namespace, job, resync_id)
) WITHOUT ROWID;

-- What triggered a run, where `cause` has a value that older versions know: they cannot read a history with another one.
ALTER TABLE sync_runs ADD COLUMN origin TEXT;
