-- Raw payloads, events, and runs that were asked for over HTTP.

-- The bodies of provider responses, one row for each fetch of a page, written with the page. Masked or encrypted before they
-- get here. No foreign key to streams: a version that does not know this table deletes streams too.
CREATE TABLE raw_payloads (
  seq        INTEGER PRIMARY KEY,
  id         TEXT NOT NULL UNIQUE,
  stream_id  INTEGER NOT NULL,
  job        TEXT NOT NULL,
  run_id     TEXT NOT NULL,
  window_key TEXT NOT NULL,
  page_no    INTEGER NOT NULL,
  attempt    INTEGER NOT NULL,
  mode       TEXT NOT NULL CHECK (mode IN ('masked', 'encrypted')),
  body       BLOB NOT NULL,
  stored     INTEGER NOT NULL,
  sha256     BLOB NOT NULL,
  size       INTEGER NOT NULL,
  request    TEXT NOT NULL,
  created_ms INTEGER NOT NULL,
  expires_ms INTEGER NOT NULL,
  UNIQUE (stream_id, job, window_key, page_no, attempt)
);
CREATE INDEX raw_payloads_by_expiry ON raw_payloads (expires_ms, stored);
CREATE INDEX raw_payloads_by_time ON raw_payloads (created_ms);

-- The payload that a dead letter is in. Not enforced: dead letters outlive payloads.
ALTER TABLE dead_letters ADD COLUMN raw_ref TEXT;
CREATE INDEX dead_letters_by_job ON dead_letters (job, id);
CREATE INDEX dead_letters_resolved ON dead_letters (resolved_ms) WHERE resolved_ms IS NOT NULL;

-- Append-only: events are written once, with the data that they are about, and removed by age alone.
CREATE TABLE outbox_event (
  seq            INTEGER PRIMARY KEY AUTOINCREMENT,
  id             TEXT NOT NULL UNIQUE,
  type           TEXT NOT NULL,
  namespace      TEXT NOT NULL,
  aggregate      TEXT NOT NULL,
  payload        TEXT NOT NULL,
  headers        TEXT NOT NULL DEFAULT '{}',
  correlation_id TEXT NOT NULL,
  created_ms     INTEGER NOT NULL
);
CREATE INDEX outbox_event_by_time ON outbox_event (created_ms);
CREATE TRIGGER outbox_event_is_append_only BEFORE UPDATE ON outbox_event
BEGIN
  SELECT RAISE(ABORT, 'events are append-only');
END;

-- Runs and resyncs that were asked for over HTTP. `id` is derived from the job and the client's key, so that the same
-- request twice is one row. Rows of resyncs are kept: their IDs stay used.
CREATE TABLE run_requests (
  id         TEXT NOT NULL PRIMARY KEY,
  namespace  TEXT NOT NULL,
  job        TEXT NOT NULL,
  kind       TEXT NOT NULL CHECK (kind IN ('run', 'resync')),
  resync_id  TEXT,
  from_ms    INTEGER,
  to_ms      INTEGER,
  partitions TEXT NOT NULL DEFAULT '[]',
  run_id     TEXT NOT NULL,
  subject    TEXT NOT NULL,
  reason     TEXT,
  state      TEXT NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'done', 'refused')),
  outcome    TEXT,
  created_ms INTEGER NOT NULL,
  closed_ms  INTEGER
) WITHOUT ROWID;
CREATE UNIQUE INDEX run_requests_resync ON run_requests (namespace, job, resync_id) WHERE resync_id IS NOT NULL;
CREATE INDEX run_requests_open ON run_requests (namespace, job, created_ms) WHERE state = 'open';
