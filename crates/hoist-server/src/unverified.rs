//! Content that may not match its digest. None of it counts before that is known.
//!
//! Owns the bytes held back until the content has been compared, and the truncation of content that does not match. The
//! comparison itself is in [`digest`](crate::digest).

use bytes::Bytes;
use hoist_proto::refusal::{Reason, Refusal};
use hoist_proto::types::Offset;
use hoist_proto::upload::{State, Upload};
use hoist_store::store::{Error, Store, Writer};

use crate::digest::{self, Check, ContentCheck};

/// Content up to this size is compared before any of it is written, so that the store need not mark it as unverified.
const HELD_BYTES_MAX: usize = 256 * 1024;

/// The content of one request on its way to the store, and the digests it has to match.
pub(crate) struct UnverifiedContent {
    pub(crate) check: Check,
    at: Offset,
    /// True if unverified content must be discarded.
    pub(crate) is_strict: bool,
    held: Vec<Bytes>,
    held_bytes: usize,
    /// True once the store has been told that the content is unverified.
    is_marked: bool,
    /// The bytes written since they were last asked for.
    written_bytes: u64,
}

impl UnverifiedContent {
    pub(crate) fn new(check: Check, at: Offset) -> Self {
        Self {
            is_strict: check.is_strict(),
            check,
            at,
            held: Vec::new(),
            held_bytes: 0,
            is_marked: false,
            written_bytes: 0,
        }
    }

    /// Writes the next bytes, or holds them back.
    //= TUS1-CHK-03
    pub(crate) async fn write(&mut self, bytes: Bytes, writer: &mut dyn Writer) -> Result<(), Error> {
        self.check.update(&bytes);
        if !self.is_strict || self.is_marked {
            self.written_bytes += bytes.len() as u64;
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

    /// Returns the number of bytes that the store was given since the last call. Bytes that are held back are not among
    /// them.
    pub(crate) fn take_written(&mut self) -> u64 {
        std::mem::take(&mut self.written_bytes)
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

    async fn write_held(&mut self, writer: &mut dyn Writer) -> Result<(), Error> {
        for bytes in self.held.drain(..) {
            self.written_bytes += bytes.len() as u64;
            writer.write(bytes).await?;
        }
        Ok(())
    }

    async fn truncate(&mut self, writer: &mut dyn Writer) -> Result<(), Error> {
        self.held.clear();
        writer.truncate(self.at).await
    }
}
