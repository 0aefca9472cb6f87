//! The terminal at standard error, as progress bars draw on it.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use console::Term;
use indicatif::TermLike;

/// A terminal on which each line ends where its text ends.
///
/// indicatif fills each line with spaces up to the edge, so that the next one wraps. Then the echo of Ctrl-C is on a line of
/// its own, of which indicatif does not know, and a bar is left on the screen. Here a filler is not written, and a line break
/// comes before the next line. indicatif has cleared all lines before.
#[derive(Debug)]
pub(super) struct StderrTerminal {
    term: Term,
    /// True after a filler, until the next line.
    is_line_complete: AtomicBool,
}

impl StderrTerminal {
    pub(super) fn new() -> Self {
        Self { term: Term::buffered_stderr(), is_line_complete: AtomicBool::new(false) }
    }
}

impl TermLike for StderrTerminal {
    fn width(&self) -> u16 {
        self.term.size().1
    }

    fn height(&self) -> u16 {
        self.term.size().0
    }

    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        self.term.move_cursor_up(n)
    }

    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        self.term.move_cursor_down(n)
    }

    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        self.term.move_cursor_right(n)
    }

    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        self.term.move_cursor_left(n)
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        self.term.write_line(text)
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        let is_filler = text.bytes().all(|octet| octet == b' ');
        let was_complete = self.is_line_complete.swap(is_filler, Ordering::Relaxed);
        if is_filler {
            return Ok(());
        }
        if was_complete {
            self.term.write_line("")?;
        }
        self.term.write_str(text)
    }

    fn clear_line(&self) -> io::Result<()> {
        self.term.clear_line()
    }

    fn flush(&self) -> io::Result<()> {
        self.is_line_complete.store(false, Ordering::Relaxed);
        self.term.flush()
    }
}
