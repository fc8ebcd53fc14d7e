//! Reading a profile, and finding what makes it unusable before anybody uses it.
//!
//! A mistake is told with the file, the line and what to write instead.

use std::collections::BTreeSet;

use jiff::tz::TimeZone;

use super::limits::ProfileLimit;
use super::locate::{self, Place, Step};
use super::secrets::free_header;
use super::{Profile, ProfileError, errors};
use crate::provider::settings::parse_url;

impl Profile {
    /// Reads one profile. `file` is only used to say where an error is.
    pub fn parse(file: &str, text: &str) -> Result<Self, ProfileError> {
        let syntax = |source| ProfileError::Syntax { file: file.to_owned(), source };
        let mut profile: Self = serde_yaml::from_str(text).map_err(syntax)?;
        paths("", &serde_yaml::from_str(text).map_err(syntax)?, &mut profile.stated);
        profile.check().map_err(|(place, problem)| ProfileError::Content {
            file: file.to_owned(),
            line: locate::line(text, &place),
            place: place.to_string(),
            problem,
        })?;
        Ok(profile)
    }

    /// The addresses and paths that calls begin with. Plain HTTP is a connection's own decision, never a profile's.
    fn addresses(&self) -> Result<(), (Place, String)> {
        for (name, url) in [("sandbox", &self.base_url.sandbox), ("production", &self.base_url.production)] {
            let Some(url) = url else { continue };
            let problem = match parse_url("baseURL", url) {
                Ok(url) if url.scheme() == "https" => continue,
                Ok(_) => "must be https; a connection may set another address with endpoint.insecure".to_owned(),
                Err(error) => error.problem,
            };
            return Err((Place::of(["baseURL", name]), problem));
        }
        match &self.health_check.path {
            Some(path) if !path.starts_with('/') => {
                Err((Place::of(["healthCheck", "path"]), format!("the path {path:?} must start with /")))
            }
            _ => Ok(()),
        }
    }

    /// What serde cannot see: where, what is wrong, and what to write instead.
    fn check(&self) -> Result<(), (Place, String)> {
        for (at, matcher) in self.errors.iter().enumerate() {
            matcher.check().map_err(|problem| (Place::of(["errors"]).and(Step::Index(at)), problem))?;
        }
        if let Some((at, problem)) = errors::too_many(&self.errors) {
            return Err((Place::of(["errors"]).and(Step::Index(at)), problem));
        }
        if let Some((at, by)) = errors::unreachable(&self.errors) {
            let by = by.iter().map(|at| format!("errors[{at}]")).collect::<Vec<_>>().join(", ");
            let problem = format!("can never be reached: whatever it fits, {by} fits before; move it up or remove it");
            return Err((Place::of(["errors"]).and(Step::Index(at)), problem));
        }
        for (at, limit) in self.limits.iter().enumerate() {
            let place = || Place::of(["limits"]).and(Step::Index(at));
            limit.check().map_err(|problem| (place(), problem))?;
            let known = |name: &String| self.operations.contains_key(name) || self.streams.contains_key(name);
            if let Some(unknown) = limit.operations.iter().find(|name| !known(name)) {
                return Err((place(), format!("{unknown} is neither an operation nor a stream of the profile")));
            }
            let same = |other: &ProfileLimit| {
                let apart = matches!((other.environment, limit.environment), (Some(a), Some(b)) if a != b);
                other.name == limit.name && !apart
            };
            if self.limits.iter().take(at).any(same) {
                return Err((place(), format!("the name {:?} is taken by an earlier limit", limit.name)));
            }
        }
        if let Some(auth) = &self.auth {
            auth.check(&self.parameters).map_err(|problem| (Place::of(["auth"]), problem))?;
        }
        if self.webhook.is_some() && self.no_webhook.is_some() {
            return Err((Place::of(["noWebhook"]), "says that there is none, beside webhook: remove one".to_owned()));
        }
        if let Some(webhook) = &self.webhook {
            webhook.check().map_err(|problem| (Place::of(["webhook"]), problem))?;
        }
        if TimeZone::get(&self.zone).is_err() {
            let problem = format!("{:?} is no time zone: write an IANA name such as Europe/Paris", self.zone);
            return Err((Place::of(["zone"]), problem));
        }
        for (name, value) in &self.headers {
            free_header(name).map_err(|problem| (Place::of(["headers", name]), problem))?;
            if http::HeaderValue::from_str(value).is_err() {
                return Err((Place::of(["headers", name]), "the value cannot be sent in a header".to_owned()));
            }
        }
        self.addresses()?;
        for (name, parameter) in &self.parameters {
            if parameter.required {
                let problem = "required is for operations and streams: whoever needs it says so by itself".to_owned();
                return Err((Place::of(["parameters", name]), problem));
            }
            parameter.check(name).map_err(|problem| (Place::of(["parameters", name]), problem))?;
        }
        for (name, operation) in &self.operations {
            operation
                .check(&self.parameters)
                .map_err(|(fields, problem)| (below(Place::of(["operations", name]), fields), problem))?;
            if let Some(secret) = operation.query.keys().find(|name| self.is_secret_query(name)) {
                let problem = format!("{secret} is a secret of the connection: a caller must not set it, remove it");
                return Err((Place::of(["operations", name, "query", secret]), problem));
            }
            if let Some(feature) = operation.feature.as_ref().filter(|feature| !self.features.contains_key(*feature)) {
                let problem = format!("the feature {feature} is not known: declare it under features");
                return Err((Place::of(["operations", name, "feature"]), problem));
            }
        }
        if let Some(live) = &self.live_check {
            live.check(self).map_err(|(fields, problem)| (below(Place::of(["liveCheck"]), fields), problem))?;
        }
        for (name, stream) in &self.streams {
            let own = || Place::of(["streams", name.as_str()]);
            stream.check(&self.parameters).map_err(|(place, problem)| (own().join(place), problem))?;
        }
        Ok(())
    }
}

/// The part `fields` deeper.
fn below(place: Place, fields: Vec<impl Into<String>>) -> Place {
    fields.into_iter().fold(place, |place, field| place.and(Step::Field(field.into())))
}

fn paths(at: &str, value: &serde_yaml::Value, found: &mut BTreeSet<String>) {
    for (key, below) in value.as_mapping().into_iter().flatten() {
        let Some(key) = key.as_str() else { continue };
        let path = if at.is_empty() { key.to_owned() } else { format!("{at}.{key}") };
        paths(&path, below, found);
        found.insert(path);
    }
}
