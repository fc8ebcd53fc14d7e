//! Rows of a connection: from its profile, its policy and its spec.

use std::sync::Arc;

use secrecy::{ExposeSecret as _, SecretString};

use crate::api::v1alpha1::ProviderConnection;
use crate::api::v1alpha1::provider_connection::{PolicySource, ProviderConnectionSpec};
use crate::domain::key::ObjectKey;
use crate::domain::payout::BankPromises;
use crate::explain::manifests::{Manifests, find};
use crate::explain::setting::{Explained, Setting, Source};
use crate::explain::settings_table::{SettingsTable, format_duration, statuses};
use crate::explain::{call_policy, policy};
use crate::profile::{CheckMode, Profile, Profiles};
use crate::resolve::breaker_policy::jitter_seed;
use crate::resolve::connection as resolve_connection;
use crate::resolve::{
    BreakerRules, DEFAULT_POLICY, ReferencedSecret, ReferencedSecrets, SpecError, policy_name, referenced_secrets,
    select_policy,
};
use crate::settings::secret_data::{SecretData, SecretState};
use crate::settings::{Auth, Draft, HealthCheck, MinVersion, Placement, Timeouts, Tls, TokenClient};

/// Default keys of credentials in a Secret; a spec or a profile may name others.
const DEFAULT_KEYS: [&str; 8] =
    ["client-id", "client-secret", "refresh-token", "api-key", "token", "username", "password", "webhook-secret"];

/// Explains a `ProviderConnection`.
pub(super) fn explain(
    object: &ProviderConnection,
    key: &ObjectKey,
    manifests: &Manifests,
    profiles: &Profiles,
) -> Explained {
    let spec = &object.spec;
    let mut problems: Vec<SpecError> = Vec::new();
    let loaded = profiles.get(&spec.provider);
    let unused = resolve_connection::unused_fields(spec, loaded.as_deref());
    let mut table = SettingsTable::new(spec, Source::Spec, "");
    let profile = match resolve_connection::profile(&spec.provider, loaded.as_ref()) {
        Ok(profile) => profile,
        Err(error) => return (table.finish(&unused), vec![error]),
    };
    let source = Source::Profile(profile.id.clone());
    let stored = find(&manifests.policies, &key.sibling(policy_name(spec)));
    let selected = select_policy(spec, key, profile, stored.as_deref());
    let rules = selected
        .as_ref()
        .map_or_else(|_| BreakerRules::preset(profile.breaker, jitter_seed(key)), |selected| selected.rules.clone());
    let mut trial_lease = rules.policy.half_open.lease;
    match draft(spec, profile, rules.clone()) {
        Ok(draft) => {
            trial_lease = draft.trial_lease();
            add_rows(&mut table, &draft, &source);
            call_policy::add_rows(&mut table, &draft, spec, &source);
        }
        Err(problem) => problems.push(problem),
    }
    table.add_defaulted("suspend", spec.suspend, false);
    let mut breaker: Vec<Setting> = match &selected {
        Err(_) => Vec::new(),
        Ok(selected) if selected.status.source == PolicySource::Preset => {
            policy::preset_rows(profile.breaker.as_str(), source, "breaker.", &rules)
        }
        Ok(selected) => {
            // Not in the spec: selected by its name.
            let name = &selected.status.name;
            table.add_or("breakerPolicyRef.name", name.clone(), Source::Policy(DEFAULT_POLICY.to_owned()));
            let owner = Source::Policy(name.clone());
            stored.map(|stored| policy::policy_rows(&stored.spec, owner, "breaker.", &rules)).unwrap_or_default()
        }
    };
    if trial_lease > rules.policy.half_open.lease {
        for row in breaker.iter_mut().filter(|row| row.field == "breaker.halfOpen.lease") {
            (row.value, row.source) = (format_duration(trial_lease).into(), Source::From("timeout.request"));
        }
    }
    problems.extend(selected.err());
    let mut settings = table.finish(&unused);
    settings.append(&mut breaker);
    (settings, problems)
}

/// The operator's draft, with the location of each Secret key in place of its value.
pub(super) fn draft(
    spec: &ProviderConnectionSpec,
    profile: &Arc<Profile>,
    rules: BreakerRules,
) -> Result<Draft, SpecError> {
    let auth = referenced_secrets(spec).0.map(|(field, name)| {
        let renamed = spec.auth.as_ref().and_then(|auth| {
            let key = auth.bearer.as_ref().and_then(|a| a.secret_ref.key.as_deref());
            key.or(auth.api_key.as_ref().and_then(|a| a.secret_ref.key.as_deref()))
        });
        let of_profile = profile.auth.as_ref().map(|auth| auth.secret_keys()).unwrap_or_default();
        let keys = DEFAULT_KEYS.into_iter().chain(renamed).chain(of_profile);
        ReferencedSecret { field, name, state: SecretState::Found(Arc::new(SecretData::placeholder(name, keys))) }
    });
    // Certificates are omitted: `tls.certSecretRef` itself names their location.
    resolve_connection::draft(spec, Arc::clone(profile), rules, &ReferencedSecrets { auth, tls: None })
}

fn add_rows(table: &mut SettingsTable, draft: &Draft, by_profile: &Source) {
    let Draft {
        profile,
        environment,
        base_url,
        parameters,
        auth,
        credential_revision: _,
        auth_reference: _,
        owner: _,
        // `tls.certSecretRef` itself names the certificates.
        tls: Tls { min_version, ca: _, client: _, server_name: _, revision: _ },
        // The profile's other timeouts are not fields of the spec.
        timeouts: Timeouts { connect, request, total, first_byte: _, read: _ },
        // Rows of `call_policy`.
        retry: _,
        limits: _,
        money_reserve_percent: _,
        cache: _,
        health_check,
        // Separate rows below `breaker`.
        breaker: _,
        failure_criteria: _,
        suspended: _,
        // No other source than the spec: `finish` adds them as written.
        circuit_override: _,
        maintenance: _,
        rights: _,
        fallback: _,
        features,
        promises,
    } = draft;
    let profile_or_default = |path: &str| if profile.sets(path) { by_profile.clone() } else { Source::Default };
    table.add("provider", profile.id.as_str(), Source::Spec);
    table.add("environment", environment.as_str(), Source::Spec);
    table.add_or("endpoint.baseURL", base_url.as_str(), by_profile.clone());
    for (name, value) in parameters {
        table.add(&format!("endpoint.parameters.{name}"), value.as_str(), Source::Spec);
    }
    credential_rows(table, auth, by_profile);
    for (name, on) in features {
        let switch = if *on { "Enabled" } else { "Disabled" };
        table.add_or(&format!("features.{name}"), switch, by_profile.clone());
    }
    let oldest = match min_version {
        MinVersion::Tls12 => "TLS12",
        MinVersion::Tls13 => "TLS13",
    };
    table.add_or("tls.minVersion", oldest, Source::Default);
    table.add_duration("timeout.connect", *connect, profile_or_default("timeouts.connect"));
    table.add_duration("timeout.request", *request, profile_or_default("timeouts.request"));
    table.add_duration("timeout.total", *total, profile_or_default("timeouts.total"));
    let HealthCheck {
        mode,
        interval,
        timeout,
        path,
        expected_statuses,
        expected_content,
        healthy_threshold,
        unhealthy_threshold,
        latency_threshold,
    } = health_check;
    let mode = match mode {
        CheckMode::Active => "Active",
        CheckMode::Passive => "Passive",
    };
    table.add_or("healthCheck.mode", mode, profile_or_default("healthCheck.mode"));
    table.add_duration("healthCheck.interval", *interval, profile_or_default("healthCheck.interval"));
    let shortened = *timeout != profile.health_check.timeout;
    let timeout_source =
        if shortened { Source::From("healthCheck.interval") } else { profile_or_default("healthCheck.timeout") };
    table.add_duration("healthCheck.timeout", *timeout, timeout_source);
    table.add_or("healthCheck.path", path.clone(), profile_or_default("healthCheck.path"));
    table.add_or(
        "healthCheck.expectedStatuses",
        statuses(expected_statuses),
        profile_or_default("healthCheck.expectedStatuses"),
    );
    table.add_or(
        "healthCheck.expectedContentType",
        expected_content.content_type.clone(),
        profile_or_default("healthCheck.expectedContentType"),
    );
    let pointer = expected_content.pointer.as_ref().map(|pointer| format!("{pointer:?}"));
    table.add_or("healthCheck.expectedJSONPointer", pointer, profile_or_default("healthCheck.expectedJSONPointer"));
    table.add_or("healthCheck.healthyThreshold", *healthy_threshold, Source::Default);
    table.add_or("healthCheck.unhealthyThreshold", *unhealthy_threshold, Source::Default);
    match latency_threshold {
        Some(threshold) => table.add_duration("healthCheck.latencyThreshold", *threshold, Source::Default),
        None => table.add_or("healthCheck.latencyThreshold", None::<String>, Source::Default),
    }
    if profile.payouts.is_some() || table.is_set("payouts") {
        payout_rows(table, promises, &profile_or_default);
    }
}

/// Adds what the bank promises about payouts. What the spec asks for in vain is shown as it takes effect.
fn payout_rows(table: &mut SettingsTable, promises: &BankPromises, otherwise: &impl Fn(&str) -> Source) {
    table.add_duration(
        "payouts.idempotencyWindow",
        promises.idempotency_window,
        otherwise("payouts.idempotencyWindow"),
    );
    let inquiry = if promises.inquiry { "HttpGet" } else { "None" };
    table.add_or("payouts.inquiry", inquiry, otherwise("payouts.inquiry"));
    let recall = if promises.recall { "HttpCancel" } else { "None" };
    table.add_or("payouts.recall", recall, otherwise("payouts.recall"));
    let proof = if promises.not_found_proof { "AfterGrace" } else { "Never" };
    table.add_or("payouts.notFoundProof", proof, otherwise("payouts.notFoundProof"));
    table.add_duration("payouts.notFoundGrace", promises.not_found_grace, otherwise("payouts.notFoundGrace"));
}

/// Adds a row per part of the credential: the location that it is read from.
fn credential_rows(table: &mut SettingsTable, auth: &Auth, by_profile: &Source) {
    match auth {
        Auth::None => table.add("auth", None::<String>, Source::Default),
        Auth::Bearer { token } => {
            table.add("auth.bearer.token", location(token), Source::Spec);
            table.mark_covered("auth.bearer");
        }
        Auth::Basic { username, password } => {
            table.add("auth.basic.username", location(username), Source::Spec);
            table.add("auth.basic.password", location(password), Source::Spec);
            table.mark_covered("auth.basic");
        }
        Auth::ApiKey { placement, name, prefix, key } => {
            let placement = match placement {
                Placement::Header => "Header",
                Placement::Query => "Query",
            };
            table.add("auth.apiKey.placement", placement, Source::Spec);
            table.add("auth.apiKey.name", name.as_str(), Source::Spec);
            let prefix = (!prefix.is_empty()).then_some(prefix.as_str());
            table.add_or("auth.apiKey.prefix", prefix, Source::Default);
            table.add("auth.apiKey.key", location(key), Source::Spec);
            table.mark_covered("auth.apiKey");
        }
        Auth::ClientCredentials(client) => {
            let member = if table.is_set("auth.profile") { "profile" } else { "oauth2ClientCredentials" };
            token_client_rows(table, client, member, by_profile);
        }
        Auth::RefreshToken { client, refresh_token } => {
            token_client_rows(table, client, "oauth2RefreshToken", by_profile);
            table.add("auth.oauth2RefreshToken.refreshToken", location(refresh_token), Source::Spec);
        }
        Auth::ProfileToken { token_url, fields, token_pointer: _, lifetime_pointer: _ } => {
            table.add("auth.profile.tokenURL", token_url.as_str(), by_profile.clone());
            for (name, value) in fields {
                table.add(&format!("auth.profile.json.{name}"), location(value), by_profile.clone());
            }
            table.mark_covered("auth.profile");
        }
        Auth::Profile { headers, query, body } => {
            for (pointer, value) in body {
                let field = format!("auth.profile.body.{}", pointer.trim_start_matches('/'));
                table.add(&field, value.as_ref().map(location), by_profile.clone());
            }
            for (kind, pairs) in [("header", headers), ("query", query)] {
                for (name, value) in pairs {
                    table.add(&format!("auth.profile.{kind}.{name}"), location(value), by_profile.clone());
                }
            }
            table.mark_covered("auth.profile");
        }
    }
}

/// The location of a Secret key, which `SecretData::placeholder` puts in place of the value.
fn location(secret: &SecretString) -> String {
    secret.expose_secret().to_owned()
}

fn token_client_rows(table: &mut SettingsTable, client: &TokenClient, member: &str, by_profile: &Source) {
    let TokenClient { token_url, scopes, audience, refresh_before, client_authentication, client_id, client_secret } =
        client;
    let field = |name: &str| format!("auth.{member}.{name}");
    let host =
        if table.is_set(&field("authBaseURL")) { "authBaseURL and the profile" } else { "baseURL and the profile" };
    table.add_or(&field("tokenURL"), token_url.as_str(), Source::From(host));
    table.add_or(&field("scopes"), scopes.clone(), by_profile.clone());
    table.add_or(&field("audience"), audience.clone(), Source::Default);
    table.add_duration(&field("refreshBefore"), *refresh_before, Source::Default);
    table.add_or(&field("clientAuthentication"), format!("{client_authentication:?}"), Source::Default);
    table.add(&field("clientID"), location(client_id), Source::Spec);
    table.add(&field("clientSecret"), location(client_secret), Source::Spec);
    table.mark_covered(&field("secretRef"));
}
