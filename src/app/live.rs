//! `busbar check live`: a few real calls to a real provider, through the path that everything takes.
//!
//! For a pipeline that has sandbox credentials, and for the hour before a go-live. It asks for nothing but reads, prints
//! what it did in a line each, and never what the provider said.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;

use super::AppError;
use crate::cli::live::{LiveArgs, variable};
use crate::clock::Clock;
use crate::domain::key::ObjectKey;
use crate::metrics::{Metrics, MetricsError};
use crate::provider::addresses::AddressRules;
use crate::provider::call::{Answer, CacheUse, CallError};
use crate::provider::classify::Class;
use crate::provider::compat::CompatSet;
use crate::provider::json;
use crate::provider::live::Live;
use crate::provider::profile::{LiveCheck, ParameterError, Profile, ProfileError, Profiles};
use crate::provider::registry::{Access, Registry};
use crate::provider::settings::{Auth, Draft, Settings, SettingsError};

/// The id that is asked for where the list is empty: nobody's.
const NOBODY: &str = "busbar-smoke-check";

/// Why the check failed.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    /// No such profile.
    #[error("there is no profile {0}: see --provider, and --profiles-dir for one of your own")]
    Provider(String),
    /// The profile does not say what to ask.
    #[error(
        "the profile {0} has no liveCheck, which names what lists records and what reads one: choose another --provider"
    )]
    Operations(String),
    /// A setting cannot be used.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The profiles do not parse.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// A parameter of an operation cannot be used.
    #[error("{check}: the parameter {} {}", .source.field, .source.problem)]
    Parameter {
        /// Which check.
        check: &'static str,
        /// What is wrong with it.
        source: ParameterError,
    },
    /// There was no answer.
    #[error("{check}: {source} ({})", .source.code())]
    Call {
        /// Which check.
        check: &'static str,
        /// Why.
        source: CallError,
    },
    /// The answer was not the one that is wanted.
    #[error("{check}: HTTP status {status}, wanted {wanted}")]
    Status {
        /// Which check.
        check: &'static str,
        /// What came.
        status: u16,
        /// What would do.
        wanted: &'static str,
    },
    /// The status was the one that is wanted, the rest of the answer was not.
    #[error("{check}: HTTP status {status}, but the profile reads the answer as {}, wanted ok", .class.as_str())]
    Meaning {
        /// Which check.
        check: &'static str,
        /// What came.
        status: u16,
        /// What it means.
        class: Class,
    },
    /// The metrics do not show the calls.
    #[error("metrics: no line shows {0}")]
    Series(String),
    /// The metrics cannot be served.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// The scrape cannot be written.
    #[error("metrics: writing {}: {source}", .path.display())]
    Write {
        /// Where.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// Calls the provider, or says why not.
#[expect(clippy::print_stdout, reason = "printing is what the command is for")]
pub(super) async fn check(args: LiveArgs) -> Result<(), AppError> {
    if args.skip {
        println!("skipped: switched off (--skip, BUSBAR_LIVE_SKIP)");
        return Ok(());
    }
    let profiles = Profiles::load(args.profiles_dir.as_deref())?;
    let profile = profiles.get(&args.provider).ok_or_else(|| LiveError::Provider(args.provider.clone()))?;
    if let Some(missing) = missing(&profile, &args) {
        println!("skipped: no credentials ({missing})");
        return Ok(());
    }
    for line in run(&args, profile).await? {
        println!("{line}");
    }
    Ok(())
}

/// What is not set of what the profile needs.
fn missing(profile: &Profile, args: &LiveArgs) -> Option<String> {
    let keys = profile.auth.as_ref()?.secret_keys();
    let unset = keys.into_iter().filter(|key| args.credential(key).is_none());
    let unset: Vec<String> = unset.map(variable).collect();
    if unset.is_empty() { None } else { Some(format!("set {}", unset.join(", "))) }
}

async fn run(args: &LiveArgs, profile: Arc<Profile>) -> Result<Vec<String>, LiveError> {
    let wanted = Wanted::of(&profile).ok_or_else(|| LiveError::Operations(profile.id.clone()))?;
    let metrics = Metrics::new();
    let access = Access {
        addresses: AddressRules::allowing(args.allow_provider_addresses.iter().copied()),
        compat: [CompatSet::Finastra, CompatSet::Providers].into(),
        ..Access::default()
    };
    let registry = Registry::new(Clock::system(), &metrics, access)?;
    let settings = Settings::resolve(draft(args, profile)?)?;
    let live = registry.apply(&ObjectKey::new("check", "live"), "check-live", settings, None);
    let mut lines = Vec::new();

    let answer = call(&live, "list", &wanted.list).await?;
    if !answer.status.is_success() {
        return Err(LiveError::Status { check: "list", status: answer.status.as_u16(), wanted: "2xx" });
    }
    let records = good("list", &answer).and_then(|()| body("list", &answer))?;
    lines.push(line("list", &wanted.list.operation, &answer));

    let id = args.id.clone().or_else(|| wanted.check.id_in(&records)).unwrap_or_else(|| NOBODY.to_owned());
    let answer = call(&live, "by id", &wanted.by_id(id)).await?;
    let class = answer.reading.class;
    match answer.status.as_u16() {
        // Some say with another status that there is no such record: their profile knows.
        _ if class == Class::NotFound && !args.strict => {}
        200 => good("by id", &answer).and_then(|()| body("by id", &answer).map(drop))?,
        404 if !args.strict => good("by id", &answer)?,
        status => {
            let wanted = if args.strict { "200 (--strict)" } else { "200 or 404" };
            return Err(LiveError::Status { check: "by id", status, wanted });
        }
    }
    lines.push(line("by id", &wanted.check.by_id, &answer));

    let scrape = metrics.render()?;
    for operation in [&wanted.check.list, &wanted.check.by_id] {
        if !shows(&scrape, operation) {
            return Err(LiveError::Series(format!("busbar_provider_requests_total of {operation}")));
        }
    }
    let path = &args.metrics_file;
    std::fs::write(path, &scrape).map_err(|source| LiveError::Write { path: path.clone(), source })?;
    let series = scrape.lines().filter(|line| !line.starts_with('#')).count();
    lines.push(format!("metrics: ok ({series} lines, left in {})", path.display()));
    Ok(lines)
}

/// One call of the check.
struct Question {
    operation: String,
    parameters: BTreeMap<String, String>,
}

/// What the profile wants to be asked.
struct Wanted {
    check: LiveCheck,
    list: Question,
    id_parameter: String,
    with_id: BTreeMap<String, String>,
}

impl Wanted {
    fn of(profile: &Profile) -> Option<Self> {
        let check = profile.live_check.clone()?;
        let (list, by_id) = (profile.operations.get(&check.list)?, profile.operations.get(&check.by_id)?);
        let question = Question { operation: check.list.clone(), parameters: check.given(list) };
        let (id_parameter, with_id) = (check.id_parameter(by_id)?.to_owned(), check.given(by_id));
        Some(Self { list: question, id_parameter, with_id, check })
    }

    fn by_id(&self, id: String) -> Question {
        let mut parameters = self.with_id.clone();
        parameters.insert(self.id_parameter.clone(), id);
        Question { operation: self.check.by_id.clone(), parameters }
    }
}

/// Whether the scrape counts calls of exactly this operation.
fn shows(scrape: &str, operation: &str) -> bool {
    let label = format!("operation=\"{operation}\"");
    // A label begins behind the brace or a comma: `of_operation` is another.
    let has = |labels: &str| {
        labels
            .match_indices(&label)
            .any(|(at, _)| at == 0 || labels.get(..at).is_some_and(|before| before.ends_with(',')))
    };
    let mut series = scrape.lines().filter_map(|line| line.strip_prefix("busbar_provider_requests_total{"));
    series.any(has)
}

/// Whether the answer means what its status says.
fn good(check: &'static str, answer: &Answer) -> Result<(), LiveError> {
    let (status, class) = (answer.status.as_u16(), answer.reading.class);
    if class == Class::Ok { Ok(()) } else { Err(LiveError::Meaning { check, status, class }) }
}

/// The answer's body; what is no JSON is no record.
fn body(check: &'static str, answer: &Answer) -> Result<Value, LiveError> {
    let unreadable = |_| LiveError::Meaning { check, status: answer.status.as_u16(), class: Class::Retry };
    json::parse(&answer.body).map_err(unreadable)
}

fn draft(args: &LiveArgs, profile: Arc<Profile>) -> Result<Draft, LiveError> {
    let mut draft = Draft::new(profile, args.environment);
    if let Some(url) = &args.base_url {
        url.as_str().trim_end_matches('/').clone_into(&mut draft.base_url);
    }
    draft.parameters = args.parameters.iter().cloned().collect();
    if let Some(mapping) = draft.profile.auth.as_ref() {
        let secret = |key: &str| args.credential(key);
        draft.auth = Auth::from_profile(mapping, &draft.base_url, &draft.parameters, secret)?;
    }
    if let (Auth::ClientCredentials(client), Some(url)) = (&mut draft.auth, &args.token_url) {
        client.token_url = url.to_string();
    }
    Ok(draft)
}

async fn call(live: &Live, check: &'static str, question: &Question) -> Result<Answer, LiveError> {
    let settings = live.settings();
    let profile = settings.profile();
    let Question { operation, parameters } = question;
    let known = profile.operations.get(operation).ok_or_else(|| LiveError::Operations(profile.id.clone()))?;
    let mut request = known
        .request_at(operation, parameters, settings.parameters())
        .map_err(|source| LiveError::Parameter { check, source })?;
    // A kept answer would prove nothing, and neither would a proxy's page.
    request.cache = CacheUse::None;
    request.json = true;
    live.call(request).await.map_err(|source| LiveError::Call { check, source })
}

fn line(check: &str, operation: &str, answer: &Answer) -> String {
    let (status, bytes, ms) = (answer.status.as_u16(), answer.body.len(), answer.elapsed.as_millis());
    format!("{check}: ok ({operation}: HTTP {status}, {bytes} bytes, {ms} ms)")
}

#[cfg(test)]
mod tests {
    use super::shows;

    #[test]
    fn only_calls_of_the_very_operation_prove_that_it_is_counted() {
        let of = |operation: &str| {
            format!(
                "# HELP x\nbusbar_provider_requests_total{{name=\"live\",operation=\"{operation}\",outcome=\"ok\"}} 1\n"
            )
        };
        for (asked, counted) in [("collateral", "collaterals"), ("account", "accounts"), ("charge", "charges")] {
            assert!(!shows(&of(counted), asked), "{asked}");
            assert!(shows(&of(asked), asked) && shows(&of(counted), counted));
        }
        let other = "busbar_provider_requests_total{of_operation=\"account\",operation=\"accounts\"} 1\n";
        assert!(!shows(other, "account") && shows(other, "accounts"));
        assert!(!shows("busbar_provider_seconds_count{operation=\"account\"} 1\n", "account"));
    }
}
