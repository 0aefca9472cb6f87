//! Exporting: giving an upload's content a name outside the data directory.
//!
//! Owns the directories of the name, the choice of a free name, the hard link, and the copy for targets on other file
//! systems. The caller makes sure that the upload is complete and the name is safe.
//!
//! A repeated export finds the earlier one. A link is recognised by being the same file. A copy is recognised by its
//! device and inode numbers, which the file `exported` beside the record states before the copy gets its final name.
//!
//! An upload made of a single part shares its file with the part, and with every other upload made of that part alone
//! ([`join`](super::join)). A name of that file may therefore belong to another upload. Such an upload is first linked
//! under a hidden name. Then `exported` is written with the number of the final name, and the hidden name is renamed.
//! If `exported` exists and the hidden name does not, the export is complete.

use std::os::fd::OwnedFd;
use std::path::Path;

use hoist_proto::types::UploadId;
use rustix::fs::{OFlags, Stat};
use rustix::io::Errno;

use super::data_dir::DataDir;
use super::layout::{CONTENT, EXPORTED};
use super::sys::{self, Dir, failed};
use super::upload_dir::UploadDir;
use crate::export_name;
use crate::store::Error;

/// Gives the content a name in `directory`, durably, and returns it.
///
/// The exported file has mode 0666 without the bits of the process's umask, like any file that a program creates. Where
/// the file system does not support modes, the file is exported nevertheless. A link is the same file as the content in
/// the data directory, which therefore gets that mode, too. The directories above it are accessible to the server only.
pub(super) fn export(
    data_dir: &DataDir,
    upload_dir: &UploadDir,
    is_shared: bool,
    directory: &Path,
    name: &str,
) -> Result<String, Error> {
    let doing = |errno| failed(format!("exporting {} to {}", upload_dir.label(), directory.display()), errno);
    let (directories, name) = export_name::segments(name).ok_or_else(|| doing(Errno::INVAL))?;
    let content = upload_dir.content(OFlags::RDONLY)?.ok_or(Error::Missing)?;
    let mut above = Dir::at_path(directory).map_err(doing)?;
    let mut exported = String::new();
    for wanted in directories {
        let (below, name) = subdirectory(data_dir, upload_dir.id, &above, wanted).map_err(doing)?;
        exported.push_str(&name);
        exported.push('/');
        above = below;
    }
    let export = Export {
        content,
        directory: above,
        names: export_name::candidates(upload_dir.id, name),
        hidden: format!(".{}.part", upload_dir.id),
        is_shared,
        upload_dir,
        data_dir,
    };
    let name = match export.find_earlier().map_err(doing)? {
        Some(name) => name,
        None => export.create(doing)?,
    };
    if data_dir.is_disk {
        export.directory.sync().map_err(doing)?;
    }
    exported.push_str(&name);
    Ok(exported)
}

/// Opens the directory `wanted`, which is created if necessary, and returns its name: another one if something else has
/// that name. Links are not followed, and the data directory is not entered.
///
/// A repeated export comes to the same directory, because neither files nor directories are ever removed here.
fn subdirectory(data_dir: &DataDir, id: UploadId, above: &Dir, wanted: &str) -> Result<(Dir, String), Errno> {
    for name in export_name::directory_candidates(id, wanted) {
        let found = match above.dir(&name) {
            Ok(None) => {
                match above.make_dir_of_mode(&name, sys::SHARED_DIRECTORY_MODE) {
                    // Another export may have taken the name in the meantime.
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(errno) => return Err(errno),
                }
                above.dir(&name).and_then(|made| made.ok_or(Errno::NOENT))
            }
            found => found.and_then(|found| found.ok_or(Errno::NOENT)),
        };
        match found {
            // A file, a link or a device.
            Err(Errno::NOTDIR | Errno::LOOP | Errno::MLINK) => {}
            Err(errno) => return Err(errno),
            Ok(directory) if directory.is_same(&data_dir.root)? => {}
            Ok(directory) => {
                // Also if it existed: the export that created it may not have synced it yet.
                if data_dir.is_disk {
                    above.sync()?;
                }
                return Ok((directory, name));
            }
        }
    }
    Err(Errno::EXIST)
}

struct Export<'a> {
    upload_dir: &'a UploadDir,
    content: OwnedFd,
    /// True if other uploads may share the content file.
    is_shared: bool,
    directory: Dir,
    names: [String; 3],
    /// The hidden name. It is fixed, so that a repeated export overwrites what a crash left.
    hidden: String,
    data_dir: &'a DataDir,
}

impl Export<'_> {
    /// Returns the name that an earlier attempt gave the content.
    fn find_earlier(&self) -> Result<Option<String>, Errno> {
        let content = rustix::fs::fstat(&self.content)?;
        if !self.is_shared
            && content.st_nlink > 1
            && let Some(name) = self.name_of(&identity(&content))?
        {
            return Ok(Some(name));
        }
        let marker = self.upload_dir.bytes_of(EXPORTED).ok().flatten();
        let Some(marker) = marker.and_then(|marker| String::from_utf8(marker).ok()) else { return Ok(None) };
        let Some((wanted, index)) = marker.trim().split_once(' ') else { return self.name_of(marker.trim()) };
        let name = index.parse().ok().and_then(|index: usize| self.names.get(index));
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
        Ok(stat.is_some_and(|stat| sys::is_regular_file(&stat) && identity(&stat) == wanted))
    }

    fn create(&self, doing: impl Fn(Errno) -> Error) -> Result<String, Error> {
        self.data_dir.set_export_mode(&self.content);
        let linked = if self.is_shared {
            self.link_hidden().map(|()| None)
        } else {
            self.first_free(|name| self.upload_dir.handle.link(CONTENT, &self.directory, name)).map(Some)
        };
        let named = match linked {
            Ok(Some(name)) => return Ok(name),
            Ok(None) => self.rename_link(&doing),
            // Another file system, one without links, or a policy against them.
            Err(errno) if sys::is_unsupported(errno) => self.copy(&doing),
            Err(errno) => Err(doing(errno)),
        };
        if named.is_err() && self.upload_dir.handle.remove_file(EXPORTED).is_ok() {
            // Best effort: the next attempt overwrites it. `exported` first, because without the hidden name it means
            // success.
            let _ = self.directory.remove_file(&self.hidden);
        }
        named
    }

    fn copy(&self, doing: impl Fn(Errno) -> Error) -> Result<String, Error> {
        let stat = self.copy_bytes().map_err(&doing)?;
        self.upload_dir.write_durably(EXPORTED, format!("{}\n", identity(&stat)).as_bytes())?;
        self.first_free(|name| self.directory.rename_to_free(&self.hidden, name)).map_err(doing)
    }

    fn link_hidden(&self) -> Result<(), Errno> {
        self.directory.remove_file(&self.hidden)?;
        self.upload_dir.handle.link(CONTENT, &self.directory, &self.hidden)?;
        // Before `exported` is written, which without the hidden name would mean success.
        if self.upload_dir.is_disk { self.directory.sync() } else { Ok(()) }
    }

    fn rename_link(&self, doing: impl Fn(Errno) -> Error) -> Result<String, Error> {
        let identity = identity(&rustix::fs::fstat(&self.content).map_err(&doing)?);
        for (index, name) in self.names.iter().enumerate() {
            if self.directory.stat(name).map_err(&doing)?.is_some() {
                continue;
            }
            self.upload_dir.write_durably(EXPORTED, format!("{identity} {index}\n").as_bytes())?;
            match self.directory.rename_to_free(&self.hidden, name) {
                Err(Errno::EXIST) => {}
                named => return named.map(|()| name.clone()).map_err(doing),
            }
        }
        Err(doing(Errno::EXIST))
    }

    fn copy_bytes(&self) -> Result<Stat, Errno> {
        // The hidden name may be a second one of a crashed attempt's final copy. Removing it keeps that copy intact.
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

/// Returns a text that identifies a file for as long as it exists.
fn identity(stat: &Stat) -> String {
    format!("{}:{}:{}", stat.st_dev, stat.st_ino, stat.st_size)
}
