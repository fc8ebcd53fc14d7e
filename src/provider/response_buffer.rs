//! What is made of a response, as it is written: up to a limit, and only into memory that is reserved.

use std::io;

use bytes::Bytes;

use crate::provider::memory::{FREE_BYTES, Reservation};

/// Bytes reserved at once: few reservations, little of them unused.
const STEP: usize = 256 * 1024;

/// Why a buffer is full.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Full {
    /// What is written exceeds the limit.
    Limit,
    /// No memory is left.
    Memory,
}

/// A buffer for what is made of a response.
#[derive(Debug)]
pub struct ResponseBuffer {
    bytes: Vec<u8>,
    limit: usize,
    memory: Reservation,
    full: Option<Full>,
}

impl ResponseBuffer {
    /// An empty buffer for at most `limit` bytes, whose memory is reserved with `memory`. It never waits: a wait
    /// while a response is held could be one for itself.
    pub fn new(limit: usize, memory: Reservation) -> Self {
        Self { bytes: Vec::new(), limit, memory, full: None }
    }

    /// Why the last write failed.
    pub fn full(&self) -> Option<Full> {
        self.full
    }

    /// What was written; it keeps its memory reserved.
    pub fn finish(self) -> Bytes {
        self.memory.attach(Bytes::from(self.bytes))
    }

    fn reserve(&mut self, bytes: usize) -> Result<(), Full> {
        if bytes > self.limit {
            return Err(Full::Limit);
        }
        if bytes <= FREE_BYTES || bytes <= self.memory.bytes() {
            return Ok(());
        }
        let ahead = bytes.next_multiple_of(STEP).min(self.limit).max(bytes);
        if self.memory.try_grow_to(ahead) || self.memory.try_grow_to(bytes) { Ok(()) } else { Err(Full::Memory) }
    }
}

impl io::Write for ResponseBuffer {
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        if let Err(full) = self.reserve(self.bytes.len().saturating_add(part.len())) {
            self.full = Some(full);
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.bytes.extend_from_slice(part);
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::metrics::Metrics;
    use crate::provider::memory::{MemoryBudget, MemoryLimits};
    use crate::tasks::TaskGroup;

    const MIB: usize = 1024 * 1024;

    #[test]
    fn a_buffer_is_full_at_its_limit_or_when_no_memory_is_left() {
        let limits = MemoryLimits { responses: 2 * MIB, ..MemoryLimits::default() };
        let budget = MemoryBudget::new(limits, TaskGroup::default(), &Metrics::new()).unwrap();
        let connection = budget.connection(&"team".into(), MIB);
        let body = connection.reservation();
        assert!(body.try_grow_to(MIB));
        let mut buffer = ResponseBuffer::new(4 * MIB, body.another());
        let part = vec![b'x'; FREE_BYTES];
        let written = std::iter::repeat_with(|| buffer.write(&part)).take_while(Result::is_ok).count();
        assert_eq!((written * FREE_BYTES, buffer.full()), (MIB, Some(Full::Memory)));
        let bytes = buffer.finish();
        assert!(!body.try_grow_to(MIB + 1), "what was written keeps its memory");
        drop(bytes);
        assert!(body.try_grow_to(2 * MIB));
        let mut small = ResponseBuffer::new(FREE_BYTES, body.another());
        small.write_all(&part).unwrap();
        assert!(small.write_all(b"x").is_err());
        assert_eq!(small.full(), Some(Full::Limit));
    }
}
