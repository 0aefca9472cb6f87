//! Listing uploads in pages, with a cursor between them.
//!
//! A page reads no more of the store than it needs, and ends early if few uploads match: then it may be empty and still
//! have a next one.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use hoist_proto::types::{Principal, UploadId};
use hoist_store::store::{Position, UploadGroup};
use tokio::time::Instant;

use super::{Operator, OperatorError};
use crate::shared::Shared;
use crate::view::{UploadState, UploadView, state_listed};

/// The most uploads on a page.
const PAGE_MAX: usize = 1000;

/// The most uploads that one step of the store reads.
const STEP_MAX: usize = 256;

/// The time after which a page ends, although more uploads might match.
const PAGE_TIME: Duration = Duration::from_millis(50);

/// The uploads to list. The default is all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Filter {
    /// Their state.
    pub state: Option<StateFilter>,
    /// The principal that created them.
    pub owner: Option<Principal>,
    /// The least time since their creation.
    pub age_min: Option<Duration>,
}

/// The state of the uploads to list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StateFilter {
    /// More content can be appended, and a transfer is running.
    Transferring,
    /// More content can be appended.
    Open,
    /// All content is stored, and the target has not answered yet.
    Received,
    /// The target has accepted the content.
    Complete,
    /// The target has rejected the content, or it did not match its digest.
    Failed,
}

impl StateFilter {
    /// All states.
    pub const ALL: [Self; 5] = [Self::Transferring, Self::Open, Self::Received, Self::Complete, Self::Failed];

    /// Returns the name. A name never changes.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Transferring => "transferring",
            Self::Open => UploadState::Open.name(),
            Self::Received => UploadState::Received.name(),
            Self::Complete => UploadState::Complete.name(),
            Self::Failed => UploadState::Failed.name(),
        }
    }

    /// Returns the state with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }

    fn state(self) -> UploadState {
        match self {
            Self::Transferring | Self::Open => UploadState::Open,
            Self::Received => UploadState::Received,
            Self::Complete => UploadState::Complete,
            Self::Failed => UploadState::Failed,
        }
    }
}

/// A page of uploads.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Listed {
    /// The uploads, in no particular order.
    pub uploads: Vec<UploadView>,
    /// The cursor of the next page; `None` if this is the last one.
    pub next: Option<Cursor>,
}

/// The position between two pages. It stays valid while uploads come and go, and after a restart of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor(At);

#[derive(Clone, Debug, PartialEq, Eq)]
enum At {
    Open(Option<Position>),
    Complete(Option<Position>),
    /// The running transfers with higher ids.
    Transfers(UploadId),
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            At::Open(None) => f.write_str("o"),
            At::Open(Some(position)) => write!(f, "o{position}"),
            At::Complete(None) => f.write_str("c"),
            At::Complete(Some(position)) => write!(f, "c{position}"),
            At::Transfers(id) => write!(f, "t{id}"),
        }
    }
}

/// A text that is not a cursor of this server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor of this server")]
pub struct BadCursor;

impl FromStr for Cursor {
    type Err = BadCursor;

    fn from_str(text: &str) -> Result<Self, BadCursor> {
        let (kind, rest) = text.split_at_checked(1).ok_or(BadCursor)?;
        let position = || match rest {
            "" => Ok(None),
            rest => Position::new(rest).map(Some).ok_or(BadCursor),
        };
        Ok(Self(match kind {
            "o" => At::Open(position()?),
            "c" => At::Complete(position()?),
            "t" => At::Transfers(rest.parse().map_err(|_| BadCursor)?),
            _ => return Err(BadCursor),
        }))
    }
}

impl Operator {
    /// Lists uploads, at most `most` of them (1 to 1000) from a cursor on. An upload that exists from the first page to the
    /// last and matches all the time is on at least one of them. It is on two if it was completed in between.
    ///
    /// Uploads are listed in no particular order, those that are open before the others.
    ///
    /// # Errors
    /// - [`OperatorError::BadCursor`] if the cursor does not fit to this server or this filter.
    /// - [`OperatorError::Failed`] if the store cannot be read.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub async fn list(
        &self,
        filter: &Filter,
        cursor: Option<&Cursor>,
        most: usize,
    ) -> Result<Listed, OperatorError> {
        let most = most.clamp(1, PAGE_MAX);
        let hoist = self.0.latest();
        let shared = hoist.shared();
        match (filter.state, cursor.map(|cursor| &cursor.0)) {
            (Some(StateFilter::Transferring), None) => list_transferring(shared, filter, None, most).await,
            (Some(StateFilter::Transferring), Some(At::Transfers(after))) => {
                list_transferring(shared, filter, Some(*after), most).await
            }
            (Some(StateFilter::Transferring), Some(_)) | (_, Some(At::Transfers(_))) => {
                Err(OperatorError::BadCursor)
            }
            (_, cursor) => list_stored(shared, filter, cursor.cloned(), most).await,
        }
    }

    /// Returns the running transfers, at most `most`, those with the lowest ids of their uploads, and the number of all.
    pub fn transfers(&self, most: usize) -> (Vec<(UploadId, super::TransferView)>, usize) {
        let claims = &self.0.shared().claims;
        let transfers = claims.transfers(None, most).into_iter();
        (transfers.map(|(id, transfer)| (id, (&transfer).into())).collect(), claims.transfers_running())
    }
}

async fn list_transferring(
    shared: &Shared,
    filter: &Filter,
    after: Option<UploadId>,
    most: usize,
) -> Result<Listed, OperatorError> {
    let begun = Instant::now();
    let transfers = shared.claims.transfers(after, most);
    let is_full = transfers.len() == most;
    let count = transfers.len();
    let mut listed = Listed::default();
    for (index, (id, transfer)) in transfers.into_iter().enumerate() {
        let upload = match shared.store.peek(id).await {
            Ok(Some(upload)) => shared.clock.correct(upload),
            // It has ended meanwhile, or is damaged, which has been logged.
            Ok(None) | Err(_) => continue,
        };
        let mut view = UploadView::of(&upload, &shared.endpoint);
        view.transfer = Some((&transfer).into());
        if filter.admits(shared, &view) {
            listed.uploads.push(view);
        }
        let is_last = index + 1 == count;
        if if is_last { is_full } else { begun.elapsed() > PAGE_TIME } {
            listed.next = Some(Cursor(At::Transfers(id)));
            break;
        }
    }
    Ok(listed)
}

async fn list_stored(
    shared: &Shared,
    filter: &Filter,
    cursor: Option<At>,
    most: usize,
) -> Result<Listed, OperatorError> {
    let begun = Instant::now();
    let mut listed = Listed::default();
    let mut at = Some(cursor.unwrap_or_else(|| filter.first()));
    while let Some(from) = at.take() {
        let (group, position) = match &from {
            At::Open(position) => (UploadGroup::Open, position),
            At::Complete(position) => (UploadGroup::Complete, position),
            At::Transfers(_) => return Err(OperatorError::BadCursor),
        };
        let reads_max = (most - listed.uploads.len()).min(STEP_MAX);
        let page = shared.store.page(group, position.as_ref(), reads_max).await?;
        for summary in page.uploads {
            if filter.state.is_some_and(|state| state.state() != state_listed(&summary)) {
                continue;
            }
            let mut view = UploadView::listed(summary, &shared.clock, &shared.endpoint);
            if filter.admits(shared, &view) {
                view.transfer = shared.claims.transfer(view.id).as_ref().map(Into::into);
                listed.uploads.push(view);
            }
        }
        at = match (page.next, group) {
            (Some(next), UploadGroup::Open) => Some(At::Open(Some(next))),
            (Some(next), UploadGroup::Complete) => Some(At::Complete(Some(next))),
            (None, UploadGroup::Open) => filter.includes_complete().then_some(At::Complete(None)),
            (None, UploadGroup::Complete) => None,
        };
        if listed.uploads.len() >= most || begun.elapsed() > PAGE_TIME {
            break;
        }
    }
    listed.next = at.map(Cursor);
    Ok(listed)
}

impl Filter {
    /// Returns the start of the first group that may contain matching uploads.
    fn first(&self) -> At {
        match self.state {
            // An upload that a crash left among the open ones may await its delivery.
            None | Some(StateFilter::Open | StateFilter::Transferring | StateFilter::Received) => {
                At::Open(None)
            }
            Some(StateFilter::Complete | StateFilter::Failed) => At::Complete(None),
        }
    }

    fn includes_complete(&self) -> bool {
        !matches!(self.state, Some(StateFilter::Open | StateFilter::Transferring))
    }

    /// Returns whether an upload in the right state matches.
    fn admits(&self, shared: &Shared, view: &UploadView) -> bool {
        let age = || shared.clock.now().until(shared.clock.present(view.created));
        self.owner.as_ref().is_none_or(|owner| view.owner.as_ref() == Some(owner))
            && self.age_min.is_none_or(|age_min| age() >= age_min)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_has_one_text() {
        let position = Position::new("123").expect("plain");
        let id = UploadId::from_bits([7; 16]);
        for at in [
            At::Open(None),
            At::Open(Some(position.clone())),
            At::Complete(None),
            At::Complete(Some(position)),
            At::Transfers(id),
        ] {
            let cursor = Cursor(at);
            assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }
        for text in ["", "x", "t", "t123", "o ", "o/", "ö", "oö", &format!("o{}", "1".repeat(65))] {
            assert_eq!(text.parse::<Cursor>(), Err(BadCursor), "{text:?}");
        }
    }

    #[test]
    fn a_state_has_one_name() {
        for state in StateFilter::ALL {
            assert_eq!(StateFilter::named(state.name()), Some(state));
        }
        assert_eq!(StateFilter::named("done"), None);
    }
}
