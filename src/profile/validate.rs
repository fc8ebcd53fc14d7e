//! What makes a profile unusable, found when it is parsed.

use http::HeaderValue;
use jiff::tz::TimeZone;

use super::definition::{MAX_RESPONSE_BYTES, MIN_RESPONSE_BYTES, Profile};
use super::header_name::check_settable_header;
use super::invalid_field::InvalidField;
use super::limits::ProfileLimit;
use super::matcher;
use super::url::parse_base_url;
use super::yaml_position::YamlPath;

impl Profile {
    /// Checks what serde cannot.
    pub(super) fn check(&self) -> Result<(), InvalidField> {
        self.check_errors()?;
        self.check_limits()?;
        self.health_check.check().map_err(|invalid| invalid.within(["healthCheck"]))?;
        if let Some(auth) = &self.auth {
            auth.check(&self.parameters).map_err(|problem| InvalidField::new(["auth"], problem))?;
        }
        if self.webhook.is_some() && self.no_webhook.is_some() {
            return Err(InvalidField::new(["noWebhook"], "contradicts webhook: remove one of the two"));
        }
        if let Some(webhook) = &self.webhook {
            webhook.check().map_err(|problem| InvalidField::new(["webhook"], problem))?;
        }
        if !(MIN_RESPONSE_BYTES..=MAX_RESPONSE_BYTES).contains(&self.max_response_bytes) {
            let problem = format!(
                "{} is out of range: set {MIN_RESPONSE_BYTES} to {MAX_RESPONSE_BYTES} bytes, and request smaller pages",
                self.max_response_bytes
            );
            return Err(InvalidField::new(["maxResponseBytes"], problem));
        }
        if TimeZone::get(&self.zone).is_err() {
            let problem = format!("{:?} is not a time zone: write an IANA name such as Europe/Paris", self.zone);
            return Err(InvalidField::new(["zone"], problem));
        }
        for (name, value) in &self.headers {
            let invalid = |problem| InvalidField::new(["headers", name], problem);
            check_settable_header(name).map_err(invalid)?;
            if HeaderValue::from_str(value).is_err() {
                return Err(invalid("the value contains characters that are not allowed in a header".to_owned()));
            }
        }
        self.check_urls()?;
        for (name, parameter) in &self.parameters {
            let invalid = |problem| InvalidField::new(["parameters", name], problem);
            if parameter.required {
                let problem = "required is not supported here: an operation or stream that uses it requires it";
                return Err(invalid(problem.to_owned()));
            }
            parameter.check(name).map_err(invalid)?;
        }
        self.check_operations()?;
        if let Some(payouts) = &self.payouts {
            payouts.check(&self.operations).map_err(|invalid| invalid.within(["payouts"]))?;
        }
        self.minor_units.check().map_err(|invalid| invalid.within(["minorUnits"]))?;
        for (name, stream) in &self.streams {
            stream.check(&self.parameters).map_err(|invalid| invalid.within(["streams", name.as_str()]))?;
        }
        Ok(())
    }

    fn check_errors(&self) -> Result<(), InvalidField> {
        let path = |index| YamlPath::from(["errors"]).index(index);
        for (index, matcher) in self.errors.iter().enumerate() {
            matcher.check().map_err(|problem| InvalidField::new(path(index), problem))?;
        }
        if let Some((index, problem)) = matcher::find_above_limit(&self.errors) {
            return Err(InvalidField::new(path(index), problem));
        }
        if let Some((index, covering)) = matcher::find_unreachable(&self.errors) {
            let covering = covering.iter().map(|index| format!("errors[{index}]")).collect::<Vec<_>>().join(", ");
            let problem = format!(
                "is unreachable: everything it matches is matched before by {covering}; move it up or remove it"
            );
            return Err(InvalidField::new(path(index), problem));
        }
        Ok(())
    }

    fn check_limits(&self) -> Result<(), InvalidField> {
        for (index, limit) in self.limits.iter().enumerate() {
            let invalid = |problem| InvalidField::new(YamlPath::from(["limits"]).index(index), problem);
            limit.check().map_err(invalid)?;
            let known = |name: &String| self.operations.contains_key(name) || self.streams.contains_key(name);
            if let Some(unknown) = limit.operations.iter().find(|name| !known(name)) {
                return Err(invalid(format!("{unknown} is not an operation or stream of the profile")));
            }
            let same = |other: &ProfileLimit| {
                let apart = matches!((other.environment, limit.environment), (Some(a), Some(b)) if a != b);
                other.name == limit.name && !apart
            };
            if self.limits.iter().take(index).any(same) {
                return Err(invalid(format!("the name {:?} is used by an earlier limit: rename it", limit.name)));
            }
        }
        Ok(())
    }

    /// Checks base URLs and paths. Plain HTTP is a decision of the connection, never of the profile.
    fn check_urls(&self) -> Result<(), InvalidField> {
        for (name, url) in [("sandbox", &self.base_url.sandbox), ("production", &self.base_url.production)] {
            let Some(url) = url else { continue };
            let problem = match parse_base_url(url) {
                Ok(url) if url.scheme() == "https" => continue,
                Ok(_) => "must be https; a connection may use another URL with endpoint.insecure".to_owned(),
                Err(error) => error.to_string(),
            };
            return Err(InvalidField::new(["baseURL", name], problem));
        }
        match &self.health_check.path {
            Some(path) if !path.starts_with('/') => {
                Err(InvalidField::new(["healthCheck", "path"], format!("the path {path:?} must start with /")))
            }
            _ => Ok(()),
        }
    }

    fn check_operations(&self) -> Result<(), InvalidField> {
        for (name, operation) in &self.operations {
            let path = || YamlPath::from(["operations", name]);
            operation.check(&self.parameters).map_err(|invalid| invalid.within(path()))?;
            if let Some(secret) = operation.query.keys().find(|name| self.is_secret_query(name)) {
                let problem = format!("{secret} is a secret of the connection: a caller must not set it; remove it");
                return Err(InvalidField::new(path().field("query").field(secret), problem));
            }
            if let Some(feature) = operation.feature.as_ref().filter(|feature| !self.features.contains_key(*feature)) {
                let problem = format!("the feature {feature} is not declared: add it under features");
                return Err(InvalidField::new(path().field("feature"), problem));
            }
        }
        match &self.live_check {
            Some(live_check) => live_check.check(&self.operations).map_err(|invalid| invalid.within(["liveCheck"])),
            None => Ok(()),
        }
    }
}
