//! Parsing takes linear time in the length of the input.
//!
//! Each case is a kind of hostile input. The same number of bytes is sent in few long and in many short requests, and
//! the server's processor time is compared. A quadratic parser takes sixteen times as long for the long requests; a
//! linear one takes less, because of the fixed cost per request.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use crate::harness::{Server, ServerDir};

/// The length of the field in a long request. The head stays below the limit of 64 KiB.
const LONG: usize = 48 << 10;
/// The number of short requests that carry as much as a long one.
const SPLIT: usize = 16;
/// The number of long requests per measurement.
const ROUNDS: usize = 2;
/// The maximum ratio of processor times. Quadratic parsing would take sixteen times as long.
const TIMES_MORE_MAX: u32 = 3;
/// The processor time below which measurements are not compared.
const NEGLIGIBLE: Duration = Duration::from_millis(60);

type Make = Box<dyn Fn(usize) -> String>;

/// Repeats a numbered piece up to `octets`.
fn many(octets: usize, piece: impl Fn(usize) -> String) -> String {
    let mut text = String::new();
    let mut number = 0;
    while text.len() < octets {
        text.push_str(&piece(number));
        number += 1;
    }
    text.truncate(octets);
    text
}

fn head(method: &str, target: &str, fields: &[(&str, &str)]) -> String {
    let mut head = format!("{method} {target} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n");
    for (name, value) in fields {
        let _ = write!(head, "{name}: {value}\r\n");
    }
    head + "\r\n"
}

/// Returns a request whose field has a value of a given length.
fn field(
    method: &'static str,
    name: &'static str,
    more: &'static [(&str, &str)],
    value: impl Fn(usize) -> String + 'static,
) -> Make {
    Box::new(move |octets| {
        let value = value(octets);
        let fields: Vec<_> = more.iter().copied().chain([(name, value.as_str())]).collect();
        head(method, "/uploads", &fields)
    })
}

const EMPTY: &[(&str, &str)] = &[("Content-Length", "0")];
const TUS: &[(&str, &str)] = &[("Content-Length", "0"), ("Tus-Resumable", "1.0.0"), ("Upload-Length", "5")];
const FINAL: &[(&str, &str)] = &[("Content-Length", "0"), ("Tus-Resumable", "1.0.0")];
const DRAFT: &[(&str, &str)] =
    &[("Content-Length", "0"), ("Upload-Draft-Interop-Version", "8"), ("Upload-Complete", "?1")];

/// File names from all sources.
fn names() -> Vec<(&'static str, Make)> {
    let disposition = |value: fn(usize) -> String| field("POST", "Content-Disposition", EMPTY, value);
    vec![
        ("a quoted name", disposition(|n| format!("attachment; filename=\"{}\"", "a".repeat(n)))),
        (
            "a name in UTF-8",
            disposition(|n| format!("attachment; filename*=UTF-8''{}", many(n, |_| "%C3%A4".into()))),
        ),
        ("a name of escapes", disposition(|n| format!("attachment; filename=\"{}", "\\\"".repeat(n / 2)))),
        (
            "a name of dots and slashes",
            disposition(|n| format!("attachment; filename=\"{}\"", "../".repeat(n / 3))),
        ),
        ("a name of blanks", disposition(|n| format!("attachment; filename=\"a{}b\"", " ".repeat(n)))),
        ("many parameters", disposition(|n| format!("attachment{}", many(n, |at| format!(";a{at}=1"))))),
        ("many empty parameters", disposition(|n| format!("attachment{}=", ";".repeat(n)))),
        ("a name in the target", Box::new(|n| head("PUT", &format!("/uploads/{}", "a".repeat(n)), EMPTY))),
        (
            "many segments in the target",
            Box::new(|n| head("PUT", &format!("/uploads{}", "/a".repeat(n / 2)), EMPTY)),
        ),
        (
            "escapes in the target",
            Box::new(|n| head("PUT", &format!("/uploads/{}", "%2e".repeat(n / 3)), EMPTY)),
        ),
    ]
}

/// Fields of proxies.
fn proxies() -> Vec<(&'static str, Make)> {
    let post = |name, value: fn(usize) -> String| field("POST", name, EMPTY, value);
    vec![
        (
            "elements of Forwarded",
            post("Forwarded", |n| many(n, |_| "for=127.0.0.1,".into()) + "for=127.0.0.1"),
        ),
        (
            "names in one element of Forwarded",
            post("Forwarded", |n| many(n, |at| format!("a{at:x}=1;")) + "for=_x"),
        ),
        ("quotes in Forwarded", post("Forwarded", |n| format!("for=\"{}", "\\\"".repeat(n / 2)))),
        ("addresses in X-Forwarded-For", post("X-Forwarded-For", |n| many(n, |_| "127.0.0.1,".into()))),
        ("schemes in X-Forwarded-Proto", post("X-Forwarded-Proto", |n| many(n, |_| "https,".into()))),
        ("a long X-Forwarded-Host", post("X-Forwarded-Host", |n| "a.".repeat(n / 2))),
        ("ports in X-Forwarded-Port", post("X-Forwarded-Port", |n| many(n, |_| "443,".into()))),
        ("a long Origin", post("Origin", |n| "https://".to_owned() + &"a".repeat(n))),
        ("a long list of Connection", post("Connection", |n| many(n, |_| "x,".into()))),
        ("a long list of Trailer", post("Trailer", |n| many(n, |_| "x,".into()))),
        ("transfer codings", field("POST", "Transfer-Encoding", &[], |n| many(n, |_| "chunked,".into()))),
        ("a long Content-Type", post("Content-Type", |n| "a/b".to_owned() + &";a=b".repeat(n / 4))),
        (
            "a long name of a field",
            Box::new(|n| head("POST", "/uploads", &[("Content-Length", "0"), (&"a".repeat(n), "b")])),
        ),
        (
            "many fields of one name",
            Box::new(|n| {
                let value = "a".repeat(n / 90);
                head("POST", "/uploads", &[&[("Content-Length", "0")][..], &[("X-A", &*value); 90]].concat())
            }),
        ),
    ]
}

/// Fields of the dialects.
fn dialects() -> Vec<(&'static str, Make)> {
    let token = |name, value: fn(usize) -> String| {
        field("POST", name, &[("Content-Length", "0"), ("Upload-Token", "abcdef")], value)
    };
    let draft = |name, value: fn(usize) -> String| field("POST", name, DRAFT, value);
    vec![
        ("a long token", field("POST", "Upload-Token", EMPTY, |n| "a".repeat(n))),
        (
            "a token that is a string",
            field("POST", "Upload-Token", EMPTY, |n| format!("\"{}\"", "\\\\".repeat(n / 2))),
        ),
        (
            "a token in Base64",
            field("POST", "Upload-Token", EMPTY, |n| format!(":{}:", "A".repeat(n / 4 * 4))),
        ),
        (
            "a token with parameters",
            field("POST", "Upload-Token", EMPTY, |n| "\"a\"".to_owned() + &many(n, |at| format!(";a{at}"))),
        ),
        (
            "parameters of Upload-Index",
            token("Upload-Index", |n| "0".to_owned() + &many(n, |at| format!(";a{at}=1"))),
        ),
        ("a long Upload-Offset", token("Upload-Offset", |n| "0".repeat(n))),
        (
            "parameters of Upload-Incomplete",
            token("Upload-Incomplete", |n| "?1".to_owned() + &many(n, |at| format!(";a{at}"))),
        ),
        (
            "parameters of Upload-Length",
            draft("Upload-Length", |n| "5".to_owned() + &many(n, |at| format!(";a{at}"))),
        ),
        (
            "members of Content-Digest",
            draft("Content-Digest", |n| many(n, |at| format!("a{at}=:AAAA:,")) + "b=:AAAA:"),
        ),
        ("members of Repr-Digest", draft("Repr-Digest", |n| "a=1,".repeat(n / 4) + "a=1")),
        (
            "members of Want-Repr-Digest",
            draft("Want-Repr-Digest", |n| many(n, |at| format!("a{at}=1,")) + "b=1"),
        ),
        ("inner lists of Repr-Digest", draft("Repr-Digest", |n| format!("a=({})", "1 ".repeat(n / 2)))),
        (
            "versions of tus",
            field("POST", "Tus-Resumable", EMPTY, |n| many(n, |_| "1.0.0,".into()) + "1.0.0"),
        ),
        (
            "methods to override with",
            field("POST", "X-HTTP-Method-Override", TUS, |n| many(n, |_| "POST,".into()) + "POST"),
        ),
        (
            "keys of Upload-Metadata",
            field("POST", "Upload-Metadata", TUS, |n| many(n / 4, |at| format!("{at:x},")) + "z"),
        ),
        (
            "a value of Upload-Metadata",
            field("POST", "Upload-Metadata", TUS, |n| format!("filename {}", "A".repeat(n / 16 * 4))),
        ),
        (
            "blanks in Upload-Metadata",
            field("POST", "Upload-Metadata", TUS, |n| format!("a{}b", " ".repeat(n / 4))),
        ),
        (
            "a long Upload-Checksum",
            field("POST", "Upload-Checksum", TUS, |n| format!("sha1 {}", "A".repeat(n / 4 * 4))),
        ),
        (
            "parts in Upload-Concat",
            field("POST", "Upload-Concat", FINAL, |n| {
                format!("final;{}x", many(n, |at| format!("/uploads/{at:0>26} ")))
            }),
        ),
        (
            "parts in Upload-Concat under a long target",
            Box::new(|n| {
                let urls = many(n / 2, |_| "00000000000000000000000000 ".into()) + "x";
                let parts = format!("final;{urls}");
                let fields = [FINAL, &[("Upload-Concat", &*parts)]].concat();
                head("POST", &format!("/uploads/{}", "a".repeat(n / 2)), &fields)
            }),
        ),
    ]
}

/// Chunked content.
fn content() -> Vec<(&'static str, Make)> {
    let chunked = |content: fn(usize) -> String| -> Make {
        Box::new(move |octets| {
            head("POST", "/uploads", &[("Transfer-Encoding", "chunked")]) + &content(octets)
        })
    };
    vec![
        ("chunks of one octet", chunked(|n| "1\r\nx\r\n".repeat(n / 6) + "0\r\n\r\n")),
        ("chunk extensions", chunked(|n| "1;a=b\r\nx\r\n".repeat(n / 40) + "0\r\n\r\n")),
        ("a long trailer", chunked(|n| format!("1\r\nx\r\n0\r\nA: {}\r\n\r\n", "a".repeat(n / 4)))),
        (
            "lines of a trailer",
            chunked(|n| {
                format!("1\r\nx\r\n0\r\n{}\r\n", format!("A: {}\r\n", "a".repeat(n / 400)).repeat(90))
            }),
        ),
    ]
}

/// The start of a file in a form.
const FILE: &str = "--xyz\r\nContent-Disposition: form-data; name=f; filename=f\r\n\r\n";

/// Forms with a file.
fn forms() -> Vec<(&'static str, Make)> {
    let form = |content: fn(usize) -> String| -> Make {
        Box::new(move |octets| {
            let content = content(octets) + "\r\n--xyz--\r\n";
            let (form, length) = ("multipart/form-data; boundary=xyz", content.len().to_string());
            head("POST", "/uploads", &[("Content-Type", form), ("Content-Length", &length)]) + &content
        })
    };
    vec![
        ("fields of a form", form(|n| "--xyz\r\n\r\nx\r\n".repeat(n / 12) + FILE)),
        ("almost delimiters in a form", form(|n| FILE.to_owned() + &"\r\n--xy".repeat(n / 6))),
        ("almost delimiters before a form", form(|n| "\r\n--xy".repeat(n / 6) + "\r\n" + FILE)),
        (
            "the head of a part",
            form(|n| {
                let fields = many(n / 4, |at| format!("A{at}: b\r\n"));
                format!("--xyz\r\nContent-Disposition: form-data; filename=f\r\n{fields}: \r\n\r\n")
            }),
        ),
    ]
}

/// Conditional and range requests for downloads.
fn questions(upload: &str) -> Vec<(&'static str, Make)> {
    let request = |name: &'static str, value: fn(usize) -> String| -> Make {
        let upload = upload.to_owned();
        Box::new(move |octets| head("GET", &upload, &[(name, &value(octets))]))
    };
    vec![
        ("ranges", request("Range", |n| "bytes=".to_owned() + &many(n, |at| format!("{at}-{at},")))),
        ("the digits of a range", request("Range", |n| format!("bytes={}-", "0".repeat(n)))),
        ("tags of If-None-Match", request("If-None-Match", |n| many(n, |_| "W/\"a\", ".into()))),
        ("tags of If-Match", request("If-Match", |n| many(n, |_| "\"a\",,,".into()))),
        ("commas of If-Match", request("If-Match", |n| ",".repeat(n))),
    ]
}

/// JWTs without a valid signature.
fn credentials() -> Vec<(&'static str, Make)> {
    let bearer = |value: fn(usize) -> String| {
        field("POST", "Authorization", EMPTY, move |octets| format!("Bearer {}", value(octets)))
    };
    vec![
        ("a long token of no kind", bearer(|n| "A".repeat(n))),
        ("a token of dots", bearer(|n| ".".repeat(n))),
        // `W1tb` is `[[[` in Base64.
        ("a nested header", bearer(|n| format!("{}.AAAA.AAAA", "W1tb".repeat(n / 4)))),
        ("nested claims", bearer(|n| format!("eyJhbGciOiJIUzI1NiJ9.{}.AAAA", "W1tb".repeat(n / 4)))),
        ("a long signature", bearer(|n| format!("eyJhbGciOiJIUzI1NiJ9.e30.{}", "A".repeat(n)))),
        (
            "a scheme of blanks",
            field("POST", "Authorization", EMPTY, |n| format!("Bearer{}x", " ".repeat(n))),
        ),
    ]
}

/// Sends a request on a new connection and waits for the end of the response.
fn answered(server: &Server, request: &str) -> String {
    let mut stream = TcpStream::connect(server.addr).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_mins(2))).expect("a timeout");
    // The response may be lost if the server closes before it has read everything.
    let _ = stream.write_all(request.as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

/// Returns the processor time of a server's threads.
fn spent(server: &Server) -> Duration {
    let threads = fs::read_dir(format!("/proc/{}/task", server.pid())).expect("it runs");
    let nanoseconds = threads.filter_map(|thread| {
        // A thread may have ended.
        let text = fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanoseconds.sum())
}

fn cost(server: &Server, request: &str, times: usize) -> Duration {
    let before = spent(server);
    for _ in 0..times {
        answered(server, request);
    }
    spent(server).saturating_sub(before)
}

fn is_linear(server: &Server, cases: Vec<(&'static str, Make)>) {
    for (name, make) in cases {
        let (long, short) = (make(LONG), make(LONG / SPLIT));
        assert!(long.len() < 64 << 10, "{name}: a head of {} octets is refused unread", long.len());
        let answer = answered(server, &short);
        assert!(answer.starts_with("HTTP/1.1 "), "{name}: {answer:?}");
        let in_few = cost(server, &long, ROUNDS);
        let in_many = cost(server, &short, ROUNDS * SPLIT);
        let most = in_many.saturating_mul(TIMES_MORE_MAX).max(NEGLIGIBLE);
        assert!(in_few <= most, "{name}: {in_few:?} in long requests, {in_many:?} in short ones");
    }
}

#[test]
fn file_names_are_read_in_linear_time() {
    let home = ServerDir::new();
    let files = home.text("files");
    let server = Server::start(&home, &["--target", "files", "--files-dir", &files]);
    is_linear(&server, names());
}

#[test]
fn header_fields_are_read_in_linear_time() {
    let home = ServerDir::new();
    let server = Server::start(&home, &["--trusted-proxy", "127.0.0.0/8"]);
    is_linear(&server, proxies());
    is_linear(&server, dialects());
    is_linear(&server, content());
}

#[test]
fn forms_are_read_in_linear_time() {
    let home = ServerDir::new();
    let server = Server::start(&home, &["--accept-forms"]);
    is_linear(&server, forms());
}

#[test]
fn download_requests_are_read_in_linear_time() {
    let home = ServerDir::new();
    let server = Server::start(&home, &["--downloads"]);
    let created = answered(&server, &head("POST", "/uploads", EMPTY));
    let location = created.lines().find_map(|line| line.strip_prefix("Location: ")).expect("an upload");
    let (_, id) = location.rsplit_once('/').expect("a path");
    is_linear(&server, questions(&format!("/uploads/{id}")));
}

#[test]
fn credentials_are_read_in_linear_time() {
    let home = ServerDir::new();
    let key = home.text("key");
    fs::write(&key, "a secret of more than thirty-two octets").expect("written");
    let server = Server::start(&home, &["--jwt-key", &key, "--jwt-algorithm", "HS256"]);
    is_linear(&server, credentials());
}
