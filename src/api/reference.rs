//! Reference pages printed from the types. To be written.
