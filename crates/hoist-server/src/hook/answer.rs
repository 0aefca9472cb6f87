//! The answers of receivers, and the JSON of tusd's.
//!
//! Owns the reading of that JSON as Go's programs read it: names in any case, unknown names ignored, null as absent.

use hoist_proto::amendment::Amendment;
use hoist_proto::refusal::{Declined, Reason, Refusal};
use http::{HeaderName, HeaderValue, header};
use serde_json::{Map, Value};

use super::{Failure, Point};

/// The answer of a receiver. The default agrees and changes nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    /// The refusal of the request, in place of the ones below.
    pub refusal: Option<Refusal>,
    /// The changes to the response.
    pub amendment: Amendment,
    /// True if the upload must not be created.
    pub rejects_upload: bool,
    /// True if the upload must not be cancelled.
    pub rejects_termination: bool,
    /// True if the transfer must end, and the upload with it.
    pub stops_upload: bool,
    /// The path of the new upload's URL below the endpoint.
    pub id: Option<String>,
    /// The metadata of the new upload, in place of those of its client.
    pub metadata: Option<Vec<(String, String)>>,
    /// The path of the new upload's file below the directory of the target.
    pub path: Option<String>,
}

/// Fields of a response that a hook does not set: those of its framing, and those by which clients find their offset.
fn is_reserved(name: &HeaderName) -> bool {
    const RESERVED: [HeaderName; 6] = [
        header::CONNECTION,
        header::CONTENT_LENGTH,
        header::TRAILER,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
        header::TE,
    ];
    const OF_DIALECTS: [&str; 6] = [
        "upload-offset",
        "upload-complete",
        "upload-incomplete",
        "upload-length",
        "upload-draft-interop-version",
        "tus-resumable",
    ];
    RESERVED.contains(name) || OF_DIALECTS.contains(&name.as_str())
}

impl Answer {
    /// Returns an answer that refuses the request.
    pub fn refusing(refusal: Refusal) -> Self {
        Self { refusal: Some(refusal), ..Self::default() }
    }

    /// Returns both answers together; where they contradict each other, `later` applies.
    pub(crate) fn and(self, later: Self) -> Self {
        Self {
            refusal: self.refusal.or(later.refusal),
            amendment: self.amendment.and(later.amendment),
            rejects_upload: self.rejects_upload || later.rejects_upload,
            rejects_termination: self.rejects_termination || later.rejects_termination,
            stops_upload: self.stops_upload || later.stops_upload,
            id: later.id.or(self.id),
            metadata: later.metadata.or(self.metadata),
            path: later.path.or(self.path),
        }
    }

    /// Returns the refusal of the request, if the answer declines it at this point.
    pub(crate) fn refusal_at(&self, point: Point) -> Option<Refusal> {
        if let Some(refusal) = &self.refusal {
            return Some(refusal.clone());
        }
        let what = match point {
            Point::PreCreate if self.rejects_upload => Declined::Creation,
            Point::PreTerminate if self.rejects_termination => Declined::Cancellation,
            _ => return None,
        };
        Some(Reason::Declined { what, amendment: Box::new(self.amendment.clone()) }.into())
    }

    /// Reads the JSON of an answer to tusd.
    ///
    /// # Errors
    /// Returns a failure that says what is wrong with it.
    pub fn from_json(json: &[u8]) -> Result<Self, Failure> {
        let value: Value = serde_json::from_slice(json)
            .map_err(|error| Failure(format!("its answer is not valid JSON: {error}")))?;
        let answer = Members::of(&value, "the answer")?;
        let mut read = Self::default();
        if let Some(response) = answer.object("HTTPResponse")? {
            read.amendment = amendment(&response)?;
        }
        read.rejects_upload = answer.flag("RejectUpload")?;
        read.rejects_termination = answer.flag("RejectTermination")?;
        read.stops_upload = answer.flag("StopUpload")?;
        if let Some(change) = answer.object("ChangeFileInfo")? {
            read.id = change.text("ID")?.filter(|id| !id.is_empty());
            read.metadata = change.texts("MetaData")?;
            if let Some(storage) = change.object("Storage")? {
                read.path = storage.text("Path")?.filter(|path| !path.is_empty());
            }
        }
        Ok(read)
    }
}

fn amendment(response: &Members<'_>) -> Result<Amendment, Failure> {
    let status = match response.number("StatusCode")? {
        None | Some(0) => None,
        Some(code) => {
            let wrong = || Failure(format!("its StatusCode {code} is not between 200 and 599"));
            Some(Amendment::status_of(code).ok_or_else(wrong)?)
        }
    };
    let mut amendment = Amendment {
        status,
        content: response.text("Body")?.filter(|body| !body.is_empty()),
        ..Amendment::default()
    };
    for (name, value) in response.texts("Header")?.unwrap_or_default() {
        let bad = || Failure(format!("its Header {name:?} is not a header field"));
        let field = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad())?;
        let text = HeaderValue::from_str(&value).map_err(|_| bad())?;
        if is_reserved(&field) {
            tracing::warn!(field = %field, "a hook cannot set this field of a response; it is ignored");
        } else {
            amendment.fields.insert(field, text);
        }
    }
    Ok(amendment)
}

/// The members of a JSON object, found by names in any case.
struct Members<'a> {
    map: &'a Map<String, Value>,
    /// The name of the object, for errors.
    of: &'a str,
}

impl<'a> Members<'a> {
    fn of(value: &'a Value, of: &'a str) -> Result<Self, Failure> {
        let map = value.as_object().ok_or_else(|| Failure(format!("{of} is not a JSON object")))?;
        Ok(Self { map, of })
    }

    fn get(&self, name: &str) -> Option<&'a Value> {
        let exact = self.map.get(name);
        let found = exact.or_else(|| {
            self.map.iter().find_map(|(key, value)| key.eq_ignore_ascii_case(name).then_some(value))
        });
        found.filter(|value| !value.is_null())
    }

    fn member<T>(
        &self,
        name: &str,
        kind: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, Failure> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let read = read(value).ok_or_else(|| Failure(format!("{name} in {} is not {kind}", self.of)))?;
        Ok(Some(read))
    }

    fn object(&self, name: &'a str) -> Result<Option<Members<'a>>, Failure> {
        let map = self.member(name, "an object", Value::as_object)?;
        Ok(map.map(|map| Members { map, of: name }))
    }

    fn flag(&self, name: &str) -> Result<bool, Failure> {
        Ok(self.member(name, "true or false", Value::as_bool)?.unwrap_or(false))
    }

    fn number(&self, name: &str) -> Result<Option<i64>, Failure> {
        self.member(name, "a whole number", Value::as_i64)
    }

    fn text(&self, name: &str) -> Result<Option<String>, Failure> {
        self.member(name, "a string", |value| value.as_str().map(ToOwned::to_owned))
    }

    /// Returns the members of an object whose values are strings. Null is an empty one, as in Go.
    fn texts(&self, name: &str) -> Result<Option<Vec<(String, String)>>, Failure> {
        self.member(name, "an object of strings", |value| {
            let text = |value: &Value| match value {
                Value::Null => Some(String::new()),
                value => value.as_str().map(ToOwned::to_owned),
            };
            value.as_object()?.iter().map(|(key, value)| Some((key.clone(), text(value)?))).collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    fn read(json: &str) -> Answer {
        Answer::from_json(json.as_bytes()).expect(json)
    }

    #[test]
    fn an_answer_is_read_as_go_reads_it() {
        let whole = r#"{
            "HTTPResponse": {"StatusCode": 418, "Body": "no", "Header": {"X-A": "b", "Content-Length": "7"}},
            "RejectUpload": true, "RejectTermination": true, "StopUpload": true,
            "ChangeFileInfo": {"ID": "a/b", "MetaData": {"x": "y", "z": null}, "Storage": {"Path": "p"}},
            "Unknown": [1]
        }"#;
        let answer = read(whole);
        assert_eq!(answer.amendment.status, Some(StatusCode::IM_A_TEAPOT));
        assert_eq!(answer.amendment.content.as_deref(), Some("no"));
        assert_eq!(
            (answer.amendment.fields.len(), &answer.amendment.fields["x-a"]),
            (1, &HeaderValue::from_static("b"))
        );
        assert!(answer.rejects_upload && answer.rejects_termination && answer.stops_upload);
        assert_eq!((answer.id.as_deref(), answer.path.as_deref()), (Some("a/b"), Some("p")));
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(answer.metadata, Some(vec![pair("x", "y"), pair("z", "")]));

        let lower = whole.to_lowercase();
        let mixed = whole.replace("HTTPResponse", "httpResponse").replace("StatusCode", "sTATUScODE");
        for json in [lower, mixed] {
            let amendment = Amendment { fields: answer.amendment.fields.clone(), ..read(&json).amendment };
            assert_eq!(Answer { amendment, ..read(&json) }, answer, "{json}");
        }
    }

    #[test]
    fn what_is_absent_null_or_empty_changes_nothing() {
        for json in [
            "{}",
            r#"{"HTTPResponse": null, "RejectUpload": null, "ChangeFileInfo": null}"#,
            r#"{"HTTPResponse": {"StatusCode": 0, "Body": "", "Header": {}}, "RejectUpload": false}"#,
            r#"{"ChangeFileInfo": {"ID": "", "MetaData": null, "Storage": {"Path": ""}}}"#,
        ] {
            assert_eq!(read(json), Answer::default(), "{json}");
        }
        assert_eq!(read(r#"{"ChangeFileInfo": {"MetaData": {}}}"#).metadata, Some(Vec::new()));
    }

    #[test]
    fn an_exact_name_precedes_others() {
        assert!(read(r#"{"rejectupload": false, "RejectUpload": true}"#).rejects_upload);
    }

    #[test]
    fn answers_that_make_no_sense_are_failures_that_say_why() {
        for (json, why) in [
            ("", "not valid JSON"),
            ("hello", "not valid JSON"),
            ("[]", "the answer is not a JSON object"),
            (r#"{"RejectUpload": "yes"}"#, "RejectUpload in the answer is not true or false"),
            (r#"{"HTTPResponse": 7}"#, "HTTPResponse in the answer is not an object"),
            (
                r#"{"HTTPResponse": {"StatusCode": "200"}}"#,
                "StatusCode in HTTPResponse is not a whole number",
            ),
            (r#"{"HTTPResponse": {"StatusCode": 99}}"#, "StatusCode 99"),
            (r#"{"HTTPResponse": {"Header": {"a b": "c"}}}"#, "\"a b\""),
            (r#"{"HTTPResponse": {"Header": {"A": "b\r\nC: d"}}}"#, "\"A\""),
            (r#"{"HTTPResponse": {"Header": {"A": ["b"]}}}"#, "an object of strings"),
            (r#"{"ChangeFileInfo": {"MetaData": {"a": 1}}}"#, "an object of strings"),
        ] {
            let Failure(said) = Answer::from_json(json.as_bytes()).expect_err(json);
            assert!(said.contains(why), "{json}: {said}");
        }
        let deep = "[".repeat(100_000);
        assert!(Answer::from_json(deep.as_bytes()).is_err());
    }

    #[test]
    fn of_two_answers_the_later_changes_more() {
        let first =
            read(r#"{"HTTPResponse": {"StatusCode": 201, "Body": "a", "Header": {"X": "1", "Y": "1"}}}"#);
        let both =
            first.and(read(r#"{"HTTPResponse": {"StatusCode": 202, "Header": {"X": "2"}}}"#)).amendment;
        assert_eq!((both.status, both.content.as_deref()), (Some(StatusCode::ACCEPTED), Some("a")));
        assert_eq!(
            (&both.fields["x"], &both.fields["y"]),
            (&HeaderValue::from_static("2"), &HeaderValue::from_static("1"))
        );
    }
}
