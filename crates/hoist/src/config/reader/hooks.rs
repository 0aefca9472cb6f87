//! The settings of hooks.

use std::time::Duration;

use hoist_server::hook::webhook::{Webhook, WebhookOptions};
use hoist_server::hook::{BadPoint, Point};
use http::HeaderName;

use super::super::value::{CommandLine, TimeSpan};
use super::super::{HookCommand, HooksConfig};
use super::SettingsReader;

impl SettingsReader<'_> {
    pub(super) fn hooks(&mut self) -> HooksConfig {
        let command = self.one::<CommandLine>("hook-command").and_then(|line| {
            let mut words = line.0.into_iter();
            let program = words.next()?;
            Some(HookCommand { program, arguments: words.collect() })
        });
        let (directory, url) = (self.path("hooks-dir"), self.one::<String>("hooks-http"));
        let points = self.each("hooks-events", |text| {
            let named = |name: &str| name.parse().map_err(|wrong: BadPoint| format!("is {wrong}"));
            listed(text).map(named).collect::<Result<Vec<Point>, _>>()
        });
        let forwarded = self.each("hooks-http-forward-headers", |text| {
            let named = |name: &str| {
                name.parse::<HeaderName>()
                    .map_err(|_| "is not the name of a field; write it like X-Request-Id".to_owned())
            };
            listed(text).map(named).collect::<Result<Vec<_>, _>>()
        });
        let attempts_max = self.count("hooks-http-retry", 1..=100);
        let bytes_max = self.size("hooks-http-size-limit");
        let webhook = WebhookOptions {
            points: points.into_iter().flatten().collect(),
            attempts_max: u32::try_from(attempts_max).unwrap_or(1),
            backoff: self.one::<TimeSpan>("hooks-http-backoff").map_or(Duration::ZERO, |span| span.0),
            timeout: self.positive_span("hooks-http-timeout"),
            forwarded: forwarded.into_iter().flatten().collect(),
            bytes_max: usize::try_from(bytes_max).unwrap_or(usize::MAX).min(ANSWER_BYTES_MAX),
        };
        if let Some(url) = &url
            && let Err(wrong) = Webhook::require_url(url)
        {
            self.error("hooks-http", format!("is {wrong}"));
        }
        if url.is_none() {
            self.reject_without("hooks-http-forward-headers", "--hooks-http");
        }
        HooksConfig {
            command,
            directory,
            url,
            timeout: self.positive_span("hook-timeout"),
            progress_interval: self.positive_span("progress-hooks-interval"),
            webhook,
        }
    }
}

/// The most bytes of an answer, whatever the setting says: it is held in memory.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// Returns the names in a list as tusd takes it, separated by commas.
fn listed(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|name| !name.is_empty())
}
