//! The section of the reasons page about the HTTP API, from the enums that the gateway emits.

use std::fmt::Write as _;

use crate::api::reference::{code, row};
use crate::domain::rights::Denial;
use crate::gateway::error_code::ErrorCode;
use crate::gateway::fallback_code::FallbackResult;
use crate::provider::failure_reason::FailureReason;
use crate::work::dead_requests::reason::RetryReason;

/// Appends the codes of the HTTP API to the page of reasons.
pub(super) fn append(page: &mut String) {
    page.push_str(
        "\n## HTTP API errors\n\nCodes of the gateway's error responses and of dead requests, likewise a closed list.\n\n\
         ### `data.error`\n\n| error | status | meaning | remedy |\n|---|---|---|---|\n",
    );
    for error in ErrorCode::ALL {
        let other = error.final_status().map(|status| format!(", {}", status.as_str())).unwrap_or_default();
        let status = error.status().as_str().to_owned() + &other;
        row(page, &[&code(error.as_str()), &status, error.meaning(), error.remedy()]);
    }
    let failures = FailureReason::ALL.iter().map(|reason| [reason.as_str(), reason.meaning(), reason.remedy()]);
    let text = "`data.details.reason` of `provider_failed`, `circuit_open`, `bulkhead_full`, `quota_exhausted` and \
                `suspended`; `code` of a fallback in `data.details.stand_ins`; `reason` of a dead request.";
    section(page, "Failures", text, failures);
    let denials = Denial::ALL.iter().map(|reason| [reason.as_str(), reason.meaning(), reason.remedy()]);
    section(page, "Denials", "`data.details.reason` of `rights_denied`.", denials);
    let fallbacks = FallbackResult::ALL.iter().map(|code| [code.as_str(), code.meaning(), code.remedy()]);
    section(page, "Fallbacks", "Further codes of `data.details.stand_ins[].code`.", fallbacks);
    let retries = RetryReason::ALL.iter().map(|reason| [reason.as_str(), reason.meaning(), reason.remedy()]);
    section(page, "Dead requests", "Further values of `reason` of a dead request.", retries);
}

/// A table under a heading, of codes with meaning and remedy.
fn section(page: &mut String, heading: &str, text: &str, codes: impl Iterator<Item = [&'static str; 3]>) {
    let _ = write!(page, "\n### {heading}\n\n{text}\n\n| code | meaning | remedy |\n|---|---|---|\n");
    for [name, meaning, remedy] in codes {
        row(page, &[&code(name), meaning, remedy]);
    }
}
