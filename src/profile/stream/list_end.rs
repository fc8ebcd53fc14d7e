//! How a list ends, and what a provider sends instead of an empty one, where the response does not say it plainly.

use schemars::JsonSchema;
use serde::Deserialize;

/// A sign of the end of a list, for responses that do not say whether there is another page. It counts only where no
/// total contradicts it.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum EndSign {
    /// A page with fewer records than were requested.
    ShortPage,
    /// A page equal to the one before it: the server returns its last page for every later position.
    RepeatedPage,
    /// A next page that is not after the current one: its own number or token, or an earlier number.
    SameNext,
}

/// What a provider sends instead of an empty list.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum EmptyForm {
    /// `null` in the place of the list.
    NullValue,
    /// Status 204 or 205, which have no body.
    NoContent,
    /// Status 200 without a body.
    EmptyBody,
    /// A blank text in the place of the list.
    BlankText,
    /// An object without members in the place of the list.
    EmptyObject,
    /// A response without the list.
    Missing,
    /// A response of class `notFound`, such as status 404.
    NotFound,
}

impl EmptyForm {
    /// The forms that a profile need not name: they say that there is nothing, where the list is otherwise.
    pub(super) fn usual() -> Vec<Self> {
        vec![Self::NullValue, Self::NoContent]
    }
}
