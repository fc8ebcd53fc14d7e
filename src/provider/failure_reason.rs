//! The codes of failed calls: one closed list for the gateway's errors, dead requests, metrics and traces.

use crate::domain::closed_list::closed_list;

closed_list!(
    "failure reason",
    /// Why a call to a connection failed.
    FailureReason {
        CircuitOpen = "circuit_open":
            "The circuit of the connection is open; nothing was sent."
            => "Retry after `Retry-After`; check the condition CircuitOpen of the connection.",
        Suspended = "suspended":
            "The connection is suspended; nothing was sent."
            => "Set `spec.suspend` of the connection to false.",
        BulkheadFull = "bulkhead_full":
            "Too many calls of the connection are in flight, because the provider is slow; nothing was sent."
            => "Retry after `Retry-After`; check the condition Healthy of the connection; see --gateway-connection-calls.",
        ConnectionChanged = "connection_changed":
            "The connection was deleted or moved to another endpoint before anything was sent."
            => "Retry; if it recurs, check what changes the connection.",
        QuotaExhausted = "quota_exhausted":
            "The requests that the connection's limits or the provider's plan allow are exhausted."
            => "Retry after `Retry-After`, or ask the provider for a higher limit.",
        RateLimited = "rate_limited":
            "Rate limited by the provider: its response to this call said so, such as a 429."
            => "Retry after `Retry-After`; reduce the load if it recurs.",
        Throttled = "throttled":
            "The provider's rate limit of an earlier call has not ended; nothing was sent."
            => "Retry after `Retry-After`; reduce the load if it recurs.",
        Timeout = "timeout":
            "No complete response from the provider in time."
            => "Retry, or allow more time with `deadline_ms` or `spec.timeout`.",
        Dns = "dns":
            "The host name of the provider could not be resolved."
            => "Check the base URL of the connection and the DNS of the cluster.",
        Connect = "connect":
            "No connection to the provider could be made."
            => "Check the base URL of the connection and the network; contact the provider.",
        Reset = "reset":
            "The connection to the provider closed before the response was complete."
            => "Retry; contact the provider if it recurs.",
        Tls = "tls":
            "The TLS handshake with the provider failed."
            => "Check `spec.tls` of the connection and the provider's certificate.",
        AddressRefused = "address_refused":
            "The host of the provider or its token endpoint has an address that is not allowed; nothing was sent."
            => "Use a public address, or have the administrator allow the range with --allow-provider-addresses.",
        TooLarge = "too_large":
            "The provider's response is larger than `maxResponseBytes` of the profile (4 MiB), or its headers than 64 KiB."
            => "Request less with the operation's parameters, such as a smaller page, or raise the limit in a profile.",
        TooComplex = "too_complex":
            "The provider's response has more JSON values than one per 8 bytes of `maxResponseBytes`, or one of its \
             records has more than 10000."
            => "Request less with the operation's parameters, such as a smaller page; contact the provider.",
        Overloaded = "overloaded":
            "No memory was left for the response, because too many large ones were being read. The provider did not fail."
            => "Retry after `Retry-After`; request smaller pages if it recurs.",
        Malformed = "malformed":
            "The provider's response is not valid HTTP, or has a content encoding that was not requested."
            => "Contact the provider.",
        ProviderError = "provider_error":
            "The provider responded with a temporary error, such as a 5xx, or with something else instead of JSON."
            => "Retry; check the condition Healthy of the connection.",
        CredentialsRefused = "credentials_refused":
            "The provider or its token endpoint rejected the credentials of the connection."
            => "Put valid credentials into the Secret of the connection; check its condition Authenticated.",
        NotInPlan = "not_in_plan":
            "The credentials were accepted, but the provider's plan does not include the operation."
            => "Extend the plan with the provider, or call another operation.",
        NoToken = "no_token":
            "The token endpoint returned no token, for a reason other than the credentials."
            => "Retry; contact the provider about its token endpoint if it recurs.",
        TokenCircuitOpen = "token_circuit_open":
            "The circuit of the token endpoint is open; nothing was sent."
            => "Retry later; check the condition Authenticated of the connection.",
        RefreshTokenNotKept = "refresh_token_not_kept":
            "A rotated refresh token could not be stored or loaded; no access token is used without it."
            => "See the condition Authenticated of the connection: its message names the cause.",
        BadRequest = "bad_request":
            "The request or a credential cannot be encoded for HTTP; nothing was sent."
            => "Correct the profile, the parameters, or the Secret of the connection.",
        Client = "client":
            "The HTTP client could not be built from the system's root certificates and `spec.tls`; nothing was sent."
            => "Install root certificates in the operator's image, or set `spec.tls.certSecretRef`.",
        UnexpectedShape = "unexpected_shape":
            "The provider's response does not have the fields of the canonical record."
            => "Compare the response (`shape=provider`) with the profile; report it if the profile is built in.",
        NotJson = "not_json":
            "The provider's body is not JSON, or is nested more than 64 levels deep, and cannot be part of a response."
            => "Call an operation that returns JSON.",
    }
);
