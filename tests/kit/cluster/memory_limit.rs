//! A limit on the memory of a container's process: a cgroup of its own.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use busbar::testbed::control_plane::process::ProcessSpec;

use super::control_planes::report;

/// Where cgroup v1 has its memory controller.
const V1: &str = "/sys/fs/cgroup/memory";
/// Where cgroup v2 is mounted.
const V2: &str = "/sys/fs/cgroup";

/// A limit, and the cgroup that enforces it; removed when the last clone is dropped.
#[derive(Clone)]
pub(crate) struct MemoryLimit {
    bytes: u64,
    group: Option<Arc<Group>>,
}

struct Group {
    path: PathBuf,
    /// The files with the peak and with the number of kills.
    peak: &'static str,
    kills: &'static str,
}

impl MemoryLimit {
    /// A cgroup with this limit. Without the right to make one the limit is one of data segments, which is said aloud.
    pub(crate) fn new(bytes: u64) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("busbar-e2e-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let v1 = || {
            let path = group(Path::new(V1), &name, &[("memory.limit_in_bytes", bytes)])?;
            // Absent without accounting of swap.
            drop(fs::write(path.join("memory.memsw.limit_in_bytes"), bytes.to_string()));
            Some(Group { path, peak: "memory.max_usage_in_bytes", kills: "memory.oom_control" })
        };
        let v2 = || {
            let path = group(Path::new(V2), &name, &[("memory.max", bytes), ("memory.swap.max", 0)])?;
            Some(Group { path, peak: "memory.peak", kills: "memory.events" })
        };
        let group = v1().or_else(v2);
        if group.is_none() {
            report(
                "NO MEMORY CGROUP can be made here: the operator runs under prlimit --data instead, which is weaker",
            );
        }
        Self { bytes, group: group.map(Arc::new) }
    }

    /// The same process, within the limit from its first byte.
    pub(crate) fn applied_to(&self, mut spec: ProcessSpec) -> ProcessSpec {
        let program = spec.program.into_os_string();
        let before: Vec<OsString> = match &self.group {
            Some(group) => {
                let join = r#"echo $$ > "$0" && exec "$@""#;
                vec!["-c".into(), join.into(), group.path.join("cgroup.procs").into(), program]
            }
            None => vec![format!("--data={}", self.bytes).into(), program],
        };
        spec.program = if self.group.is_some() { "sh" } else { "prlimit" }.into();
        spec.args = before.into_iter().chain(spec.args).collect();
        spec
    }

    /// The most memory that was in use, in bytes, file pages included; `None` without a cgroup.
    pub(crate) fn peak(&self) -> Option<u64> {
        let group = self.group.as_ref()?;
        fs::read_to_string(group.path.join(group.peak)).ok()?.trim().parse().ok()
    }

    /// How often the kernel has killed for this limit.
    pub(crate) fn kills(&self) -> u64 {
        let Some(group) = &self.group else { return 0 };
        let text = fs::read_to_string(group.path.join(group.kills)).expect("the cgroup counts");
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        count.expect("it counts kills").trim().parse().expect("a number")
    }
}

/// Creates a group and sets its limits; `None` if that is not possible.
fn group(parent: &Path, name: &str, limits: &[(&str, u64)]) -> Option<PathBuf> {
    let path = parent.join(name);
    fs::create_dir(&path).ok()?;
    let set = limits.iter().all(|(file, bytes)| {
        // Otherwise a plain folder of that name would pass for a cgroup.
        path.join(file).exists() && fs::write(path.join(file), bytes.to_string()).is_ok()
    });
    if !set {
        drop(fs::remove_dir(&path));
    }
    set.then_some(path)
}

impl Drop for Group {
    fn drop(&mut self) {
        drop(fs::remove_dir(&self.path));
    }
}
