-- Streaks of a job's partitions: one partition that fails for good must be escalated although others are read, and must be
-- so after a restart too. Only partitions with a streak have a row.
CREATE TABLE sync_partitions (
  namespace      TEXT COLLATE "C" NOT NULL,
  job            TEXT COLLATE "C" NOT NULL,
  partition      TEXT COLLATE "C" NOT NULL,
  failure_streak BIGINT NOT NULL DEFAULT 0,
  empty_streak   BIGINT NOT NULL DEFAULT 0,
  updated_ms     BIGINT NOT NULL,
  PRIMARY KEY (namespace, job, partition)
);

-- Every resync that was completed: an id is served once, however long ago.
CREATE TABLE sync_resyncs (
  namespace TEXT COLLATE "C" NOT NULL,
  job       TEXT COLLATE "C" NOT NULL,
  resync_id TEXT COLLATE "C" NOT NULL,
  run_id    TEXT COLLATE "C" NOT NULL,
  done_ms   BIGINT NOT NULL,
  PRIMARY KEY (namespace, job, resync_id)
);

-- What triggered a run, where `cause` has a value that older versions know.
ALTER TABLE sync_runs ADD COLUMN origin TEXT COLLATE "C";
