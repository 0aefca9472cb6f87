//! The output of `config sample`: a configuration file with every key, its help and its default, all commented out.

use std::fmt::Write as _;

use super::settings::{SETTINGS, Setting, Values};

const BEGINNING: &str = "\
# The settings of `hoist serve`, for --config FILE. Every key is commented out and shows its default, or an example if
# it has none. Flags (--max-size) and environment variables (HOIST_MAX_SIZE) override this file.
# Sizes: 1024, 64MiB, 10GB. Times: 30s, 5m, 7d, or a number of seconds.
# `hoist config check --config FILE` reports mistakes.
";

/// Returns the sample file.
pub(crate) fn sample() -> String {
    let mut text = BEGINNING.to_owned();
    let mut heading = "";
    for setting in SETTINGS {
        if heading != setting.heading {
            heading = setting.heading;
            let _ = write!(text, "\n## {heading}\n");
        }
        let kind = match (setting.default, setting.many()) {
            (Some(_), true) => " Several values are allowed.",
            (Some(_), false) => "",
            (None, true) => " Several values are allowed. Example:",
            (None, false) => " Example:",
        };
        let help = setting.help.trim_end_matches('.');
        let _ = write!(text, "\n# {help}.{kind}\n#{} = {}\n", setting.name, value(setting));
    }
    text
}

/// Returns the default of a setting, or an example if it has none, as TOML.
fn value(setting: &Setting) -> String {
    let text = setting.default.unwrap_or_else(|| example(setting));
    let is_number = text.parse::<u64>().is_ok();
    match setting.values {
        Values::Switch => (text == "on").to_string(),
        Values::Many => format!("[{}]", toml::Value::from(text)),
        Values::One if is_number => text.to_owned(),
        Values::One => toml::Value::from(text).to_string(),
    }
}

/// Returns an example for a setting without a default.
fn example(setting: &Setting) -> &'static str {
    match setting.name {
        "admin" => "unix:/run/hoist/admin.sock",
        "admin-token-file" => "/etc/hoist/admin-tokens",
        "tls-cert" => "/etc/hoist/cert.pem",
        "tls-key" => "/etc/hoist/key.pem",
        "bearer-file" => "/etc/hoist/tokens",
        "jwt-key" => "/etc/hoist/jwt.pem",
        "jwks-file" => "/etc/hoist/keys.json",
        "files-dir" => "/srv/uploads",
        "public-url" => "https://upload.example.org",
        "trusted-proxy" => "127.0.0.1",
        "jwt-algorithm" => "ES256",
        "jwt-audience" => "uploads",
        "jwt-issuer" | "jwt-main-issuer" => "https://id.example",
        "jwt-issuer-keys" => "https://id.example=/etc/hoist/keys.json",
        "tus-disable" => "termination",
        "cors-header" => "X-Csrf-Token",
        "hook-command" => "/usr/local/bin/approve-upload",
        "events" => "https://example.org/events",
        "events-secret-file" => "/etc/hoist/events.secret",
        "hooks-dir" => "/etc/hoist/hooks",
        "hooks-http" => "http://127.0.0.1:8000/hook",
        "hooks-http-forward-headers" => "X-Request-Id",
        "retain" => "30d",
        "workers" => "4",
        _ => match setting.value {
            "SIZE" | "BYTES/S" => "100GiB",
            "TIME" => "1h",
            "N" => "1000",
            "FILE" => "/etc/hoist/file",
            "DIR" => "/srv/hoist",
            _ => setting.words.first().copied().unwrap_or("..."),
        },
    }
}
