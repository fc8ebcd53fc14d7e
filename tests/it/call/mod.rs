//! The call path, over real sockets: what a call sends, what it makes of every response, and what it counts.

mod cache;
mod checks;
mod circuit;
mod credentials;
mod daily_limits;
mod errors;
mod faults;
mod generated;
mod kept_alive_server;
mod memory;
mod order;
mod pauses;
mod rate_limits;
mod requests;
mod reused_connections;
mod scripted_server;
mod settings;
mod timeouts;
mod tls;

use busbar::provider::call::{CallError, Request, Response};
use busbar::provider::connection::Connection;

/// A read that expects JSON.
async fn get_json(connection: &Connection) -> Result<Response, CallError> {
    connection.call(Request { expect_json: true, ..Request::get("test", "/accounts") }).await
}
