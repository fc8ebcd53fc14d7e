//! The external predictions that count now, and what earlier ones were worth. Pure.
//!
//! Each source has a track for each bank and scope: its newest prediction, those whose windows are not over, and its
//! skill. A prediction matures at the end of its window, by the outcomes of the bank since it was accepted: those before
//! were known to the scorer. Predictions without proven skill are kept and shown, and change no decision.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use jiff::Timestamp;

use super::external::{
    ExternalPrediction, MAX_SCOPES, PredictedBank, PredictionRefused, PredictionScope, PredictionSource,
};
use super::forecaster::OUTAGE_RISK;
use super::hold_down::HoldDown;
use super::outcome_counts::OutcomeCounts;
use super::skill::{Matured, SkillRecord};
use super::stored_track::{StoredTrack, StoredTracks};
use crate::domain::key::ObjectKey;
use crate::domain::ppm::Ppm;
use crate::domain::route::CandidatePrediction;
use crate::domain::time::Mono;

/// Predictions of a track that wait for the end of their windows; beyond it the oldest is dropped, unproven.
const MAX_PENDING: usize = 256;
/// Time after its last prediction at which a track is forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_hours(24 * 30);

/// Under which circumstances a prediction is accepted.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Acceptance {
    /// The oldest that it may be.
    pub max_age: Duration,
    /// The outcomes of the bank so far.
    pub counts: OutcomeCounts,
    /// Now.
    pub now: Timestamp,
}

/// A prediction whose window is not over.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
struct Pending {
    predicted: Ppm,
    until: Timestamp,
    counts: OutcomeCounts,
}

/// What one source predicts of one bank in one scope.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Track {
    newest: Option<Newest>,
    pending: VecDeque<Pending>,
    skill: SkillRecord,
    hold: HoldDown,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Newest {
    prediction: ExternalPrediction,
    usable_until: Timestamp,
    /// Whether its end was reported.
    ended: bool,
}

impl Track {
    fn holds(&self, now: Timestamp) -> bool {
        self.newest.as_ref().is_some_and(|newest| now < newest.usable_until)
    }

    fn last(&self) -> Timestamp {
        self.newest.as_ref().map_or(Timestamp::MIN, |newest| newest.prediction.issued_at)
    }

    /// Takes a newer prediction, to mature at the end of its window by the outcomes from now on.
    fn take(
        &mut self,
        prediction: ExternalPrediction,
        usable_until: Timestamp,
        Acceptance { counts, now, .. }: Acceptance,
    ) {
        if self.pending.len() >= MAX_PENDING {
            self.pending.pop_front();
        }
        self.pending.push_back(Pending { predicted: prediction.success, until: prediction.valid_until, counts });
        self.hold.observe(prediction.risk.is_some_and(|risk| risk > OUTAGE_RISK), since_epoch(now));
        self.newest = Some(Newest { prediction, usable_until, ended: false });
    }

    /// What it says of a candidate now.
    fn candidate(&self, now: Timestamp) -> Option<CandidatePrediction> {
        let Newest { prediction, usable_until, .. } = self.newest.as_ref().filter(|_| self.holds(now))?;
        let (skill, risk) = (self.skill.skill(), prediction.risk.unwrap_or_default());
        Some(CandidatePrediction {
            currency: prediction.scope.currency,
            demoted: self.hold.is_predicted() && Ppm::of(skill.share() * risk.share()) > OUTAGE_RISK,
            expected_fx: prediction.expected_fx,
            fraud_risk: prediction.fraud_risk.map(Ppm::get),
            rail: prediction.scope.rail.clone(),
            risk: risk.get(),
            score: prediction.score,
            settlement_days: prediction.settlement_days,
            skill: skill.get(),
            success: prediction.success.get(),
            valid_until: *usable_until,
        })
    }
}

/// All external predictions.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct PredictionBook {
    tracks: BTreeMap<PredictedBank, BTreeMap<PredictionScope, Track>>,
    /// Whose tracks have changed since they were last stored.
    changed: BTreeSet<PredictedBank>,
}

impl PredictionBook {
    /// Accepts a prediction. The one that was accepted before may be repeated: that changes nothing.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn accept(
        &mut self,
        about: PredictedBank,
        prediction: ExternalPrediction,
        acceptance: Acceptance,
    ) -> Result<Accepted, PredictionRefused> {
        let Acceptance { max_age, now, .. } = acceptance;
        prediction.check(max_age, now)?;
        let scopes = self.tracks.entry(about.clone()).or_default();
        if let Some(newest) = scopes.get(&prediction.scope).and_then(|track| track.newest.as_ref()) {
            if newest.prediction == prediction {
                return Ok(Accepted::Repeated);
            }
            if newest.prediction.issued_at >= prediction.issued_at {
                return Err(PredictionRefused::Superseded);
            }
        } else if !scopes.contains_key(&prediction.scope) {
            make_room(scopes, now)?;
        }
        let track = scopes.entry(prediction.scope.clone()).or_default();
        let usable_until = prediction.usable_until(max_age);
        track.take(prediction, usable_until, acceptance);
        self.changed.insert(about);
        Ok(Accepted::New)
    }

    /// The banks of which a prediction no longer holds at `now`; each prediction is reported once.
    pub fn take_ended(&mut self, now: Timestamp) -> BTreeSet<ObjectKey> {
        let mut banks = BTreeSet::new();
        for (about, scopes) in &mut self.tracks {
            for newest in scopes.values_mut().filter_map(|track| track.newest.as_mut()) {
                if !newest.ended && now >= newest.usable_until {
                    newest.ended = true;
                    banks.insert(about.bank.clone());
                }
            }
        }
        banks
    }

    /// The banks of which a prediction has to mature at `now`.
    pub fn due(&self, now: Timestamp) -> BTreeSet<ObjectKey> {
        let is_due = |track: &Track| track.pending.iter().any(|pending| pending.until <= now);
        self.tracks
            .iter()
            .filter(|(_, scopes)| scopes.values().any(is_due))
            .map(|(about, _)| about.bank.clone())
            .collect()
    }

    /// Lets the predictions of `bank` whose windows are over mature by its outcomes. Without `counts`, or if they start
    /// anew, nothing is known of the window: the prediction proves nothing.
    pub fn mature(&mut self, bank: &ObjectKey, counts: Option<OutcomeCounts>, now: Timestamp) {
        for (about, scopes) in self.tracks.iter_mut().filter(|(about, _)| about.bank == *bank) {
            for track in scopes.values_mut() {
                let pending = std::mem::take(&mut track.pending);
                let (over, open): (VecDeque<_>, VecDeque<_>) =
                    pending.into_iter().partition(|pending| pending.until <= now);
                track.pending = open;
                for Pending { predicted, counts: before, .. } in over {
                    if let Some(observed) = counts.and_then(|after| after.share_since(before)) {
                        track.skill.add(Matured { predicted, observed });
                        self.changed.insert(about.clone());
                    }
                }
            }
        }
    }

    /// Forgets what waits for the outcomes of `bank`: its connection was replaced by another.
    pub fn restart(&mut self, bank: &ObjectKey) {
        for (_, scopes) in self.tracks.iter_mut().filter(|(about, _)| about.bank == *bank) {
            for track in scopes.values_mut() {
                track.pending.clear();
            }
        }
    }

    /// The predictions of `bank` that hold at `now`: those of `scorer`, if it has any, else the pushed ones.
    pub fn current(&self, bank: &ObjectKey, scorer: Option<&str>, now: Timestamp) -> Vec<CandidatePrediction> {
        let of = |source| {
            let scopes = self.tracks.get(&PredictedBank { bank: bank.clone(), source });
            let tracks = scopes.into_iter().flat_map(BTreeMap::values);
            tracks.filter_map(|track| track.candidate(now)).collect::<Vec<_>>()
        };
        let pulled = scorer.map(|name| of(PredictionSource::Scorer(name.to_owned()))).unwrap_or_default();
        if pulled.is_empty() { of(PredictionSource::Pushed) } else { pulled }
    }

    /// The skill of every track, by bank and source.
    pub fn skills(&self) -> impl Iterator<Item = (&PredictedBank, &SkillRecord)> {
        self.tracks.iter().flat_map(|(about, scopes)| scopes.values().map(move |track| (about, &track.skill)))
    }

    /// Takes what has changed since the last call, to be stored.
    pub fn take_changed(&mut self) -> Vec<StoredTracks> {
        let stored = |about: PredictedBank| {
            let scopes = self.tracks.get(&about)?;
            let tracks = scopes.iter().map(|(scope, track)| {
                let newest = track.newest.as_ref();
                StoredTrack::new(scope, newest.map(|newest| &newest.prediction), track.skill.matured())
                    .usable_until(newest.map(|newest| newest.usable_until))
                    .hold(&track.hold)
            });
            Some(StoredTracks { tracks: tracks.collect(), about })
        };
        std::mem::take(&mut self.changed).into_iter().filter_map(stored).collect()
    }

    /// Marks tracks as not stored yet, because storing them failed.
    pub fn mark_changed(&mut self, about: impl IntoIterator<Item = PredictedBank>) {
        self.changed.extend(about);
    }

    /// Takes over what another process, or this one before a restart, has stored. Newer predictions count from now on;
    /// those whose windows were open then prove nothing by it. `follows`: the other process measures the skill. Returns
    /// whether anything counts that did not before.
    pub fn merge(&mut self, stored: StoredTracks, acceptance: Acceptance, follows: bool) -> bool {
        let mut changed = false;
        let scopes = self.tracks.entry(stored.about).or_default();
        for one in stored.tracks {
            let track = scopes.entry(one.scope()).or_default();
            let unknown = track.newest.is_none();
            if unknown || follows {
                track.skill = SkillRecord::restored(one.matured());
            }
            let Some((prediction, usable_until)) = one.newest() else { continue };
            if !unknown && track.last() >= prediction.issued_at {
                continue;
            }
            let held = one.held();
            if acceptance.now < usable_until {
                track.take(prediction, usable_until, acceptance);
                changed = true;
            } else {
                track.newest = Some(Newest { prediction, usable_until, ended: true });
            }
            // Of all predictions that led to it, not only of those that this process has seen.
            track.hold = held.unwrap_or(track.hold);
        }
        changed
    }

    /// Forgets tracks without a prediction for thirty days.
    pub fn forget(&mut self, now: Timestamp) {
        let before = now.checked_sub(FORGOTTEN_AFTER).unwrap_or(Timestamp::MIN);
        for scopes in self.tracks.values_mut() {
            scopes.retain(|_, track| track.last() >= before);
        }
        self.tracks.retain(|_, scopes| !scopes.is_empty());
    }
}

/// What became of an accepted prediction.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Accepted {
    /// It is the newest of its source and scope.
    New,
    /// It was accepted before.
    Repeated,
}

/// Makes room for one more scope: the oldest that no longer holds is forgotten.
fn make_room(scopes: &mut BTreeMap<PredictionScope, Track>, now: Timestamp) -> Result<(), PredictionRefused> {
    if scopes.len() < MAX_SCOPES {
        return Ok(());
    }
    let stale = scopes.iter().filter(|(_, track)| !track.holds(now)).min_by_key(|(_, track)| track.last());
    let stale = stale.map(|(scope, _)| scope.clone()).ok_or(PredictionRefused::TooManyScopes)?;
    scopes.remove(&stale);
    Ok(())
}

/// Wall time as an instant of the hold-down, which only compares instants with each other.
fn since_epoch(now: Timestamp) -> Mono {
    Mono::from_nanos(u64::try_from(now.as_nanosecond()).unwrap_or_default())
}

#[cfg(test)]
#[path = "prediction_book_tests.rs"]
mod tests;
