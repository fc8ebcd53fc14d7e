//! Rights: which licence profile a caller has, and what it allows. Pure.
//!
//! A profile is bound to identities that the API server vouched for; nothing that a caller says about himself adds a
//! right. A header may only choose among the profiles he has, and a declared purpose is a further action that must be
//! allowed, never instead of the operation.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Who makes a call.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Caller {
    /// His name, as the API server gives it.
    pub user: String,
    /// His groups.
    pub groups: Vec<String>,
    /// The profile he asks to be judged by.
    pub profile: Option<String>,
    /// What he declares to want the answer for.
    pub purpose: Option<String>,
    /// The correlation id of his request; not kept with a request that is kept.
    #[serde(skip)]
    pub request_id: Option<Uuid>,
}

/// One identity that has a profile.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Subject {
    /// A user by name; a `ServiceAccount`'s is `system:serviceaccount:namespace:name`.
    User(String),
    /// Everyone in a group.
    Group(String),
}

impl Subject {
    /// The subject that a `ServiceAccount` written `namespace:name` is.
    pub fn service_account(value: &str) -> Option<Self> {
        let (namespace, name) = value.split_once(':')?;
        let plain = |s: &str| !s.is_empty() && !s.contains(':');
        (plain(namespace) && plain(name)).then(|| Self::User(format!("system:serviceaccount:{namespace}:{name}")))
    }

    fn is(&self, caller: &Caller) -> bool {
        match self {
            Self::User(name) => *name == caller.user,
            Self::Group(name) => caller.groups.contains(name),
        }
    }
}

/// One licence profile.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Profile {
    /// Its name.
    pub name: Arc<str>,
    /// Who has it.
    pub subjects: Vec<Subject>,
    /// Operations and purposes that it allows.
    pub actions: BTreeSet<String>,
    /// Requests per UTC day, over all its subjects; no limit if unset.
    pub requests_per_day: Option<u64>,
}

/// The profiles of one connection.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Rights {
    /// In the order of the list: the first that allows a call is the one it is counted against.
    pub profiles: Vec<Profile>,
}

/// Why a call is refused.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Denial {
    /// The caller has no profile at all.
    NoProfile,
    /// The caller does not have the profile that he asked for.
    NotHisProfile,
    /// None of the profiles that count allows the action.
    Action,
}

impl Denial {
    /// The machine-readable code.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoProfile => "no_profile",
            Self::NotHisProfile => "profile_not_held",
            Self::Action => "action_not_allowed",
        }
    }
}

/// The outcome.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Judgement<'a> {
    /// Go on, counted against this profile.
    Allowed(&'a Profile),
    /// Stop.
    Denied {
        /// The profile that refused, where there is one.
        profile: Option<Arc<str>>,
        /// The action that is not allowed.
        action: String,
        /// Why.
        why: Denial,
    },
}

impl Rights {
    /// Whether `caller` may do `operation`, and by which profile.
    pub fn judge<'a>(&'a self, caller: &Caller, operation: &str) -> Judgement<'a> {
        let mut his = self.profiles.iter().filter(|p| p.subjects.iter().any(|s| s.is(caller))).peekable();
        let denied = |profile: Option<&Profile>, action: &str, why| Judgement::Denied {
            profile: profile.map(|p| Arc::clone(&p.name)),
            action: action.to_owned(),
            why,
        };
        if his.peek().is_none() {
            return denied(None, operation, Denial::NoProfile);
        }
        let wanted: Vec<&Profile> =
            his.filter(|p| caller.profile.as_deref().is_none_or(|name| *p.name == *name)).collect();
        let Some(first) = wanted.first() else { return denied(None, operation, Denial::NotHisProfile) };
        let refused = |p: &Profile| {
            let actions = std::iter::once(operation).chain(caller.purpose.as_deref());
            actions.map(str::to_owned).find(|action| !p.actions.contains(action))
        };
        match wanted.iter().find(|p| refused(p).is_none()) {
            Some(profile) => Judgement::Allowed(profile),
            None => denied(Some(first), &refused(first).unwrap_or_default(), Denial::Action),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(name: &str, subject: Subject, actions: &[&str]) -> Profile {
        let actions = actions.iter().map(ToString::to_string).collect();
        Profile { name: name.into(), subjects: vec![subject], actions, requests_per_day: None }
    }

    fn rights() -> Rights {
        Rights {
            profiles: vec![
                profile("desk", Subject::Group("traders".into()), &["quote"]),
                profile("research", Subject::User("ann".into()), &["quote", "earnings", "export_pdf"]),
                profile("robot", Subject::service_account("apps:robot").unwrap(), &["earnings"]),
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

    fn said(caller: &Caller, operation: &str) -> Result<String, (Option<String>, String, Denial)> {
        match rights().judge(caller, operation) {
            Judgement::Allowed(profile) => Ok(profile.name.to_string()),
            Judgement::Denied { profile, action, why } => Err((profile.map(|p| p.to_string()), action, why)),
        }
    }

    #[test]
    fn the_first_of_his_profiles_that_allows_everything_asked_for_counts() {
        assert_eq!(said(&ann(None, None), "quote"), Ok("desk".into()));
        assert_eq!(said(&ann(None, None), "earnings"), Ok("research".into()));
        assert_eq!(said(&ann(None, Some("export_pdf")), "quote"), Ok("research".into()));
    }

    #[test]
    fn a_header_chooses_among_his_profiles_and_adds_none() {
        assert_eq!(said(&ann(Some("research"), None), "quote"), Ok("research".into()));
        let refused = said(&ann(Some("desk"), None), "earnings").unwrap_err();
        assert_eq!(refused, (Some("desk".into()), "earnings".into(), Denial::Action));
        let refused = said(&ann(Some("robot"), None), "earnings").unwrap_err();
        assert_eq!(refused, (None, "earnings".into(), Denial::NotHisProfile));
    }

    #[test]
    fn a_purpose_is_checked_beside_the_operation_never_instead_of_it() {
        let refused = said(&ann(Some("desk"), Some("export_pdf")), "quote").unwrap_err();
        assert_eq!(refused, (Some("desk".into()), "export_pdf".into(), Denial::Action));
        let refused = said(&ann(Some("research"), Some("export_pdf")), "news").unwrap_err();
        assert_eq!(refused.1, "news");
    }

    #[test]
    fn who_is_in_no_profile_is_refused_and_a_user_called_like_a_group_is_not_in_it() {
        let stranger =
            Caller { user: "traders".into(), groups: vec![], profile: None, purpose: None, request_id: None };
        assert_eq!(said(&stranger, "quote").unwrap_err().2, Denial::NoProfile);
        let robot = Caller { user: "system:serviceaccount:apps:robot".into(), ..stranger };
        assert_eq!(said(&robot, "earnings"), Ok("robot".into()));
    }

    #[test]
    fn a_service_account_is_written_namespace_and_name() {
        for bad in ["robot", ":robot", "apps:", "system:serviceaccount:apps:robot"] {
            assert!(Subject::service_account(bad).is_none(), "{bad}");
        }
    }
}
