//! Installs Busbar on a control plane as an administrator would: CRDs, cluster roles, and the operator's identity.
//!
//! It uses only the shipped files in `crds/` and `config/rbac/`, so that tests exercise what users install. A warning
//! of the API server is an error: an administrator would see it too.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::Api;
use kube::api::PostParams;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::testbed::control_plane::error::ControlPlaneError;
use crate::testbed::control_plane::plane::ControlPlane;

/// The repository: the directory in which this crate was compiled.
const REPOSITORY: &str = env!("CARGO_MANIFEST_DIR");

/// API group and version of Busbar's kinds.
const GROUP_VERSION: &str = "busbar.dev/v1alpha1";

/// The service account of `config/rbac/`.
const SERVICE_ACCOUNT: &str = "busbar-operator";

/// The namespace in the manifests of `config/rbac/`; replaced by that of the operator.
const SHIPPED_NAMESPACE: &str = "busbar-system";

/// Media type of aggregated discovery: all groups with all their resources, in one document.
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// Interval of polling.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// The namespaces that an operator may access.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum OperatorScope {
    /// Its own namespace (`namespaced.yaml`): many operators can share a control plane.
    Namespace,
    /// All namespaces (`cluster.yaml`): one operator per control plane. Its own namespace is the only one whose Secrets it
    /// may read (`secrets.yaml`); [`ControlPlane::grant_secrets`] adds others.
    Cluster,
}

/// The user of an operator and its credentials.
#[derive(Clone, Debug)]
pub struct OperatorIdentity {
    /// The user name in the audit log.
    pub user: String,
    /// A kubeconfig with its token.
    pub kubeconfig: PathBuf,
}

impl ControlPlane {
    /// Runs kubectl as admin with `input` on its stdin. The output holds kubectl's own failure, if any.
    pub async fn run_kubectl(&self, args: &[&str], input: &str) -> Result<Output, ControlPlaneError> {
        let failed = |source| ControlPlaneError::Spawn { name: "kubectl".into(), source };
        let mut child = Command::from(self.kubectl())
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let stdin = child.stdin.take();
        // A kubectl that does not read its stdin closes the pipe; that is not an error.
        let feed = async {
            if let Some(mut stdin) = stdin {
                drop(stdin.write_all(input.as_bytes()).await);
            }
        };
        let ((), output) = tokio::join!(feed, child.wait_with_output());
        output.map_err(failed)
    }

    /// Applies manifests; a warning is an error.
    pub async fn apply(&self, yaml: &str) -> Result<(), ControlPlaneError> {
        self.apply_from("-", yaml).await
    }

    /// Applies a file or folder; a warning is an error.
    pub async fn apply_path(&self, path: &Path) -> Result<(), ControlPlaneError> {
        self.apply_from(&path.to_string_lossy(), "").await
    }

    async fn apply_from(&self, source: &str, input: &str) -> Result<(), ControlPlaneError> {
        self.apply_with(&["apply", "--server-side", "-f", source], source, input).await
    }

    async fn apply_with(&self, args: &[&str], source: &str, input: &str) -> Result<(), ControlPlaneError> {
        let output = self.run_kubectl(args, input).await?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        if output.status.success() && !stderr.contains("Warning:") {
            return Ok(());
        }
        Err(ControlPlaneError::Apply { what: source.to_owned(), detail: stderr.trim().to_owned() })
    }

    /// Installs the CRDs and the cluster roles, and waits until the kinds are served. [`ControlPlane::grant_operator`]
    /// creates the bindings.
    pub async fn install(&self) -> Result<(), ControlPlaneError> {
        let repository = Path::new(REPOSITORY);
        let crds = repository.join("crds");
        self.apply_path(&crds).await?;
        self.apply_path(&repository.join("config/rbac/clusterroles.yaml")).await?;
        let files = fs::read_dir(&crds).map_err(ControlPlaneError::file("list", &crds))?;
        self.wait_served(files.count()).await?;
        // The kubectl calls above may have cached an incomplete discovery, which kubectl would use for hours.
        drop(fs::remove_dir_all(self.layout.file("kubectl-cache")));
        Ok(())
    }

    /// Waits until discovery lists `count` kinds and the OpenAPI document describes them. Both lag about a second
    /// behind the condition `Established`, and until then kubectl supports neither short names nor `explain`.
    async fn wait_served(&self, count: usize) -> Result<(), ControlPlaneError> {
        let client = self.client()?;
        let served = async || {
            let kinds = client.list_api_group_resources(GROUP_VERSION).await.ok()?;
            let listed = kinds.resources.iter().filter(|resource| !resource.name.contains('/')).count();
            let document = http::Request::get(format!("/openapi/v3/apis/{GROUP_VERSION}")).body(Vec::new()).ok()?;
            let described = client.request_text(document).await.is_ok();
            // kubectl reads categories and short names from here; it is published separately.
            let all = http::Request::get("/apis").header("accept", AGGREGATED).body(Vec::new()).ok()?;
            let known = client.request_text(all).await.ok()?.matches("\"categories\":[\"busbar\"").count();
            (listed == count && known >= count && described).then_some(())
        };
        let wait = async {
            while served().await.is_none() {
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        };
        self.within(wait, "serve the kinds of crds/").await
    }

    /// Creates the service account and the bindings of an operator in `namespace`, which must exist, waits until they
    /// are in force, and issues a token.
    pub async fn grant_operator(
        &self,
        namespace: &str,
        scope: OperatorScope,
    ) -> Result<OperatorIdentity, ControlPlaneError> {
        let bindings = match scope {
            OperatorScope::Namespace => "config/rbac/namespaced.yaml",
            OperatorScope::Cluster => "config/rbac/cluster.yaml",
        };
        for file in ["config/rbac/serviceaccount.yaml", bindings] {
            self.apply_shipped(file, namespace, namespace).await?;
        }
        if scope == OperatorScope::Cluster {
            self.grant_secrets(namespace, namespace).await?;
        }
        let user = format!("system:serviceaccount:{namespace}:{SERVICE_ACCOUNT}");
        // The authorizer learns of a binding by a watch; until then it forbids the operator's requests, which tests
        // would attribute to the roles.
        let wait = async {
            loop {
                let secrets = self.is_allowed(&user, namespace, "get", "", "secrets").await?;
                let leases = self.is_allowed(&user, namespace, "create", "coordination.k8s.io", "leases").await?;
                let reviews = self.is_allowed(&user, "", "create", "authentication.k8s.io", "tokenreviews").await?;
                if secrets && leases && reviews {
                    return Ok::<(), ControlPlaneError>(());
                }
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        };
        self.within(wait, "apply the operator's role bindings").await??;
        let kubeconfig = self.service_account_kubeconfig(namespace, SERVICE_ACCOUNT).await?;
        Ok(OperatorIdentity { user, kubeconfig })
    }

    /// Lets the cluster-wide operator of `operator_namespace` read the Secrets of `namespace`, and waits until it may.
    pub async fn grant_secrets(&self, namespace: &str, operator_namespace: &str) -> Result<(), ControlPlaneError> {
        self.apply_shipped("config/rbac/secrets.yaml", namespace, operator_namespace).await?;
        let user = format!("system:serviceaccount:{operator_namespace}:{SERVICE_ACCOUNT}");
        let wait = async {
            while !self.is_allowed(&user, namespace, "get", "", "secrets").await? {
                tokio::time::sleep(POLL_INTERVAL).await;
            }
            Ok::<(), ControlPlaneError>(())
        };
        self.within(wait, "apply the operator's right to read Secrets").await?
    }

    /// Applies a shipped manifest for the operator of `operator_namespace`.
    async fn apply_shipped(
        &self,
        file: &str,
        namespace: &str,
        operator_namespace: &str,
    ) -> Result<(), ControlPlaneError> {
        let path = Path::new(REPOSITORY).join(file);
        let text = fs::read_to_string(&path).map_err(ControlPlaneError::file("read", &path))?;
        let text = text.replace(SHIPPED_NAMESPACE, operator_namespace);
        self.apply_with(&["-n", namespace, "apply", "--server-side", "-f", "-"], file, &text).await
    }

    /// Whether the authorizer allows `user` to do this in `namespace`. `resource` may name a subresource after a slash.
    /// The review is sent as admin, so the audit log does not attribute it to `user`.
    pub async fn is_allowed(
        &self,
        user: &str,
        namespace: &str,
        verb: &str,
        group: &str,
        resource: &str,
    ) -> Result<bool, ControlPlaneError> {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let attributes = ResourceAttributes {
            namespace: Some(namespace.to_owned()),
            verb: Some(verb.to_owned()),
            group: Some(group.to_owned()),
            resource: Some(resource.to_owned()),
            subresource: Some(subresource.to_owned()),
            ..ResourceAttributes::default()
        };
        self.is_access_allowed(user, attributes).await
    }

    /// Whether the authorizer allows `user` this access, which may name an object.
    pub async fn is_access_allowed(
        &self,
        user: &str,
        attributes: ResourceAttributes,
    ) -> Result<bool, ControlPlaneError> {
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: Some(user.to_owned()),
                resource_attributes: Some(attributes),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let reviews: Api<SubjectAccessReview> = Api::all(self.client()?);
        let response = reviews
            .create(&PostParams::default(), &review)
            .await
            .map_err(ControlPlaneError::api("create a SubjectAccessReview"))?;
        Ok(response.status.is_some_and(|status| status.allowed))
    }

    async fn within<T>(&self, work: impl Future<Output = T>, what: &'static str) -> Result<T, ControlPlaneError> {
        let timeout = self.options.ready_timeout;
        tokio::time::timeout(timeout, work).await.map_err(|_| ControlPlaneError::Timeout { what, timeout })
    }
}
