//! The log of the server: one line for each event on standard error, as text or as JSON.
//!
//! Owns the layer that turns events into lines. `log/line.rs` has the formats, `log/flood.rs` the bound on lines that peers
//! cause, and `log/writer.rs` the thread that writes.

mod flood;
mod line;
mod writer;

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Registry, reload};

use self::flood::{Admission, Class, FloodLimit};
use self::line::{Fields, Line, Style};
use self::writer::{LogThread, LogWriter};
use crate::config::{Config, LogFormat};
use crate::exit::Failure;

/// Installs the global logger. Has no effect on a second server in the same process. The lines are written before the
/// returned value is dropped, if standard error takes them.
pub(super) fn start(config: &Config) -> LogThread {
    let style = style(config.log);
    let limit = Arc::new(Mutex::new(FloodLimit::default()));
    let (writer, thread) = writer::start(style, Arc::clone(&limit));
    // Module paths are for developers.
    let names_module = config.log_level >= Level::DEBUG;
    let lines = Lines { style, names_module, limit, writer };
    let (filter, handle) = reload::Layer::new(filter(config.log_level));
    if tracing_subscriber::registry().with(lines.with_filter(filter)).try_init().is_ok() {
        let _ = LEVEL.set(handle);
    }
    std::panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        let why = panic.payload_as_str().unwrap_or_default();
        tracing::error!("panicked at {location}: {why}");
    }));
    thread
}

/// The filter of the global logger.
static LEVEL: OnceLock<reload::Handle<Targets, Registry>> = OnceLock::new();

/// Changes the level of the global logger.
pub(super) fn set_level(level: Level) {
    if let Some(handle) = LEVEL.get() {
        let _ = handle.reload(filter(level));
    }
}

/// Writes a failure to start, in the format of the log.
pub(super) fn write_failure(failure: &Failure) {
    let mut fields = Fields::default();
    fields.record_text("message", failure.to_string());
    fields.record_number("exit", failure.exit.code().into());
    fields.record_text("kind", failure.exit.name().to_owned());
    let line = Line { level: Level::ERROR, module: None, fields: &fields }.text(Style::Json);
    let _ = io::stderr().lock().write_all(line.as_bytes());
}

fn style(format: LogFormat) -> Style {
    let is_colored = || io::stderr().is_terminal() && crate::config::variable("NO_COLOR").is_none();
    match format {
        LogFormat::Json => Style::Json,
        LogFormat::Human if is_colored() => Style::Colored,
        LogFormat::Human => Style::Plain,
    }
}

/// Returns a filter with this level for hoist's own crates. Other libraries log warnings at most, because their debug output
/// may contain tokens.
fn filter(level: Level) -> Targets {
    let ours = LevelFilter::from_level(level);
    Targets::new().with_default(ours.min(LevelFilter::WARN)).with_target("hoist", ours)
}

/// The layer that turns events into lines.
struct Lines {
    style: Style,
    names_module: bool,
    limit: Arc<Mutex<FloodLimit>>,
    writer: LogWriter,
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Lines {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        span.extensions_mut().insert(fields);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(fields) = span.extensions_mut().get_mut::<Fields>() {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(of_span) = span.extensions().get::<Fields>() {
                fields.prepend(of_span);
            }
        }
        let metadata = event.metadata();
        let class = Class::of(metadata, fields.client());
        // Before the line is built, because a flood must be cheap. The lock is never held during a write.
        let admission =
            self.limit.lock().unwrap_or_else(PoisonError::into_inner).admit(class, Instant::now());
        match admission {
            Admission::Write => {}
            Admission::Suppress => return,
            Admission::SuppressFirst => return self.writer.announce_suppression(),
        }
        let module = Some(metadata.target()).filter(|_| self.names_module);
        let line = Line { level: *metadata.level(), module, fields: &fields };
        self.writer.write(line.text(self.style));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_log_warnings_at_most() {
        let all = filter(Level::TRACE);
        assert!(
            all.would_enable("hoist_http::h1", &Level::TRACE) && all.would_enable("hoist", &Level::TRACE)
        );
        assert!(all.would_enable("h2", &Level::WARN) && !all.would_enable("h2::codec", &Level::INFO));
        let few = filter(Level::ERROR);
        assert!(!few.would_enable("hoist_server", &Level::WARN) && !few.would_enable("h2", &Level::WARN));
    }
}
