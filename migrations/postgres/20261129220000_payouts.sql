-- Payouts that are followed to their end. `body` is what is read; the other columns are what it is found by.

-- last_attempt: the number of the newest attempt. state, final, frozen: as the body says. next_*: what the clock does next.
-- reviewed: the number of the restore that it was reviewed after, or registered after.
CREATE TABLE payouts (
  namespace       TEXT COLLATE "C" NOT NULL,
  payout_id       TEXT COLLATE "C" NOT NULL,
  seq             BIGINT NOT NULL,
  version         BIGINT NOT NULL,
  route           TEXT COLLATE "C" NOT NULL,
  state           TEXT COLLATE "C" NOT NULL,
  final           BOOLEAN NOT NULL,
  frozen          BOOLEAN NOT NULL,
  last_attempt    BIGINT NOT NULL,
  next_ms         BIGINT,
  next_bank       TEXT COLLATE "C",
  registered_ms   BIGINT NOT NULL,
  updated_ms      BIGINT NOT NULL,
  reviewed        BIGINT NOT NULL,
  request_hash    BYTEA NOT NULL,
  idempotency_key TEXT COLLATE "C",
  body            BYTEA NOT NULL,
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
  namespace    TEXT COLLATE "C" NOT NULL,
  payout_id    TEXT COLLATE "C" NOT NULL,
  attempt_no   BIGINT NOT NULL CHECK (attempt_no > 0),
  attempt_id   BYTEA NOT NULL UNIQUE,
  decision_id  BYTEA NOT NULL UNIQUE,
  bank         TEXT COLLATE "C" NOT NULL,
  state        TEXT COLLATE "C" NOT NULL,
  final        BOOLEAN NOT NULL,
  accepted_for BIGINT,
  decided_ms   BIGINT NOT NULL,
  evidence     BYTEA NOT NULL,
  PRIMARY KEY (namespace, payout_id, attempt_no),
  FOREIGN KEY (namespace, payout_id) REFERENCES payouts (namespace, payout_id) ON DELETE CASCADE
);
CREATE INDEX payout_attempts_unresolved ON payout_attempts (namespace, bank, state, decided_ms, final) WHERE NOT final;

-- The belt to the gate in the domain: whatever writes an attempt, none is stored beside one that may have been executed.
-- The payout's row is locked, so that of two writers the second sees what the first has stored.
CREATE FUNCTION payout_attempts_need_proof() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  is_frozen BOOLEAN;
BEGIN
  SELECT frozen INTO is_frozen FROM payouts
  WHERE namespace = NEW.namespace AND payout_id = NEW.payout_id FOR UPDATE;
  IF is_frozen OR EXISTS (
      SELECT 1 FROM payout_attempts
      WHERE namespace = NEW.namespace AND payout_id = NEW.payout_id
          AND state NOT IN ('rejected', 'returned', 'recalled', 'never_received')
          AND (state = 'confirmed' OR accepted_for IS NULL OR accepted_for <> NEW.attempt_no)) THEN
    RAISE EXCEPTION 'an attempt of a payout needs proof that no earlier one was executed';
  END IF;
  RETURN NEW;
END;
$$;
CREATE TRIGGER payout_attempts_need_proof BEFORE INSERT ON payout_attempts
FOR EACH ROW EXECUTE FUNCTION payout_attempts_need_proof();

-- What happened, in the order of the chain. event: 'act', 'transition' or 'intent'. Written once.
CREATE TABLE payout_timeline (
  namespace  TEXT COLLATE "C" NOT NULL,
  payout_id  TEXT COLLATE "C" NOT NULL,
  seq        BIGINT NOT NULL,
  place      BIGINT NOT NULL,
  at_ms      BIGINT NOT NULL,
  act        TEXT COLLATE "C" NOT NULL,
  event      TEXT COLLATE "C" NOT NULL,
  attempt_no BIGINT,
  from_state TEXT COLLATE "C",
  to_state   TEXT COLLATE "C",
  call       TEXT COLLATE "C",
  fence      BIGINT,
  evidence   BYTEA,
  hold       TEXT COLLATE "C",
  subject    TEXT COLLATE "C" NOT NULL,
  PRIMARY KEY (namespace, payout_id, seq, place),
  FOREIGN KEY (namespace, payout_id) REFERENCES payouts (namespace, payout_id) ON DELETE CASCADE
);
CREATE FUNCTION payout_timeline_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'the timeline of a payout is append-only';
END;
$$;
CREATE TRIGGER payout_timeline_is_append_only BEFORE UPDATE ON payout_timeline
FOR EACH ROW EXECUTE FUNCTION payout_timeline_is_append_only();

-- restores: how often newer entries of this ledger were lost. payouts_suspended: no payout is registered or decided until a
-- person resumes them.
ALTER TABLE ledger_epoch ADD COLUMN restores BIGINT NOT NULL DEFAULT 0;
ALTER TABLE ledger_epoch ADD COLUMN payouts_suspended BOOLEAN NOT NULL DEFAULT FALSE;
