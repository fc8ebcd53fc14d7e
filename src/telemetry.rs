//! Logs: JSON or plain lines on standard error, with a level that can be changed while the process runs.
//!
//! Log lines carry namespace, name and reason of what they speak of as fields. Nothing a provider answered and nothing
//! a Secret holds is ever a field or a message.

pub mod traces;

use std::sync::{Arc, Mutex, PoisonError};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

/// How log lines look.
#[derive(Copy, Clone, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Plain,
}

/// Never logged below info, whatever is asked for: they print requests as they leave, keys in queries included.
const NEVER: [&str; 5] = ["h2", "hyper", "hyper_util", "reqwest", "rustls"];

/// Changes what is logged, while the process runs.
#[derive(Clone)]
pub struct LogLevel {
    directives: Arc<Mutex<String>>,
    handle: reload::Handle<EnvFilter, Registry>,
}

/// The directives do not parse, or logging is not set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Not a list of tracing directives.
    #[error("log level must be tracing directives such as info or busbar=debug,info: {0}")]
    Directives(#[from] tracing_subscriber::filter::ParseError),
    /// Nothing, or a bare word that is no level: tracing takes it for a target, and everything else falls silent.
    #[error(
        "log level must be tracing directives such as info or busbar=debug,info: {0:?} is neither a level nor target=level"
    )]
    NoLevel(String),
    /// Spans, and crates that print requests, cannot be asked for.
    #[error("log level must name neither spans nor the HTTP and TLS libraries, which print credentials: {0:?}")]
    Withheld(String),
    /// The subscriber is gone or already set.
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

    /// The directives in force.
    pub fn get(&self) -> String {
        self.directives.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What is silent unless it is asked for: kube logs every failed try of every request, and what fails is told by us, once.
const QUIET: [&str; 2] = ["kube_client", "kube_runtime"];

/// Reads directives, more strictly than tracing does, and takes out what must never be logged.
///
/// # Errors
/// If they do not parse, if a word among them is no level and has none, or if they name spans or what is never logged.
pub fn filter(directives: &str) -> Result<EnvFilter, LogError> {
    for part in directives.split(',').map(str::trim) {
        let (target, level) = part.rsplit_once('=').unwrap_or(("", part));
        // Nothing would be read as `error`.
        if level.is_empty() || level.parse::<LevelFilter>().is_err() {
            return Err(LogError::NoLevel(part.to_owned()));
        }
        let crate_name = target.split("::").next().unwrap_or_default();
        if target.contains('[') || NEVER.contains(&crate_name) {
            return Err(LogError::Withheld(target.to_owned()));
        }
    }
    let mut filter = EnvFilter::try_new(directives)?;
    for name in NEVER {
        filter = filter.add_directive(format!("{name}=info").parse()?);
    }
    // Whoever looks closer, or asks for kube by name, sees its lines too.
    if !["kube", "debug", "trace"].iter().any(|word| directives.to_ascii_lowercase().contains(word)) {
        for name in QUIET {
            filter = filter.add_directive(format!("{name}=off").parse()?);
        }
    }
    Ok(filter)
}

/// Installs the process's subscriber.
pub fn init(format: LogFormat, directives: &str) -> Result<LogLevel, LogError> {
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
                    .with_writer(std::io::stderr),
            )
            .try_init(),
        LogFormat::Plain => registry.with(fmt::layer().with_writer(std::io::stderr)).try_init(),
    };
    done.map_err(|e| LogError::Setup(e.to_string()))?;
    Ok(LogLevel { directives: Arc::new(Mutex::new(directives.to_owned())), handle })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_or_targets_with_levels_are_taken_and_a_bare_word_is_not() {
        for good in ["info", "OFF", "busbar=debug,info", "warn,busbar::work=trace"] {
            assert!(filter(good).is_ok(), "{good}");
        }
        // The last would silence everything but a target that does not exist.
        for bad in ["", "info,", "busbar=loud", "busbar=", "verbose"] {
            let error = filter(bad).unwrap_err().to_string();
            assert!(error.contains("must be tracing directives"), "{bad}: {error}");
        }
        for withheld in ["h2=trace", "info,hyper_util::client=debug", "[request]=trace"] {
            assert!(matches!(filter(withheld), Err(LogError::Withheld(_))), "{withheld}");
        }
        assert!(filter("info").unwrap().to_string().contains("kube_client=off"));
        assert!(!filter("debug").unwrap().to_string().contains("kube_client"));
        assert!(filter("trace").unwrap().to_string().contains("h2=info"), "not even by asking for everything");
    }
}
