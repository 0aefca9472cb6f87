//! The tokens of the admin service, from a file: one on each line.
//!
//! Owns the format of the file. Only the SHA-256 digests of tokens are kept in memory.

use std::path::PathBuf;

use hoist_proto::refusal::Refusal;
use http::request::Parts;

use crate::auth::watched::Watched;
use crate::auth::{TokenDigest, UNCONVINCING, Unusable, presented};

/// The shortest token. A token of this length made of random letters and digits cannot be guessed.
const OCTETS_MIN: usize = 16;

/// Admits operators with a token from a file (RFC 6750).
///
/// The file has a token on each line. Empty lines and lines that begin with `#` are ignored. Several tokens let each
/// operator have one, and a new one be introduced before the old one is removed. The file is read again within a second of
/// a change. If it cannot be read, its last content stays valid.
pub struct Tokens(Watched<Vec<TokenDigest>>);

impl Tokens {
    /// Reads the file.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read, a line is malformed, or there is no token.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, Unusable> {
        let path = path.into();
        let tokens = Watched::open(&path, parse)?;
        if tokens.last_read().is_empty() {
            let why = "it has no token; make one with `openssl rand -hex 32`".to_owned();
            return Err(Unusable { path, why });
        }
        Ok(Self(tokens))
    }

    /// Checks the token of a request.
    pub(super) async fn admit(&self, head: &Parts) -> Result<(), Refusal> {
        let presented = TokenDigest::of(presented(head)?);
        // Compares every token, so that the time depends on their number only.
        let is_known = self.0.current().await.iter().fold(false, |found, token| found | token.is(presented));
        if is_known { Ok(()) } else { Err(UNCONVINCING) }
    }
}

/// Errors name the line and never quote it, because it holds a secret.
fn parse(bytes: &[u8]) -> Result<Vec<TokenDigest>, String> {
    let text = str::from_utf8(bytes).map_err(|_| "it is not UTF-8 text".to_owned())?;
    let mut tokens = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let token = line.trim();
        if token.is_empty() || token.starts_with('#') {
            continue;
        }
        if !token.bytes().all(|octet| octet.is_ascii_graphic()) {
            return Err(format!("line {number}: a token has visible ASCII characters only"));
        }
        if token.len() < OCTETS_MIN {
            let make = "make one with `openssl rand -hex 32`";
            return Err(format!("line {number}: a token has at least {OCTETS_MIN} characters; {make}"));
        }
        tokens.push(TokenDigest::of(token));
    }
    Ok(tokens)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use http::{Request, header};

    use super::*;

    const TOKEN: &str = "0123456789abcdef0123";
    const OTHER: &str = "fedcba9876543210fedc";

    async fn admits(tokens: &Tokens, authorization: &[&str]) -> bool {
        let mut request = Request::get("/metrics");
        for line in authorization {
            request = request.header(header::AUTHORIZATION, *line);
        }
        tokens.admit(&request.body(()).expect("well-formed").into_parts().0).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_token_of_the_file_as_it_is_now_is_admitted() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("tokens");
        fs::write(&path, format!("# of ops\n{TOKEN}\n\n")).expect("written");
        let tokens = Tokens::open(&path).expect("usable");
        let bearer = format!("Bearer {TOKEN}");
        let shorter = &bearer[..bearer.len() - 1];
        let cases: [(&[&str], bool); 7] = [
            (&[&bearer], true),
            (&[], false),
            (&["Bearer"], false),
            (&[shorter], false),
            (&["Basic MDEyMw=="], false),
            (&["Bearer # of ops"], false),
            (&[&bearer, &bearer], false),
        ];
        for (lines, expected) in cases {
            assert_eq!(admits(&tokens, lines).await, expected, "{lines:?}");
        }
        for (content, is_old, is_new) in [
            (format!("{TOKEN}\n{OTHER}\n"), true, true),
            (format!("{OTHER} \n"), false, true),
            ("too short\n".to_owned(), false, true),
            ("# all removed\n".to_owned(), false, false),
        ] {
            fs::write(&path, &content).expect("written");
            tokio::time::advance(Duration::from_secs(1)).await;
            let (old, new) = (admits(&tokens, &[&bearer]).await, format!("Bearer {OTHER}"));
            assert_eq!((old, admits(&tokens, &[&new]).await), (is_old, is_new), "{content}");
        }
    }

    #[test]
    fn a_file_that_admits_no_request_or_is_malformed_is_an_error_that_quotes_nothing() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("tokens");
        let cases: [(&[u8], &str); 4] = [
            (b"# none\n\n", "no token"),
            (b"\nshort\n", "line 2: a token has at least 16"),
            ("0123456789abcdef\u{e9}".as_bytes(), "line 1: "),
            (b"0123456789abcdef\xff", "not UTF-8"),
        ];
        for (content, expected) in cases {
            fs::write(&path, content).expect("written");
            let error = Tokens::open(&path).err().expect("unusable").to_string();
            assert!(error.contains(expected) && !error.contains("cdef"), "{error}");
        }
        fs::remove_file(&path).expect("removed");
        assert!(Tokens::open(&path).is_err());
    }
}
