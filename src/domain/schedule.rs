//! When something is due next: a fixed interval, or a cron line in a time zone. Placeholder of the full rules.
