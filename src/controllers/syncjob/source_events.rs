//! What events say about the source of a job.

use crate::api::v1alpha1::reasons::{ConditionType, EventReason, Reason};
use crate::api::v1alpha1::sync_job::SyncJobStatus;
use crate::cluster::events::EventDraft;
use crate::controllers::conditions::reason_of;
use crate::domain::cursor::stream_name;
use crate::ledger::{Erasure, KeptRows};
use crate::resolve::SpecError;

/// Kept sources that an event names: with the longest names, more would not fit into its note.
const NAMED: usize = 3;

fn is_duplicate(status: Option<&SyncJobStatus>) -> bool {
    let reason = status.and_then(|status| reason_of(&status.conditions, ConditionType::Ready));
    reason == Some(Reason::DuplicateSource.as_str())
}

/// The event of a job whose source an older one begins to read, or read before it.
pub fn duplicate(previous: Option<&SyncJobStatus>, error: Option<&SpecError>) -> Option<EventDraft> {
    let error = error.filter(|error| error.reason == Reason::DuplicateSource && !is_duplicate(previous))?;
    Some(EventDraft::warning(EventReason::DuplicateSource, error.message.clone()))
}

/// The event of a job that was deleted with its data: what is gone, what stays, and why.
pub fn erased(status: Option<&SyncJobStatus>, erasure: &Erasure) -> EventDraft {
    let Erasure { rows, dead_letters, runs, kept } = erasure;
    let gone = format!(
        "data deleted from the ledger (spec.deletionPolicy: Delete): {rows} rows, {dead_letters} dead letters, {runs} \
         recorded runs"
    );
    let stays = match kept.as_slice() {
        [] if is_duplicate(status) => "; kept: the rows of its source, which another SyncJob reads".to_owned(),
        [] => String::new(),
        kept => {
            let named: Vec<_> = kept.iter().take(NAMED).map(kept_rows).collect();
            let more = kept.len().saturating_sub(NAMED);
            let more = if more > 0 { format!("; and {more} more") } else { String::new() };
            format!("; kept: {}{more}; delete those jobs with deletionPolicy: Delete too", named.join("; "))
        }
    };
    EventDraft::normal(EventReason::DataDeleted, gone + &stays)
}

fn kept_rows(kept: &KeptRows) -> String {
    let stream = stream_name(&kept.stream.stream);
    let partition = match kept.stream.partition.as_str() {
        "" => String::new(),
        name => format!(", partition {name:?}"),
    };
    let reader = kept.readers.first().map_or("", String::as_str);
    let others = match kept.readers.len().saturating_sub(1) {
        0 => String::new(),
        others => format!(" and {others} more"),
    };
    format!("rows of stream {stream:?}{partition}, which SyncJob {reader:?}{others} reads too")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::StreamKey;

    fn kept(partition: &str, readers: &[&str]) -> KeptRows {
        let stream = StreamKey {
            namespace: "team".into(),
            connection: "bank".into(),
            provider: "mono".into(),
            environment: "Sandbox".into(),
            stream: "transactions#abc".into(),
            partition: partition.into(),
        };
        KeptRows { stream, readers: readers.iter().map(|name| (*name).to_owned()).collect() }
    }

    #[test]
    fn an_event_of_a_deletion_says_what_stays_and_why() {
        let erasure = Erasure { rows: 3, dead_letters: 1, runs: 2, kept: Vec::new() };
        let gone =
            "data deleted from the ledger (spec.deletionPolicy: Delete): 3 rows, 1 dead letters, 2 recorded runs";
        assert_eq!(erased(None, &erasure).message, gone);
        let kept = vec![kept("", &["other"]), kept("a", &["b", "c"])];
        assert_eq!(
            erased(None, &Erasure { kept, ..erasure.clone() }).message,
            format!(
                "{gone}; kept: rows of stream \"transactions\", which SyncJob \"other\" reads too; rows of stream \
                 \"transactions\", partition \"a\", which SyncJob \"b\" and 1 more reads too; delete those jobs with \
                 deletionPolicy: Delete too"
            )
        );
        // The longest names that the schemas allow; the API server rejects a note of more than 1024 bytes.
        let job = "j".repeat(52);
        let mut longest = self::kept(&"p".repeat(63), &[job.as_str(); 256]);
        longest.stream.stream = format!("{}#abc", "s".repeat(63));
        let erasure = Erasure { rows: u64::MAX, dead_letters: u64::MAX, runs: u64::MAX, kept: vec![longest; 256] };
        let message = erased(None, &erasure).message;
        assert!(message.contains("; and 253 more") && message.len() <= 1024, "{}: {message}", message.len());
    }
}
