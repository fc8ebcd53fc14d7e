//! How the story is set: steps, sentences, ticks with their times, and what real commands print.
//!
//! On a terminal there is colour and one line that says what is awaited; in a file or a CI log there is neither.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use busbar::clock::Clock;
use busbar::domain::time::Mono;

use crate::failure::Failure;

/// Sentences are broken here; what commands print is never broken.
const WIDTH: usize = 96;

/// Everything below a step's title stands this far in.
const INDENT: &str = "     ";

const BOLD: &str = "1";
const DIM: &str = "2";
const GREEN: &str = "32";
const RED: &str = "31";
const YELLOW: &str = "33";

/// The terminal, and when what began.
pub(crate) struct Screen {
    clock: Clock,
    began: Mono,
    step_began: Mono,
    steps: Vec<(String, Duration)>,
    /// The step under way.
    title: Option<String>,
    colour: bool,
    live: bool,
}

impl Screen {
    pub(crate) fn new(plain: bool) -> Self {
        let clock = Clock::system();
        let colour = !plain && io::stdout().is_terminal();
        let began = clock.mono();
        Self { clock, began, step_began: began, steps: Vec::new(), title: None, colour, live: colour }
    }

    fn paint(&self, style: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{style}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// The head of the whole.
    pub(crate) fn title(&self, name: &str, about: &str) {
        line(&format!("\n  {} · {about}", self.paint(BOLD, name)));
    }

    /// A new step; its time runs from here.
    pub(crate) fn step(&mut self, title: &str) {
        self.close_step();
        line(&format!("\n  {}  {}", self.paint(DIM, &(self.steps.len() + 1).to_string()), self.paint(BOLD, title)));
        self.title = Some(title.to_owned());
        self.step_began = self.clock.mono();
    }

    fn close_step(&mut self) {
        if let Some(title) = self.title.take() {
            self.steps.push((title, self.clock.mono().since(self.step_began)));
        }
    }

    /// A sentence of the story.
    pub(crate) fn say(&self, text: &str) {
        self.settle();
        for part in wrap(text, WIDTH - INDENT.len()) {
            line(&format!("{INDENT}{part}"));
        }
    }

    /// Something has come true.
    pub(crate) fn tick(&self, text: &str) {
        self.settle();
        let took = self.clock.mono().since(self.step_began);
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

    /// What is awaited, in a line that the next one replaces.
    pub(crate) fn waiting(&self, what: &str) {
        if self.live {
            let time = format!("{:.1} s", self.clock.mono().since(self.step_began).as_secs_f64());
            let room = WIDTH - INDENT.len() - 2 - time.len() - 2;
            let what: String = what.chars().take(room).collect();
            let text = format!("\r\x1b[K{INDENT}{} {what}  {}", self.paint(YELLOW, "·"), self.paint(DIM, &time));
            put(&text);
        }
    }

    /// Takes that line away.
    fn settle(&self) {
        if self.live {
            put("\r\x1b[K");
        }
    }

    /// A command as one would type it, and what it printed.
    pub(crate) fn command(&self, command: &str, printed: &str) {
        self.settle();
        line(&format!("\n{INDENT}{} {}", self.paint(DIM, "$"), self.paint(BOLD, command)));
        for text in printed.trim_end().lines() {
            line(format!("{INDENT}{text}").trim_end());
        }
    }

    /// A word and what it leads to, for the list of places to look at.
    pub(crate) fn entry(&self, word: &str, text: &str) {
        line(&format!("{INDENT}{} {text}", self.paint(DIM, &format!("{word:<8}"))));
    }

    /// The times of all steps.
    pub(crate) fn times(&mut self) {
        self.close_step();
        let total = self.clock.mono().since(self.began);
        line("");
        for (number, (title, took)) in self.steps.iter().enumerate() {
            let number = self.paint(DIM, &(number + 1).to_string());
            line(&format!("  {number}  {title:<40}{:>6.1} s", took.as_secs_f64()));
        }
        line(&format!("     {:<40}{:>6.1} s", "in all", total.as_secs_f64()));
    }

    /// A heading that is no step.
    pub(crate) fn heading(&self, text: &str) {
        self.settle();
        line(&format!("\n  {}", self.paint(BOLD, text)));
    }

    /// The demo did not come true.
    pub(crate) fn failed(&self, failure: &Failure) {
        self.settle();
        line("");
        let mut cause: Option<&dyn std::error::Error> = Some(failure);
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

/// Breaks a sentence at spaces.
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

/// A closed terminal is no reason to fail.
fn line(text: &str) {
    drop(writeln!(io::stdout(), "{text}"));
}

fn put(text: &str) {
    let mut out = io::stdout();
    drop(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
}
