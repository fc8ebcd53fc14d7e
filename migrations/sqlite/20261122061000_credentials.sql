-- Refresh tokens that a provider gave in place of the one in the Secret: what the Secret holds is spent by then. Sealed (src/ledger/sealed.rs);
-- the row is found by what a user wrote, so that a connection made anew goes on with the token that is good.
CREATE TABLE credentials (
  namespace     TEXT NOT NULL,
  connection    TEXT NOT NULL,
  version       INTEGER NOT NULL,
  secret        TEXT NOT NULL,
  sealed        BLOB NOT NULL,
  updated_ms    INTEGER NOT NULL,
  PRIMARY KEY (namespace, connection)
) WITHOUT ROWID;
