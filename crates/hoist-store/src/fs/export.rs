//! Giving an upload's content a name outside the data directory.
//!
//! Owns the choice of a free name, the hard link, and the copy where a link cannot reach. Leaves whether the upload is
//! whole, and the safety of the name, to the caller.
//!
//! Repeating an export finds the earlier one: a link is the same file; a copy is found by a note beside the record, made
//! when the copy is durable and before it gets its name. The note holds the copy's device and inode numbers.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags, Stat};
use rustix::io::Errno;

use super::place::{CONTENT, EXPORTED, Place};
use super::sys::{self, Dir, failed};
use super::tree::Tree;
use crate::store::{Error, export_names};

/// Gives the content of `place` a name in a directory, durably, and says which.
///
/// The exported file has mode 0644 less the umask of the process; as a link is the same file, the store's own name for it
/// then shows that mode too, inside directories that are the server's alone.
pub(super) fn export(tree: &Tree, place: &Place, directory: &Path, name: &str) -> Result<String, Error> {
    let doing = |errno| failed(format!("exporting {} to {}", place.label(), directory.display()), errno);
    if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
        return Err(doing(Errno::INVAL));
    }
    let export = Export {
        content: place.content(OFlags::RDONLY)?.ok_or(Error::Missing)?,
        directory: Dir::at_path(directory).map_err(doing)?,
        names: export_names(place.id, name),
        place,
        mode: tree.export_mode,
    };
    let name = match export.earlier().map_err(doing)? {
        Some(name) => name,
        None => match export.link() {
            // Another file system, or one without links, or a rule against them.
            Err(Errno::XDEV | Errno::PERM | Errno::MLINK | Errno::OPNOTSUPP | Errno::NOSYS) => {
                export.copy(doing)?
            }
            linked => linked.map_err(doing)?,
        },
    };
    if tree.is_disk() {
        export.directory.sync().map_err(doing)?;
    }
    Ok(name)
}

struct Export<'a> {
    place: &'a Place,
    content: OwnedFd,
    directory: Dir,
    names: [String; 3],
    mode: Mode,
}

impl Export<'_> {
    /// The name that this or an earlier try gave the content already.
    fn earlier(&self) -> Result<Option<String>, Errno> {
        let content = rustix::fs::fstat(&self.content)?;
        if content.st_nlink > 1
            && let Some(name) = self.name_of(&identity(&content))?
        {
            return Ok(Some(name));
        }
        let note = self.place.bytes_of(EXPORTED).ok().flatten();
        match note.and_then(|note| String::from_utf8(note).ok()) {
            Some(note) => self.name_of(note.trim()),
            None => Ok(None),
        }
    }

    fn name_of(&self, wanted: &str) -> Result<Option<String>, Errno> {
        for name in &self.names {
            if self
                .directory
                .stat(name)?
                .is_some_and(|stat| sys::is_plain(&stat) && identity(&stat) == wanted)
            {
                return Ok(Some(name.clone()));
            }
        }
        Ok(None)
    }

    fn link(&self) -> Result<String, Errno> {
        rustix::fs::fchmod(&self.content, self.mode)?;
        self.first_free(|name| self.place.dir.link(CONTENT, &self.directory, name))
    }

    fn copy(&self, doing: impl Fn(Errno) -> Error) -> Result<String, Error> {
        // Hidden, and of a fixed name: a copy that a crash cut off is written over by the next.
        let part = format!(".{}.part", self.place.id);
        let copied = self.copy_bytes(&part).map_err(&doing);
        let named = copied.and_then(|stat| {
            self.place.note(EXPORTED, format!("{}\n", identity(&stat)).as_bytes())?;
            self.first_free(|name| self.directory.rename_to_free(&part, name)).map_err(&doing)
        });
        if named.is_err() {
            // Best effort; the next try writes over it.
            let _ = self.directory.remove_file(&part);
        }
        named
    }

    fn copy_bytes(&self, part: &str) -> Result<Stat, Errno> {
        // What has the name may be the copy of a crashed try that has its final name too, so it is not written over.
        self.directory.remove_file(part)?;
        let copy = self.directory.new_file(part, OFlags::EXCL)?;
        let bytes = sys::bytes_of(&rustix::fs::fstat(&self.content)?);
        sys::copy(&self.content, &copy, 0, bytes)?;
        rustix::fs::fchmod(&copy, self.mode)?;
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
