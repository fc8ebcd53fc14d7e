//! Logs: JSON or plain lines on standard error, with a level that can be changed while the process runs.
//!
//! Log lines carry namespace, name and reason of what they speak of as fields. Nothing a provider answered and nothing
//! a Secret holds is ever a field or a message.

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

/// Never logged, whatever is asked for: at trace level these print requests as they leave, keys in queries included.
const NEVER: [&str; 5] = ["h2=info", "hyper=info", "hyper_util=info", "reqwest=info", "rustls=info"];

/// The filter for `directives`, with what must never be logged taken out.
fn filter(directives: &str) -> Result<EnvFilter, LogError> {
    let mut filter = EnvFilter::try_new(directives)?;
    for directive in NEVER {
        filter = filter.add_directive(directive.parse()?);
    }
    Ok(filter)
}

/// Changes what is logged, while the process runs.
#[derive(Clone)]
pub struct LogLevel {
    handle: reload::Handle<EnvFilter, Registry>,
}

/// The directives do not parse, or logging is not set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Not a list of tracing directives.
    #[error("log level must be tracing directives such as info or busbar=debug,info: {0}")]
    Directives(#[from] tracing_subscriber::filter::ParseError),
    /// The subscriber is gone or already set.
    #[error("logging: {0}")]
    Setup(String),
}

impl LogLevel {
    /// Replaces the directives.
    pub fn set(&self, directives: &str) -> Result<(), LogError> {
        let filter = filter(directives)?;
        self.handle.reload(filter).map_err(|e| LogError::Setup(e.to_string()))
    }

    /// The directives in force.
    pub fn get(&self) -> String {
        self.handle.with_current(ToString::to_string).unwrap_or_default()
    }
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
    Ok(LogLevel { handle })
}
