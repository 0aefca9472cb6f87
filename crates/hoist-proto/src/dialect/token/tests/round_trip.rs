//! Each half of the dialect decodes what the other half encodes.

use super::*;

fn any_content() -> impl Strategy<Value = Content> {
    let finish = prop::sample::select(&[Finish::Here, Finish::Later][..]);
    (prop::option::of(0..=LARGEST_INTEGER), finish).prop_map(|(bytes, finish)| Content { bytes, finish })
}

fn any_length() -> impl Strategy<Value = Option<Length>> {
    prop::option::of((0..=LARGEST_INTEGER).prop_map(Length::new))
}

fn any_origin() -> impl Strategy<Value = Origin> {
    let method = prop::sample::select(&[Method::POST, Method::PUT][..]);
    let target = prop::sample::select(&["/uploads", "/", "/a/b?c=d"][..]);
    (method, target, any::<[bool; 4]>()).prop_map(|(method, target, has)| {
        let described = [
            (header::CONTENT_TYPE, "text/plain"),
            (header::CONTENT_ENCODING, "gzip"),
            (header::CONTENT_LANGUAGE, "sv"),
            (header::CONTENT_DISPOSITION, "attachment; filename=\"x\""),
        ];
        let fields = described.into_iter().zip(has).filter(|(_, has)| *has);
        let fields = fields.map(|((name, value), _)| (name, HeaderValue::from_static(value))).collect();
        Origin { method, target: target.into(), fields }
    })
}

/// Operations that a form can encode. An operation that would be decoded as another one is replaced by that.
fn any_operation(form: Form) -> impl Strategy<Value = Operation> {
    let at_zero = form.at_zero();
    let least = u64::from(at_zero != AtZero::Appends);
    let create = (any_content(), any_length(), any_origin()).prop_map(move |(content, length, origin)| {
        let length = length.or_else(|| content.whole_length());
        let resumes = at_zero == AtZero::CreatesOrResumes;
        let on_existing = if resumes { OnExisting::ResumeAtZero } else { OnExisting::Refuse };
        let below_min_size = BelowMinSize::Resumes;
        Operation::Create(Create {
            semantics: SEMANTICS,
            length,
            content,
            on_existing,
            below_min_size,
            composition: Composition::Direct,
            waits_for_parts: false,
            origin,
        })
    });
    let like = prop::option::of(prop::sample::select(&[Method::POST, Method::PUT][..]));
    let append = (like, least..=LARGEST_INTEGER, any_length(), any_content()).prop_map(
        |(like, at, length, content)| {
            let when_complete = AppendToComplete::Conflicts;
            Operation::Append(Append { like, at: Offset::new(at), length, content, when_complete })
        },
    );
    prop_oneof![create, append, Just(Operation::Retrieve), Just(Operation::Cancel)]
}

fn any_spoken() -> impl Strategy<Value = (Form, Operation)> {
    prop::sample::select(&FORMS[..]).prop_flat_map(|form| (Just(form), any_operation(form)))
}

proptest! {
    #[test]
    fn a_server_decodes_the_request_that_a_client_encodes(
        (form, operation) in any_spoken(),
        token in prop::collection::vec(any::<u8>(), 1..=256),
    ) {
        let token = Token::new(token).expect("in range");
        let (target, bytes) = match &operation {
            Operation::Create(create) => (create.origin.target.clone(), create.content.bytes),
            Operation::Append(append) => ("/uploads".into(), append.content.bytes),
            Operation::Retrieve | Operation::Cancel | Operation::Reject(_) => ("/uploads".into(), None),
        };
        let mut request = request(form, &target, &token, None, &intent(&operation)).expect("a request");
        if let Operation::Append(Append { like: Some(method), .. }) = &operation {
            *request.method_mut() = method.clone();
        }
        let (parts, ()) = request.into_parts();
        if form != Form::Draft(Draft::Unnumbered) {
            prop_assert_eq!(Form::of(&parts.headers), form);
        }
        let expected = Decoded { subject: Subject::Token(token), family: Family::Token, operation };
        prop_assert_eq!(form.decode(&parts, bytes), Ok(expected));
    }

    #[test]
    fn a_client_decodes_the_response_that_a_server_encodes(
        form in prop::sample::select(&FORMS[..]),
        offset in 0..=LARGEST_INTEGER,
        length in prop::option::of(0..=LARGEST_INTEGER),
        complete in any::<bool>(),
    ) {
        let state = state(offset, length, complete);
        let expected = UploadState { offset: Some(Offset::new(offset)), length: length.map(Length::new), complete: Some(complete), expires_in: None };
        let heads = [
            form.encode(&Reply::State { id: ID, state, described: HeaderMap::new() }),
            form.encode(&Reply::Stored { id: ID, created: true, state }),
            Dialect::Token(form).refuse(&Reason::UploadExists.with_state(state), &context("/uploads")),
        ];
        for head in heads {
            prop_assert_eq!(client::state(head.headers()), expected);
        }
        let incomplete: HeaderMap = [(UPLOAD_INCOMPLETE, field::boolean_value(!complete))].into_iter().collect();
        prop_assert_eq!(client::state(&incomplete), UploadState { complete: Some(complete), ..UploadState::default() });
    }
}
