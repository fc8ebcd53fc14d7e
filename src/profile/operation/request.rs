//! From an operation and a caller's parameters to the HTTP request.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};

use super::definition::Operation;
use crate::domain::breaker::CallClass;
use crate::profile::parameter::{self, ParameterError};
use crate::profile::template::TemplateError;

/// The HTTP request of an operation, with all placeholders expanded and without credentials.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OperationRequest {
    /// The class of the call.
    pub class: CallClass,
    /// The HTTP method.
    pub method: Method,
    /// Percent-encoded path below the base URL.
    pub path: String,
    /// Query parameters, not yet encoded.
    pub query: Vec<(String, String)>,
    /// Headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Option<Bytes>,
    /// The partition whose limits count the call.
    pub partition: Option<String>,
    /// Whether the body of a successful response must be JSON.
    pub expects_json: bool,
    /// Whether the response may be cached.
    pub cacheable: bool,
    /// The parameters that traces may show.
    pub public_parameters: Vec<(String, String)>,
}

impl Operation {
    /// Builds the request. `given` holds the caller's parameters; placeholders may also use the connection's own
    /// (`endpoint.parameters`), which a caller cannot set.
    pub fn request(
        &self,
        given: &BTreeMap<String, String>,
        endpoint: &BTreeMap<String, String>,
    ) -> Result<OperationRequest, ParameterError> {
        let own = parameter::effective_values(&self.parameters, given)?;
        let public = own.iter().filter(|(name, _)| self.parameters.get(*name).is_some_and(|rule| rule.public));
        let public_parameters = public.map(|(name, value)| (name.clone(), value.clone())).collect();
        let mut values = endpoint.clone();
        values.extend(own);
        let path = self.path.path(&values).map_err(path_error)?;
        let mut headers = self.expand_headers(&values)?;
        let body = self.body.as_ref().map(|body| {
            let (content_type, bytes) = body.expand(&self.parameters, &values, None);
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
            bytes
        });
        let query = self.query.iter().filter_map(|(name, value)| Some((name.clone(), value.value(&values).ok()?)));
        Ok(OperationRequest {
            class: self.class(),
            method: self.method.clone(),
            path,
            query: query.collect(),
            headers,
            body,
            partition: self.partition.as_ref().and_then(|name| values.get(name)).cloned(),
            // Without a mapping the body is passed through, whatever it is. But a cached response is served again for
            // up to an hour: a proxy's error page must not be, and the gateway can return nothing but JSON anyway.
            expects_json: self.canonical.is_some() || self.cache,
            cacheable: self.cache,
            public_parameters,
        })
    }

    /// The canonical record of a response body; `None` where the operation has no mapping.
    ///
    /// # Panics
    /// If the mapping wrote what is not JSON.
    #[cfg(test)]
    pub fn canonical(&self, body: &[u8]) -> Option<Result<serde_json::Value, crate::profile::mapping::MappingError>> {
        let mapping = self.canonical.as_ref()?;
        let mut out = Vec::new();
        Some(mapping.write(body, &mut out).map(|()| serde_json::from_slice(&out).unwrap()))
    }

    fn expand_headers(&self, values: &BTreeMap<String, String>) -> Result<HeaderMap, ParameterError> {
        let mut headers = HeaderMap::new();
        for (name, template) in &self.headers {
            let (Ok(header), Ok(text)) = (HeaderName::from_bytes(name.as_bytes()), template.value(values)) else {
                continue;
            };
            let field = template.parameters().next().unwrap_or(name);
            let value = HeaderValue::from_str(&text)
                .map_err(|_| ParameterError::new(field, "contains characters that are not allowed in a header"))?;
            headers.insert(header, value);
        }
        Ok(headers)
    }
}

fn path_error(error: TemplateError) -> ParameterError {
    match error {
        TemplateError::Missing { name } => ParameterError::new(&name, "is missing"),
        TemplateError::Unsafe { name } => ParameterError::new(&name, "must not be empty, `.` or `..`"),
        TemplateError::Malformed { .. } => ParameterError::new("", "is not usable"),
    }
}
