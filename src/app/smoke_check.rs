//! `busbar check live`: a smoke check that makes a few calls to a real provider, through the same call path as the
//! operator.
//!
//! For CI with sandbox credentials, and for a final check before going live. It only reads, prints one line per call,
//! and never prints content of a response.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::app::output::{OutputError, print_line};
use crate::app::sync_command::{LiveSync, SyncError, persist};
use crate::cli::environment;
use crate::cli::live::{LiveArgs, variable};
use crate::clock::Clock;
use crate::domain::key::ObjectKey;
use crate::metrics::{Metrics, MetricsError};
use crate::profile::ResponseClass;
use crate::profile::json;
use crate::profile::{LiveCheck, ParameterError, Profile, ProfileError, Profiles};
use crate::provider::call::{CacheMode, CallError, Request, Response};
use crate::provider::connection::Connection;
use crate::provider::legacy_metrics::LegacyMetricSet;
use crate::provider::registry::{Registry, RegistryOptions};
use crate::settings::addresses::AddressRules;
use crate::settings::{Auth, Draft, Settings, SettingsError};

/// The ID of the second call if the list is empty; no record has it.
const ABSENT_ID: &str = "busbar-smoke-check";

/// Why the smoke check failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum SmokeCheckError {
    /// The profile does not exist.
    #[error("profile {0} not found; check --provider, or set --profiles-dir for a custom profile")]
    Provider(String),
    /// The profile has no `liveCheck`.
    #[error("profile {0} has no liveCheck (the operations that list records and read one); choose another --provider")]
    Operations(String),
    /// A setting is invalid.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A profile is invalid.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// A parameter of an operation is invalid.
    #[error("{check}: parameter {} {}", .source.field, .source.problem)]
    Parameter {
        /// The check.
        check: &'static str,
        /// The cause.
        source: ParameterError,
    },
    /// The call failed.
    #[error("{check}: {source} ({})", .source.code())]
    Call {
        /// The check.
        check: &'static str,
        /// The cause.
        source: CallError,
    },
    /// The HTTP status is not the expected one.
    #[error("{check}: HTTP status {status}, expected {expected}")]
    Status {
        /// The check.
        check: &'static str,
        /// The HTTP status.
        status: u16,
        /// The expected status.
        expected: &'static str,
    },
    /// The HTTP status is the expected one, but the profile classifies the response otherwise.
    #[error("{check}: HTTP status {status}, but the profile classifies it as {}, expected ok", .class.as_str())]
    ResponseClass {
        /// The check.
        check: &'static str,
        /// The HTTP status.
        status: u16,
        /// The class of the response.
        class: ResponseClass,
    },
    /// The metrics do not count the calls.
    #[error("metrics: no series counts {0}")]
    MissingSeries(String),
    /// The metrics could not be registered or rendered.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// The sync failed, or stored something that it must not.
    #[error(transparent)]
    Sync(#[from] SyncError),
    /// Standard output could not be written.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// The metrics file could not be written.
    #[error("metrics: writing {}: {source}", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
}

/// Runs the smoke check, or prints why it is skipped.
pub(super) async fn check(args: LiveArgs) -> Result<(), SmokeCheckError> {
    if args.skip {
        return Ok(print_line("skipped: switched off (--skip, BUSBAR_LIVE_SKIP)")?);
    }
    let profiles = Profiles::load(args.profiles_dir.as_deref())?;
    let profile = profiles.get(&args.provider).ok_or_else(|| SmokeCheckError::Provider(args.provider.clone()))?;
    if let Some(missing) = missing(&profile, &args) {
        return Ok(print_line(&format!("skipped: no credentials ({missing})"))?);
    }
    for line in run(&args, profile).await? {
        print_line(&line)?;
    }
    Ok(())
}

/// The required environment variables that are not set.
fn missing(profile: &Profile, args: &LiveArgs) -> Option<String> {
    let keys = profile.auth.as_ref()?.secret_keys();
    let unset = keys.into_iter().filter(|key| args.credential(key, environment).is_none());
    let unset: Vec<String> = unset.map(variable).collect();
    if unset.is_empty() { None } else { Some(format!("set {}", unset.join(", "))) }
}

async fn run(args: &LiveArgs, profile: Arc<Profile>) -> Result<Vec<String>, SmokeCheckError> {
    let plan = match CheckPlan::of(&profile) {
        Some(plan) => plan,
        // Its streams can be synced all the same.
        None if args.sync => return sync(args, profile).await,
        None => return Err(SmokeCheckError::Operations(profile.id.clone())),
    };
    let metrics = Metrics::new();
    let options = RegistryOptions {
        addresses: AddressRules::allowing(args.allow_provider_addresses.iter().copied()),
        legacy_metrics: [LegacyMetricSet::Finastra, LegacyMetricSet::Providers].into(),
        ..RegistryOptions::default()
    };
    let registry = Registry::new(Clock::system(), &metrics, options)?;
    let settings = Settings::resolve(draft(args, Arc::clone(&profile))?)?;
    let connection = registry.apply(&ObjectKey::new("check", "live"), "check-live", settings, None);
    let mut lines = Vec::new();

    let answer = call(&connection, "list", &plan.list).await?;
    if !answer.status.is_success() {
        return Err(SmokeCheckError::Status { check: "list", status: answer.status.as_u16(), expected: "2xx" });
    }
    expect_ok("list", &answer).and_then(|()| expect_json("list", &answer))?;
    lines.push(line("list", &plan.list.operation, &answer));

    let id = args.id.clone().or_else(|| plan.check.id_in(&answer.body)).unwrap_or_else(|| ABSENT_ID.to_owned());
    let answer = call(&connection, "by id", &plan.by_id(id)).await?;
    let class = answer.classification.class;
    match answer.status.as_u16() {
        // Some providers use another status for "no such record"; the profile classifies it.
        _ if class == ResponseClass::NotFound && !args.strict => {}
        200 => expect_ok("by id", &answer).and_then(|()| expect_json("by id", &answer))?,
        404 if !args.strict => expect_ok("by id", &answer)?,
        status => {
            let expected = if args.strict { "200 (--strict)" } else { "200 or 404" };
            return Err(SmokeCheckError::Status { check: "by id", status, expected });
        }
    }
    lines.push(line("by id", &plan.check.by_id, &answer));

    let scrape = metrics.render()?;
    for operation in [&plan.check.list, &plan.check.by_id] {
        if !counts_calls_of(&scrape, operation) {
            return Err(SmokeCheckError::MissingSeries(format!("busbar_provider_requests_total of {operation}")));
        }
    }
    let path = &args.metrics_file;
    std::fs::write(path, &scrape).map_err(|source| SmokeCheckError::Write { path: path.clone(), source })?;
    let series = scrape.lines().filter(|line| !line.starts_with('#')).count();
    lines.push(format!("metrics: ok ({series} lines, written to {})", path.display()));
    if args.sync {
        lines.extend(sync(args, profile).await?);
    }
    Ok(lines)
}

/// Syncs a stream, and says what is stored.
async fn sync(args: &LiveArgs, profile: Arc<Profile>) -> Result<Vec<String>, SmokeCheckError> {
    let sync = LiveSync {
        settings: Arc::new(Settings::resolve(draft(args, profile)?)?),
        addresses: AddressRules::allowing(args.allow_provider_addresses.iter().copied()),
        stream: args.stream.clone(),
        parameters: args.stream_parameters.iter().cloned().collect(),
        ledger: args.ledger.clone(),
    };
    Ok(Box::pin(persist(sync)).await?)
}

/// One call of the check.
struct CheckCall {
    operation: String,
    parameters: BTreeMap<String, String>,
}

/// The calls that the profile's `liveCheck` defines.
struct CheckPlan {
    check: LiveCheck,
    list: CheckCall,
    id_parameter: String,
    with_id: BTreeMap<String, String>,
}

impl CheckPlan {
    fn of(profile: &Profile) -> Option<Self> {
        let check = profile.live_check.clone()?;
        let (list, by_id) = (profile.operations.get(&check.list)?, profile.operations.get(&check.by_id)?);
        let list_call = CheckCall { operation: check.list.clone(), parameters: check.parameters_of(list) };
        let (id_parameter, with_id) = (check.id_parameter(by_id)?.to_owned(), check.parameters_of(by_id));
        Some(Self { list: list_call, id_parameter, with_id, check })
    }

    fn by_id(&self, id: String) -> CheckCall {
        let mut parameters = self.with_id.clone();
        parameters.insert(self.id_parameter.clone(), id);
        CheckCall { operation: self.check.by_id.clone(), parameters }
    }
}

/// Whether the metrics count calls of exactly this operation.
fn counts_calls_of(scrape: &str, operation: &str) -> bool {
    let label = format!("operation=\"{operation}\"");
    // A label starts after the brace or a comma: `of_operation` is another label.
    let has = |labels: &str| {
        labels
            .match_indices(&label)
            .any(|(at, _)| at == 0 || labels.get(..at).is_some_and(|before| before.ends_with(',')))
    };
    let mut series = scrape.lines().filter_map(|line| line.strip_prefix("busbar_provider_requests_total{"));
    series.any(has)
}

/// Fails if the profile does not classify the response as ok.
fn expect_ok(check: &'static str, answer: &Response) -> Result<(), SmokeCheckError> {
    let (status, class) = (answer.status.as_u16(), answer.classification.class);
    if class == ResponseClass::Ok { Ok(()) } else { Err(SmokeCheckError::ResponseClass { check, status, class }) }
}

/// Fails if the response body is not JSON.
fn expect_json(check: &'static str, answer: &Response) -> Result<(), SmokeCheckError> {
    let unreadable =
        |_| SmokeCheckError::ResponseClass { check, status: answer.status.as_u16(), class: ResponseClass::Retry };
    json::check(&answer.body).map(drop).map_err(unreadable)
}

fn draft(args: &LiveArgs, profile: Arc<Profile>) -> Result<Draft, SmokeCheckError> {
    let mut draft = Draft::new(profile, args.environment);
    if let Some(url) = &args.base_url {
        url.as_str().trim_end_matches('/').clone_into(&mut draft.base_url);
    }
    draft.parameters = args.parameters.iter().cloned().collect();
    if let Some(mapping) = draft.profile.auth.as_ref() {
        let secret = |key: &str| args.credential(key, environment);
        draft.auth = Auth::from_profile(mapping, &draft.base_url, &draft.parameters, secret)?;
    }
    if let (Auth::ClientCredentials(client), Some(url)) = (&mut draft.auth, &args.token_url) {
        client.token_url = url.to_string();
    }
    Ok(draft)
}

async fn call(
    connection: &Connection,
    check: &'static str,
    check_call: &CheckCall,
) -> Result<Response, SmokeCheckError> {
    let settings = connection.settings();
    let profile = settings.profile();
    let CheckCall { operation, parameters } = check_call;
    let known = profile.operations.get(operation).ok_or_else(|| SmokeCheckError::Operations(profile.id.clone()))?;
    let expanded = known
        .request(parameters, settings.parameters())
        .map_err(|source| SmokeCheckError::Parameter { check, source })?;
    let mut request = Request::from_operation(operation.as_str(), expanded);
    // A cached response would prove nothing, and neither would a proxy's HTML page.
    request.cache = CacheMode::Bypass;
    request.expect_json = true;
    connection.call(request).await.map_err(|source| SmokeCheckError::Call { check, source })
}

fn line(check: &str, operation: &str, answer: &Response) -> String {
    let (status, bytes, ms) = (answer.status.as_u16(), answer.body.len(), answer.elapsed.as_millis());
    format!("{check}: ok ({operation}: HTTP {status}, {bytes} bytes, {ms} ms)")
}

#[cfg(test)]
mod tests {
    use super::counts_calls_of;

    #[test]
    fn only_series_with_the_exact_operation_label_count() {
        let of = |operation: &str| {
            format!(
                "# HELP x\nbusbar_provider_requests_total{{name=\"live\",operation=\"{operation}\",outcome=\"ok\"}} 1\n"
            )
        };
        for (asked, counted) in [("collateral", "collaterals"), ("account", "accounts"), ("charge", "charges")] {
            assert!(!counts_calls_of(&of(counted), asked), "{asked}");
            assert!(counts_calls_of(&of(asked), asked) && counts_calls_of(&of(counted), counted));
        }
        let other = "busbar_provider_requests_total{of_operation=\"account\",operation=\"accounts\"} 1\n";
        assert!(!counts_calls_of(other, "account") && counts_calls_of(other, "accounts"));
        assert!(!counts_calls_of("busbar_provider_seconds_count{operation=\"account\"} 1\n", "account"));
    }
}
