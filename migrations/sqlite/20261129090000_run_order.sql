-- The order of a job's runs, by their starts. Not by started_ms: a run that started while the clock was ahead would
-- stay the newest until the clock catches up. The trigger numbers the rows of every version of the program.
ALTER TABLE sync_runs ADD COLUMN seq INTEGER NOT NULL DEFAULT 0;
UPDATE sync_runs SET seq = (
  SELECT count(*) FROM sync_runs o
  WHERE o.namespace = sync_runs.namespace AND o.job = sync_runs.job
  AND (o.started_ms, o.run_id) <= (sync_runs.started_ms, sync_runs.run_id)
);
CREATE INDEX sync_runs_in_order ON sync_runs (namespace, job, seq);
CREATE TRIGGER sync_runs_are_numbered AFTER INSERT ON sync_runs WHEN NEW.seq = 0
BEGIN
  UPDATE sync_runs SET seq = 1 + (SELECT max(seq) FROM sync_runs WHERE namespace = NEW.namespace AND job = NEW.job)
  WHERE run_id = NEW.run_id;
END;
