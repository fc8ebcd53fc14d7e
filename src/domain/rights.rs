//! Authorization of provider calls by licence profile. Pure.
//!
//! A profile is bound to identities that the API server authenticated; nothing that a caller claims adds a right. A
//! header only selects among the profiles the caller has, and a declared purpose is an additional action that must be
//! allowed, never a replacement for the operation.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::domain::closed_list::closed_list;
use crate::domain::consumer::{consumer_user, is_consumer_name};

/// The authenticated caller of an operation.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Caller {
    /// User name, as the API server reports it.
    pub user: String,
    /// Groups, as the API server reports them.
    pub groups: Vec<String>,
    /// Licence profile that the caller selected; any of the caller's profiles if unset.
    pub profile: Option<String>,
    /// Declared purpose of the call; an additional action to authorize.
    pub purpose: Option<String>,
    /// Request ID for correlation; not stored with dead requests.
    #[serde(skip)]
    pub request_id: Option<Uuid>,
}

/// An identity to which a licence profile is granted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LicenceSubject {
    /// A user by name; a `ServiceAccount`'s is `system:serviceaccount:namespace:name`.
    User(String),
    /// All members of a group.
    Group(String),
}

impl LicenceSubject {
    /// The subject for a `ServiceAccount` written `namespace:name`; `None` if the text has another form.
    pub fn service_account(value: &str) -> Option<Self> {
        let (namespace, name) = value.split_once(':')?;
        let plain = |s: &str| !s.is_empty() && !s.contains(':');
        (plain(namespace) && plain(name)).then(|| Self::User(format!("system:serviceaccount:{namespace}:{name}")))
    }

    /// The subject for a consumer of events; `None` if no consumer can have the name.
    pub fn consumer(name: &str) -> Option<Self> {
        is_consumer_name(name).then(|| Self::User(consumer_user(name)))
    }

    fn matches(&self, caller: &Caller) -> bool {
        match self {
            Self::User(name) => *name == caller.user,
            Self::Group(name) => caller.groups.contains(name),
        }
    }
}

/// One licence profile.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LicenceProfile {
    /// Name, unique per connection.
    pub name: Arc<str>,
    /// Identities to which the profile is granted.
    pub subjects: Vec<LicenceSubject>,
    /// Allowed operations and purposes.
    pub actions: BTreeSet<String>,
    /// Requests per UTC day, over all its subjects; no limit if unset.
    pub requests_per_day: Option<u64>,
}

/// The profiles of one connection.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Rights {
    /// In the order of the spec: a call is counted against the first profile that allows it.
    pub profiles: Vec<LicenceProfile>,
}

closed_list!(
    "denial",
    /// Reason for which a call is denied.
    Denial {
        NoProfile = "no_profile":
            "The connection has licence profiles, and none is granted to the caller."
            => "Add the caller to the subjects of a profile in `spec.rights.profiles` of the connection.",
        ProfileNotHeld = "profile_not_held":
            "The licence profile that `X-Rights-Profile` selects is not granted to the caller."
            => "Select another profile, or send the request without the header.",
        Action = "action_not_allowed":
            "No licence profile of the caller allows the operation or the declared purpose."
            => "Add the action in `details.action` to a profile of the caller.",
    }
);

/// Result of [`Rights::authorize`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AccessDecision<'a> {
    /// The call is allowed and counted against this profile.
    Allowed(&'a LicenceProfile),
    /// The call is denied.
    Denied {
        /// The profile that denied it; `None` if no profile applied.
        profile: Option<Arc<str>>,
        /// The denied action.
        action: String,
        /// Reason of the denial.
        reason: Denial,
    },
}

impl Rights {
    /// Whether a profile is granted to the user of this name itself, not to a group.
    pub fn names_user(&self, user: &str) -> bool {
        let is_named = |subject: &LicenceSubject| matches!(subject, LicenceSubject::User(name) if name == user);
        self.profiles.iter().any(|profile| profile.subjects.iter().any(is_named))
    }

    /// Decides whether `caller` may perform `operation`, and by which profile.
    pub fn authorize<'a>(&'a self, caller: &Caller, operation: &str) -> AccessDecision<'a> {
        let mut granted = self.profiles.iter().filter(|p| p.subjects.iter().any(|s| s.matches(caller))).peekable();
        let denied = |profile: Option<&LicenceProfile>, action: &str, reason| AccessDecision::Denied {
            profile: profile.map(|p| Arc::clone(&p.name)),
            action: action.to_owned(),
            reason,
        };
        if granted.peek().is_none() {
            return denied(None, operation, Denial::NoProfile);
        }
        let wanted: Vec<&LicenceProfile> =
            granted.filter(|p| caller.profile.as_deref().is_none_or(|name| *p.name == *name)).collect();
        let Some(first) = wanted.first() else { return denied(None, operation, Denial::ProfileNotHeld) };
        let refused = |p: &LicenceProfile| {
            let actions = std::iter::once(operation).chain(caller.purpose.as_deref());
            actions.map(str::to_owned).find(|action| !p.actions.contains(action))
        };
        match wanted.iter().find(|p| refused(p).is_none()) {
            Some(profile) => AccessDecision::Allowed(profile),
            None => denied(Some(first), &refused(first).unwrap_or_default(), Denial::Action),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(name: &str, subject: LicenceSubject, actions: &[&str]) -> LicenceProfile {
        let actions = actions.iter().map(ToString::to_string).collect();
        LicenceProfile { name: name.into(), subjects: vec![subject], actions, requests_per_day: None }
    }

    fn rights() -> Rights {
        Rights {
            profiles: vec![
                profile("desk", LicenceSubject::Group("traders".into()), &["quote"]),
                profile("research", LicenceSubject::User("ann".into()), &["quote", "earnings", "export_pdf"]),
                profile("robot", LicenceSubject::service_account("apps:robot").unwrap(), &["earnings"]),
            ],
        }
    }

    fn ann(profile: Option<&str>, purpose: Option<&str>) -> Caller {
        Caller {
            user: "ann".into(),
            groups: vec!["traders".into()],
            profile: profile.map(str::to_owned),
            purpose: purpose.map(str::to_owned),
            request_id: None,
        }
    }

    fn decision(caller: &Caller, operation: &str) -> Result<String, (Option<String>, String, Denial)> {
        match rights().authorize(caller, operation) {
            AccessDecision::Allowed(profile) => Ok(profile.name.to_string()),
            AccessDecision::Denied { profile, action, reason } => Err((profile.map(|p| p.to_string()), action, reason)),
        }
    }

    #[test]
    fn the_first_profile_that_allows_operation_and_purpose_is_used() {
        assert_eq!(decision(&ann(None, None), "quote"), Ok("desk".into()));
        assert_eq!(decision(&ann(None, None), "earnings"), Ok("research".into()));
        assert_eq!(decision(&ann(None, Some("export_pdf")), "quote"), Ok("research".into()));
    }

    #[test]
    fn the_header_selects_among_granted_profiles_and_adds_none() {
        assert_eq!(decision(&ann(Some("research"), None), "quote"), Ok("research".into()));
        let refused = decision(&ann(Some("desk"), None), "earnings").unwrap_err();
        assert_eq!(refused, (Some("desk".into()), "earnings".into(), Denial::Action));
        let refused = decision(&ann(Some("robot"), None), "earnings").unwrap_err();
        assert_eq!(refused, (None, "earnings".into(), Denial::ProfileNotHeld));
    }

    #[test]
    fn a_purpose_is_checked_in_addition_to_the_operation() {
        let refused = decision(&ann(Some("desk"), Some("export_pdf")), "quote").unwrap_err();
        assert_eq!(refused, (Some("desk".into()), "export_pdf".into(), Denial::Action));
        let refused = decision(&ann(Some("research"), Some("export_pdf")), "news").unwrap_err();
        assert_eq!(refused.1, "news");
    }

    #[test]
    fn a_user_named_like_a_group_is_not_a_member_of_it() {
        let stranger =
            Caller { user: "traders".into(), groups: vec![], profile: None, purpose: None, request_id: None };
        assert_eq!(decision(&stranger, "quote").unwrap_err().2, Denial::NoProfile);
        let robot = Caller { user: "system:serviceaccount:apps:robot".into(), ..stranger };
        assert_eq!(decision(&robot, "earnings"), Ok("robot".into()));
    }

    #[test]
    fn a_consumer_has_a_profile_only_under_its_own_name() {
        let subject = LicenceSubject::consumer("ledger_team").unwrap();
        let rights = Rights { profiles: vec![profile("feed", subject, &["quote"])] };
        assert!(rights.names_user(&consumer_user("ledger_team")));
        for user in ["ledger_team", "busbar:consumer:ledger", "busbar:consumer:ledger_team2"] {
            assert!(!rights.names_user(user), "{user}");
        }
        for bad in ["", "Ledger", "a-b", "a:b", &"x".repeat(64)] {
            assert!(LicenceSubject::consumer(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_service_account_is_written_namespace_colon_name() {
        for bad in ["robot", ":robot", "apps:", "system:serviceaccount:apps:robot"] {
            assert!(LicenceSubject::service_account(bad).is_none(), "{bad}");
        }
    }
}
