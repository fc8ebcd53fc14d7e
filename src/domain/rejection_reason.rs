//! Reasons of rejected records.

use crate::domain::closed_list::closed_list;

closed_list!(
    "rejection reason",
    /// Why a record was rejected, as stored with its dead letter.
    RejectionReason {
        NotAnObject: "The record is not a JSON object." => "Compare the response with records of the stream.",
        RecordTooLarge: "The document exceeds the size limit of a record." => "Contact the provider.",
        KeyInvalid: "The ID is neither text nor a number, contains a NUL or a character that is not valid, or is too long." => "Compare the record with key of the stream.",
        TimeMissing: "The booking time is missing." => "Compare the record with time of the stream.",
        TimeInvalid: "The booking time cannot be parsed." => "Compare the record with time of the stream.",
        TimeOutOfRange: "The year of the booking time is not plausible." => "Compare the unit of the time with time.encoding of the stream.",
        CurrencyUnknown: "The currency is missing or not in ISO 4217." => "Compare the record with money.currency of the stream.",
        AmountMissing: "The amount is missing." => "Compare the record with money.amount of the stream.",
        AmountNotInteger: "The amount is not a whole number of minor units." => "Compare the record with money.repr of the stream.",
        AmountNotText: "The amount is not a decimal in quotes." => "Compare the record with money.repr of the stream.",
        AmountNotNumber: "The amount is not a JSON number." => "Compare the record with money.repr of the stream.",
        AmountInvalid: "The amount cannot be parsed, or is out of range." => "Contact the provider.",
        AmountTooFine: "The amount has more digits than the minor unit of its currency." => "Contact the provider; amounts are never rounded.",
        AmountSigned: "The amount has a sign although the sign is declared elsewhere." => "Compare the record with money.sign of the stream.",
        DirectionMissing: "The direction of the amount is missing." => "Compare the record with money.sign of the stream.",
        AccountMissing: "The record names no account." => "Compare the record with account.pointer of the stream.",
        FieldMissing: "A required field is missing." => "Compare the record with fields of the stream.",
        FieldInvalid: "A field has an unexpected type, or is a number that cannot be parsed." => "Compare the record with fields of the stream.",
        StatusUnknown: "The status is neither among the declared pending values nor among the booked ones." => "Compare the record with status of the stream.",
        ValidationFailed: "The record fails a rule of spec.validations, or the rule has no outcome for it." => "Compare the record with the rule named in path.",
        DirectionUnknown: "The direction of the amount is neither the declared credit nor the declared debit." => "Compare the record with money.sign of the stream.",
    }
);
