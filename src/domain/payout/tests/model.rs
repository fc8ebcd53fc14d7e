//! Every interleaving of what may be said of two attempts, up to seven words: I1 and I2 hold in each.
//!
//! Interleavings that lead to the same payout and the same facts go on as one, so all of them are covered. The oracle
//! judges by its own rules what may be concluded; the machine may conclude less, never more.

use std::collections::HashSet;

use super::oracle::Oracle;
use super::*;
use crate::domain::payout::mutant::{self, Mutant};
use crate::testbed::shown::show;

#[derive(Copy, Clone, Debug)]
enum Word {
    Say(u32, BankReport),
    Accept(&'static str),
    Attempt,
}

#[derive(Copy, Clone, Debug)]
struct Setup {
    /// The final status that the banks answer.
    status: BankStatus,
    /// Whether an accepted recall says that the money is back.
    funds_back: bool,
    /// Whether each attempt is recalled as soon as it is made.
    recalled: bool,
    /// Whether the banks read their writes.
    strong_reads: bool,
    /// Minutes from one word to the next.
    step: i64,
}

impl Setup {
    fn promises(self) -> BankPromises {
        BankPromises { strong_read_your_writes: self.strong_reads, ..all_promises() }
    }

    fn words(self) -> Vec<Word> {
        let reports = [
            BankReport::Ack,
            BankReport::Silence,
            BankReport::NotFound,
            BankReport::Status(self.status),
            BankReport::CancelAccepted { funds_back: self.funds_back },
            BankReport::CancelRefused,
            BankReport::Confirmation,
        ];
        let said = [1, 2].into_iter().flat_map(|number| reports.map(|report| Word::Say(number, report)));
        said.chain([Word::Accept("ana"), Word::Accept("bo"), Word::Attempt]).collect()
    }
}

#[derive(Clone, Debug)]
struct Node {
    payout: Payout,
    oracle: Oracle,
    story: Vec<Word>,
}

#[derive(Default, Debug)]
struct Explored {
    states: usize,
    inputs: usize,
    second_attempts: usize,
    duplicates: usize,
}

/// What an attempt goes on by, if the clock does not: steps are longer than the grace, or all of them together shorter,
/// so that of "not found" it counts whether there was one, and not when.
#[derive(PartialEq, Eq, Hash)]
struct AttemptKey {
    flags: [bool; 6],
    hold: Option<HoldReason>,
    risk_accepted_for: Option<u32>,
    send_by: Option<Timestamp>,
    state: AttemptState,
    facts: [bool; 9],
}

#[derive(PartialEq, Eq, Hash)]
struct NodeKey {
    accepted: (Vec<&'static str>, Vec<Option<String>>),
    attempts: Vec<AttemptKey>,
    frozen: bool,
    hold: Option<HoldReason>,
    paged: bool,
}

fn key(setup: Setup, node: &Node) -> NodeKey {
    let attempts = node.payout.attempts.iter().zip(&node.oracle.attempts).map(|(attempt, facts)| AttemptKey {
        facts: facts.key(),
        flags: [
            attempt.bank_knows,
            attempt.cancel_accepted,
            attempt.confirmed_once,
            attempt.not_found_since.is_some(),
            attempt.not_found_twice,
            attempt.recalls > 0,
        ],
        hold: attempt.hold,
        risk_accepted_for: attempt.risk_accepted_for,
        // Only the scheme's time is longer than a step.
        send_by: (setup.status == BankStatus::NeverReceived).then_some(attempt.send_by),
        state: attempt.state,
    });
    let by = node.payout.risk_accepted_by.iter().map(|evidence| evidence.subject.clone());
    NodeKey {
        accepted: (node.oracle.accepted.clone(), by.collect()),
        attempts: attempts.collect(),
        frozen: node.payout.frozen,
        hold: node.payout.hold,
        paged: node.oracle.paged,
    }
}

fn evidence(report: BankReport, minute: i64) -> Evidence {
    let source = match report {
        BankReport::Ack | BankReport::Silence => EvidenceSource::Submitter,
        BankReport::Confirmation => EvidenceSource::Confirmation,
        BankReport::CancelAccepted { .. } | BankReport::CancelRefused => EvidenceSource::Recall,
        _ => EvidenceSource::Inquiry,
    };
    Evidence::message(source, at(minute), [9; 32]).answering(at(minute))
}

/// The payout after a recall of its newest attempt.
fn recall_newest(payout: &Payout, minute: i64) -> Payout {
    let attempt_no = payout.attempts.last().unwrap().plan.attempt_no;
    let input = PayoutInput::RequestRecall { attempt_no, evidence: person("cy", minute) };
    apply(payout, &input, at(minute)).payout
}

/// One more word; `None` if it says nothing here. An error is a broken invariant.
fn step(setup: Setup, node: &Node, word: Word, minute: i64) -> Result<Option<Node>, String> {
    let mut oracle = node.oracle.clone();
    let input = match word {
        Word::Say(attempt_no, report) => {
            let place = usize::try_from(attempt_no).unwrap() - 1;
            if place >= node.payout.attempts.len() {
                return Ok(None);
            }
            oracle.attempts[place].hear(report, minute);
            PayoutInput::Report { attempt_no, report, evidence: evidence(report, minute) }
        }
        Word::Accept(name) => {
            // Names do not matter: the first one to accept is ana.
            if name == "bo" && oracle.accepted.is_empty() {
                return Ok(None);
            }
            if !oracle.accepted.contains(&name) {
                oracle.accepted.push(name);
            }
            PayoutInput::AcceptDuplicateRisk { evidence: person(name, minute) }
        }
        Word::Attempt if node.payout.attempts.len() > 1 => return Ok(None),
        Word::Attempt => PayoutInput::Attempt(Box::new(plan(2, setup.promises(), at(minute + 1)))),
    };
    let applied = apply(&node.payout, &input, at(minute));
    let mut story = node.story.clone();
    story.push(word);
    let is_added = applied.payout.attempts.len() > node.payout.attempts.len();
    if is_added && !node.oracle.may_attempt(setup.strong_reads) {
        return Err(format!("I2: an attempt without proof after {story:?} in {setup:?}"));
    }
    let is_bare = |moved: &&Transition| {
        moved.to.is_not_executed() && moved.from != moved.to && moved.evidence.message_hash.is_none()
    };
    if let Some(bare) = applied.transitions.iter().find(is_bare) {
        return Err(format!("a proof without evidence: {bare:?}"));
    }
    oracle.paged |= applied.effects.contains(&Effect::Page { reason: HoldReason::DuplicateDetected });
    let mut payout = applied.payout;
    if is_added {
        oracle.attempts[1].send_by = minute + 1;
        if setup.recalled {
            payout = recall_newest(&payout, minute);
            oracle.attempts[1].recall_sent = true;
        }
    }
    let next = Node { payout, oracle, story };
    check(&next)?;
    Ok(Some(next))
}

fn check(node: &Node) -> Result<(), String> {
    let confirmed = node.payout.attempts.iter().filter(|attempt| attempt.state == AttemptState::Confirmed).count();
    if confirmed > 1 {
        return Err(format!("I1: two confirmed attempts after {:?}", node.story));
    }
    if node.oracle.is_duplicate() && !(node.payout.frozen && node.oracle.paged) {
        return Err(format!("a duplicate that is neither frozen nor paged after {:?}", node.story));
    }
    if node.payout.frozen && node.payout.may_attempt(node.payout.next_attempt_no()).is_ok() {
        return Err(format!("a frozen payout may be attempted after {:?}", node.story));
    }
    Ok(())
}

fn explore(setup: Setup, length: i64) -> Result<Explored, String> {
    let mut payout = Story::with(setup.promises(), limited_rules()).payout;
    let mut oracle = Oracle::default();
    oracle.attempts[0].send_by = 1;
    if setup.recalled {
        payout = recall_newest(&payout, 0);
        oracle.attempts[0].recall_sent = true;
    }
    let words = setup.words();
    let mut frontier = vec![Node { payout, oracle, story: Vec::new() }];
    let mut explored = Explored { states: 1, ..Explored::default() };
    for depth in 1..=length {
        let mut seen = HashSet::new();
        let mut reached = Vec::new();
        for node in &frontier {
            for word in &words {
                let Some(next) = step(setup, node, *word, depth * setup.step)? else { continue };
                explored.inputs += 1;
                // What follows from the last word is not followed further.
                if depth < length && seen.insert(key(setup, &next)) {
                    reached.push(next);
                }
            }
        }
        frontier = reached;
        explored.states += frontier.len();
        explored.second_attempts += frontier.iter().filter(|node| node.payout.attempts.len() == 2).count();
        explored.duplicates += frontier.iter().filter(|node| node.oracle.is_duplicate()).count();
    }
    Ok(explored)
}

/// Words far enough apart for every proof.
const FAR: [Setup; 4] = [
    Setup { status: BankStatus::Rejected, funds_back: false, recalled: false, strong_reads: false, step: 16 },
    Setup { status: BankStatus::Rejected, funds_back: false, recalled: true, strong_reads: false, step: 16 },
    Setup { status: BankStatus::NeverReceived, funds_back: true, recalled: true, strong_reads: false, step: 16 },
    Setup { status: BankStatus::NeverReceived, funds_back: false, recalled: false, strong_reads: true, step: 16 },
];

#[test]
fn every_interleaving_of_seven_words_on_two_attempts_keeps_i1_and_i2() {
    let explored = std::thread::scope(|scope| {
        FAR.map(|setup| scope.spawn(move || explore(setup, 7))).map(|thread| thread.join().unwrap().unwrap())
    });
    for (setup, explored) in FAR.iter().zip(&explored) {
        let words = setup.words().len().pow(7);
        show(format_args!("{setup:?}: {words} interleavings, {explored:?}"));
        assert!(explored.second_attempts > 50 && explored.duplicates > 5, "the model reached too little");
    }
}

#[test]
fn every_interleaving_of_five_words_within_minutes_keeps_i1_and_i2() {
    for setup in FAR {
        explore(Setup { step: 1, ..setup }, 5).unwrap();
    }
}

#[test]
fn the_model_finds_a_gate_that_takes_a_time_out_or_one_not_found_for_proof() {
    for mutant in [Mutant::TimeOutIsProof, Mutant::OneNotFoundIsProof] {
        let found = mutant::with(mutant, || explore(FAR[0], 4));
        let broken = found.expect_err("the mutant must be found");
        assert!(broken.starts_with("I2"), "{mutant:?}: {broken}");
    }
}
