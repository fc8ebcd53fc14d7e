//! Puts Busbar on a control plane as an administrator would: CRDs, cluster roles, and the operator's identity.
//!
//! Only the files of the repository are used, `crds/` and `config/rbac/`, so that whatever is shown here is shown about
//! what is shipped. A warning of the API server is an error: an administrator would see it too.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::Api;
use kube::api::PostParams;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::testbed::control_plane::{ControlPlane, Error};

/// The repository, found from where this crate was compiled.
const REPOSITORY: &str = env!("CARGO_MANIFEST_DIR");

/// Where our kinds are served.
const GROUP_VERSION: &str = "busbar.dev/v1alpha1";

/// The service account of `config/rbac/`.
const SERVICE_ACCOUNT: &str = "busbar-operator";

/// The namespace that the manifests of `config/rbac/` name; another is put in its place.
const SHIPPED_NAMESPACE: &str = "busbar-system";

/// All groups with all their resources, in one document.
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// How often a wait looks again.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Where an operator may work.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Reach {
    /// In its own namespace (`namespaced.yaml`): many operators can share a control plane.
    Namespace,
    /// Everywhere (`cluster.yaml`): one operator per control plane.
    Cluster,
}

/// Who an operator is.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The user that the audit log knows it by.
    pub user: String,
    /// A kubeconfig with its token.
    pub kubeconfig: PathBuf,
}

impl ControlPlane {
    /// Runs kubectl as admin with `input` on its stdin. A failure of kubectl itself is in the output.
    pub async fn run_kubectl(&self, args: &[&str], input: &str) -> Result<Output, Error> {
        let failed = |source| Error::Spawn { name: "kubectl".into(), source };
        let mut child = Command::from(self.kubectl())
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let stdin = child.stdin.take();
        // One that reads nothing closes the pipe, which is no error of ours.
        let feed = async {
            if let Some(mut stdin) = stdin {
                drop(stdin.write_all(input.as_bytes()).await);
            }
        };
        let ((), output) = tokio::join!(feed, child.wait_with_output());
        output.map_err(failed)
    }

    /// Applies manifests; a warning is an error.
    pub async fn apply(&self, yaml: &str) -> Result<(), Error> {
        self.apply_from("-", yaml).await
    }

    /// Applies a file or a folder; a warning is an error.
    pub async fn apply_path(&self, path: &Path) -> Result<(), Error> {
        self.apply_from(&path.to_string_lossy(), "").await
    }

    async fn apply_from(&self, source: &str, input: &str) -> Result<(), Error> {
        let output = self.run_kubectl(&["apply", "--server-side", "-f", source], input).await?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        if output.status.success() && !stderr.contains("Warning:") {
            return Ok(());
        }
        Err(Error::Apply { what: source.to_owned(), detail: stderr.trim().to_owned() })
    }

    /// Installs the CRDs and the cluster roles, and waits until the kinds are served. Bindings come with
    /// [`ControlPlane::grant_operator`].
    pub async fn install(&self) -> Result<(), Error> {
        let repository = Path::new(REPOSITORY);
        let crds = repository.join("crds");
        self.apply_path(&crds).await?;
        self.apply_path(&repository.join("config/rbac/clusterroles.yaml")).await?;
        let files = fs::read_dir(&crds).map_err(Error::file("list", &crds))?;
        self.wait_served(files.count()).await?;
        // The kubectl of the lines above may have seen half of our kinds, and would believe that for hours.
        drop(fs::remove_dir_all(self.layout.file("kubectl-cache")));
        Ok(())
    }

    /// Waits until `count` kinds of ours are in discovery and the OpenAPI document has them. Both lag a second or so
    /// behind the condition `Established`, and until then kubectl knows neither short names nor `explain`.
    async fn wait_served(&self, count: usize) -> Result<(), Error> {
        let client = self.client()?;
        let served = async || {
            let kinds = client.list_api_group_resources(GROUP_VERSION).await.ok()?;
            let listed = kinds.resources.iter().filter(|resource| !resource.name.contains('/')).count();
            let document = http::Request::get(format!("/openapi/v3/apis/{GROUP_VERSION}")).body(Vec::new()).ok()?;
            let described = client.request_text(document).await.is_ok();
            // What kubectl reads, for categories and short names: published on its own time.
            let all = http::Request::get("/apis").header("accept", AGGREGATED).body(Vec::new()).ok()?;
            let known = client.request_text(all).await.ok()?.matches("\"categories\":[\"busbar\"").count();
            (listed == count && known >= count && described).then_some(())
        };
        let wait = async {
            while served().await.is_none() {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        self.within(wait, "serve the kinds of crds/").await
    }

    /// Gives the operator of `namespace`, which must exist, its service account and its rights, waits until they are in
    /// force, and issues a token.
    pub async fn grant_operator(&self, namespace: &str, reach: Reach) -> Result<Identity, Error> {
        let bindings = match reach {
            Reach::Namespace => "config/rbac/namespaced.yaml",
            Reach::Cluster => "config/rbac/cluster.yaml",
        };
        for file in ["config/rbac/serviceaccount.yaml", bindings] {
            let path = Path::new(REPOSITORY).join(file);
            let text = fs::read_to_string(&path).map_err(Error::file("read", &path))?;
            self.apply(&text.replace(SHIPPED_NAMESPACE, namespace)).await?;
        }
        let user = format!("system:serviceaccount:{namespace}:{SERVICE_ACCOUNT}");
        // The authorizer learns of a binding by a watch. A request in between would be refused, and held against the roles.
        let wait = async {
            loop {
                let works = self.may(&user, namespace, "get", "", "secrets").await?;
                let leads = self.may(&user, namespace, "get", "coordination.k8s.io", "leases").await?;
                let reviews = self.may(&user, "", "create", "authentication.k8s.io", "tokenreviews").await?;
                if works && leads && reviews {
                    return Ok::<(), Error>(());
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        self.within(wait, "put the rights of the operator in force").await??;
        let kubeconfig = self.service_account_kubeconfig(namespace, SERVICE_ACCOUNT).await?;
        Ok(Identity { user, kubeconfig })
    }

    /// True if the API server would let `user` do this in `namespace`. `resource` may name a subresource after a slash.
    /// The server is asked as admin: the question is not in the audit log under the user's name.
    pub async fn may(
        &self,
        user: &str,
        namespace: &str,
        verb: &str,
        group: &str,
        resource: &str,
    ) -> Result<bool, Error> {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: Some(user.to_owned()),
                resource_attributes: Some(ResourceAttributes {
                    namespace: Some(namespace.to_owned()),
                    verb: Some(verb.to_owned()),
                    group: Some(group.to_owned()),
                    resource: Some(resource.to_owned()),
                    subresource: Some(subresource.to_owned()),
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let reviews: Api<SubjectAccessReview> = Api::all(self.client()?);
        let answer = reviews.create(&PostParams::default(), &review).await.map_err(Error::api("review an access"))?;
        Ok(answer.status.is_some_and(|status| status.allowed))
    }

    async fn within<T>(&self, work: impl Future<Output = T>, what: &'static str) -> Result<T, Error> {
        let patience = self.options.patience;
        tokio::time::timeout(patience, work).await.map_err(|_| Error::Late { what, patience })
    }
}
