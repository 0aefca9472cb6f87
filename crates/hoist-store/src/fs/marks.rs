//! The notes of the events that were delivered.
//!
//! Owns their form and their place: an extended attribute of the upload's directory, or of the record of a removed
//! upload. Where the file system has no such attributes, or no space for a longer one, a small file takes the rest. Neither
//! is synced. A note that is lost, torn or unknown means that an event is delivered again.

use std::collections::BTreeSet;
use std::io::IoSlice;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::layout::DELIVERED;
use super::sys::{self, Dir, failed};
use super::upload_dir::UploadDir;
use crate::store::{Delivery, Error};

/// The most bytes of the notes of one record.
const BYTES_MAX: usize = 16 * 1024;

/// The deliveries that are noted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Marks(BTreeSet<Delivery>);

/// The place of the notes.
pub(super) struct Place<'a, F> {
    /// The file or directory that has the attribute.
    pub(super) file: F,
    /// The directory of the small file.
    pub(super) directory: &'a Dir,
    /// The name of the small file.
    pub(super) name: &'a str,
}

impl UploadDir {
    /// Returns the place of the notes of an upload.
    pub(super) fn marks(&self) -> Place<'_, &OwnedFd> {
        Place { file: &self.handle.0, directory: &self.handle, name: DELIVERED }
    }
}

impl Marks {
    pub(super) fn contains(&self, delivery: Delivery) -> bool {
        self.0.contains(&delivery)
    }

    /// Reads notes: for each type of event, the sinks that have received it.
    fn parse(text: &str) -> Self {
        let deliveries = text.split(';').filter_map(|part| part.split_once('=')).flat_map(|(kind, sinks)| {
            let kind = kind.parse().ok();
            sinks.split(',').filter_map(move |sink| Some((kind?, sink.parse().ok()?)))
        });
        Self(deliveries.collect())
    }

    fn text(&self) -> String {
        let mut text = String::new();
        let mut last = None;
        for (kind, sink) in &self.0 {
            if last == Some(kind) {
                text.push(',');
            } else {
                text.push_str(if last.is_some() { ";" } else { "" });
                text.push_str(kind.name());
                text.push('=');
            }
            text.push_str(&sink.to_string());
            last = Some(kind);
        }
        text
    }
}

impl<F: AsFd> Place<'_, F> {
    /// Returns the notes. What cannot be read was not noted.
    pub(super) fn read(&self) -> Marks {
        let mut marks = self.attribute();
        marks.0.append(&mut self.small_file().0);
        marks
    }

    /// Adds deliveries to the notes.
    pub(super) fn add(&self, delivered: &[Delivery]) -> Result<(), Error> {
        let mut marks = self.attribute();
        marks.0.extend(delivered);
        match sys::set_delivered(&self.file, marks.text().as_bytes()) {
            Ok(()) => return Ok(()),
            Err(errno) if sys::is_unsupported(errno) => {}
            Err(Errno::NOSPC | Errno::DQUOT | Errno::TOOBIG | Errno::RANGE) => {}
            Err(errno) => return Err(failed("noting deliveries", errno)),
        }
        marks.0.append(&mut self.small_file().0);
        let doing = |errno| failed("noting deliveries in a file", errno);
        let file = self.directory.new_file(self.name, OFlags::TRUNC).map_err(doing)?;
        sys::write_all(&file, 0, &mut [IoSlice::new(marks.text().as_bytes())]).1.map_err(doing)
    }

    fn attribute(&self) -> Marks {
        sys::delivered(&self.file).map(|text| Marks::parse(&text)).unwrap_or_default()
    }

    fn small_file(&self) -> Marks {
        let read = || {
            let file = self.directory.file(self.name, OFlags::RDONLY).ok()??;
            String::from_utf8(sys::read_at(file, 0, BYTES_MAX).ok()?).ok()
        };
        read().map(|text| Marks::parse(&text)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use hoist_proto::upload::{EventKind, SinkKey};

    use super::*;

    #[test]
    fn notes_are_read_back_and_others_ignored() {
        let sink = |last| SinkKey::from_bits([0, 0, 0, 0, 0, 0, 0, last]);
        let all = [
            (EventKind::Created, sink(1)),
            (EventKind::Created, sink(2)),
            (EventKind::Finished, sink(1)),
            (EventKind::Failed, sink(9)),
        ];
        for count in 0..=all.len() {
            let marks = Marks(all[..count].iter().copied().collect());
            assert_eq!(Marks::parse(&marks.text()), marks);
        }
        let text = "created=0000000000000001,0000000000000002;finished=0000000000000001";
        assert_eq!(Marks(all[..3].iter().copied().collect()).text(), text);
        for torn in ["", ";", "=", "created", "created=", "created=000000000000000", "moved=0000000000000001"]
        {
            assert_eq!(Marks::parse(torn), Marks::default(), "{torn:?}");
        }
        assert_eq!(Marks::parse(&format!("{text};moved=0000000000000001;x")), Marks::parse(text));
    }
}
