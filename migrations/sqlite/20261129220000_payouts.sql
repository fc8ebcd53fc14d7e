-- Payouts that are followed to their end. `body` is what is read; the other columns are what it is found by.

-- last_attempt: the number of the newest attempt. state, final, frozen: as the body says. next_*: what the clock does next.
-- reviewed: the number of the restore that it was reviewed after, or registered after.
CREATE TABLE payouts (
  namespace       TEXT NOT NULL,
  payout_id       TEXT NOT NULL,
  seq             INTEGER NOT NULL,
  version         INTEGER NOT NULL,
  route           TEXT NOT NULL,
  state           TEXT NOT NULL,
  final           INTEGER NOT NULL,
  frozen          INTEGER NOT NULL,
  last_attempt    INTEGER NOT NULL,
  next_ms         INTEGER,
  next_bank       TEXT,
  registered_ms   INTEGER NOT NULL,
  updated_ms      INTEGER NOT NULL,
  reviewed        INTEGER NOT NULL,
  request_hash    BLOB NOT NULL,
  idempotency_key TEXT,
  body            BLOB NOT NULL,
  PRIMARY KEY (namespace, payout_id)
);
-- What is due, without a look at the rows.
CREATE INDEX payouts_due ON payouts (next_ms, namespace, payout_id, next_bank) WHERE next_ms IS NOT NULL;
CREATE INDEX payouts_by_state ON payouts (state, seq);
CREATE INDEX payouts_in_order ON payouts (seq);
CREATE INDEX payouts_unresolved ON payouts (namespace, route, state, registered_ms, final) WHERE NOT final;
CREATE INDEX payouts_by_age ON payouts (updated_ms) WHERE final;
CREATE UNIQUE INDEX payouts_by_key ON payouts (namespace, idempotency_key) WHERE idempotency_key IS NOT NULL;

-- evidence: what the state rests on. accepted_for: the number of the attempt that two people accept as a possible duplicate
-- of this one.
CREATE TABLE payout_attempts (
  namespace    TEXT NOT NULL,
  payout_id    TEXT NOT NULL,
  attempt_no   INTEGER NOT NULL CHECK (attempt_no > 0),
  attempt_id   BLOB NOT NULL UNIQUE,
  decision_id  BLOB NOT NULL UNIQUE,
  bank         TEXT NOT NULL,
  state        TEXT NOT NULL,
  final        INTEGER NOT NULL,
  accepted_for INTEGER,
  decided_ms   INTEGER NOT NULL,
  evidence     BLOB NOT NULL,
  PRIMARY KEY (namespace, payout_id, attempt_no),
  FOREIGN KEY (namespace, payout_id) REFERENCES payouts (namespace, payout_id) ON DELETE CASCADE
) WITHOUT ROWID;
CREATE INDEX payout_attempts_unresolved ON payout_attempts (namespace, bank, state, decided_ms, final) WHERE NOT final;

-- The belt to the gate in the domain: whatever writes an attempt, none is stored beside one that may have been executed.
CREATE TRIGGER payout_attempts_need_proof BEFORE INSERT ON payout_attempts
WHEN EXISTS (
    SELECT 1 FROM payout_attempts
    WHERE namespace = NEW.namespace AND payout_id = NEW.payout_id
        AND state NOT IN ('rejected', 'returned', 'recalled', 'never_received')
        AND (state = 'confirmed' OR accepted_for IS NULL OR accepted_for <> NEW.attempt_no))
  OR EXISTS (SELECT 1 FROM payouts WHERE namespace = NEW.namespace AND payout_id = NEW.payout_id AND frozen)
BEGIN
  SELECT RAISE(ABORT, 'an attempt of a payout needs proof that no earlier one was executed');
END;

-- What happened, in the order of the chain. event: 'act', 'transition' or 'intent'. Written once.
CREATE TABLE payout_timeline (
  namespace  TEXT NOT NULL,
  payout_id  TEXT NOT NULL,
  seq        INTEGER NOT NULL,
  place      INTEGER NOT NULL,
  at_ms      INTEGER NOT NULL,
  act        TEXT NOT NULL,
  event      TEXT NOT NULL,
  attempt_no INTEGER,
  from_state TEXT,
  to_state   TEXT,
  call       TEXT,
  fence      INTEGER,
  evidence   BLOB,
  hold       TEXT,
  subject    TEXT NOT NULL,
  PRIMARY KEY (namespace, payout_id, seq, place),
  FOREIGN KEY (namespace, payout_id) REFERENCES payouts (namespace, payout_id) ON DELETE CASCADE
) WITHOUT ROWID;
CREATE TRIGGER payout_timeline_is_append_only BEFORE UPDATE ON payout_timeline
BEGIN
  SELECT RAISE(ABORT, 'the timeline of a payout is append-only');
END;

-- restores: how often newer entries of this ledger were lost. payouts_suspended: no payout is registered or decided until a
-- person resumes them.
ALTER TABLE ledger_epoch ADD COLUMN restores INTEGER NOT NULL DEFAULT 0;
ALTER TABLE ledger_epoch ADD COLUMN payouts_suspended INTEGER NOT NULL DEFAULT 0;
