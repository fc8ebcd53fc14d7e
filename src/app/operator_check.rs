//! `busbar check operator`: whether an operator is installed and works, as the chart's test (`helm test`) asks.
//!
//! It asks the API server only, with the rights that the operator itself has: so it needs no address of a Pod, no DNS and
//! no further role. An operator works if the four kinds are served with all fields of this version, and a replica holds
//! the leader lease *and renews it*: the renewal is observed, so the clocks of two machines are never compared.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::Api;

use crate::app::output::{OutputError, print_line};
use crate::cli::CheckOperatorArgs;
use crate::cluster::client::{ClientError, Clients};
use crate::cluster::discovery::missing_kinds;
use crate::cluster::served_fields::missing_fields;
use crate::cluster::{ApiError, call};
use crate::domain::key::Kind;
use crate::metrics::Metrics;

/// Interval of requests: a leader renews its lease every few seconds.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// How many missing fields are named.
const NAMED_FIELDS: usize = 3;

/// Why the check failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum OperatorCheckError {
    /// The API server client could not be set up.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The result could not be printed.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// The operator did not work within the timeout.
    #[error("operator not working after {0:?}: {1}")]
    NotWorking(Duration, Problem),
}

/// What is missing.
#[derive(Debug, thiserror::Error)]
pub(super) enum Problem {
    /// The API server does not respond, or rejects the request.
    #[error("API server: {0}")]
    Api(#[from] ApiError),
    /// Kinds that are not served.
    #[error("custom resource definitions not found: {0}; apply crds/ or install the chart busbar-crds")]
    Kinds(String),
    /// Fields that the served definitions lack, and how many more.
    #[error(
        "custom resource definitions older than this version, the API server drops what they lack: {0}; upgrade the chart \
         busbar-crds, or apply crds/"
    )]
    Fields(String),
    /// No replica holds the lease.
    #[error("lease {0} not held: no replica is the leader; check the Pods' /readyz and logs")]
    NotHeld(String),
    /// The holder does not renew the lease.
    #[error("lease {0} not renewed by {1}: the leader does not run; check its Pod")]
    NotRenewed(String, String),
}

/// One look at the lease: its holder and the time of its last renewal.
#[derive(Clone, Debug, PartialEq)]
struct Sighting {
    holder: String,
    renewed: Option<MicroTime>,
}

impl Sighting {
    /// `None` if no replica holds the lease.
    fn of(spec: Option<LeaseSpec>) -> Option<Self> {
        let spec = spec?;
        let holder = spec.holder_identity.filter(|holder| !holder.is_empty())?;
        Some(Self { holder, renewed: spec.renew_time })
    }

    /// Whether its holder renewed the lease since `before`.
    fn renewed_since(&self, before: &Self) -> bool {
        self.holder == before.holder && self.renewed != before.renewed
    }
}

/// Waits until an operator works, or for the timeout of `args`.
pub(super) async fn check(args: CheckOperatorArgs) -> Result<(), OperatorCheckError> {
    let clients = Clients::connect(args.kubeconfig.as_deref(), "check", &Metrics::new()).await?;
    let leases: Api<Lease> = Api::namespaced(clients.calls.clone(), &args.lease_namespace);
    let name = format!("{}/{}", args.lease_namespace, args.lease_name);
    let mut problem = Problem::NotHeld(name.clone());
    let work = async {
        let mut first: Option<Sighting> = None;
        loop {
            match look(&clients, &leases, &args.lease_name).await {
                Ok(Some(now)) => {
                    let renewed = first.as_ref().is_some_and(|first| now.renewed_since(first));
                    problem = match outdated(&clients).await {
                        Ok(()) if renewed => return now.holder,
                        Ok(()) => Problem::NotRenewed(name.clone(), now.holder.clone()),
                        Err(problem) => problem,
                    };
                    // Another holder is observed from its first sighting on.
                    first = Some(first.filter(|first| first.holder == now.holder).unwrap_or(now));
                }
                Ok(None) => (first, problem) = (None, Problem::NotHeld(name.clone())),
                Err(error) => problem = error,
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    };
    let Ok(holder) = tokio::time::timeout(args.timeout, work).await else {
        return Err(OperatorCheckError::NotWorking(args.timeout, problem));
    };
    print_line(&format!("kinds: ok ({} served)", Kind::ALL.len()))?;
    print_line(&format!("definitions: ok (all fields of version {} served)", env!("CARGO_PKG_VERSION")))?;
    print_line(&format!("leader: ok (lease {name} renewed by {holder})"))?;
    Ok(())
}

async fn look(clients: &Clients, leases: &Api<Lease>, lease: &str) -> Result<Option<Sighting>, Problem> {
    let missing = missing_kinds(&clients.calls).await?;
    if !missing.is_empty() {
        return Err(Problem::Kinds(missing.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(", ")));
    }
    let found = call(leases.get_opt(lease)).await?;
    Ok(found.and_then(|lease| Sighting::of(lease.spec)))
}

/// Whether the definitions have all fields of this version.
async fn outdated(clients: &Clients) -> Result<(), Problem> {
    let missing = missing_fields(&clients.calls).await?;
    if missing.is_empty() {
        return Ok(());
    }
    let more = missing.len().saturating_sub(NAMED_FIELDS);
    let named = missing.iter().take(NAMED_FIELDS).map(String::as_str).collect::<Vec<_>>().join(", ");
    Err(Problem::Fields(if more == 0 { named } else { format!("{named} and {more} more") }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sighting(holder: &str, second: i64) -> Option<Sighting> {
        let renewed = k8s_openapi::jiff::Timestamp::from_second(second).unwrap();
        let spec = LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            renew_time: Some(MicroTime(renewed)),
            ..LeaseSpec::default()
        };
        Sighting::of(Some(spec))
    }

    #[test]
    fn only_a_renewal_by_the_same_holder_shows_a_working_leader() {
        let first = sighting("busbar-0_a", 1).unwrap();
        assert!(sighting("busbar-0_a", 3).unwrap().renewed_since(&first));
        assert!(!sighting("busbar-0_a", 1).unwrap().renewed_since(&first), "the same renewal");
        assert!(!sighting("busbar-0_b", 3).unwrap().renewed_since(&first), "another holder");
    }

    #[test]
    fn a_released_lease_has_no_holder() {
        assert_eq!(sighting("", 1), None);
        assert_eq!(Sighting::of(None), None);
    }
}
