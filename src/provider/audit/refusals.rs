//! Collapses equal refusals into one row, and limits the rows that refusals cause.
//!
//! A caller without any right can be refused as often as its rate limit allows. Equal refusals (same caller, connection,
//! reason, action and licence profile) within a window are one row, with their number and the times of the first and the
//! last. The window of the first row is short, so that it is written soon; while refusals go on, each window is twice as
//! long as the one before. A caller that is refused in ever new ways has a number of rows; beyond it its refusals are one
//! row of their own kind ([`OTHER_REFUSALS`]), which tells how many they are. What is refused while all rows are used up
//! is counted in a metric only.

use std::collections::HashMap;
use std::time::Duration;

use crate::domain::time::Mono;
use crate::domain::token_buckets::{BucketLimit, TokenBuckets};
use crate::ledger::audit::{AuditEntry, AuditKind, Repeats};

/// The action of a row that counts the refusals of one caller, or of the service accounts of one namespace, that have no row
/// of their own. Its connection is empty.
pub const OTHER_REFUSALS: &str = "other_refusals";
/// The reason of such a row.
pub const ROW_LIMIT: &str = "row_limit";

/// The window of the first row of equal refusals.
const FIRST_WINDOW: Duration = Duration::from_secs(1);
/// The longest window: ten minutes of continued refusals are one row.
const MAX_WINDOW: Duration = Duration::from_mins(10);

/// Rows of one caller: a few for each connection that it should not have called, then one a minute.
const CALLER_ROWS: BucketLimit = BucketLimit { interval: Duration::from_mins(1), burst: 60 };
/// Rows of the callers of one namespace: a user who may create one ServiceAccount there may create many.
const NAMESPACE_ROWS: BucketLimit = BucketLimit { interval: Duration::from_secs(15), burst: 240 };
/// Rows of all callers: some 20 MB a day at most.
const ALL_ROWS: BucketLimit = BucketLimit { interval: Duration::from_secs(1), burst: 2_000 };
/// Rows of all errors that are no refusals: an outage makes many, and they must not take the rows of refusals; some 2 MB a
/// day at most.
const ERROR_ROWS: BucketLimit = BucketLimit { interval: Duration::from_secs(10), burst: 500 };
/// Callers and namespaces whose rows are counted; as many as can have had a row recently.
const MAX_BUCKETS: usize = 4_096;

/// Why a refusal has no row of its own.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum RowLimit {
    /// The rows of its caller are used up.
    Caller,
    /// The rows of its caller's namespace are used up.
    Namespace,
    /// All rows are used up.
    Total,
}

impl RowLimit {
    /// The label of the metric.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Namespace => "namespace",
            Self::Total => "total",
        }
    }
}

/// Refusals that are one row if they are in one window.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct RefusalKey {
    kind: AuditKind,
    subject: String,
    namespace: String,
    connection: String,
    action: String,
    rights_profile: Option<String>,
    reason: Option<String>,
}

/// The window of equal refusals.
#[derive(Debug)]
struct Window {
    /// The row; `None` if there was no refusal in this window yet.
    row: Option<AuditEntry>,
    length: Duration,
    ends: Mono,
}

/// The refusals that are not written yet.
#[derive(Debug)]
pub(super) struct RefusalLog {
    windows: HashMap<RefusalKey, Window>,
    callers: TokenBuckets<String>,
    namespaces: TokenBuckets<String>,
    all: TokenBuckets<()>,
    opened: bool,
}

impl Default for RefusalLog {
    fn default() -> Self {
        Self::with_rows(ALL_ROWS)
    }
}

impl RefusalLog {
    /// A log of requests that were allowed and ended with an error.
    pub(super) fn of_errors() -> Self {
        Self::with_rows(ERROR_ROWS)
    }

    fn with_rows(all: BucketLimit) -> Self {
        Self {
            windows: HashMap::new(),
            callers: TokenBuckets::new(CALLER_ROWS, MAX_BUCKETS),
            namespaces: TokenBuckets::new(NAMESPACE_ROWS, MAX_BUCKETS),
            all: TokenBuckets::new(all, 1),
            opened: false,
        }
    }

    /// Adds a refusal.
    ///
    /// # Errors
    /// If it has no row of its own.
    pub(super) fn record(&mut self, refusal: AuditEntry, now: Mono) -> Result<(), RowLimit> {
        let key = RefusalKey::of(&refusal);
        if self.repeat(&key, &refusal) {
            return Ok(());
        }
        let Err(limit) = self.take_row(&refusal.subject, now) else {
            self.open(key, refusal, now);
            return Ok(());
        };
        let subject = match (limit, namespace(&refusal.subject)) {
            (RowLimit::Total, _) => return Err(limit),
            // The group of all ServiceAccounts of the namespace.
            (RowLimit::Namespace, Some(namespace)) => format!("system:serviceaccounts:{namespace}"),
            _ => refusal.subject,
        };
        let other = AuditEntry {
            subject,
            action: OTHER_REFUSALS.to_owned(),
            reason: Some(ROW_LIMIT.to_owned()),
            rights_profile: None,
            namespace: String::new(),
            connection: String::new(),
            provider: None,
            purpose: None,
            request_id: None,
            ..refusal
        };
        let key = RefusalKey::of(&other);
        if !self.repeat(&key, &other) && self.all.take(&(), now).is_ok() {
            self.open(key, other, now);
        }
        Err(limit)
    }

    /// Whether a row was opened since the last call: [`Self::next_due`] may be earlier.
    pub(super) fn take_opened(&mut self) -> bool {
        std::mem::take(&mut self.opened)
    }

    /// When the next row is due; `None` if there is none.
    pub(super) fn next_due(&self) -> Option<Mono> {
        self.windows.values().filter(|window| window.row.is_some()).map(|window| window.ends).min()
    }

    /// Removes the rows whose windows have ended, oldest first.
    pub(super) fn take_due(&mut self, now: Mono) -> Vec<AuditEntry> {
        let mut rows = Vec::new();
        self.windows.retain(|_, window| {
            if window.ends > now {
                return true;
            }
            let Some(row) = window.row.take() else { return false };
            rows.push(row);
            window.length = (window.length * 2).min(MAX_WINDOW);
            window.ends = now + window.length;
            true
        });
        rows.sort_by_key(|row| row.at);
        rows
    }

    /// Removes all rows, oldest first.
    pub(super) fn take_all(&mut self) -> Vec<AuditEntry> {
        let mut rows: Vec<_> =
            std::mem::take(&mut self.windows).into_values().filter_map(|window| window.row).collect();
        rows.sort_by_key(|row| row.at);
        rows
    }

    /// Counts the refusal in the row of an equal one; `false` if there is none in this window.
    fn repeat(&mut self, key: &RefusalKey, refusal: &AuditEntry) -> bool {
        let Some(row) = self.windows.get_mut(key).and_then(|window| window.row.as_mut()) else { return false };
        let before = row.repeats.map_or(1, |repeats| repeats.count);
        row.repeats = Some(Repeats { count: before.saturating_add(1), last: refusal.at.max(row.at) });
        true
    }

    /// Opens a window with its first refusal, or puts the refusal into the window that is open.
    fn open(&mut self, key: RefusalKey, refusal: AuditEntry, now: Mono) {
        let first = Window { row: None, length: FIRST_WINDOW, ends: now + FIRST_WINDOW };
        let window = self.windows.entry(key).or_insert(first);
        if window.ends <= now {
            (window.length, window.ends) = (FIRST_WINDOW, now + FIRST_WINDOW);
        }
        window.row = Some(refusal);
        self.opened = true;
    }

    /// Takes a row of the caller, of its namespace and of all.
    fn take_row(&mut self, subject: &str, now: Mono) -> Result<(), RowLimit> {
        let caller = subject.to_owned();
        let namespace = namespace(subject).map(str::to_owned);
        self.all.wait(&(), now).map_err(|_| RowLimit::Total)?;
        if let Some(namespace) = &namespace {
            self.namespaces.wait(namespace, now).map_err(|_| RowLimit::Namespace)?;
        }
        self.callers.take(&caller, now).map_err(|_| RowLimit::Caller)?;
        if let Some(namespace) = &namespace {
            self.namespaces.take(namespace, now).map_err(|_| RowLimit::Namespace)?;
        }
        self.all.take(&(), now).map_err(|_| RowLimit::Total)
    }
}

impl RefusalKey {
    fn of(refusal: &AuditEntry) -> Self {
        Self {
            kind: refusal.kind,
            subject: refusal.subject.clone(),
            namespace: refusal.namespace.clone(),
            connection: refusal.connection.clone(),
            action: refusal.action.clone(),
            rights_profile: refusal.rights_profile.clone(),
            reason: refusal.reason.clone(),
        }
    }
}

/// The namespace of a ServiceAccount's user name.
fn namespace(subject: &str) -> Option<&str> {
    subject.strip_prefix("system:serviceaccount:")?.split_once(':').map(|(namespace, _)| namespace)
}

#[cfg(test)]
mod tests;
