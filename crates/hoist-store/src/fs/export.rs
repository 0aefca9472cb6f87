//! Giving an upload's content a name outside the data directory.
//!
//! Owns the choice of a free name, the hard link, and the copy where a link cannot reach. Leaves whether the upload is
//! whole, and the safety of the name, to the caller.
//!
//! Repeating an export finds the earlier one: a link is the same file; a copy is found by a note beside the record, made
//! when the copy is durable and before it gets its name. The note holds the copy's device and inode numbers.
//!
//! An upload made of one part is the same file as that part, and as every other upload made of it alone
//! ([`join`](super::join)), so that the name of the same file may be another upload's. Such an upload gets a hidden name
//! first, then a note of the name it is about to have, then that in place of the hidden one: with the note there and the
//! hidden name gone, it has it.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{OFlags, Stat};
use rustix::io::Errno;

use super::data_dir::DataDir;
use super::layout::{CONTENT, EXPORTED};
use super::sys::{self, Dir, failed};
use super::upload_dir::UploadDir;
use crate::store::{Error, export_names};

/// Whose the file of a content is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sharing {
    /// Its upload's alone.
    Alone,
    /// Other uploads' as well, perhaps.
    Shared,
}

/// Gives the content of `place` a name in a directory, durably, and says which.
///
/// The exported file has the mode that the umask of the process leaves of 0666, as any file a program makes; where the
/// file system does not let modes be set, it has another one and is exported all the same. As a link is the same file, the
/// store's own name for it then shows that mode too, inside directories that are the server's alone.
pub(super) fn export(
    data_dir: &DataDir,
    upload_dir: &UploadDir,
    sharing: Sharing,
    directory: &Path,
    name: &str,
) -> Result<String, Error> {
    let doing = |errno| failed(format!("exporting {} to {}", upload_dir.label(), directory.display()), errno);
    if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
        return Err(doing(Errno::INVAL));
    }
    let export = Export {
        content: upload_dir.content(OFlags::RDONLY)?.ok_or(Error::Missing)?,
        directory: Dir::at_path(directory).map_err(doing)?,
        names: export_names(upload_dir.id, name),
        hidden: format!(".{}.part", upload_dir.id),
        upload_dir,
        data_dir,
    };
    let name = match export.earlier(sharing).map_err(doing)? {
        Some(name) => name,
        None => export.anew(sharing, doing)?,
    };
    if data_dir.is_disk() {
        export.directory.sync().map_err(doing)?;
    }
    Ok(name)
}

struct Export<'a> {
    upload_dir: &'a UploadDir,
    content: OwnedFd,
    directory: Dir,
    names: [String; 3],
    /// Fixed, so that what a crash cut off is written over by the next try.
    hidden: String,
    data_dir: &'a DataDir,
}

impl Export<'_> {
    /// The name that this or an earlier try gave the content already.
    fn earlier(&self, sharing: Sharing) -> Result<Option<String>, Errno> {
        let content = rustix::fs::fstat(&self.content)?;
        if sharing == Sharing::Alone
            && content.st_nlink > 1
            && let Some(name) = self.name_of(&identity(&content))?
        {
            return Ok(Some(name));
        }
        let note = self.upload_dir.bytes_of(EXPORTED).ok().flatten();
        let Some(note) = note.and_then(|note| String::from_utf8(note).ok()) else { return Ok(None) };
        let Some((wanted, which)) = note.trim().split_once(' ') else { return self.name_of(note.trim()) };
        let name = which.parse().ok().and_then(|which: usize| self.names.get(which));
        match name {
            Some(name) if self.directory.stat(&self.hidden)?.is_none() && self.is_file(name, wanted)? => {
                Ok(Some(name.clone()))
            }
            _ => Ok(None),
        }
    }

    fn name_of(&self, wanted: &str) -> Result<Option<String>, Errno> {
        for name in &self.names {
            if self.is_file(name, wanted)? {
                return Ok(Some(name.clone()));
            }
        }
        Ok(None)
    }

    fn is_file(&self, name: &str, wanted: &str) -> Result<bool, Errno> {
        let stat = self.directory.stat(name)?;
        Ok(stat.is_some_and(|stat| sys::is_plain(&stat) && identity(&stat) == wanted))
    }

    fn anew(&self, sharing: Sharing, doing: impl Fn(Errno) -> Error) -> Result<String, Error> {
        self.data_dir.open_to_others(&self.content);
        let linked = match sharing {
            Sharing::Alone => {
                self.first_free(|name| self.upload_dir.dir.link(CONTENT, &self.directory, name)).map(Some)
            }
            Sharing::Shared => self.link_hidden().map(|()| None),
        };
        let named = match linked {
            Ok(Some(name)) => return Ok(name),
            Ok(None) => self.unveil_link(&doing),
            // Another file system, or one without links, or a rule against them.
            Err(errno) if sys::is_refusal(errno) => self.copy(&doing),
            Err(errno) => Err(doing(errno)),
        };
        if named.is_err() && self.upload_dir.dir.remove_file(EXPORTED).is_ok() {
            // Best effort; the next try writes over it. In this order: without the hidden name a note says more.
            let _ = self.directory.remove_file(&self.hidden);
        }
        named
    }

    fn copy(&self, doing: impl Fn(Errno) -> Error) -> Result<String, Error> {
        let stat = self.copy_bytes().map_err(&doing)?;
        self.upload_dir.note(EXPORTED, format!("{}\n", identity(&stat)).as_bytes())?;
        self.first_free(|name| self.directory.rename_to_free(&self.hidden, name)).map_err(doing)
    }

    fn link_hidden(&self) -> Result<(), Errno> {
        self.directory.remove_file(&self.hidden)?;
        self.upload_dir.dir.link(CONTENT, &self.directory, &self.hidden)?;
        // Before the note: that without the hidden name would be taken for an export that was done.
        if self.upload_dir.is_disk() { self.directory.sync() } else { Ok(()) }
    }

    fn unveil_link(&self, doing: impl Fn(Errno) -> Error) -> Result<String, Error> {
        let identity = identity(&rustix::fs::fstat(&self.content).map_err(&doing)?);
        for (which, name) in self.names.iter().enumerate() {
            if self.directory.stat(name).map_err(&doing)?.is_some() {
                continue;
            }
            self.upload_dir.note(EXPORTED, format!("{identity} {which}\n").as_bytes())?;
            match self.directory.rename_to_free(&self.hidden, name) {
                Err(Errno::EXIST) => {}
                named => return named.map(|()| name.clone()).map_err(doing),
            }
        }
        Err(doing(Errno::EXIST))
    }

    fn copy_bytes(&self) -> Result<Stat, Errno> {
        // What has the name may be the copy of a crashed try that has its final name too, so it is not written over.
        self.directory.remove_file(&self.hidden)?;
        let copy = self.directory.new_file_of_mode(&self.hidden, OFlags::EXCL, sys::SHARED_FILE_MODE)?;
        let bytes = sys::bytes_of(&rustix::fs::fstat(&self.content)?);
        if sys::volume(&copy)?.is_some_and(|volume| volume.available < bytes) {
            return Err(Errno::NOSPC);
        }
        sys::copy(&self.content, &copy, 0, bytes)?;
        sys::sync_data(&copy)?;
        rustix::fs::fstat(&copy)
    }

    fn first_free(&self, take: impl Fn(&str) -> Result<(), Errno>) -> Result<String, Errno> {
        for name in &self.names {
            match take(name) {
                Err(Errno::EXIST) => {}
                taken => return taken.map(|()| name.clone()),
            }
        }
        Err(Errno::EXIST)
    }
}

/// What tells a file from every other while it exists.
fn identity(stat: &Stat) -> String {
    format!("{}:{}:{}", stat.st_dev, stat.st_ino, stat.st_size)
}
