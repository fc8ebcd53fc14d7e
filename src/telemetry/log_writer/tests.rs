use std::io::{PipeReader, PipeWriter, Read as _};

use super::*;

const LONG: Duration = Duration::from_mins(1);

/// A pipe that is not read.
fn blocked() -> (LogWriter, PipeReader) {
    let (reader, output): (PipeReader, PipeWriter) = io::pipe().unwrap();
    (LogWriter::start(output).unwrap(), reader)
}

fn dropped(writer: &LogWriter) -> u64 {
    let metrics = Metrics::new();
    writer.register(&metrics).unwrap();
    let text = metrics.render().unwrap();
    let line = text.lines().find(|line| line.starts_with("busbar_log_lines_dropped_total ")).unwrap();
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[test]
fn a_blocked_output_drops_and_counts_lines_and_blocks_nobody() {
    let (writer, mut reader) = blocked();
    let line = vec![b'x'; 64 * 1024];
    let pushed = 2 * QUEUE_BYTES / line.len();
    for _ in 0..pushed {
        writer.make_writer().write_all(&line).unwrap();
    }
    let lost = dropped(&writer);
    assert!(lost > 0, "twice the queue's size was logged");
    writer.flush(Duration::from_millis(1));
    // The reader is back: what waited is written, and logging goes on.
    let kept = pushed - usize::try_from(lost).unwrap();
    let mut text = vec![0; kept * line.len()];
    reader.read_exact(&mut text).unwrap();
    writer.flush(LONG);
    writer.make_writer().write_all(b"again").unwrap();
    let mut again = [0; 5];
    reader.read_exact(&mut again).unwrap();
    assert_eq!((&again, dropped(&writer)), (b"again", lost));
}

#[test]
fn a_closed_output_is_counted_and_stops_nothing() {
    let (writer, reader) = blocked();
    drop(reader);
    for _ in 0..3 {
        writer.make_writer().write_all(b"line\n").unwrap();
    }
    writer.flush(LONG);
    assert_eq!(dropped(&writer), 3);
}
