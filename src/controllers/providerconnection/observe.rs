//! What there is around a connection: its profile, policy and Secrets, and how the live one is doing.

use jiff::Timestamp;
use kube::ResourceExt as _;

use crate::api::v1alpha1::ProviderConnection;
use crate::api::v1alpha1::provider_connection::{ConnectionConsumers, PolicySource, PolicyStatus};
use crate::api::v1alpha1::reasons::Reason;
use crate::cluster::stores::Watched as _;
use crate::controllers::breakerpolicy::plan as policy_plan;
use crate::controllers::providerconnection::DEFAULT_POLICY;
use crate::controllers::providerconnection::decide::{LiveView, Observed, Target, Verdict};
use crate::controllers::providerconnection::plan::{self, FoundSecrets};
use crate::controllers::resolve::{Found, Problem};
use crate::controllers::{Ctx, ReconcileError};
use crate::domain::breaker::Policy;
use crate::domain::key::{Kind, ObjectKey};
use crate::provider::classify::Classify;
use crate::provider::live::Live;
use crate::provider::observe::Verdict as LiveVerdict;
use crate::provider::profile::{CheckMode, Profile};
use crate::provider::settings::{Auth, Settings};

/// What was seen, and the settings that `act` would apply.
pub struct Seen {
    /// What `decide` judges.
    pub view: Observed,
    /// The settings the spec resolves to.
    pub settings: Option<Settings>,
}

/// Looks.
pub async fn observe(ctx: &Ctx, object: &ProviderConnection) -> Result<Seen, ReconcileError> {
    let key = object.key();
    let (resolved, policy) = match plan::profile(&object.spec.provider, ctx.profiles.get(&object.spec.provider)) {
        Err(problem) => (Err(problem), None),
        Ok(profile) => match policy(ctx, object, &key, &profile) {
            Err(problem) => (Err(problem), None),
            Ok((rules, status)) => {
                let secrets = secrets(ctx, object, &key).await?;
                (plan::settings(&object.spec, profile, rules, &secrets).map(|s| (s, secrets)), Some(status))
            }
        },
    };
    let live = ctx.registry.get(&key).filter(|live| Some(&**live.uid()) == object.uid().as_deref());
    let references = &ctx.stores.references;
    let count = |from| i32::try_from(references.count(from, Kind::ProviderConnection, &key)).unwrap_or(i32::MAX);
    let (target, settings) = match resolved {
        Err(problem) => (Err(problem), None),
        Ok((settings, secrets)) => (Ok(target(&settings, &secrets)), Some(settings)),
    };
    let view = Observed {
        target,
        live: live.map(|live| view(&live, ctx.clock.now().wall)),
        policy,
        unread: plan::unread_fields(&object.spec),
        consumers: ConnectionConsumers { sync_jobs: count(Kind::SyncJob), bank_routes: count(Kind::BankRoute) },
        secret_refresh: ctx.secrets.refresh(),
    };
    Ok(Seen { view, settings })
}

fn target(settings: &Settings, secrets: &FoundSecrets) -> Target {
    let version = |found: &Found| found.data.as_ref().map(|data| data.resource_version.clone());
    Target {
        revision: settings.revision().to_string(),
        host: settings.host(),
        credential: secrets.auth.as_ref().and_then(version),
        uses_secrets: secrets.auth.is_some() || secrets.tls.is_some(),
        authenticates: !matches!(settings.auth(), Auth::None),
    }
}

/// The rules that guard the connection: those of the policy it names, of the policy `default`, or of its profile.
fn policy(
    ctx: &Ctx,
    object: &ProviderConnection,
    key: &ObjectKey,
    profile: &Profile,
) -> Result<((Policy, Classify), PolicyStatus), Problem> {
    let named = object.spec.breaker_policy_ref.as_ref().map(|r| r.name.to_string());
    let source = if named.is_some() { PolicySource::Ref } else { PolicySource::NamespaceDefault };
    let name = named.clone().unwrap_or_else(|| DEFAULT_POLICY.to_owned());
    match ctx.stores.policies.get(&key.sibling(name.as_str())) {
        Some(found) => {
            let rules = policy_plan::rules(&found.spec, policy_plan::seed(key)).map_err(|problem| {
                Problem::waiting(
                    Reason::PolicyInvalid,
                    format!("BreakerPolicy {name:?} cannot be used: {}", problem.message),
                )
            })?;
            Ok((rules, PolicyStatus { name, source }))
        }
        None if named.is_some() => Err(Problem::waiting(
            Reason::BreakerPolicyNotFound,
            format!(
                "spec.breakerPolicyRef names BreakerPolicy {name:?}, which does not exist: create it in this namespace"
            ),
        )),
        None => {
            let mut policy = Policy::preset(profile.breaker);
            policy.jitter_seed = policy_plan::seed(key);
            let status = PolicyStatus { name: profile.breaker.as_str().to_owned(), source: PolicySource::Preset };
            Ok(((policy, Classify::default()), status))
        }
    }
}

async fn secrets(ctx: &Ctx, object: &ProviderConnection, key: &ObjectKey) -> Result<FoundSecrets, ReconcileError> {
    let (auth, tls) = plan::needed_secrets(&object.spec);
    Ok(FoundSecrets { auth: find(ctx, key, auth).await?, tls: find(ctx, key, tls).await? })
}

async fn find(
    ctx: &Ctx,
    key: &ObjectKey,
    named: Option<(&'static str, &str)>,
) -> Result<Option<Found>, ReconcileError> {
    let Some((field, name)) = named else { return Ok(None) };
    let data = ctx.secrets.get(&key.sibling(name)).await?;
    Ok(Some(Found { field, name: name.to_owned(), data }))
}

fn view(live: &Live, now: Timestamp) -> LiveView {
    let status = live.observed();
    let settings = live.settings();
    let maintenance = settings.maintenance(now);
    let passive = settings.suspended() || settings.health_check().mode == CheckMode::Passive || maintenance.is_inside();
    LiveView {
        revision: settings.revision().to_string(),
        effective: status.effective,
        snapshot: status.snapshot,
        flapping: status.flapping,
        health: status.health,
        slow: status.slow,
        tier: status.tier,
        verdict: match status.verdict {
            LiveVerdict::Verified => Verdict::Verified,
            LiveVerdict::AuthenticationFailed { .. } => Verdict::Refused,
            LiveVerdict::Inconclusive(_) => Verdict::Inconclusive,
            LiveVerdict::Pending if passive => Verdict::NoAttempt,
            LiveVerdict::Pending => Verdict::Pending,
        },
        authenticated: status.authenticated,
        maintenance,
    }
}
