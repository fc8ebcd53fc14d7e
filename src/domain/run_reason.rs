//! Reasons of sync runs.

use crate::domain::closed_list::closed_list;

closed_list!(
    "run reason",
    /// Why a run did not succeed, as in `status.history[].reason`, in the ledger and in the label `reason`.
    RunReason {
        ProviderUnreachable: "The provider did not respond completely: connect error, TLS error, timeout, or a connection that broke; or no access token was available." => "Check the address, the network policy and the provider.",
        ProviderError: "The provider responded with a transient error: 5xx, 408, 425, or another status that its profile declares as one." => "Contact the provider.",
        ErrorInBody: "The provider reported an error in the body of a successful response (2xx)." => "Compare the parameters of the job with the documentation of the provider; contact the provider.",
        AuthenticationFailed: "The provider rejected the credential." => "Check the condition Authenticated of the connection.",
        AccessDenied: "The provider denied access for this account or plan (402, 403)." => "Ask the provider for access, or remove the partition.",
        NotFound: "The requested resource was not found (404)." => "Correct spec.parameters or spec.partitions.",
        ItemGone: "The requested resource is permanently gone (410)." => "Remove the partition from the job.",
        RateLimited: "Rate limited by the provider (429), for longer than a run waits." => "None; retried after the provider's delay. Reduce the load if it recurs.",
        QuotaExhausted: "The requests allowed by the limits are exhausted, for longer than a run waits." => "Wait until the limit resets, or ask the provider for a higher limit.",
        EndOfData: "The provider returns no more of a longer list; the pages read are committed." => "Narrow the window: a later startTime, or more frequent runs.",
        DataNotReady: "The provider has not prepared the data of this account yet: it returns no token to go on from." => "None; the next run asks again. Contact the provider if it recurs.",
        Redirected: "The provider redirects to another address (3xx); redirects are not followed." => "Set endpoint.baseURL of the connection to the address of the provider's API.",
        RequestRejected: "The provider rejected the request: another 3xx or 4xx response." => "Compare the parameters of the job with the documentation of the provider.",
        CircuitOpen: "The circuit of the connection is open." => "Check the connection; the circuit retries automatically.",
        ConnectionSuspended: "The connection is suspended." => "Resume the connection.",
        ConnectionInvalid: "The settings of the connection do not permit calls, or changed during the run." => "Check the conditions of the connection.",
        AnswerTooLarge: "The response exceeds a limit: bytes (maxResponseBytes of the profile), values, levels, or the memory of a parsed page (24 MiB); or a window has more than 200000 records without an ID." => "Request smaller pages, or raise maxResponseBytes in a profile.",
        MemoryExhausted: "No memory was left for the response, because too many large ones were being read or stored." => "None; request smaller pages if it recurs.",
        BodyUnreadable: "The response is not JSON: a page of a proxy or login, a body that is cut off, an encoding that was not requested, or not HTTP." => "Check endpoint.baseURL of the connection and the proxies on the way; contact the provider.",
        SchemaDrifted: "The response has no list of records where the profile declares it, or none of three or more records of a page is valid; the page was not committed." => "Compare the response with the profile; correct the profile: emptyAs says what stands for an empty list.",
        DeadLetterBudgetExceeded: "The rejected records of a page exceed deadLetterBudgetPercent, and are more than five; the page was not committed." => "Compare the rejected records with the profile; correct the profile, or raise the budget.",
        CurrencyUnknown: "The currency of the account is missing or not in ISO 4217." => "Compare the response with money.currency of the stream; contact the provider.",
        TotalNotReached: "The list of the provider ended before its own total; the records read are committed." => "Contact the provider; if the total counts other records, remove total from the pagination in a profile of your own. The next run reads the window again.",
        RangeNotCovered: "The provider says that it can show only a part of the requested range, such as that of a consent; the records of that part are committed." => "Compare spec.startTime with the consent or plan at the provider; the next run continues from the last record.",
        PaginationUnreadable: "The next page could not be determined from the response; the records read are committed." => "Compare the response with the pagination in the profile.",
        PaginationCycle: "A page led back to itself or to an earlier one before the end of the list was known; the records read are committed." => "Report it to the provider; if that is how its lists end, say so with endAs in the profile. The next run starts the window over.",
        TooManyEmptyPages: "Too many consecutive pages were empty." => "Report it to the provider; the next run starts the window over.",
        PageCapReached: "The page limit of a run was reached." => "None; the next run continues from the last committed page.",
        WindowUnstable: "The provider's list kept changing during the run." => "None; the next run reads it again. Contact the provider if it recurs.",
        RunTimeout: "The run exceeded runTimeout." => "Raise runTimeout; the next run continues from the last committed page.",
        ParameterInvalid: "A parameter required by the stream is missing or invalid." => "Correct spec.parameters or spec.partitions.",
        LedgerUnavailable: "The ledger could not be read or written." => "Check the disk or server of the ledger; runs continue automatically.",
        KeyMissing: "The key of the ledger's account tokens is encrypted with a key that is no longer in --key-secret." => "Restore the key file in --key-secret.",
        CursorUnreadable: "The stored cursor cannot be parsed." => "Report it with the request ID.",
        LeaseLost: "Another process took over the run." => "None.",
        LeaseHeld: "Another process runs the job, or has served the slot." => "None.",
        StopRequested: "The run was stopped: job suspended or deleted, connection suspended or in maintenance, spec unusable or operator shut down." => "None; the next run continues from the last committed page.",
        StartingDeadlineExceeded: "A scheduled run could not start within startingDeadline." => "None; the next run starts at the next slot. Raise startingDeadline if it recurs.",
        JobFailed: "The Kubernetes Job of the run ended before the run did: its Pod could not start, was killed, ran out of memory, or exceeded its deadline." => "See the Job and the log of its Pod; raise jobTemplate.resources if it ran out of memory.",
        InternalError: "Internal error of Busbar." => "Report it with the request ID.",
    }
);

impl RunReason {
    /// Whether a walk that ends for this reason read a list to a point that is not known to be its end.
    pub const fn cuts_list_short(self) -> bool {
        matches!(
            self,
            Self::TotalNotReached
                | Self::RangeNotCovered
                | Self::EndOfData
                | Self::PaginationUnreadable
                | Self::PaginationCycle
                | Self::TooManyEmptyPages
                | Self::WindowUnstable
        )
    }
}
