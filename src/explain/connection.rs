//! A connection: its profile, its policy, its spec.

use std::sync::Arc;

use secrecy::{ExposeSecret as _, SecretString};

use crate::api::v1alpha1::ProviderConnection;
use crate::api::v1alpha1::provider_connection::{PolicySource, ProviderConnectionSpec};
use crate::cluster::secrets::SecretData;
use crate::controllers::providerconnection::DEFAULT_POLICY;
use crate::controllers::providerconnection::guard;
use crate::controllers::providerconnection::plan::{self, FoundSecrets};
use crate::controllers::resolve::{Found, Problem};
use crate::domain::breaker::Policy;
use crate::domain::key::ObjectKey;
use crate::explain::sheet::{Sheet, statuses};
use crate::explain::{Explained, Setting, Source, World, at, manners, policy};
use crate::provider::classify::Classify;
use crate::provider::profile::{CheckMode, Profile, Profiles};
use crate::provider::settings::{Auth, Draft, HealthCheck, MinVersion, Placement, Timeouts, Tls, TokenClient};

/// Keys that credentials are usually kept under; a spec or a profile may name others.
const USUAL_KEYS: [&str; 8] =
    ["client-id", "client-secret", "refresh-token", "api-key", "token", "username", "password", "webhook-secret"];

/// Explains `object`.
pub(super) fn explain(object: &ProviderConnection, key: &ObjectKey, world: &World, profiles: &Profiles) -> Explained {
    let spec = &object.spec;
    let mut problems: Vec<Problem> = Vec::new();
    let unread = plan::unread_fields(spec);
    let mut sheet = Sheet::new(spec, Source::Spec, "");
    let profile = match plan::profile(&spec.provider, profiles.get(&spec.provider)) {
        Ok(profile) => profile,
        Err(problem) => return (sheet.finish(&unread), vec![problem]),
    };
    let source = Source::Profile(profile.id.clone());
    let guarded = guard::rules(spec, key, &profile, |key| at(&world.policies, key));
    let rules = guarded
        .as_ref()
        .map_or_else(|_| (Policy::preset(profile.breaker), Classify::default()), |(rules, _)| rules.clone());
    match draft(spec, &profile, rules.clone()) {
        Ok(draft) => {
            table(&mut sheet, &draft, &source);
            manners::table(&mut sheet, &draft, spec, &source);
        }
        Err(problem) => problems.push(problem),
    }
    sheet.filled("suspend", spec.suspend, false);
    let mut breaker: Vec<Setting> = match &guarded {
        Err(_) => Vec::new(),
        Ok((_, status)) if status.source == PolicySource::Preset => {
            policy::of_profile(profile.breaker.as_str(), source, "breaker.", &rules)
        }
        Ok((_, status)) => {
            // Found by name where there is none in the spec: nobody set it.
            sheet.put("breakerPolicyRef.name", status.name.clone(), Source::Policy(DEFAULT_POLICY.to_owned()));
            let found = at(&world.policies, &key.sibling(status.name.as_str()));
            let owner = Source::Policy(status.name.clone());
            found.map(|found| policy::of_policy(&found.spec, owner, "breaker.", &rules)).unwrap_or_default()
        }
    };
    problems.extend(guarded.err());
    let mut settings = sheet.finish(&unread);
    settings.append(&mut breaker);
    (settings, problems)
}

/// What the operator would work with, had each Secret the text that names its place for a value.
pub(super) fn draft(
    spec: &ProviderConnectionSpec,
    profile: &Arc<Profile>,
    rules: (Policy, Classify),
) -> Result<Draft, Problem> {
    let auth = plan::needed_secrets(spec).0.map(|(field, name)| {
        let renamed = spec.auth.as_ref().and_then(|auth| {
            let key = auth.bearer.as_ref().and_then(|a| a.secret_ref.key.as_deref());
            key.or(auth.api_key.as_ref().and_then(|a| a.secret_ref.key.as_deref()))
        });
        let of_profile = profile.auth.as_ref().map(|auth| auth.secret_keys()).unwrap_or_default();
        let keys = USUAL_KEYS.into_iter().chain(renamed).chain(of_profile);
        Found { field, name: name.to_owned(), data: Some(Arc::new(SecretData::naming(name, keys))) }
    });
    // Certificates are named by `tls.certSecretRef` itself: there is no text that could stand in for one.
    plan::draft(spec, Arc::clone(profile), rules, &FoundSecrets { auth, tls: None })
}

fn table(sheet: &mut Sheet, draft: &Draft, by_profile: &Source) {
    let Draft {
        profile,
        environment,
        base_url,
        parameters,
        auth,
        credential_revision: _,
        // The certificates are named by `tls.certSecretRef` itself.
        tls: Tls { min_version, ca: _, client: _, server_name: _, revision: _ },
        // What a profile says beyond these is no field of the spec.
        timeouts: Timeouts { connect, request, total, first_byte: _, read: _ },
        // Told by `manners`.
        retry: _,
        limits: _,
        money_reserve_percent: _,
        cache: _,
        health_check,
        // Rows of their own, below `breaker`.
        breaker: _,
        classify: _,
        suspended: _,
        // Nothing is added to what the spec says of these: `finish` shows it as it stands.
        circuit_override: _,
        maintenance: _,
        rights: _,
        fallback: _,
        features,
    } = draft;
    let stated = |path: &str| if profile.states(path) { by_profile.clone() } else { Source::Default };
    sheet.row("provider", profile.id.as_str(), Source::Spec);
    sheet.row("environment", environment.as_str(), Source::Spec);
    sheet.put("endpoint.baseURL", base_url.as_str(), by_profile.clone());
    for (name, value) in parameters {
        sheet.row(&format!("endpoint.parameters.{name}"), value.as_str(), Source::Spec);
    }
    credentials(sheet, auth, by_profile);
    for (name, on) in features {
        let switch = if *on { "Enabled" } else { "Disabled" };
        sheet.put(&format!("features.{name}"), switch, by_profile.clone());
    }
    let oldest = match min_version {
        MinVersion::Tls12 => "TLS12",
        MinVersion::Tls13 => "TLS13",
    };
    sheet.put("tls.minVersion", oldest, Source::Default);
    sheet.duration("timeout.connect", *connect, stated("timeouts.connect"));
    sheet.duration("timeout.request", *request, stated("timeouts.request"));
    sheet.duration("timeout.total", *total, stated("timeouts.total"));
    let HealthCheck {
        mode,
        interval,
        timeout,
        path,
        expected_statuses,
        healthy_threshold,
        unhealthy_threshold,
        latency_threshold,
    } = health_check;
    let mode = match mode {
        CheckMode::Active => "Active",
        CheckMode::Passive => "Passive",
    };
    sheet.put("healthCheck.mode", mode, stated("healthCheck.mode"));
    sheet.duration("healthCheck.interval", *interval, stated("healthCheck.interval"));
    let shortened = *timeout != profile.health_check.timeout;
    let timeout_source = if shortened { Source::From("healthCheck.interval") } else { stated("healthCheck.timeout") };
    sheet.duration("healthCheck.timeout", *timeout, timeout_source);
    sheet.put("healthCheck.path", path.clone(), stated("healthCheck.path"));
    sheet.put("healthCheck.expectedStatuses", statuses(expected_statuses), stated("healthCheck.expectedStatuses"));
    sheet.put("healthCheck.healthyThreshold", *healthy_threshold, Source::Default);
    sheet.put("healthCheck.unhealthyThreshold", *unhealthy_threshold, Source::Default);
    match latency_threshold {
        Some(threshold) => sheet.duration("healthCheck.latencyThreshold", *threshold, Source::Default),
        None => sheet.put("healthCheck.latencyThreshold", None::<String>, Source::Default),
    }
}

/// Each part of a credential: where it goes, and the place that it is read from.
fn credentials(sheet: &mut Sheet, auth: &Auth, by_profile: &Source) {
    match auth {
        Auth::None => sheet.row("auth", None::<String>, Source::Default),
        Auth::Bearer { token } => {
            sheet.row("auth.bearer.token", place(token), Source::Spec);
            sheet.done("auth.bearer");
        }
        Auth::Basic { username, password } => {
            sheet.row("auth.basic.username", place(username), Source::Spec);
            sheet.row("auth.basic.password", place(password), Source::Spec);
            sheet.done("auth.basic");
        }
        Auth::ApiKey { placement, name, prefix, key } => {
            let placement = match placement {
                Placement::Header => "Header",
                Placement::Query => "Query",
            };
            sheet.row("auth.apiKey.placement", placement, Source::Spec);
            sheet.row("auth.apiKey.name", name.as_str(), Source::Spec);
            let prefix = (!prefix.is_empty()).then_some(prefix.as_str());
            sheet.put("auth.apiKey.prefix", prefix, Source::Default);
            sheet.row("auth.apiKey.key", place(key), Source::Spec);
            sheet.done("auth.apiKey");
        }
        Auth::ClientCredentials(client) => {
            let member = if sheet.is_set("auth.profile") { "profile" } else { "oauth2ClientCredentials" };
            token_client(sheet, client, member, by_profile);
        }
        Auth::RefreshToken { client, refresh_token } => {
            token_client(sheet, client, "oauth2RefreshToken", by_profile);
            sheet.row("auth.oauth2RefreshToken.refreshToken", place(refresh_token), Source::Spec);
        }
        Auth::ProfileToken { token_url, fields, token_at: _, life_at: _ } => {
            sheet.row("auth.profile.tokenURL", token_url.as_str(), by_profile.clone());
            for (name, value) in fields {
                sheet.row(&format!("auth.profile.json.{name}"), place(value), by_profile.clone());
            }
            sheet.done("auth.profile");
        }
        Auth::Profile { headers, query } => {
            for (kind, pairs) in [("header", headers), ("query", query)] {
                for (name, value) in pairs {
                    sheet.row(&format!("auth.profile.{kind}.{name}"), place(value), by_profile.clone());
                }
            }
            sheet.done("auth.profile");
        }
    }
}

/// Not a value: `SecretData::naming` put the name of the place there.
fn place(secret: &SecretString) -> String {
    secret.expose_secret().to_owned()
}

fn token_client(sheet: &mut Sheet, client: &TokenClient, member: &str, by_profile: &Source) {
    let TokenClient { token_url, scopes, audience, refresh_before, client_id, client_secret } = client;
    let field = |name: &str| format!("auth.{member}.{name}");
    let host =
        if sheet.is_set(&field("authBaseURL")) { "authBaseURL and the profile" } else { "baseURL and the profile" };
    sheet.put(&field("tokenURL"), token_url.as_str(), Source::From(host));
    sheet.put(&field("scopes"), scopes.clone(), by_profile.clone());
    sheet.put(&field("audience"), audience.clone(), Source::Default);
    sheet.duration(&field("refreshBefore"), *refresh_before, Source::Default);
    sheet.row(&field("clientID"), place(client_id), Source::Spec);
    sheet.row(&field("clientSecret"), place(client_secret), Source::Spec);
    sheet.done(&field("secretRef"));
}
