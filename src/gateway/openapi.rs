//! The OpenAPI document, generated from the handlers.
//!
//! The error responses are the same for all operations, so they are added here.

use std::collections::BTreeMap;

use utoipa::OpenApi;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{Operation, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, SchemaFormat, Type};
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::{ContentBuilder, Ref, RefOr, Required, ResponseBuilder};

use crate::gateway::consumers::{dead_letters as queue_letters, delivery, manage};
use crate::gateway::dead_requests::{delete, list, replay};
use crate::gateway::problem::ErrorEnvelope;
use crate::gateway::routing::payouts::{acts, attempts, confirmations, read, register, resume};
use crate::gateway::routing::{
    adjustments, decide, decisions, health, outcomes, override_decision, predictions, proposals, simulate, verify,
};
use crate::gateway::syncs::{dead_letters, plan, replay as letters, resync, run, runs};
use crate::gateway::webhooks::receive;
use crate::gateway::{aliases, audit_list, events, providers};

/// The document as generated from the handlers.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Busbar gateway",
        description = "Calls to providers through one call path: rights, cache, circuit breaker, retries, quota; runs and dead \
                       letters of syncs; events; decisions of banks for payouts, and payouts until their fate is proven. Every response has the form {data, detail}.",
    ),
    paths(
        providers::call,
        providers::call_by_post,
        providers::call_item,
        aliases::collaterals,
        aliases::collateral,
        aliases::accounts,
        aliases::balances,
        list::list,
        replay::replay,
        delete::discard,
        delete::purge,
        run::run,
        plan::plan,
        resync::resync,
        runs::runs,
        dead_letters::dead_letters,
        letters::replay,
        letters::resolve,
        events::list,
        events::consumer_data,
        delivery::confirm,
        delivery::confirm_alias,
        delivery::resend,
        delivery::resend_alias,
        delivery::redeliver,
        delivery::redeliver_alias,
        manage::list,
        manage::create,
        manage::remove,
        manage::rename,
        manage::rotate_key,
        queue_letters::list,
        queue_letters::purge,
        queue_letters::replay,
        audit_list::list,
        receive::receive,
        decide::decide,
        decide::test,
        decisions::list,
        decisions::one,
        health::health,
        override_decision::override_decision,
        adjustments::list,
        adjustments::create,
        adjustments::delete,
        proposals::list,
        proposals::approve,
        proposals::reject,
        outcomes::outcomes,
        predictions::predictions,
        simulate::simulate,
        verify::verify,
        register::register,
        read::list,
        read::one,
        read::one_named_resume,
        attempts::outcomes,
        attempts::resend,
        confirmations::confirm,
        acts::inquire,
        acts::recall,
        acts::approve_reroute,
        acts::resolve,
        acts::resume,
        resume::resume_all,
    ),
    components(schemas(ErrorEnvelope, providers::ResponseShape))
)]
struct Document;

/// Error responses of every operation: status and description.
const COMMON_ERRORS: [(&str, &str); 9] = [
    ("400", "The request is malformed or a parameter is invalid"),
    ("401", "No token, API key or signature, or one that is not valid"),
    ("403", "Denied by RBAC or by the licence profiles"),
    ("404", "Path, connection, operation or item not found"),
    ("405", "Method not allowed on this path"),
    ("408", "The request timed out"),
    ("413", "The body is larger than 1 MiB"),
    ("429", "Rate limit of the caller or daily quota of the licence profile exceeded; see `Retry-After`"),
    ("503", "Circuit open, quota exhausted, connection suspended or replica unavailable; see `Retry-After`"),
];

/// Error responses of operations that call a provider.
const CALL_ERRORS: [(&str, &str); 2] = [
    ("422", "The operation cannot be called here, or the provider rejected the request"),
    (
        "502",
        "The provider failed; `data.dead_request_id` is the ID of the stored dead request, if the request was stored",
    ),
];

/// Error responses of operations that change something.
const CHANGE_ERRORS: [(&str, &str); 1] = [("409", "Conflict with the state of the object, or with an earlier request")];

/// Error responses of operations that choose a bank.
const CHOICE_ERRORS: [(&str, &str); 1] = [("422", "No bank can take the payout, and the route rejects it then")];

/// The complete document.
pub fn document() -> utoipa::openapi::OpenApi {
    let mut document = Document::openapi();
    env!("CARGO_PKG_VERSION").clone_into(&mut document.info.version);
    document.info.license = None;
    if let Some(components) = &mut document.components {
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(
            "A token that the API server accepts, such as a ServiceAccount's; actions are authorized by RBAC",
        ));
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer.build()));
        let text = "The key of a consumer of events, from POST /api/consumers";
        let key = ApiKeyValue::with_description("X-API-Key", text);
        components.add_security_scheme("apiKey", SecurityScheme::ApiKey(ApiKey::Header(key)));
    }
    let none: [&str; 0] = [];
    document.security = Some(vec![SecurityRequirement::new("bearer", none), SecurityRequirement::new("apiKey", none)]);
    for (path, item) in &mut document.paths.paths {
        let calls = path.starts_with("/api/providers/") || path.starts_with("/finastra/");
        if let Some(operation) = &mut item.get {
            complete(operation, calls, false, false);
        }
        if let Some(operation) = item.post.as_mut().filter(|_| path.starts_with("/webhooks/")) {
            operation.security = Some(Vec::new());
        }
        if let Some(operation) = &mut item.post {
            let choices = ["/decide", "/test", "/override/{decision_id}", "/treasury/payouts"];
            let chooses = choices.iter().any(|end| path.ends_with(end));
            complete(operation, calls, !calls, chooses);
        }
        if let Some(operation) = &mut item.delete {
            complete(operation, calls, false, false);
        }
    }
    document
}

/// The complete document as JSON text.
pub fn text() -> String {
    let mut text = document().to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
}

fn complete(operation: &mut Operation, calls: bool, changes: bool, chooses: bool) {
    let uuid = || Some(SchemaFormat::Custom("uuid".to_owned()));
    let id = || ObjectBuilder::new().schema_type(Type::String).format(uuid());
    let request_id = ParameterBuilder::new()
        .name("X-Request-ID")
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some("The correlation ID of logs, spans and audit, a UUID; any other value is replaced"))
        .schema(Some(ObjectBuilder::new().schema_type(Type::String)));
    operation.parameters.get_or_insert_default().push(RefOr::T(request_id.build()));
    let all = COMMON_ERRORS
        .iter()
        .chain(CALL_ERRORS.iter().filter(|_| calls))
        .chain(CHANGE_ERRORS.iter().filter(|_| changes))
        .chain(CHOICE_ERRORS.iter().filter(|_| chooses));
    let every: BTreeMap<&str, &str> = all.copied().collect();
    for (status, description) in every {
        let body = ContentBuilder::new().schema(Some(Ref::from_schema_name("ErrorEnvelope"))).build();
        let mut response = ResponseBuilder::new().description(description).content("application/json", body);
        if matches!(status, "429" | "503") {
            let seconds = HeaderBuilder::new().description(Some("Seconds to wait before retrying")).build();
            response = response.header("Retry-After", seconds);
        }
        operation.responses.responses.entry(status.to_owned()).or_insert(RefOr::T(response.build()));
    }
    for response in operation.responses.responses.values_mut() {
        if let RefOr::T(response) = response {
            let header = HeaderBuilder::new().schema(Some(id())).description(Some("The correlation ID of the request"));
            response.headers.insert("X-Request-ID".to_owned(), RefOr::T(header.build()));
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_committed_document_matches_the_handlers() {
        assert!(
            include_str!("../../docs/reference/openapi.json") == super::text(),
            "docs/reference/openapi.json does not match the handlers; run `make docs`"
        );
    }
}
