//! The description of the API, generated from the handlers.
//!
//! The errors that any request can meet are the same for all, so they are added here, each with the codes it may carry.

use std::collections::BTreeMap;

use utoipa::OpenApi;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{Operation, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, SchemaFormat, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{ContentBuilder, Ref, RefOr, Required, ResponseBuilder};

use crate::gateway::problem::ErrorEnvelope;
use crate::gateway::{aliases, dead_removal, dead_requests, providers};

/// The document as the handlers tell it.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Busbar gateway",
        description = "Calls to providers through one path: rights, cache, circuit, retries, quota. Every answer has the \
                       form {data, detail}.",
    ),
    paths(
        providers::call,
        providers::call_by_post,
        providers::call_item,
        aliases::collaterals,
        aliases::collateral,
        aliases::accounts,
        aliases::balances,
        dead_requests::list,
        dead_requests::replay,
        dead_removal::discard,
        dead_removal::purge,
    ),
    components(schemas(ErrorEnvelope, providers::Shape))
)]
struct Document;

/// The errors that every request may meet: status and what it means.
const ANY: [(&str, &str); 9] = [
    ("400", "The request is malformed, or a parameter breaks its rule"),
    ("401", "No token, or none that the API server knows"),
    ("403", "RBAC does not allow it, or no licence profile does"),
    ("404", "There is no such path, connection, operation or item"),
    ("405", "The path is known, the method is not"),
    ("408", "The request did not arrive in time"),
    ("413", "The body is larger than 1 MiB"),
    ("429", "Too many requests, of the caller or of his licence profile; `Retry-After` says when to come again"),
    ("503", "Nothing can be said now; `Retry-After` says when to come again"),
];

/// Those of requests that lead to a provider.
const CALLS: [(&str, &str); 2] = [
    ("422", "The operation cannot be called here, or the provider refused the request as it is"),
    ("502", "The provider failed; `data.dead_request_id` tells where the request was kept, if it was"),
];

/// Those of requests that change what is kept.
const CHANGES: [(&str, &str); 1] = [("409", "The object is not in a state that allows it")];

/// The document, complete.
pub fn document() -> utoipa::openapi::OpenApi {
    let mut document = Document::openapi();
    env!("CARGO_PKG_VERSION").clone_into(&mut document.info.version);
    document.info.license = None;
    if let Some(components) = &mut document.components {
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(
            "A token that the API server knows, such as a ServiceAccount's; checked by TokenReview, each act by RBAC",
        ));
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer.build()));
    }
    let none: [&str; 0] = [];
    document.security = Some(vec![SecurityRequirement::new("bearer", none)]);
    for (path, item) in &mut document.paths.paths {
        let calls = path.starts_with("/api/providers/") || path.starts_with("/finastra/");
        if let Some(operation) = &mut item.get {
            complete(operation, calls, false);
        }
        if let Some(operation) = &mut item.post {
            complete(operation, calls, !calls);
        }
        if let Some(operation) = &mut item.delete {
            complete(operation, calls, false);
        }
    }
    document
}

/// The document as text.
pub fn text() -> String {
    let mut text = document().to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
}

fn complete(operation: &mut Operation, calls: bool, changes: bool) {
    let uuid = || Some(SchemaFormat::Custom("uuid".to_owned()));
    let id = || ObjectBuilder::new().schema_type(Type::String).format(uuid());
    let given = ParameterBuilder::new()
        .name("X-Request-ID")
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some("The correlation id of logs, spans and audit; what is no UUID is replaced"))
        .schema(Some(id()));
    operation.parameters.get_or_insert_default().push(RefOr::T(given.build()));
    let all = ANY.iter().chain(CALLS.iter().filter(|_| calls)).chain(CHANGES.iter().filter(|_| changes));
    let every: BTreeMap<&str, &str> = all.copied().collect();
    for (status, means) in every {
        let body = ContentBuilder::new().schema(Some(Ref::from_schema_name("ErrorEnvelope"))).build();
        let mut response = ResponseBuilder::new().description(means).content("application/json", body);
        if matches!(status, "429" | "503") {
            let seconds = HeaderBuilder::new().description(Some("Seconds to wait")).build();
            response = response.header("Retry-After", seconds);
        }
        operation.responses.responses.entry(status.to_owned()).or_insert(RefOr::T(response.build()));
    }
    for response in operation.responses.responses.values_mut() {
        if let RefOr::T(response) = response {
            let answered =
                HeaderBuilder::new().schema(Some(id())).description(Some("The correlation id of the request"));
            response.headers.insert("X-Request-ID".to_owned(), RefOr::T(answered.build()));
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_committed_document_is_what_the_handlers_say() {
        assert!(
            include_str!("../../docs/reference/openapi.json") == super::text(),
            "docs/reference/openapi.json is not what the handlers say: run `make docs`"
        );
    }
}
