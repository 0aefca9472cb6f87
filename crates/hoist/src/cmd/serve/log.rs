//! The log of the server: lines on standard error, as text or as JSON.

use std::io::{self, IsTerminal as _};

use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::{Config, LogFormat};

/// Installs the global logger. Has no effect on a second server in the same process.
pub(super) fn start(config: &Config) {
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    let lines = match config.log {
        LogFormat::Human => lines.with_ansi(io::stderr().is_terminal()).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).with_ansi(false).boxed(),
    };
    let _ = tracing_subscriber::registry().with(lines.with_filter(filter(config.log_level))).try_init();
}

/// Returns a filter with this level for hoist's own crates. Other libraries log warnings at most, because their debug output
/// may contain tokens.
fn filter(level: Level) -> Targets {
    let ours = LevelFilter::from_level(level);
    Targets::new().with_default(ours.min(LevelFilter::WARN)).with_target("hoist", ours)
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
