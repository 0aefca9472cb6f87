//! The formats of a line: text for people, and JSON with numbers as numbers. `docs/schema/log.json` describes the latter.
//!
//! Owns the quoting: a value from a peer can neither begin a new line or field nor control a terminal.

use std::fmt::{self, Write as _};

use tracing::Level;
use tracing::field::{Field, Visit};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};

/// The format of lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    Plain,
    /// Text with the level in color.
    Colored,
    Json,
}

/// The most characters of a value. A longer one is cut off and ends with three dots.
const VALUE_CHARS_MAX: usize = 512;

/// The fields of an event or a span, in their order.
#[derive(Clone, Debug, Default)]
pub(super) struct Fields {
    message: String,
    named: Vec<(&'static str, Value)>,
}

#[derive(Clone, Debug, PartialEq)]
enum Value {
    Text(String),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Flag(bool),
}

impl Fields {
    /// Adds the fields of an enclosing span in front. A field of the event hides one of the same name.
    pub(super) fn prepend(&mut self, of_span: &Self) {
        let is_new = |(name, _): &&(&str, Value)| self.named.iter().all(|(known, _)| known != name);
        let new: Vec<_> = of_span.named.iter().filter(is_new).cloned().collect();
        self.named.splice(..0, new);
    }

    /// Returns the address of the client, if the fields name one.
    pub(super) fn client(&self) -> Option<&str> {
        self.named.iter().find_map(|(name, value)| match value {
            Value::Text(text) if *name == "client" => Some(text.as_str()),
            _ => None,
        })
    }

    pub(super) fn record_text(&mut self, name: &'static str, text: String) {
        match name {
            "message" => self.message = text,
            name => self.named.push((name, Value::Text(text))),
        }
    }

    pub(super) fn record_number(&mut self, name: &'static str, number: u64) {
        self.named.push((name, Value::Unsigned(number)));
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_text(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_text(field.name(), value.to_owned());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.record_number(field.name(), value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.named.push((field.name(), Value::Signed(value)));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.named.push((field.name(), Value::Float(value)));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.named.push((field.name(), Value::Flag(value)));
    }
}

/// One line of the log, before it is formatted.
pub(super) struct Line<'a> {
    pub(super) level: Level,
    pub(super) module: Option<&'a str>,
    pub(super) fields: &'a Fields,
}

impl Line<'_> {
    /// Returns the line with its line end.
    pub(super) fn text(&self, style: Style) -> String {
        let mut text = String::with_capacity(256);
        // A string takes everything that is written to it.
        let _ = match style {
            Style::Json => self.write_json(&mut text),
            Style::Plain => self.write_text(&mut text, false),
            Style::Colored => self.write_text(&mut text, true),
        };
        text
    }

    fn write_text(&self, text: &mut String, is_colored: bool) -> fmt::Result {
        write_now(text)?;
        let level = self.level.as_str();
        match is_colored.then(|| color(self.level)) {
            Some(color) => write!(text, " \u{1b}[{color}m{level:>5}\u{1b}[0m")?,
            None => write!(text, " {level:>5}")?,
        }
        if let Some(module) = self.module {
            write!(text, " {module}:")?;
        }
        text.push(' ');
        write_escaped(text, &self.fields.message, usize::MAX, |_| false)?;
        for (name, value) in &self.fields.named {
            write!(text, " {name}=")?;
            match value {
                Value::Text(value) if is_bare(value) => text.push_str(value),
                value => write_value(text, value)?,
            }
        }
        text.push('\n');
        Ok(())
    }

    fn write_json(&self, text: &mut String) -> fmt::Result {
        text.push_str("{\"timestamp\":\"");
        write_now(text)?;
        write!(text, "\",\"level\":\"{}\"", self.level.as_str())?;
        text.push_str(",\"message\":");
        write_quoted(text, &self.fields.message, usize::MAX)?;
        if let Some(module) = self.module {
            write!(text, ",\"target\":\"{module}\"")?;
        }
        for (name, value) in &self.fields.named {
            write!(text, ",\"{name}\":")?;
            write_value(text, value)?;
        }
        text.push_str("}\n");
        Ok(())
    }
}

/// Writes the time in UTC (RFC 3339).
fn write_now(text: &mut String) -> fmt::Result {
    SystemTime.format_time(&mut Writer::new(text))
}

const fn color(level: Level) -> u8 {
    match level {
        Level::ERROR => 31,
        Level::WARN => 33,
        Level::INFO => 32,
        Level::DEBUG => 34,
        Level::TRACE => 35,
    }
}

/// Returns whether text needs no quotes in a text line.
fn is_bare(text: &str) -> bool {
    let is_plain = |octet: u8| octet.is_ascii_graphic() && !matches!(octet, b'"' | b'\\' | b'=');
    (1..=VALUE_CHARS_MAX).contains(&text.len()) && text.bytes().all(is_plain)
}

fn write_value(text: &mut String, value: &Value) -> fmt::Result {
    match value {
        Value::Text(value) => write_quoted(text, value, VALUE_CHARS_MAX),
        Value::Unsigned(number) => write!(text, "{number}"),
        Value::Signed(number) => write!(text, "{number}"),
        Value::Float(number) if number.is_finite() => write!(text, "{number}"),
        Value::Float(_) => text.write_str("null"),
        Value::Flag(flag) => write!(text, "{flag}"),
    }
}

/// Writes a string of JSON.
fn write_quoted(text: &mut String, value: &str, chars_max: usize) -> fmt::Result {
    text.push('"');
    write_escaped(text, value, chars_max, |char| matches!(char, '"' | '\\'))?;
    text.push('"');
    Ok(())
}

/// Writes text with the escapes of JSON for everything that a terminal does not show as it is: control characters, and
/// those that change the direction or the place of other characters.
fn write_escaped(
    text: &mut String,
    value: &str,
    chars_max: usize,
    needs_backslash: impl Fn(char) -> bool,
) -> fmt::Result {
    for (place, char) in value.chars().enumerate() {
        if place == chars_max {
            return text.write_str("...");
        }
        match char {
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            char if needs_backslash(char) => text.extend(['\\', char]),
            char if is_invisible(char) => {
                for unit in char.encode_utf16(&mut [0; 2]) {
                    write!(text, "\\u{unit:04x}")?;
                }
            }
            char => text.push(char),
        }
    }
    Ok(())
}

fn is_invisible(char: char) -> bool {
    char.is_control()
        || matches!(char, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(char, '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn line(value: &str, style: Style) -> String {
        let mut fields = Fields::default();
        fields.record_text("message", "upload ended".to_owned());
        fields.record_text("name", value.to_owned());
        fields.record_number("offset", 7);
        let text = Line { level: Level::INFO, module: None, fields: &fields }.text(style);
        text.strip_suffix('\n').expect("a line end").to_owned()
    }

    #[test]
    fn values_of_peers_stay_in_their_field() {
        let cases = [
            ("a.txt", "name=a.txt offset=7"),
            ("", "name=\"\" offset=7"),
            ("a b", "name=\"a b\" offset=7"),
            ("a=b", "name=\"a=b\" offset=7"),
            ("a\nINFO upload ended", "name=\"a\\nINFO upload ended\" offset=7"),
            ("\"quoted\" \\", "name=\"\\\"quoted\\\" \\\\\" offset=7"),
            ("\u{1b}[2J\u{9b}31m", "name=\"\\u001b[2J\\u009b31m\" offset=7"),
            ("\u{202e}txt.exe", "name=\"\\u202etxt.exe\" offset=7"),
            ("\u{e0041}", "name=\"\\udb40\\udc41\" offset=7"),
            ("größe", "name=\"größe\" offset=7"),
        ];
        for (value, expected) in cases {
            let text = line(value, Style::Plain);
            assert!(text.ends_with(&format!("  INFO upload ended {expected}")), "{text}");
            let read: serde_json::Value = serde_json::from_str(&line(value, Style::Json)).expect("JSON");
            assert_eq!((&read["name"], &read["offset"]), (&json!(value), &json!(7)));
            assert_eq!((&read["level"], &read["message"]), (&json!("INFO"), &json!("upload ended")));
        }
    }

    #[test]
    fn a_long_value_is_cut_off() {
        for style in [Style::Plain, Style::Json] {
            let text = line(&"ä".repeat(100_000), style);
            assert!(text.len() < 2000 && text.contains("ä...\""), "{text}");
        }
    }

    #[test]
    fn a_field_of_an_event_hides_that_of_its_span() {
        let (mut event, mut span) = (Fields::default(), Fields::default());
        event.record_number("status", 401);
        event.record_text("client", "192.0.2.1".to_owned());
        span.record_text("client", "192.0.2.9".to_owned());
        span.record_number("port", 80);
        event.prepend(&span);
        let names: Vec<_> = event.named.iter().map(|(name, _)| *name).collect();
        assert_eq!(
            (names.as_slice(), event.client()),
            (&["port", "status", "client"][..], Some("192.0.2.1"))
        );
    }
}
