//! Builds the request of a case as a version spells it: adds version numbers, completeness, tokens and media types.

use std::time::Duration;

use super::case::{ContentSpec, OffsetSpec, RequestEnd, RequestSpec, RequestTarget};
use super::uploads::Uploads;
use super::version::{CorpusDialect, Version};
use super::wire::{Endpoint, Outgoing};

/// The version and state that requests are built from.
pub(crate) struct RequestBuilder<'a> {
    pub(crate) version: Version,
    pub(crate) endpoint: &'a Endpoint,
    /// The token, in the token dialect.
    pub(crate) token: &'a str,
    pub(crate) uploads: &'a Uploads,
}

/// The header fields of a request, and the names of those to leave out.
struct Fields<'a> {
    lines: Vec<(String, String)>,
    without: &'a [String],
}

impl Fields<'_> {
    /// Adds a field, unless the case sets it or leaves it out.
    fn add(&mut self, name: &str, value: impl Into<String>) {
        let is_there = self.lines.iter().any(|(field, _)| field.eq_ignore_ascii_case(name));
        if !is_there && !self.without.iter().any(|without| without.eq_ignore_ascii_case(name)) {
            self.lines.push((name.to_owned(), value.into()));
        }
    }
}

impl RequestBuilder<'_> {
    /// Builds a request.
    ///
    /// Returns a message if it refers to an upload or an offset that no response has reported.
    pub(crate) fn outgoing(&self, send: &RequestSpec) -> Result<Outgoing, String> {
        let carries = !matches!(send.method.as_str(), "HEAD" | "GET" | "DELETE" | "OPTIONS");
        let content = send.content.as_ref().map(ContentSpec::bytes);
        let trailers = send.trailers.iter().map(|(name, value)| (name.clone(), value.clone()));
        Ok(Outgoing {
            method: send.method.clone(),
            target: self.target(send)?,
            fields: self.fields(send, carries)?,
            content: content.or_else(|| carries.then(Vec::new)),
            declares: send.declares,
            framing: send.framing,
            trailers: trailers.collect(),
            paused: send.paused.iter().copied().map(Duration::from_secs_f64).collect(),
            ends: send.ends,
            // `100 (Continue)` shows that the server has started to process the pending request.
            waits: send.waits || send.ends == RequestEnd::Stall,
            ancient: send.ancient,
        })
    }

    fn target(&self, send: &RequestSpec) -> Result<String, String> {
        let is_token = self.version.dialect() == CorpusDialect::Token;
        match send.to {
            RequestTarget::Target => Ok(format!("{}{}", self.endpoint.path(), send.below)),
            RequestTarget::Server => Ok("*".to_owned()),
            RequestTarget::Upload if is_token => Ok(self.endpoint.path().to_owned()),
            RequestTarget::Upload => {
                let path = self.uploads.path(send.of.as_deref());
                path.map(|path| path + &send.below).ok_or_else(|| "no response has named an upload".into())
            }
        }
    }

    fn fields(&self, send: &RequestSpec, carries: bool) -> Result<Vec<(String, String)>, String> {
        let mut fields = Fields { lines: Vec::new(), without: &send.without };
        for (name, lines) in &send.fields {
            let lines = lines.each();
            fields.lines.extend(lines.iter().map(|line| (name.clone(), self.uploads.fill(line))));
        }
        for (name, value) in self.endpoint.fields() {
            fields.add(name, value.clone());
        }
        match self.version.dialect() {
            CorpusDialect::Ietf => {}
            CorpusDialect::Token => fields.add("Upload-Token", self.token),
            // A browser's preflight does not have the field.
            CorpusDialect::Tus1 if send.method == "OPTIONS" => {}
            CorpusDialect::Tus1 => fields.add("Tus-Resumable", "1.0.0"),
        }
        if let Some((name, number)) = self.version.number_field() {
            fields.add(name, number.to_string());
        }
        // `Upload-Incomplete` is the only sign of the unnumbered form.
        if self.version == Version::Unnumbered && carries && send.complete != Some(false) {
            fields.add("Upload-Incomplete", "?0");
        }
        if let Some((name, value)) =
            send.complete.and_then(|complete| self.version.request_completeness_field(complete))
        {
            fields.add(name, value);
        }
        if let Some(offset) = self.offset(send)? {
            fields.add("Upload-Offset", offset.to_string());
        }
        if let Some(length) = send.length {
            fields.add("Upload-Length", length.to_string());
        }
        let appends = send.to == RequestTarget::Upload && send.method == "PATCH";
        if let Some(media_type) = self.version.append_type().filter(|_| appends) {
            fields.add("Content-Type", media_type);
        }
        Ok(fields.lines)
    }

    fn offset(&self, send: &RequestSpec) -> Result<Option<u64>, String> {
        match &send.offset {
            None => Ok(None),
            Some(OffsetSpec::Is(offset)) => Ok(Some(*offset)),
            Some(OffsetSpec::Word(word)) if word == "told" => self
                .uploads
                .last_offset()
                .map(Some)
                .ok_or_else(|| "no response has reported an offset".into()),
            Some(OffsetSpec::Word(word)) => Err(format!("{word} is not an offset")),
        }
    }
}
