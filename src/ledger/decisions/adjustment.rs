//! Temporary Ops weights and pins that are kept in the ledger, beside those of the routes' specs.

use jiff::Timestamp;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::domain::canonical::{decimal, instant, to_bytes, uuid_text};
use crate::domain::route::AdjustmentScope;

/// Adjustments of a namespace at a time: each decision reads all of its route.
pub const MAX_ADJUSTMENTS: u64 = 256;

/// A temporary weight or pin.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RouteAdjustment {
    /// Its beginning.
    #[serde(with = "instant")]
    pub created_at: Timestamp,
    /// The caller.
    pub created_by: String,
    /// What it does.
    pub effect: AdjustmentEffect,
    /// Its end.
    #[serde(with = "instant")]
    pub expires_at: Timestamp,
    /// Its ID, which is also its entry's.
    #[serde(with = "uuid_text")]
    pub id: Uuid,
    /// The namespace of the routes.
    pub namespace: String,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The route; all routes of the namespace without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// The payouts that it applies to.
    #[serde(with = "scope")]
    pub scope: AdjustmentScope,
    /// The bank.
    pub target: AdjustmentTarget,
}

/// What an adjustment does.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdjustmentEffect {
    /// Multiplies the cost.
    Weight(#[serde(with = "decimal")] Decimal),
    /// Chooses the candidate while it is eligible.
    Pin,
}

/// How an adjustment names its bank.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdjustmentTarget {
    /// By the candidate's name.
    Candidate(String),
    /// By the ID of its bank profile.
    BankProfile(String),
}

/// The beginning or the end of an adjustment.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdjustmentChange {
    /// It begins.
    Create(RouteAdjustment),
    /// It ends before its time.
    Delete {
        /// The adjustment.
        #[serde(with = "uuid_text")]
        adjustment: Uuid,
        /// When.
        #[serde(with = "instant")]
        at: Timestamp,
        /// The entry's ID.
        #[serde(with = "uuid_text")]
        id: Uuid,
        /// The namespace of the routes.
        namespace: String,
        /// The caller.
        subject: String,
    },
}

impl AdjustmentChange {
    /// The entry's ID.
    pub const fn id(&self) -> Uuid {
        match self {
            Self::Create(adjustment) => adjustment.id,
            Self::Delete { id, .. } => *id,
        }
    }

    /// The entry's body.
    pub fn encode(&self) -> Vec<u8> {
        to_bytes(self)
    }

    /// The change in an entry's body; `None` if it is none.
    pub fn decode(body: &[u8]) -> Option<Self> {
        serde_json::from_slice(body).ok()
    }
}

impl RouteAdjustment {
    /// As stored beside the chain.
    pub(crate) fn encode(&self) -> Vec<u8> {
        to_bytes(self)
    }

    /// As stored beside the chain; `None` if it is none.
    pub(crate) fn decode(body: &[u8]) -> Option<Self> {
        serde_json::from_slice(body).ok()
    }
}

/// A scope as `Global`, `Country/SN` or `Merchant/id`.
mod scope {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::domain::route::AdjustmentScope;

    pub(super) fn serialize<S: Serializer>(scope: &AdjustmentScope, to: S) -> Result<S::Ok, S::Error> {
        match scope {
            AdjustmentScope::Global => to.serialize_str("Global"),
            AdjustmentScope::Country(country) => to.collect_str(&format_args!("Country/{country}")),
            AdjustmentScope::Merchant(merchant) => to.collect_str(&format_args!("Merchant/{merchant}")),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<AdjustmentScope, D::Error> {
        let text = String::deserialize(from)?;
        match text.split_once('/') {
            None if text == "Global" => Ok(AdjustmentScope::Global),
            Some(("Country", country)) => Ok(AdjustmentScope::Country(country.to_owned())),
            Some(("Merchant", merchant)) => Ok(AdjustmentScope::Merchant(merchant.to_owned())),
            _ => Err(serde::de::Error::custom("not a scope")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_adjustment_is_read_back_from_its_canonical_body() {
        let one = |scope, effect, target, reason: Option<&str>| RouteAdjustment {
            created_at: "2026-11-29T10:00:00.123Z".parse().unwrap(),
            created_by: "ops".into(),
            effect,
            expires_at: "2026-11-29T11:00:00Z".parse().unwrap(),
            id: Uuid::from_u128(7),
            namespace: "pay".into(),
            reason: reason.map(Into::into),
            route: None,
            scope,
            target,
        };
        let weight = AdjustmentEffect::Weight("0.80".parse().unwrap());
        let target = AdjustmentTarget::Candidate("a".into());
        let first = AdjustmentChange::Create(one(AdjustmentScope::Global, weight, target.clone(), None));
        let body = String::from_utf8(first.encode()).unwrap();
        assert_eq!(
            body,
            "{\"create\":{\"created_at\":\"2026-11-29T10:00:00.123Z\",\"created_by\":\"ops\",\
             \"effect\":{\"weight\":\"0.8\"},\"expires_at\":\"2026-11-29T11:00:00.000Z\",\
             \"id\":\"00000000-0000-0000-0000-000000000007\",\"namespace\":\"pay\",\"scope\":\"Global\",\
             \"target\":{\"candidate\":\"a\"}}}"
        );
        let merchant = AdjustmentScope::Merchant("m/1".into());
        let by_profile = AdjustmentTarget::BankProfile("b".into());
        for change in [
            first,
            AdjustmentChange::Create(one(
                AdjustmentScope::Country("SN".into()),
                AdjustmentEffect::Pin,
                target,
                Some("x"),
            )),
            AdjustmentChange::Create(one(merchant, AdjustmentEffect::Pin, by_profile, None)),
            AdjustmentChange::Delete {
                adjustment: Uuid::from_u128(7),
                at: "2026-11-29T10:30:00Z".parse().unwrap(),
                id: Uuid::from_u128(8),
                namespace: "pay".into(),
                subject: "ops".into(),
            },
        ] {
            assert_eq!(AdjustmentChange::decode(&change.encode()), Some(change));
        }
    }
}
