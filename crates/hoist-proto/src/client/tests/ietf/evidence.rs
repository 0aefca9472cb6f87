//! Responses that show if, and in which version, the server supports the protocol.

use super::*;

// proves: IETF-CLI-01, IETF-CLI-02, IETF-CLI-18
#[test]
fn the_meaning_of_a_success_depends_on_evidence_of_the_protocol() {
    const CAREFUL: &str = "POST /uploads 0-0 ?0";
    const URL_V10: &str = "Location: https://h.example/u/1|Upload-Draft-Interop-Version: 10";
    let end = |opening, version, story: Story<'_>| {
        let mut uploader = begun(version, opening, Method::POST, 100);
        play(&mut uploader, &story);
        (ends(&mut uploader), uploader.url().is_some())
    };
    // The `Location` of an ordinary server takes no appends.
    let made = vec![(CAREFUL, &[Answers(201, "Location: /files/7")][..])];
    assert_eq!(end(Opening::Careful, Interop::V10, made), (Err(Failure::NotResumable), false));
    let made = vec![(POST, &[Answers(201, "Location: /files/7")][..])];
    assert_eq!(end(Opening::AtOnce, Interop::V10, made), (Ok(()), false));
    // One field is enough evidence.
    let opened = vec![
        (CAREFUL, &[Answers(201, "Location: /u/1|Upload-Limit: min-size=0")][..]),
        ("PATCH /u/1 0-100 at 0 ?1", DONE),
    ];
    assert_eq!(end(Opening::Careful, Interop::V10, opened), (Ok(()), true));
    // Since -12 a success without the completeness field leaves the upload incomplete.
    let silent = (POST, &[Interim(0, URL_V10), Answers(200, "")][..]);
    let story = vec![
        silent,
        (QUERY, &[Answers(204, "Upload-Offset: 100|Upload-Complete: ?0")]),
        ("PATCH /u/1 100-100 at 100 ?1", DONE),
    ];
    assert_eq!(end(Opening::AtOnce, Interop::V10, story), (Ok(()), true));
    let story = vec![(POST, &[Interim(0, URL), Answers(200, "")][..])];
    assert_eq!(end(Opening::AtOnce, Interop::V8, story), (Ok(()), true));
}

// proves: IETF-VER-11
#[test]
fn a_version_that_the_server_refuses_is_followed_by_the_next() {
    const URL_V6: &str = "Location: /u/1|Upload-Draft-Interop-Version: 6";
    let refused: &[Act] = &[AnswersEarly(10, 400, "")];
    let number = |uploader: &mut Uploader| match uploader.clone().step() {
        Step::Send(transmit) => transmit
            .head
            .headers()
            .get("upload-draft-interop-version")
            .map(|value| value.to_str().expect("ASCII").to_owned()),
        other => panic!("{other:?}"),
    };
    let negotiating = |version| begun(version, Opening::AtOnce, Method::POST, 100).negotiating();
    let mut uploader = negotiating(VERSIONS[0]);
    let mut spoken = vec![number(&mut uploader)];
    for _ in 0..2 {
        play(&mut uploader, &[(POST, refused)]);
        spoken.push(number(&mut uploader));
    }
    assert_eq!(spoken, [Some("10".to_owned()), Some("6".to_owned()), None]);
    assert_eq!(uploader.version(), Some(Interop::Rfc));
    play(&mut uploader, &[(POST, refused)]);
    assert_eq!(ends(&mut uploader), Err(Failure::Rejected(StatusCode::BAD_REQUEST)));

    // The second version stays in use, at the URL that it led to.
    let mut uploader = negotiating(VERSIONS[0]);
    let story: Story<'_> = vec![
        (POST, refused),
        (POST, &[Interim(0, URL_V6), Cut(Some(60))]),
        (QUERY, &[Answers(204, "Upload-Offset: 40|Upload-Complete: ?0")]),
        ("PATCH /u/1 40-100 at 40 ?1", &[Answers(201, "Upload-Complete: ?1")]),
    ];
    play(&mut uploader, &story);
    assert_eq!((ends(&mut uploader), uploader.version()), (Ok(()), Some(Interop::V6)));

    // A 400 with fields of the protocol rejects the upload, and a chosen version is not changed.
    let bad = Failure::Rejected(StatusCode::BAD_REQUEST);
    let mut uploader = negotiating(VERSIONS[0]);
    play(&mut uploader, &[(POST, &[AnswersEarly(0, 400, "Upload-Complete: ?0")])]);
    assert_eq!(ends(&mut uploader), Err(bad));
    let mut uploader = begun(VERSIONS[0], Opening::AtOnce, Method::POST, 100);
    play(&mut uploader, &[(POST, refused)]);
    assert_eq!(ends(&mut uploader), Err(bad));

    // An upload of an earlier run is queried in the next version, too.
    let url = Uri::from_static("https://h.example/u/1");
    let mut uploader =
        Uploader::resume(ClientDialect::Ietf(Interop::V10), url, origin(), Length::new(100), retries())
            .negotiating();
    let story: Story<'_> = vec![
        (QUERY, &[Answers(400, "")]),
        (QUERY, &[Answers(204, "Upload-Offset: 70|Upload-Complete: ?0")]),
        ("PATCH /u/1 70-100 at 70 ?1", DONE),
    ];
    play(&mut uploader, &story);
    assert_eq!((ends(&mut uploader), uploader.version()), (Ok(()), Some(Interop::V6)));
}
