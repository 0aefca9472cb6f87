//! A transcript of requests and responses, for reports of failures.

use std::fmt::Write as _;

use super::case::{Framing, RequestEnd};
use super::wire::{Head, Outgoing, Responses};

/// The requests and responses of a run, in order.
#[derive(Default)]
pub(crate) struct Transcript(String);

impl Transcript {
    pub(crate) fn text(&self) -> &str {
        &self.0
    }

    /// Adds a note.
    pub(crate) fn note(&mut self, note: &str) {
        let _ = writeln!(self.0, "> ({note})");
    }

    pub(crate) fn request(&mut self, outgoing: &Outgoing) {
        let Outgoing { method, target, fields, content, framing, declares, ends, trailers, .. } = outgoing;
        let _ = writeln!(self.0, "> {method} {target}");
        for (name, value) in fields {
            // Reports may be published, so credentials are masked.
            let is_secret = ["authorization", "cookie", "proxy-authorization"]
                .contains(&name.to_ascii_lowercase().as_str());
            let value = if is_secret { "(not shown)" } else { value };
            let _ = writeln!(self.0, ">   {name}: {value}");
        }
        if let Some(content) = content {
            let framing = if *framing == Framing::Chunked { "chunked" } else { "sized" };
            let declared = declares.map(|declares| format!(", declared as {declares}")).unwrap_or_default();
            let ends = match ends {
                RequestEnd::Whole => "",
                RequestEnd::Cut => ", then cut",
                RequestEnd::Stall => ", then pending",
            };
            let _ = writeln!(self.0, ">   ({} bytes, {framing}{declared}{ends})", content.len());
        }
        for (name, value) in trailers {
            let _ = writeln!(self.0, ">   {name}: {value}");
        }
    }

    /// Adds responses. `stands` is true if the request is pending, so that a final response is not expected.
    pub(crate) fn response(&mut self, responses: &Responses, stands: bool) {
        responses.interims.iter().for_each(|head| self.head(head));
        match &responses.last {
            Some((last, content)) => {
                self.head(last);
                if !content.is_empty() {
                    let _ = writeln!(self.0, "<   {}", String::from_utf8_lossy(content));
                }
            }
            None if stands => {}
            None => self.0.push_str("< (ended without a response)\n"),
        }
    }

    fn head(&mut self, head: &Head) {
        let _ = writeln!(self.0, "< {}", head.status);
        let shown = |name: &str| {
            let name = name.to_ascii_lowercase();
            !matches!(name.as_str(), "date" | "connection" | "server")
        };
        for (name, value) in head.fields.iter().filter(|(name, _)| shown(name)) {
            let _ = writeln!(self.0, "<   {name}: {value}");
        }
    }
}
