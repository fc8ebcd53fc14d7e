//! What a job does to each record besides converting it: masks and validation rules.

use std::sync::Arc;

use crate::api::v1alpha1::sync_job::{MaskRule, SyncJobSpec};
use crate::domain::mask::{Mask, MaskRules};
use crate::profile::RecordKind;
use crate::resolve::spec_error::SpecError;
use crate::settings::validation::{RuleSource, Validations};

/// Resolves the masks of a job. The key of tokens is the ledger's: it is known when a run starts.
pub(super) fn mask(spec: &SyncJobSpec) -> MaskRules {
    let rule = |rule: &MaskRule| match rule {
        MaskRule::Drop => Mask::Drop,
        MaskRule::Last4 => Mask::Last4,
        MaskRule::Token => Mask::Token,
    };
    let fields = spec.mask.iter().flatten().map(|(field, mask)| (field.clone(), rule(mask)));
    MaskRules { fields: fields.collect(), key: None }
}

/// Compiles the rules of a job over records of `kind`.
pub(super) fn validations(spec: &SyncJobSpec, kind: RecordKind) -> Result<Arc<Validations>, SpecError> {
    let listed = spec.validations.as_deref().unwrap_or_default();
    let sources = listed.iter().map(|rule| RuleSource {
        name: rule.name.to_string(),
        rule: rule.rule.clone(),
        message: rule.message.clone(),
    });
    Validations::compile(kind, sources.collect()).map_err(|(index, problem)| {
        let name = listed.get(index).map(|rule| rule.name.to_string()).unwrap_or_default();
        SpecError::invalid(
            &format!("validations[{index}].rule"),
            format_args!("({name}) cannot be compiled: {problem}"),
        )
    })
}
