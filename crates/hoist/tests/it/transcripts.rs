//! Complete sessions in every version of the IETF dialect: byte for byte over HTTP/1.1, and the same fields over
//! HTTP/2.
//!
//! A transcript has sections, each on its own connection. `> ` is a line of the client's head and `>> ` its content, `<
//! ` is a line of the server's head and `<< ` its content; a lone `>` or `<` ends a head. `= stored 10` waits until
//! that many bytes are stored, `= cut` closes the connection. Names in braces stand for values that differ between
//! runs.

use std::future::poll_fn;

use tokio::io::AsyncReadExt as _;

use crate::harness::{H2, Raw, Server, ServerDir, TestRequest, h2_send, within_timeout};

const TRANSCRIPTS: [(&str, &str); 9] = [
    ("v3", include_str!("../transcripts/v3.txt")),
    ("v4", include_str!("../transcripts/v4.txt")),
    ("v5", include_str!("../transcripts/v5.txt")),
    ("v6", include_str!("../transcripts/v6.txt")),
    ("v7", include_str!("../transcripts/v7.txt")),
    ("v8", include_str!("../transcripts/v8.txt")),
    ("v9", include_str!("../transcripts/v9.txt")),
    ("v10", include_str!("../transcripts/v10.txt")),
    ("rfc", include_str!("../transcripts/rfc.txt")),
];

/// A section: its name and its steps.
type Section<'a> = (&'a str, Vec<Act<'a>>);

enum Act<'a> {
    /// The head of the client's request.
    Asks(Vec<&'a str>),
    /// The content of the client's request.
    Sends(&'a str),
    /// The head of a response, interim or final.
    Hears(Vec<&'a str>),
    /// The content of a response.
    Reads(&'a str),
    Stored(usize),
    Cut,
}

fn sections(text: &str) -> Vec<Section<'_>> {
    let mut sections: Vec<Section<'_>> = Vec::new();
    let mut head = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let act = match line.split_once(' ') {
            Some(("==", name)) => {
                sections.push((name, Vec::new()));
                continue;
            }
            Some((">" | "<", field)) => {
                head.push(field);
                continue;
            }
            Some((">>", content)) => Act::Sends(content),
            Some(("<<", content)) => Act::Reads(content),
            Some(("=", "cut")) => Act::Cut,
            Some(("=", wait)) => {
                let bytes = wait.strip_prefix("stored ").expect("what to wait for");
                Act::Stored(bytes.parse().expect("a number of bytes"))
            }
            None if line == ">" => Act::Asks(std::mem::take(&mut head)),
            None if line == "<" => Act::Hears(std::mem::take(&mut head)),
            _ => panic!("what is this: {line:?}"),
        };
        sections.last_mut().expect("a section").1.push(act);
    }
    assert!(head.is_empty(), "a head has an end");
    sections
}

/// The values of the names in braces.
struct Names {
    host: String,
    /// The URL of the upload, from the first `Location` after a creation.
    upload: Option<String>,
}

impl Names {
    /// Fills in a line of the client.
    fn print_note(&self, line: &str) -> String {
        let path = self.upload.as_deref().and_then(|url| url.split_once("://")?.1.split_once('/'));
        let path = path.map(|(_, path)| format!("/{path}")).unwrap_or_default();
        line.replace("{host}", &self.host).replace("{path}", &path)
    }

    /// Forgets the upload before a new creation.
    fn begin(&mut self, head: &[&str]) {
        if head[0].starts_with("POST") {
            self.upload = None;
        }
    }

    /// Returns whether a line of the server matches the transcript.
    fn agree(&mut self, expected: &str, got: &str) -> bool {
        let (mut expected, mut got) = (expected, got);
        while let Some((literal, rest)) = expected.split_once('{') {
            let (name, after) = rest.split_once('}').expect("a name ends");
            let Some(value) = got.strip_prefix(literal) else { return false };
            let end = match name {
                "age" => value.find(|char: char| !char.is_ascii_digit()),
                "upload" | "date" => None,
                other => panic!("what is {other}?"),
            };
            let (value, left) = value.split_at(end.unwrap_or(value.len()));
            let is_right = match name {
                "age" => value.parse().is_ok_and(|age: u32| age <= 7 * 24 * 3600),
                "date" => value.ends_with(" GMT") && value.len() == 29,
                _ => self.upload.get_or_insert_with(|| value.to_owned()) == value,
            };
            if !is_right {
                return false;
            }
            (expected, got) = (after, left);
        }
        expected == got
    }
}

// proves: IETF-INT-01, IETF-INT-05, IETF-INT-14, IETF-CRE-07, IETF-CRE-08, IETF-RES-01, IETF-RET-02, IETF-RET-08, IETF-APP-07, IETF-APP-08, IETF-APP-10, IETF-APP-11, IETF-APP-12, IETF-APP-14, IETF-DEL-02, IETF-DEL-04, IETF-VER-03, IETF-VER-07, IETF-VER-08
#[tokio::test]
async fn every_version_matches_its_transcript_over_http1() {
    for (version, text) in TRANSCRIPTS {
        let home = ServerDir::new();
        let server = Server::start(&home, &["--durability", "os"]);
        let mut names = Names { host: server.addr.to_string(), upload: None };
        for (section, acts) in sections(text) {
            let mut raw = Raw::connect(&server).await;
            let mut seen = Vec::new();
            for act in acts {
                let place = format!("{version}, {section}");
                match act {
                    Act::Asks(head) => {
                        names.begin(&head);
                        raw.send(format!("{}\r\n\r\n", names.print_note(&head.join("\r\n")))).await;
                    }
                    Act::Sends(content) => raw.send(content).await,
                    Act::Hears(expected) => {
                        let end = read_until(&mut raw, &mut seen, |seen| {
                            Some(seen.windows(4).position(|window| window == b"\r\n\r\n")? + 4)
                        })
                        .await;
                        let head = String::from_utf8(seen.drain(..end).collect()).expect("ASCII");
                        let got: Vec<_> = head.trim_end().split("\r\n").collect();
                        let agrees = got.len() == expected.len()
                            && expected.iter().zip(&got).all(|(expected, got)| names.agree(expected, got));
                        assert!(agrees, "{place}: {got:#?} instead of {expected:#?}");
                    }
                    Act::Reads(expected) => {
                        let all = |seen: &[u8]| (seen.len() >= expected.len()).then_some(expected.len());
                        let end = read_until(&mut raw, &mut seen, all).await;
                        let got: Vec<u8> = seen.drain(..end).collect();
                        assert_eq!(String::from_utf8_lossy(&got), expected, "{place}");
                    }
                    Act::Stored(bytes) => home.holds(bytes).await,
                    Act::Cut => break,
                }
            }
            assert!(seen.is_empty(), "{version}, {section}: {:?}", String::from_utf8_lossy(&seen));
        }
        server.stop().await;
    }
}

/// Reads until a marker and returns its position.
async fn read_until(raw: &mut Raw, seen: &mut Vec<u8>, end: impl Fn(&[u8]) -> Option<usize>) -> usize {
    loop {
        if let Some(end) = end(seen) {
            return end;
        }
        let read = within_timeout("an answer", raw.tcp.read_buf(seen)).await.expect("an open connection");
        assert!(read > 0, "the connection ended after {:?}", String::from_utf8_lossy(seen));
    }
}

/// Returns the method of a transcript as a static string.
const METHODS: [&str; 5] = ["POST", "PATCH", "HEAD", "GET", "DELETE"];

fn request(names: &Names, head: &[&str], content: &str) -> TestRequest {
    let mut line = head[0].split(' ');
    let method = line.next().expect("a method");
    let method = METHODS.into_iter().find(|known| *known == method).expect("a known method");
    let mut request =
        TestRequest::to(method, &names.print_note(line.next().expect("a target"))).sized(content);
    for field in &head[1..] {
        let (name, value) = field.split_once(": ").expect("a field");
        if !matches!(name, "Host" | "Content-Length") {
            request = request.field(&name.to_lowercase(), value);
        }
    }
    request
}

/// Compares a head with the equivalent lines of HTTP/1.1.
fn compare(names: &mut Names, place: &str, expected: &[&str], status: u16, fields: &http::HeaderMap) {
    let code = expected[0].split(' ').nth(1).expect("a status");
    let is_explicit = |name: &str| !matches!(name, "connection" | "content-length");
    let split = |line: &&str| {
        let (name, value) = line.split_once(": ").expect("a field");
        (name.to_lowercase(), value.to_owned())
    };
    let mut wanted: Vec<_> = expected[1..].iter().map(split).filter(|(name, _)| is_explicit(name)).collect();
    let mut got: Vec<_> = fields
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), value.to_str().expect("ASCII").to_owned()))
        .filter(|(name, _)| is_explicit(name))
        .collect();
    wanted.sort();
    got.sort();
    let agrees = code == status.to_string()
        && wanted.len() == got.len()
        && wanted.iter().zip(&got).all(|(wanted, got)| wanted.0 == got.0 && names.agree(&wanted.1, &got.1));
    assert!(agrees, "{place}: {status} {got:#?} instead of {expected:#?}");
}

#[tokio::test]
async fn every_version_matches_its_transcript_over_http2() {
    for (version, text) in TRANSCRIPTS {
        let home = ServerDir::new();
        let server = Server::start(&home, &["--durability", "os"]);
        let mut names = Names { host: "localhost".into(), upload: None };
        for (section, acts) in sections(text) {
            let h2 = H2::connect(&server).await;
            let place = format!("{version}, {section}");
            let mut acts = acts.into_iter().peekable();
            while let Some(act) = acts.next() {
                let Act::Asks(head) = act else { panic!("{place}: a request comes first") };
                let (mut content, mut heads, mut document, mut stored) = ("", Vec::new(), "", None);
                let mut is_cut = false;
                while let Some(act) = acts.next_if(|act| !matches!(act, Act::Asks(_))) {
                    match act {
                        Act::Sends(sent) => content = sent,
                        Act::Hears(head) => heads.push(head),
                        Act::Reads(read) => document = read,
                        Act::Stored(bytes) => stored = Some(bytes),
                        Act::Cut => is_cut = true,
                        Act::Asks(_) => unreachable!("that is the next one"),
                    }
                }
                names.begin(&head);
                let request = request(&names, &head, content);
                if is_cut {
                    let length = head.iter().find_map(|line| line.strip_prefix("Content-Length: "));
                    let length = length.expect("more was promised").parse().expect("a length");
                    let request = request.stalls(Some(length));
                    let stored = stored.expect("what is known to be stored");
                    cut(&h2, &home, &mut names, &place, (request, content, &heads, stored)).await;
                    continue;
                }
                let got = within_timeout("an answer", h2.request(request)).await.expect("an answer");
                let last = heads.pop().expect("an answer");
                assert_eq!(got.interims.len(), heads.len(), "{place}: {:?}", got.interims);
                for (expected, (status, fields)) in heads.iter().zip(&got.interims) {
                    compare(&mut names, &place, expected, *status, fields);
                }
                compare(&mut names, &place, &last, got.status, &got.fields);
                assert_eq!(String::from_utf8_lossy(&got.content), document, "{place}");
            }
        }
        server.stop().await;
    }
}

/// Sends part of the content, and resets the stream once it is stored.
async fn cut(
    h2: &H2,
    home: &ServerDir,
    names: &mut Names,
    place: &str,
    (request, content, heads, stored): (TestRequest, &str, &[Vec<&str>], usize),
) {
    let mut streams = h2.streams.clone().ready().await.expect("room for a stream");
    let (mut response, mut stream) = streams.send_request(request.h2(), false).expect("sent");
    for expected in heads {
        let interim =
            within_timeout("an interim response", poll_fn(|cx| response.poll_informational(cx))).await;
        let (interim, ()) = interim.expect("one").expect("no error").into_parts();
        compare(names, place, expected, interim.status.as_u16(), &interim.headers);
    }
    h2_send(&mut stream, content.to_owned().into(), false).await.expect("sent");
    home.holds(stored).await;
    stream.send_reset(h2::Reason::CANCEL);
}
