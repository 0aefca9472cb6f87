//! HTTP/1.1, written and parsed by hand, so that requests are sent exactly as given.

use std::fmt::Write as _;
use std::io;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};

use super::super::case::{Framing, RequestEnd};
use super::endpoint::Stream;
use super::{CONTINUE_WAIT, Endpoint, Exchange, Head, Outgoing, PendingRequest, Responses, Transport};

/// The maximum size of a response.
const RESPONSE_BYTES: usize = 1 << 20;

/// A request on its own connection.
pub(crate) struct H1Request {
    reader: ResponseReader,
    /// Kept open, because closing it would end the request.
    writer: WriteHalf<Stream>,
    pub(super) responses: Responses,
    to_head: bool,
}

impl H1Request {
    pub(super) async fn send(&mut self, rest: &[u8]) {
        // Write errors are ignored: a server that has ended the request has already responded.
        let _ = self.writer.write_all(rest).await;
        let _ = self.writer.flush().await;
    }

    pub(super) async fn end(mut self) -> Responses {
        self.reader.finish(&mut self.responses, self.to_head).await;
        self.responses
    }
}

pub(super) async fn exchange(endpoint: &Endpoint, outgoing: &Outgoing) -> io::Result<Exchange> {
    let (read, mut writer) = tokio::io::split(endpoint.connect(Transport::H1).await?);
    let mut reader = ResponseReader { stream: read, bytes: Vec::new() };
    let mut responses = Responses::default();
    let to_head = outgoing.method == "HEAD";
    writer.write_all(head(endpoint, outgoing).as_bytes()).await?;
    writer.flush().await?;
    if outgoing.waits {
        let wait_for_continue = async {
            while !responses.is_asked_to_continue() && reader.next(&mut responses, to_head).await {}
        };
        // The content is sent even if the server does not ask for it.
        let _ = tokio::time::timeout(CONTINUE_WAIT, wait_for_continue).await;
    }
    let content = content(outgoing);
    let send = async {
        // Write errors are ignored: a server that responds early may close the connection.
        let part = content.len().div_ceil(outgoing.paused.len() + 1).max(1);
        for (part, bytes) in content.chunks(part).enumerate() {
            if part > 0 {
                tokio::time::sleep(outgoing.paused[part - 1]).await;
            }
            let _ = writer.write_all(bytes).await;
            let _ = writer.flush().await;
        }
        if outgoing.ends == RequestEnd::Cut {
            let _ = writer.shutdown().await;
        }
    };
    if outgoing.ends == RequestEnd::Stall {
        send.await;
        return Ok(Exchange::Pending(PendingRequest::H1(H1Request { reader, writer, responses, to_head })));
    }
    tokio::join!(send, reader.finish(&mut responses, to_head));
    Ok(Exchange::Complete(responses))
}

fn head(endpoint: &Endpoint, outgoing: &Outgoing) -> String {
    let version = if outgoing.ancient { "1.0" } else { "1.1" };
    let mut head = format!("{} {} HTTP/{version}\r\n", outgoing.method, outgoing.target);
    let mut field = |name: &str, value: &str| {
        let _ = write!(head, "{name}: {value}\r\n");
    };
    if !outgoing.fields.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        field("Host", &endpoint.authority());
    }
    field("Connection", "close");
    for (name, value) in &outgoing.fields {
        field(name, value);
    }
    if outgoing.waits {
        field("Expect", "100-continue");
    }
    if let Some(content) = &outgoing.content {
        match outgoing.framing {
            Framing::Sized => {
                field("Content-Length", &outgoing.declares.unwrap_or(content.len() as u64).to_string());
            }
            Framing::Chunked => field("Transfer-Encoding", "chunked"),
        }
    }
    head.push_str("\r\n");
    head
}

/// Returns the framed content. Chunked content is split into two chunks, to test servers with more than one.
fn content(outgoing: &Outgoing) -> Vec<u8> {
    let Some(content) = &outgoing.content else { return Vec::new() };
    if outgoing.framing == Framing::Sized {
        return content.clone();
    }
    let mut framed = Vec::with_capacity(content.len() + 32);
    let (first, second) = content.split_at(content.len() / 2);
    for chunk in [first, second].into_iter().filter(|chunk| !chunk.is_empty()) {
        framed.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        framed.extend_from_slice(chunk);
        framed.extend_from_slice(b"\r\n");
    }
    if outgoing.ends == RequestEnd::Whole {
        framed.extend_from_slice(b"0\r\n");
        for (name, value) in &outgoing.trailers {
            framed.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        framed.extend_from_slice(b"\r\n");
    }
    framed
}

/// The reading half of a connection, with unparsed bytes.
struct ResponseReader {
    stream: ReadHalf<Stream>,
    bytes: Vec<u8>,
}

impl ResponseReader {
    /// Reads until the final response or the end of the connection.
    async fn finish(&mut self, responses: &mut Responses, to_head: bool) {
        while responses.last.is_none() && self.next(responses, to_head).await {}
    }

    /// Reads one interim or final response. Returns false at the end of the connection or if the response is malformed.
    ///
    /// # Cancellation
    /// Safe to drop; the bytes read so far are kept.
    async fn next(&mut self, responses: &mut Responses, to_head: bool) -> bool {
        loop {
            if let Some((response, length)) = parse(&self.bytes) {
                if (100..200).contains(&response.status) {
                    self.bytes.drain(..length);
                    responses.interims.push(response);
                    return true;
                }
                if let Some(content) = self.content(&response, length, to_head).await {
                    responses.last = Some((response, content));
                    return true;
                }
                return false;
            }
            if !self.more().await {
                return false;
            }
        }
    }

    /// Reads the content after a head of this length.
    async fn content(&mut self, head: &Head, length: usize, to_head: bool) -> Option<Vec<u8>> {
        if to_head || matches!(head.status, 204 | 304) {
            return Some(Vec::new());
        }
        let declared = head.field("content-length").map(str::parse::<usize>);
        let is_chunked = head.field("transfer-encoding").is_some();
        loop {
            let content = &self.bytes[length..];
            match &declared {
                Some(Ok(declared)) if content.len() >= *declared => {
                    return Some(content[..*declared].to_vec());
                }
                Some(Err(_)) => return None,
                None if is_chunked => {
                    if let Some(content) = unchunked(content) {
                        return Some(content);
                    }
                }
                _ => {}
            }
            if !self.more().await {
                // Content without a length ends with the connection.
                let is_all = declared.is_none() && !is_chunked;
                return is_all.then(|| self.bytes[length..].to_vec());
            }
        }
    }

    async fn more(&mut self) -> bool {
        self.bytes.len() < RESPONSE_BYTES
            && matches!(self.stream.read_buf(&mut self.bytes).await, Ok(read) if read > 0)
    }
}

/// Parses a head, and returns its length.
fn parse(bytes: &[u8]) -> Option<(Head, usize)> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let text = String::from_utf8_lossy(&bytes[..end]);
    let mut lines = text.split("\r\n");
    // An invalid status line becomes status 0, which no case expects.
    let mut words = lines.next().unwrap_or_default().splitn(3, ' ').skip(1);
    let status = words.next().and_then(|code| code.parse().ok());
    let reason = words.next().map(str::to_owned);
    let fields = lines.filter_map(|line| line.split_once(':'));
    let fields = fields.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect();
    Some((Head { status: status.unwrap_or(0), reason, fields }, end + 4))
}

/// Decodes complete chunked content.
fn unchunked(mut bytes: &[u8]) -> Option<Vec<u8>> {
    let mut data = Vec::new();
    loop {
        let end = bytes.windows(2).position(|window| window == b"\r\n")?;
        let size = std::str::from_utf8(&bytes[..end]).ok()?.split(';').next()?.trim();
        let size = usize::from_str_radix(size, 16).ok()?;
        if size == 0 {
            return Some(data);
        }
        let chunk = bytes.get(end + 2..)?;
        data.extend_from_slice(chunk.get(..size)?);
        bytes = chunk.get(size + 2..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_parsed_without_the_bytes_after_it() {
        let bytes = b"HTTP/1.1 104 Upload Resumption Supported\r\nLocation: /a\r\n\r\nHTTP/1.1 204 ";
        let (head, length) = parse(bytes).expect("a head");
        assert_eq!((head.status, head.field("location")), (104, Some("/a")));
        assert_eq!(&bytes[length..], b"HTTP/1.1 204 ");
        assert_eq!(parse(&bytes[length..]), None);
    }

    #[test]
    fn chunked_content_is_decoded() {
        let cases: [(&[u8], Option<&[u8]>); 3] = [
            (b"3\r\nabc\r\n2;x=1\r\nde\r\n0\r\n\r\n", Some(b"abcde")),
            (b"3\r\nabc\r\n2\r\nd", None),
            (b"0\r\n\r\n", Some(b"")),
        ];
        for (bytes, expected) in cases {
            assert_eq!(unchunked(bytes).as_deref(), expected);
        }
    }
}
