//! What processes cost, read from `/proc`: a load generator on the same machine is only honest if its bill is shown.

use std::collections::BTreeMap;
use std::fs;

use crate::stats::float;

/// Kernel ticks per second in `/proc/<pid>/stat`: 100 on every Linux that runs Rust programs.
const TICKS: f64 = 100.0;

/// CPU seconds (user and system) that a process has used so far; 0 once it is gone.
pub(crate) fn cpu_seconds(pid: u32) -> f64 {
    stat(pid).map_or(0.0, |stat| stat.cpu)
}

/// CPU seconds that the calling thread has used so far, to the nanosecond where the kernel counts so.
pub(crate) fn own_thread_cpu() -> f64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos: Option<f64> = text.split_whitespace().next().and_then(|nanos| nanos.parse().ok());
    nanos.filter(|nanos| *nanos > 0.0).map_or_else(|| cpu_seconds(std::process::id()), |nanos| nanos / 1e9)
}

/// A line of `/proc/<pid>/status` in MiB: `VmRSS`, or `VmHWM` for the highest it has been.
pub(crate) fn memory_mib(pid: u32, field: &str) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let kib: f64 = line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(f64::NAN);
    kib / 1024.0
}

/// The machine in one line.
pub(crate) fn describe() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total: f64 = memory.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).unwrap_or(f64::NAN);
    format!("{cores} cores, {:.0} GiB; load {}", total / 1024.0 / 1024.0, load())
}

/// The load averages: how busy the neighbours are.
pub(crate) fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

/// CPU seconds of this process and its children, by program, and of the whole machine.
pub(crate) struct Bill {
    by_program: BTreeMap<String, f64>,
    machine: f64,
}

impl Bill {
    /// What was used so far.
    pub(crate) fn now() -> Self {
        let me = std::process::id();
        let mut by_program = BTreeMap::new();
        for pid in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = pid.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let Some(stat) = stat(pid) else { continue };
            if pid == me || stat.parent == me {
                *by_program.entry(if pid == me { "this bench".to_owned() } else { stat.program }).or_insert(0.0) +=
                    stat.cpu;
            }
        }
        let text = fs::read_to_string("/proc/stat").unwrap_or_default();
        let line = text.lines().next().unwrap_or_default();
        // user nice system idle iowait irq softirq: all but the idle ones.
        let busy = line.split_whitespace().skip(1).take(7).enumerate().filter(|(n, _)| *n != 3 && *n != 4);
        let ticks: f64 = busy.filter_map(|(_, ticks)| ticks.parse::<f64>().ok()).sum();
        Self { by_program, machine: ticks / TICKS }
    }

    /// What was used since, as a person reads it; the rest was used by other processes of the machine ("neighbours").
    pub(crate) fn since(self) -> String {
        let now = Self::now();
        let mut ours = 0.0;
        let mut parts = Vec::new();
        for (program, cpu) in now.by_program {
            let used = cpu - self.by_program.get(&program).copied().unwrap_or(0.0);
            ours += used;
            if used >= 0.05 {
                parts.push(format!("{program} {used:.1}"));
            }
        }
        let others = (now.machine - self.machine - ours).max(0.0);
        format!("CPU seconds: {}, neighbours {others:.1}; load {}", parts.join(", "), load())
    }
}

struct Stat {
    program: String,
    parent: u32,
    cpu: f64,
}

fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The program's name is in parentheses and may hold anything.
    let (head, tail) = text.rsplit_once(')')?;
    let fields: Vec<&str> = tail.split_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<usize>().ok();
    Some(Stat {
        program: head.split_once('(')?.1.to_owned(),
        parent: fields.get(1)?.parse().ok()?,
        cpu: float(number(11)? + number(12)?) / TICKS,
    })
}
