//! The same bytes, sent to this server and to hyper's, are the same requests, except for intended differences.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::*;

type Log = Arc<Mutex<Vec<String>>>;

/// Logs a request that arrived completely, in one line.
async fn record<B>(request: Request<B>, log: Log) -> Result<Response<Full<Bytes>>, Infallible>
where
    B: http_body::Body,
    B::Error: std::fmt::Debug,
{
    let (head, body) = request.into_parts();
    let Ok(collected) = body.collect().await else {
        return Ok(Response::builder()
            .status(400)
            .header("connection", "close")
            .body(Full::default())
            .unwrap());
    };
    let mut trailers = collected.trailers().cloned().unwrap_or_default();
    // hyper keeps fields that must not be trailers.
    trailers.remove("content-length");
    let content = collected.to_bytes();
    // hyper does not replace the Host by that of an absolute target.
    let mut fields: Vec<_> = head.headers.iter().filter(|(name, _)| *name != "host").collect();
    fields.sort_by_key(|(name, _)| name.as_str());
    let target = format!("{:?} {} {} {:?}", head.version, head.method, head.uri, head.uri.host());
    let line = format!("{target} {fields:?} {} {:08x} {trailers:?}", content.len(), checksum(&content));
    log.lock().unwrap().push(line);
    Ok(Response::new(Full::default()))
}

struct Servers {
    ours: SocketAddr,
    theirs: SocketAddr,
    our_log: Log,
    their_log: Log,
}

async fn servers() -> Servers {
    let (our_log, their_log) = (Log::default(), Log::default());
    let log = Arc::clone(&our_log);
    let ours = start(move |request| record(request, Arc::clone(&log))).await.addr;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let theirs = listener.local_addr().unwrap();
    let log = Arc::clone(&their_log);
    tokio::spawn(async move {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            let log = Arc::clone(&log);
            let service = service_fn(move |request| record(request, Arc::clone(&log)));
            let mut builder = hyper::server::conn::http1::Builder::new();
            builder.half_close(true);
            tokio::spawn(builder.serve_connection(TokioIo::new(tcp), service));
        }
    });
    Servers { ours, theirs, our_log, their_log }
}

impl Servers {
    /// Sends `bytes` to both servers. Returns the requests that each of them accepted.
    async fn accepted(&self, bytes: &[u8]) -> (Vec<String>, Vec<String>) {
        let mut taken = [Vec::new(), Vec::new()];
        for ((addr, log), taken) in
            [(self.ours, &self.our_log), (self.theirs, &self.their_log)].iter().zip(&mut taken)
        {
            let mut tcp = TcpStream::connect(addr).await.unwrap();
            let _ = tcp.write_all(bytes).await;
            let _ = tcp.shutdown().await;
            let _ = soon(tcp.read_to_end(&mut Vec::new())).await;
            *taken = std::mem::take(&mut *log.lock().unwrap());
        }
        let [ours, theirs] = taken;
        (ours, theirs)
    }
}

/// Returns the reason why this server rejects a request that hyper accepts, if the bytes show one. It accepts no
/// request that hyper rejects.
fn stricter(bytes: &[u8]) -> Option<&'static str> {
    let text = String::from_utf8_lossy(bytes).to_lowercase();
    let head = text.split("\r\n\r\n").next().unwrap_or_default();
    let lines: Vec<_> = head.trim_start_matches(['\r', '\n']).split("\r\n").collect();
    let line = lines.first().copied().unwrap_or_default();
    let target = line.split(' ').nth(1).unwrap_or_default();
    let count = |name: &str| lines.iter().filter(|line| line.starts_with(&format!("{name}:"))).count();
    let host = lines.iter().find_map(|line| line.strip_prefix("host:")).map(str::trim);
    let sound_host = |host: &str| {
        let port = host.rsplit_once(':').map(|(_, port)| port).filter(|_| !host.ends_with(']'));
        let sound_port = port.is_none_or(|port| port.is_empty() || port.parse::<u16>().is_ok());
        let authority = host.parse::<http::uri::Authority>();
        let sound_literal = host.find('[').is_none_or(|at| at == 0);
        host.is_empty() || authority.is_ok() && !host.contains('@') && sound_literal && sound_port
    };
    if bytes.iter().enumerate().any(|(at, byte)| *byte == b'\n' && (at == 0 || bytes[at - 1] != b'\r')) {
        return Some("a bare LF is no line end");
    }
    if count("host") != 1 && !(line.ends_with("http/1.0") && count("host") == 0) {
        return Some("HTTP/1.1 has one Host");
    }
    if !host.is_none_or(sound_host) {
        return Some("a Host is a host and a port of 16 bits");
    }
    if line.starts_with("connect ") {
        return Some("no proxy");
    }
    if target.contains('#') || target.contains('@') && !target.starts_with('/') {
        return Some("a target has no fragment and no user");
    }
    let absolute = target.starts_with("http://") || target.starts_with("https://");
    let authority =
        target.split_once("://").map(|(_, rest)| rest.split(['/', '?']).next().unwrap_or_default());
    if absolute && !authority.is_none_or(sound_host) {
        return Some("the authority of a target is a host and a port of 16 bits");
    }
    let asterisk = target == "*" && line.starts_with("options ");
    if !(target.starts_with('/') || absolute || asterisk) {
        return Some("a target has one of four forms, which must suit the method");
    }
    if count("content-length") + count("transfer-encoding") > 1 {
        return Some("one statement of the length");
    }
    if count("transfer-encoding") == 1
        && !lines.iter().any(|line| line.replace([' ', '\t'], "") == "transfer-encoding:chunked")
    {
        return Some("chunked is the only supported coding");
    }
    if count("transfer-encoding") == 1 && line.ends_with("http/1.0") {
        return Some("HTTP/1.0 has no Transfer-Encoding");
    }
    let expectation =
        |line: &&str| line.strip_prefix("expect:").is_some_and(|value| value.trim() != "100-continue");
    if lines.iter().any(expectation) {
        return Some("an unknown expectation is rejected");
    }
    if text.starts_with("\r\n\r\n\r\n\r\n\r\n") {
        return Some("at most a few empty lines may come first");
    }
    let spaced = |line: &str| {
        let rest = line.trim_start_matches(|c: char| c.is_ascii_hexdigit());
        rest.len() < line.len() && !rest.is_empty() && rest.trim_matches([' ', '\t']).is_empty()
    };
    if count("transfer-encoding") == 1 && text.split("\r\n").any(spaced) {
        return Some("a chunk size is followed by an extension or nothing");
    }
    let control =
        |line: &str| line.contains(';') && line.contains(|c: char| c.is_ascii_control() && c != '\t');
    if count("transfer-encoding") == 1 && text.split("\r\n").any(control) {
        return Some("a chunk extension has no control characters");
    }
    None
}

/// Checks that this server read the requests that hyper accepted, equally, up to one for which it is stricter.
fn compare(bytes: &[u8], ours: &[String], theirs: &[String]) -> Result<(), String> {
    if ours == theirs {
        return Ok(());
    }
    let shown = String::from_utf8_lossy(bytes);
    if theirs.starts_with(ours) {
        let rest = requests(bytes);
        return if rest.iter().any(|request| stricter(request).is_some()) {
            Ok(())
        } else {
            Err(format!("rejected without a reason: {shown:?}\n ours: {ours:?}\n hyper: {theirs:?}"))
        };
    }
    Err(format!("read differently: {shown:?}\n ours: {ours:?}\n hyper: {theirs:?}"))
}

/// Returns the suffixes that may be requests: all bytes, and the bytes after each possible end of a request.
fn requests(bytes: &[u8]) -> Vec<&[u8]> {
    let ends = bytes.windows(4).enumerate().filter(|(_, window)| window == b"\r\n\r\n");
    let begins_one = |rest: &&[u8]| {
        let line = rest.split(|byte| *byte == b'\r').next().unwrap_or_default();
        line.windows(5).any(|window| window == b"HTTP/")
    };
    std::iter::once(bytes).chain(ends.map(|(at, _)| &bytes[at + 4..]).filter(begins_one)).collect()
}

const CASES: u32 = 1500;

/// Returns hand-written requests: valid ones, odd ones, and attempts at request smuggling.
fn table() -> Vec<String> {
    let mut table = Vec::new();
    for line in [
        "GET / HTTP/1.1",
        "GET /a/b?c=d&e HTTP/1.1",
        "PUT /%20 HTTP/1.1",
        "OPTIONS * HTTP/1.1",
        "GET http://b/c HTTP/1.1",
        "GET https://b:8/c?d HTTP/1.1",
        "GET https://b:&/c?d HTTP/1.1",
        "get / HTTP/1.1",
        "M-SEARCH / HTTP/1.1",
        "GET / HTTP/1.0",
        "GET // HTTP/1.1",
        "GET /\u{e9} HTTP/1.1",
        "GET /a\"b HTTP/1.1",
        "GET /{}|\\^` HTTP/1.1",
        "GET * HTTP/1.1",
        "GET a HTTP/1.1",
        "GET  / HTTP/1.1",
        "GET /  HTTP/1.1",
        "GET\t/ HTTP/1.1",
        "GET / HTTP/1.1 ",
        " GET / HTTP/1.1",
        "GET / HTTP/1.2",
        "GET / HTTP/2.0",
        "GET / HTTP/0.9",
        "GET / http/1.1",
        "GET / HTTP/11",
        "GET /",
        "GET",
        "",
        "G@T / HTTP/1.1",
        "CONNECT a:80 HTTP/1.1",
        "CONNECT / HTTP/1.1",
        "GET /a#b HTTP/1.1",
        "GET http://u@b/ HTTP/1.1",
        "GET ftp://b/ HTTP/1.1",
        "GET http:// HTTP/1.1",
        "GET /a\0b HTTP/1.1",
        "GET /a\rb HTTP/1.1",
        "GET / HTTP/1.1\r",
        "\r\nGET / HTTP/1.1",
        "\r\n\r\n\r\n\r\n\r\nGET / HTTP/1.1",
    ] {
        table.push(format!("{line}\r\nHost: a\r\n\r\n"));
        table.push(format!("{line}\nHost: a\n\n"));
    }
    for fields in [
        "",
        "Host: a\r\nHost: a\r\n",
        "Host:\r\n",
        "Host: a b\r\n",
        "Host: a:80\r\n",
        "Host: [::1]\r\n",
        "Host: $[::1]\r\n",
        "Host: a/b\r\n",
        "Host: u@a\r\n",
        "Host : a\r\n",
        " Host: a\r\n",
        "Host: a\r\n b\r\n",
        "Host: a\r\n\tb: c\r\n",
        "Host: a\r\nX\r\n",
        "Host: a\r\n: x\r\n",
        "Host: a\r\nX:\r\n",
        "Host: a\r\nX:   y  \r\n",
        "Host: a\r\nX: \u{e9}\r\n",
        "Host: a\r\nX: \0\r\n",
        "Host: a\r\nX: a\rb\r\n",
        "Host: a\r\nX: a\nY: b\r\n",
        "Host: a\r\nX\0: a\r\n",
        "Host: a\r\nX Y: a\r\n",
        "Host: a\r\n\u{e9}: a\r\n",
        "Host: a\r\nConnection: close\r\n",
        "Host: a\r\nConnection: keep-alive, close\r\n",
        "Host: a\r\nUpgrade: x\r\nConnection: upgrade\r\n",
        "Host: a\r\nContent-Length: 0\r\n",
        "Host: a\r\nContent-Length: 5\r\n",
        "Host: a\r\nContent-Length: 005\r\n",
        "Host: a\r\nContent-Length: 5 \r\n",
        "Host: a\r\nContent-Length: +5\r\n",
        "Host: a\r\nContent-Length: -5\r\n",
        "Host: a\r\nContent-Length: 5, 5\r\n",
        "Host: a\r\nContent-Length: 5,6\r\n",
        "Host: a\r\nContent-Length: 0x5\r\n",
        "Host: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n",
        "Host: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n",
        "Host: a\r\nContent-Length:\r\n",
        "Host: a\r\nContent-Length: 5;\r\n",
        "Host: a\r\nContent-Length: 18446744073709551616\r\n",
        "Host: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n",
        "Host: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n",
        "Host: a\r\nTransfer-Encoding: gzip\r\n",
        "Host: a\r\nTransfer-Encoding: gzip, chunked\r\n",
        "Host: a\r\nTransfer-Encoding: chunked, gzip\r\n",
        "Host: a\r\nTransfer-Encoding: chunked, chunked\r\n",
        "Host: a\r\nTransfer-Encoding: identity\r\n",
        "Host: a\r\nTransfer-Encoding: xchunked\r\n",
        "Host: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Host: a\r\nTransfer-Encoding: \"chunked\"\r\n",
        "Host: a\r\nTransfer-Encoding:\r\n",
        "Host: a\r\nTransfer-Encoding: ,chunked\r\n",
        "Host: a\r\nTransfer-Encoding : chunked\r\n",
        "Host: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n",
        "Host: a\r\nExpect: x\r\nContent-Length: 5\r\n",
    ] {
        for version in ["1.0", "1.1"] {
            table.push(format!("PUT /f HTTP/{version}\r\n{fields}\r\n5\r\nhello\r\n0\r\n\r\nGET /next HTTP/1.1\r\nHost: a\r\n\r\n"));
        }
    }
    for chunks in [
        "0\r\n\r\n",
        "5\r\nhello\r\n0\r\n\r\n",
        "5;a=b\r\nhello\r\n0\r\n\r\n",
        "5 ;a=b\r\nhello\r\n0\r\n\r\n",
        "5\t\r\nhello\r\n0\r\n\r\n",
        "5;a=\"\\\"\"\r\nhello\r\n0\r\n\r\n",
        "05\r\nhello\r\n000\r\n\r\n",
        "A\r\n0123456789\r\n0\r\n\r\n",
        "a\r\n0123456789\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhell\r\n0\r\n\r\n",
        "5\r\nhelloo\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello\r\n0\n\r\n",
        "5\r\nhello\r\n0\r\n\n",
        "x\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "\r\n5\r\nhello\r\n0\r\n\r\n",
        ";a\r\n\r\n",
        "ffffffffffffffff\r\n",
        "10000000000000005\r\nhello\r\n0\r\n\r\n",
        "5;a\rb\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\r\nA: b\r\n\r\n",
        "5\r\nhello\r\n0\r\nA: b\r\nC: d\r\n\r\n",
        "5\r\nhello\r\n0\r\nA\r\n\r\n",
        "5\r\nhello\r\n0\r\nContent-Length: 3\r\n\r\n",
        "5\r\nhello\r\n0\r\nA: b\n\r\n",
        "5\r\nhello\r\n0\r\n A: b\r\n\r\n",
        "5\r\nhello\r\n0;x\r\n\r\n",
        "5\r\nhello\r\n",
        "5\r\nhel",
        "5",
        "",
    ] {
        table.push(format!("PUT /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}GET /next HTTP/1.1\r\nHost: a\r\n\r\n"));
    }
    table
}

#[tokio::test]
async fn hand_written_requests_are_read_as_by_hyper() {
    let servers = servers().await;
    let table = table();
    assert!(table.len() > 150);
    let mut wrong = Vec::new();
    for request in &table {
        let (ours, theirs) = servers.accepted(request.as_bytes()).await;
        wrong.extend(compare(request.as_bytes(), &ours, &theirs).err());
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), table.len(), wrong.join("\n"));
}

#[test]
fn mutated_requests_are_read_as_by_hyper() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let servers = runtime.block_on(servers());
    let table = table();
    let byte = prop_oneof![any::<u8>(), proptest::sample::select(b"\r\n :;,0159aAfxX-+\t\"".to_vec())];
    let edit = (any::<proptest::sample::Index>(), 0..3u8, byte);
    let cases = (any::<proptest::sample::Index>(), proptest::collection::vec(edit, 1..4));
    let config = ProptestConfig { cases: CASES, failure_persistence: None, ..Default::default() };
    proptest!(config, |((which, edits) in cases)| {
        let mut bytes = which.get(&table).clone().into_bytes();
        for (at, kind, byte) in edits {
            let at = at.index(bytes.len());
            match kind {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ if bytes.len() > 1 => drop(bytes.remove(at)),
                _ => {}
            }
        }
        let (ours, theirs) = runtime.block_on(servers.accepted(&bytes));
        compare(&bytes, &ours, &theirs).map_err(TestCaseError::fail)?;
    });
}
