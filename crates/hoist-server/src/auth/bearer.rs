//! Bearer tokens from a file: a token and a principal on each line.
//!
//! Owns the format of the file and the comparison. Only the SHA-256 digests of tokens are kept in memory.

use std::path::PathBuf;

use hoist_proto::refusal::Refusal;
use hoist_proto::types::Principal;
use hoist_store::store::BoxFuture;
use http::request::Parts;

use super::watched::Watched;
use super::{Authenticator, TokenDigest, UNCONVINCING, Unusable, presented};

/// Admits requests with a token from a file (RFC 6750).
///
/// The file has a line for each token: the token, white space, and the principal up to the end of the line. Empty lines
/// and lines that begin with `#` are ignored. A principal may have several tokens, so that a new one can be introduced
/// before the old one is removed. The file is read again within a second of a change. If it cannot be read, its last
/// content stays valid.
pub struct Bearer(Watched<Table>);

impl Bearer {
    /// Reads the file.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read or a line is malformed.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, Unusable> {
        Watched::open(path, Table::parse).map(Self)
    }

    /// Returns whether the file had no token when it was last read, so that every request is refused.
    pub fn is_empty(&self) -> bool {
        self.0.last_read().0.is_empty()
    }
}

impl Authenticator for Bearer {
    //= TOK-SEC-02
    fn admit<'a>(&'a self, head: &'a Parts) -> BoxFuture<'a, Result<Option<Principal>, Refusal>> {
        Box::pin(async move {
            let token = presented(head)?;
            let table = self.0.current().await;
            table.principal(token).map(Some).ok_or(UNCONVINCING)
        })
    }
}

/// The digests of the tokens, and their principals.
struct Table(Vec<(TokenDigest, Principal)>);

impl Table {
    /// Errors name the line and never quote it, because it holds a secret.
    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let text = str::from_utf8(bytes).map_err(|_| "it is not UTF-8 text".to_owned())?;
        let mut rows: Vec<(TokenDigest, Principal)> = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let Some((token, principal)) = line.split_once(char::is_whitespace) else {
                return Err(format!("line {number}: write a token, a space and a principal"));
            };
            if !token.bytes().all(|octet| octet.is_ascii_graphic()) {
                return Err(format!("line {number}: a token has visible ASCII characters only"));
            }
            let digest = TokenDigest::of(token);
            if rows.iter().any(|(earlier, _)| earlier.is(digest)) {
                return Err(format!("line {number}: the token is on an earlier line already"));
            }
            rows.push((digest, Principal::new(principal.trim())));
        }
        Ok(Self(rows))
    }

    /// Compares every row, so that the time depends on the number of rows only.
    fn principal(&self, token: &str) -> Option<Principal> {
        let presented = TokenDigest::of(token);
        let mut found = None;
        for (digest, principal) in &self.0 {
            if digest.is(presented) {
                found = Some(principal);
            }
        }
        found.cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{MISSING_CHALLENGE, WRONG_CHALLENGE, challenge, head};
    use super::*;

    fn bearer(text: &str) -> (tempfile::TempDir, Bearer) {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("tokens");
        std::fs::write(&path, text).expect("written");
        let bearer = Bearer::open(path).expect("usable");
        (directory, bearer)
    }

    // proves: TOK-SEC-02
    #[tokio::test]
    async fn only_a_token_from_the_file_is_admitted_as_its_principal() {
        let (_directory, bearer) = bearer("# comment\n\n s3cret alice\nother\tbob smith \nthird alice\n");
        let cases: [(&[&str], Result<&str, &str>); 12] = [
            (&["Bearer s3cret"], Ok("alice")),
            (&["bearer  s3cret "], Ok("alice")),
            (&["BEARER third"], Ok("alice")),
            (&["Bearer other"], Ok("bob smith")),
            (&[], Err(MISSING_CHALLENGE)),
            (&["Basic czNjcmV0"], Err(MISSING_CHALLENGE)),
            (&["Bearer"], Err(WRONG_CHALLENGE)),
            (&["Bearer "], Err(WRONG_CHALLENGE)),
            (&["Bearer S3cret"], Err(WRONG_CHALLENGE)),
            (&["Bearer s3cre"], Err(WRONG_CHALLENGE)),
            (&["Bearer s3cret alice"], Err(WRONG_CHALLENGE)),
            (&["Bearer s3cret", "Bearer s3cret"], Err(WRONG_CHALLENGE)),
        ];
        for (fields, expected) in cases {
            let head = head(fields);
            let admitted = bearer.admit(&head).await;
            let admitted =
                admitted.as_ref().map(|who| who.as_ref().map(Principal::name).expect("never anonymous"));
            assert_eq!(admitted.map_err(challenge), expected, "{fields:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_is_refused_within_a_second_of_its_removal() {
        let (directory, bearer) = bearer("s3cret alice\n");
        let head = head(&["Bearer s3cret"]);
        assert!(bearer.admit(&head).await.is_ok());
        std::fs::write(directory.path().join("tokens"), "# no tokens\n").expect("written");
        tokio::time::advance(std::time::Duration::from_secs(1)).await;
        assert!(bearer.admit(&head).await.is_err());
        assert!(bearer.is_empty());
    }

    #[test]
    fn an_error_names_the_bad_line_without_quoting_it() {
        let cases: [(&[u8], &str); 4] = [
            (b"good alice\ns3cret\n", "line 2"),
            (b"s3cret a\ns3cret b\n", "line 2"),
            ("s3cret\u{e9} alice".as_bytes(), "line 1"),
            (b"\xff", "UTF-8"),
        ];
        for (text, expected) in cases {
            let why = Table::parse(text).err().expect("bad");
            assert!(why.contains(expected) && !why.contains("s3cret"), "{why}");
        }
    }
}
