//! Content that may not match its digest. None of it counts before that is known.
//!
//! Owns the bytes held back until the content has been compared, and the truncation of content that does not match. The
//! comparison itself is in [`digest`](crate::digest).

use bytes::Bytes;
use hoist_proto::refusal::{Reason, Refusal};
use hoist_proto::types::Offset;
use hoist_proto::upload::{State, Upload};
use hoist_store::store::{Error, Store, Writer};
use http::{HeaderMap, HeaderValue};

use crate::digest::{self, Check, ContentCheck, Hashes};

/// Content up to this size is compared before any of it is written, so that the store need not mark it as unverified.
const HELD_BYTES_MAX: usize = 256 * 1024;

/// The content of one request on its way to the store, and the digests it has to match.
pub(crate) struct UnverifiedContent {
    check: Check,
    at: Offset,
    is_strict: bool,
    /// Content that has not been written.
    held: Vec<Bytes>,
    held_bytes: usize,
    /// True once the store has been told that the content is unverified.
    is_marked: bool,
}

impl UnverifiedContent {
    /// Returns a check of content that begins at `at`.
    pub(crate) fn new(check: Check, at: Offset) -> Self {
        Self { is_strict: check.is_strict(), check, at, held: Vec::new(), held_bytes: 0, is_marked: false }
    }

    /// Returns whether the content may still be discarded, so that none of it may be acknowledged before its end.
    pub(crate) fn is_pending(&self) -> bool {
        self.check.is_pending()
    }

    /// Returns whether unverified content must be discarded.
    pub(crate) fn is_strict(&self) -> bool {
        self.is_strict
    }

    /// Reads the digests in the trailers.
    pub(crate) fn trailers(&mut self, fields: &HeaderMap) {
        self.check.trailers(fields);
    }

    /// Writes the next bytes, or holds them back.
    //= TUS1-CHK-03
    pub(crate) async fn write(&mut self, bytes: Bytes, writer: &mut dyn Writer) -> Result<(), Error> {
        self.check.update(&bytes);
        if !self.is_strict || self.is_marked {
            return writer.write(bytes).await;
        }
        self.held_bytes += bytes.len();
        self.held.push(bytes);
        if self.held_bytes > HELD_BYTES_MAX {
            writer.mark_unverified().await?;
            self.is_marked = true;
            self.write_held(writer).await?;
        }
        Ok(())
    }

    /// Compares content that has ended with its digests, and truncates the upload if they do not match. Returns the refusal
    /// of content that does not count.
    //= TUS1-CHK-03, TUS1-CHK-06, TUS1-CHK-09
    pub(crate) async fn verify(
        &mut self,
        is_whole: bool,
        upload: &Upload,
        writer: &mut dyn Writer,
        store: &dyn Store,
    ) -> Result<Option<Refusal>, Error> {
        if !is_whole {
            if self.is_strict {
                self.truncate(writer).await?;
            }
            return Ok(None);
        }
        let state = State::from(upload);
        let refusal = match self.check.compare() {
            ContentCheck::Match => {
                if let Err(failure) = self.write_held(writer).await {
                    self.truncate(writer).await?;
                    return Err(failure);
                }
                None
            }
            ContentCheck::Mismatch => Some(Reason::DigestMismatch.with_state(state)),
            ContentCheck::Unverifiable(refusal) => Some(Refusal { state: Some(state), ..refusal }),
            ContentCheck::NotHashed(said) => {
                writer.sync().await?;
                let is_right = digest::is_stored(&said, upload.id, self.at, store).await?;
                (!is_right).then_some(Reason::DigestMismatch.with_state(state))
            }
        };
        if refusal.is_some() {
            self.truncate(writer).await?;
        }
        Ok(refusal)
    }

    /// Takes the values of `Repr-Digest` in the trailers.
    pub(crate) fn trailer_repr_digest(&mut self) -> Vec<HeaderValue> {
        self.check.trailer_repr_digest()
    }

    /// Returns the hashes of the representation so far.
    pub(crate) fn repr_hashes(self) -> Option<Hashes> {
        self.check.whole()
    }

    async fn write_held(&mut self, writer: &mut dyn Writer) -> Result<(), Error> {
        for bytes in self.held.drain(..) {
            writer.write(bytes).await?;
        }
        Ok(())
    }

    async fn truncate(&mut self, writer: &mut dyn Writer) -> Result<(), Error> {
        self.held.clear();
        writer.truncate(self.at).await
    }
}
