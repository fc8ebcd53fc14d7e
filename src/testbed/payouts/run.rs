//! One simulated payout: its banks, its submitter, and two replicas of Busbar that act on it in turn.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use rust_decimal::Decimal;
use uuid::Uuid;

use super::bank::{BankHabits, PaymentOrder, PayoutBank};
use super::dice::Dice;
use super::event::Event;
use super::store::{SimulatedCommit, SimulatedStore};
use super::totals::Totals;
use crate::domain::event::EventType;
use crate::domain::hash::mix;
use crate::domain::money::Currency;
use crate::domain::payout::{
    AttemptPlan, BankPromises, Effect, NewPayout, Payout, PayoutInput, PayoutState, StuckPolicy, StuckRules, apply,
    register,
};

/// When every story begins.
const START: i64 = 1_772_366_400;

/// Namespace of the payouts.
const NAMESPACE: &str = "pay";

/// How long a permission to send is good for.
pub(super) const PERMISSION: Duration = Duration::from_mins(1);

/// A story that is not at its end by then has lost its payout.
const HORIZON: Duration = Duration::from_hours(24 * 20);

/// How many banks a payout may go through, one after the other.
const BANKS: u64 = 5;

/// How often, of a hundred acts, Busbar crashes before the act is stored, and how often after it.
const CRASH_PERCENT: u64 = 1;

/// How often, of a hundred acts, a replica acts on what it knew before.
const STALE_PERCENT: u64 = 10;

/// What became of an act of Busbar.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Acted {
    /// It is stored, and its effects follow.
    Stored,
    /// It was refused, or changed nothing.
    Nothing,
    /// Busbar crashed; whether the act is stored is not known to its caller.
    Crashed,
}

/// A bank, and what Busbar believes that it promises.
pub(super) struct SimulatedBank {
    pub(super) bank: PayoutBank,
    pub(super) promises: BankPromises,
}

/// One simulated payout.
pub(super) struct PayoutRun<'s, S> {
    store: &'s mut S,
    pub(super) totals: &'s mut Totals,
    pub(super) dice: Dice,
    pub(super) now: Timestamp,
    pub(super) payout_id: String,
    /// A number that no other story has.
    story: u64,
    banks: Vec<SimulatedBank>,
    /// The attempts that the submitter has sent, or will never send.
    pub(super) handled: BTreeSet<u32>,
    queue: BTreeMap<(Timestamp, u64), Event>,
    events: u64,
    /// When the clock looks next.
    tick_at: Option<Timestamp>,
    /// When something is due about the payout as it is stored.
    next_action: Option<Timestamp>,
    /// Whether the payout as it is stored is final or held.
    is_final_or_held: bool,
    /// What each replica knew last.
    replicas: [Option<(Payout, u64)>; 2],
}

impl<'s, S: SimulatedStore> PayoutRun<'s, S> {
    pub(super) fn new(store: &'s mut S, totals: &'s mut Totals, seed: u64, number: u64) -> Self {
        let roll = seed ^ mix(number);
        let mut dice = Dice::new(roll);
        let first = dice.below(BANKS);
        Self {
            store,
            totals,
            now: Timestamp::from_second(START).unwrap_or(Timestamp::UNIX_EPOCH),
            payout_id: format!("p-{seed:x}-{number}"),
            banks: (0..BANKS).map(|place| simulated_bank((first + place) % BANKS, &mut dice)).collect(),
            story: roll,
            handled: BTreeSet::new(),
            queue: BTreeMap::new(),
            events: 0,
            tick_at: None,
            next_action: None,
            is_final_or_held: false,
            replicas: [None, None],
            dice,
        }
    }

    /// Tells the story to its end, and counts it.
    pub(super) fn run(mut self) {
        self.register();
        let horizon = later(self.now, HORIZON);
        while !self.is_over() && self.now <= horizon {
            let Some(((at, _), event)) = self.queue.pop_first() else { break };
            self.now = at;
            self.happens(event);
            self.schedule_tick();
        }
        self.count();
    }

    /// Whether nothing can happen any more that matters: the payout is final or held, and only the clock looks at it.
    fn is_over(&self) -> bool {
        self.is_final_or_held && self.queue.values().all(|event| matches!(event, Event::Tick))
    }

    /// Notes what is stored now.
    fn stored(&mut self, payout: &Payout) {
        self.next_action = payout.next_action();
        self.is_final_or_held = is_final_or_held(payout);
    }

    fn count(mut self) {
        let now = later(self.now, HORIZON);
        let executions: usize = self.banks.iter().map(|bank| bank.bank.executions(&self.payout_id, now)).sum();
        let Some((payout, _)) = self.current() else {
            self.totals.lost.push(self.payout_id);
            return;
        };
        self.totals.payouts += 1;
        match executions {
            0 => {}
            1 => self.totals.executed += 1,
            _ => self.totals.paid_twice.push(self.payout_id.clone()),
        }
        match payout.state() {
            PayoutState::Confirmed => self.totals.confirmed += 1,
            PayoutState::Held => self.totals.held += 1,
            PayoutState::Frozen => self.totals.frozen += 1,
            PayoutState::NotExecuted if executions > 0 => self.totals.misjudged.push(self.payout_id.clone()),
            PayoutState::NotExecuted if is_final_or_held(&payout) => self.totals.not_executed += 1,
            _ => self.totals.lost.push(self.payout_id.clone()),
        }
        self.store.finish(&self.payout_id);
    }

    pub(super) fn current(&mut self) -> Option<(Payout, u64)> {
        self.store.load(&self.payout_id)
    }

    /// The bank of an attempt.
    pub(super) fn bank(&mut self, attempt_no: u32) -> Option<&mut SimulatedBank> {
        let place = usize::try_from(attempt_no.checked_sub(1)?).ok()?;
        let banks = self.banks.len();
        self.banks.get_mut(place % banks.max(1))
    }

    /// Something happens this long from now.
    pub(super) fn after(&mut self, by: Duration, event: Event) {
        self.events += 1;
        self.queue.insert((later(self.now, by), self.events), event);
    }

    fn schedule_tick(&mut self) {
        let Some(due) = self.next_action else { return };
        let latest = later(due.max(self.now), Duration::from_mins(1));
        if self.tick_at.is_some_and(|at| at <= latest) {
            return;
        }
        // The clock looks every minute at the latest.
        let at = later(due.max(self.now), self.dice.up_to(Duration::from_mins(1)));
        self.tick_at = Some(at);
        self.events += 1;
        self.queue.insert((at, self.events), Event::Tick);
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Send { attempt_no } => self.send(attempt_no),
            Event::Arrive { attempt_no, reply } => self.arrive(attempt_no, reply),
            Event::Settle { attempt_no } => self.settle(attempt_no),
            Event::Hear { input, repeats } => self.hear(input, repeats),
            Event::Ask { attempt_no } => self.ask(attempt_no),
            Event::Cancel { attempt_no } => self.cancel(attempt_no),
            Event::Decide { attempt_no, by_submitter } => self.decide(attempt_no, by_submitter),
            Event::Resend { attempt_no } => self.resend(attempt_no),
            Event::Tick => {
                // A tick that was moved forward leaves its old place in the queue.
                if self.tick_at.is_some_and(|at| at <= self.now) {
                    self.tick_at = None;
                    self.act(&PayoutInput::Tick);
                }
            }
        }
    }

    fn hear(&mut self, input: Box<PayoutInput>, repeats: bool) {
        if self.act(&input) == Acted::Crashed && repeats {
            self.after(Duration::from_mins(1), Event::Hear { input, repeats });
        }
    }

    fn register(&mut self) {
        let rules = StuckRules {
            policy: if self.dice.chance(90) { StuckPolicy::InquireThenRecall } else { StuckPolicy::Inquire },
            ..StuckRules::default()
        };
        let Ok(currency) = Currency::parse("EUR") else { return };
        let new = NewPayout {
            amount: Decimal::ONE_HUNDRED,
            currency,
            namespace: NAMESPACE.to_owned(),
            payout_id: self.payout_id.clone(),
            route: "eu".to_owned(),
            rules,
        };
        let Some(plan) = self.plan(1) else { return };
        let applied = register(new, plan, self.now);
        let commit = SimulatedCommit { applied: &applied, expected: 0, input: None, now: self.now };
        if self.store.commit(&commit) {
            self.stored(&applied.payout);
            let answered = self.dice.up_to(Duration::from_secs(2));
            self.after(answered, Event::Send { attempt_no: 1 });
            self.schedule_tick();
        }
    }

    /// The plan of an attempt, decided now.
    pub(super) fn plan(&mut self, attempt_no: u32) -> Option<AttemptPlan> {
        let send_by = later(self.now, PERMISSION);
        let promises = self.bank(attempt_no)?.promises.clone();
        Some(AttemptPlan {
            attempt_no,
            bank: format!("bank-{attempt_no}"),
            candidate: format!("bank-{attempt_no}"),
            decision_id: Uuid::from_u64_pair(self.story, u64::from(attempt_no)),
            promises,
            send_by,
        })
    }

    /// Busbar acts: a replica loads the payout, applies the input, stores what becomes of it, and lets the effects
    /// follow. It may crash between any two of these.
    pub(super) fn act(&mut self, input: &PayoutInput) -> Acted {
        for is_first in [true, false, false] {
            let replica = usize::from(self.dice.chance(50));
            if self.dice.chance(CRASH_PERCENT) {
                return self.crash(replica);
            }
            let is_stale = is_first && self.dice.chance(STALE_PERCENT);
            let known = if is_stale { self.replicas[replica].clone() } else { None };
            let Some((payout, version)) = known.or_else(|| self.current()) else { return Acted::Nothing };
            let applied = apply(&payout, input, self.now);
            if applied.refused.is_some() && is_stale {
                continue;
            }
            if applied.refused.is_some() {
                self.totals.refused += u64::from(matches!(input, PayoutInput::Attempt(_)));
                return Acted::Nothing;
            }
            if applied.transitions.is_empty() && applied.effects.is_empty() && applied.payout == payout {
                return Acted::Nothing;
            }
            let commit = SimulatedCommit { applied: &applied, expected: version, input: Some(input), now: self.now };
            if !self.store.commit(&commit) {
                self.totals.conflicts += 1;
                self.replicas[replica] = None;
                continue;
            }
            self.totals.acts += 1;
            self.stored(&applied.payout);
            self.replicas[replica] = Some((applied.payout.clone(), version + 1));
            if self.dice.chance(CRASH_PERCENT) {
                return self.crash(replica);
            }
            for effect in &applied.effects {
                self.follow(effect);
            }
            return Acted::Stored;
        }
        Acted::Nothing
    }

    fn crash(&mut self, replica: usize) -> Acted {
        self.replicas[replica] = None;
        self.totals.crashes += 1;
        Acted::Crashed
    }

    fn follow(&mut self, effect: &Effect) {
        let soon = self.dice.up_to(Duration::from_secs(5));
        match *effect {
            Effect::Inquire { attempt_no } => self.after(soon, Event::Ask { attempt_no }),
            Effect::Recall { attempt_no } => self.after(soon, Event::Cancel { attempt_no }),
            Effect::ProposeReroute { attempt_no } => {
                self.after(soon, Event::Decide { attempt_no, by_submitter: false });
            }
            Effect::Emit(EventType::PayoutRerouted) => {
                let Some((payout, _)) = self.current() else { return };
                let attempt_no = payout.next_attempt_no().saturating_sub(1);
                self.totals.rerouted += 1;
                // An event is late at times, and the permission to send over then.
                let late = if self.dice.chance(90) { Duration::from_secs(20) } else { Duration::from_mins(10) };
                let delay = self.dice.up_to(late);
                self.after(delay, Event::Send { attempt_no });
            }
            Effect::Emit(_) | Effect::Freeze | Effect::Page { .. } | Effect::Audit => {}
        }
    }

    /// The hash of the next message: no other one has it.
    pub(super) fn message_hash(&self) -> [u8; 32] {
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&self.story.to_be_bytes());
        hash[8..16].copy_from_slice(&self.events.to_be_bytes());
        hash
    }

    /// The order of an attempt, as the submitter builds it from the attempt.
    pub(super) fn order(&mut self, attempt_no: u32) -> Option<PaymentOrder> {
        let (payout, _) = self.current()?;
        let attempt = payout.attempt(attempt_no)?;
        Some(PaymentOrder {
            key: attempt.idempotency_key(),
            payout_id: self.payout_id.clone(),
            reference: attempt.end_to_end_id(),
        })
    }
}

/// Whether nothing is to be done about a payout without a person.
fn is_final_or_held(payout: &Payout) -> bool {
    match payout.state() {
        PayoutState::Confirmed | PayoutState::Held | PayoutState::Frozen => true,
        PayoutState::NotExecuted => payout.propose_at.is_none(),
        PayoutState::Open | PayoutState::Stuck => false,
    }
}

/// The bank of a kind: each promises less than it does, or as much.
fn simulated_bank(kind: u64, dice: &mut Dice) -> SimulatedBank {
    let all = BankPromises {
        idempotency_window: Duration::from_hours(24),
        inquiry: true,
        not_found_proof: true,
        recall: true,
        ..BankPromises::default()
    };
    let (promises, lag) = match kind {
        // Reads what it wrote.
        0 => (BankPromises { strong_read_your_writes: true, ..all }, Duration::ZERO),
        // Reads from replicas that are hours behind, and soon forgets keys.
        1 => {
            let idempotency_window = Duration::from_mins(40);
            (BankPromises { idempotency_window, ..all }, dice.up_to(Duration::from_hours(2)))
        }
        // Answers AG09; its replicas are less behind than the scheme's time.
        2 => (BankPromises { not_found_proof: false, ..all }, dice.up_to(Duration::from_mins(30))),
        // Offers inquiries only.
        3 => {
            let idempotency_window = Duration::from_mins(30);
            (BankPromises { recall: false, idempotency_window, ..all }, dice.up_to(Duration::from_hours(1)))
        }
        // Promises nothing.
        _ => (BankPromises::default(), Duration::ZERO),
    };
    let habits = BankHabits { key_window: promises.idempotency_window, lag, answers_never_received: kind == 2 };
    SimulatedBank { bank: PayoutBank::new(habits), promises }
}

pub(super) fn later(at: Timestamp, by: Duration) -> Timestamp {
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}
