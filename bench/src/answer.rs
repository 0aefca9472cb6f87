//! The head of a response.

use anyhow::{Context as _, Result};

/// The status and the fields of a response, without its content.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) fields: Vec<(String, String)>,
}

impl Answer {
    /// Parses a head of HTTP/1.1. Returns it with its length in bytes, or `None` if it is incomplete.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>> {
        let mut fields = [httparse::EMPTY_HEADER; 32];
        let mut response = httparse::Response::new(&mut fields);
        let httparse::Status::Complete(count) = response.parse(bytes)? else { return Ok(None) };
        let fields = response.headers.iter().map(|field| {
            (field.name.to_ascii_lowercase(), String::from_utf8_lossy(field.value).into_owned())
        });
        let fields = fields.collect();
        Ok(Some((Self { status: response.code.context("a response without status")?, fields }, count)))
    }

    /// Returns the head of a response of HTTP/2.
    pub(crate) fn of<T>(response: &http::Response<T>) -> Self {
        let fields = response.headers().iter().map(|(name, value)| {
            (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        });
        Self { status: response.status().as_u16(), fields: fields.collect() }
    }

    /// Returns the value of a field, whose name is in lower case.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// Returns the length of the content, as the head states it.
    pub(crate) fn content_length(&self) -> Result<u64> {
        Ok(self.field("content-length").map_or(Ok(0), str::parse)?)
    }

    pub(crate) fn is_chunked(&self) -> bool {
        self.field("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked"))
    }
}
