//! The routes, each mounted at the path of its OpenAPI annotation, so that the document always matches the server.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::handler::Handler;
use axum::http::header;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, get, on};
use prometheus::IntCounterVec;
use utoipa::openapi::path::HttpMethod;

use crate::gateway::consumers::{dead_letters as queue_letters, delivery, manage};
use crate::gateway::dead_requests::{delete, list, replay};
use crate::gateway::error_code::ErrorCode;
use crate::gateway::guard::RouteMethods;
use crate::gateway::problem::Problem;
use crate::gateway::routing::payouts::{acts, attempts, confirmations, read, register, resume};
use crate::gateway::routing::{
    adjustments, decide, decisions, health, outcomes, override_decision, predictions, proposals, simulate, verify,
};
use crate::gateway::state::Gateway;
use crate::gateway::syncs::{dead_letters, plan, replay as letters, resync, run, runs};
use crate::gateway::webhooks::receive;
use crate::gateway::{aliases, audit_list, events, observe, openapi, providers};

/// The readiness of the process and its text, for `/readyz`.
pub type Readiness = Arc<dyn Fn() -> (bool, String) + Send + Sync>;

/// The path of the OpenAPI document.
const DOCUMENT: &str = "/openapi.json";

/// All routes with their middleware.
pub fn router(gateway: &Arc<Gateway>, ready: Readiness) -> Router {
    gateway.metrics.max_requests.set(i64::try_from(gateway.request_limits.max()).unwrap_or(i64::MAX));
    let document: Arc<str> = openapi::text().into();
    let mut paths = Routes { router: Router::new(), methods: RouteMethods::default(), panics: &gateway.metrics.panics };
    paths.mount::<providers::__path_call, _, _>(providers::call);
    paths.mount::<providers::__path_call_by_post, _, _>(providers::call_by_post);
    paths.mount::<providers::__path_call_item, _, _>(providers::call_item);
    paths.mount::<aliases::__path_collaterals, _, _>(aliases::collaterals);
    paths.mount::<aliases::__path_collateral, _, _>(aliases::collateral);
    paths.mount::<aliases::__path_accounts, _, _>(aliases::accounts);
    paths.mount::<aliases::__path_balances, _, _>(aliases::balances);
    paths.mount::<list::__path_list, _, _>(list::list);
    paths.mount::<replay::__path_replay, _, _>(replay::replay);
    paths.mount::<delete::__path_discard, _, _>(delete::discard);
    paths.mount::<delete::__path_purge, _, _>(delete::purge);
    paths.mount::<run::__path_run, _, _>(run::run);
    paths.mount::<plan::__path_plan, _, _>(plan::plan);
    paths.mount::<resync::__path_resync, _, _>(resync::resync);
    paths.mount::<runs::__path_runs, _, _>(runs::runs);
    paths.mount::<dead_letters::__path_dead_letters, _, _>(dead_letters::dead_letters);
    paths.mount::<letters::__path_replay, _, _>(letters::replay);
    paths.mount::<letters::__path_resolve, _, _>(letters::resolve);
    paths.mount::<events::__path_list, _, _>(events::list);
    paths.mount::<events::__path_consumer_data, _, _>(events::consumer_data);
    paths.mount::<delivery::__path_confirm, _, _>(delivery::confirm);
    paths.mount::<delivery::__path_confirm_alias, _, _>(delivery::confirm_alias);
    paths.mount::<delivery::__path_resend, _, _>(delivery::resend);
    paths.mount::<delivery::__path_resend_alias, _, _>(delivery::resend_alias);
    paths.mount::<delivery::__path_redeliver, _, _>(delivery::redeliver);
    paths.mount::<delivery::__path_redeliver_alias, _, _>(delivery::redeliver_alias);
    paths.mount::<manage::__path_list, _, _>(manage::list);
    paths.mount::<manage::__path_create, _, _>(manage::create);
    paths.mount::<manage::__path_remove, _, _>(manage::remove);
    paths.mount::<manage::__path_rename, _, _>(manage::rename);
    paths.mount::<manage::__path_rotate_key, _, _>(manage::rotate_key);
    paths.mount::<queue_letters::__path_list, _, _>(queue_letters::list);
    paths.mount::<queue_letters::__path_purge, _, _>(queue_letters::purge);
    paths.mount::<queue_letters::__path_replay, _, _>(queue_letters::replay);
    paths.mount::<audit_list::__path_list, _, _>(audit_list::list);
    paths.mount::<decide::__path_decide, _, _>(decide::decide);
    paths.mount::<decide::__path_test, _, _>(decide::test);
    paths.mount::<decisions::__path_list, _, _>(decisions::list);
    paths.mount::<decisions::__path_one, _, _>(decisions::one);
    paths.mount::<health::__path_health, _, _>(health::health);
    paths.mount::<override_decision::__path_override_decision, _, _>(override_decision::override_decision);
    paths.mount::<adjustments::__path_list, _, _>(adjustments::list);
    paths.mount::<adjustments::__path_create, _, _>(adjustments::create);
    paths.mount::<adjustments::__path_delete, _, _>(adjustments::delete);
    paths.mount::<proposals::__path_list, _, _>(proposals::list);
    paths.mount::<proposals::__path_approve, _, _>(proposals::approve);
    paths.mount::<proposals::__path_reject, _, _>(proposals::reject);
    paths.mount::<outcomes::__path_outcomes, _, _>(outcomes::outcomes);
    paths.mount::<predictions::__path_predictions, _, _>(predictions::predictions);
    paths.mount::<simulate::__path_simulate, _, _>(simulate::simulate);
    paths.mount::<verify::__path_verify, _, _>(verify::verify);
    paths.mount::<register::__path_register, _, _>(register::register);
    paths.mount::<read::__path_list, _, _>(read::list);
    paths.mount::<read::__path_one, _, _>(read::one);
    paths.mount::<read::__path_one_named_resume, _, _>(read::one_named_resume);
    paths.mount::<attempts::__path_outcomes, _, _>(attempts::outcomes);
    paths.mount::<attempts::__path_resend, _, _>(attempts::resend);
    paths.mount::<confirmations::__path_confirm, _, _>(confirmations::confirm);
    paths.mount::<acts::__path_inquire, _, _>(acts::inquire);
    paths.mount::<acts::__path_recall, _, _>(acts::recall);
    paths.mount::<acts::__path_approve_reroute, _, _>(acts::approve_reroute);
    paths.mount::<acts::__path_resolve, _, _>(acts::resolve);
    paths.mount::<acts::__path_resume, _, _>(acts::resume);
    paths.mount::<resume::__path_resume_all, _, _>(resume::resume_all);
    paths.mount::<receive::__path_receive, _, _>(receive::receive);
    paths.methods.add(DOCUMENT, MethodFilter::GET);
    let state = (Arc::clone(gateway), Arc::new(paths.methods));
    paths
        .router
        .route(
            DOCUMENT,
            get(move || async move { ([(header::CONTENT_TYPE, "application/json")], document.to_string()) }),
        )
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz).with_state(ready))
        .layer(from_fn_with_state(state, observe::observe))
        .with_state(Arc::clone(gateway))
}

struct Routes<'a> {
    router: Router<Arc<Gateway>>,
    methods: RouteMethods,
    panics: &'a IntCounterVec,
}

impl Routes<'_> {
    fn mount<P: utoipa::Path, H: Handler<T, Arc<Gateway>>, T: 'static>(&mut self, handler: H) {
        let methods = P::methods().into_iter().map(|method| match method {
            HttpMethod::Post => MethodFilter::POST,
            HttpMethod::Put => MethodFilter::PUT,
            HttpMethod::Delete => MethodFilter::DELETE,
            HttpMethod::Patch => MethodFilter::PATCH,
            _ => MethodFilter::GET,
        });
        if let Some(filter) = methods.reduce(MethodFilter::or) {
            self.methods.add(&P::path(), filter);
            self.router = std::mem::take(&mut self.router).route(&P::path(), on(filter, handler));
            // 0 before the first panic: `increase` does not see the first count of a new series.
            self.panics.with_label_values(&[P::path()]);
        }
    }
}

async fn readyz(State(ready): State<Readiness>) -> Response {
    let (ready, text) = ready();
    let status = if ready { axum::http::StatusCode::OK } else { axum::http::StatusCode::SERVICE_UNAVAILABLE };
    (status, text).into_response()
}

async fn unknown() -> Problem {
    Problem::new(ErrorCode::NotFound, "path not found; see /openapi.json")
}

async fn wrong_method(request: Request) -> Problem {
    Problem::new(ErrorCode::MethodNotAllowed, "method not allowed on this path; see /openapi.json")
        .with("method", request.method().as_str())
}
