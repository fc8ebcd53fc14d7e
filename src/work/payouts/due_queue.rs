//! What is due, by bank: each bank has a place of its own, so that one that does not answer delays its own payouts
//! only. Pure.

use std::collections::{BTreeMap, HashSet, VecDeque};

use crate::domain::key::ObjectKey;
use crate::ledger::payouts::DuePayout;

/// Payouts of one bank that are handled at the same time.
pub(super) const MAX_RUNNING_OF_BANK: usize = 16;
/// Payouts that are handled at the same time.
pub(super) const MAX_RUNNING: usize = 512;
/// Payouts of one bank that wait in memory; the others are read again from the ledger.
const MAX_WAITING_OF_BANK: usize = 512;
/// How few wait when those that were left out are read again.
const LOW_WATER: usize = 64;

/// A payout, wherever it is in the queue.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct PayoutKey {
    namespace: String,
    payout_id: String,
}

impl PayoutKey {
    fn of(due: &DuePayout) -> Self {
        Self { namespace: due.namespace.clone(), payout_id: due.payout_id.clone() }
    }
}

/// The payouts of one bank.
#[derive(Debug, Default)]
struct BankQueue {
    waiting: VecDeque<DuePayout>,
    running: usize,
    /// Whether some were left out because too many wait.
    left_out: bool,
}

/// Payouts that are due: they wait, or they are being handled.
#[derive(Debug, Default)]
pub(super) struct DueQueue {
    banks: BTreeMap<ObjectKey, BankQueue>,
    known: HashSet<PayoutKey>,
    running: usize,
    /// The bank that had its turn last.
    last: Option<ObjectKey>,
}

fn bank_of(due: &DuePayout) -> ObjectKey {
    ObjectKey::new(due.namespace.as_str(), due.bank.as_str())
}

impl DueQueue {
    /// Adds a payout, unless it is there or too many of its bank wait.
    pub(super) fn offer(&mut self, due: DuePayout) {
        let key = PayoutKey::of(&due);
        if self.known.contains(&key) {
            return;
        }
        let bank = self.banks.entry(bank_of(&due)).or_default();
        if bank.waiting.len() >= MAX_WAITING_OF_BANK {
            bank.left_out = true;
            return;
        }
        bank.waiting.push_back(due);
        self.known.insert(key);
    }

    /// Takes at most `limit` payouts to handle: one of each bank in turn, the longest due of a bank first.
    pub(super) fn take(&mut self, limit: usize) -> Vec<DuePayout> {
        let mut taken = Vec::new();
        while taken.len() < limit && self.running < MAX_RUNNING {
            let Some(bank) = self.next_bank() else { break };
            let Some(queue) = self.banks.get_mut(&bank) else { break };
            let Some(due) = queue.waiting.pop_front() else { break };
            queue.running += 1;
            self.running += 1;
            self.last = Some(bank);
            taken.push(due);
        }
        taken
    }

    /// A payout that was taken is handled.
    pub(super) fn finished(&mut self, due: &DuePayout) {
        self.known.remove(&PayoutKey::of(due));
        let bank = bank_of(due);
        self.running = self.running.saturating_sub(1);
        let Some(queue) = self.banks.get_mut(&bank) else { return };
        queue.running = queue.running.saturating_sub(1);
        if queue.running == 0 && queue.waiting.is_empty() && !queue.left_out {
            self.banks.remove(&bank);
        }
    }

    /// Whether payouts were left out for which there is room now; asked once, it is forgotten.
    pub(super) fn take_left_out(&mut self) -> bool {
        let mut found = false;
        for queue in self.banks.values_mut().filter(|queue| queue.left_out && queue.waiting.len() <= LOW_WATER) {
            queue.left_out = false;
            found = true;
        }
        found
    }

    /// The next bank in turn that has a payout waiting and room for it.
    fn next_bank(&self) -> Option<ObjectKey> {
        let is_ready = |queue: &BankQueue| queue.running < MAX_RUNNING_OF_BANK && !queue.waiting.is_empty();
        let after = self.last.as_ref();
        let mut later =
            self.banks.iter().filter(|(key, queue)| after.is_none_or(|last| *key > last) && is_ready(queue));
        let first = || self.banks.iter().find(|(_, queue)| is_ready(queue));
        later.next().or_else(first).map(|(key, _)| key.clone())
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn due(bank: &str, n: usize) -> DuePayout {
        DuePayout {
            due: Timestamp::from_second(i64::try_from(n).unwrap()).unwrap(),
            namespace: "team".to_owned(),
            payout_id: format!("{bank}-{n}"),
            bank: bank.to_owned(),
        }
    }

    fn ids(taken: &[DuePayout]) -> Vec<&str> {
        taken.iter().map(|due| due.payout_id.as_str()).collect()
    }

    #[test]
    fn banks_take_turns_and_the_longest_due_is_first() {
        let mut queue = DueQueue::default();
        for n in 0..3 {
            queue.offer(due("a", n));
        }
        queue.offer(due("b", 9));
        queue.offer(due("c", 9));
        assert_eq!(ids(&queue.take(10)), ["a-0", "b-9", "c-9", "a-1", "a-2"]);
        assert!(queue.take(10).is_empty());
    }

    #[test]
    fn a_bank_that_does_not_answer_leaves_the_others_alone() {
        let mut queue = DueQueue::default();
        for n in 0..100_000 {
            queue.offer(due("hung", n));
        }
        assert_eq!(queue.known.len(), MAX_WAITING_OF_BANK, "the rest stays in the ledger");
        assert_eq!(queue.take(1000).len(), MAX_RUNNING_OF_BANK);
        queue.offer(due("good", 1));
        assert_eq!(ids(&queue.take(1000)), ["good-1"]);
        assert!(queue.take(1000).is_empty());
    }

    #[test]
    fn a_payout_is_in_the_queue_once_until_it_is_handled() {
        let mut queue = DueQueue::default();
        queue.offer(due("a", 1));
        queue.offer(due("a", 1));
        let taken = queue.take(10);
        assert_eq!(taken.len(), 1);
        queue.offer(due("a", 1));
        assert!(queue.take(10).is_empty(), "it is being handled");
        queue.finished(&taken[0]);
        assert_eq!(queue.known.len(), 0);
        queue.offer(due("a", 1));
        assert_eq!(queue.take(10).len(), 1);
    }

    #[test]
    fn those_that_were_left_out_are_read_again_when_few_wait() {
        let mut queue = DueQueue::default();
        for n in 0..=MAX_WAITING_OF_BANK {
            queue.offer(due("a", n));
        }
        assert!(!queue.take_left_out(), "too many wait still");
        let mut handled = 0;
        while !queue.take_left_out() {
            for due in queue.take(10) {
                queue.finished(&due);
                handled += 1;
            }
        }
        assert_eq!(handled, (MAX_WAITING_OF_BANK - LOW_WATER).next_multiple_of(10));
        assert!(!queue.take_left_out(), "asked once");
    }
}
