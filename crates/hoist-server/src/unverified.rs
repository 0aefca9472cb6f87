//! Content that may turn out not to be what its sender says: how it gets into the store without ever counting before that is
//! known.
//!
//! Owns what is held back, and what is taken back. The comparing is [`digest`](crate::digest)'s.

use bytes::Bytes;
use hoist_proto::refusal::Refusal;
use hoist_proto::types::Offset;
use hoist_proto::upload::{State, Upload};
use hoist_store::store::{Error, Store, Writer};
use http::{HeaderMap, HeaderValue};

use crate::digest::{self, Check, Compared, Hashes};

/// Checked content up to this size is compared before any of it is written, which spares the store the doubt.
const HELD_BYTES_MAX: usize = 256 * 1024;

/// The content of one request on its way to the store, and what it should hash to.
pub(crate) struct UnverifiedContent {
    check: Check,
    at: Offset,
    is_strict: bool,
    held: Vec<Bytes>,
    held_bytes: usize,
    /// Whether the store has been told that what it is given may be worthless.
    is_doubted: bool,
}

impl UnverifiedContent {
    /// Content that begins at `at`.
    pub(crate) fn new(check: Check, at: Offset) -> Self {
        Self { is_strict: check.is_strict(), check, at, held: Vec::new(), held_bytes: 0, is_doubted: false }
    }

    /// Whether the content may yet turn out to be none, so that nothing of it may be acknowledged before its end.
    pub(crate) fn is_pending(&self) -> bool {
        self.check.is_pending()
    }

    /// Whether content of which it is not known what it hashes to never counts.
    pub(crate) fn is_strict(&self) -> bool {
        self.is_strict
    }

    /// Takes the trailers.
    pub(crate) fn trailers(&mut self, fields: &HeaderMap) {
        self.check.trailers(fields);
    }

    /// Takes the next bytes.
    //= TUS1-CHK-03
    pub(crate) async fn write(&mut self, bytes: Bytes, writer: &mut dyn Writer) -> Result<(), Error> {
        self.check.update(&bytes);
        if !self.is_strict || self.is_doubted {
            return writer.write(bytes).await;
        }
        self.held_bytes += bytes.len();
        self.held.push(bytes);
        if self.held_bytes > HELD_BYTES_MAX {
            writer.mark_unverified().await?;
            self.is_doubted = true;
            self.let_go(writer).await?;
        }
        Ok(())
    }

    /// Compares content that has ended, and takes back what is not to count. What is wrong with it, if anything.
    //= TUS1-CHK-03, TUS1-CHK-06, TUS1-CHK-09
    pub(crate) async fn judge(
        &mut self,
        is_whole: bool,
        upload: &Upload,
        writer: &mut dyn Writer,
        store: &dyn Store,
    ) -> Result<Option<Refusal>, Error> {
        if !is_whole {
            if self.is_strict {
                self.take_back(writer).await?;
            }
            return Ok(None);
        }
        let state = State::from(upload);
        let wrong = match self.check.compare() {
            Compared::Right => {
                if let Err(failure) = self.let_go(writer).await {
                    self.take_back(writer).await?;
                    return Err(failure);
                }
                None
            }
            Compared::Wrong => Some(Refusal::Digest(state)),
            Compared::Unclear(refusal) => Some(Refusal::Beside(Box::new(refusal), state)),
            Compared::Unread(said) => {
                writer.sync().await?;
                let is_right = digest::is_stored(&said, upload.id, self.at, store).await?;
                (!is_right).then_some(Refusal::Digest(state))
            }
        };
        if wrong.is_some() {
            self.take_back(writer).await?;
        }
        Ok(wrong)
    }

    /// What came behind the content about the representation.
    pub(crate) fn trailer_repr_digest(&mut self) -> Vec<HeaderValue> {
        self.check.trailer_repr_digest()
    }

    /// The hashes of the representation so far.
    pub(crate) fn whole(self) -> Option<Hashes> {
        self.check.whole()
    }

    async fn let_go(&mut self, writer: &mut dyn Writer) -> Result<(), Error> {
        for bytes in self.held.drain(..) {
            writer.write(bytes).await?;
        }
        Ok(())
    }

    async fn take_back(&mut self, writer: &mut dyn Writer) -> Result<(), Error> {
        self.held.clear();
        writer.truncate(self.at).await
    }
}
