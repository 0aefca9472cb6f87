//! The grammar of heads: valid and invalid ones, in pieces of any size.

use super::*;

fn parse_all(input: &[u8], step: usize) -> Result<Option<Head>, Rejection> {
    let (mut heads, mut buf) = (Heads::default(), BytesMut::new());
    for piece in input.chunks(step) {
        buf.extend_from_slice(piece);
        if let Some(head) = heads.next(&mut buf, &Limits::default())? {
            return Ok(Some(head));
        }
    }
    Ok(None)
}

#[test]
fn a_head_parses_the_same_in_every_split() {
    let input = b"\r\nPOST /a?b HTTP/1.1\r\nHost: h:1\r\nX:\t y \r\nX:\r\nContent-Length: 007\r\n\r\n";
    for step in 1..=input.len() {
        let head = parse_all(input, step).unwrap().unwrap();
        assert_eq!((head.method.as_str(), head.uri.to_string().as_str()), ("POST", "/a?b"));
        assert_eq!(head.version, Version::HTTP_11);
        assert_eq!(head.framing, Framing::Length(7));
        let values: Vec<_> = head.fields.get_all("x").iter().collect();
        assert_eq!(values, ["y", ""]);
        assert!(head.keep_alive && !head.expects_continue);
    }
}

#[test]
fn valid_heads_are_accepted() {
    for (line, fields, framing, keep_alive) in [
        ("GET / HTTP/1.1", "Host: a\r\n", Framing::Done, true),
        ("GET / HTTP/1.1", "Host:\r\n", Framing::Done, true),
        ("GET / HTTP/1.1", "Host: a:\r\n", Framing::Done, true),
        ("GET / HTTP/1.1", "Host: a:65535\r\n", Framing::Done, true),
        ("GET / HTTP/1.1", "Host: [::1]:80\r\nConnection: x, Close\r\n", Framing::Done, false),
        ("GET / HTTP/1.0", "", Framing::Done, false),
        ("GET / HTTP/1.0", "Connection: Keep-Alive\r\n", Framing::Done, true),
        ("GET http://a/b HTTP/1.1", "Host: c\r\n", Framing::Done, true),
        ("OPTIONS * HTTP/1.1", "Host: a\r\n", Framing::Done, true),
        ("M-SEARCH /x HTTP/1.1", "Host: a\r\n", Framing::Done, true),
        ("PUT / HTTP/1.1", "Host: a\r\nTransfer-Encoding: Chunked\r\n", Framing::chunked(), true),
        (
            "PUT / HTTP/1.1",
            "Host: a\r\nContent-Length: 18446744073709551615\r\n",
            Framing::Length(u64::MAX),
            true,
        ),
        ("PUT / HTTP/1.1", "Host: a\r\nContent-Length: 0\r\n", Framing::Done, true),
        ("PUT / HTTP/1.1", "Host: a\r\nX: \u{e9}\r\n", Framing::Done, true),
    ] {
        let input = format!("{line}\r\n{fields}\r\n");
        let head = parse_all(input.as_bytes(), usize::MAX).unwrap().unwrap();
        assert_eq!((head.framing, head.keep_alive), (framing, keep_alive), "{input:?}");
    }
    let head = parse_all(b"GET http://a/b HTTP/1.1\r\nHost: c\r\n\r\n", 9).unwrap().unwrap();
    assert_eq!(head.fields["host"], "a");
}

#[test]
fn invalid_heads_are_rejected_with_a_status() {
    let bad = Rejection::malformed("").status;
    let coding = Rejection::UNKNOWN_TRANSFER_CODING.status;
    let version = Rejection::UNKNOWN_VERSION.status;
    for (input, status) in [
        ("GET / HTTP/1.1\r\n\r\n", bad),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", bad),
        ("GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", bad),
        ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", bad),
        ("GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", bad),
        ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", bad),
        ("GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n", bad),
        ("GET / HTTP/1.1\r\nHost: a:x\r\n\r\n", bad),
        ("GET / HTTP/1.1\r\nHost: a:-1\r\n\r\n", bad),
        ("GET / HTTP/1.1\r\nHost: [::1]:99999\r\n\r\n", bad),
        ("GET http://a:65536/ HTTP/1.1\r\nHost: a\r\n\r\n", bad),
        ("GET / HTTP/1.1\nHost: a\r\n\r\n", bad),
        ("GET / HTTP/1.1\r\nHost: a\n\r\n", bad),
        ("GET / HTTP/1.1\r\nHost: a\r\n\n", bad),
        ("GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n", bad),
        ("GET / HTTP/1.1\r\nHost: a\r\r\n\r\n", bad),
        ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", bad),
        ("GET / HTTP/1.1\r\n Host: a\r\n\r\n", bad),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n z\r\n\r\n", bad),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n", bad),
        ("GET / HTTP/1.1\r\nHost: a\r\n: x\r\n\r\n", bad),
        ("GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n", bad),
        ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", bad),
        ("GET /  HTTP/1.1\r\nHost: a\r\n\r\n", version),
        ("GET / HTTP/1.1 \r\nHost: a\r\n\r\n", bad),
        ("GET /\r\n\r\n", bad),
        ("GET\r\n\r\n", bad),
        (" GET / HTTP/1.1\r\nHost: a\r\n\r\n", bad),
        ("\x16\x03\x01", bad),
        ("\n", bad),
        ("\r\n\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\n", bad),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", version),
        ("GET / HTTP/1.2\r\nHost: a\r\n\r\n", version),
        ("GET / http/1.1\r\nHost: a\r\n\r\n", version),
        ("GET a HTTP/1.1\r\nHost: a\r\n\r\n", bad),
        ("GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n", bad),
        ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", bad),
        ("OPTIONS *x HTTP/1.1\r\nHost: a\r\n\r\n", bad),
        ("GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", bad),
        ("GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", bad),
        ("GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n", bad),
        ("GET http:///a HTTP/1.1\r\nHost: a\r\n\r\n", bad),
        ("CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n", bad),
        ("CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", Rejection::CONNECT.status),
        ("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", bad),
        ("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", bad),
        ("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\n", bad),
        ("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n", bad),
        ("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x1\r\n\r\n", bad),
        ("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n", bad),
        ("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551616\r\n\r\n", bad),
        ("PUT / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", bad),
        ("PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n", bad),
        ("PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n", bad),
        ("PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", coding),
        ("PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n", coding),
        ("PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked;a=b\r\n\r\n", coding),
        ("PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\r\n", coding),
        ("PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n", bad),
        ("PUT / HTTP/1.1\r\nHost: a\r\nExpect: 200-ok\r\n\r\n", Rejection::UNKNOWN_EXPECTATION.status),
    ] {
        for step in [1, usize::MAX] {
            let reject = parse_all(input.as_bytes(), step).map(|head| head.is_some()).expect_err(input);
            assert_eq!(reject.status, status, "{input:?}: {reject:?}");
        }
    }
}

#[test]
fn heads_that_are_too_large_are_rejected() {
    let long = "a".repeat(70_000);
    let many = "A: b\r\n".repeat(100);
    for (input, reject) in [
        (format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n"), Rejection::TARGET_TOO_LONG),
        (format!("GET / HTTP/1.1\r\nHost: a\r\nX: {long}\r\n\r\n"), Rejection::HEAD_TOO_LARGE),
        (format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n"), Rejection::TOO_MANY_FIELDS),
    ] {
        assert_eq!(parse_all(input.as_bytes(), 1000).unwrap_err(), reject);
    }
}
