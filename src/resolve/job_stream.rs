//! The stream of a job: one of the profile, or one that the job writes itself.

use std::sync::Arc;

use crate::api::v1alpha1::reasons::Reason;
use crate::api::v1alpha1::sync_job::{HttpStream, SyncJobSpec};
use crate::profile::{InlineContext, Stream};
use crate::resolve::spec_error::SpecError;
use crate::settings::Settings;

/// A stream with its name, which is part of the identity of its rows.
pub(super) struct NamedStream<'a> {
    pub(super) name: &'a str,
    pub(super) stream: Arc<Stream>,
}

/// The name of the job's stream.
pub fn stream_name(spec: &SyncJobSpec) -> Option<&str> {
    spec.stream.as_deref().or_else(|| spec.http.as_ref().map(|http| &*http.name))
}

/// Resolves the stream of a job.
pub(super) fn stream<'a>(spec: &'a SyncJobSpec, connection: &Settings) -> Result<NamedStream<'a>, SpecError> {
    match (&spec.stream, &spec.http) {
        (Some(_), Some(_)) => Err(SpecError::invalid("http", "excludes spec.stream: remove one of the two")),
        (Some(name), None) => Ok(NamedStream { name, stream: of_profile(connection, name)? }),
        (None, Some(http)) => Ok(NamedStream { name: &http.name, stream: inline(connection, http)? }),
        (None, None) => Err(SpecError::invalid("stream", "or spec.http must be set")),
    }
}

fn of_profile(connection: &Settings, name: &str) -> Result<Arc<Stream>, SpecError> {
    let streams = &connection.profile().streams;
    streams.get(name).cloned().ok_or_else(|| {
        let known: Vec<_> = streams.keys().map(String::as_str).collect();
        let known = if known.is_empty() {
            "it has no streams in this version".to_owned()
        } else {
            format!("available: {}", known.join(", "))
        };
        SpecError::stalled(
            Reason::StreamNotFound,
            format!("stream {name:?} (spec.stream) not found in profile {:?}; {known}", connection.provider()),
        )
    })
}

/// A stream of the job's own. Its rows would be those of the profile's stream if it had the same name.
fn inline(connection: &Settings, http: &HttpStream) -> Result<Arc<Stream>, SpecError> {
    let profile = connection.profile();
    if profile.streams.contains_key(&*http.name) {
        let problem =
            format_args!("{:?} is a stream of the profile: use spec.stream, or choose another name", &*http.name);
        return Err(SpecError::invalid("http.name", problem));
    }
    let context = InlineContext { endpoint: &profile.parameters, minor_units: &profile.minor_units };
    Stream::inline(http, context).map_err(|problem| SpecError::invalid("http", format_args!("is invalid: {problem}")))
}
