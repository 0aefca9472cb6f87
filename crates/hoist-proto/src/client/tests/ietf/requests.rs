//! Limits of the server, and the fields of requests in each version.

use super::*;

// proves: IETF-LIM-03, IETF-LIM-09
#[test]
fn requests_respect_the_server_s_limits() {
    let stories: Vec<(u64, Story<'_>)> = vec![
        (
            u64::MAX,
            vec![
                (
                    POST,
                    &[InterimStops(
                        0,
                        "Location: /u/1|Upload-Limit: max-append-size=60|Upload-Draft-Interop-Version: 8",
                    )],
                ),
                (QUERY, &[Answers(204, "Upload-Offset: 0|Upload-Complete: ?0")]),
                ("PATCH /u/1 0-60 at 0 ?0", &[Answers(204, "Upload-Complete: ?0")]),
                ("PATCH /u/1 60-100 at 60 ?1", DONE),
            ],
        ),
        (
            u64::MAX,
            vec![
                (POST, &[AnswersEarly(0, 413, "Upload-Complete: ?0|Upload-Limit: max-append-size=60")]),
                (
                    "POST /uploads 0-60 ?0",
                    &[Answers(201, "Location: /u/1|Upload-Complete: ?0|Upload-Offset: 60")],
                ),
                ("PATCH /u/1 60-100 at 60 ?1", DONE),
            ],
        ),
        (
            u64::MAX,
            vec![
                (POST, &[AnswersEarly(9, 413, "")]),
                ("POST /uploads 0-50 ?0", &[Answers(201, "Location: /u/1|Upload-Complete: ?0")]),
                ("PATCH /u/1 50-100 at 50 ?1", &[AnswersEarly(0, 413, "")]),
                (QUERY, &[Answers(204, "Upload-Offset: 50|Upload-Complete: ?0")]),
                ("PATCH /u/1 50-75 at 50 ?0", &[Answers(204, "Upload-Complete: ?0")]),
                ("PATCH /u/1 75-100 at 75 ?1", DONE),
            ],
        ),
        (
            10,
            vec![
                (
                    "POST /uploads 0-10 ?0",
                    &[AnswersEarly(0, 400, "Upload-Complete: ?0|Upload-Limit: min-append-size=40")],
                ),
                ("POST /uploads 0-40 ?0", &[Answers(201, "Location: /u/1|Upload-Complete: ?0")]),
                ("PATCH /u/1 40-80 at 40 ?0", &[Answers(204, "Upload-Complete: ?0")]),
                ("PATCH /u/1 80-100 at 80 ?1", DONE),
            ],
        ),
    ];
    for (content_max, story) in stories {
        let mut uploader =
            begun(Interop::V8, Opening::AtOnce, Method::POST, 100).with_content_max(content_max);
        play(&mut uploader, &story);
        assert_eq!(ends(&mut uploader), Ok(()));
    }
    // A request below the minimum is not tried.
    let mut uploader = begun(Interop::V8, Opening::AtOnce, Method::POST, 100);
    let story: Story<'_> =
        vec![(POST, &[AnswersEarly(0, 413, "Upload-Complete: ?0|Upload-Limit: min-append-size=100")])];
    play(&mut uploader, &story);
    assert_eq!(ends(&mut uploader), Err(Failure::Rejected(StatusCode::PAYLOAD_TOO_LARGE)));
}

#[test]
fn every_version_uses_its_own_fields() {
    for version in Interop::ALL {
        let (yes, no) = if version == Interop::V3 { ("in?0", "in?1") } else { ("?1", "?0") };
        let number = version.number().map(|number| format!("|Upload-Draft-Interop-Version: {number}"));
        let leak = |text: String| -> &'static str { Box::leak(text.into_boxed_str()) };
        let location = leak(format!("Location: /u/1{}", number.unwrap_or_default()));
        let complete = |yes: bool| match (version, yes) {
            (Interop::V3, yes) => format!("Upload-Incomplete: ?{}", u8::from(!yes)),
            (_, yes) => format!("Upload-Complete: ?{}", u8::from(yes)),
        };
        let at = |offset: u64, yes| leak(format!("Upload-Offset: {offset}|{}", complete(yes)));
        let mut uploader = begun(version, Opening::AtOnce, Method::POST, 100);
        let (created, appended) =
            (format!("POST /uploads 0-100 {yes}"), format!("PATCH /u/1 40-100 at 40 {yes}"));
        let again = format!("PATCH /u/1 100-100 at 100 {yes}");
        let mut story: Story<'_> = vec![
            (&created, leak_acts(vec![Interim(0, location), Cut(Some(60))])),
            (QUERY, leak_acts(vec![Answers(204, at(40, false))])),
            (&appended, leak_acts(vec![Cut(Some(60))])),
            (QUERY, leak_acts(vec![Answers(204, at(100, true))])),
        ];
        // Servers before version 8 replay no answer, so the upload is complete without one.
        if version >= Interop::V8 {
            story.push((&again, leak_acts(vec![Answers(200, at(100, true))])));
        }
        play(&mut uploader, &story);
        assert_eq!(
            (ends(&mut uploader), uploader.is_answered()),
            (Ok(()), version >= Interop::V8),
            "{version:?}"
        );

        // Since version 7 a success has to carry the completeness field.
        let mut uploader = begun(version, Opening::Careful, Method::POST, 100);
        let created = format!("POST /uploads 0-0 {no}");
        let appended = format!("PATCH /u/1 0-100 at 0 {yes}");
        let story: Story<'_> = vec![
            (&created, leak_acts(vec![Answers(201, leak(format!("Location: /u/1|{}", complete(false))))])),
            (&appended, leak_acts(vec![Answers(204, "")])),
        ];
        play(&mut uploader, &story);
        if version < Interop::V7 {
            assert_eq!((ends(&mut uploader), uploader.is_answered()), (Ok(()), true), "{version:?}");
        } else {
            play(&mut uploader, &[(QUERY, leak_acts(vec![Answers(204, at(100, false))]))]);
        }
    }
}
