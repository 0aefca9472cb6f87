//! The state of a composed upload while its parts arrive.

use std::collections::HashMap;

use hoist_proto::engine::composition;
use hoist_proto::refusal::Refusal;
use hoist_proto::types::{Length, UploadId};
use hoist_proto::upload::{Composition, IndexedParts, State, Upload};

use crate::shared::Shared;

impl Shared {
    /// Returns the state of an upload. That of an incomplete composed upload is computed from its parts.
    //= TOK-IDX-04, TUS1-CAT-10, TUS1-CAT-13
    pub(crate) async fn state_of(&self, upload: &Upload) -> Result<State, Refusal> {
        let mut state = State::from(upload);
        let (highest, last) = match &upload.composition {
            Composition::Direct | Composition::Part => return Ok(state),
            Composition::Concatenated(_) | Composition::Indexed(_) if upload.is_complete() => {
                return Ok(state);
            }
            Composition::Concatenated(parts) => {
                if state.length.is_none() {
                    state.length = self.declared_length(parts).await?;
                }
                return Ok(state);
            }
            Composition::Indexed(IndexedParts { started, last }) => (started.highest(), *last),
        };
        let mut parts = Vec::new();
        for number in last.unwrap_or(highest).up_to() {
            let part = self.peek(self.ids.of_part(upload.id, number)).await?;
            // Parts after an incomplete one contribute their length alone, and that only if the last part is known.
            let goes_on = part.as_ref().is_some_and(|part| last.is_some() || part.is_complete());
            parts.push(part);
            if !goes_on {
                break;
            }
        }
        let gathered = composition::progress(parts.iter().map(Option::as_ref));
        state.offset = gathered.offset;
        state.length = gathered.length.filter(|_| last.is_some());
        Ok(state)
    }

    /// Returns the total of the parts' lengths, if the length of each is known.
    async fn declared_length(&self, parts: &[UploadId]) -> Result<Option<Length>, Refusal> {
        let mut known: HashMap<UploadId, Length> = HashMap::new();
        let mut sum = 0_u64;
        for id in parts {
            if !known.contains_key(id) {
                let Some(length) = self.peek(*id).await?.and_then(|part| part.length) else {
                    return Ok(None);
                };
                known.insert(*id, length);
            }
            sum = sum.saturating_add(known[id].get());
        }
        Ok(Some(Length::new(sum)))
    }

    /// Extends the life of an expired indexed upload to that of a part that has not expired.
    pub(crate) async fn refreshed(&self, upload: Upload) -> Result<Upload, Refusal> {
        let Composition::Indexed(IndexedParts { started, .. }) = &upload.composition else {
            return Ok(upload);
        };
        if upload.is_complete() || !upload.is_expired(self.clock.now()) {
            return Ok(upload);
        }
        let mut renewed = upload.touched;
        for number in started.iter() {
            if let Some(part) = self.peek(self.ids.of_part(upload.id, number)).await?
                && !part.is_expired(self.clock.now())
            {
                renewed = renewed.max(part.touched);
                break;
            }
        }
        Ok(Upload { touched: renewed, ..upload })
    }
}
