//! What there is around a connection: its profile, policy and Secrets, and how the live one is doing.

use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt as _;

use crate::api::v1alpha1::ProviderConnection;
use crate::api::v1alpha1::provider_connection::ConnectionConsumers;
use crate::cluster::secrets::Reading;
use crate::cluster::stores::Watched as _;
use crate::controllers::providerconnection::decide::{LiveView, Observed, Target, Verdict};
use crate::controllers::providerconnection::guard;
use crate::controllers::providerconnection::plan::{self, FoundSecrets};
use crate::controllers::resolve::Found;
use crate::controllers::{Ctx, ReconcileError};
use crate::domain::key::{Kind, ObjectKey};
use crate::domain::time::Mono;
use crate::provider::call::CallError;
use crate::provider::live::Live;
use crate::provider::observe::{Ended, Verdict as LiveVerdict};
use crate::provider::profile::CheckMode;
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
    let live = ctx.registry.get(&key).filter(|live| Some(&**live.uid()) == object.uid().as_deref());
    let refused = live.as_ref().and_then(|live| live.observed().refused_since);
    let mut secrets_left = ctx.secrets.refresh();
    let (resolved, policy) = match plan::profile(&object.spec.provider, ctx.profiles.get(&object.spec.provider)) {
        Err(problem) => (Err(problem), None),
        Ok(profile) => match guard::rules(&object.spec, &key, &profile, |policy| ctx.stores.policies.get(policy)) {
            Err(problem) => (Err(problem), None),
            Ok((rules, status)) => {
                let (secrets, left) = secrets(ctx, object, &key, refused).await?;
                secrets_left = secrets_left.min(left);
                let settings = plan::settings(&object.spec, profile, rules, &secrets).and_then(|settings| {
                    let (has_key, addresses) = (ctx.registry.has_key(), ctx.registry.clients().rules());
                    plan::refuse_unallowed(&object.spec, &settings, has_key, addresses)?;
                    Ok((settings, secrets))
                });
                (settings, Some(status))
            }
        },
    };
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
        secrets_left,
    };
    Ok(Seen { view, settings })
}

fn target(settings: &Settings, secrets: &FoundSecrets) -> Target {
    let version = |found: &Found| found.data.as_ref().map(|data| data.resource_version.clone());
    Target {
        revision: settings.revision().to_string(),
        host: settings.host(),
        credential: secrets.auth.as_ref().or(secrets.tls.as_ref()).and_then(version),
        credential_expires: settings.credential_expires(),
        uses_secrets: secrets.auth.is_some() || secrets.tls.is_some(),
        authenticates: !matches!(settings.auth(), Auth::None) || settings.tls().client.is_some(),
    }
}

/// The Secrets, and how long what was read of them is good.
pub(super) async fn secrets(
    ctx: &Ctx,
    object: &ProviderConnection,
    key: &ObjectKey,
    refused: Option<Mono>,
) -> Result<(FoundSecrets, Duration), ReconcileError> {
    let (auth, tls) = plan::needed_secrets(&object.spec);
    let (auth, auth_left) = find(ctx, key, auth, refused).await?;
    let (tls, tls_left) = find(ctx, key, tls, refused).await?;
    Ok((FoundSecrets { auth, tls }, auth_left.min(tls_left)))
}

async fn find(
    ctx: &Ctx,
    key: &ObjectKey,
    named: Option<(&'static str, &str)>,
    refused: Option<Mono>,
) -> Result<(Option<Found>, Duration), ReconcileError> {
    let Some((field, name)) = named else { return Ok((None, Duration::MAX)) };
    let Reading { data, left } = ctx.secrets.get(&key.sibling(name), refused).await?;
    Ok((Some(Found { field, name: name.to_owned(), data }), left))
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
        verdict: match &status.verdict {
            LiveVerdict::Verified => Verdict::Verified,
            LiveVerdict::AuthenticationFailed { .. } => Verdict::Refused,
            LiveVerdict::Inconclusive(_) => Verdict::Inconclusive,
            LiveVerdict::Pending if passive => Verdict::NoAttempt,
            LiveVerdict::Pending => Verdict::Pending,
        },
        authenticated: status.authenticated,
        tokenless: status.tokenless,
        not_allowed: match &status.verdict {
            LiveVerdict::Inconclusive(Ended::Error(CallError::Refused(problem))) => Some(problem.to_string()),
            _ => None,
        },
        maintenance,
        throttled_until: status.throttled_until,
    }
}
