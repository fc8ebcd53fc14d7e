//! Output of commands: to standard output and standard error, without a panic when they are closed or full, and without
//! characters that control a terminal.

use std::io::{ErrorKind, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use clap::error::ContextValue;

use crate::domain::printable;
use crate::telemetry::log_writer::write_stderr_within;

/// How long the last line on standard error may take: it may be a pipe that no process reads.
const LAST_LINE_TIMEOUT: Duration = Duration::from_millis(500);

/// Standard output cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("writing standard output: {0}")]
pub(super) struct OutputError(std::io::Error);

/// Prints lines of text.
///
/// # Errors
/// If standard output cannot be written. A reader that has read enough and closed the pipe, such as `head`, is no error.
pub(super) fn print(text: &str) -> Result<(), OutputError> {
    written(write(&printable::lines(text)))
}

/// Prints one line of text.
///
/// # Errors
/// As [`print`].
pub(super) fn print_line(text: &str) -> Result<(), OutputError> {
    print(&format!("{}\n", printable::cell(text)))
}

/// Prints why a command failed.
pub(super) fn print_error(error: &dyn std::fmt::Display) {
    write_stderr_within(format!("error: {}\n", printable::cell(&error.to_string())), LAST_LINE_TIMEOUT);
}

/// Prints a line about work that goes on, to standard error.
pub(super) fn print_progress(line: &str) {
    write_stderr_within(format!("{}\n", printable::cell(line)), LAST_LINE_TIMEOUT);
}

/// Prints what clap says about a command line: the help, or what is wrong with the arguments.
pub(super) fn print_usage(message: &clap::Error) -> ExitCode {
    if message.use_stderr() {
        let text = usage(message);
        write_stderr_within(printable::lines(&text), LAST_LINE_TIMEOUT);
        return u8::try_from(message.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from);
    }
    match written(message.print().and_then(|()| std::io::stdout().flush())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print_error(&error);
            ExitCode::FAILURE
        }
    }
}

/// What is wrong with the arguments. clap's own text, unless an argument in it could control the terminal.
fn usage(message: &clap::Error) -> String {
    let arguments = message.context().filter_map(|(_, value)| match value {
        ContextValue::String(argument) => Some(argument),
        _ => None,
    });
    let hostile: Vec<String> = arguments
        .filter(|argument| argument.chars().any(printable::is_hidden))
        .map(|argument| format!("'{}'", printable::cell(argument)))
        .collect();
    if hostile.is_empty() {
        return message.render().to_string();
    }
    let problem = message.kind().as_str().unwrap_or("invalid arguments");
    format!("error: {problem}: {}\n\nFor more information, try '--help'.\n", hostile.join(", "))
}

fn write(text: &str) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

fn written(result: std::io::Result<()>) -> Result<(), OutputError> {
    match result {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(OutputError(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}
