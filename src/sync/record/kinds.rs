//! Records of the other canonical kinds.

use rust_decimal::Decimal;
use serde_json::Value;

use super::{RecordParser, Rejection, id_part, money, quality, reject, scalar, time};
use crate::domain::mask::plain_text;
use crate::domain::money::{Currency, parse_amount};
use crate::domain::record::BookingTime;
use crate::domain::records::{
    AccountRecord, ArticleRecord, BalanceRecord, CanonicalRecord, CollateralRecord, ObservationRecord, QuoteRecord,
    RecordIdentity,
};
use crate::domain::rejection_reason::RejectionReason;
use crate::profile::RecordKind;

/// Longest text of public data in characters; longer ones are truncated.
const MAX_PUBLIC_CHARS: usize = 4096;

impl RecordParser<'_> {
    /// Converts a record to a record of the stream's kind, which is neither a transaction nor a document. A blank id
    /// leaves the key empty, to be derived.
    pub fn canonical(&self, record: &Value) -> Result<CanonicalRecord, Rejection> {
        if !record.is_object() {
            return reject(RejectionReason::NotAnObject, "");
        }
        Ok(match self.stream.record {
            RecordKind::Account => CanonicalRecord::Account(self.account_record(record)?),
            RecordKind::Balance => CanonicalRecord::Balance(self.balance(record)?),
            RecordKind::Collateral => CanonicalRecord::Collateral(self.collateral(record)?),
            RecordKind::Quote => CanonicalRecord::Quote(self.quote(record)?),
            RecordKind::Observation => CanonicalRecord::Observation(self.observation(record)?),
            RecordKind::Article => CanonicalRecord::Article(self.article(record)?),
            RecordKind::Transaction | RecordKind::Document => return reject(RejectionReason::NotAnObject, ""),
        })
    }

    fn identity(&self, record: &Value, account_token: &str) -> Result<RecordIdentity, Rejection> {
        let key = self.key(record)?;
        Ok(RecordIdentity { account_token: account_token.to_owned(), key_quality: quality(&key), key })
    }

    fn account_record(&self, record: &Value) -> Result<AccountRecord, Rejection> {
        let key = self.key(record)?;
        if key.is_empty() {
            return reject(RejectionReason::KeyInvalid, &self.stream.key);
        }
        // The token of its transactions, so that both can be joined.
        let source = self.stream.account.as_ref();
        let id = match source.and_then(|source| source.pointer.as_ref()) {
            Some(pointer) => id_part(record, pointer)?.unwrap_or_else(|| key.clone()),
            None => key.clone(),
        };
        let of_job = source.is_some_and(|source| source.parameter.is_some());
        let mut account = self.account_named(record, &id);
        if of_job {
            account.token.clone_from(&self.account.token);
        }
        let text = |field| self.masked_text(record, field);
        Ok(AccountRecord {
            identity: RecordIdentity { account_token: account.token, key_quality: quality(&key), key },
            account: account.display,
            currency: self.currency(record)?,
            name: text("name")?,
            holder: text("holder")?,
            kind: self.public_text(record, "kind")?,
            status: self.public_text(record, "status")?,
            institution: self.public_text(record, "institution")?,
        })
    }

    fn balance(&self, record: &Value) -> Result<BalanceRecord, Rejection> {
        let account = self.account_of(record)?;
        let Some(amounts) = &self.stream.money else { return reject(RejectionReason::AmountMissing, "") };
        let amount = money::read(record, amounts, account.currency)?;
        Ok(BalanceRecord {
            identity: self.identity(record, &account.token)?,
            account: account.display.clone(),
            kind: self.public_text(record, "kind")?,
            amount: amount.money.amount,
            amount_minor: amount.minor,
            currency: amount.money.currency.to_string(),
            time: self.time(record)?,
        })
    }

    fn collateral(&self, record: &Value) -> Result<CollateralRecord, Rejection> {
        Ok(CollateralRecord {
            identity: self.identity(record, "")?,
            kind: self.masked_text(record, "kind")?,
            status: self.masked_text(record, "status")?,
            currency: self.currency(record)?,
            value: self.decimal(record, "value")?,
            net_value: self.decimal(record, "net_value")?,
            discounted_value: self.decimal(record, "discounted_value")?,
            valued: self.time(record)?,
            body: self.masked_body(record)?,
        })
    }

    fn quote(&self, record: &Value) -> Result<QuoteRecord, Rejection> {
        Ok(QuoteRecord {
            identity: self.identity(record, "")?,
            symbol: self.required_text(record, "symbol")?,
            name: self.public_text(record, "name")?,
            currency: self.currency(record)?,
            span: self.public_text(record, "span")?,
            price: match self.decimal(record, "price")? {
                Some(price) => price,
                None => return reject(RejectionReason::FieldMissing, self.first_pointer("price")),
            },
            open: self.decimal(record, "open")?,
            high: self.decimal(record, "high")?,
            low: self.decimal(record, "low")?,
            previous_close: self.decimal(record, "previous_close")?,
            volume: self.decimal(record, "volume")?,
            time: self.time(record)?,
        })
    }

    fn observation(&self, record: &Value) -> Result<ObservationRecord, Rejection> {
        let Some(field) = &self.stream.time else { return reject(RejectionReason::TimeMissing, "") };
        // A value that is not there at all is another response than the profile describes.
        let pointers = self.stream.fields.get("value").map(|field| field.at.as_slice()).unwrap_or_default();
        if !pointers.iter().any(|pointer| record.pointer(pointer).is_some()) {
            return reject(RejectionReason::FieldMissing, self.first_pointer("value"));
        }
        Ok(ObservationRecord {
            identity: self.identity(record, "")?,
            series: self.required_text(record, "series")?,
            on: time::observed_day(record, field)?,
            value: self.decimal(record, "value")?,
            known_from: self.day(record, "known_from")?,
            known_to: self.day(record, "known_to")?,
        })
    }

    fn article(&self, record: &Value) -> Result<ArticleRecord, Rejection> {
        let text = |field| self.public_text(record, field);
        Ok(ArticleRecord {
            identity: self.identity(record, "")?,
            url: self.required_text(record, "url")?,
            title: text("title")?,
            source: text("source")?,
            author: text("author")?,
            description: text("description")?,
            content: text("content")?,
            published: self.time(record)?,
        })
    }

    fn time(&self, record: &Value) -> Result<Option<BookingTime>, Rejection> {
        match &self.stream.time {
            Some(field) => time::optional(record, field, self.granularity),
            None => Ok(None),
        }
    }

    /// The value of a field, with its pointer.
    fn value<'r>(&self, record: &'r Value, field: &str) -> Option<(&'r Value, &str)> {
        let field = self.stream.fields.get(field)?;
        let found = field.at.iter().find_map(|pointer| {
            let value = record.pointer(pointer)?;
            (!value.is_null() && scalar(value).is_none_or(|text| !text.is_empty())).then_some((value, pointer.as_str()))
        })?;
        let is_none = scalar(found.0).is_some_and(|text| field.missing.contains(&text));
        (!is_none).then_some(found)
    }

    fn first_pointer(&self, field: &str) -> &str {
        self.stream.fields.get(field).and_then(|field| field.at.first()).map_or("", String::as_str)
    }

    /// A text that may name a person or an account, masked.
    pub(super) fn masked_text(&self, record: &Value, field: &str) -> Result<Option<String>, Rejection> {
        Ok(self.text(record, field)?.and_then(|text| self.mask.text(field, &text)))
    }

    /// A text of public data: masked only if the job has a rule for it.
    fn public_text(&self, record: &Value, field: &str) -> Result<Option<String>, Rejection> {
        if self.mask.fields.contains_key(field) {
            return self.masked_text(record, field);
        }
        Ok(self.text(record, field)?.and_then(|text| plain_text(&text, MAX_PUBLIC_CHARS)))
    }

    fn required_text(&self, record: &Value, field: &str) -> Result<String, Rejection> {
        match self.public_text(record, field)? {
            Some(text) => Ok(text),
            None => reject(RejectionReason::FieldMissing, self.first_pointer(field)),
        }
    }

    fn text(&self, record: &Value, field: &str) -> Result<Option<String>, Rejection> {
        let Some((value, pointer)) = self.value(record, field) else { return Ok(None) };
        match value {
            Value::Array(items) => {
                let texts: Vec<String> = items.iter().filter_map(scalar).collect();
                Ok(Some(texts.join(" ")).filter(|text| !text.is_empty()))
            }
            Value::Object(_) => reject(RejectionReason::FieldInvalid, pointer),
            plain => Ok(scalar(plain)),
        }
    }

    /// A decimal by its digits, from a JSON number or a text.
    fn decimal(&self, record: &Value, field: &str) -> Result<Option<Decimal>, Rejection> {
        let Some((value, pointer)) = self.value(record, field) else { return Ok(None) };
        let text = match value {
            Value::Number(number) => number.to_string(),
            Value::String(text) => text.trim().to_owned(),
            _ => return reject(RejectionReason::FieldInvalid, pointer),
        };
        match parse_amount(&text) {
            Ok(decimal) => Ok(Some(decimal.normalize())),
            Err(_) => reject(RejectionReason::FieldInvalid, pointer),
        }
    }

    /// A currency: three letters, in upper or lower case.
    fn currency(&self, record: &Value) -> Result<Option<String>, Rejection> {
        let Some((value, pointer)) = self.value(record, "currency") else { return Ok(None) };
        let code = value.as_str().map(|code| code.trim().to_ascii_uppercase());
        match code.as_deref().map(Currency::parse) {
            Some(Ok(currency)) => Ok(Some(currency.to_string())),
            _ => reject(RejectionReason::CurrencyUnknown, pointer),
        }
    }

    fn day(&self, record: &Value, field: &str) -> Result<Option<jiff::civil::Date>, Rejection> {
        let Some((value, pointer)) = self.value(record, field) else { return Ok(None) };
        match value.as_str().and_then(|text| text.trim().get(..10)?.parse().ok()) {
            Some(day) => Ok(Some(day)),
            None => reject(RejectionReason::FieldInvalid, pointer),
        }
    }
}
