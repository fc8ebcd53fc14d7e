-- What the gateway keeps: who asked for what, requests that failed for good, and how much of a licence is used up.

-- Append-only: rows are written once and removed by age alone.
CREATE TABLE audit (
  seq            INTEGER PRIMARY KEY AUTOINCREMENT,
  at_ms          INTEGER NOT NULL,
  kind           TEXT NOT NULL,
  action         TEXT NOT NULL,
  subject        TEXT NOT NULL,
  rights_profile TEXT,
  allowed        INTEGER NOT NULL,
  namespace      TEXT NOT NULL,
  connection     TEXT NOT NULL,
  provider       TEXT,
  purpose        TEXT,
  reason         TEXT,
  request_id     TEXT
);
CREATE INDEX audit_by_time ON audit (at_ms);
CREATE TRIGGER audit_is_append_only BEFORE UPDATE ON audit
BEGIN
  SELECT RAISE(ABORT, 'the audit is append-only');
END;

-- Requests to providers that got no answer: retried, then parked for a person. `parameters` is a JSON object, sealed where
-- `sealed` is 1. One open row per fingerprint: the same request failing again is counted, not stored again.
CREATE TABLE dead_requests (
  seq         INTEGER PRIMARY KEY AUTOINCREMENT,
  id          TEXT NOT NULL UNIQUE,
  namespace   TEXT NOT NULL,
  connection  TEXT NOT NULL,
  provider    TEXT NOT NULL,
  operation   TEXT NOT NULL,
  parameters  BLOB NOT NULL,
  sealed      INTEGER NOT NULL,
  fingerprint TEXT NOT NULL,
  caller      TEXT NOT NULL,
  subject     TEXT NOT NULL,
  state       TEXT NOT NULL CHECK (state IN ('pending', 'parked', 'done')),
  reason      TEXT NOT NULL,
  status      INTEGER,
  tries       INTEGER NOT NULL DEFAULT 0,
  seen        INTEGER NOT NULL DEFAULT 1,
  fence       INTEGER NOT NULL DEFAULT 0,
  request_id  TEXT,
  created_ms  INTEGER NOT NULL,
  updated_ms  INTEGER NOT NULL,
  next_ms     INTEGER
);
CREATE INDEX dead_requests_due ON dead_requests (next_ms) WHERE state = 'pending';
CREATE UNIQUE INDEX dead_requests_open ON dead_requests (fingerprint) WHERE state = 'pending';
CREATE INDEX dead_requests_by_state ON dead_requests (state, updated_ms);

-- Requests of a licence profile per UTC day. Rows of days gone by are removed with the audit's.
CREATE TABLE rights_usage (
  namespace  TEXT NOT NULL,
  connection TEXT NOT NULL,
  profile    TEXT NOT NULL,
  day        TEXT NOT NULL,
  used       INTEGER NOT NULL,
  PRIMARY KEY (namespace, connection, profile, day)
) WITHOUT ROWID;
