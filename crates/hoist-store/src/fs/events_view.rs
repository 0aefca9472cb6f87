//! The events in a data directory, read beside the server that uses it.
//!
//! Takes no lock and changes nothing, so what is read may be a moment old.

use std::path::Path;

use hoist_proto::types::UploadId;
use hoist_proto::upload::Upload;

use super::event_dir::{EventDir, parse_removed_name};
use super::layout::{DEAD, GONE, ParentDir};
use super::sys::{Dir, failed};
use super::upload_dir::UploadDir;
use crate::store::outbox::remove_delivered;
use crate::store::{Error, EventSource};

/// A record with events in a data directory.
#[derive(Clone, Debug, PartialEq)]
pub enum EventsFound {
    /// Events that are yet to be delivered, each with the sinks that have not received it.
    Pending(EventSource, Upload),
    /// A dead event, by its name.
    Dead(String, Upload),
    /// A record that cannot be read: its place, and the reason.
    Unreadable(String, String),
}

/// Reads the events in a data directory, in no particular order, whether or not a server uses it.
///
/// # Errors
/// Returns [`Error::Io`] if the directory is not one, or cannot be read.
pub fn read_events(directory: &Path, found: &mut dyn FnMut(EventsFound)) -> Result<(), Error> {
    let doing = |errno| failed(format!("reading the data directory {}", directory.display()), errno);
    let root = Dir::at_path(directory).map_err(doing)?;
    for parent in [ParentDir::Open, ParentDir::Done] {
        let uploads = root.dir(&parent.to_string()).map_err(doing)?;
        let uploads = uploads.ok_or_else(|| doing(rustix::io::Errno::NOENT))?;
        for entry in uploads.entries().map_err(doing)? {
            let entry = entry.map_err(doing)?;
            let Some(id) = entry.file_name().to_str().ok().and_then(|name| name.parse::<UploadId>().ok())
            else {
                continue;
            };
            match stored(&uploads, parent, id) {
                Ok(Some(upload)) => found(EventsFound::Pending(EventSource::Stored(id), upload)),
                Ok(None) => {}
                Err(error) => found(EventsFound::Unreadable(format!("{parent}/{id}"), error.to_string())),
            }
        }
    }
    let (gone, dead) = (EventDir::open(&root, GONE, false)?, EventDir::open(&root, DEAD, false)?);
    for name in gone.names()? {
        let Some((id, number)) = parse_removed_name(&name) else { continue };
        match gone.read_pending(&name) {
            Ok(Some(upload)) if !upload.events.is_empty() => {
                found(EventsFound::Pending(EventSource::Removed(id, number), upload));
            }
            Ok(_) => {}
            Err(error) => found(EventsFound::Unreadable(format!("{GONE}/{name}"), error.to_string())),
        }
    }
    for name in dead.names()? {
        match dead.read_pending(&name) {
            Ok(Some(upload)) => found(EventsFound::Dead(name, upload)),
            Ok(None) => {}
            Err(error) => found(EventsFound::Unreadable(format!("{DEAD}/{name}"), error.to_string())),
        }
    }
    Ok(())
}

/// Reads an upload with events. Returns `None` if it has none, or is gone.
fn stored(uploads: &Dir, parent: ParentDir, id: UploadId) -> Result<Option<Upload>, Error> {
    let doing = |errno| failed(format!("opening {parent}/{}…", id.short()), errno);
    let Some(handle) = uploads.dir(&id.to_string()).map_err(doing)? else { return Ok(None) };
    let dir = UploadDir { parent, id, handle, is_disk: false };
    let Some(found) = dir.record()? else { return Ok(None) };
    let mut upload = found.record.upload;
    if !upload.events.is_empty() {
        let marks = dir.marks().read();
        remove_delivered(&mut upload.events, |delivery| marks.contains(delivery));
    }
    Ok(Some(upload).filter(|upload| !upload.events.is_empty()))
}
