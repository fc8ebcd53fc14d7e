//! Tests of the external predictions: acceptance, maturing, skill, hold-down, restarts.

use super::*;
use crate::domain::forecast::external::DEFAULT_MAX_AGE;
use crate::domain::forecast::testkit::{at, issued};
use crate::domain::money::Currency;

fn bank(name: &str) -> ObjectKey {
    ObjectKey::new("payments", name)
}

fn pushed(name: &str) -> PredictedBank {
    PredictedBank { bank: bank(name), source: PredictionSource::Pushed }
}

/// A book, the outcomes of the bank `a` so far, and the minute.
#[derive(Default)]
struct Scene {
    book: PredictionBook,
    counts: OutcomeCounts,
    minute: i64,
}

impl Scene {
    fn accept(&mut self, prediction: ExternalPrediction) -> Result<Accepted, PredictionRefused> {
        let acceptance = Acceptance { max_age: DEFAULT_MAX_AGE, counts: self.counts, now: at(self.minute) };
        self.book.accept(pushed("a"), prediction, acceptance)
    }

    /// A prediction for the next minutes, then that many with a call each, of which `good` in a hundred succeed.
    fn window(&mut self, success: u32, risk: u32, good: u64) {
        let prediction = ExternalPrediction { valid_until: at(self.minute + 5), ..issued(self.minute, success, risk) };
        self.accept(prediction).unwrap();
        self.minute += 5;
        self.counts.total += 100;
        self.counts.good += good;
        self.book.mature(&bank("a"), Some(self.counts), at(self.minute));
    }

    fn current(&self) -> Option<CandidatePrediction> {
        self.book.current(&bank("a"), None, at(self.minute)).pop()
    }

    fn skill(&self) -> Ppm {
        self.book.skills().map(|(_, record)| record.skill()).max().unwrap_or_default()
    }
}

/// A bank that is well for an hour and out for an hour, predicted by `predict` for so many windows.
fn scored(windows: usize, predict: impl Fn(bool, usize) -> u32) -> Scene {
    let mut scene = Scene::default();
    for n in 0..windows {
        let well = n % 24 < 12;
        scene.window(predict(well, n), 0, if well { 99 } else { 20 });
    }
    scene
}

#[test]
fn a_scorer_proves_its_skill_with_two_hundred_matured_predictions() {
    let perfect = |well: bool, _| if well { 990_000 } else { 200_000 };
    assert_eq!(scored(19, perfect).skill(), Ppm::default());
    assert_eq!(scored(199, perfect).skill(), Ppm::new(250_000));
    let proven = scored(240, perfect).skill();
    assert!(proven.get() > 500_000, "{proven:?}");
}

#[test]
fn a_scorer_that_guesses_has_no_skill() {
    assert_eq!(scored(400, |_, n| if n % 2 == 0 { 990_000 } else { 200_000 }).skill(), Ppm::default(), "alternating");
    assert_eq!(scored(400, |_, _| 950_000).skill(), Ppm::default(), "always the same");
    assert_eq!(scored(400, |well, _| if well { 200_000 } else { 990_000 }).skill(), Ppm::default(), "the opposite");
    let unskilled = scored(400, |_, _| 10_000);
    assert!(unskilled.current().is_none(), "its last window is over");
    let mut scene = unskilled;
    scene.accept(issued(scene.minute, 10_000, 1_000_000)).unwrap();
    scene.minute += 1;
    scene.accept(issued(scene.minute, 10_000, 1_000_000)).unwrap();
    let current = scene.current().unwrap();
    assert_eq!((current.skill, current.demoted), (0, false), "it is shown and changes nothing");
}

#[test]
fn a_skilled_scorer_demotes_a_bank_when_it_repeats_itself() {
    let mut scene = scored(240, |well, _| if well { 990_000 } else { 200_000 });
    let outage = |minute| issued(minute, 100_000, 950_000);
    scene.accept(outage(scene.minute)).unwrap();
    assert!(!scene.current().unwrap().demoted, "one prediction is none");
    scene.minute += 1;
    scene.accept(outage(scene.minute)).unwrap();
    assert!(scene.current().unwrap().demoted);
    scene.minute += 1;
    scene.accept(issued(scene.minute, 990_000, 0)).unwrap();
    scene.minute += 1;
    scene.accept(issued(scene.minute, 990_000, 0)).unwrap();
    let current = scene.current().unwrap();
    assert!(!current.demoted && scene.skill().get() > 500_000, "without a predicted risk no bank is demoted");
}

#[test]
fn a_prediction_matures_by_the_outcomes_after_it_was_accepted() {
    let mut scene = Scene { counts: OutcomeCounts { good: 0, total: 1_000 }, ..Scene::default() };
    scene.window(900_000, 0, 50);
    let record = scene.book.skills().next().unwrap().1;
    let matured: Vec<_> = record.matured().collect();
    assert_eq!(matured, [Matured { predicted: Ppm::new(900_000), observed: Ppm::new(500_000) }]);
}

#[test]
fn a_window_without_outcomes_or_of_a_replaced_connection_proves_nothing() {
    for counts in [None, Some(OutcomeCounts::default()), Some(OutcomeCounts { good: 5, total: 10 })] {
        let mut scene = Scene { counts: OutcomeCounts { good: 5, total: 10 }, ..Scene::default() };
        scene.accept(issued(0, 900_000, 0)).unwrap();
        assert!(scene.book.due(at(29)).is_empty());
        assert_eq!(scene.book.due(at(30)).into_iter().collect::<Vec<_>>(), [bank("a")]);
        scene.book.mature(&bank("a"), counts, at(30));
        assert_eq!(scene.book.skills().map(|(_, record)| record.matured().count()).sum::<usize>(), 0);
        assert!(scene.book.due(at(99)).is_empty(), "it does not wait any longer");
    }
    let mut scene = Scene::default();
    scene.accept(issued(0, 900_000, 0)).unwrap();
    scene.book.restart(&bank("a"));
    assert!(scene.book.due(at(99)).is_empty());
}

#[test]
fn a_repeated_prediction_changes_nothing_and_an_older_one_is_refused() {
    let mut scene = Scene { minute: 5, ..Scene::default() };
    assert_eq!(scene.accept(issued(5, 900_000, 0)), Ok(Accepted::New));
    assert_eq!(scene.accept(issued(5, 900_000, 0)), Ok(Accepted::Repeated));
    assert_eq!(scene.accept(issued(4, 100_000, 0)), Err(PredictionRefused::Superseded));
    assert_eq!(scene.accept(issued(5, 100_000, 0)), Err(PredictionRefused::Superseded), "of the same instant");
    assert_eq!(scene.current().unwrap().success, 900_000);
    scene.book.mature(&bank("a"), Some(OutcomeCounts { good: 1, total: 1 }), at(60));
    assert_eq!(scene.book.skills().next().unwrap().1.matured().count(), 1, "it matures once");
}

#[test]
fn a_prediction_holds_until_it_is_too_old_or_its_window_is_over() {
    let mut scene = Scene::default();
    scene.accept(issued(0, 900_000, 0)).unwrap();
    assert_eq!(scene.current().unwrap().valid_until, at(15));
    assert!(scene.book.take_ended(at(14)).is_empty());
    scene.minute = 15;
    assert_eq!(scene.current(), None);
    assert_eq!(scene.book.take_ended(at(15)).into_iter().collect::<Vec<_>>(), [bank("a")]);
    assert!(scene.book.take_ended(at(16)).is_empty(), "once");
    let short = ExternalPrediction { valid_until: at(18), ..issued(15, 900_000, 0) };
    scene.accept(short).unwrap();
    assert_eq!(scene.current().unwrap().valid_until, at(18));
}

#[test]
fn scopes_have_predictions_of_their_own_and_are_bounded() {
    let mut scene = Scene::default();
    let rail =
        |n: usize| PredictionScope { currency: Some(Currency::parse("XOF").unwrap()), rail: Some(format!("r{n}")) };
    for n in 0..MAX_SCOPES {
        scene.accept(ExternalPrediction { scope: rail(n), ..issued(0, 900_000, 0) }).unwrap();
    }
    let one_more = ExternalPrediction { scope: rail(99), ..issued(0, 900_000, 0) };
    assert_eq!(scene.accept(one_more), Err(PredictionRefused::TooManyScopes));
    assert_eq!(scene.book.current(&bank("a"), None, at(0)).len(), MAX_SCOPES);
    scene.minute = 20;
    scene.accept(ExternalPrediction { scope: rail(99), ..issued(20, 900_000, 0) }).unwrap();
    let current = scene.book.current(&bank("a"), None, at(20));
    assert_eq!(current.iter().map(|one| one.rail.as_deref()).collect::<Vec<_>>(), [Some("r99")]);
}

#[test]
fn a_route_with_a_scorer_uses_pushed_predictions_only_without_those_of_the_scorer() {
    let mut scene = Scene::default();
    scene.accept(issued(0, 700_000, 0)).unwrap();
    let about = PredictedBank { source: PredictionSource::Scorer("sira".to_owned()), ..pushed("a") };
    let acceptance = Acceptance { max_age: Duration::from_mins(5), counts: OutcomeCounts::default(), now: at(0) };
    scene.book.accept(about, issued(0, 800_000, 0), acceptance).unwrap();
    let success = |scorer, minute| scene.book.current(&bank("a"), scorer, at(minute)).first().map(|one| one.success);
    assert_eq!(success(None, 0), Some(700_000));
    assert_eq!(success(Some("sira"), 0), Some(800_000));
    assert_eq!(success(Some("sira"), 5), Some(700_000), "the scorer's is too old");
    assert_eq!(success(Some("other"), 0), Some(700_000));
    assert_eq!(success(Some("sira"), 20), None);
}

#[test]
fn skill_and_the_newest_prediction_outlive_a_restart() {
    let mut scene = scored(240, |well, _| if well { 990_000 } else { 200_000 });
    let full = ExternalPrediction {
        expected_fx: Some("-12.5".parse().unwrap()),
        fraud_risk: Some(Ppm::new(1)),
        score: Some("0.8".parse().unwrap()),
        settlement_days: Some(2),
        ..issued(scene.minute, 900_000, 0)
    };
    scene.accept(full).unwrap();
    let stored = scene.book.take_changed();
    assert!(scene.book.take_changed().is_empty(), "once");
    let mut restarted = Scene { minute: scene.minute, ..Scene::default() };
    let acceptance =
        |minute| Acceptance { max_age: DEFAULT_MAX_AGE, counts: OutcomeCounts::default(), now: at(minute) };
    for one in &stored {
        let read = StoredTracks::from_body(one.about.clone(), &one.body()).unwrap();
        restarted.book.merge(read, acceptance(scene.minute), false);
    }
    assert_eq!((restarted.skill(), restarted.current()), (scene.skill(), scene.current()));
    let waiting = restarted.book.due(at(scene.minute + 30)).len();
    assert_eq!((waiting, restarted.book.due(at(scene.minute + 29)).len()), (1, 0), "only the newest is open");
    assert_eq!(StoredTracks::from_body(pushed("a"), b"{"), None);
    restarted.book.forget(at(scene.minute + 24 * 60 * 31));
    assert_eq!(restarted.book.skills().count(), 0);
}

#[test]
fn a_replica_that_follows_takes_over_newer_predictions_and_the_measured_skill() {
    let mut leader = scored(240, |well, _| if well { 990_000 } else { 200_000 });
    let mut follower = Scene { minute: leader.minute, ..Scene::default() };
    follower.accept(issued(leader.minute, 500_000, 0)).unwrap();
    leader.minute += 1;
    leader.accept(issued(leader.minute, 900_000, 0)).unwrap();
    let acceptance = Acceptance { max_age: DEFAULT_MAX_AGE, counts: OutcomeCounts::default(), now: at(leader.minute) };
    for one in leader.book.take_changed() {
        follower.book.merge(one, acceptance, true);
    }
    follower.minute = leader.minute;
    assert_eq!((follower.skill(), follower.current()), (leader.skill(), leader.current()));
    // What is older than its own changes nothing but the skill.
    follower.accept(issued(leader.minute, 1, 0)).unwrap_err();
    follower.minute += 1;
    follower.accept(issued(follower.minute, 700_000, 0)).unwrap();
    leader.book.mark_changed([pushed("a")]);
    for one in leader.book.take_changed() {
        follower.book.merge(one, acceptance, true);
    }
    assert_eq!(follower.current().unwrap().success, 700_000);
}

/// Takes over what `from` has stored since the last time, at `minute`.
fn hand_over(from: &mut PredictionBook, to: &mut PredictionBook, minute: i64) {
    let acceptance = Acceptance { max_age: DEFAULT_MAX_AGE, counts: OutcomeCounts::default(), now: at(minute) };
    for one in from.take_changed() {
        let read = StoredTracks::from_body(one.about.clone(), &one.body()).unwrap();
        to.merge(read, acceptance, false);
    }
}

#[test]
fn a_held_outage_is_the_same_on_each_replica_and_outlives_a_restart() {
    let is_held = |book: &PredictionBook| {
        let tracks = book.tracks.values().flat_map(BTreeMap::values);
        tracks.map(|track| track.hold.is_predicted()).collect::<Vec<_>>()
    };
    let (mut first, mut second) = (Scene::default(), Scene::default());
    // Two predictions of an outage in a row, each sent to another replica.
    first.accept(issued(0, 200_000, 900_000)).unwrap();
    assert_eq!(is_held(&first.book), [false]);
    hand_over(&mut first.book, &mut second.book, 0);
    second.minute = 1;
    second.accept(issued(1, 200_000, 900_000)).unwrap();
    assert_eq!(is_held(&second.book), [true]);
    hand_over(&mut second.book, &mut first.book, 1);
    let mut restarted = PredictionBook::default();
    second.book.mark_changed([pushed("a")]);
    hand_over(&mut second.book, &mut restarted, 1);
    assert_eq!((is_held(&first.book), is_held(&restarted)), (vec![true], vec![true]));
    // It ends for all of them at the same time: ten minutes after it began, with two predictions of none.
    for (minute, held) in [(5, true), (6, true), (11, false)] {
        first.minute = minute;
        first.accept(issued(minute, 900_000, 0)).unwrap();
        hand_over(&mut first.book, &mut restarted, minute);
        assert_eq!((is_held(&first.book), is_held(&restarted)), (vec![held], vec![held]), "minute {minute}");
    }
}

#[test]
fn what_an_earlier_version_stored_without_a_hold_down_is_read() {
    let mut scene = Scene::default();
    scene.accept(issued(0, 200_000, 900_000)).unwrap();
    let stored = scene.book.take_changed().remove(0);
    let mut body: serde_json::Value = serde_json::from_slice(&stored.body()).unwrap();
    assert!(body[0].as_object_mut().unwrap().remove("hold").is_some());
    let read = StoredTracks::from_body(stored.about, body.to_string().as_bytes()).unwrap();
    let mut restarted = Scene::default();
    let acceptance = Acceptance { max_age: DEFAULT_MAX_AGE, counts: OutcomeCounts::default(), now: at(0) };
    assert!(restarted.book.merge(read, acceptance, false));
    assert_eq!(restarted.current(), scene.current());
}
