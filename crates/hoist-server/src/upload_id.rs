//! The ids of uploads: random, or derived from a client's token and the scope of the token, or from the path that a hook has
//! chosen for the URL.
//!
//! There is no table of tokens. A derived id is the first half of a hash over a key, the endpoint, the principal and the
//! token. The same peer finds its upload again and no other peer can, and no stored or logged id reveals a token.

use hoist_proto::types::{PartNumber, Principal, Token, UploadId};
use sha2::{Digest, Sha256};

#[derive(Clone)]
pub(crate) struct IdDerivation {
    pub(crate) key: [u8; 32],
    pub(crate) endpoint: String,
}

impl IdDerivation {
    /// Returns the id of the upload that a principal names by a token.
    //= TOK-TOKEN-03, TOK-TOKEN-04, TOK-SEC-03, TDR-HDR-06
    pub(crate) fn of_token(&self, principal: Option<&Principal>, token: &Token) -> UploadId {
        let mut hash = Sha256::new_with_prefix(b"hoist upload token 1\0");
        hash.update(self.key);
        // Each length comes first, so that no two scopes hash the same octets.
        let (is_known, name) = principal.map_or((0, ""), |principal| (1, principal.name()));
        hash.update([is_known]);
        for part in [self.endpoint.as_bytes(), name.as_bytes(), token.expose()] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        id_of(hash)
    }

    /// Returns the id of the upload whose URL has this path below the endpoint, in place of an id.
    pub(crate) fn of_alias(&self, alias: &str) -> UploadId {
        let mut hash = Sha256::new_with_prefix(b"hoist upload alias 1\0");
        hash.update(self.key);
        for part in [self.endpoint.as_bytes(), alias.as_bytes()] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        id_of(hash)
    }

    //= TOK-IDX-01
    pub(crate) fn of_part(&self, parent: UploadId, number: PartNumber) -> UploadId {
        let mut hash = Sha256::new_with_prefix(b"hoist upload part 1\0");
        hash.update(self.key);
        hash.update(parent.bits());
        hash.update(number.get().to_be_bytes());
        id_of(hash)
    }
}

fn id_of(hash: Sha256) -> UploadId {
    let digest: [u8; 32] = hash.finalize().into();
    let (bits, _) = digest.split_at(16);
    UploadId::from_bits(bits.try_into().expect("16 of 32 octets"))
}

/// Returns an id that cannot be guessed.
//= IETF-RES-02, IETF-SEC-02, IETF-SEC-03
pub(crate) fn random_id() -> Result<UploadId, getrandom::Error> {
    let mut bits = [0; 16];
    getrandom::fill(&mut bits)?;
    Ok(UploadId::from_bits(bits))
}

#[cfg(test)]
mod tests {
    use super::*;

    // proves: TOK-TOKEN-03, TOK-TOKEN-04, TOK-SEC-03, TDR-HDR-06
    #[test]
    fn a_token_names_different_uploads_in_different_scopes() {
        let token = |text: &str| Token::new(text.as_bytes()).expect("in range");
        let (anna, ben) = (Principal::new("anna"), Principal::new("ben"));
        let derived =
            |octet, endpoint: &str| IdDerivation { key: [octet; 32], endpoint: endpoint.to_owned() };
        let derivation = derived(0, "/uploads");
        let ids = [
            derivation.of_token(None, &token("abcdef")),
            derivation.of_token(None, &token("abcdeg")),
            derivation.of_token(Some(&anna), &token("abcdef")),
            derivation.of_token(Some(&ben), &token("abcdef")),
            derivation.of_token(Some(&Principal::new("")), &token("abcdef")),
            derivation.of_token(Some(&Principal::new("annaabc")), &token("def")),
            derived(0, "/other").of_token(None, &token("abcdef")),
            derived(1, "/uploads").of_token(None, &token("abcdef")),
        ];
        for (index, id) in ids.iter().enumerate() {
            assert!(!ids[index + 1..].contains(id), "{index}");
        }
        assert_eq!(ids[0], derivation.of_token(None, &token("abcdef")));
    }
}
