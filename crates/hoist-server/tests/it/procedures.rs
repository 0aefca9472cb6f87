//! The four procedures of the Upload-Token dialect, response by response, in its seed form and its draft forms.

use std::sync::Arc;

use hoist_proto::policy::{Limits, Policy};
use hoist_server::Hoist;
use hoist_store::memory::MemoryStore;
use hoist_store::store::Store;

use crate::harness::{Content, Ends, Got, hoist, request, request_to, send};

type Field<'a> = (&'a str, &'a str);

const T: (&str, &str) = ("upload-token", "abcdef");
const V2: (&str, &str) = ("upload-draft-interop-version", "2");
const V1: (&str, &str) = ("upload-draft-interop-version", "1");
const T5: (&str, &str) = ("upload-draft-version", "1");
const MORE: (&str, &str) = ("upload-incomplete", "?1");

/// A request and the expected response: its status, and fields with their values (`-` for a field that must be absent).
struct Exchange<'a> {
    method: &'a str,
    fields: Vec<Field<'a>>,
    content: Content,
    status: u16,
    expected: Vec<Field<'a>>,
}

fn x<'a>(
    method: &'a str,
    fields: &[Field<'a>],
    content: Content,
    status: u16,
    expected: &[Field<'a>],
) -> Exchange<'a> {
    Exchange { method, fields: fields.to_vec(), content, status, expected: expected.to_vec() }
}

fn bytes(count: usize) -> Content {
    Content::sized(&vec![b'x'; count])
}

fn chunks(count: usize) -> Content {
    Content::chunked(&vec![b'x'; count])
}

fn cut(arrived: usize, declared: u64) -> Content {
    Content::new(&vec![b'x'; arrived], 10, Ends::Cut, Some(declared))
}

async fn play(hoist: &Hoist, exchanges: Vec<Exchange<'_>>) -> Got {
    let mut last = None;
    for (index, exchange) in exchanges.into_iter().enumerate() {
        let Exchange { method, fields, content, status, expected } = exchange;
        let got = send(hoist, request(method, &fields, content)).await;
        assert_eq!(got.status.as_u16(), status, "{index}: {method} {fields:?} -> {got:?}");
        for (name, value) in expected {
            let expected = (value != "-").then_some(value);
            assert_eq!(got.field(name), expected, "{index}: {method} {fields:?} {name} of {got:?}");
        }
        // Clients of tus 1.0 show the text of an error to the user.
        if got.field("tus-resumable").is_some() && status >= 400 {
            assert_eq!(got.field("content-type"), Some("text/plain; charset=utf-8"), "{index}");
        } else if status >= 400 {
            assert_eq!(got.field("content-type"), Some("application/problem+json"), "{index}");
            let document: serde_json::Value =
                serde_json::from_slice(&got.content).expect("a problem document");
            assert_eq!(document["status"], status, "{index}");
        }
        last = Some(got);
    }
    last.expect("at least one exchange")
}

fn none() -> Content {
    Content::none()
}

fn new_hoist() -> Hoist {
    hoist(&MemoryStore::new())
}

// proves: TOK-CRE-02, TOK-OFF-01, TOK-APP-01, TOK-CAN-01, TOK-OFF-04, TDR-OFF-04
#[tokio::test]
async fn the_example_of_the_draft_with_one_interruption() {
    play(
        &new_hoist(),
        vec![
            x("POST", &[T], cut(100, 200), 400, &[("upload-offset", "100"), ("upload-complete", "?0")]),
            x(
                "HEAD",
                &[T],
                none(),
                204,
                &[
                    ("upload-offset", "100"),
                    ("upload-length", "200"),
                    ("upload-complete", "?0"),
                    ("cache-control", "no-store"),
                    ("upload-incomplete", "-"),
                    ("upload-draft-interop-version", "-"),
                ],
            ),
            x(
                "PATCH",
                &[T, ("upload-offset", "100")],
                bytes(100),
                204,
                &[("upload-offset", "200"), ("upload-complete", "?1")],
            ),
            x("DELETE", &[T], none(), 204, &[("upload-offset", "-")]),
            x("HEAD", &[T], none(), 404, &[("upload-offset", "-")]),
            x("PATCH", &[T, ("upload-offset", "200")], none(), 404, &[]),
            x("DELETE", &[T], none(), 404, &[]),
            x("POST", &[T], bytes(3), 204, &[("upload-offset", "3"), ("upload-complete", "?1")]),
        ],
    )
    .await;
}

// proves: TOK-TOKEN-01, TOK-TOKEN-02
#[tokio::test]
async fn equal_tokens_name_one_upload_and_a_malformed_token_creates_none() {
    let store = MemoryStore::new();
    let hoist = hoist(&store);
    let name = "upload-token";
    play(
        &hoist,
        vec![
            x("POST", &[(name, "abcdef"), ("upload-length", "9")], none(), 204, &[]),
            x(
                "PATCH",
                &[(name, "\"abcdef\""), ("upload-offset", "0")],
                bytes(4),
                204,
                &[("upload-offset", "4")],
            ),
            x("HEAD", &[(name, ":YWJjZGVm:")], none(), 204, &[("upload-offset", "4")]),
            x("HEAD", &[(name, ":YWJjZGVm:"), V2], none(), 204, &[("upload-offset", "4")]),
        ],
    )
    .await;
    let long = "x".repeat(257);
    for bad in ["", "a b", "a,b", "caf\u{e9}", "\"\"", "::", &long] {
        play(&hoist, vec![x("POST", &[(name, bad)], bytes(1), 400, &[])]).await;
    }
    play(&hoist, vec![x("POST", &[(name, "one"), (name, "two")], bytes(1), 400, &[])]).await;
    assert_eq!(store.list_all().await.expect("readable").len(), 1);
}

// proves: TOK-CRE-03, TOK-CRE-03a, TOK-CRE-04, TOK-CRE-06, TOK-APP-05a
#[tokio::test]
async fn the_length_and_the_end_of_an_upload() {
    let (off, len, done) = ("upload-offset", "upload-length", "upload-complete");
    let (seven, zero) = ((len, "7"), (off, "0"));
    let unfinished = (done, "?0");
    let cases: Vec<Vec<Exchange<'_>>> = vec![
        // Declared by `Upload-Length`. Reaching it completes the upload whatever `Upload-Complete` says.
        vec![
            x("POST", &[T, seven], bytes(3), 204, &[(off, "3"), (done, "?0")]),
            x("PATCH", &[T, (off, "3"), unfinished], bytes(4), 204, &[(off, "7"), (done, "?1")]),
        ],
        // Declared by the size of a creation that carries all of the content.
        vec![x("POST", &[T], bytes(7), 204, &[(off, "7"), (done, "?1"), (len, "7")])],
        // Apple's upload tasks send `Upload-Complete: ?1` with every request. It is ignored.
        vec![
            x("POST", &[T, seven, (done, "?1")], bytes(3), 204, &[(off, "3"), (done, "?0")]),
            x("PATCH", &[T, (off, "3"), (done, "?1")], bytes(2), 204, &[(off, "5"), (done, "?0")]),
        ],
        // Unknown: a request that does not announce more completes the upload.
        vec![
            x("POST", &[T, unfinished], bytes(3), 204, &[(off, "3"), (done, "?0"), (len, "-")]),
            x("PATCH", &[T, (off, "3"), unfinished], chunks(2), 204, &[(off, "5"), (done, "?0")]),
            x("PATCH", &[T, (off, "5")], chunks(2), 204, &[(off, "7"), (done, "?1"), (len, "7")]),
        ],
        vec![x("POST", &[T], chunks(7), 204, &[(off, "7"), (done, "?1"), (len, "7")])],
        // Empty creations.
        vec![
            x("POST", &[T, seven], none(), 204, &[(off, "0"), (done, "?0")]),
            x("PATCH", &[T, zero], bytes(7), 204, &[(off, "7"), (done, "?1")]),
        ],
        vec![x("POST", &[T, unfinished], none(), 204, &[(off, "0"), (done, "?0"), (len, "-")])],
        vec![x("POST", &[T, MORE], none(), 201, &[(off, "0"), (done, "?0"), ("upload-incomplete", "?1")])],
        vec![x("POST", &[T], none(), 204, &[(off, "0"), (done, "?1")])],
        vec![x("POST", &[T], chunks(0), 204, &[(off, "0"), (done, "?1")])],
        // Every byte of a known length arrived before the connection was lost.
        vec![x("POST", &[T, seven], cut(7, 9), 400, &[])],
        vec![
            x("POST", &[T, seven], Content::new(b"sevenby", 2, Ends::Cut, None), 204, &[(done, "?1")]),
            x("HEAD", &[T], none(), 204, &[(off, "7"), (done, "?1")]),
        ],
    ];
    for exchanges in cases {
        play(&new_hoist(), exchanges).await;
    }
}

// proves: TOK-CRE-05, TDR-CRE-05, TDR-APP-04
#[tokio::test]
async fn a_creation_with_a_token_in_use_is_refused_and_changes_nothing() {
    let hoist = new_hoist();
    let conflict = [("upload-offset", "3"), ("upload-complete", "?0")];
    play(
        &hoist,
        vec![
            x("POST", &[T, ("upload-length", "9")], bytes(3), 204, &[]),
            x("POST", &[T], bytes(9), 409, &conflict),
            x("POST", &[T, V2], bytes(9), 409, &conflict),
            x("POST", &[T, V1], bytes(9), 409, &conflict),
            x("POST", &[T, V1, ("upload-offset", "0")], bytes(9), 409, &conflict),
            x("PATCH", &[T, ("upload-offset", "3")], bytes(6), 204, &[("upload-complete", "?1")]),
            x("POST", &[T], bytes(9), 409, &[("upload-offset", "9"), ("upload-complete", "?1")]),
        ],
    )
    .await;
}

// proves: TOK-APP-02, TOK-APP-03, TOK-APP-06, TOK-OFF-05, TOK-CAN-02, TDR-OFF-02, TDR-CAN-02, TDR-OFF-05
#[tokio::test]
async fn a_refused_append_changes_nothing() {
    let hoist = new_hoist();
    let at_three = [("upload-offset", "3"), ("upload-complete", "?0")];
    play(
        &hoist,
        vec![
            x("PATCH", &[T, ("upload-offset", "0")], bytes(3), 404, &[("upload-offset", "-")]),
            x("POST", &[T, ("upload-length", "9")], bytes(3), 204, &[]),
            x("PATCH", &[T, ("upload-offset", "2")], bytes(3), 409, &at_three),
            x("PATCH", &[T, ("upload-offset", "4")], bytes(3), 409, &at_three),
            x("PATCH", &[T], bytes(3), 400, &[]),
        ],
    )
    .await;
    for bad in ["-1", "+3", "3.0", "0x3", "three", "", "\"3\"", "3, 3", "9999999999999999"] {
        play(&hoist, vec![x("PATCH", &[T, ("upload-offset", bad)], bytes(3), 400, &[])]).await;
    }
    for extra in [("upload-offset", "3"), MORE, ("upload-incomplete", "?0"), ("upload-incomplete", "x")] {
        play(
            &hoist,
            vec![x("HEAD", &[T, extra], none(), 400, &[]), x("DELETE", &[T, extra], none(), 400, &[])],
        )
        .await;
    }
    let at_end = [("upload-offset", "9"), ("upload-complete", "?1")];
    play(
        &hoist,
        vec![
            x("GET", &[T], none(), 405, &[("allow", "POST, PUT, PATCH, HEAD, DELETE, OPTIONS")]),
            x("POST", &[T, ("upload-index", "0")], bytes(3), 409, &[]),
            x("PATCH", &[T, ("upload-offset", "3"), ("upload-length", "8")], bytes(3), 400, &at_three),
            x("PATCH", &[T, ("upload-offset", "3"), ("upload-length", "9")], bytes(6), 204, &at_end),
            x("PATCH", &[T, ("upload-offset", "9")], bytes(1), 409, &at_end),
            x("PATCH", &[T, ("upload-offset", "3")], bytes(6), 409, &at_end),
            x("PATCH", &[T, ("upload-offset", "9")], none(), 204, &at_end),
        ],
    )
    .await;
    let refused = send(&hoist, request("PATCH", &[T, ("upload-offset", "4")], bytes(1))).await;
    let document: serde_json::Value = serde_json::from_slice(&refused.content).expect("a problem document");
    assert_eq!(document["type"], "https://iana.org/assignments/http-problem-types#mismatching-upload-offset");
    assert_eq!((&document["expected-offset"], &document["provided-offset"]), (&9.into(), &4.into()));
}

// proves: TOK-CRE-09
#[tokio::test]
async fn content_beyond_the_length_removes_the_upload_and_content_beyond_a_limit_does_not() {
    let (off, len) = ("upload-offset", "upload-length");
    // Declared or not, by creation or by append.
    play(
        &new_hoist(),
        vec![x("POST", &[T, (len, "3")], bytes(4), 400, &[]), x("HEAD", &[T], none(), 404, &[])],
    )
    .await;
    play(
        &new_hoist(),
        vec![x("POST", &[T, (len, "3")], chunks(4), 400, &[]), x("HEAD", &[T], none(), 404, &[])],
    )
    .await;
    for content in [bytes(7), chunks(7)] {
        play(
            &new_hoist(),
            vec![
                x("POST", &[T, (len, "9")], bytes(3), 204, &[]),
                x("PATCH", &[T, (off, "3")], content, 400, &[]),
                x("HEAD", &[T], none(), 404, &[]),
            ],
        )
        .await;
    }
    let limits = Limits { size_max: Some(10), append_max: Some(6), append_min: 2, ..Limits::default() };
    let policy = Policy { limits, ..Policy::default() };
    let limited =
        || Hoist::builder(Arc::new(MemoryStore::new()) as Arc<dyn Store>).policy(policy.clone()).build();
    let unfinished = ("upload-complete", "?0");
    play(
        &limited(),
        vec![
            x("POST", &[T, (len, "11")], none(), 413, &[]),
            x("POST", &[T], bytes(11), 413, &[]),
            x("POST", &[T], bytes(7), 413, &[]),
            x("POST", &[T, unfinished], bytes(1), 400, &[]),
            x("HEAD", &[T], none(), 404, &[]),
            // Undeclared content is stored up to the limit, and the upload stays.
            x("POST", &[T, unfinished], chunks(7), 413, &[(off, "6")]),
            x("PATCH", &[T, (off, "6")], bytes(5), 413, &[(off, "6")]),
            x("PATCH", &[T, (off, "6"), unfinished], chunks(5), 413, &[(off, "10")]),
            x("HEAD", &[T], none(), 204, &[(off, "10"), ("upload-complete", "?0")]),
            x("PATCH", &[T, (off, "10")], none(), 204, &[(off, "10"), ("upload-complete", "?1")]),
        ],
    )
    .await;
}

// proves: TOK-CRE-02, TOK-OFF-01, TOK-APP-01, TDR-CRE-03, TDR-CRE-04, TDR-CRE-06, TDR-CRE-07, TDR-RSP-01, TDR-APP-01
// proves: TDR-APP-02, TDR-APP-03, TDR-OFF-03, TDR-HDR-02, TDR-HDR-07
#[tokio::test]
async fn draft_forms_answer_201_and_repeat_the_version_number() {
    let number = "upload-draft-interop-version";
    for (signature, name, value) in [(V1, number, "1"), (V2, number, "2"), (T5, "upload-draft-version", "1")]
    {
        let signed = (name, value);
        play(
            &new_hoist(),
            vec![
                x(
                    "POST",
                    &[T, signature, MORE],
                    bytes(3),
                    201,
                    &[signed, ("upload-incomplete", "?1"), ("upload-offset", "3")],
                ),
                x(
                    "HEAD",
                    &[T, signature],
                    none(),
                    204,
                    &[
                        signed,
                        ("upload-incomplete", "?1"),
                        ("upload-offset", "3"),
                        ("cache-control", "no-store"),
                    ],
                ),
                x(
                    "PATCH",
                    &[T, signature, ("upload-offset", "2")],
                    bytes(3),
                    409,
                    &[signed, ("upload-offset", "3")],
                ),
                x(
                    "PATCH",
                    &[T, signature, ("upload-offset", "3"), MORE],
                    bytes(3),
                    201,
                    &[signed, ("upload-incomplete", "?1"), ("upload-offset", "6")],
                ),
                x(
                    "POST",
                    &[T, signature, ("upload-offset", "6")],
                    bytes(3),
                    201,
                    &[signed, ("upload-incomplete", "?0"), ("upload-offset", "9")],
                ),
                x(
                    "HEAD",
                    &[T, signature],
                    none(),
                    204,
                    &[signed, ("upload-incomplete", "?0"), ("upload-complete", "?1")],
                ),
                x("DELETE", &[T, signature], none(), 204, &[signed]),
                x("HEAD", &[T, signature], none(), 404, &[signed, ("upload-offset", "-")]),
                x("PATCH", &[T, signature, ("upload-offset", "9")], bytes(3), 404, &[signed]),
                x("PATCH", &[T, signature, ("upload-incomplete", "1")], bytes(3), 400, &[signed]),
            ],
        )
        .await;
    }
    // Content at offset zero creates an upload in version 1 but not in version 2.
    play(&new_hoist(), vec![x("POST", &[T, V1, ("upload-offset", "0")], bytes(3), 201, &[])]).await;
    play(&new_hoist(), vec![x("POST", &[T, V2, ("upload-offset", "0")], bytes(3), 404, &[])]).await;
    // Without a version number, `Upload-Incomplete` selects the form. A later number is not repeated.
    let unnumbered = &[(number, "-"), ("upload-incomplete", "?0")];
    play(&new_hoist(), vec![x("POST", &[T, ("upload-incomplete", "?0")], bytes(3), 201, unnumbered)]).await;
    play(&new_hoist(), vec![x("POST", &[T, (number, "6")], bytes(3), 204, &[(number, "-")])]).await;
}

/// `curl -T big.bin -H 'Upload-Token: …' http://…/uploads/` appends the file name to the path.
#[tokio::test]
async fn a_token_is_honored_on_the_upload_url_with_a_file_name() {
    let hoist = new_hoist();
    for (method, path, content, status) in [
        ("PUT", "/uploads/big.bin", cut(3, 9), 400),
        ("HEAD", "/uploads/big.bin", none(), 204),
        ("HEAD", "/uploads", none(), 204),
        ("PUT", "/uploads/big.bin", bytes(9), 409),
    ] {
        let got = send(&hoist, request_to(path, method, &[T], content)).await;
        assert_eq!((got.status.as_u16(), got.offset()), (status, Some(3)), "{method} {path}");
    }
}

#[tokio::test]
async fn requests_of_other_dialects_are_answered_or_refused_in_theirs() {
    let hoist = new_hoist();
    let tus = ("tus-resumable", "1.0.0");
    play(
        &hoist,
        vec![
            x(
                "POST",
                &[tus, ("upload-length", "5")],
                none(),
                201,
                &[("tus-resumable", "1.0.0"), ("upload-offset", "-")],
            ),
            x("POST", &[("tus-resumable", "0.2.2"), T], none(), 412, &[("tus-version", "1.0.0")]),
            x("POST", &[("upload-metadata", "a")], none(), 412, &[]),
            x("POST", &[("client-upload-token", "a")], bytes(3), 501, &[]),
            // An unassigned version number is ignored on a creation that carries all of the content.
            x(
                "POST",
                &[("upload-complete", "?1"), ("upload-draft-interop-version", "77")],
                bytes(3),
                201,
                &[("upload-complete", "-"), ("upload-offset", "-")],
            ),
            x("GET", &[], none(), 405, &[]),
            x("PATCH", &[], bytes(3), 405, &[]),
        ],
    )
    .await;
}

// proves: TOK-CRE-07
#[tokio::test]
async fn ordinary_uploads_are_stored_in_full_or_not_at_all() {
    let store = MemoryStore::new();
    let hoist = hoist(&store);
    for (path, method) in
        [("/uploads", "POST"), ("/uploads/", "POST"), ("/uploads/a.txt", "PUT"), ("/uploads/a.txt", "PUT")]
    {
        let got = send(&hoist, request_to(path, method, &[("content-type", "text/plain")], bytes(5))).await;
        assert_eq!(got.status.as_u16(), 201, "{got:?}");
        let location = got.field("location").expect("a location").to_owned();
        assert!(location.starts_with("/uploads/"), "{location}");
        let got = send(&hoist, request_to(&location, "GET", &[], none())).await;
        assert_eq!(got.status.as_u16(), 403, "{got:?}");
        let got = send(&hoist, request_to(&location, "PUT", &[], bytes(1))).await;
        assert_eq!(got.status.as_u16(), 405, "{got:?}");
    }
    let summaries = store.list_all().await.expect("readable");
    assert_eq!(summaries.len(), 4);
    let location = format!("/uploads/{}", summaries[0].id);
    assert_eq!(send(&hoist, request_to(&location, "DELETE", &[], none())).await.status.as_u16(), 204);
    assert_eq!(send(&hoist, request_to(&location, "DELETE", &[], none())).await.status.as_u16(), 404);
    let got = send(&hoist, request_to("/uploads", "POST", &[], cut(3, 5))).await;
    assert_eq!(got.status.as_u16(), 400);
    assert_eq!(store.list_all().await.expect("readable").len(), 3);
    for path in ["/uploadsx", "/other", "/"] {
        assert_eq!(
            send(&hoist, request_to(path, "POST", &[], bytes(1))).await.status.as_u16(),
            404,
            "{path}"
        );
    }
}
