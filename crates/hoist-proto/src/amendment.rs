//! Amendments: the changes of a hook to a response, whether that is a reply or a refusal.

use http::{HeaderMap, StatusCode};

/// The changes of a hook to a response. An empty part leaves the response as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Amendment {
    /// The status.
    pub status: Option<StatusCode>,
    /// Fields that replace those of the same name.
    pub fields: HeaderMap,
    /// The content.
    pub content: Option<String>,
}

impl Amendment {
    /// Returns both changes; where they contradict each other, `later` applies.
    pub fn and(mut self, later: Self) -> Self {
        self.status = later.status.or(self.status);
        self.content = later.content.or(self.content);
        for name in later.fields.keys() {
            self.fields.remove(name);
        }
        self.fields.extend(later.fields);
        self
    }

    /// Returns the content, unless the response has a status that comes without.
    pub fn content_with(&self, status: StatusCode) -> Option<&str> {
        let has_content = !matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        self.content.as_deref().filter(|_| has_content)
    }

    /// Returns the status that a hook names by its code. Informational ones are the server's own.
    pub fn status_of(code: i64) -> Option<StatusCode> {
        let code = u16::try_from(code).ok().filter(|code| (200..=599).contains(code))?;
        StatusCode::from_u16(code).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_later_change_applies() {
        let fields = |value: &'static str| {
            let named = |name| (http::HeaderName::from_static(name), http::HeaderValue::from_static(value));
            [named("x-a"), named("x-b")].into_iter()
        };
        let first = Amendment {
            status: Amendment::status_of(201),
            fields: fields("1").collect(),
            content: Some("one".into()),
        };
        let later = Amendment { fields: fields("2").take(1).collect(), ..Amendment::default() };
        let both = first.clone().and(later);
        assert_eq!((both.status, both.content.as_deref()), (first.status, Some("one")));
        assert_eq!((both.fields["x-a"].as_bytes(), both.fields["x-b"].as_bytes()), (&b"2"[..], &b"1"[..]));
    }

    #[test]
    fn statuses_are_final_and_some_have_no_content() {
        for (code, expected) in
            [(0, None), (199, None), (200, Some(200)), (599, Some(599)), (600, None), (-1, None)]
        {
            assert_eq!(Amendment::status_of(code).map(|status| status.as_u16()), expected, "{code}");
        }
        let amendment = Amendment { content: Some("x".into()), ..Amendment::default() };
        assert_eq!(amendment.content_with(StatusCode::OK), Some("x"));
        assert_eq!(amendment.content_with(StatusCode::NO_CONTENT), None);
    }
}
