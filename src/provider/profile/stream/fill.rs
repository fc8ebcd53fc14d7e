//! A stream as one job reads it: parameters checked, placeholders in pointers and names replaced by their values.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Pagination, Stream};
use crate::provider::profile::parameter::{self, ParameterError};
use crate::provider::profile::template::Template;

impl Stream {
    /// The values in force for a job that gives `given`: checked, with the defaults of the rest, over the connection's
    /// own (`endpoint`).
    pub fn values(
        &self,
        given: &BTreeMap<String, String>,
        endpoint: &BTreeMap<String, String>,
    ) -> Result<BTreeMap<String, String>, ParameterError> {
        let mut values = endpoint.clone();
        values.extend(parameter::admit(&self.parameters, given)?);
        Ok(values)
    }

    /// The stream with `values` in its pointers and names. Paths and query values keep their placeholders.
    #[must_use]
    pub fn filled(self: &Arc<Self>, values: &BTreeMap<String, String>) -> Arc<Self> {
        if !self.filled_texts().iter().any(|text| text.contains('{')) {
            return Arc::clone(self);
        }
        let mut own = Self::clone(self);
        for text in own.filled_texts_mut() {
            // What cannot be filled stays as it is, and leads nowhere: the checks of the profile exclude it.
            if let Some(filled) = Template::parse(text).ok().and_then(|template| template.value(values).ok()) {
                *text = filled;
            }
        }
        Arc::new(own)
    }

    /// The texts that may hold placeholders.
    pub(super) fn filled_texts(&self) -> Vec<&String> {
        let mut texts = vec![&self.key];
        texts.extend(&self.records);
        texts.extend(self.time.iter().map(|time| &time.pointer));
        if let Pagination::Offset { parameter, total, size_parameter, .. } = &self.pagination {
            texts.extend([parameter, size_parameter]);
            texts.extend(total);
        }
        texts
    }

    fn filled_texts_mut(&mut self) -> Vec<&mut String> {
        let mut texts = vec![&mut self.key];
        texts.extend(&mut self.records);
        texts.extend(self.time.iter_mut().map(|time| &mut time.pointer));
        if let Pagination::Offset { parameter, total, size_parameter, .. } = &mut self.pagination {
            texts.extend([parameter, size_parameter]);
            texts.extend(total);
        }
        texts
    }
}
