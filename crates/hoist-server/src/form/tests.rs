//! Forms in every split, and malformed forms.

use super::*;

/// Parses a form in pieces of `step` bytes, and returns the fields and the content of its file.
fn parsed(input: &[u8], boundary: &str, step: usize) -> Result<(HeaderMap, Vec<u8>), &'static str> {
    let mut form = Form::new(boundary);
    let (mut described, mut content) = (None, Vec::new());
    let mut pieces = input.chunks(step);
    loop {
        match form.next()? {
            Event::File(fields) => described = Some(fields),
            Event::Data(data) => content.extend_from_slice(&data),
            Event::More | Event::End => match pieces.next() {
                Some(piece) => form.feed(Bytes::copy_from_slice(piece)),
                None if form.state == ParserState::Ended => {
                    return described.map(|fields| (fields, content)).ok_or("no file");
                }
                None => return Err("unfinished"),
            },
        }
    }
}

const FILE: &str =
    "Content-Disposition: form-data; name=\"f\"; filename=\"a.bin\"\r\nContent-Type: image/png\r\n\r\n";

#[test]
fn the_file_of_a_form_is_read_in_every_split() {
    let almost = "\r\n--\r\n-x\r\r\n--xy\r\n\r\n--";
    let field = "--xyz\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nb\r\n";
    let empty =
        "--xyz\r\nContent-Disposition: form-data; name=\"f\"; filename=\"\"\r\nContent-Type: x/y\r\n\r\n\r\n";
    let cases = [
        (format!("--xyz\r\n{FILE}{almost}\r\n--xyz--\r\n"), almost),
        (format!("--xyz \t\r\n{FILE}\r\n--xyz--"), ""),
        (format!("--xyz\r\n{FILE}\r\n\r\n--xyz--"), "\r\n"),
        (format!("preamble\r\n{field}{empty}--xyz\r\n{FILE}hello\r\n{field}--xyz--\r\nepilogue"), "hello"),
        (format!("--xyz\r\n\r\nno head\r\n--xyz\r\n{FILE}hello\r\n--xyz--"), "hello"),
    ];
    for (form, expected) in cases {
        for step in 1..=form.len() {
            let (described, content) = parsed(form.as_bytes(), "xyz", step).expect(&form);
            assert_eq!(String::from_utf8_lossy(&content), expected, "in pieces of {step}: {form:?}");
            assert_eq!(described[header::CONTENT_TYPE], "image/png");
            assert_eq!(filename::from_disposition(&described).as_deref(), Some("a.bin"));
        }
    }
}

#[test]
fn a_form_without_exactly_one_file_is_an_error() {
    let long = format!("--xyz\r\nX: {}\r\n\r\n", "y".repeat(HEAD_BYTES_MAX));
    let padded = format!("--xyz{}", " ".repeat(1000));
    let others = format!("{}\r\n--xyz--", "y".repeat(OTHER_BYTES_MAX));
    let cases: [(&str, &str); 12] = [
        ("", "unfinished"),
        ("hello", "unfinished"),
        ("--xyz--", "no file"),
        ("--xyz\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nb\r\n--xyz--", "no file"),
        (&format!("--xyz\r\n{FILE}hello"), "unfinished"),
        (&format!("--xyz\r\n{FILE}hello\r\n--xyz"), "unfinished"),
        (&format!("--xyz\r\n{FILE}hello\r\n--xyz\r\n"), "unfinished"),
        (&format!("--xyz\r\n{FILE}hello\r\n--xyzabc\r\n--xyz--"), "does not end its line"),
        (&format!("--xyz\r\n{FILE}hello\r\n--xyz\r\n{FILE}again\r\n--xyz--"), "more than one file"),
        (&long, "too long"),
        (&padded, "does not end its line"),
        (&others, "more than 1 MiB"),
    ];
    for (form, expected) in cases {
        for step in [1000, usize::MAX] {
            let why = parsed(form.as_bytes(), "xyz", step).expect_err(form);
            assert!(why.contains(expected), "{why}: {:?}", &form[..form.len().min(80)]);
        }
    }
}

#[test]
fn a_boundary_is_read_from_forms_only() {
    let cases = [
        ("multipart/form-data; boundary=xyz", Some("xyz")),
        ("Multipart/Form-Data;charset=utf-8;Boundary=\"x y:z\"", Some("x y:z")),
        ("multipart/form-data", None),
        ("multipart/form-data; boundary=\"\"", None),
        ("multipart/mixed; boundary=xyz", None),
        ("text/plain", None),
    ];
    for (text, expected) in cases {
        let fields = [(header::CONTENT_TYPE, HeaderValue::from_static(text))].into_iter().collect();
        assert_eq!(boundary(&Method::POST, &fields).as_deref(), expected, "{text}");
    }
    let long =
        HeaderValue::try_from(format!("multipart/form-data; boundary={}", "x".repeat(71))).expect("a value");
    let fields = [(header::CONTENT_TYPE, long)].into_iter().collect();
    assert_eq!(boundary(&Method::POST, &fields), None);
    let form = HeaderValue::from_static("multipart/form-data; boundary=xyz");
    let fields = [(header::CONTENT_TYPE, form)].into_iter().collect();
    assert_eq!(boundary(&Method::GET, &fields), None);
}

/// Content full of near-delimiters: the work for each is bounded by the length of the boundary.
#[test]
fn a_file_of_almost_delimiters_is_read_in_linear_time() {
    let boundary = "x".repeat(BOUNDARY_OCTETS_MAX);
    let almost = format!("\r\n--{}", &boundary[1..]);
    let content = almost.repeat(30_000);
    let form = format!("--{boundary}\r\n{FILE}{content}\r\n--{boundary}--");
    // Two megabytes: a search that restarts at the first octet for each piece would take minutes.
    let (_, found) = parsed(form.as_bytes(), &boundary, 100).expect("a form");
    assert!(found == content.as_bytes());
}
