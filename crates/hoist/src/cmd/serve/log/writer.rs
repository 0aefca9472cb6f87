//! The thread that writes lines to standard error, which may be a pipe that nothing reads.
//!
//! Owns the queue in front of it. A thread of the runtime never waits for standard error: lines that find no place in the
//! queue are lost and counted. A closed standard error does not end the server.

use std::io::{self, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::Level;

use super::flood::FloodLimit;
use super::line::{Fields, Line, Style};

/// The most lines that wait for standard error.
const QUEUED_MAX: usize = 8192;

/// The time after which suppressed lines are reported.
const REPORT_AFTER: Duration = Duration::from_secs(1);

/// The longest time that the end of the process waits for standard error.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

enum Entry {
    Line(String),
    /// Lines are being suppressed, and their number has to be reported.
    Suppression,
    /// Asks for an answer once all lines before are written.
    Flush(SyncSender<()>),
}

/// The sending side of the queue.
#[derive(Clone)]
pub(super) struct LogWriter {
    queue: SyncSender<Entry>,
    lost: Arc<AtomicU64>,
}

impl LogWriter {
    /// Queues a line. Never waits.
    pub(super) fn write(&self, line: String) {
        if self.queue.try_send(Entry::Line(line)).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Has the number of suppressed lines reported in a moment.
    pub(super) fn announce_suppression(&self) {
        // A full queue reports the number with the lines that are lost.
        let _ = self.queue.try_send(Entry::Suppression);
    }
}

/// The thread that writes. Dropping this waits until the queued lines are written, or until standard error has not taken
/// them for a second.
pub(in super::super) struct LogThread(SyncSender<Entry>);

impl Drop for LogThread {
    fn drop(&mut self) {
        let until = Instant::now() + FLUSH_TIMEOUT;
        let (answer, answered) = sync_channel(1);
        let mut entry = Entry::Flush(answer);
        while let Err(TrySendError::Full(back)) = self.0.try_send(entry) {
            if Instant::now() >= until {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
            entry = back;
        }
        let _ = answered.recv_timeout(until.saturating_duration_since(Instant::now()));
    }
}

/// Starts the thread. It runs as long as the process.
pub(super) fn start(style: Style, limit: Arc<Mutex<FloodLimit>>) -> (LogWriter, LogThread) {
    let (queue, entries) = sync_channel(QUEUED_MAX);
    let lost = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&lost);
    let thread = std::thread::Builder::new().name("log".to_owned());
    // Without the thread lines are lost, and the server works.
    let _ = thread.spawn(move || {
        let write = |line: String| {
            let _ = io::stderr().lock().write_all(line.as_bytes());
        };
        run(&entries, &counted, &limit, style, write);
    });
    (LogWriter { queue: queue.clone(), lost }, LogThread(queue))
}

fn run(
    entries: &Receiver<Entry>,
    lost: &AtomicU64,
    limit: &Mutex<FloodLimit>,
    style: Style,
    mut write: impl FnMut(String),
) {
    let mut report_at: Option<Instant> = None;
    loop {
        let entry = match report_at {
            None => entries.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(at) => entries.recv_timeout(at.saturating_duration_since(Instant::now())),
        };
        let mut is_due = report_at.is_some_and(|at| at <= Instant::now());
        match entry {
            Ok(Entry::Line(line)) => write(line),
            Ok(Entry::Suppression) => report_at = report_at.or(Some(Instant::now() + REPORT_AFTER)),
            Ok(Entry::Flush(answer)) => {
                report(limit, style, &mut write);
                let _ = answer.try_send(());
            }
            Err(RecvTimeoutError::Timeout) => is_due = true,
            Err(RecvTimeoutError::Disconnected) => return,
        }
        if is_due {
            report_at = None;
            report(limit, style, &mut write);
        }
        match lost.swap(0, Ordering::Relaxed) {
            0 => {}
            lines => {
                write(notice(
                    "log lines were lost, because standard error did not take them",
                    "lost",
                    lines,
                    style,
                ));
                // Their number may include suppressed lines that were not announced.
                report(limit, style, &mut write);
            }
        }
    }
}

/// Writes the number of suppressed lines, if there are any.
fn report(limit: &Mutex<FloodLimit>, style: Style, write: &mut impl FnMut(String)) {
    let suppressed = limit.lock().unwrap_or_else(PoisonError::into_inner).take_suppressed();
    if suppressed > 0 {
        write(notice(
            "log lines were suppressed, because there were too many",
            "suppressed",
            suppressed,
            style,
        ));
    }
}

fn notice(message: &str, name: &'static str, lines: u64, style: Style) -> String {
    let mut fields = Fields::default();
    fields.record_text("message", message.to_owned());
    fields.record_number(name, lines);
    Line { level: Level::WARN, module: None, fields: &fields }.text(style)
}

#[cfg(test)]
mod tests {
    use super::super::flood::Class;
    use super::*;

    #[test]
    fn a_full_queue_loses_lines_and_reports_their_number() {
        let (queue, entries) = sync_channel(2);
        let writer = LogWriter { queue, lost: Arc::default() };
        for number in 0..5 {
            writer.write(format!("{number}\n"));
        }
        let lost = Arc::clone(&writer.lost);
        drop(writer);
        let mut written = Vec::new();
        run(&entries, &lost, &Mutex::default(), Style::Plain, |line| written.push(line));
        assert_eq!(
            (written.len(), written[0].as_str(), written[2].as_str()),
            (3, "0\n", "1\n"),
            "{written:?}"
        );
        assert!(written[1].contains("WARN log lines were lost") && written[1].ends_with(" lost=3\n"));
    }

    #[test]
    fn a_flush_reports_suppressed_lines() {
        let limit = Mutex::new(FloodLimit::default());
        for _ in 0..1000 {
            limit.lock().expect("unlocked").admit(Class::Client(1), Instant::now());
        }
        let suppressed = 990;
        let (queue, entries) = sync_channel(2);
        let (answer, answered) = sync_channel(1);
        queue.send(Entry::Flush(answer)).expect("there is place");
        drop(queue);
        let mut written = Vec::new();
        run(&entries, &AtomicU64::new(0), &limit, Style::Plain, |line| written.push(line));
        answered.try_recv().expect("the flush is answered");
        assert!(
            written.len() == 1 && written[0].ends_with(&format!(" suppressed={suppressed}\n")),
            "{written:?}"
        );
    }
}
