//! A payout with its stored form, which the identity of a commit, its entry of the audit and its row all need.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::OnceLock;

use crate::domain::payout::Payout;

/// A payout that is encoded once, when its bytes are first needed, and again only after it was changed.
#[derive(Clone)]
pub struct PayoutBody {
    payout: Payout,
    bytes: OnceLock<Vec<u8>>,
}

impl PayoutBody {
    /// The canonical JSON: what is stored.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get_or_init(|| self.payout.encode())
    }
}

impl From<Payout> for PayoutBody {
    fn from(payout: Payout) -> Self {
        Self { payout, bytes: OnceLock::new() }
    }
}

impl Deref for PayoutBody {
    type Target = Payout;

    fn deref(&self) -> &Payout {
        &self.payout
    }
}

impl DerefMut for PayoutBody {
    fn deref_mut(&mut self) -> &mut Payout {
        self.bytes = OnceLock::new();
        &mut self.payout
    }
}

impl fmt::Debug for PayoutBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.payout.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::PayoutBody;
    use crate::domain::payout::Payout;
    use crate::ledger::contract::decision_fixtures::attempt;
    use crate::ledger::contract::payout_fixtures::registration;

    fn tested() -> Payout {
        Payout::clone(&registration(&attempt("p1", 1, "a", 1), 1).payout)
    }

    #[test]
    fn a_changed_payout_is_encoded_again() {
        let mut body = PayoutBody::from(tested());
        let before = body.bytes().to_vec();
        assert_eq!(before, tested().encode());
        body.proposals += 1;
        assert_ne!(body.bytes(), before);
        assert_eq!(body.bytes(), body.encode());
    }
}
