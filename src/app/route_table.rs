//! The table of `busbar route explain`: the candidates of a route with their state, reason and cost, wherever they were
//! evaluated.

use rust_decimal::Decimal;

use super::table::{left, right, table};
use crate::domain::route::{CandidateReason, CandidateStanding, Cost, StandingState};
use crate::explain::route_choice::{RouteChoice, state_name};

/// What one evaluation found, ready to be printed.
pub(super) struct RouteTable {
    /// The route, as `namespace/name`.
    pub(super) name: String,
    /// The chosen bank.
    pub(super) chosen: Option<String>,
    /// The payout: amount, currency, and what else is known of it.
    pub(super) payout: String,
    /// The time of the decision.
    pub(super) at: String,
    /// The candidates in the order of their rank.
    pub(super) rows: Vec<RouteRow>,
    /// What else to know, one line each.
    pub(super) notes: Vec<String>,
}

/// One candidate.
pub(super) struct RouteRow {
    /// Its name.
    pub(super) name: String,
    /// Its state.
    pub(super) state: String,
    /// The reason for its state.
    pub(super) reason: String,
    /// Its cost, if it has one.
    pub(super) cost: Option<Cost>,
}

impl RouteRow {
    fn of(standing: &CandidateStanding) -> Self {
        Self {
            name: standing.name.clone(),
            state: state_name(standing.state).to_owned(),
            reason: standing.reason.to_string(),
            cost: standing.cost,
        }
    }
}

impl RouteTable {
    /// The table of an evaluation in this process. `assumes` is whether nothing is known of the banks.
    pub(super) fn of(name: &str, choice: &RouteChoice, assumes: bool) -> Self {
        let payout = &choice.payout;
        let is_assumed = assumes && choice.evaluation.standings.iter().any(|one| one.state != StandingState::Excluded);
        let assumption =
            "Assumed: all banks are available, and succeed in 95 % of calls unless --success says otherwise.";
        let notes = choice.notes.iter().map(|note| format!("Note: {note}"));
        Self {
            name: name.to_owned(),
            chosen: choice.evaluation.active.clone(),
            payout: payout_text(
                &format!("{} {}", payout.amount, payout.currency),
                [&payout.country, &payout.rail, &payout.merchant].map(Option::as_deref),
            ),
            at: choice.at.to_string(),
            rows: choice.ranked().into_iter().map(RouteRow::of).collect(),
            notes: is_assumed.then(|| assumption.to_owned()).into_iter().chain(notes).collect(),
        }
    }

    /// As text: the choice, the table, what each reason means, and the notes.
    pub(super) fn text(&self) -> String {
        let columns = [
            left("CANDIDATE"),
            left("STATE"),
            left("REASON"),
            right("FEE"),
            right("FX"),
            right("RETRY"),
            right("HEALTH"),
            right("DELAY"),
            right("WEIGHT"),
            right("TOTAL"),
        ];
        let rows = self.rows.iter().map(|row| {
            let [fee, fx, retry, health, delay, weight, total] = terms(row.cost);
            [row.name.clone(), row.state.clone(), row.reason.clone(), fee, fx, retry, health, delay, weight, total]
        });
        let mut out = format!(
            "{}: {} for a payout of {} at {}\n\n{}\n",
            self.name,
            self.chosen.as_deref().unwrap_or("no bank"),
            self.payout,
            self.at,
            table(columns, rows),
        );
        // A newer gateway may know a reason that this version does not: it is in the table, without an explanation.
        let mut reasons: Vec<CandidateReason> = self.rows.iter().filter_map(|row| row.reason.parse().ok()).collect();
        reasons.sort_unstable();
        reasons.dedup();
        let explained = reasons.into_iter().map(|reason| match reason.remedy() {
            "None." => format!("{reason}: {}\n", reason.meaning()),
            remedy => format!("{reason}: {} {remedy}\n", reason.meaning()),
        });
        out.extend(explained);
        out.extend(self.notes.iter().map(|note| format!("{note}\n")));
        out
    }
}

/// A payout with what is known of its country, rail and merchant, in this order.
pub(super) fn payout_text(amount: &str, parts: [Option<&str>; 3]) -> String {
    let named = ["country", "rail", "merchant"].into_iter().zip(parts);
    let known = named.filter_map(|(what, value)| value.map(|value| format!(", {what} {value}")));
    std::iter::once(amount.to_owned()).chain(known).collect()
}

fn terms(cost: Option<Cost>) -> [String; 7] {
    let shown = |amount: Decimal| amount.round_dp(8).normalize().to_string();
    match cost {
        Some(Cost { fee, fx, retry, health, delay, weight, total }) => {
            [fee, fx, retry, health, delay, weight, total].map(shown)
        }
        None => Default::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_that_is_not_known_is_in_the_table_without_an_explanation() {
        let row = |name: &str, reason: &str| RouteRow {
            name: name.into(),
            state: "Excluded".into(),
            reason: reason.into(),
            cost: None,
        };
        let table = RouteTable {
            name: "payments/payouts".into(),
            chosen: None,
            payout: payout_text("10 USD", [Some("SN"), None, Some("shop")]),
            at: "2026-12-01T00:00:00Z".into(),
            rows: vec![row("a", "FromTheFuture"), row("b", "CircuitOpen")],
            notes: vec!["Note: one".into()],
        };
        let text = table.text();
        assert!(text.starts_with(
            "payments/payouts: no bank for a payout of 10 USD, country SN, merchant shop at 2026-12-01T00:00:00Z\n\n"
        ));
        assert!(text.contains("FromTheFuture") && !text.contains("FromTheFuture:"), "{text}");
        assert!(text.contains("\nCircuitOpen: ") && text.ends_with("\nNote: one\n"), "{text}");
    }
}
