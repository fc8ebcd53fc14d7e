-- The ledger's first schema. Additive from here on: a program one version older must run on the newest schema.
-- Instants are milliseconds since 1970 (UTC). Money is TEXT (exact decimal) beside its minor units; never REAL.

-- Whose data a row is. Named by what a user wrote, never by a UID, so that an object made anew finds its past again.
CREATE TABLE streams (
  id          INTEGER PRIMARY KEY,
  namespace   TEXT NOT NULL,
  connection  TEXT NOT NULL,
  provider    TEXT NOT NULL,
  environment TEXT NOT NULL,
  stream      TEXT NOT NULL,
  partition   TEXT NOT NULL,
  UNIQUE (namespace, connection, provider, environment, stream, partition)
);

-- Who may move which cursor. The fence only grows and outlives its holder.
CREATE TABLE leases (
  name       TEXT PRIMARY KEY,
  holder     TEXT NOT NULL,
  fence      INTEGER NOT NULL,
  expires_ms INTEGER NOT NULL
) WITHOUT ROWID;

-- Where one job stands in one partition. Changed only by page transactions, guarded by version and fence.
CREATE TABLE sync_state (
  stream_id     INTEGER NOT NULL REFERENCES streams (id),
  job           TEXT NOT NULL,
  state_version INTEGER NOT NULL,
  fence         INTEGER NOT NULL,
  spec_hash     TEXT NOT NULL,
  window_kind   TEXT CHECK (window_kind IN ('incremental', 'resync', 'refresh')),
  window_from   TEXT,
  window_to     TEXT,
  page_no       INTEGER NOT NULL DEFAULT 0,
  page_token    TEXT,
  total         INTEGER,
  committed_hwm TEXT,
  candidate_hwm TEXT,
  seen_tokens   TEXT NOT NULL DEFAULT '[]',
  rows_in       INTEGER NOT NULL DEFAULT 0,
  rows_dead     INTEGER NOT NULL DEFAULT 0,
  updated_ms    INTEGER NOT NULL,
  PRIMARY KEY (stream_id, job)
) WITHOUT ROWID;

-- Canonical transactions. Credit is positive. `account` is masked for display; `account_token` tells accounts apart.
CREATE TABLE transactions (
  id            INTEGER PRIMARY KEY,
  stream_id     INTEGER NOT NULL REFERENCES streams (id),
  account_token TEXT NOT NULL,
  record_key    TEXT NOT NULL,
  key_quality   TEXT NOT NULL CHECK (key_quality IN ('provider', 'derived')),
  account       TEXT NOT NULL,
  booked_on     TEXT NOT NULL,
  booked_ms     INTEGER,
  booked_text   TEXT NOT NULL,
  granularity   TEXT NOT NULL CHECK (granularity IN ('day', 'instant')),
  amount        TEXT NOT NULL CHECK (typeof(amount) = 'text'),
  amount_minor  TEXT NOT NULL CHECK (typeof(amount_minor) = 'text'),
  currency      TEXT NOT NULL,
  status        TEXT NOT NULL CHECK (status IN ('booked', 'pending', 'superseded')),
  counterparty  TEXT,
  narration     TEXT,
  category      TEXT,
  content_hash  BLOB NOT NULL,
  revision      INTEGER NOT NULL DEFAULT 1,
  run_id        TEXT NOT NULL,
  created_ms    INTEGER NOT NULL,
  updated_ms    INTEGER NOT NULL,
  UNIQUE (stream_id, account_token, record_key)
);
CREATE INDEX transactions_by_day ON transactions (stream_id, booked_on);

-- Records kept aside: why, where, and their shape without their values.
CREATE TABLE dead_letters (
  id           INTEGER PRIMARY KEY,
  stream_id    INTEGER NOT NULL REFERENCES streams (id),
  fingerprint  TEXT NOT NULL,
  reason       TEXT NOT NULL,
  path         TEXT NOT NULL,
  sample       TEXT NOT NULL,
  job          TEXT NOT NULL,
  run_id       TEXT NOT NULL,
  page_no      INTEGER NOT NULL,
  record_index INTEGER NOT NULL,
  seen         INTEGER NOT NULL DEFAULT 1,
  first_ms     INTEGER NOT NULL,
  last_ms      INTEGER NOT NULL,
  resolved_ms  INTEGER,
  UNIQUE (stream_id, fingerprint)
);

-- One row per run; no end while it goes on. Counters move in the page transactions, so a killed run's are exact too.
CREATE TABLE sync_runs (
  run_id     TEXT PRIMARY KEY,
  namespace  TEXT NOT NULL,
  job        TEXT NOT NULL,
  cause      TEXT NOT NULL,
  dry_run    INTEGER NOT NULL DEFAULT 0,
  slot_ms    INTEGER,
  started_ms INTEGER NOT NULL,
  ended_ms   INTEGER,
  result     TEXT,
  reason     TEXT,
  fetched    INTEGER NOT NULL DEFAULT 0,
  inserted   INTEGER NOT NULL DEFAULT 0,
  updated    INTEGER NOT NULL DEFAULT 0,
  unchanged  INTEGER NOT NULL DEFAULT 0,
  rejected   INTEGER NOT NULL DEFAULT 0,
  pages      INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE INDEX sync_runs_by_job ON sync_runs (namespace, job, started_ms);

-- What must stay true of a job after its old runs are pruned.
CREATE TABLE sync_jobs (
  namespace       TEXT NOT NULL,
  job             TEXT NOT NULL,
  failure_streak  INTEGER NOT NULL DEFAULT 0,
  empty_streak    INTEGER NOT NULL DEFAULT 0,
  last_success_ms INTEGER,
  last_slot_ms    INTEGER,
  PRIMARY KEY (namespace, job)
) WITHOUT ROWID;
