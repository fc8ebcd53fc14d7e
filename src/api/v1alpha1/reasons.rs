//! Every machine-readable word of status and events.

closed_enum!(
    /// Reason of a condition.
    Reason {
        /// The object is as asked.
        Accepted,
    }
);
