-- What a run that did not succeed says about its cause, as JSON: HTTP status, what was received or which field is at fault,
-- and the partitions that failed. Without it a restarted operator would report less than the one before.
ALTER TABLE sync_runs ADD COLUMN failure TEXT;
