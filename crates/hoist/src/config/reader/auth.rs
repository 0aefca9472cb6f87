//! The settings of authentication: bearer tokens, JWT keys and issuers.

use std::collections::BTreeSet;
use std::path::PathBuf;

use hoist_server::auth::jwt::Algorithm;

use super::super::{AuthConfig, JwtKeys};
use super::SettingsReader;

impl SettingsReader<'_> {
    pub(super) fn auth(&mut self) -> AuthConfig {
        let (bearer, single, set) = (self.path("bearer-file"), self.path("jwt-key"), self.path("jwks-file"));
        let algorithm = self.named::<Algorithm>("jwt-algorithm");
        let audiences = self.many("jwt-audience");
        let by_issuer = self.keys_by_issuer(single.is_some() || set.is_some());
        if single.is_none() {
            self.reject_without("jwt-algorithm", "--jwt-key");
        }
        if single.is_none() && set.is_none() && by_issuer.is_empty() {
            self.reject_without("jwt-audience", "--jwt-key, --jwks-file or --jwt-issuer-keys");
            self.reject_without("jwt-main-issuer", "--jwt-issuer or --jwt-issuer-keys");
        }
        if single.is_none() && set.is_none() {
            self.reject_without("jwt-issuer", "--jwt-key or --jwks-file");
        }
        let (issuers, main_issuer) = self.issuers(&by_issuer);
        let keys = match (single, set) {
            (Some(_), Some(_)) => {
                self.error("jwks-file", "cannot be combined with --jwt-key; add that key to the set");
                None
            }
            (None, None) if !by_issuer.is_empty() => Some(JwtKeys::ByIssuer(by_issuer)),
            (Some(file), None) => {
                if self.layers.get("jwt-algorithm").is_none() {
                    self.error("jwt-key", "needs an algorithm; set --jwt-algorithm, for example RS256");
                }
                algorithm.map(|algorithm| JwtKeys::Single(file, algorithm))
            }
            (None, set) => set.map(JwtKeys::Set),
        };
        match (bearer, keys) {
            (None, None) => AuthConfig::Anyone,
            (Some(file), None) => AuthConfig::Bearer(file),
            (None, Some(keys)) => AuthConfig::Jwt { keys, audiences, issuers, main_issuer },
            (Some(_), Some(_)) => {
                self.error("bearer-file", "cannot be combined with JWT keys; remove one of them");
                AuthConfig::Anyone
            }
        }
    }

    /// Reads the key sets that belong to one issuer each.
    fn keys_by_issuer(&mut self, has_other_keys: bool) -> Vec<(String, PathBuf)> {
        let by_issuer = self.each("jwt-issuer-keys", |text| {
            // Split at the last `=`, because an issuer may be a URL with a query.
            match text.rsplit_once('=') {
                Some((issuer, file)) if !issuer.is_empty() && !file.is_empty() => {
                    Ok((issuer.to_owned(), PathBuf::from(file)))
                }
                _ => {
                    Err("is not an issuer and a file; write it like https://id.example=keys.json".to_owned())
                }
            }
        });
        if !by_issuer.is_empty() && has_other_keys {
            let wrong = "cannot be combined with --jwt-key or --jwks-file; give each key set with its issuer";
            self.error("jwt-issuer-keys", wrong);
        }
        by_issuer
    }

    /// Reads the issuers that any key may verify, and the main issuer, whose users are identified by subject alone.
    fn issuers(&mut self, by_issuer: &[(String, PathBuf)]) -> (Vec<String>, Option<String>) {
        let issuers: Vec<String> = self.many("jwt-issuer");
        let main: Option<String> = self.one("jwt-main-issuer");
        let (name, allowed): (_, BTreeSet<&str>) = if by_issuer.is_empty() {
            ("jwt-issuer", issuers.iter().map(String::as_str).collect())
        } else {
            ("jwt-issuer-keys", by_issuer.iter().map(|(issuer, _)| issuer.as_str()).collect())
        };
        // With several issuers, a principal is written as issuer, space, subject.
        if allowed.len() > 1 && allowed.iter().any(|issuer| issuer.contains(char::is_whitespace)) {
            self.error(
                name,
                "has an issuer that contains white space, which separates issuers from subjects",
            );
        }
        if let Some(main) = &main
            && !allowed.is_empty()
            && !allowed.contains(main.as_str())
        {
            self.error("jwt-main-issuer", format!("`{main}` is not one of the issuers of --{name}"));
        }
        (issuers, main)
    }
}
