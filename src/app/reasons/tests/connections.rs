//! Connections in every state, their transitions, and connections whose spec cannot be used.

use std::sync::Arc;
use std::time::Duration;

use super::{Emitted, at};
use crate::api::v1alpha1::provider_connection::{
    ConnectionConsumers, PolicySource, PolicyStatus, ProviderConnectionStatus,
};
use crate::api::v1alpha1::reasons::Reason;
use crate::api::v1alpha1::{BreakerPolicy, ProviderConnection};
use crate::controllers::providerconnection::decide::decide;
use crate::controllers::providerconnection::inputs::{ConnectionInputs, LiveConnection, VerificationState};
use crate::controllers::providerconnection::testkit::{desired, live};
use crate::domain::breaker::{EffectiveState, Snapshot};
use crate::domain::health::Health;
use crate::domain::key::ObjectKey;
use crate::domain::window::WindowPosition;
use crate::profile::Profiles;
use crate::resolve::{
    ConnectionSources, DesiredConnection, JobSupport, OperatorOptions, ReferencedSecret, ReferencedSecrets,
    SecretReference, SpecError, connection, referenced_secrets,
};
use crate::settings::addresses::{AddressDenied, AddressRules, EndpointRole};
use crate::settings::secret_data::{SecretData, SecretState};

const NOW: &str = "2026-03-01T12:00:00Z";
const GENERIC: &str = "provider: generic, environment: Sandbox, endpoint: {baseURL: 'https://bank.example'}, \
                       healthCheck: {path: /health}";

fn object(fields: &str) -> ProviderConnection {
    let mut object = ProviderConnection::new("bank", serde_yaml::from_str(&format!("{{{fields}}}")).unwrap());
    object.metadata.generation = Some(1);
    object
}

fn inputs(desired: Result<DesiredConnection, SpecError>, live: Option<LiveConnection>) -> ConnectionInputs {
    ConnectionInputs {
        desired: desired.map(Arc::new),
        live,
        policy: Some(Arc::new(PolicyStatus { name: "Bank".into(), source: PolicySource::Preset })),
        unused_fields: Vec::new(),
        consumers: ConnectionConsumers::default(),
        secrets_valid_for: Duration::from_mins(1),
    }
}

fn run(
    object: &ProviderConnection,
    previous: Option<&ProviderConnectionStatus>,
    inputs: &ConnectionInputs,
    emitted: &mut Emitted,
) -> ProviderConnectionStatus {
    let decision = decide(object, previous, inputs, at(NOW));
    let status = decision.status.unwrap();
    emitted.add_conditions(&status.conditions);
    emitted.add_events(&decision.events);
    emitted.circuits.extend(status.circuit_state.iter().filter_map(|circuit| circuit.reason.clone()));
    status
}

/// Runs every case; `snapshots` are circuits as the breaker left them.
pub(super) fn emit(snapshots: Vec<Snapshot>, emitted: &mut Emitted) {
    let plain = object(GENERIC);
    let verified = run(&plain, None, &inputs(Ok(desired()), Some(live())), emitted);
    for circuit in snapshots {
        let live = LiveConnection { effective: circuit.state.into(), circuit, ..live() };
        run(&plain, Some(&verified), &inputs(Ok(desired()), Some(live)), emitted);
    }
    states(&plain, emitted);
    transitions(&plain, &verified, emitted);
    unusable_specs(emitted);
}

fn states(plain: &ProviderConnection, emitted: &mut Emitted) {
    use VerificationState::{Inconclusive, NotAttempted, Rejected};
    let later = "2026-03-01T13:00:00Z".parse().unwrap();
    let kind = AddressRules::default().check_url(&"https://10.0.0.1".parse().unwrap()).unwrap_err();
    let denied = AddressDenied { endpoint: EndpointRole::Provider, kind };
    for live in [
        LiveConnection { verification: NotAttempted, authenticated: None, health: Health::Unknown, ..live() },
        LiveConnection { verification: Rejected, authenticated: Some(false), ..live() },
        LiveConnection { verification: Inconclusive, address_refused: Some(denied.to_string()), ..live() },
        LiveConnection { maintenance: WindowPosition::Inside { until: later }, ..live() },
        LiveConnection { token_missing: true, ..live() },
        LiveConnection { health: Health::Degraded, ..live() },
        LiveConnection { health: Health::Degraded, slow: true, ..live() },
        LiveConnection { health: Health::Unhealthy, ..live() },
        LiveConnection { effective: EffectiveState::Open, flapping: true, ..live() },
        LiveConnection { effective: EffectiveState::ForcedOpen, ..live() },
        LiveConnection { throttled_until: Some(later), ..live() },
    ] {
        run(plain, None, &inputs(Ok(desired()), Some(live)), emitted);
    }
    let anonymous = DesiredConnection { authenticates: false, ..desired() };
    run(plain, None, &inputs(Ok(anonymous), Some(live())), emitted);
    let suspended = object(&format!("{GENERIC}, suspend: true"));
    run(&suspended, None, &inputs(Ok(desired()), Some(live())), emitted);
}

fn transitions(plain: &ProviderConnection, verified: &ProviderConnectionStatus, emitted: &mut Emitted) {
    let open = LiveConnection { effective: EffectiveState::Open, ..live() };
    let opened = run(plain, Some(verified), &inputs(Ok(desired()), Some(open)), emitted);
    run(plain, Some(&opened), &inputs(Ok(desired()), Some(live())), emitted);
    let rotated = DesiredConnection { credential: Some("2".into()), ..desired() };
    run(plain, Some(verified), &inputs(Ok(rotated), Some(live())), emitted);
    let policy = Some(Arc::new(PolicyStatus { name: "strict".into(), source: PolicySource::Ref }));
    let changed = ConnectionInputs { policy, ..inputs(Ok(desired()), Some(live())) };
    run(plain, Some(verified), &changed, emitted);

    let overridden = |until: &str| {
        object(&format!("{GENERIC}, circuitOverride: {{mode: Shadow, untilTime: '{until}', reason: incident}}"))
    };
    let shadow = LiveConnection { effective: EffectiveState::Shadow, ..live() };
    let in_effect = overridden("2026-03-01T13:00:00Z");
    let applied = run(&in_effect, Some(verified), &inputs(Ok(desired()), Some(shadow)), emitted);
    let expired = overridden("2026-03-01T11:00:00Z");
    run(&expired, Some(&applied), &inputs(Ok(desired()), Some(live())), emitted);
}

/// A spec that cannot be used, and what it references.
#[derive(Default)]
struct Unusable {
    fields: String,
    /// Keys of the referenced Secret; `None` if it does not exist.
    keys: Option<&'static [&'static str]>,
    /// Spec of the referenced policy; `None` if it does not exist.
    policy: Option<&'static str>,
    /// RBAC does not permit the operator to read the Secret.
    forbidden: bool,
}

impl Unusable {
    /// The error that `observe` determines, for an operator without an encryption key.
    fn error(&self, object: &ProviderConnection) -> SpecError {
        let (spec, profiles) = (&object.spec, Profiles::builtin().unwrap());
        let profile = profiles.get(&spec.provider);
        let policy = self.policy.map(|spec| BreakerPolicy::new("p", serde_yaml::from_str(spec).unwrap()));
        let read = |(field, name): SecretReference<'static>| {
            let found = |keys: &[&str]| Arc::new(SecretData::placeholder(name, keys.iter().copied()));
            let state = match self.keys {
                _ if self.forbidden => SecretState::Forbidden("kubectl".into()),
                Some(keys) => SecretState::Found(found(keys)),
                None => SecretState::NotFound,
            };
            ReferencedSecret { field, name, state }
        };
        let (auth, tls) = referenced_secrets(spec);
        let fixed = |reference: Option<SecretReference<'_>>| reference.map(|(field, _)| read((field, "s")));
        let sources = ConnectionSources {
            uid: "uid-1",
            key: &ObjectKey::new("ns", "bank"),
            spec,
            profile: profile.as_ref(),
            policy: policy.as_ref(),
            secrets: ReferencedSecrets { auth: fixed(auth), tls: fixed(tls) },
            operator: OperatorOptions {
                has_key: false,
                addresses: &AddressRules::default(),
                jobs: JobSupport::default(),
            },
        };
        connection(&sources).connection.unwrap_err()
    }
}

fn unusable_specs(emitted: &mut Emitted) {
    let with = |fields: &str| Unusable { fields: format!("{GENERIC}, {fields}"), ..Unusable::default() };
    let bearer = "auth: {bearer: {secretRef: {name: s}}}";
    let refresh = "auth: {oauth2RefreshToken: {tokenURL: 'https://bank.example/token', secretRef: {name: s}}}";
    let policy = "breakerPolicyRef: {name: p}";
    for case in [
        Unusable { fields: "provider: 'profile:none', environment: Sandbox".to_owned(), ..Unusable::default() },
        with(bearer),
        Unusable { forbidden: true, ..with(bearer) },
        Unusable { keys: Some(&[]), ..with(bearer) },
        // The value under the key is no certificate.
        Unusable { keys: Some(&["ca.crt"]), ..with("tls: {certSecretRef: {name: s}}") },
        with(policy),
        Unusable { policy: Some("{open: {factor: large}}"), ..with(policy) },
        Unusable { fields: GENERIC.replace("path: /health", "expectedStatuses: [any]"), ..Unusable::default() },
        with("maintenance: [{name: m, schedule: 61 * * * *, duration: 1h}]"),
        Unusable { keys: Some(&["client-id", "client-secret", "refresh-token"]), ..with(refresh) },
        Unusable { fields: GENERIC.replace("bank.example", "10.0.0.1"), ..Unusable::default() },
    ] {
        let object = object(&case.fields);
        let error = case.error(&object);
        run(&object, None, &inputs(Err(error), None), emitted);
    }
    // No field of this version's schema is refused so; one of a later version would be.
    let later = SpecError::stalled(Reason::NotImplemented, "spec.later is not supported by this version".to_owned());
    run(&object(GENERIC), None, &inputs(Err(later), None), emitted);
}
