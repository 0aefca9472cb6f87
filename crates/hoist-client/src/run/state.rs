//! The state of an upload that responses change: the uploader's, the journal's and the watchers'.

use std::borrow::Cow;

use hoist_proto::client::{Moment, OnInterim};
use hoist_proto::types::Length;
use http::{HeaderMap, StatusCode, Uri};
use tokio::time::Instant;

use super::journal_slot::JournalSlot;
use super::start::Started;
use crate::clock;
use crate::dialect::Dialect;
use crate::error::Error;
use crate::handle::Handle;
use crate::http::InterimObserver;
use crate::location;
use crate::origin::Origin;
use crate::origin_cache::ServerSupport;
use crate::progress::Reporter;
use crate::random;
use crate::retry::RetryClock;
use crate::source::OpenSource;
use crate::upload::Put;

pub(super) struct UploadState<'a> {
    pub(super) put: &'a Put,
    pub(super) source: &'a OpenSource,
    pub(super) reporter: &'a Reporter,
    pub(super) journal: JournalSlot<'a>,
    pub(super) started: Started,
    /// True once the server has shown that it supports an upload protocol.
    pub(super) is_resumable: bool,
    pub(super) retry_clock: RetryClock,
    /// The most bytes that the server has acknowledged.
    most_acknowledged: u64,
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
        Self {
            put,
            source,
            reporter,
            journal,
            started,
            is_resumable: false,
            retry_clock: RetryClock::default(),
            most_acknowledged: 0,
            start: clock::now(),
        }
    }

    /// Returns the time and randomness for the uploader's next decision.
    pub(super) fn moment(&self) -> Result<Moment, Error> {
        Ok(Moment { elapsed: self.start.elapsed(), random: random::number()? })
    }

    /// Passes on what the uploader has learned from a response: to the journal, the source and the watchers.
    /// Fails if the server named an upload URL that must not be used, or the journal cannot be written.
    pub(super) async fn publish(&mut self) -> Result<(), Error> {
        let saved = self.save_url().await;
        let uploader = &self.started.uploader;
        let acknowledged = uploader.acknowledged().get();
        if acknowledged > self.most_acknowledged {
            self.most_acknowledged = acknowledged;
            self.retry_clock.reset();
            self.put.client.origins.note_progress(&Origin::of(&self.put.url)?);
        }
        if let Some(mut stream) = self.source.stream() {
            stream.release(acknowledged);
        }
        self.reporter.update(|progress| {
            progress.acknowledged = acknowledged;
            progress.retries = uploader.attempts_repeated();
            progress.resumed_bytes = uploader.resumed_at().get();
            progress.length = uploader.length().map(Length::get);
        });
        self.journal.note_offset(acknowledged).await;
        saved
    }

    /// Writes the URL of the upload to the journal, if it may be used.
    async fn save_url(&mut self) -> Result<(), Error> {
        let uploader = &self.started.uploader;
        if let Some(url) = uploader.url().filter(|_| !uploader.is_answered()) {
            location::follow(&self.put.url, url)?;
        }
        self.note_handle();
        self.journal.save_url(self.started.uploader.url(), self.started.dialect).await
    }

    /// Publishes the URL of the upload, or of the part.
    fn note_handle(&self) {
        let Started { uploader, dialect, .. } = &self.started;
        let Some(url) = uploader.url().filter(|_| dialect.has_urls()) else { return };
        match self.journal {
            JournalSlot::Part(_, index) => self.put.note_part(index, url),
            JournalSlot::Own(_) => {
                let (target, url) = (self.put.url.clone(), url.clone());
                self.put.note_handle(&Handle::Url { target, url, dialect: *dialect });
            }
        }
    }

    /// Remembers the version that the uploader has changed to after the server refused the one before.
    //= IETF-VER-11
    pub(super) fn note_version(&mut self) -> Result<(), Error> {
        let Some(version) = self.started.uploader.version() else { return Ok(()) };
        let dialect = Dialect::Ietf(version);
        let refused = std::mem::replace(&mut self.started.dialect, dialect);
        if dialect == refused {
            return Ok(());
        }
        tracing::debug!(%dialect, %refused, "the server refused an interop version and accepted another");
        let origin = Origin::of(&self.put.url)?;
        self.put.client.origins.update(&origin, |facts| {
            facts.support = match facts.support {
                Some(ServerSupport::Ietf(_)) => Some(ServerSupport::Ietf(version)),
                Some(ServerSupport::Unknown(_)) | None => Some(ServerSupport::Unknown(version)),
                tus @ Some(ServerSupport::Tus1(_)) => tus,
            };
        });
        Ok(())
    }
}

/// Passes the interim responses to one request to the uploader.
pub(super) struct UploadObserver<'r, 'a> {
    pub(super) state: &'r mut UploadState<'a>,
    pub(super) url: &'r Uri,
    pub(super) saw_interim: bool,
    pub(super) error: Option<Error>,
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
        self.error = state.publish().await.err();
        if self.error.is_some() { OnInterim::Stop } else { decision }
    }
}
