//! From the records of a page to rows, documents and dead letters. Pure, and the same for a page that was fetched and
//! for one that is read again from its raw payload.

use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde_json::Value;

use super::account_scope::AccountScope;
use super::key::{Duplicates, MAX_KEY, Ordinals, Unkeyed, dedupe};
use super::page::{Page, Record};
use super::record::{AccountInfo, RecordParser, Rejection, dead_letter, dead_letter_of_text};
use super::rule_record;
use crate::domain::document::{DocumentKind, DocumentRecord};
use crate::domain::mask::MaskRules;
use crate::domain::record::{BookingTime, DeadLetter, Granularity, RowStatus, TransactionRecord};
use crate::domain::records::{CanonicalRecord, PendingSnapshot, RemovedKey};
use crate::domain::rejection_reason::RejectionReason;
use crate::domain::run_reason::RunReason;
use crate::profile::json_text;
use crate::profile::{RecordKind, Stream, Supersedes, WHOLE_DAY_MARGIN};
use crate::settings::sync_plan::SyncPlan;
use crate::settings::validation::{RuleValue, Validations};

/// Rejected records of a page that are within any budget but none: one bad record of a short page is a dead letter, not
/// drift.
const BUDGET_FLOOR: usize = 5;
/// The fewest records of a page none of which is valid that are drift.
const MIN_JUDGED_RECORDS: usize = 3;

/// What the records of a page are converted with.
pub struct Converter {
    stream: Arc<Stream>,
    account: AccountInfo,
    mask: MaskRules,
    granularity: Granularity,
    scope: AccountScope,
    validations: Arc<Validations>,
    first_day: Option<Date>,
    /// Most rejected records, in percent.
    budget_percent: u8,
    /// The number of the page in its window.
    pub page_no: u32,
}

/// The oldest and the newest time of a page's records.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct PageTimes {
    /// The oldest.
    pub oldest: Timestamp,
    /// The newest.
    pub newest: Timestamp,
}

impl PageTimes {
    /// Those of `times`; `None` without any.
    pub fn of(times: impl IntoIterator<Item = Timestamp>) -> Option<Self> {
        times.into_iter().fold(None, |found: Option<Self>, at| {
            Some(found.map_or(Self { oldest: at, newest: at }, |found| Self {
                oldest: found.oldest.min(at),
                newest: found.newest.max(at),
            }))
        })
    }
}

/// The records of a page, converted.
pub struct Converted {
    /// Transactions.
    pub rows: Vec<TransactionRecord>,
    /// Documents.
    pub documents: Vec<DocumentRecord>,
    /// Records of the other kinds.
    pub records: Vec<CanonicalRecord>,
    /// Records that the provider withdrew.
    pub removed: Vec<RemovedKey>,
    /// The pending transactions, if the page lists all of them.
    pub pending: Option<PendingSnapshot>,
    /// Rejected records, up to the budget.
    pub dead_letters: Vec<DeadLetter>,
    /// All rejected records.
    pub rejected: u64,
    /// Records that were dropped for another one with the same key.
    pub duplicates: Duplicates,
    /// The reason, if more were rejected than may be.
    pub too_many: Option<RunReason>,
    /// The reason and the field of the first that was rejected.
    pub first_rejection: Option<String>,
    /// Numbers of the window's records without an ID.
    pub ordinals: Ordinals,
    /// The oldest and the newest time.
    pub times: Option<PageTimes>,
}

/// The records of a page before their keys are derived.
#[derive(Default)]
struct Read {
    rows: Vec<Unkeyed<TransactionRecord>>,
    documents: Vec<DocumentRecord>,
    records: Vec<CanonicalRecord>,
    times: Vec<Timestamp>,
}

impl Converter {
    /// What the records of `stream` are converted with in a window that starts at `from`. The scope's key is also that
    /// of masked values.
    pub fn new(
        plan: &SyncPlan,
        stream: Arc<Stream>,
        account: AccountInfo,
        scope: AccountScope,
        window: ConverterWindow,
    ) -> Self {
        let first_day = window.from.filter(|_| stream.reads_whole_days()).and_then(|from| {
            let start = from.checked_add(WHOLE_DAY_MARGIN).ok()?;
            Some(start.to_zoned(TimeZone::UTC).date())
        });
        Self {
            first_day,
            stream,
            account,
            mask: plan.mask.clone().with_key(scope.mask_key()),
            granularity: window.granularity,
            scope,
            validations: Arc::clone(&plan.validations),
            budget_percent: plan.dead_letter_budget_percent,
            page_no: window.page_no,
        }
    }

    /// Converts records to rows, documents and records of other kinds. What is rejected beyond the budget is only
    /// counted.
    pub fn convert(&self, page: &Page, mut ordinals: Ordinals) -> Result<Converted, RunReason> {
        let (mut read, mut dead_letters) = (Read::default(), Vec::new());
        let (mut index, mut rejected, mut unreadable, mut first_rejection) = (0_u32, 0_usize, 0_usize, None);
        page.each_record(|record| {
            let letter = match record {
                Record::TooLarge(text) => Some(dead_letter_of_text(text, index, self.page_no)),
                Record::Parsed(value) | Record::Repaired(value) => {
                    let is_repaired = matches!(record, Record::Repaired(_));
                    let outcome = self.read(value, is_repaired, &mut read);
                    outcome.err().map(|rejection| dead_letter(value, rejection, index, self.page_no))
                }
            };
            if let Some(letter) = letter {
                rejected += 1;
                unreadable += usize::from(letter.reason != RejectionReason::ValidationFailed);
                first_rejection.get_or_insert_with(|| match letter.path.as_str() {
                    "" => letter.reason.to_string(),
                    path => format!("{} at {path}", letter.reason),
                });
                if !self.is_over_budget(rejected, page.records) {
                    // Keyed: the rejected record could be guessed.
                    let fingerprint = self.scope.key.digest("record", &letter.fingerprint);
                    dead_letters.push(DeadLetter { fingerprint, ..letter });
                }
            }
            index = index.saturating_add(1);
        })?;
        let times = PageTimes::of(read.times);
        let (rows, duplicate_rows) = dedupe(read.rows, &mut ordinals);
        let (documents, duplicate_documents) = dedupe(read.documents, &mut ordinals);
        let (records, duplicate_records) = dedupe(read.records, &mut ordinals);
        Ok(Converted {
            pending: if rejected == 0 { self.pending(&rows) } else { None },
            removed: self.removed(page)?,
            rows,
            documents,
            records,
            dead_letters,
            rejected: rejected as u64,
            duplicates: duplicate_rows + duplicate_documents + duplicate_records,
            too_many: self.too_many(rejected, unreadable, page.records),
            first_rejection,
            ordinals,
            times,
        })
    }

    /// Converts single records of a page, which were rejected before; `None` if one of them is rejected again.
    pub(super) fn convert_again(&self, records: &[RejectedRecord], ordinals: &mut Ordinals) -> Option<Accepted> {
        let mut read = Read::default();
        for record in records {
            self.read(&record.value, record.is_repaired, &mut read).ok()?;
        }
        let (rows, _) = dedupe(read.rows, ordinals);
        let (documents, _) = dedupe(read.documents, ordinals);
        let (records, _) = dedupe(read.records, ordinals);
        Some(Accepted { rows, documents, records })
    }

    /// Converts one record and adds it to `read`.
    fn read(&self, value: &Value, is_repaired: bool, read: &mut Read) -> Result<(), Rejection> {
        let Self { stream, account, mask, granularity, scope, first_day, .. } = self;
        let parser = RecordParser { stream, account, mask, granularity: *granularity, scope, first_day: *first_day };
        if parser.is_omitted(value) {
            return Ok(());
        }
        match stream.record {
            RecordKind::Transaction => {
                let Some(row) = parser.row(value)? else { return Ok(()) };
                self.check_key(&row.record.key, is_repaired)?;
                self.validate(|| rule_record::of_transaction(&row.record))?;
                read.times.extend(self.instant(&row.record.booked));
                read.rows.push(row);
            }
            RecordKind::Document => {
                let document = parser.document(value, DocumentKind::Document)?;
                self.check_key(&document.key, is_repaired)?;
                self.validate(|| rule_record::of_json(&document.body))?;
                read.times.extend(parser.cursor_time(value).and_then(|time| self.instant(&time)));
                read.documents.push(document);
            }
            _ => {
                let record = parser.canonical(value)?;
                self.check_key(&record.identity().key, is_repaired)?;
                self.validate(|| rule_record::of_canonical(&record))?;
                read.times.extend(parser.cursor_time(value).and_then(|time| self.instant(&time)));
                read.records.push(record);
            }
        }
        Ok(())
    }

    /// The instant of a time that moves the cursor. A day counts as its start in UTC, for the cursor only.
    fn instant(&self, time: &BookingTime) -> Option<Timestamp> {
        match (self.granularity, time.at) {
            (Granularity::Instant, Some(at)) => Some(at),
            _ => time.on.to_zoned(TimeZone::UTC).ok().map(|midnight| midnight.timestamp()),
        }
    }

    fn validate(&self, record: impl FnOnce() -> RuleValue) -> Result<(), Rejection> {
        if self.validations.is_empty() {
            return Ok(());
        }
        self.validations.check(&record()).map_err(Rejection::failed)
    }

    /// The pending transactions of the account, if the provider lists all of them each time.
    fn pending(&self, rows: &[TransactionRecord]) -> Option<PendingSnapshot> {
        if self.stream.supersedes != Some(Supersedes::Unlisted) {
            return None;
        }
        let pending = rows.iter().filter(|row| row.status == RowStatus::Pending);
        let keys = pending.map(|row| row.key.clone()).collect();
        Some(PendingSnapshot { account_token: self.account.token.clone(), keys })
    }

    /// The records that the provider withdrew. One without an ID, or with one that no row has, is none that is stored.
    fn removed(&self, page: &Page) -> Result<Vec<RemovedKey>, RunReason> {
        let (Some(list), mut removed) = (&self.stream.removed, Vec::new()) else { return Ok(Vec::new()) };
        let text = |value: &Value, pointer: &str| match value.pointer(pointer) {
            Some(Value::String(text)) => Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
            Some(Value::Number(number)) => Some(number.to_string()),
            _ => None,
        };
        page.each_removed(|value, is_repaired| {
            // An ID with a replaced character could be that of another record.
            let is_doubtful = |id: &String| is_repaired && id.contains(json_text::REPLACEMENT);
            let key = text(value, &list.key).filter(|key| key.len() <= MAX_KEY && !key.contains('\0'));
            if let Some(key) = key {
                let account = list.account.as_ref().and_then(|pointer| text(value, pointer));
                if is_doubtful(&key) || account.as_ref().is_some_and(is_doubtful) {
                    return;
                }
                removed.push(RemovedKey { account_token: account.map(|id| self.scope.account(&id)), key });
            }
        })?;
        Ok(removed)
    }

    /// An ID with a replaced character could be that of another record.
    fn check_key(&self, key: &str, is_repaired: bool) -> Result<(), Rejection> {
        if is_repaired && key.contains(json_text::REPLACEMENT) {
            return Err(Rejection::new(RejectionReason::KeyInvalid, &self.stream.key));
        }
        Ok(())
    }

    /// Why a page with so many rejected records is not committed, if it is not. Records that a rule of the job rejects
    /// are no drift of the provider's format.
    fn too_many(&self, rejected: usize, unreadable: usize, records: usize) -> Option<RunReason> {
        if self.budget_percent < 100 && unreadable == records && records >= MIN_JUDGED_RECORDS {
            return Some(RunReason::SchemaDrifted);
        }
        self.is_over_budget(rejected, records).then_some(RunReason::DeadLetterBudgetExceeded)
    }

    /// A budget of nothing allows none; one of everything, all.
    fn is_over_budget(&self, rejected: usize, records: usize) -> bool {
        let floor = if self.budget_percent == 0 { 0 } else { BUDGET_FLOOR };
        let budget = usize::from(self.budget_percent);
        budget < 100 && rejected > floor && rejected * 100 > budget * records
    }
}

/// A record of a page that was rejected.
pub(super) struct RejectedRecord {
    /// The record.
    pub(super) value: Value,
    /// Whether characters of it were replaced.
    pub(super) is_repaired: bool,
}

/// Records that are not rejected any more.
#[derive(Default)]
pub(super) struct Accepted {
    pub(super) rows: Vec<TransactionRecord>,
    pub(super) documents: Vec<DocumentRecord>,
    pub(super) records: Vec<CanonicalRecord>,
}

/// What a conversion needs to know of the window.
#[derive(Copy, Clone, Debug)]
pub struct ConverterWindow {
    /// Its start, if its bounds are instants.
    pub from: Option<Timestamp>,
    /// The number of the page.
    pub page_no: u32,
    /// Granularity of the stream's cursor.
    pub granularity: Granularity,
}
