//! The lines of `-v`: requests and responses of the client, and with `-vv` its connections and decisions.

use std::fmt::{self, Write as _};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::{Layer, registry};

use super::Console;

/// The target of the client's requests, responses and connections.
const WIRE: &str = "hoist_client::wire";

/// A subscriber that prints the client's events to standard error.
struct RequestLog {
    console: Console,
    /// True if requests may run at the same time, so that each line has the number of its request.
    is_numbered: bool,
}

/// Prints requests and responses from now on, if `verbosity` is 1, and all events of the client if it is more.
pub(crate) fn start_request_log(console: &Console, verbosity: u8, is_numbered: bool) {
    let targets = match verbosity {
        0 => return,
        1 => Targets::new().with_target(WIRE, Level::DEBUG),
        _ => Targets::new().with_target("hoist_client", Level::DEBUG),
    };
    let log = RequestLog { console: console.clone(), is_numbered };
    // Fails only if another subscriber was set, and a client command sets no other.
    let _ = tracing::subscriber::set_global_default(registry().with(log.with_filter(targets)));
}

impl<S: Subscriber> Layer<S> for RequestLog {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = EventFields::default();
        event.record(&mut fields);
        let number = fields.exchange.filter(|_| self.is_numbered);
        let number = number.map(|number| format!("[{number}] ")).unwrap_or_default();
        self.console.verbose(format_args!("{number}{fields}"));
    }
}

/// The fields of an event.
#[derive(Default)]
struct EventFields {
    exchange: Option<u64>,
    kind: String,
    line: String,
    name: String,
    value: String,
    message: String,
    others: String,
}

impl Visit for EventFields {
    fn record_u64(&mut self, field: &Field, value: u64) {
        match field.name() {
            "exchange" => self.exchange = Some(value),
            _ => self.record_debug(field, &value),
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "kind" => value.clone_into(&mut self.kind),
            "line" => value.clone_into(&mut self.line),
            "name" => value.clone_into(&mut self.name),
            "value" => value.clone_into(&mut self.value),
            _ => self.record_debug(field, &format_args!("{value}")),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let written = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.others, " {name}={value:?}"),
        };
        written.expect("writing to a string");
    }
}

/// Formats an event as curl does: `>` is sent, `<` is received, `*` is what happened otherwise.
impl fmt::Display for EventFields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.kind.as_str() {
            "request" => '>',
            "interim" | "response" => '<',
            _ => return write!(f, "* {}{}", self.message, self.others),
        };
        if self.name.is_empty() {
            write!(f, "{sign} {}", self.line)
        } else {
            write!(f, "{sign} {}: {}", self.name, self.value)
        }
    }
}
