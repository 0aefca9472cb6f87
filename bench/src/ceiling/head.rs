//! The head of a request, as far as the ceiling reads it.

use std::io::Read;

use anyhow::{Context as _, Result, ensure};

/// A head at the beginning of a buffer.
pub(super) struct Head {
    pub(super) method: String,
    pub(super) path: String,
    /// The length of the content.
    pub(super) content: u64,
    /// The first and the last byte of a range.
    pub(super) range: Option<(u64, u64)>,
    /// The paths of the files to be joined.
    pub(super) parts: Vec<String>,
    /// The length of the head.
    pub(super) bytes: usize,
}

impl Head {
    /// Reads the next head, and what arrives with it, into the buffer. Returns the head and the number of bytes in the
    /// buffer, or `None` at the end of the connection.
    pub(super) fn read(stream: &mut impl Read, buffer: &mut [u8]) -> Result<Option<(Self, usize)>> {
        let mut filled = 0;
        loop {
            ensure!(filled < buffer.len(), "a head larger than the buffer");
            match stream.read(&mut buffer[filled..])? {
                0 => return Ok(None),
                count => filled += count,
            }
            if let Some(head) = Self::parse(&buffer[..filled])? {
                ensure!(
                    (filled - head.bytes) as u64 <= head.content,
                    "a request before the answer to the last"
                );
                return Ok(Some((head, filled)));
            }
        }
    }

    fn parse(bytes: &[u8]) -> Result<Option<Self>> {
        let mut fields = [httparse::EMPTY_HEADER; 32];
        let mut request = httparse::Request::new(&mut fields);
        let httparse::Status::Complete(count) = request.parse(bytes)? else { return Ok(None) };
        let field = |name: &str| {
            let found = request.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name));
            found.and_then(|field| std::str::from_utf8(field.value).ok())
        };
        let range = field("range").and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
        let parts = field("upload-concat").and_then(|parts| parts.strip_prefix("final;")).unwrap_or_default();
        Ok(Some(Self {
            method: request.method.context("no method")?.to_owned(),
            path: request.path.context("no path")?.to_owned(),
            content: field("content-length").map_or(Ok(0), str::parse)?,
            range: range
                .map(|(from, last)| Ok::<_, std::num::ParseIntError>((from.parse()?, last.parse()?)))
                .transpose()?,
            parts: parts.split_whitespace().map(str::to_owned).collect(),
            bytes: count,
        }))
    }
}
