//! Asks banks through the connections of this process.

use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;

use crate::clock::Clock;
use crate::domain::key::ObjectKey;
use crate::domain::payout::{Attempt, Payout};
use crate::ledger::payouts::PayoutCall;
use crate::provider::call::{CacheMode, Request};
use crate::provider::invoke::{InvokeOptions, build_request};
use crate::provider::payouts::answer::{self, CallTimes};
use crate::provider::payouts::port::{BankAnswer, PayoutBanks};
use crate::provider::registry::Registry;
use crate::settings::Settings;

/// Longest call, waits for quota included: it ends while the lease of the clock is still held.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Why an answer does not count, or was not asked for: see [`BankPromises::target`](crate::domain::payout::BankPromises).
const ANOTHER_TARGET: &str = "endpoint_changed";

/// Asks banks through the connections of a registry.
#[derive(Clone)]
pub struct RegistryBanks {
    registry: Registry,
    clock: Clock,
}

impl RegistryBanks {
    /// Asks through the connections of `registry`.
    pub fn new(registry: Registry, clock: Clock) -> Self {
        Self { registry, clock }
    }

    async fn call(&self, call: PayoutCall, payout: &Payout, attempt: &Attempt) -> BankAnswer {
        let asked_at = self.clock.now().wall;
        let times = || CallTimes { asked_at, ended_at: self.clock.now().wall };
        let key = ObjectKey::new(payout.namespace.as_str(), attempt.plan.bank.as_str());
        let Some(connection) = self.registry.get(&key) else {
            return answer::none(call, "connection_not_found", times());
        };
        let settings = connection.settings();
        // The endpoint or the account was changed since the attempt was decided: the bank that is called now may be
        // another one, which says nothing of the payout by not knowing it, and cannot cancel it.
        let is_same = attempt.plan.promises.are_of(settings.target());
        if call == PayoutCall::Recall && !is_same {
            return answer::none(call, ANOTHER_TARGET, times());
        }
        let Some(request) = request(&settings, call, payout, attempt) else {
            // The connection, or its profile, promises less than when the attempt was decided.
            return answer::none(call, "operation_not_found", times());
        };
        let answer = match (connection.call_with(&settings, request).await, &settings.profile().payouts) {
            (Ok(response), Some(profile)) => answer::of_response(call, profile, attempt, &response, times()),
            (Ok(_), None) => answer::none(call, "operation_not_found", times()),
            (Err(error), _) => answer::of_error(call, &error, times()),
        };
        // It may have been changed while the call waited for its turn, and the call was sent with other credentials then.
        let settings = self.registry.get(&key).map(|connection| connection.settings());
        let is_still_same = settings.is_some_and(|settings| attempt.plan.promises.are_of(settings.target()));
        if !(is_same && is_still_same) && answer.report.denies_execution() {
            return answer::none(call, ANOTHER_TARGET, times());
        }
        answer
    }
}

/// The request of a call; `None` where the profile does not say how the bank is asked.
fn request(settings: &Settings, call: PayoutCall, payout: &Payout, attempt: &Attempt) -> Option<Request> {
    let profile = settings.profile();
    let payouts = profile.payouts.as_ref()?;
    let name = match call {
        PayoutCall::Inquiry => &payouts.inquiry.as_ref()?.operation,
        PayoutCall::Recall => &payouts.recall.as_ref()?.operation,
    };
    let operation = profile.operations.get(name)?;
    let timeout = Some(settings.timeouts().total.min(CALL_TIMEOUT));
    let options = InvokeOptions { timeout, ..InvokeOptions::default() };
    let parameters = answer::parameters(operation, payout, attempt);
    let request = build_request(settings, name, operation, &parameters, options).ok()?;
    Some(Request {
        // What was cached is older than the question.
        cache: CacheMode::Bypass,
        // One try: the clock asks again, later each time.
        max_tries: Some(1),
        max_wait: Some(CALL_TIMEOUT),
        while_suspended: true,
        ..request
    })
}

impl PayoutBanks for RegistryBanks {
    fn ask<'a>(&'a self, call: PayoutCall, payout: &'a Payout, attempt: &'a Attempt) -> BoxFuture<'a, BankAnswer> {
        self.call(call, payout, attempt).boxed()
    }
}
