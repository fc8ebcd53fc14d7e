-- Records that are kept whole, as JSON: collaterals, and whatever a stream without a shape of its own brings. Masked
-- before they get here.
CREATE TABLE documents (
  id           INTEGER PRIMARY KEY,
  stream_id    INTEGER NOT NULL REFERENCES streams (id),
  kind         TEXT NOT NULL CHECK (kind IN ('collateral', 'document')),
  record_key   TEXT NOT NULL,
  key_quality  TEXT NOT NULL CHECK (key_quality IN ('provider', 'derived')),
  body         TEXT NOT NULL CHECK (json_valid(body)),
  content_hash BLOB NOT NULL,
  revision     INTEGER NOT NULL DEFAULT 1,
  run_id       TEXT NOT NULL,
  created_ms   INTEGER NOT NULL,
  updated_ms   INTEGER NOT NULL,
  UNIQUE (stream_id, record_key)
);
