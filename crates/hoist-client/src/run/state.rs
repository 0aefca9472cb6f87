//! The state of an upload that responses change: the uploader's, the journal's and the watchers'.

use std::borrow::Cow;

use hoist_proto::client::{Moment, OnInterim};
use hoist_proto::types::Length;
use http::{HeaderMap, StatusCode, Uri};
use tokio::time::Instant;

use super::journal_slot::JournalSlot;
use super::start::Started;
use crate::client::Client;
use crate::clock;
use crate::dialect::Dialect;
use crate::error::Error;
use crate::http::InterimObserver;
use crate::location;
use crate::origin::Origin;
use crate::origin_cache::ServerSupport;
use crate::progress::Reporter;
use crate::random;
use crate::source::OpenSource;
use crate::upload::Put;

/// The state of an upload that is being sent.
pub(super) struct UploadState<'a> {
    pub(super) put: &'a Put,
    pub(super) source: &'a OpenSource,
    pub(super) reporter: &'a Reporter,
    pub(super) journal: JournalSlot<'a>,
    pub(super) started: Started,
    /// True once the server has shown that it supports an upload protocol.
    pub(super) is_resumable: bool,
    /// The time that [`Moment`]s count from.
    start: Instant,
}

impl<'a> UploadState<'a> {
    pub(super) fn new(
        put: &'a Put,
        source: &'a OpenSource,
        reporter: &'a Reporter,
        journal: JournalSlot<'a>,
        started: Started,
    ) -> Self {
        Self { put, source, reporter, journal, started, is_resumable: false, start: clock::now() }
    }

    pub(super) fn client(&self) -> &Client {
        &self.put.client
    }

    /// Returns the time and randomness for the uploader's next decision.
    pub(super) fn moment(&self) -> Result<Moment, Error> {
        Ok(Moment { elapsed: self.start.elapsed(), random: random::number()? })
    }

    /// Passes on what the uploader has learned from a response: to the journal, the source and the watchers.
    ///
    /// # Errors
    /// Returns an error if the server named an upload URL that must not be used, or the journal cannot be written.
    pub(super) async fn publish(&mut self) -> Result<(), Error> {
        let saved = self.save_url().await;
        let uploader = &self.started.uploader;
        let acknowledged = uploader.acknowledged().get();
        self.source.release(acknowledged);
        self.reporter.update(|progress| {
            progress.acknowledged = acknowledged;
            progress.retries = uploader.attempts_repeated();
            progress.resumed_bytes = uploader.resumed_at().get();
            progress.length = uploader.length().map(Length::get);
        });
        saved
    }

    /// Writes the URL of the upload to the journal, if it may be used.
    async fn save_url(&mut self) -> Result<(), Error> {
        let uploader = &self.started.uploader;
        if let Some(url) = uploader.url().filter(|_| !uploader.is_answered()) {
            location::follow(&self.put.url, url)?;
        }
        self.journal.save_url(uploader.url(), self.started.dialect).await
    }

    /// Remembers the version that the uploader has changed to after the server refused the one before.
    //= IETF-VER-11
    pub(super) fn note_version(&mut self) -> Result<(), Error> {
        let dialect = self.started.current_dialect();
        let refused = std::mem::replace(&mut self.started.dialect, dialect);
        if dialect == refused {
            return Ok(());
        }
        tracing::debug!(%dialect, %refused, "the server refused an interop version and accepted another");
        let Dialect::Ietf(version) = dialect else { return Ok(()) };
        let origin = Origin::of(&self.put.url)?;
        self.client().origins.update(&origin, |facts| {
            facts.support = match facts.support {
                Some(ServerSupport::Ietf(_)) => Some(ServerSupport::Ietf(version)),
                Some(ServerSupport::Unknown(_)) | None => Some(ServerSupport::Unknown(version)),
                Some(ServerSupport::Tus1(capabilities)) => Some(ServerSupport::Tus1(capabilities)),
            };
        });
        Ok(())
    }
}

/// Passes the interim responses to one request to the uploader.
pub(super) struct UploadObserver<'r, 'a> {
    state: &'r mut UploadState<'a>,
    /// The URL of the request.
    url: &'r Uri,
    /// True once an interim response has arrived.
    pub(super) saw_interim: bool,
    /// The error that ends the upload.
    pub(super) error: Option<Error>,
}

impl<'r, 'a> UploadObserver<'r, 'a> {
    pub(super) fn new(state: &'r mut UploadState<'a>, url: &'r Uri) -> Self {
        Self { state, url, saw_interim: false, error: None }
    }
}

impl InterimObserver for UploadObserver<'_, '_> {
    async fn on_interim(&mut self, status: StatusCode, fields: &HeaderMap, sent: u64) -> OnInterim {
        self.saw_interim = true;
        let state = &mut *self.state;
        state.is_resumable |= status.as_u16() == 104;
        let Ok(moment) = state.moment() else { return OnInterim::Continue };
        state.started.uploader.on_sent(sent);
        let mut fields = Cow::Borrowed(fields);
        if *self.url != state.put.url {
            location::make_location_absolute(fields.to_mut(), self.url);
        }
        let decision = state.started.uploader.on_interim(status, &fields, moment);
        // At once, so that a later process finds the upload if this one is killed.
        match state.publish().await {
            Ok(()) => decision,
            Err(error) => {
                self.error = Some(error);
                OnInterim::Stop
            }
        }
    }
}
