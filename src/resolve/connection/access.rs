//! Resolves rights, fallbacks and features of a spec. Pure.

use std::sync::Arc;

use crate::api::v1alpha1::common::Switch;
use crate::api::v1alpha1::provider_connection::{ProviderConnectionSpec, RightsProfile, SubjectKind};
use crate::domain::rights::{LicenceProfile, LicenceSubject, Rights};
use crate::resolve::spec_error::SpecError;
use crate::settings::{Draft, FallbackTarget};

/// Adds rights, fallbacks and features to the draft.
pub(super) fn access(spec: &ProviderConnectionSpec, draft: &mut Draft) -> Result<(), SpecError> {
    if let Some(rights) = &spec.rights {
        let profiles = rights.profiles.iter().map(profile).collect::<Result<_, _>>()?;
        draft.rights = Some(Arc::new(Rights { profiles }));
    }
    for fallback in spec.fallback.iter().flatten() {
        draft.fallback.push(FallbackTarget {
            name: fallback.name.to_string(),
            operations: fallback.operations.as_ref().map(|list| list.iter().map(ToString::to_string).collect()),
            connection: fallback.connection_ref.name.to_string(),
        });
    }
    for (name, switch) in spec.features.iter().flat_map(|features| features.iter()) {
        let Some(enabled) = draft.features.get_mut(name.as_str()) else {
            let known: Vec<_> = draft.profile.features.keys().map(String::as_str).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            let problem = format!("is not a feature of profile {:?}; available: {known}", draft.profile.id);
            return Err(SpecError::invalid(&format!("features.{name}"), problem));
        };
        *enabled = *switch == Switch::Enabled;
    }
    Ok(())
}

fn profile(spec: &RightsProfile) -> Result<LicenceProfile, SpecError> {
    let subjects = spec.subjects.iter().map(|subject| match subject.kind {
        SubjectKind::User => Ok(LicenceSubject::User(subject.value.clone())),
        SubjectKind::Group => Ok(LicenceSubject::Group(subject.value.clone())),
        SubjectKind::ServiceAccount => LicenceSubject::service_account(&subject.value).ok_or_else(|| {
            let field = format!("rights.profiles[{}].subjects[{}].value", spec.name, subject.name);
            SpecError::invalid(&field, "must be namespace:name for a ServiceAccount")
        }),
        SubjectKind::Consumer => LicenceSubject::consumer(&subject.value).ok_or_else(|| {
            let field = format!("rights.profiles[{}].subjects[{}].value", spec.name, subject.name);
            SpecError::invalid(&field, "must be the name of a consumer: 1 to 63 of a-z, 0-9 and _")
        }),
    });
    Ok(LicenceProfile {
        name: spec.name.to_string().into(),
        subjects: subjects.collect::<Result<_, _>>()?,
        actions: spec.actions.iter().map(ToString::to_string).collect(),
        requests_per_day: spec.requests_per_day.and_then(|n| u64::try_from(n).ok()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::v1alpha1::reasons::Reason;
    use crate::profile::{Environment, Profiles};

    fn draft(provider: &str, fields: &str) -> Result<Draft, SpecError> {
        let text = format!("{{provider: {provider}, environment: Sandbox, {fields}}}");
        let spec: ProviderConnectionSpec = serde_yaml::from_str(&text).unwrap();
        let mut draft = Draft::new(Profiles::builtin().unwrap().get(provider).unwrap(), Environment::Sandbox);
        access(&spec, &mut draft).map(|()| draft)
    }

    fn rights(subject: &str) -> Result<Draft, SpecError> {
        draft("fmp", &format!("rights: {{profiles: [{{name: readers, subjects: [{subject}], actions: [quote]}}]}}"))
    }

    #[test]
    fn service_accounts_and_consumers_become_their_user_names() {
        let draft = rights("{name: a, kind: ServiceAccount, value: 'apps:reader'}").unwrap();
        let subject = &draft.rights.unwrap().profiles[0].subjects[0];
        assert_eq!(*subject, LicenceSubject::User("system:serviceaccount:apps:reader".to_owned()));
        let error = rights("{name: a, kind: ServiceAccount, value: reader}").err().unwrap();
        assert_eq!(error.reason, Reason::InvalidSpec);
        let draft = rights("{name: a, kind: Consumer, value: shop_1}").unwrap();
        assert!(draft.rights.unwrap().names_user("busbar:consumer:shop_1"));
        let error = rights("{name: a, kind: Consumer, value: Shop-1}").err().unwrap();
        assert_eq!(error.reason, Reason::InvalidSpec);
    }

    #[test]
    fn the_spec_overrides_the_profiles_features_and_an_unknown_one_is_an_error() {
        let default = draft("finastra", "").unwrap();
        assert!(default.features["b2b-routes"] && !default.features["b2c-stubs"]);
        let overridden = draft("finastra", "features: {b2c-stubs: Enabled, b2b-routes: Disabled}").unwrap();
        assert!(!overridden.features["b2b-routes"] && overridden.features["b2c-stubs"]);
        let error = draft("finastra", "features: {b2x: Enabled}").err().unwrap();
        assert!(error.message.contains("b2b-routes, b2c-stubs"), "{}", error.message);
    }
}
