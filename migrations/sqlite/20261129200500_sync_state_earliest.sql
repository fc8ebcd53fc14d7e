-- Start of a job's first window, where the job sets one: a later change of startTime must not open a gap.
ALTER TABLE sync_state ADD COLUMN earliest TEXT;
