//! The admission mode: creations and appends that it refuses, in every dialect, and all that it lets through.

use hoist_server::Hoist;
use hoist_server::operator::AdmissionMode;
use hoist_store::memory::MemoryStore;

use crate::giving_way::{DIALECTS, LENGTH};
use crate::harness::{Content, Ends, Got, hoist, request, request_to, send};

type Fields<'a> = &'a [(&'a str, &'a str)];

const T: (&str, &str) = ("upload-token", "abcdef");
const TUS: (&str, &str) = ("tus-resumable", "1.0.0");
const V8: (&str, &str) = ("upload-draft-interop-version", "8");

/// A creation in each dialect.
const CREATIONS: [(&str, Fields<'_>, &[u8]); 7] = [
    ("POST", &[("upload-token", "another")], b"abc"),
    ("POST", &[("upload-token", "parts"), ("upload-index", "0")], b"abc"),
    ("POST", &[V8, ("upload-complete", "?1")], b"abc"),
    ("POST", &[V8, ("upload-complete", "?0")], b""),
    ("POST", &[TUS, ("upload-length", "3")], b""),
    ("POST", &[TUS, ("upload-length", "3"), ("upload-concat", "partial")], b""),
    ("POST", &[], b"abc"),
];

fn require_refused(got: &Got, what: &str) {
    assert_eq!(got.status.as_u16(), 503, "{what}: {got:?}");
    let after: u64 = got.field("retry-after").expect("Retry-After").parse().expect("seconds");
    assert!((1..=60).contains(&after), "{what}: {after}");
}

async fn create_each(hoist: &Hoist, is_let_in: bool, mode: AdmissionMode) {
    for (method, fields, bytes) in CREATIONS {
        let got = send(hoist, request(method, fields, Content::sized(bytes))).await;
        let what = format!("{mode}: {method} {fields:?}");
        if is_let_in {
            assert!(got.status.is_success(), "{what}: {got:?}");
        } else {
            require_refused(&got, &what);
        }
    }
}

#[tokio::test]
async fn only_an_open_server_takes_creations() {
    for mode in AdmissionMode::ALL {
        let hoist = hoist(&MemoryStore::new());
        assert_eq!(hoist.operator().set_admission_mode(mode), AdmissionMode::Open);
        create_each(&hoist, mode == AdmissionMode::Open, mode).await;
        hoist.operator().set_admission_mode(AdmissionMode::Open);
        if mode != AdmissionMode::Open {
            create_each(&hoist, true, AdmissionMode::Open).await;
        }
    }
}

#[tokio::test]
async fn an_upload_that_exists_is_resumed_unless_the_server_is_closed() {
    for mode in [AdmissionMode::ResumeOnly, AdmissionMode::Closed] {
        for dialect in &DIALECTS {
            let hoist = hoist(&MemoryStore::new());
            let running = dialect.append(&hoist).await;
            hoist.operator().set_admission_mode(mode);
            // The transfer that is running continues.
            running.feed(3);
            running.all_read().await;
            assert!(!running.frames.is_closed());
            let mut fields = dialect.append_fields();
            fields.iter_mut().filter(|(name, _)| *name == "upload-offset").for_each(|field| field.1 = "400");
            let content = || Content::sized(&vec![b'x'; LENGTH - 400]);
            if mode == AdmissionMode::Closed {
                let got = send(&hoist, request_to(&running.path, "PATCH", &fields, content())).await;
                require_refused(&got, "an append");
                assert!(!running.frames.is_closed(), "it ended the transfer");
            }
            assert_eq!(dialect.offset(&hoist, &running.path).await, Some(400), "{mode}");
            let got = send(&hoist, request_to(&running.path, "PATCH", &fields, content())).await;
            if mode == AdmissionMode::Closed {
                require_refused(&got, "an append without a transfer");
            } else {
                assert!(got.status.is_success(), "{got:?}");
            }
            let cancelled =
                send(&hoist, request_to(&running.path, "DELETE", dialect.every, Content::none())).await;
            assert!(cancelled.status.is_success(), "{mode}: {cancelled:?}");
        }
    }
}

#[tokio::test]
async fn a_further_part_of_an_upload_that_exists_is_let_in() {
    let part = async |hoist: &Hoist, index: &str| {
        send(hoist, request("POST", &[T, ("upload-index", index)], Content::sized(b"abc"))).await
    };
    for (mode, is_let_in) in [(AdmissionMode::ResumeOnly, true), (AdmissionMode::Closed, false)] {
        let hoist = hoist(&MemoryStore::new());
        assert!(part(&hoist, "0").await.status.is_success());
        hoist.operator().set_admission_mode(mode);
        let got = part(&hoist, "1;last").await;
        if is_let_in {
            assert_eq!(got.field("upload-complete"), Some("?1"), "{got:?}");
        } else {
            require_refused(&got, "a part");
        }
    }
}

#[tokio::test]
async fn uploads_that_exist_are_joined_unless_the_server_is_closed() {
    for (mode, is_let_in) in [(AdmissionMode::ResumeOnly, true), (AdmissionMode::Closed, false)] {
        let hoist = hoist(&MemoryStore::new());
        let fields = [
            TUS,
            ("upload-length", "3"),
            ("upload-concat", "partial"),
            ("content-type", "application/offset+octet-stream"),
        ];
        let mut urls = Vec::new();
        for _ in 0..2 {
            let created = send(&hoist, request("POST", &fields, Content::sized(b"abc"))).await;
            urls.push(created.field("location").expect("a location").to_owned());
        }
        hoist.operator().set_admission_mode(mode);
        let joined = format!("final;{}", urls.join(" "));
        let got = send(&hoist, request("POST", &[TUS, ("upload-concat", &joined)], Content::none())).await;
        if is_let_in {
            assert_eq!(got.status.as_u16(), 201, "{got:?}");
        } else {
            require_refused(&got, "a final upload");
        }
    }
}

#[tokio::test]
async fn what_brings_no_content_is_answered_in_every_mode() {
    for mode in AdmissionMode::ALL {
        let hoist = hoist(&MemoryStore::new());
        send(&hoist, request("POST", &[T], Content::new(b"abc", 1, Ends::Cut, Some(9)))).await;
        hoist.operator().set_admission_mode(mode);
        for (method, status) in [("HEAD", 204), ("OPTIONS", 200), ("DELETE", 204), ("HEAD", 404)] {
            let got = send(&hoist, request(method, &[T], Content::none())).await;
            assert_eq!(got.status.as_u16(), status, "{mode}: {method} {got:?}");
        }
        for path in ["/healthz", "/readyz", "/.well-known/resumable-uploads"] {
            let got = send(&hoist, request_to(path, "GET", &[], Content::none())).await;
            assert_eq!(got.status.as_u16(), 200, "{mode}: {path}");
        }
    }
}
