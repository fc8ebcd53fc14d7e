//! Plays a [`Script`]: takes the time and a request, gives back what to do. Pure; no socket and no clock in sight.
//!
//! Chance is arithmetic: the share of requests that a step or a delay takes is drawn from the seed and the number of
//! the request, so the same script on the same requests plays the same way twice.

use std::sync::Arc;
use std::time::Duration;

use crate::domain::time::Mono;
use crate::testbed::sim::script::{Behaviour, Down, Rule, Script, ScriptError, Step};

/// What the engine needs to know of a request.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Ask<'a> {
    /// The method, in capitals.
    pub(crate) method: &'a str,
    /// The path as it was sent, label included.
    pub(crate) path: &'a str,
    /// Whether this is the token endpoint, which only rules that name its path touch.
    pub(crate) token: bool,
}

/// What to do with a request.
#[derive(Clone, Debug)]
pub(crate) struct Play {
    /// Wait so long first.
    pub(crate) delay: Duration,
    step: Option<Arc<Step>>,
}

impl Play {
    /// A healthy answer at once.
    pub(crate) const HEALTHY: Self = Self { delay: Duration::ZERO, step: None };

    /// Then do this.
    pub(crate) fn behaviour(&self) -> &Behaviour {
        self.step.as_ref().map_or(&Behaviour::Healthy, |s| &s.behaviour)
    }
}

/// A script at a point of its play.
#[derive(Debug)]
pub(crate) struct Engine {
    rules: Vec<Playing>,
    seed: u64,
    asked: u64,
}

#[derive(Debug)]
struct Playing {
    path: Option<String>,
    method: Option<String>,
    steps: Vec<Arc<Step>>,
    /// Length of one round, if every step has one.
    round: Option<Duration>,
    repeat: bool,
    at: usize,
    since: Mono,
    used: u64,
}

impl Engine {
    /// The script from its first steps on.
    pub(crate) fn new(script: Script, seed: u64, now: Mono) -> Result<Self, ScriptError> {
        script.validate()?;
        let rules = script.rules.into_iter().map(|r| Playing::new(r, now)).collect();
        Ok(Self { rules, seed, asked: 0 })
    }

    /// Whether there is nothing to play, so that nobody need ask.
    pub(crate) fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// What happens to this request.
    pub(crate) fn on_request(&mut self, now: Mono, ask: Ask<'_>) -> Play {
        self.asked += 1;
        let draw = Draw { seed: self.seed, number: self.asked };
        for (salt, rule) in (0u64..).zip(&mut self.rules) {
            rule.advance(now);
            if !rule.matches(ask) {
                continue;
            }
            let Some(step) = rule.current().cloned() else { continue };
            if draw.percent(2 * salt) >= step.percent {
                continue;
            }
            rule.count(now);
            return Play { delay: delay(&step, draw.percent(2 * salt + 1)), step: Some(step) };
        }
        Play::HEALTHY
    }

    /// How the bank treats connections now; `None` is the normal way.
    pub(crate) fn line(&mut self, now: Mono) -> Option<Down> {
        self.down(now).map(|(_, how)| how)
    }

    /// A connection has come while the bank was down: counts it.
    pub(crate) fn on_connect(&mut self, now: Mono) {
        if let Some((i, _)) = self.down(now)
            && let Some(rule) = self.rules.get_mut(i)
        {
            rule.count(now);
        }
    }

    /// When time alone next changes something; a bank that is down has nobody else to tell it.
    pub(crate) fn next_change(&mut self, now: Mono) -> Option<Mono> {
        self.rules.iter_mut().filter_map(|r| r.ends_at(now)).min()
    }

    fn down(&mut self, now: Mono) -> Option<(usize, Down)> {
        self.rules.iter_mut().enumerate().find_map(|(i, rule)| {
            rule.advance(now);
            match rule.current()?.behaviour {
                Behaviour::Down(how) => Some((i, how)),
                _ => None,
            }
        })
    }
}

impl Playing {
    fn new(rule: Rule, now: Mono) -> Self {
        let steps: Vec<_> = rule.steps.into_iter().map(Arc::new).collect();
        let round = steps.iter().map(|s| s.ms).try_fold(0u64, |sum, ms| Some(sum.saturating_add(ms?)));
        Self {
            path: rule.path,
            method: rule.method,
            round: round.map(Duration::from_millis),
            steps,
            repeat: rule.repeat,
            at: 0,
            since: now,
            used: 0,
        }
    }

    fn matches(&self, ask: Ask<'_>) -> bool {
        let path = match &self.path {
            Some(prefix) => ask.path.starts_with(prefix.as_str()),
            None => !ask.token,
        };
        path && self.method.as_ref().is_none_or(|m| m == ask.method)
    }

    fn current(&self) -> Option<&Arc<Step>> {
        self.steps.get(self.at)
    }

    /// Leaves the steps whose time is over. Ends, because a step without `ms` stops it and whole rounds are skipped.
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
            self.next(end);
        }
    }

    fn count(&mut self, now: Mono) {
        self.used += 1;
        if self.current().and_then(|s| s.requests).is_some_and(|n| self.used >= n) {
            self.next(now);
        }
    }

    fn next(&mut self, at: Mono) {
        self.at += 1;
        if self.repeat && self.at >= self.steps.len() {
            self.at = 0;
        }
        self.since = at;
        self.used = 0;
    }

    fn ends_at(&mut self, now: Mono) -> Option<Mono> {
        self.advance(now);
        Some(self.since + Duration::from_millis(self.current()?.ms?))
    }
}

/// The shares of one step divide one draw: 5 % slow and 95 % fast never meet.
fn delay(step: &Step, drawn: u8) -> Duration {
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

/// The finaliser of `SplitMix64` (Steele, Lea, Flood 2014): spreads every bit of the input over the output.
pub(crate) const fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testbed::sim::script::Moment;

    const START: Mono = Mono::from_nanos(7_000_000_000);

    fn at(ms: u64) -> Mono {
        START + Duration::from_millis(ms)
    }

    fn ask(path: &str) -> Ask<'_> {
        Ask { method: "GET", path, token: path.starts_with("/oauth") }
    }

    fn engine(script: impl Into<Script>) -> Engine {
        Engine::new(script.into(), 1, START).unwrap()
    }

    fn labels(engine: &mut Engine, times: &[u64]) -> Vec<&'static str> {
        times.iter().map(|ms| engine.on_request(at(*ms), ask("/v2/x")).behaviour().label()).collect()
    }

    #[test]
    fn a_sequence_is_played_in_order_and_ends_healthy() {
        let mut e = engine(Script::sequence([
            Step::from(Behaviour::status(503)).times(2),
            Step::from(Behaviour::Healthy).times(1),
            Step::from(Behaviour::Stall(Moment::BeforeHead)).times(1),
        ]));
        assert_eq!(labels(&mut e, &[0; 6]), ["status", "status", "healthy", "stall", "healthy", "healthy"]);
    }

    #[test]
    fn a_timed_step_ends_by_time_alone() {
        let mut e = engine(Script::sequence([
            Step::from(Behaviour::status(500)).during(Duration::from_millis(100)),
            Step::from(Behaviour::Reset(Moment::BeforeHead)).during(Duration::from_millis(50)),
        ]));
        assert_eq!(e.next_change(at(0)), Some(at(100)));
        assert_eq!(labels(&mut e, &[0, 99, 100, 149, 150]), ["status", "status", "reset", "reset", "healthy"]);
        assert_eq!(e.next_change(at(150)), None);
    }

    #[test]
    fn a_repeated_round_begins_again_even_after_years_of_silence() {
        let steps = [
            Step::from(Behaviour::status(500)).during(Duration::from_millis(10)),
            Step::from(Behaviour::Healthy).during(Duration::from_millis(10)),
        ];
        let mut e = engine(Rule { steps: steps.into(), repeat: true, ..Rule::default() });
        let years = 4 * 365 * 24 * 3_600_000;
        assert_eq!(
            labels(&mut e, &[5, 15, 25, years + 5, years + 15]),
            ["status", "healthy", "status", "status", "healthy"]
        );
    }

    #[test]
    fn the_first_rule_that_matches_decides_and_the_token_endpoint_must_be_named() {
        let mut e = engine(Script {
            rules: vec![
                Rule::on("/v2/slow", [Step::slow(Duration::from_secs(1))]),
                Rule { steps: vec![Behaviour::status(502).into()], ..Rule::default() },
            ],
        });
        let play = e.on_request(at(0), ask("/v2/slow/1"));
        assert_eq!((play.behaviour().label(), play.delay), ("healthy", Duration::from_secs(1)));
        assert_eq!(e.on_request(at(0), ask("/v2/x")).behaviour().label(), "status");
        assert_eq!(e.on_request(at(0), ask("/oauth/token")).behaviour().label(), "healthy");
        let mut e = engine(Rule::on("/oauth", [Behaviour::status(503).into()]));
        assert_eq!(e.on_request(at(0), ask("/oauth/token")).behaviour().label(), "status");
    }

    #[test]
    fn shares_come_out_near_their_percent_and_the_same_each_time() {
        let script = || Script::from(Step::from(Behaviour::status(500)).share(30).after(Duration::from_millis(9), 50));
        let (mut one, mut two) = (engine(script()), engine(script()));
        let (mut failed, mut late) = (0, 0);
        for _ in 0..10_000 {
            let play = one.on_request(at(0), ask("/"));
            let again = two.on_request(at(0), ask("/"));
            assert_eq!((play.behaviour(), play.delay), (again.behaviour(), again.delay));
            failed += u32::from(play.behaviour().label() == "status");
            late += u32::from(play.delay > Duration::ZERO);
        }
        assert!((2_800..3_200).contains(&failed), "{failed}");
        assert!((1_300..1_700).contains(&late), "{late}");
    }

    #[test]
    fn down_counts_connections_and_says_when_it_ends() {
        let mut e = engine(Script::sequence([
            Step::from(Behaviour::Down(Down::Close)).times(2),
            Step::from(Behaviour::Down(Down::Refuse)).during(Duration::from_millis(40)),
        ]));
        assert_eq!(e.line(at(0)), Some(Down::Close));
        e.on_connect(at(1));
        e.on_connect(at(2));
        assert_eq!(e.line(at(3)), Some(Down::Refuse));
        assert_eq!(e.next_change(at(3)), Some(at(42)));
        assert_eq!(e.line(at(42)), None);
    }

    #[test]
    fn a_script_that_cannot_be_played_is_refused_with_its_place() {
        let on_path = Rule::on("/x", [Behaviour::Down(Down::Close).into()]);
        assert_eq!(Script::from(on_path).validate(), Err(ScriptError::DownIsForAll { rule: 0, step: 0 }));
        let counted = Step::from(Behaviour::Down(Down::Refuse)).times(1);
        assert_eq!(Script::from(counted).validate(), Err(ScriptError::RefuseUncounted { rule: 0, step: 0 }));
        assert_eq!(Script::sequence([]).validate(), Err(ScriptError::NoSteps { rule: 0 }));
        let wrong = Script::from(Behaviour::status(99)).validate().unwrap_err();
        assert_eq!(wrong.to_string(), "rules[0].steps[0].do.status.code must be 200 to 599");
    }

    #[test]
    fn the_json_form_reads_as_documented() {
        let json = r#"{"rules":[{"path":"/v2","steps":[
            {"do":{"status":{"code":429,"headers":{"retry-after":"3"}}},"requests":2},
            {"do":{"stall":"beforeHead"},"percent":10,"latency":[{"ms":5}]},
            {"do":{"dribble":{"bytes":1,"everyMs":20}}},{"do":"healthy","ms":100}],"repeat":true},
            {"steps":[{"do":{"down":"refuse"}}]}]}"#;
        let script: Script = serde_json::from_str(json).unwrap();
        script.validate().unwrap();
        assert_eq!(script.rules[0].steps[0], Step::from(Behaviour::rate_limited("3")).times(2));
        assert_eq!(serde_json::from_str::<Script>(&serde_json::to_string(&script).unwrap()).unwrap(), script);
    }
}
