//! A stream as one job reads it: parameters validated, placeholders in pointers and names expanded.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::definition::Stream;
use super::pagination::Pagination;
use crate::profile::parameter::{self, ParameterError};
use crate::profile::template::Template;

impl Stream {
    /// The effective values for a job that sets `given`: validated, with the defaults of the others, on top of the
    /// connection's own (`endpoint`).
    pub fn effective_values(
        &self,
        given: &BTreeMap<String, String>,
        endpoint: &BTreeMap<String, String>,
    ) -> Result<BTreeMap<String, String>, ParameterError> {
        let mut values = endpoint.clone();
        values.extend(parameter::effective_values(&self.parameters, given)?);
        Ok(values)
    }

    /// The stream with its pointers and names expanded. Paths and query values keep their placeholders.
    #[must_use]
    pub fn expanded(self: &Arc<Self>, values: &BTreeMap<String, String>) -> Arc<Self> {
        if !self.expandable_texts().iter().any(|text| text.contains('{')) {
            return Arc::clone(self);
        }
        let mut own = Self::clone(self);
        for text in own.expandable_texts_mut() {
            // A text that cannot be expanded stays unchanged and matches nothing; validation rules that out.
            if let Some(expanded) = Template::parse(text).ok().and_then(|template| template.value(values).ok()) {
                *text = expanded;
            }
        }
        Arc::new(own)
    }

    /// The texts that may contain placeholders.
    pub(super) fn expandable_texts(&self) -> Vec<&String> {
        let mut texts = vec![&self.key];
        texts.extend(&self.records);
        texts.extend(self.add.values());
        texts.extend(self.time.iter().map(|time| &time.pointer));
        if let Pagination::Offset { parameter, total, size_parameter, .. } = &self.pagination {
            texts.extend([parameter, size_parameter]);
            texts.extend(total);
        }
        texts
    }

    fn expandable_texts_mut(&mut self) -> Vec<&mut String> {
        let mut texts = vec![&mut self.key];
        texts.extend(&mut self.records);
        texts.extend(self.add.values_mut());
        texts.extend(self.time.iter_mut().map(|time| &mut time.pointer));
        if let Pagination::Offset { parameter, total, size_parameter, .. } = &mut self.pagination {
            texts.extend([parameter, size_parameter]);
            texts.extend(total);
        }
        texts
    }
}
