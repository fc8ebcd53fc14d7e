//! Logging: JSON or plain lines on standard error, with a level that can be changed at run time.
//!
//! Log lines have the namespace, name and reason of their object as fields. No field and no message ever contains text
//! from a provider's response or a value from a Secret. Logging never blocks ([`log_writer`]).

pub mod log_writer;
pub mod traces;

use std::panic::PanicHookInfo;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

use crate::telemetry::log_writer::LogWriter;

/// Format of log lines.
#[derive(Copy, Clone, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// Human-readable text.
    Plain,
}

/// Crates never logged below info, whatever the directives: they print requests, keys in query strings included.
const CAPPED_AT_INFO: [&str; 5] = ["h2", "hyper", "hyper_util", "reqwest", "rustls"];

/// Crates whose lines are never shown: the broker's client logs whole messages, and frames with credentials. What matters
/// of it the relay says.
const SILENT: [&str; 2] = ["amq_protocol", "lapin"];

/// Handle that changes the log level at run time.
#[derive(Clone)]
pub struct LogLevel {
    directives: Arc<Mutex<String>>,
    handle: reload::Handle<EnvFilter, Registry>,
}

/// Invalid directives, or the subscriber is not installed.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Not a list of tracing directives.
    #[error("log level must be tracing directives such as info or busbar=debug,info: {0}")]
    Directives(#[from] tracing_subscriber::filter::ParseError),
    /// Empty, or a bare word that is not a level: tracing would read it as a target and disable everything else.
    #[error(
        "log level must be tracing directives such as info or busbar=debug,info: {0:?} is neither a level nor target=level"
    )]
    NoLevel(String),
    /// A span filter, or a crate that prints requests.
    #[error("log level must not name spans or the HTTP and TLS libraries, which print credentials: {0:?}")]
    Sensitive(String),
    /// The thread that writes the log could not be started.
    #[error("logging: {0}")]
    Writer(#[from] std::io::Error),
    /// The subscriber was dropped, or another one is already installed.
    #[error("logging: {0}")]
    Setup(String),
}

impl LogLevel {
    /// Replaces the directives.
    pub fn set(&self, directives: &str) -> Result<(), LogError> {
        let filter = filter(directives)?;
        self.handle.reload(filter).map_err(|e| LogError::Setup(e.to_string()))?;
        directives.clone_into(&mut self.directives.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(())
    }

    /// The current directives.
    pub fn get(&self) -> String {
        self.directives.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Crates that are off unless the directives name them: kube logs every failed attempt of every request, and we log
/// each failure once.
const OFF_BY_DEFAULT: [&str; 2] = ["kube_client", "kube_runtime"];

/// Parses directives, more strictly than tracing does, and caps the crates that print credentials.
///
/// # Errors
/// If they do not parse, if one of them has no valid level, or if they name spans or a capped crate.
pub fn filter(directives: &str) -> Result<EnvFilter, LogError> {
    for part in directives.split(',').map(str::trim) {
        let (target, level) = part.rsplit_once('=').unwrap_or(("", part));
        // An empty level would be read as `error`.
        if level.is_empty() || level.parse::<LevelFilter>().is_err() {
            return Err(LogError::NoLevel(part.to_owned()));
        }
        let crate_name = target.split("::").next().unwrap_or_default();
        let is_sensitive = CAPPED_AT_INFO.contains(&crate_name) || SILENT.contains(&crate_name);
        if target.contains('[') || is_sensitive {
            return Err(LogError::Sensitive(target.to_owned()));
        }
    }
    let mut filter = EnvFilter::try_new(directives)?;
    for name in CAPPED_AT_INFO {
        filter = filter.add_directive(format!("{name}=info").parse()?);
    }
    for name in SILENT {
        filter = filter.add_directive(format!("{name}=off").parse()?);
    }
    // At debug and trace, or if a directive names kube, its lines are kept.
    if !["kube", "debug", "trace"].iter().any(|word| directives.to_ascii_lowercase().contains(word)) {
        for name in OFF_BY_DEFAULT {
            filter = filter.add_directive(format!("{name}=off").parse()?);
        }
    }
    Ok(filter)
}

/// How long the end of the process waits for log lines to be written.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// The process's log. Dropping it waits for the lines that are not written yet.
pub struct Logging {
    /// Changes the level.
    pub level: LogLevel,
    /// Writes the lines.
    pub writer: LogWriter,
}

impl Drop for Logging {
    fn drop(&mut self) {
        self.writer.flush(FLUSH_TIMEOUT);
    }
}

/// Installs the process's subscriber, and logs panics through it.
pub fn init(format: LogFormat, directives: &str) -> Result<Logging, LogError> {
    let writer = LogWriter::start(std::io::stderr())?;
    let (filter, handle) = reload::Layer::new(filter(directives)?);
    let registry = tracing_subscriber::registry().with(filter);
    let done = match format {
        LogFormat::Json => registry
            .with(
                fmt::layer()
                    .json()
                    .flatten_event(true)
                    .with_current_span(true)
                    .with_span_list(false)
                    .with_writer(writer.clone()),
            )
            .try_init(),
        LogFormat::Plain => registry.with(fmt::layer().with_writer(writer.clone())).try_init(),
    };
    done.map_err(|e| LogError::Setup(e.to_string()))?;
    std::panic::set_hook(Box::new(log_panic));
    let level = LogLevel { directives: Arc::new(Mutex::new(directives.to_owned())), handle };
    Ok(Logging { level, writer })
}

/// Logs where a panic happened. Its message only if it is a literal: others may contain what a provider sent, and the
/// default hook would block on standard error.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let location = panic.location().map(ToString::to_string).unwrap_or_default();
    let message = panic.payload().downcast_ref::<&'static str>().copied().unwrap_or("(not logged)");
    tracing::error!(location, panic = message, "panic: this is a bug; report it with its location");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directives_need_a_level_and_must_not_name_sensitive_crates() {
        for good in ["info", "OFF", "busbar=debug,info", "warn,busbar::work=trace"] {
            assert!(filter(good).is_ok(), "{good}");
        }
        // The last would disable everything but a target that does not exist.
        for bad in ["", "info,", "busbar=loud", "busbar=", "verbose"] {
            let error = filter(bad).unwrap_err().to_string();
            assert!(error.contains("must be tracing directives"), "{bad}: {error}");
        }
        for sensitive in ["h2=trace", "info,hyper_util::client=debug", "[request]=trace", "lapin::frames=warn"] {
            assert!(matches!(filter(sensitive), Err(LogError::Sensitive(_))), "{sensitive}");
        }
        assert!(filter("info").unwrap().to_string().contains("kube_client=off"));
        assert!(!filter("debug").unwrap().to_string().contains("kube_client"));
        assert!(filter("trace").unwrap().to_string().contains("h2=info"), "capped even at trace");
        assert!(filter("trace").unwrap().to_string().contains("lapin=off"), "silent even at trace");
    }
}
