//! The API server of a harness: whose tokens are valid, and what each user may do.

use std::sync::atomic::{AtomicBool, Ordering};

use busbar::cluster::ApiError;
use busbar::cluster::auth::{AccessRequest, Reviewer, UserInfo};
use futures::future::BoxFuture;

/// An API server that accepts each token `token-<user>` and `token-<user>~<n>`: the same user with another UID, groups and
/// extra information, as the tokens of one ServiceAccount. The user `outsider` has no permission, `desk` may call `fmp`
/// only, `bound-<name>` acts on the object of that name only, `may-<verb>-<subresource>` may do that alone, and reviews of what
/// else `cut-off` may do fail; while `down` is set, all reviews fail.
#[derive(Default)]
pub(crate) struct Api {
    pub(crate) down: AtomicBool,
}

impl Reviewer for Api {
    fn review_token<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Option<UserInfo>, ApiError>> {
        assert_ne!(token, "token-panic", "a defect, planted");
        let known = token.strip_prefix("token-").map(|name| {
            let (user, token_id) = name.split_once('~').unzip();
            let user = user.unwrap_or(name);
            let groups = ["system:authenticated".to_owned(), format!("{user}s")];
            let groups = groups.into_iter().chain(token_id.map(|id| format!("group-{id}"))).collect();
            let extra =
                token_id.map(|id| ("authentication.kubernetes.io/credential-id".to_owned(), vec![id.to_owned()]));
            UserInfo::new(user, token_id.map(str::to_owned), groups, extra.into_iter().collect())
        });
        let down = self.down.load(Ordering::Relaxed);
        Box::pin(async move { if down { Err(ApiError::Timeout) } else { Ok(known) } })
    }

    fn review_access<'a>(
        &'a self,
        subject: &'a UserInfo,
        act: &'a AccessRequest,
    ) -> BoxFuture<'a, Result<bool, ApiError>> {
        let bound = subject.user.strip_prefix("bound-").is_none_or(|name| act.name == name);
        let own = bound && (subject.user != "desk" || act.name == "fmp");
        let only =
            subject.user.strip_prefix("may-").is_none_or(|only| only == format!("{}-{}", act.verb, act.subresource));
        let may = subject.user != "outsider" && own && only && (subject.user != "caller" || act.subresource == "call");
        let down = self.down.load(Ordering::Relaxed) || (subject.user == "cut-off" && act.name != "fmp");
        Box::pin(async move { if down { Err(ApiError::Timeout) } else { Ok(may) } })
    }
}
