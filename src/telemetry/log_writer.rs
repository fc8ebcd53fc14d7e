//! Writes log lines to standard error without ever blocking the thread that logs.
//!
//! Lines wait in a queue of bounded size, and one thread writes them. When standard error is blocked (a pipe that
//! no process reads) the queue fills, and further lines are dropped and counted: the operator goes on. Not
//! `tracing-appender`: its queue is bounded by lines and not by bytes, and it prints to standard output when it ends.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus::IntCounter;
use tracing_subscriber::fmt::MakeWriter;

use crate::metrics::{Metrics, MetricsError};

/// Bytes that may wait: seconds of the busiest log, little beside the process's memory.
const QUEUE_BYTES: usize = 4 * 1024 * 1024;
/// Counted for each line beyond its text.
const LINE_OVERHEAD: usize = 64;

/// The queue of log lines. Cloning shares it.
#[derive(Clone)]
pub struct LogWriter(Arc<Shared>);

struct Shared {
    queue: Mutex<Queue>,
    added: Condvar,
    /// Notified when every line is written.
    emptied: Condvar,
    dropped: IntCounter,
}

#[derive(Default)]
struct Queue {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Whether the thread is writing a line.
    writing: bool,
    /// Lines dropped since the last one that was written.
    missing: u64,
}

impl LogWriter {
    /// A queue, and the thread that writes it to `output`.
    ///
    /// # Errors
    /// If the thread or the counter cannot be created.
    pub(crate) fn start(output: impl Write + Send + 'static) -> io::Result<Self> {
        let dropped = IntCounter::new(
            "busbar_log_lines_dropped_total",
            "Log lines dropped because standard error was blocked or failed.",
        )
        .map_err(io::Error::other)?;
        let shared = Shared { queue: Mutex::default(), added: Condvar::new(), emptied: Condvar::new(), dropped };
        let writer = Self(Arc::new(shared));
        let shared = Arc::clone(&writer.0);
        std::thread::Builder::new().name("log-writer".to_owned()).spawn(move || shared.write_all(output))?;
        Ok(writer)
    }

    /// Registers the counter of dropped lines.
    ///
    /// # Errors
    /// If it is registered already.
    pub fn register(&self, metrics: &Metrics) -> Result<(), MetricsError> {
        metrics.collector(Box::new(self.0.dropped.clone()))
    }

    /// Waits until every line is written, for at most `limit`. Blocks the thread: for the end of the process.
    pub fn flush(&self, limit: Duration) {
        let pending = |queue: &mut Queue| queue.writing || !queue.lines.is_empty();
        drop(self.0.emptied.wait_timeout_while(self.0.lock(), limit, pending));
    }

    fn push(&self, line: &[u8]) {
        let mut queue = self.0.lock();
        if queue.bytes + line.len() + LINE_OVERHEAD > QUEUE_BYTES {
            queue.missing += 1;
            drop(queue);
            self.0.dropped.inc();
            return;
        }
        queue.bytes += line.len() + LINE_OVERHEAD;
        queue.lines.push_back(line.to_vec());
        drop(queue);
        self.0.added.notify_one();
    }
}

impl Shared {
    /// The writing thread: runs until the process ends.
    fn write_all(&self, mut output: impl Write) {
        loop {
            let line = self.next_line();
            let written = output.write_all(&line);
            let missing = {
                let mut queue = self.lock();
                queue.writing = false;
                if written.is_ok() {
                    std::mem::take(&mut queue.missing)
                } else {
                    self.dropped.inc();
                    queue.missing += 1;
                    0
                }
            };
            // Where lines are missing, the log says so.
            if missing > 0 {
                tracing::warn!(lines = missing, "log lines dropped: standard error was blocked or failed");
            }
        }
    }

    fn next_line(&self) -> Vec<u8> {
        let mut queue = self.lock();
        loop {
            if let Some(line) = queue.lines.pop_front() {
                queue.bytes -= line.len() + LINE_OVERHEAD;
                queue.writing = true;
                return line;
            }
            self.emptied.notify_all();
            queue = self.added.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One line on its way to the queue: the formatter writes each line at once.
pub struct Line<'a>(&'a LogWriter);

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line(self)
    }
}

/// Writes `text` to standard error; gives up after `limit`, so that a blocked one does not keep the process alive.
pub fn write_stderr_within(text: String, limit: Duration) {
    let (done, finished) = std::sync::mpsc::channel();
    let write = move || {
        // Nothing is left to report a failure to.
        let _ = io::stderr().write_all(text.as_bytes());
        let _ = done.send(());
    };
    if std::thread::Builder::new().spawn(write).is_ok() {
        let _ = finished.recv_timeout(limit);
    }
}

#[cfg(test)]
mod tests;
