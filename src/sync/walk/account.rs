//! The account that the records of a partition belong to, and the request for what they do not say about it.

use super::Walk;
use super::parsed_page::page_error;
use crate::domain::run_reason::RunReason;
use crate::profile::{Amounts, CurrencySource};
use crate::provider::call::Request;
use crate::sync::body_text;
use crate::sync::context::RunTotals;
use crate::sync::failure_detail;
use crate::sync::record::AccountInfo;
use crate::sync::report::RunError;

impl Walk<'_> {
    /// The account: token, masked number, and its currency if the records hold none.
    pub(super) async fn account(&self, totals: &mut RunTotals) -> Result<AccountInfo, RunError> {
        let (stream, parameters) = (&self.stream, &self.partition.parameters);
        let id = match stream.account.as_ref().and_then(|account| account.parameter.as_ref()) {
            Some(parameter) => parameters.get(parameter).cloned().ok_or_else(|| {
                let missing = format!("the parameter {parameter} is missing");
                RunError::from(RunReason::ParameterInvalid).with_detail(missing)
            })?,
            None => String::new(),
        };
        let token = self.token_key.account(&self.plan.job.namespace, &self.plan.connection, &id);
        let mask = self.plan.mask.clone().with_key(self.scope().mask_key());
        let mut info = AccountInfo { token, display: mask.account(&id), currency: None };
        let Some(Amounts { currency: CurrencySource::Join { path, pointers }, minor_units, .. }) = &stream.money else {
            return Ok(info);
        };
        let path = path.path(parameters).map_err(|_| RunReason::ParameterInvalid)?;
        let operation = format!("{}.account", self.plan.stream_name);
        let request = Request::get(operation.as_str(), path);
        let began = self.cx.clock.mono();
        let response = self.call(self.with_call_options(request, "account")).await;
        totals.fetch_time += self.cx.clock.mono().since(began);
        let response = response?;
        let numbers = stream.account.iter().flat_map(|account| &account.number);
        let wanted: Vec<String> = pointers.iter().chain(numbers).cloned().collect();
        let body = self.body_text(&response).await?;
        let read = move || body_text::texts(&body, &wanted.iter().map(String::as_str).collect::<Vec<_>>());
        let texts = response.memory.run(response.body.len(), read).await.map_err(|_| RunReason::InternalError)?;
        let texts = texts.map_err(|reason| page_error(reason, &response, stream))?;
        let (currencies, numbers) = texts.split_at_checked(pointers.len()).unwrap_or_default();
        info.currency = currencies.iter().flatten().find_map(|text| minor_units.currency(text));
        if info.currency.is_none() {
            // A guessed exponent would be wrong by a factor of 100 for some currencies.
            let looked = failure_detail::no_currency(&operation, pointers);
            let error = RunError::from(RunReason::CurrencyUnknown).with_detail(looked);
            return Err(RunError { http_status: Some(response.status.as_u16()), ..error });
        }
        if let Some(number) = numbers.iter().flatten().find(|number| !number.trim().is_empty()) {
            info.display = mask.account(number.trim());
        }
        Ok(info)
    }
}
