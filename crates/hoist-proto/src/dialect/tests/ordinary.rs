//! Ordinary requests, which claim no dialect.

use super::*;

#[test]
fn an_ordinary_request_creates_an_upload_that_cannot_be_resumed() {
    for method in ["POST", "PUT"] {
        let head = head(method, "Upload-Offset: 5|Content-Type: text/x");
        let decoded = Dialect::Conventional.decode(&head, Resource::Endpoint, Some(7));
        let decoded = decoded.expect("it is understood");
        assert_eq!((&decoded.subject, decoded.family), (&Subject::Fresh, Family::Conventional));
        let Operation::Create(create) = decoded.operation else { panic!("it creates") };
        assert_eq!(create.length, Some(Length::new(7)));
        assert_eq!(create.content, Content { bytes: Some(7), finish: Finish::Here });
        assert_eq!(create.semantics.interruption, Interruption::Discards);
        assert_eq!(create.origin.fields["content-type"], "text/x");
    }
    for method in ["GET", "HEAD", "DELETE", "PATCH", "BREW"] {
        let refusal = Dialect::Conventional.decode(&head(method, ""), Resource::Endpoint, None);
        let refusal = refusal.expect_err("no content to keep");
        let answer = Dialect::Conventional.refuse(&refusal, &context("/uploads"));
        assert_eq!(answer.status().as_u16(), 405, "{method}");
        assert_eq!(answer.headers()["allow"], METHODS);
    }
}

#[test]
fn an_ordinary_request_is_answered_by_the_target() {
    let offset = Durable::attest(Offset::new(7));
    let state = State {
        offset,
        length: Some(Length::new(7)),
        complete: true,
        expires: None,
        awaits_parts: false,
        part: None,
    };
    let complete = |status: u16, fields: &str| {
        let answer = TargetResponse {
            status: StatusCode::from_u16(status).expect("a status"),
            fields: head("GET", fields).headers,
            content: Vec::new(),
        };
        let reply = Reply::Complete { id: ID, created: true, state, answer };
        let answer = Dialect::Conventional.encode(&reply, &context("/uploads/"));
        let location =
            answer.headers().get("location").map(|value| value.to_str().expect("ASCII").to_owned());
        assert!(!answer.headers().contains_key("upload-offset"));
        (answer.status().as_u16(), location)
    };
    assert_eq!(complete(201, ""), (201, Some(format!("/uploads/{ID}"))));
    assert_eq!(complete(201, "Location: /elsewhere"), (201, Some("/elsewhere".into())));
    assert_eq!(complete(200, ""), (200, None));
    assert_eq!(complete(422, "Location: /why"), (422, Some("/why".into())));
    let answer = |reply| Dialect::Conventional.encode(&reply, &context("/uploads")).status().as_u16();
    assert_eq!(answer(Reply::State { id: ID, state, described: HeaderMap::new() }), 204);
    assert_eq!(answer(Reply::Cancelled), 204);
    assert_eq!(answer(Reply::Stored { id: ID, created: true, state }), 500);
    let post = head("POST", "Content-Type: a/b");
    let operation = Dialect::Conventional.decode(&post, Resource::Endpoint, None);
    let operation = operation.expect("it is understood").operation;
    let (upload, context) = (upload(), context("/uploads"));
    assert!(Dialect::Conventional.announcement(&operation, &post, &upload, &context).is_none());
    assert!(Dialect::Conventional.progress(Durable::ZERO).is_none());
}
