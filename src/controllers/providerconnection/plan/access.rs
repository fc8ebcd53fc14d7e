//! Who may call, who stands in, what is switched on. Pure.

use std::sync::Arc;

use crate::api::v1alpha1::common::Switch;
use crate::api::v1alpha1::provider_connection::{ProviderConnectionSpec, RightsProfile, SubjectKind};
use crate::api::v1alpha1::reasons::Reason;
use crate::controllers::resolve::Problem;
use crate::domain::rights::{Profile, Rights, Subject};
use crate::provider::settings::{Draft, StandIn};

/// Fills rights, stand-ins and features.
pub(super) fn access(spec: &ProviderConnectionSpec, draft: &mut Draft) -> Result<(), Problem> {
    if let Some(rights) = &spec.rights {
        let profiles = rights.profiles.iter().map(profile).collect::<Result<_, _>>()?;
        draft.rights = Some(Arc::new(Rights { profiles }));
    }
    for stand_in in spec.fallback.iter().flatten() {
        draft.fallback.push(StandIn {
            name: stand_in.name.to_string(),
            operations: stand_in.operations.as_ref().map(|list| list.iter().map(ToString::to_string).collect()),
            connection: stand_in.connection_ref.name.to_string(),
        });
    }
    for (name, switch) in spec.features.iter().flat_map(|features| features.iter()) {
        let Some(on) = draft.features.get_mut(name.as_str()) else {
            let known: Vec<_> = draft.profile.features.keys().map(String::as_str).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            let problem = format!("has no such switch in the profile {:?}; it has: {known}", draft.profile.id);
            return Err(Problem::invalid(&format!("features.{name}"), problem));
        };
        *on = *switch == Switch::Enabled;
    }
    Ok(())
}

fn profile(written: &RightsProfile) -> Result<Profile, Problem> {
    let subjects = written.subjects.iter().map(|subject| match subject.kind {
        SubjectKind::User => Ok(Subject::User(subject.value.clone())),
        SubjectKind::Group => Ok(Subject::Group(subject.value.clone())),
        SubjectKind::ServiceAccount => Subject::service_account(&subject.value).ok_or_else(|| {
            let field = format!("rights.profiles[{}].subjects[{}].value", written.name, subject.name);
            Problem::invalid(&field, "must be namespace:name for a ServiceAccount")
        }),
        // To ignore such a subject would lock its consumer out without a word; to guess one would let somebody in.
        SubjectKind::Consumer => Err(Problem::stalled(
            Reason::NotImplemented,
            format!(
                "spec.rights.profiles[{}].subjects[{}] is of kind Consumer, which this version of Busbar does not know \
                 yet: name a User, a Group or a ServiceAccount",
                written.name, subject.name
            ),
        )),
    });
    Ok(Profile {
        name: written.name.to_string().into(),
        subjects: subjects.collect::<Result<_, _>>()?,
        actions: written.actions.iter().map(ToString::to_string).collect(),
        requests_per_day: written.requests_per_day.and_then(|n| u64::try_from(n).ok()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::profile::{Environment, Profiles};

    fn draft(provider: &str, fields: &str) -> Result<Draft, Problem> {
        let text = format!("{{provider: {provider}, environment: Sandbox, {fields}}}");
        let spec: ProviderConnectionSpec = serde_yaml::from_str(&text).unwrap();
        let mut draft = Draft::new(Profiles::builtin().unwrap().get(provider).unwrap(), Environment::Sandbox);
        access(&spec, &mut draft).map(|()| draft)
    }

    fn rights(subject: &str) -> Result<Draft, Problem> {
        draft("fmp", &format!("rights: {{profiles: [{{name: desk, subjects: [{subject}], actions: [quote]}}]}}"))
    }

    #[test]
    fn a_service_account_is_the_user_that_the_api_server_knows_and_a_consumer_is_not_implemented() {
        let desk = rights("{name: a, kind: ServiceAccount, value: 'apps:desk'}").unwrap();
        let subject = &desk.rights.unwrap().profiles[0].subjects[0];
        assert_eq!(*subject, Subject::User("system:serviceaccount:apps:desk".to_owned()));
        let problem = rights("{name: a, kind: ServiceAccount, value: desk}").err().unwrap();
        assert_eq!(problem.reason, Reason::InvalidSpec);
        let problem = rights("{name: a, kind: Consumer, value: shop}").err().unwrap();
        assert_eq!(problem.reason, Reason::NotImplemented);
    }

    #[test]
    fn a_switch_is_the_profiles_unless_the_spec_says_otherwise_and_an_unknown_one_is_an_error() {
        let usual = draft("finastra", "").unwrap();
        assert!(usual.features["b2b-routes"] && !usual.features["b2c-stubs"]);
        let turned = draft("finastra", "features: {b2c-stubs: Enabled, b2b-routes: Disabled}").unwrap();
        assert!(!turned.features["b2b-routes"] && turned.features["b2c-stubs"]);
        let problem = draft("finastra", "features: {b2x: Enabled}").err().unwrap();
        assert!(problem.message.contains("b2b-routes, b2c-stubs"), "{}", problem.message);
    }
}
