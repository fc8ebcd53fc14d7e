//! Refusals of the broker that end a channel and not the connection.

use lapin::ErrorKind;

/// Reply codes by which the broker refuses one declaration: access refused, not found, resource locked, precondition
/// failed.
const REFUSALS: [u16; 4] = [403, 404, 405, PRECONDITION_FAILED];
pub(super) const PRECONDITION_FAILED: u16 = 406;

/// The code by which the broker refused, and its text, if it refused one declaration and not the connection.
pub(super) fn refusal(error: &lapin::Error) -> Option<(u16, String)> {
    let ErrorKind::ProtocolError(refused) = error.kind() else { return None };
    let code = refused.get_id();
    REFUSALS.contains(&code).then(|| (code, refused.get_message().to_string()))
}
