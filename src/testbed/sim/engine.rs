//! Evaluates a [`Script`]: from the time and a request to a response plan. Pure: no sockets, no clock.
//!
//! Randomness is deterministic: whether a request falls into the share of a step or a delay is derived from the seed
//! and the number of the request, so the same script and the same requests give the same results.

use std::sync::Arc;
use std::time::Duration;

use crate::domain::time::Mono;
use crate::testbed::sim::random::mix;
use crate::testbed::sim::script::{Behaviour, Down, Rule, Script, ScriptError, ScriptStep};

/// The properties of a request on which rules match.
#[derive(Copy, Clone, Debug)]
pub(crate) struct RequestInfo<'a> {
    /// The method in upper case.
    pub(crate) method: &'a str,
    /// The path as sent, including the label.
    pub(crate) path: &'a str,
    /// Whether this is the token endpoint, which only rules with a path match.
    pub(crate) is_token: bool,
}

/// How to respond to a request.
#[derive(Clone, Debug)]
pub(crate) struct ResponsePlan {
    /// Delay before the response.
    pub(crate) delay: Duration,
    step: Option<Arc<ScriptStep>>,
}

impl ResponsePlan {
    /// A normal response without delay.
    pub(crate) const HEALTHY: Self = Self { delay: Duration::ZERO, step: None };

    /// The behaviour after the delay.
    pub(crate) fn behaviour(&self) -> &Behaviour {
        self.step.as_ref().map_or(&Behaviour::Healthy, |s| &s.behaviour)
    }
}

/// A running script.
#[derive(Debug)]
pub(crate) struct ScriptEngine {
    rules: Vec<ActiveRule>,
    seed: u64,
    requests: u64,
}

#[derive(Debug)]
struct ActiveRule {
    path: Option<String>,
    method: Option<String>,
    steps: Vec<Arc<ScriptStep>>,
    /// Duration of all steps together, if each step has one.
    round: Option<Duration>,
    repeat: bool,
    /// Index of the current step.
    current: usize,
    /// Start of the current step.
    since: Mono,
    /// Requests that the current step has decided.
    used: u64,
}

impl ScriptEngine {
    /// Starts the script at the first step of each rule.
    pub(crate) fn new(script: Script, seed: u64, now: Mono) -> Result<Self, ScriptError> {
        script.validate()?;
        let rules = script.rules.into_iter().map(|r| ActiveRule::new(r, now)).collect();
        Ok(Self { rules, seed, requests: 0 })
    }

    /// Whether the script has no rules.
    pub(crate) fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Evaluates one request.
    pub(crate) fn on_request(&mut self, now: Mono, request: RequestInfo<'_>) -> ResponsePlan {
        self.requests += 1;
        let draw = Draw { seed: self.seed, number: self.requests };
        for (salt, rule) in (0u64..).zip(&mut self.rules) {
            rule.advance(now);
            if !rule.matches(request) {
                continue;
            }
            let Some(step) = rule.current().cloned() else { continue };
            if draw.percent(2 * salt) >= step.percent {
                continue;
            }
            rule.count(now);
            return ResponsePlan { delay: delay(&step, draw.percent(2 * salt + 1)), step: Some(step) };
        }
        ResponsePlan::HEALTHY
    }

    /// How the bank refuses connections now; `None` if it accepts them.
    pub(crate) fn down_mode(&mut self, now: Mono) -> Option<Down> {
        self.active_down(now).map(|(_, how)| how)
    }

    /// Counts a connection that arrived while the bank was down.
    pub(crate) fn on_connect(&mut self, now: Mono) {
        if let Some((i, _)) = self.active_down(now)
            && let Some(rule) = self.rules.get_mut(i)
        {
            rule.count(now);
        }
    }

    /// When the passing of time next changes a rule; a bank that is down receives no requests that would re-evaluate
    /// it.
    pub(crate) fn next_change(&mut self, now: Mono) -> Option<Mono> {
        self.rules.iter_mut().filter_map(|r| r.ends_at(now)).min()
    }

    fn active_down(&mut self, now: Mono) -> Option<(usize, Down)> {
        self.rules.iter_mut().enumerate().find_map(|(i, rule)| {
            rule.advance(now);
            match rule.current()?.behaviour {
                Behaviour::Down(how) => Some((i, how)),
                _ => None,
            }
        })
    }
}

impl ActiveRule {
    fn new(rule: Rule, now: Mono) -> Self {
        let steps: Vec<_> = rule.steps.into_iter().map(Arc::new).collect();
        let round = steps.iter().map(|s| s.ms).try_fold(0u64, |sum, ms| Some(sum.saturating_add(ms?)));
        Self {
            path: rule.path,
            method: rule.method,
            round: round.map(Duration::from_millis),
            steps,
            repeat: rule.repeat,
            current: 0,
            since: now,
            used: 0,
        }
    }

    fn matches(&self, request: RequestInfo<'_>) -> bool {
        let path = match &self.path {
            Some(prefix) => request.path.starts_with(prefix.as_str()),
            None => !request.is_token,
        };
        path && self.method.as_ref().is_none_or(|m| m == request.method)
    }

    fn current(&self) -> Option<&Arc<ScriptStep>> {
        self.steps.get(self.current)
    }

    /// Skips the steps whose time has passed. Terminates, because a step without `ms` stops it and whole rounds are
    /// skipped.
    fn advance(&mut self, now: Mono) {
        if let (true, Some(round)) = (self.repeat, self.round) {
            let elapsed = now.since(self.since);
            if elapsed >= round {
                let over = elapsed.as_nanos() % round.as_nanos().max(1);
                self.since = now - Duration::from_nanos(u64::try_from(over).unwrap_or(0));
            }
        }
        while let Some(end) = self.current().and_then(|s| s.ms).map(|ms| self.since + Duration::from_millis(ms)) {
            if end > now {
                return;
            }
            self.next_step(end);
        }
    }

    fn count(&mut self, now: Mono) {
        self.used += 1;
        if self.current().and_then(|s| s.requests).is_some_and(|n| self.used >= n) {
            self.next_step(now);
        }
    }

    fn next_step(&mut self, at: Mono) {
        self.current += 1;
        if self.repeat && self.current >= self.steps.len() {
            self.current = 0;
        }
        self.since = at;
        self.used = 0;
    }

    fn ends_at(&mut self, now: Mono) -> Option<Mono> {
        self.advance(now);
        Some(self.since + Duration::from_millis(self.current()?.ms?))
    }
}

/// The delay of a request. The shares of one step partition one draw: 5 % slow and 95 % fast are disjoint.
fn delay(step: &ScriptStep, drawn: u8) -> Duration {
    let mut upto = 0u8;
    for l in &step.latency {
        upto = upto.saturating_add(l.percent);
        if drawn < upto {
            return Duration::from_millis(l.ms);
        }
    }
    Duration::ZERO
}

#[derive(Copy, Clone)]
struct Draw {
    seed: u64,
    number: u64,
}

impl Draw {
    /// A number from 0 to 99.
    fn percent(self, salt: u64) -> u8 {
        let word = mix(self.seed ^ mix(self.number) ^ mix(salt.wrapping_add(0x5bd1)));
        u8::try_from(word % 100).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testbed::sim::script::FailurePoint;

    const START: Mono = Mono::from_nanos(7_000_000_000);

    fn at(ms: u64) -> Mono {
        START + Duration::from_millis(ms)
    }

    fn request(path: &str) -> RequestInfo<'_> {
        RequestInfo { method: "GET", path, is_token: path.starts_with("/oauth") }
    }

    fn engine(script: impl Into<Script>) -> ScriptEngine {
        ScriptEngine::new(script.into(), 1, START).unwrap()
    }

    fn labels(engine: &mut ScriptEngine, times: &[u64]) -> Vec<&'static str> {
        times.iter().map(|ms| engine.on_request(at(*ms), request("/v2/x")).behaviour().label()).collect()
    }

    #[test]
    fn a_sequence_runs_in_order_and_ends_healthy() {
        let mut e = engine(Script::sequence([
            ScriptStep::from(Behaviour::status(503)).times(2),
            ScriptStep::from(Behaviour::Healthy).times(1),
            ScriptStep::from(Behaviour::Stall(FailurePoint::BeforeHead)).times(1),
        ]));
        assert_eq!(labels(&mut e, &[0; 6]), ["status", "status", "healthy", "stall", "healthy", "healthy"]);
    }

    #[test]
    fn a_timed_step_ends_when_its_time_has_passed() {
        let mut e = engine(Script::sequence([
            ScriptStep::from(Behaviour::status(500)).during(Duration::from_millis(100)),
            ScriptStep::from(Behaviour::Reset(FailurePoint::BeforeHead)).during(Duration::from_millis(50)),
        ]));
        assert_eq!(e.next_change(at(0)), Some(at(100)));
        assert_eq!(labels(&mut e, &[0, 99, 100, 149, 150]), ["status", "status", "reset", "reset", "healthy"]);
        assert_eq!(e.next_change(at(150)), None);
    }

    #[test]
    fn a_repeated_rule_restarts_even_after_years_without_requests() {
        let steps = [
            ScriptStep::from(Behaviour::status(500)).during(Duration::from_millis(10)),
            ScriptStep::from(Behaviour::Healthy).during(Duration::from_millis(10)),
        ];
        let mut e = engine(Rule { steps: steps.into(), repeat: true, ..Rule::default() });
        let years = 4 * 365 * 24 * 3_600_000;
        assert_eq!(
            labels(&mut e, &[5, 15, 25, years + 5, years + 15]),
            ["status", "healthy", "status", "status", "healthy"]
        );
    }

    #[test]
    fn the_first_match_decides_and_the_token_endpoint_needs_a_path() {
        let mut e = engine(Script {
            rules: vec![
                Rule::on("/v2/slow", [ScriptStep::slow(Duration::from_secs(1))]),
                Rule { steps: vec![Behaviour::status(502).into()], ..Rule::default() },
            ],
        });
        let plan = e.on_request(at(0), request("/v2/slow/1"));
        assert_eq!((plan.behaviour().label(), plan.delay), ("healthy", Duration::from_secs(1)));
        assert_eq!(e.on_request(at(0), request("/v2/x")).behaviour().label(), "status");
        assert_eq!(e.on_request(at(0), request("/oauth/token")).behaviour().label(), "healthy");
        let mut e = engine(Rule::on("/oauth", [Behaviour::status(503).into()]));
        assert_eq!(e.on_request(at(0), request("/oauth/token")).behaviour().label(), "status");
    }

    #[test]
    fn shares_are_near_their_percentage_and_reproducible() {
        let script =
            || Script::from(ScriptStep::from(Behaviour::status(500)).share(30).after(Duration::from_millis(9), 50));
        let (mut one, mut two) = (engine(script()), engine(script()));
        let (mut failed, mut delayed) = (0, 0);
        for _ in 0..10_000 {
            let plan = one.on_request(at(0), request("/"));
            let again = two.on_request(at(0), request("/"));
            assert_eq!((plan.behaviour(), plan.delay), (again.behaviour(), again.delay));
            failed += u32::from(plan.behaviour().label() == "status");
            delayed += u32::from(plan.delay > Duration::ZERO);
        }
        assert!((2_800..3_200).contains(&failed), "{failed}");
        assert!((1_300..1_700).contains(&delayed), "{delayed}");
    }

    #[test]
    fn down_counts_connections_and_reports_its_end() {
        let mut e = engine(Script::sequence([
            ScriptStep::from(Behaviour::Down(Down::Close)).times(2),
            ScriptStep::from(Behaviour::Down(Down::Refuse)).during(Duration::from_millis(40)),
        ]));
        assert_eq!(e.down_mode(at(0)), Some(Down::Close));
        e.on_connect(at(1));
        e.on_connect(at(2));
        assert_eq!(e.down_mode(at(3)), Some(Down::Refuse));
        assert_eq!(e.next_change(at(3)), Some(at(42)));
        assert_eq!(e.down_mode(at(42)), None);
    }

    #[test]
    fn an_invalid_script_is_rejected_with_its_position() {
        let on_path = Rule::on("/x", [Behaviour::Down(Down::Close).into()]);
        assert_eq!(Script::from(on_path).validate(), Err(ScriptError::DownIsBankWide { rule: 0, step: 0 }));
        let counted = ScriptStep::from(Behaviour::Down(Down::Refuse)).times(1);
        assert_eq!(Script::from(counted).validate(), Err(ScriptError::RefuseNotCounted { rule: 0, step: 0 }));
        assert_eq!(Script::sequence([]).validate(), Err(ScriptError::NoSteps { rule: 0 }));
        let wrong = Script::from(Behaviour::status(99)).validate().unwrap_err();
        assert_eq!(wrong.to_string(), "rules[0].steps[0].do.status.code must be 200 to 599");
    }

    #[test]
    fn the_json_form_parses_as_documented() {
        let json = r#"{"rules":[{"path":"/v2","steps":[
            {"do":{"status":{"code":429,"headers":{"retry-after":"3"}}},"requests":2},
            {"do":{"stall":"beforeHead"},"percent":10,"latency":[{"ms":5}]},
            {"do":{"dribble":{"bytes":1,"everyMs":20}}},{"do":"healthy","ms":100}],"repeat":true},
            {"steps":[{"do":{"down":"refuse"}}]}]}"#;
        let script: Script = serde_json::from_str(json).unwrap();
        script.validate().unwrap();
        assert_eq!(script.rules[0].steps[0], ScriptStep::from(Behaviour::rate_limited("3")).times(2));
        assert_eq!(serde_json::from_str::<Script>(&serde_json::to_string(&script).unwrap()).unwrap(), script);
    }
}
