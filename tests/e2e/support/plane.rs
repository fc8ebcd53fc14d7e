//! The shared control plane, and control planes that a test may break.

use std::io::{self, Write};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex as StdMutex, Once, PoisonError};
use std::time::Duration;

use busbar::clock::Clock;
use busbar::testbed::control_plane::{AuditLog, AuditQuery, AuthorizationDecision, ControlPlane, Options};
use tokio::sync::{Mutex, OnceCell, OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};

/// A file or folder of the repository.
pub(crate) fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The one control plane of this binary, with CRDs and cluster roles. It is started by the first test that asks and dies
/// with the process. Never stop, pause or compact it, nor touch a CRD: that is what [`own_plane`] is for.
pub(crate) async fn shared_plane() -> Arc<ControlPlane> {
    // The outcome is kept either way: if it cannot be had, every test says so at once instead of trying again.
    static SHARED: OnceCell<Result<Arc<ControlPlane>, String>> = OnceCell::const_new();
    let outcome = SHARED.get_or_init(|| async {
        let plane = start(Options::default()).await?;
        keep_logs_when_a_test_fails(&plane);
        Ok(plane)
    });
    match outcome.await {
        Ok(plane) => Arc::clone(plane),
        Err(why) => panic!("no control plane, so nothing can be shown: {why}"),
    }
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
    match start(options).await {
        Ok(plane) => OwnPlane { plane, _turn: turn },
        Err(why) => panic!("no control plane, so nothing can be shown: {why}"),
    }
}

/// The same without CRDs, which somebody forgot to apply; the roles are there.
pub(crate) async fn own_plane_without_crds() -> OwnPlane {
    let turn = turn().await;
    let plane = ControlPlane::start(Options::default()).await;
    let plane = plane.unwrap_or_else(|why| panic!("no control plane, so nothing can be shown: {why}"));
    plane.apply_path(&repository("config/rbac/clusterroles.yaml")).await.expect("the roles are applied");
    OwnPlane { plane: Arc::new(plane), _turn: turn }
}

/// A control plane that faults strike, taken from a few that such tests use one after another: starting one costs more
/// than most of these tests compute. Whoever takes it gives it back mended; after a failure it is not used again.
pub(crate) struct StruckPlane {
    plane: Option<Arc<ControlPlane>>,
    _permit: OwnedSemaphorePermit,
}

/// How many there are. Each takes half a gigabyte; faults mostly wait.
const STRUCK_PLANES: usize = 3;

/// Those that nobody uses at the moment.
static IDLE_PLANES: StdMutex<Vec<Arc<ControlPlane>>> = StdMutex::new(Vec::new());

/// Takes one of the control planes that faults strike.
pub(crate) async fn struck_plane() -> StruckPlane {
    static PLACES: OnceCell<Arc<Semaphore>> = OnceCell::const_new();
    let places = PLACES.get_or_init(|| async { Arc::new(Semaphore::new(STRUCK_PLANES)) }).await;
    let permit = Arc::clone(places).acquire_owned().await.expect("the places are never closed");
    let idle = IDLE_PLANES.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let plane = match idle {
        Some(plane) => plane,
        None => match start(Options::default()).await {
            Ok(plane) => plane,
            Err(why) => panic!("no control plane, so nothing can be shown: {why}"),
        },
    };
    StruckPlane { plane: Some(plane), _permit: permit }
}

impl Deref for StruckPlane {
    type Target = Arc<ControlPlane>;

    fn deref(&self) -> &Self::Target {
        self.plane.as_ref().expect("it is given back at the end only")
    }
}

impl Drop for StruckPlane {
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
    tell(&format!("control plane up after {up:.1?} ({}), CRDs and roles after {installed:.1?}", each.join(", ")));
    Ok(Arc::new(plane))
}

/// A line for the person who runs the suite, shown at once and for tests that pass too: the test runner holds back only
/// what goes through `println!`.
pub(crate) fn tell(line: &str) {
    drop(writeln!(io::stderr(), "e2e: {line}"));
}

/// The run directory is removed at the end of the process; after a failure somebody will want to read it.
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

/// What the API server refused `user`: one line for each request.
pub(crate) fn forbidden(audit: &AuditLog, user: &str) -> Vec<String> {
    let query = AuditQuery { user: Some(user), decision: Some(AuthorizationDecision::Forbid), ..AuditQuery::default() };
    let refused = audit.requests(&query).expect("the audit log can be read");
    refused.iter().map(|request| format!("{} {} ({})", request.verb, request.uri, request.code)).collect()
}

/// A minute: long enough for a machine that compiles beside us.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);
