//! The demo's terminal output: steps, texts, check marks with their times, and the output of commands.
//!
//! On a terminal there are colours and a progress line; in a file or a CI log there is neither.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use busbar::clock::Clock;
use busbar::domain::time::Mono;

use crate::error::Error;

/// Texts are wrapped at this width, in columns; the output of commands never is.
const WIDTH: usize = 96;

/// Indentation of everything below a step's title.
const INDENT: &str = "     ";

const BOLD: &str = "1";
const DIM: &str = "2";
const GREEN: &str = "32";
const RED: &str = "31";
const YELLOW: &str = "33";

/// Prints to stdout and measures the time of each step.
pub(crate) struct Screen {
    clock: Clock,
    started: Mono,
    step_started: Mono,
    steps: Vec<(String, Duration)>,
    /// The current step.
    title: Option<String>,
    colour: bool,
    /// Whether the progress line is printed.
    progress: bool,
}

impl Screen {
    /// `plain`: without colours and progress line, as when stdout is not a terminal.
    pub(crate) fn new(plain: bool) -> Self {
        let clock = Clock::system();
        let colour = !plain && io::stdout().is_terminal();
        let started = clock.mono();
        Self { clock, started, step_started: started, steps: Vec::new(), title: None, colour, progress: colour }
    }

    fn paint(&self, style: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{style}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// The title of the demo.
    pub(crate) fn title(&self, name: &str, about: &str) {
        line(&format!("\n  {} · {about}", self.paint(BOLD, name)));
    }

    /// Starts a new step and its timer.
    pub(crate) fn step(&mut self, title: &str) {
        self.close_step();
        line(&format!("\n  {}  {}", self.paint(DIM, &(self.steps.len() + 1).to_string()), self.paint(BOLD, title)));
        self.title = Some(title.to_owned());
        self.step_started = self.clock.mono();
    }

    fn close_step(&mut self) {
        if let Some(title) = self.title.take() {
            self.steps.push((title, self.clock.mono().since(self.step_started)));
        }
    }

    /// An explanation.
    pub(crate) fn text(&self, text: &str) {
        self.clear_progress();
        for part in wrap(text, WIDTH - INDENT.len()) {
            line(&format!("{INDENT}{part}"));
        }
    }

    /// A condition is met: a check mark, the text and the time since the step started.
    pub(crate) fn done(&self, text: &str) {
        self.clear_progress();
        let took = self.clock.mono().since(self.step_started);
        let time = format!("{:.1} s", took.as_secs_f64());
        let parts = wrap(text, WIDTH - INDENT.len() - 2 - time.len() - 2);
        let last = parts.len().saturating_sub(1);
        for (at, part) in parts.iter().enumerate() {
            let mark = if at == 0 { self.paint(GREEN, "✓") } else { " ".to_owned() };
            if at == last {
                let used = INDENT.len() + 2 + part.chars().count() + time.len();
                let gap = " ".repeat(WIDTH.saturating_sub(used));
                line(&format!("{INDENT}{mark} {part}{gap}{}", self.paint(DIM, &time)));
            } else {
                line(&format!("{INDENT}{mark} {part}"));
            }
        }
    }

    /// The progress line: the condition that is waited for. The next output replaces it.
    pub(crate) fn waiting(&self, condition: &str) {
        if self.progress {
            let time = format!("{:.1} s", self.clock.mono().since(self.step_started).as_secs_f64());
            let room = WIDTH - INDENT.len() - 2 - time.len() - 2;
            let condition: String = condition.chars().take(room).collect();
            let text = format!("\r\x1b[K{INDENT}{} {condition}  {}", self.paint(YELLOW, "·"), self.paint(DIM, &time));
            put(&text);
        }
    }

    /// Clears the progress line.
    fn clear_progress(&self) {
        if self.progress {
            put("\r\x1b[K");
        }
    }

    /// A command line and its output.
    pub(crate) fn command(&self, command: &str, output: &str) {
        self.clear_progress();
        line(&format!("\n{INDENT}{} {}", self.paint(DIM, "$"), self.paint(BOLD, command)));
        for text in output.trim_end().lines() {
            line(format!("{INDENT}{text}").trim_end());
        }
    }

    /// A labelled line of the hints at the end.
    pub(crate) fn entry(&self, label: &str, text: &str) {
        line(&format!("{INDENT}{} {text}", self.paint(DIM, &format!("{label:<8}"))));
    }

    /// Prints the time of each step and the total.
    pub(crate) fn timings(&mut self) {
        self.close_step();
        let total = self.clock.mono().since(self.started);
        line("");
        for (number, (title, took)) in self.steps.iter().enumerate() {
            let number = self.paint(DIM, &(number + 1).to_string());
            line(&format!("  {number}  {title:<40}{:>6.1} s", took.as_secs_f64()));
        }
        line(&format!("     {:<40}{:>6.1} s", "total", total.as_secs_f64()));
    }

    /// A heading without a timer.
    pub(crate) fn heading(&self, text: &str) {
        self.clear_progress();
        line(&format!("\n  {}", self.paint(BOLD, text)));
    }

    /// An error with its causes.
    pub(crate) fn error(&self, error: &Error) {
        self.clear_progress();
        line("");
        let mut cause: Option<&dyn std::error::Error> = Some(error);
        let mut mark = self.paint(RED, "✗");
        // The causes of a transparent error repeat none of its text.
        while let Some(error) = cause {
            for part in wrap(&error.to_string(), WIDTH - INDENT.len() - 2) {
                line(&format!("{INDENT}{mark} {part}"));
                " ".clone_into(&mut mark);
            }
            cause = error.source();
        }
    }
}

/// Wraps a text at spaces.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let now = lines.last().map_or(0, |line| line.chars().count());
        if now > 0 && now + 1 + word.chars().count() > width {
            lines.push(word.to_owned());
        } else if let Some(last) = lines.last_mut() {
            if now > 0 {
                last.push(' ');
            }
            last.push_str(word);
        }
    }
    lines
}

/// Prints a line. A closed terminal is not an error.
fn line(text: &str) {
    drop(writeln!(io::stdout(), "{text}"));
}

fn put(text: &str) {
    let mut out = io::stdout();
    drop(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
}
