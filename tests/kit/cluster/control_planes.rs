//! The shared control plane, and control planes that a test may break.

use std::io::{self, Write};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex as StdMutex, Once, PoisonError};

use busbar::clock::Clock;
use busbar::testbed::control_plane::{AuditLog, AuditQuery, AuthorizationDecision, ControlPlane, Options};
use tokio::sync::{Mutex, OnceCell, OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};

/// A file or folder of the repository.
pub(crate) fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The one control plane of this binary, with CRDs and cluster roles. The first test that needs it starts it, and it ends
/// with the process. Never stop, pause or compact it, nor change a CRD: that is what [`own_plane`] is for.
pub(crate) async fn shared_plane() -> Arc<ControlPlane> {
    // The outcome is kept either way: if it does not start, every test fails at once instead of trying again.
    static SHARED: OnceCell<Result<Arc<ControlPlane>, String>> = OnceCell::const_new();
    let outcome = SHARED.get_or_init(|| async {
        let plane = start(Options::default()).await?;
        keep_logs_when_a_test_fails(&plane);
        Ok(plane)
    });
    outcome.await.as_ref().map_or_else(|error| no_control_plane(error), Arc::clone)
}

fn no_control_plane<T>(error: &str) -> T {
    panic!("the control plane failed to start: {error}")
}

/// A control plane of one test's own, and the right to have one.
pub(crate) struct OwnPlane {
    plane: Arc<ControlPlane>,
    _turn: OwnedMutexGuard<()>,
}

impl Deref for OwnPlane {
    type Target = Arc<ControlPlane>;

    fn deref(&self) -> &Self::Target {
        &self.plane
    }
}

/// Starts a control plane that the test may break. One at a time: each takes half a gigabyte.
pub(crate) async fn own_plane(options: Options) -> OwnPlane {
    let turn = turn().await;
    let plane = start(options).await.unwrap_or_else(|error| no_control_plane(&error));
    OwnPlane { plane, _turn: turn }
}

/// The same without CRDs, as if they had not been applied; the roles are there.
pub(crate) async fn own_plane_without_crds() -> OwnPlane {
    let turn = turn().await;
    let plane = ControlPlane::start(Options::default()).await;
    let plane = plane.unwrap_or_else(|error| no_control_plane(&error.to_string()));
    plane.apply_path(&repository("config/rbac/clusterroles.yaml")).await.expect("the roles are applied");
    OwnPlane { plane: Arc::new(plane), _turn: turn }
}

/// The same with nothing of Busbar, for tests that install it themselves.
pub(crate) async fn own_empty_plane() -> OwnPlane {
    let turn = turn().await;
    let plane = ControlPlane::start(Options::default()).await;
    OwnPlane { plane: Arc::new(plane.unwrap_or_else(|error| no_control_plane(&error.to_string()))), _turn: turn }
}

/// A control plane that faults may hit, one of a few that such tests use one after another: starting one costs more than
/// most of these tests compute. A test returns it repaired; after a failure it is not used again.
pub(crate) struct FaultPlane {
    plane: Option<Arc<ControlPlane>>,
    _permit: OwnedSemaphorePermit,
}

/// How many there are. Each takes half a gigabyte; tests of faults mostly wait.
const FAULT_PLANES: usize = 3;

/// Those that are not in use.
static IDLE_PLANES: StdMutex<Vec<Arc<ControlPlane>>> = StdMutex::new(Vec::new());

/// Takes one of the control planes that faults may hit.
pub(crate) async fn fault_plane() -> FaultPlane {
    static PERMITS: OnceCell<Arc<Semaphore>> = OnceCell::const_new();
    let permits = PERMITS.get_or_init(|| async { Arc::new(Semaphore::new(FAULT_PLANES)) }).await;
    let permit = Arc::clone(permits).acquire_owned().await.expect("the semaphore is never closed");
    let idle = IDLE_PLANES.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let plane = match idle {
        Some(plane) => plane,
        None => start(Options::default()).await.unwrap_or_else(|error| no_control_plane(&error)),
    };
    FaultPlane { plane: Some(plane), _permit: permit }
}

impl Deref for FaultPlane {
    type Target = Arc<ControlPlane>;

    fn deref(&self) -> &Self::Target {
        self.plane.as_ref().expect("it is returned at the end only")
    }
}

impl Drop for FaultPlane {
    fn drop(&mut self) {
        if let Some(plane) = self.plane.take().filter(|_| !std::thread::panicking()) {
            IDLE_PLANES.lock().unwrap_or_else(PoisonError::into_inner).push(plane);
        }
    }
}

async fn turn() -> OwnedMutexGuard<()> {
    static TURN: OnceCell<Arc<Mutex<()>>> = OnceCell::const_new();
    Arc::clone(TURN.get_or_init(|| async { Arc::default() }).await).lock_owned().await
}

async fn start(options: Options) -> Result<Arc<ControlPlane>, String> {
    let clock = Clock::system();
    let began = clock.mono();
    let plane = ControlPlane::start(options).await.map_err(|error| error.to_string())?;
    let each: Vec<String> = plane.startup_times().iter().map(|(part, took)| format!("{part} {took:.1?}")).collect();
    let up = clock.mono().since(began);
    plane.install().await.map_err(|error| error.to_string())?;
    let installed = clock.mono().since(began);
    report(&format!("control plane up after {up:.1?} ({}), CRDs and roles after {installed:.1?}", each.join(", ")));
    Ok(Arc::new(plane))
}

/// Prints a line for the person who runs the suite, at once and for tests that pass too: the test runner holds back only
/// what goes through `println!`.
pub(crate) fn report(line: &str) {
    drop(writeln!(io::stderr(), "e2e: {line}"));
}

/// The run directory is removed at the end of the process; after a failure it is needed.
fn keep_logs_when_a_test_fails(plane: &ControlPlane) {
    static HOOK: Once = Once::new();
    let run = Arc::clone(plane.run_dir());
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            before(panic);
            run.keep();
        }));
    });
}

/// What the API server forbade `user`: one line for each request.
pub(crate) fn forbidden(audit: &AuditLog, user: &str) -> Vec<String> {
    let query = AuditQuery { user: Some(user), decision: Some(AuthorizationDecision::Forbid), ..AuditQuery::default() };
    let forbidden = audit.requests(&query).expect("the audit log can be read");
    forbidden.iter().map(|request| format!("{} {} ({})", request.verb, request.uri, request.code)).collect()
}
