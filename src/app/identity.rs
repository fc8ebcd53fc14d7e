//! The name of a process among those that share a lease or a ledger.

/// The host name, which in a Pod is the Pod's name, and a random suffix that distinguishes two starts.
pub(super) fn default_identity() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = if host.trim().is_empty() { "busbar" } else { host.trim() };
    let id = uuid::Uuid::new_v4().simple().to_string();
    format!("{host}-{}", &id[..8])
}
