//! The directories of records that are kept for their events: `gone` and `dead`.
//!
//! Owns their files. A record is durable before it gets its name. The directories exist from the first record on, so
//! without events nothing is made. Leaves the meaning of the records to [`outbox`](super::outbox).

use std::io::IoSlice;
use std::os::fd::OwnedFd;
use std::sync::OnceLock;

use hoist_proto::types::{Durable, Timestamp, UploadId};
use hoist_proto::upload::Upload;
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::layout::{DELIVERED_SUFFIX, DUE_SUFFIX, NEW_SUFFIX};
use super::marks::Place;
use super::sys::{self, Dir, failed};
use crate::record::{self, Record};
use crate::store::outbox::{NAMESAKES_MAX, remove_delivered};
use crate::store::{Delivery, Error};

/// A directory of records that are kept for their events.
pub(super) struct EventDir {
    name: &'static str,
    dir: OnceLock<Dir>,
    is_disk: bool,
}

impl EventDir {
    /// Opens the directory, if it exists.
    pub(super) fn open(root: &Dir, name: &'static str, is_disk: bool) -> Result<Self, Error> {
        let found =
            root.dir(name).map_err(|errno| failed(format!("opening {name} in the data directory"), errno))?;
        Ok(Self { name, dir: found.map(OnceLock::from).unwrap_or_default(), is_disk })
    }

    pub(super) fn existing(&self) -> Option<&Dir> {
        self.dir.get()
    }

    fn make(&self, root: &Dir) -> Result<&Dir, Error> {
        if let Some(dir) = self.dir.get() {
            return Ok(dir);
        }
        let doing = |errno| failed(format!("creating {} in the data directory", self.name), errno);
        match root.make_dir(self.name) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(doing(errno)),
        }
        let dir = root.dir(self.name).map_err(doing)?.ok_or_else(|| doing(Errno::NOENT))?;
        if self.is_disk {
            root.sync().map_err(doing)?;
        }
        Ok(self.dir.get_or_init(|| dir))
    }

    /// Writes a record under a name, durably. Replaces an older one.
    pub(super) fn write(&self, root: &Dir, name: &str, record: &Record) -> Result<(), Error> {
        let (bytes, dir) = (record::to_bytes(record)?, self.make(root)?);
        let doing = |errno| failed(format!("writing to {}", self.label(name)), errno);
        let new = format!("{name}{NEW_SUFFIX}");
        let written = || {
            let file = dir.new_file(&new, OFlags::TRUNC)?;
            sys::write_all(&file, 0, &mut [IoSlice::new(&bytes)]).1?;
            if self.is_disk {
                sys::sync_data(&file)?;
            }
            dir.rename(&new, dir, name)
        };
        if let Err(errno) = written() {
            // Best effort: the next start removes it.
            let _ = dir.remove_file(&new);
            return Err(doing(errno));
        }
        if self.is_disk { dir.sync().map_err(doing) } else { Ok(()) }
    }

    /// Reads a record. Returns `None` if there is none of that name.
    pub(super) fn read(&self, name: &str) -> Result<Option<Record>, Error> {
        let Some(bytes) = self.bytes(name)? else { return Ok(None) };
        record::from_bytes(&bytes).map(Some)
    }

    fn bytes(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let Some(dir) = self.existing() else { return Ok(None) };
        let doing = |errno| failed(format!("reading {}", self.label(name)), errno);
        let Some(file) = dir.file(name, OFlags::RDONLY).map_err(doing)? else { return Ok(None) };
        sys::read_at(file, 0, record::BYTES_MAX + 1).map(Some).map_err(doing)
    }

    /// Reads a record with the events that were not delivered. Returns `None` if there is none of that name.
    pub(super) fn read_pending(&self, name: &str) -> Result<Option<Upload>, Error> {
        let Some(record) = self.read(name)? else { return Ok(None) };
        let mut upload = upload_of(record);
        let marks = self.with_marks(name, |place| Ok(place.read()))?.unwrap_or_default();
        remove_delivered(&mut upload.events, |delivery| marks.contains(delivery));
        Ok(Some(upload))
    }

    /// Notes deliveries of a record, and removes it once all its events are delivered.
    pub(super) fn mark(&self, name: &str, delivered: &[Delivery]) -> Result<(), Error> {
        let Some(record) = self.read(name)? else { return Ok(()) };
        let add = |place: Place<'_, OwnedFd>| place.add(delivered).map(|()| place.read());
        let marks = self.with_marks(name, add)?.unwrap_or_default();
        let mut events = record.upload.events;
        remove_delivered(&mut events, |delivery| marks.contains(delivery));
        if events.is_empty() { self.remove(name) } else { Ok(()) }
    }

    fn with_marks<T>(
        &self,
        name: &str,
        act: impl FnOnce(Place<'_, OwnedFd>) -> Result<T, Error>,
    ) -> Result<Option<T>, Error> {
        let Some(dir) = self.existing() else { return Ok(None) };
        let doing = |errno| failed(format!("opening {}", self.label(name)), errno);
        let Some(file) = dir.file(name, OFlags::RDONLY).map_err(doing)? else { return Ok(None) };
        act(Place { file, directory: dir, name: &format!("{name}{DELIVERED_SUFFIX}") }).map(Some)
    }

    /// Removes a record and its notes. Succeeds if there is none.
    pub(super) fn remove(&self, name: &str) -> Result<(), Error> {
        let Some(dir) = self.existing() else { return Ok(()) };
        let removed =
            dir.remove_file(name).and_then(|()| dir.remove_file(&format!("{name}{DELIVERED_SUFFIX}")));
        removed.map_err(|errno| failed(format!("removing {}", self.label(name)), errno))
    }

    /// Returns whether there is a record of that name.
    pub(super) fn has(&self, name: &str) -> Result<bool, Error> {
        let Some(dir) = self.existing() else { return Ok(false) };
        let found = dir.stat(name);
        found
            .map(|found| found.is_some())
            .map_err(|errno| failed(format!("looking for {}", self.label(name)), errno))
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), Error> {
        let doing = |errno| failed(format!("renaming {}", self.label(from)), errno);
        let dir = self.existing().ok_or_else(|| doing(Errno::NOENT))?;
        dir.rename(from, dir, to).map_err(doing)
    }

    /// Returns the names of the records, sorted.
    pub(super) fn names(&self) -> Result<Vec<String>, Error> {
        let Some(dir) = self.existing() else { return Ok(Vec::new()) };
        let mut names = dir.names().map_err(|errno| failed(format!("listing {}", self.name), errno))?;
        names.retain(|name| {
            ![DUE_SUFFIX, NEW_SUFFIX, DELIVERED_SUFFIX].iter().any(|suffix| name.ends_with(suffix))
        });
        names.sort_unstable();
        Ok(names)
    }

    /// Returns a record's path for logs and errors. The id may be a capability, so it is abbreviated.
    fn label(&self, name: &str) -> String {
        format!("{}/{}…", self.name, name.get(..8).unwrap_or_default())
    }
}

/// The records of removed uploads.
///
/// Before the removal the record has the suffix `.due`, and afterwards none. So after a crash it is known whether the
/// upload was removed: a record that is due, of an upload that still exists, tells of a removal that did not happen.
impl EventDir {
    /// Writes the record of an upload that is about to be removed, durably, and returns its number.
    pub(super) fn write_due(&self, root: &Dir, record: &Record) -> Result<u64, Error> {
        let (id, first) = (record.upload.id, record.upload.created.millis());
        for number in (first..).take(NAMESAKES_MAX as usize) {
            if !self.has(&removed_name(id, number))? {
                self.write(root, &due_name(id, number), record)?;
                return Ok(number);
            }
        }
        Err(Error::Full)
    }

    /// Writes a record as that of a removed upload, durably, and returns its number.
    pub(super) fn write_removed(&self, root: &Dir, record: &Record) -> Result<u64, Error> {
        let number = self.write_due(root, record)?;
        self.removal_done(record.upload.id, number)?;
        if let Some(dir) = self.existing().filter(|_| self.is_disk) {
            dir.sync().map_err(|errno| failed(format!("syncing {}", self.name), errno))?;
        }
        Ok(number)
    }

    /// Records that the upload is removed.
    pub(super) fn removal_done(&self, id: UploadId, number: u64) -> Result<(), Error> {
        self.rename(&due_name(id, number), &removed_name(id, number))
    }

    /// Removes the record of a removal that did not happen.
    pub(super) fn removal_failed(&self, id: UploadId, number: u64) -> Result<(), Error> {
        self.remove(&due_name(id, number))
    }

    /// Finds the record of an upload that was removed, by the time of its creation.
    pub(super) fn find_removed(&self, id: UploadId, created: Timestamp) -> Result<Option<u64>, Error> {
        for number in (created.millis()..).take(NAMESAKES_MAX as usize) {
            match self.read(&removed_name(id, number))? {
                Some(record) if record.upload.created == created => return Ok(Some(number)),
                Some(_) => {}
                None => break,
            }
        }
        Ok(None)
    }

    /// Decides the removals that a crash interrupted. `is_stored` tells whether the upload of a record still exists; an
    /// error means that it cannot be read. A record whose fate is unknown is left.
    pub(super) fn recover(&self, is_stored: impl Fn(&Upload) -> Result<bool, Error>) {
        let Some(dir) = self.existing() else { return };
        let names = dir.names().unwrap_or_default();
        for name in names {
            let recovered = if name.ends_with(NEW_SUFFIX) {
                self.remove(&name)
            } else if let Some(done) = name.strip_suffix(DUE_SUFFIX) {
                self.recover_due(&name, done, &is_stored)
            } else {
                Ok(())
            };
            if let Err(error) = recovered {
                let label = self.label(&name);
                tracing::warn!(record = label, %error, "could not decide a removal that a crash interrupted");
            }
        }
    }

    fn recover_due(
        &self,
        name: &str,
        done: &str,
        is_stored: &impl Fn(&Upload) -> Result<bool, Error>,
    ) -> Result<(), Error> {
        let Some(record) = self.read(name)? else { return Ok(()) };
        if is_stored(&record.upload)? { self.remove(name) } else { self.rename(name, done) }
    }
}

/// Returns the name of the record of a removed upload.
pub(super) fn removed_name(id: UploadId, number: u64) -> String {
    format!("{id}.{number}")
}

fn due_name(id: UploadId, number: u64) -> String {
    format!("{id}.{number}{DUE_SUFFIX}")
}

/// Returns the upload and the number in the name of the record of a removed upload.
pub(super) fn parse_removed_name(name: &str) -> Option<(UploadId, u64)> {
    let (id, number) = name.split_once('.')?;
    let (id, number) = (id.parse().ok()?, number.parse().ok()?);
    (removed_name(id, number) == name).then_some((id, number))
}

/// Returns the record that keeps an upload for its events. It states the offset, because there is no content.
pub(super) fn record_of(upload: Upload) -> Record {
    let discarded = Some(upload.offset.offset());
    Record { upload: Upload { offset: Durable::ZERO, ..upload }, discarded }
}

/// Returns the upload of a record that is kept for its events.
pub(super) fn upload_of(record: Record) -> Upload {
    #[expect(clippy::disallowed_methods, reason = "a store; the record that states it is durable")]
    let offset = record.discarded.map_or(Durable::ZERO, Durable::attest);
    Upload { offset, ..record.upload }
}
