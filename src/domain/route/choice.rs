//! The choice: filter, then lowest cost, highest success, highest score, name. Pure and total; the order of the
//! candidates has no effect.

use jiff::Timestamp;
use rust_decimal::Decimal;

use super::assessment::{Assessed, Choice, Considered, EffectivePin, EvaluationInput, assess};
use super::candidate::Candidate;
use super::evaluation::{Evaluation, Incumbent, IneffectivePin, Proposal};
use super::payout::Payout;
use super::rules::{PinSource, RouteMode, RouteRules};
use super::standing::standing;

/// Evaluates a route: chooses the lowest cost among the primaries that pass the filter, else among the fallbacks. Ties
/// are broken by success, score and name. A pin chooses among the candidates that pass the filter; hysteresis keeps the
/// incumbent while the best one is not better by as much as it asks for.
pub fn evaluate(
    payout: &Payout,
    rules: &RouteRules,
    candidates: &[Candidate],
    incumbent: Option<Incumbent<'_>>,
    now: Timestamp,
) -> Evaluation {
    let rates = rules.rates.at(now);
    let input = EvaluationInput { incumbent, now, payout, rates: &rates, rules };
    evaluate_considered(&input, candidates.iter().map(|candidate| Considered { candidate, exclusion: None }))
}

/// As [`evaluate`], with rates and exclusions that the caller determined.
pub fn evaluate_considered<'a>(
    input: &EvaluationInput<'a>,
    candidates: impl IntoIterator<Item = Considered<'a>>,
) -> Evaluation {
    let predicts = input.rules.mode == RouteMode::Predictive;
    let mut assessed: Vec<_> = candidates.into_iter().map(|one| assess(input, one, predicts)).collect();
    assessed.sort_by(|a, b| a.candidate.name.cmp(&b.candidate.name));
    let (ineffective_pins, pinned) = pins(input, &assessed);
    let (choice, held_until) = choose(input, &assessed, pinned);
    let standings = assessed.iter().map(|one| standing(one, choice.as_ref())).collect();
    let proposal = choice.as_ref().filter(|choice| choice.pinned.is_none() && input.rules.mode == RouteMode::Hybrid);
    let proposal = proposal.and_then(|choice| propose(input, &assessed, choice.chosen));
    let active = choice.map(|choice| choice.chosen.candidate.name.clone());
    Evaluation { active, held_until, ineffective_pins, proposal, standings }
}

/// The pins and the approval that have no effect, and the first one that has.
fn pins<'e, 'a>(
    input: &EvaluationInput<'_>,
    assessed: &'e [Assessed<'a>],
) -> (Vec<IneffectivePin>, Option<EffectivePin<'e, 'a>>) {
    let rules = input.rules;
    let mut ineffective = Vec::new();
    if rules.pins.is_empty() && rules.approved.is_none() {
        return (ineffective, None);
    }
    let approved = rules.approved(input.now).map(|approval| (approval.candidate.as_str(), PinSource::Approval));
    let pinned = rules.pinned(input.payout, input.now).map(|pin| (pin.candidate.as_str(), pin.source));
    let mut effective = None;
    for (name, source) in pinned.chain(approved) {
        let found = assessed.iter().find(|one| one.is(name));
        match found {
            Some(chosen) if chosen.out.is_none() => effective = effective.or(Some(EffectivePin { chosen, source })),
            _ => {
                let reason = found.and_then(|one| one.out);
                ineffective.push(IneffectivePin { candidate: name.to_owned(), reason, source });
            }
        }
    }
    (ineffective, effective)
}

/// The choice among the candidates that pass the filter, and until when the incumbent is held in any case.
fn choose<'e, 'a>(
    input: &EvaluationInput<'_>,
    assessed: &'e [Assessed<'a>],
    pinned: Option<EffectivePin<'e, 'a>>,
) -> (Option<Choice<'e, 'a>>, Option<Timestamp>) {
    let eligible = || assessed.iter().filter(|one| one.out.is_none());
    let Some(class) = eligible().map(Assessed::class).min() else { return (None, None) };
    let considered = || eligible().filter(move |one| one.class() == class);
    let Some(best) = considered().min_by(|a, b| a.rank().cmp(&b.rank())) else { return (None, None) };
    if let Some(EffectivePin { chosen, source }) = pinned {
        return (Some(Choice { chosen, best, pinned: Some(source), class }), None);
    }
    let (kept, held_until) = match input.incumbent {
        Some(incumbent) if !best.is(incumbent.name) => {
            let current = considered().find(|one| one.is(incumbent.name));
            current.map_or((None, None), |current| keep(best, current, input))
        }
        _ => (None, None),
    };
    (Some(Choice { chosen: kept.unwrap_or(best), best, pinned: None, class }), held_until)
}

/// The incumbent `current`, if it is kept although `best` is better, and until when it is in any case.
fn keep<'e, 'a>(
    best: &Assessed<'a>,
    current: &'e Assessed<'a>,
    input: &EvaluationInput<'_>,
) -> (Option<&'e Assessed<'a>>, Option<Timestamp>) {
    let hysteresis = input.rules.hysteresis;
    let since = input.incumbent.map_or(Timestamp::MIN, |incumbent| incumbent.since);
    let held_until = since.checked_add(hysteresis.min_hold).unwrap_or(Timestamp::MAX);
    if input.now < held_until {
        return (Some(current), Some(held_until));
    }
    let is_near = match (current.cost, best.cost) {
        (Some(mine), Some(theirs)) if hysteresis.switch_percent > 0 => {
            let asked = mine.total.abs() * Decimal::new(i64::from(hysteresis.switch_percent), 2);
            mine.total.checked_sub(theirs.total).is_some_and(|gain| gain < asked)
        }
        _ => false,
    };
    (is_near.then_some(current), None)
}

/// What the predictions would choose in place of `chosen`; nothing if none counts.
fn propose(input: &EvaluationInput<'_>, assessed: &[Assessed<'_>], chosen: &Assessed<'_>) -> Option<Proposal> {
    // Without predictions there is nothing to compare.
    assessed.iter().find_map(|one| one.prediction)?;
    let predicted: Vec<_> = assessed
        .iter()
        .map(|one| assess(input, Considered { candidate: one.candidate, exclusion: one.out }, true))
        .collect();
    let (choice, _) = choose(input, &predicted, None);
    let proposed = choice?.chosen;
    // It holds as long as what is known of the two banks that it is about.
    let is_about = |one: &&Assessed<'_>| one.is(&chosen.candidate.name) || one.is(&proposed.candidate.name);
    let valid_until =
        assessed.iter().filter(is_about).filter_map(|one| one.prediction).map(|one| one.valid_until).min()?;
    (!proposed.is(&chosen.candidate.name)).then(|| Proposal {
        candidate: proposed.candidate.name.clone(),
        from: chosen.candidate.name.clone(),
        risk: chosen.prediction.map_or(0, |prediction| prediction.risk),
        success: proposed.expected.success,
        valid_until,
    })
}
