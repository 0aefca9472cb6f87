//! The requests of an upload in the protocols of the servers.

use std::fmt::{Display, Write as _};

use anyhow::{Context as _, Result, bail};

use crate::answer::Answer;

/// A protocol for uploads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Protocol {
    /// The IETF draft, without a version number and so without interim responses.
    Ietf,
    /// Interop version 8 of the IETF draft, whose clients get interim responses.
    IetfInterim,
    /// tus 1.0.
    Tus,
    /// One `PUT` for each file. The raw programs know `PATCH` to append as well.
    Put,
}

/// The head of a request.
pub(crate) struct Request {
    pub(crate) method: &'static str,
    pub(crate) path: String,
    pub(crate) fields: Vec<(&'static str, String)>,
    /// The length of the content; `None` if there is none.
    pub(crate) content: Option<u64>,
}

impl Request {
    fn new(method: &'static str, path: &str) -> Self {
        Self { method, path: path.to_owned(), fields: Vec::new(), content: None }
    }

    fn with(mut self, name: &'static str, value: impl Display) -> Self {
        self.fields.push((name, value.to_string()));
        self
    }

    fn content(self, bytes: u64) -> Self {
        Self { content: Some(bytes), ..self }
    }

    /// Adds the SHA-256 of the representation.
    pub(crate) fn digest(self, sha256: &[u8; 32]) -> Self {
        self.with("repr-digest", format!("sha-256=:{}:", base64(sha256)))
    }

    /// Returns the head in HTTP/1.1.
    pub(crate) fn h1(&self) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\nhost: localhost\r\n", self.method, self.path);
        for (name, value) in &self.fields {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        if let Some(bytes) = self.content {
            let _ = write!(head, "content-length: {bytes}\r\n");
        }
        head.push_str("\r\n");
        head.into_bytes()
    }

    /// Returns the head in HTTP/2.
    pub(crate) fn h2(&self) -> Result<http::Request<()>> {
        let mut head = http::Request::builder()
            .method(self.method)
            .uri(format!("http://localhost{}", self.path))
            .version(http::Version::HTTP_2);
        for (name, value) in &self.fields {
            head = head.header(*name, value);
        }
        if let Some(bytes) = self.content {
            head = head.header("content-length", bytes);
        }
        Ok(head.body(())?)
    }
}

/// The part of a representation that a request carries.
#[derive(Clone, Copy)]
pub(crate) struct Part {
    pub(crate) from: u64,
    pub(crate) until: u64,
    /// The length of the representation.
    pub(crate) length: u64,
}

impl Part {
    /// Returns a whole representation.
    pub(crate) fn whole(length: u64) -> Self {
        Self { from: 0, until: length, length }
    }

    pub(crate) fn bytes(self) -> u64 {
        self.until - self.from
    }

    fn is_last(self) -> bool {
        self.until == self.length
    }
}

impl Protocol {
    /// Returns the request that creates an upload and carries its first part.
    pub(crate) fn create(self, endpoint: &str, name: &str, part: Part) -> Request {
        match self {
            Self::Ietf | Self::IetfInterim => self
                .ietf(Request::new("POST", endpoint), part)
                .with("upload-length", part.length)
                .content(part.bytes()),
            Self::Tus => {
                let create = Request::new("POST", endpoint)
                    .with("tus-resumable", "1.0.0")
                    .with("upload-length", part.length);
                let create = create.content(part.bytes());
                match part.bytes() {
                    0 => create,
                    _ => create.with("content-type", "application/offset+octet-stream"),
                }
            }
            Self::Put => Request::new("PUT", &format!("{endpoint}{name}")).content(part.bytes()),
        }
    }

    /// Makes a creation that of a part, which [`join`](Self::join) refers to.
    pub(crate) fn partial(self, create: Request) -> Request {
        if self == Self::Tus { create.with("upload-concat", "partial") } else { create }
    }

    /// Returns the request that joins parts.
    pub(crate) fn join(self, endpoint: &str, name: &str, parts: &[String]) -> Request {
        let join = match self {
            Self::Put => Request::new("PUT", &format!("{endpoint}{name}")),
            _ => Request::new("POST", endpoint).with("tus-resumable", "1.0.0"),
        };
        join.with("upload-concat", format!("final;{}", parts.join(" "))).content(0)
    }

    /// Returns the request that appends a part to the upload at `path`.
    pub(crate) fn append(self, path: &str, part: Part) -> Request {
        let append = Request::new("PATCH", path).content(part.bytes());
        match self {
            Self::Ietf | Self::IetfInterim => self
                .ietf(append, part)
                .with("upload-offset", part.from)
                .with("content-type", "application/partial-upload"),
            Self::Tus => append
                .with("tus-resumable", "1.0.0")
                .with("upload-offset", part.from)
                .with("content-type", "application/offset+octet-stream"),
            Self::Put => append,
        }
    }

    fn ietf(self, request: Request, part: Part) -> Request {
        let request = request.with("upload-complete", if part.is_last() { "?1" } else { "?0" });
        match self {
            Self::IetfInterim => request.with("upload-draft-interop-version", 8),
            _ => request,
        }
    }

    /// Returns the request for the offset of the upload at `path`.
    pub(crate) fn offset(self, path: &str) -> Request {
        let head = Request::new("HEAD", path);
        match self {
            Self::IetfInterim => head.with("upload-draft-interop-version", 8),
            Self::Tus => head.with("tus-resumable", "1.0.0"),
            Self::Ietf | Self::Put => head,
        }
    }

    /// Returns the path of a new upload from the answer to its creation.
    pub(crate) fn location(self, create: &Request, answer: &Answer) -> Result<String> {
        if self == Self::Put {
            return Ok(create.path.clone());
        }
        let location = answer.field("location").context("an answer without Location")?;
        let path = location
            .split_once("://")
            .map_or(location, |(_, rest)| rest.find('/').map_or("/", |at| &rest[at..]));
        Ok(path.to_owned())
    }

    /// Checks the answer to a creation or an append that ends at `until`.
    pub(crate) fn check(self, answer: &Answer, until: u64) -> Result<()> {
        if !(200..300).contains(&answer.status) {
            bail!("an upload was answered with {}: {:?}", answer.status, answer.fields);
        }
        // tus requires the offset only in the answer to an append.
        if self == Self::Tus && answer.field("upload-offset").is_none() {
            Ok(())
        } else {
            self.check_offset(answer, until)
        }
    }

    /// Checks that an answer reports this offset, if the protocol has offsets.
    pub(crate) fn check_offset(self, answer: &Answer, expected: u64) -> Result<()> {
        let offset = answer.field("upload-offset").map(str::parse::<u64>).transpose()?;
        if self != Self::Put && offset != Some(expected) {
            bail!("the offset is {offset:?} instead of {expected}");
        }
        Ok(())
    }
}

/// Returns the request that reads the bytes from `from` until `until` of a complete upload.
pub(crate) fn read(path: &str, from: u64, until: u64) -> Request {
    Request::new("GET", path).with("range", format!("bytes={from}-{}", until - 1))
}

/// Returns the request that reads a complete upload.
pub(crate) fn download(path: &str) -> Request {
    Request::new("GET", path)
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits =
            chunk.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for digit in 0..4 {
            let index = usize::try_from(bits >> (18 - 6 * digit) & 63).expect("six bits");
            text.push(if digit <= chunk.len() { char::from(DIGITS[index]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_pads() {
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")]
        {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }

    #[test]
    fn a_creation_says_whether_it_is_complete() {
        let part = Part { from: 0, until: 3, length: 9 };
        let head = String::from_utf8(Protocol::Ietf.create("/uploads", "a", part).h1()).unwrap();
        assert_eq!(
            head,
            "POST /uploads HTTP/1.1\r\nhost: localhost\r\nupload-complete: ?0\r\nupload-length: 9\r\n\
             content-length: 3\r\n\r\n"
        );
        let whole = String::from_utf8(Protocol::Put.create("/", "a", Part::whole(9)).h1()).unwrap();
        assert_eq!(whole, "PUT /a HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\n");
    }
}
