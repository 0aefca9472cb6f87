//! Uploads of an earlier run, retries at a known URL, and `Location`.

use super::*;

// proves: IETF-CLI-11, IETF-CLI-13, IETF-RET-12
#[test]
fn an_upload_of_an_earlier_run_is_resumed_at_its_url() {
    let resumed = || {
        let url = Uri::from_static("https://h.example/u/1");
        Uploader::resume(ClientDialect::Ietf(Interop::V8), url, origin(), Length::new(100), retries())
    };
    let stories: Vec<(Result<(), Failure>, Story<'_>)> = vec![
        (
            Ok(()),
            vec![
                (QUERY, &[Answers(204, "Upload-Offset: 70|Upload-Complete: ?0")]),
                ("PATCH /u/1 70-100 at 70 ?1", DONE),
            ],
        ),
        (
            Ok(()),
            vec![
                (QUERY, &[Answers(204, "Upload-Offset: 100|Upload-Complete: ?1")]),
                ("PATCH /u/1 100-100 at 100 ?1", DONE),
            ],
        ),
        // The upload is complete, and its answer is forgotten.
        (
            Ok(()),
            vec![
                (QUERY, &[Answers(204, "Upload-Offset: 100|Upload-Complete: ?1")]),
                ("PATCH /u/1 100-100 at 100 ?1", &[Answers(404, "")]),
            ],
        ),
        // The target completed the upload early, and its answer says why.
        (
            Err(Failure::Rejected(StatusCode::UNPROCESSABLE_ENTITY)),
            vec![
                (QUERY, &[Answers(204, "Upload-Offset: 30|Upload-Complete: ?1")]),
                ("PATCH /u/1 30-30 at 30 ?1", &[Answers(422, "Upload-Complete: ?1")]),
            ],
        ),
        (
            Err(Failure::Different { remote: 30, length: Length::new(100) }),
            vec![
                (QUERY, &[Answers(204, "Upload-Offset: 30|Upload-Complete: ?1")]),
                ("PATCH /u/1 30-30 at 30 ?1", &[Answers(400, "Upload-Complete: ?0")]),
            ],
        ),
        (Err(Failure::Gone), vec![(QUERY, &[Answers(404, "")])]),
    ];
    for (end, story) in stories {
        let mut uploader = resumed();
        play(&mut uploader, &story);
        assert_eq!(ends(&mut uploader), end);
    }
}

#[test]
fn retries_at_a_url_are_bounded_and_renewed_by_progress() {
    let mut uploader = begun(Interop::V8, Opening::AtOnce, Method::POST, 100);
    play(&mut uploader, &[(POST, &[Interim(0, URL), Cut(Some(60))])]);
    for _ in 0..5 {
        play(&mut uploader, &[(QUERY, &[Cut(Some(0))])]);
    }
    assert_eq!(ends(&mut uploader), Err(Failure::Exhausted { attempts: 6, last: AttemptError::Lost }));

    // A server that stores nothing and answers every append with success ends the upload.
    let mut uploader = begun(Interop::V8, Opening::Careful, Method::POST, 100);
    play(&mut uploader, &[("POST /uploads 0-0 ?0", &[Answers(201, "Location: /u/1|Upload-Complete: ?0")])]);
    for _ in 0..6 {
        play(
            &mut uploader,
            &[("PATCH /u/1 0-100 at 0 ?1", &[Answers(204, "Upload-Offset: 0|Upload-Complete: ?0")])],
        );
    }
    assert!(matches!(ends(&mut uploader), Err(Failure::Exhausted { attempts: 6, .. })));

    // Progress in interim responses renews them, too.
    let mut uploader = begun(Interop::V8, Opening::Careful, Method::POST, 100);
    play(&mut uploader, &[("POST /uploads 0-0 ?0", &[Answers(201, "Location: /u/1|Upload-Complete: ?0")])]);
    for at in 0..50_u64 {
        let leak = |text: String| -> &'static str { Box::leak(text.into_boxed_str()) };
        let append = leak(format!("PATCH /u/1 {at}-100 at {at} ?1"));
        let more = leak(format!("Upload-Offset: {}|{AT}", at + 1));
        let state = leak(format!("Upload-Offset: {}|Upload-Complete: ?0", at + 1));
        play(
            &mut uploader,
            &[
                (append, leak_acts(vec![Interim(1, more), Cut(Some(1))])),
                (QUERY, leak_acts(vec![Answers(204, state)])),
            ],
        );
    }
}

#[test]
fn locations_are_resolved_against_the_target() {
    let target = Uri::from_static("https://h.example/files/uploads?x=1");
    let table = [
        ("https://other.example/u/1", Some("https://other.example/u/1")),
        ("https://h.example/u/1#part", Some("https://h.example/u/1")),
        ("//cdn.example/u/1", Some("https://cdn.example/u/1")),
        ("/u/1?y=https://z", Some("https://h.example/u/1?y=https://z")),
        ("u/1", Some("https://h.example/files/u/1")),
        ("?u=1", Some("https://h.example/files/uploads?u=1")),
        ("", None),
        ("#x", None),
        ("https://", None),
    ];
    for (location, expected) in table {
        let found = resolve(&target, location).map(|uri| uri.to_string());
        assert_eq!(found.as_deref(), expected, "{location}");
    }
    let found = resolve(&Uri::from_static("/uploads"), "/u/1");
    assert_eq!(found, Some(Uri::from_static("/u/1")));
}
