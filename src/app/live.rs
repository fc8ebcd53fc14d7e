//! `busbar check live`: a few real calls to a real provider, through the path that everything takes.
//!
//! For a pipeline that has sandbox credentials, and for the hour before a go-live. It asks for nothing but reads, prints
//! what it did in a line each, and never what the provider said.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;

use super::AppError;
use crate::cli::live::LiveArgs;
use crate::clock::Clock;
use crate::domain::key::ObjectKey;
use crate::metrics::{Metrics, MetricsError};
use crate::provider::addresses::AddressRules;
use crate::provider::call::{Answer, CacheUse, CallError};
use crate::provider::compat::CompatSet;
use crate::provider::live::Live;
use crate::provider::profile::{ParameterError, Profile, ProfileError, Profiles};
use crate::provider::registry::{Access, Registry};
use crate::provider::settings::{Auth, Draft, Settings, SettingsError};

/// The id that is asked for where the list is empty: nobody's.
const NOBODY: &str = "busbar-smoke-check";

/// Why the check failed.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    /// No such profile.
    #[error("there is no profile {0}: see --provider")]
    Provider(String),
    /// The profile has nothing to list.
    #[error("the profile {0} has no pair of operations that lists records and reads one: choose another --provider")]
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
    let profiles = Profiles::builtin()?;
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
    let mapping = profile.auth.as_ref()?;
    let mut keys: Vec<&str> = Vec::new();
    if mapping.token.is_some() {
        keys.extend(["client-id", "client-secret"]);
    }
    keys.extend(mapping.headers.iter().map(|header| header.secret_key.as_str()));
    keys.extend(mapping.query.iter().map(|parameter| parameter.secret_key.as_str()));
    let unset = keys.into_iter().filter(|key| credential(args, key).is_none());
    let unset: Vec<String> = unset.map(|key| format!("BUSBAR_LIVE_{}", key.to_uppercase().replace('-', "_"))).collect();
    if unset.is_empty() { None } else { Some(format!("set {}", unset.join(", "))) }
}

/// A credential by the name of the key that it has in a Secret.
fn credential(args: &LiveArgs, key: &str) -> Option<SecretString> {
    let given = match key {
        "client-id" => &args.client_id,
        "client-secret" => &args.client_secret,
        "api-key" => &args.api_key,
        _ => return None,
    };
    given.as_ref().map(|credential| credential.0.clone()).filter(|secret| !secret.expose_secret().is_empty())
}

async fn run(args: &LiveArgs, profile: Arc<Profile>) -> Result<Vec<String>, LiveError> {
    let (list, by_id, parameter) = operations(&profile).ok_or_else(|| LiveError::Operations(profile.id.clone()))?;
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

    let answer = call(&live, "list", list, &BTreeMap::new()).await?;
    if !answer.status.is_success() {
        return Err(LiveError::Status { check: "list", status: answer.status.as_u16(), wanted: "2xx" });
    }
    lines.push(line("list", list, &answer));

    let id = args.id.clone().or_else(|| first_id(&answer.body)).unwrap_or_else(|| NOBODY.to_owned());
    let answer = call(&live, "by id", by_id, &[(parameter, id)].into()).await?;
    match answer.status.as_u16() {
        200 => {}
        404 if !args.strict => {}
        status => {
            let wanted = if args.strict { "200 (--strict)" } else { "200 or 404" };
            return Err(LiveError::Status { check: "by id", status, wanted });
        }
    }
    lines.push(line("by id", by_id, &answer));

    let scrape = metrics.render()?;
    for operation in [list, by_id] {
        let shown = |line: &&str| line.starts_with("busbar_provider_requests_total{") && line.contains(operation);
        if !scrape.lines().any(|line| shown(&line)) {
            return Err(LiveError::Series(format!("busbar_provider_requests_total of {operation}")));
        }
    }
    let path = &args.metrics_file;
    std::fs::write(path, &scrape).map_err(|source| LiveError::Write { path: path.clone(), source })?;
    let series = scrape.lines().filter(|line| !line.starts_with('#')).count();
    lines.push(format!("metrics: ok ({series} lines, left in {})", path.display()));
    Ok(lines)
}

/// What lists records, what reads one, and the parameter that names it.
fn operations(profile: &Profile) -> Option<(&'static str, &'static str, String)> {
    let (list, by_id) = match profile.id.as_str() {
        "finastra" => ("collaterals", "collateral"),
        "mono" => ("accounts", "account"),
        "stripe" => ("charges", "charge"),
        _ => return None,
    };
    let parameters = &profile.operations.get(by_id)?.parameters;
    let (name, _) = parameters.iter().find(|(_, rule)| rule.required)?;
    profile.operations.contains_key(list).then(|| (list, by_id, name.clone()))
}

fn draft(args: &LiveArgs, profile: Arc<Profile>) -> Result<Draft, LiveError> {
    let mut draft = Draft::new(profile, args.environment);
    if let Some(url) = &args.base_url {
        url.as_str().trim_end_matches('/').clone_into(&mut draft.base_url);
    }
    draft.parameters = args.parameters.iter().cloned().collect();
    if let Some(mapping) = draft.profile.auth.as_ref() {
        let secret = |key: &str| credential(args, key);
        draft.auth = Auth::from_profile(mapping, &draft.base_url, &draft.parameters, secret)?;
    }
    if let (Auth::ClientCredentials(client), Some(url)) = (&mut draft.auth, &args.token_url) {
        client.token_url = url.to_string();
    }
    Ok(draft)
}

async fn call(
    live: &Live,
    check: &'static str,
    operation: &str,
    parameters: &BTreeMap<String, String>,
) -> Result<Answer, LiveError> {
    let settings = live.settings();
    let profile = settings.profile();
    let wanted = profile.operations.get(operation).ok_or_else(|| LiveError::Operations(profile.id.clone()))?;
    let mut request = wanted
        .request_at(operation, parameters, settings.parameters())
        .map_err(|source| LiveError::Parameter { check, source })?;
    // A kept answer would prove nothing.
    request.cache = CacheUse::None;
    live.call(request).await.map_err(|source| LiveError::Call { check, source })
}

/// The id of the first record of a list, wherever the provider puts its list.
fn first_id(body: &[u8]) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let mut lists = ["", "/items", "/data", "/results"].into_iter().filter_map(|at| body.pointer(at)?.as_array());
    let id = lists.find_map(|list| list.first()?.get("id"))?;
    id.as_str().map(str::to_owned).or_else(|| id.is_number().then(|| id.to_string()))
}

fn line(check: &str, operation: &str, answer: &Answer) -> String {
    let (status, bytes, ms) = (answer.status.as_u16(), answer.body.len(), answer.elapsed.as_millis());
    format!("{check}: ok ({operation}: HTTP {status}, {bytes} bytes, {ms} ms)")
}
