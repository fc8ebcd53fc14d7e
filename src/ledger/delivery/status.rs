//! How far a delivery is: published by Busbar, confirmed by its consumer.

use crate::domain::closed_list::closed_list;

/// Whether the broker has an event.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum PublishStatus {
    /// Not yet, or to be published again.
    Pending,
    /// The broker has confirmed it.
    Published,
}

impl PublishStatus {
    /// All values.
    pub const ALL: &'static [Self] = &[Self::Pending, Self::Published];

    /// The value as stored, and in HTTP responses.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Published => "published",
        }
    }
}

/// What the consumer has said of an event.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum DeliverStatus {
    /// Nothing.
    None,
    /// It has the event.
    Received,
    /// It has done what the event asks for. Final.
    Processed,
    /// It could not; the event can be redelivered.
    Failed,
}

impl DeliverStatus {
    /// All values.
    pub const ALL: &'static [Self] = &[Self::None, Self::Received, Self::Processed, Self::Failed];

    /// The value as stored, and in HTTP responses.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Received => "received",
            Self::Processed => "processed",
            Self::Failed => "failed",
        }
    }

    /// Whether the event counts as delivered.
    pub const fn is_delivered(self) -> bool {
        matches!(self, Self::Received | Self::Processed)
    }
}

/// What a consumer says of an event.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum ConfirmStatus {
    /// It has the event.
    Received,
    /// It has done what the event asks for.
    Processed,
    /// It could not.
    Failed,
}

impl ConfirmStatus {
    /// All values.
    pub const ALL: &'static [Self] = &[Self::Received, Self::Processed, Self::Failed];

    /// The value as stored, and in HTTP requests.
    pub const fn as_str(self) -> &'static str {
        self.status().as_str()
    }

    /// The status of a delivery of which it is said.
    pub const fn status(self) -> DeliverStatus {
        match self {
            Self::Received => DeliverStatus::Received,
            Self::Processed => DeliverStatus::Processed,
            Self::Failed => DeliverStatus::Failed,
        }
    }
}

/// What became of a confirmation.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum ConfirmOutcome {
    /// The consumer has no such event: it does not exist, or is another's.
    NotFound,
    /// The delivery has this status now.
    Applied(DeliverStatus),
    /// Said before; the delivery has this status.
    Repeated(DeliverStatus),
    /// Recorded, not applied: the delivery keeps this status.
    Recorded(DeliverStatus),
}

impl ConfirmOutcome {
    /// What becomes of `said` about a delivery with the status `current`; `is_known`: it was said before. What is processed
    /// stays so, whatever is said later.
    pub(crate) fn of(current: DeliverStatus, said: ConfirmStatus, is_known: bool) -> Self {
        if current == said.status() || (current == DeliverStatus::Processed && is_known) {
            return Self::Repeated(current);
        }
        match current {
            DeliverStatus::Processed => Self::Recorded(current),
            DeliverStatus::None | DeliverStatus::Received | DeliverStatus::Failed => Self::Applied(said.status()),
        }
    }
}

closed_list!(
    "reason of a failed publication",
    /// Why the broker did not take an event.
    PublishFailure {
        Nacked = "nacked":
            "The broker refused the event: a limit of the queue is reached, or the queue cannot store it."
            => "Read the queue, or raise its limit; the event is published again with backoff.",
        Returned = "returned":
            "No queue is bound for the event's routing key, so the broker returned it."
            => "Check the bindings of the consumer's queue; the event is published again with backoff.",
        TimedOut = "timed_out":
            "The broker did not confirm the event in time."
            => "Check the broker; the event is published again with the same message ID.",
        ConnectionLost = "connection_lost":
            "The connection to the broker ended before the event was confirmed."
            => "Check the broker and the network; the event is published again with the same message ID.",
        TooLarge = "too_large":
            "The event is larger than the broker accepts."
            => "Raise the broker's limit for messages; the event is published again with backoff.",
    }
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_processed_stays_so() {
        use ConfirmStatus as S;
        use DeliverStatus as D;
        let cases = [
            (D::None, S::Received, false, ConfirmOutcome::Applied(D::Received)),
            (D::None, S::Failed, false, ConfirmOutcome::Applied(D::Failed)),
            (D::Received, S::Received, true, ConfirmOutcome::Repeated(D::Received)),
            (D::Received, S::Processed, false, ConfirmOutcome::Applied(D::Processed)),
            (D::Received, S::Failed, false, ConfirmOutcome::Applied(D::Failed)),
            (D::Failed, S::Received, true, ConfirmOutcome::Applied(D::Received)),
            (D::Failed, S::Failed, true, ConfirmOutcome::Repeated(D::Failed)),
            (D::Processed, S::Processed, true, ConfirmOutcome::Repeated(D::Processed)),
            (D::Processed, S::Failed, false, ConfirmOutcome::Recorded(D::Processed)),
            (D::Processed, S::Failed, true, ConfirmOutcome::Repeated(D::Processed)),
            (D::Processed, S::Received, false, ConfirmOutcome::Recorded(D::Processed)),
        ];
        for (current, said, is_known, expected) in cases {
            assert_eq!(ConfirmOutcome::of(current, said, is_known), expected, "{current:?} {said:?} {is_known}");
        }
    }
}
