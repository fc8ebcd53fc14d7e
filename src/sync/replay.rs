//! Dead letters, converted again from their raw payloads by the current spec and profile.
//!
//! The rows have the keys that they would have had, so they are ordinary upserts; each payload's rows are written in one
//! page transaction, which also resolves the dead letters. A record of which a newer version is stored is not written, nor
//! one without an ID whose key is stored: that row may be an equal record. The cursor stays where it is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::Value;
use uuid::Uuid;

use super::account_scope::AccountScope;
use super::account_tokens::{AccountTokenError, AccountTokens, TokenKey};
use super::body_text::BodyText;
use super::convert::{Accepted, Converter, ConverterWindow, RejectedRecord};
use super::cursor;
use super::events::page_events;
use super::key::Ordinals;
use super::page::{self, Record};
use super::paging::PageRequest;
use super::record::{AccountInfo, fingerprint};
use crate::domain::money::Currency;
use crate::domain::record::KeyQuality;
use crate::domain::rejection_reason::RejectionReason;
use crate::domain::row_batch::RowBatch;
use crate::ledger::audit::AuditEntry;
use crate::ledger::encryption::EncryptionError;
use crate::ledger::raw::{
    JobDeadLetter, RawPayload, ReplayOutcome, Replayability, ReplayedLetter, ReplayedLetters, StoredRaw,
};
use crate::ledger::{CommitScope, CursorKey, Lease, Ledger, LedgerError, PageCommit, RowIdentity, RunId};
use crate::profile::{Stream, json_text};
use crate::settings::sync_plan::{Partition, SyncPlan};

/// What a replay depends on.
#[derive(Clone, Copy)]
pub struct ReplayContext<'a> {
    /// Where the payloads are and the rows go.
    pub ledger: &'a dyn Ledger,
    /// The lease of the job: no run of it writes meanwhile.
    pub lease: &'a Lease,
    /// The keys of the payloads and of account tokens.
    pub account_tokens: &'a AccountTokens,
    /// Who replays.
    pub audit: &'a AuditEntry,
    /// The correlation ID.
    pub run: RunId,
    /// The time.
    pub now: Timestamp,
}

/// Replays dead letters of the job of `plan`; the outcome of each.
///
/// # Errors
/// If the ledger fails, or the key of account tokens is missing. What was replayed before stays so.
pub async fn replay(
    plan: &SyncPlan,
    letters: &[JobDeadLetter],
    cx: ReplayContext<'_>,
) -> Result<Vec<ReplayedLetter>, AccountTokenError> {
    let token_key = cx.account_tokens.key(cx.ledger, cx.lease, cx.now).await?;
    let mut outcomes: BTreeMap<i64, ReplayOutcome> = BTreeMap::new();
    // In the order in which they were read, so that records without an ID are numbered as they were.
    let mut by_payload: BTreeMap<(Timestamp, Uuid), Vec<&JobDeadLetter>> = BTreeMap::new();
    for letter in letters {
        match (letter.replayability(cx.now), letter.raw) {
            (Replayability::Replayable, Some(raw)) => {
                by_payload.entry((letter.last, raw.id)).or_default().push(letter);
            }
            (not, _) => {
                outcomes.insert(letter.id, refused(not));
            }
        }
    }
    let mut ordinals: BTreeMap<String, Ordinals> = BTreeMap::new();
    for ((_, id), letters) in by_payload {
        let payload = Payload { plan, cx, token_key: &token_key, id };
        outcomes.extend(payload.replay(&letters, &mut ordinals).await?);
    }
    Ok(letters.iter().filter_map(|l| outcomes.get(&l.id).map(|o| ReplayedLetter { id: l.id, outcome: *o })).collect())
}

const fn refused(not: Replayability) -> ReplayOutcome {
    match not {
        Replayability::NotStored => ReplayOutcome::RawNotStored,
        Replayability::Masked => ReplayOutcome::RawMasked,
        Replayability::Expired | Replayability::Replayable => ReplayOutcome::RawExpired,
    }
}

/// One raw payload.
struct Payload<'a> {
    plan: &'a SyncPlan,
    cx: ReplayContext<'a>,
    token_key: &'a TokenKey,
    id: Uuid,
}

impl Payload<'_> {
    /// Replays the dead letters of this payload.
    async fn replay(
        &self,
        letters: &[&JobDeadLetter],
        ordinals: &mut BTreeMap<String, Ordinals>,
    ) -> Result<BTreeMap<i64, ReplayOutcome>, LedgerError> {
        let all = |outcome| letters.iter().map(|letter| (letter.id, outcome)).collect();
        // Read in one statement: what expires meanwhile is there or it is not.
        let Some(stored) = self.cx.ledger.load_raw(self.id, self.cx.now).await? else {
            return Ok(all(ReplayOutcome::RawExpired));
        };
        let Some((partition, cursor)) = self.partition(&stored) else {
            return Ok(all(ReplayOutcome::SourceChanged));
        };
        let body = match self.decrypt(&stored) {
            Ok(body) => body,
            Err(EncryptionError::UnknownKey | EncryptionError::NoKey) => return Ok(all(ReplayOutcome::KeyMissing)),
            Err(_) => return Ok(all(ReplayOutcome::RawExpired)),
        };
        let stream = self.plan.stream.expanded(&partition.parameters);
        let Some(rejected) = self.rejected(&body, &stream, letters) else {
            return Ok(all(ReplayOutcome::SourceChanged));
        };
        let converter = self.converter(partition, stream, &stored);
        let numbers = ordinals.entry(format!("{}\0{}", partition.name, stored.payload.window)).or_default();
        let (mut outcomes, mut accepted) = (BTreeMap::new(), Vec::new());
        for letter in letters {
            let outcome = match rejected.get(&letter.fingerprint) {
                // It is as large as it was.
                None if letter.reason == RejectionReason::RecordTooLarge.as_str() => Some(ReplayOutcome::StillRejected),
                None => Some(ReplayOutcome::SourceChanged),
                Some(records) => match converter.convert_again(records, numbers) {
                    None => Some(ReplayOutcome::StillRejected),
                    Some(rows) => {
                        accepted.push((letter.id, rows));
                        None
                    }
                },
            };
            outcomes.extend(outcome.map(|outcome| (letter.id, outcome)));
        }
        if !accepted.is_empty() {
            self.commit(&cursor, &stored, accepted, &mut outcomes).await?;
        }
        Ok(outcomes)
    }

    /// The partition that the payload was fetched for, as the plan reads it now.
    fn partition(&self, stored: &StoredRaw) -> Option<(&Partition, CursorKey)> {
        self.plan.partitions.iter().find_map(|partition| {
            let cursor = cursor::source_key(self.plan, partition, self.token_key);
            (cursor.stream == stored.stream).then_some((partition, cursor))
        })
    }

    fn decrypt(&self, stored: &StoredRaw) -> Result<Bytes, EncryptionError> {
        let payload = &stored.payload;
        let context = RawPayload::context(&stored.job, &payload.window, payload.page_no, payload.id);
        let body = self.cx.account_tokens.keys().decrypt(&context, &payload.body)?;
        Ok(Bytes::copy_from_slice(&body))
    }

    /// The records of the dead letters, by fingerprint; `None` if the page cannot be read as the stream is described now.
    fn rejected(
        &self,
        body: &Bytes,
        stream: &Stream,
        letters: &[&JobDeadLetter],
    ) -> Option<BTreeMap<String, Vec<RejectedRecord>>> {
        let text = if json_text::is_sound(body) {
            BodyText::sound(body.clone())
        } else {
            BodyText::repaired(body.clone(), Bytes::from(json_text::copy(body)))
        };
        let requested = PageRequest { position: "", read_before: 0, total_before: None, header: None };
        let page = page::parse(&text, stream, requested).ok()?;
        let reasons: BTreeSet<&str> = letters.iter().map(|letter| letter.reason.as_str()).collect();
        let wanted: BTreeSet<&str> = letters.iter().map(|letter| letter.fingerprint.as_str()).collect();
        let mut found: BTreeMap<String, Vec<RejectedRecord>> = BTreeMap::new();
        let read = page.each_record(|record| {
            let (value, is_repaired) = match record {
                Record::Parsed(value) => (value, false),
                Record::Repaired(value) => (value, true),
                // It is as large as it was.
                Record::TooLarge(_) => return,
            };
            let text = value.to_string();
            for reason in &reasons {
                let print = self.token_key.digest("record", &fingerprint(&text, reason));
                if wanted.contains(print.as_str()) {
                    found.entry(print).or_default().push(RejectedRecord { value: value.clone(), is_repaired });
                }
            }
        });
        read.ok().map(|()| found)
    }

    fn converter(&self, partition: &Partition, stream: Arc<Stream>, stored: &StoredRaw) -> Converter {
        let plan = self.plan;
        let scope = AccountScope {
            key: self.token_key.clone(),
            namespace: plan.job.namespace.to_string(),
            connection: plan.connection.clone(),
        };
        let account = account(plan, partition, &stream, &scope, &stored.payload.request);
        let granularity = cursor::granularity(&stream);
        let window = ConverterWindow { from: None, page_no: stored.payload.page_no, granularity };
        Converter::new(plan, stream, account, scope, window)
    }

    /// Writes the accepted rows of which no newer version is stored, and resolves their dead letters.
    async fn commit(
        &self,
        cursor: &CursorKey,
        stored: &StoredRaw,
        accepted: Vec<(i64, Accepted)>,
        outcomes: &mut BTreeMap<i64, ReplayOutcome>,
    ) -> Result<(), LedgerError> {
        let (mut rows, mut ids) = (Accepted::default(), Vec::with_capacity(accepted.len()));
        for (id, letter) in accepted {
            if self.is_indistinct(cursor, &letter).await? {
                outcomes.insert(id, ReplayOutcome::StillRejected);
                continue;
            }
            let is_newer = self.is_changed(cursor, &batches_of(&letter), stored.created, None).await?;
            outcomes.insert(id, if is_newer { ReplayOutcome::Superseded } else { ReplayOutcome::Replayed });
            ids.push(id);
            if !is_newer {
                rows.rows.extend(letter.rows);
                rows.documents.extend(letter.documents);
                rows.records.extend(letter.records);
            }
        }
        if ids.is_empty() {
            return Ok(());
        }
        let replayed = ReplayedLetters { ids, audit: self.cx.audit.clone() };
        let state = self.cx.ledger.load_cursor(cursor).await?.unwrap_or_default();
        let events = page_events(self.plan, &cursor.stream, self.cx.run, Some(self.id));
        let page = PageCommit {
            cursor,
            lease: self.cx.lease,
            run: self.cx.run,
            state: &state,
            rows: &rows.rows,
            documents: &rows.documents,
            records: &rows.records,
            removed: &[],
            pending: None,
            scope: CommitScope::Page,
            dead_letters: &[],
            // Stored already: the rows refer to it.
            raw: Some(&stored.payload),
            events: events.as_ref(),
            replayed: Some(&replayed),
            fetched: 0,
            conflicting: 0,
            pages: 0,
            now: self.cx.now,
        };
        self.cx.ledger.commit_page(page).await.map(drop)
    }

    /// Whether a row with a derived key of the dead letter is stored. The number in the key counts only the records that
    /// are replayed, so the row may be that of an equal record which was accepted.
    async fn is_indistinct(&self, cursor: &CursorKey, letter: &Accepted) -> Result<bool, LedgerError> {
        self.is_changed(cursor, &batches_of(letter), Timestamp::MIN, Some(KeyQuality::Derived)).await
    }

    /// Whether one of these rows is stored and was changed after `since`; only of rows whose keys are of `quality`, if it
    /// is set.
    async fn is_changed(
        &self,
        cursor: &CursorKey,
        batches: &[RowBatch],
        since: Timestamp,
        quality: Option<KeyQuality>,
    ) -> Result<bool, LedgerError> {
        for batch in batches {
            let identities: Vec<RowIdentity> = batch
                .rows()
                .filter(|row| quality.is_none_or(|quality| row.key_quality() == quality.as_str()))
                .map(|row| RowIdentity {
                    account_token: row.account_token().to_owned(),
                    record_key: row.key().to_owned(),
                })
                .collect();
            let table = batch.table().name;
            let changed = self.cx.ledger.changed_since(&cursor.stream, table, &identities, since).await?;
            if changed.contains(&true) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn batches_of(letter: &Accepted) -> Vec<RowBatch> {
    let mut batches = RowBatch::of_records(&letter.records);
    batches.push(RowBatch::of_transactions(&letter.rows));
    batches.push(RowBatch::of_documents(&letter.documents));
    batches.retain(|batch| !batch.is_empty());
    batches
}

/// The account of the payload's records. What only its provider can say was stored with the payload.
fn account(
    plan: &SyncPlan,
    partition: &Partition,
    stream: &Stream,
    scope: &AccountScope,
    request: &str,
) -> AccountInfo {
    let parameter = stream.account.as_ref().and_then(|account| account.parameter.as_ref());
    let id = parameter.and_then(|parameter| partition.parameters.get(parameter));
    let id = id.cloned().unwrap_or_default();
    let request: Value = serde_json::from_str(request).unwrap_or_default();
    let said = |name: &str| request.pointer(&format!("/account/{name}")).and_then(Value::as_str);
    AccountInfo {
        token: scope.account(&id),
        display: said("display")
            .map_or_else(|| plan.mask.clone().with_key(scope.mask_key()).account(&id), str::to_owned),
        currency: said("currency").and_then(|code| Currency::parse(code).ok()),
    }
}
