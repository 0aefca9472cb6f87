//! An entry of the journal: an unfinished upload, and its file format.

use std::fs::{self, File, Metadata};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use hoist_proto::hex;
use hoist_proto::types::Token;
use http::Uri;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::target_key::target_key;
use crate::dialect::Dialect;
use crate::handle::Handle;
use crate::origin::Origin;

/// The version of the file format. Files with another one are ignored.
const VERSION: u32 = 1;
/// Bytes at the beginning and at the end of a file that go into its fingerprint.
const SAMPLE_BYTES: u64 = 64 * 1024;

/// An unfinished upload.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct JournalEntry {
    /// The [key](super::file_key) of the file: its absolute path.
    pub file: PathBuf,
    /// The upload URL.
    pub target: Uri,
    /// The handle of the upload.
    pub handle: Handle,
    /// The length of the file in bytes.
    pub length: u64,
    /// The time at which the upload was created.
    pub began: SystemTime,
    /// The [note](crate::Put::journal_note) of the run that sent the upload last, if it had one.
    pub note: Option<String>,
    pub(crate) file_state: FileState,
    /// False in entries of older versions, whose path is that of a link's target.
    pub(crate) is_by_name: bool,
}

/// The state of a file. An upload is resumed only if the file is still in the same state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileState {
    pub(crate) length: u64,
    /// The modification time, in nanoseconds since 1970. The owner of the file can set it.
    pub(crate) modified: u128,
    /// A digest of the length, the beginning and the end of the file.
    pub(crate) fingerprint: String,
    /// `None` in entries of older versions, and on systems without inodes.
    pub(crate) inode: Option<InodeState>,
}

/// The part of a file's state that its owner cannot reset. The device number is left out, as it may differ after a
/// reboot; files on different devices that agree in everything else are snapshots of the same file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InodeState {
    pub(crate) number: u64,
    /// The time of the last change of the inode, in nanoseconds since 1970. Every write advances it.
    pub(crate) changed: i128,
}

impl InodeState {
    #[cfg(unix)]
    fn of(metadata: &Metadata) -> Self {
        use std::os::unix::fs::MetadataExt as _;
        let changed = i128::from(metadata.ctime()) * 1_000_000_000 + i128::from(metadata.ctime_nsec());
        Self { number: metadata.ino(), changed }
    }
}

impl FileState {
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let metadata = file.metadata()?;
        let length = metadata.len();
        #[cfg(unix)]
        let inode = Some(InodeState::of(&metadata));
        #[cfg(not(unix))]
        let inode = None;
        let modified = metadata.modified()?.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let mut hash = Sha256::new();
        hash.update(length.to_be_bytes());
        let mut sample = Vec::new();
        Read::by_ref(&mut file).take(SAMPLE_BYTES).read_to_end(&mut sample)?;
        if let Some(last) = length.checked_sub(SAMPLE_BYTES) {
            file.seek(SeekFrom::Start(last.max(SAMPLE_BYTES)))?;
            file.take(SAMPLE_BYTES).read_to_end(&mut sample)?;
        }
        hash.update(&sample);
        Ok(Self { length, modified: modified.as_nanos(), fingerprint: hex::encode(&hash.finalize()), inode })
    }
}

/// The content of the file, as JSON.
#[derive(Serialize, Deserialize)]
struct EntryFile {
    version: u32,
    file: String,
    /// The path as hexadecimal digits, if it is not Unicode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    octets: Option<String>,
    #[serde(default)]
    by_name: bool,
    target: String,
    length: u64,
    modified: String,
    fingerprint: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    inode: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    changed: Option<String>,
    began: u64,
    dialect: String,
    /// The upload's own URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    /// The token, as hexadecimal digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    numbered: Option<usize>,
    /// The URLs of the parts, empty for those that have not been created.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    parts: Vec<String>,
    /// Ignored by older versions, as is every unknown key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

impl JournalEntry {
    /// Returns whether a handle names this upload. The URLs of parts may not be known yet.
    pub fn is_of(&self, handle: &Handle) -> bool {
        match (&self.handle, handle) {
            (Handle::Url { url, .. }, Handle::Url { url: other, .. }) => url == other,
            (
                Handle::Token { url, token } | Handle::Numbered { url, token, .. },
                Handle::Token { url: other, token: others }
                | Handle::Numbered { url: other, token: others, .. },
            ) => token == others && target_key(url) == target_key(other),
            (Handle::Parts { url, parts }, Handle::Parts { url: other, parts: others }) => {
                let is_compatible = |(part, other): (&Option<Uri>, &Option<Uri>)| {
                    part.is_none() || other.is_none() || part == other
                };
                url == other && parts.len() == others.len() && parts.iter().zip(others).all(is_compatible)
            }
            _ => false,
        }
    }

    /// Returns whether the upload was created from the file in the state `now`.
    pub(crate) fn matches(&self, now: &FileState) -> bool {
        let FileState { length, modified, fingerprint, inode } = &self.file_state;
        let looks_equal =
            *length == now.length && *modified == now.modified && *fingerprint == now.fingerprint;
        let is_unchanged = match (inode, now.inode) {
            (Some(then), Some(now)) => *then == now,
            // An entry of an older version. The file is the same if its inode has not changed since.
            (None, Some(now)) => {
                let began = self.began.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
                now.changed.div_euclid(1_000_000_000) <= i128::from(began.as_secs())
            }
            (_, None) => true,
        };
        looks_equal && is_unchanged
    }

    pub(super) fn read(path: &Path) -> Option<Self> {
        let written: EntryFile = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
        if written.version != VERSION {
            return None;
        }
        let target = usable(&written.target)?;
        let dialect: Dialect = written.dialect.parse().ok()?;
        let handle = match (written.url, written.token) {
            (Some(url), None) => Handle::Url { target: target.clone(), url: usable(&url)?, dialect },
            (None, Some(token)) => {
                let (url, token) = (target.clone(), Token::new(hex::decode(&token)?)?);
                match written.numbered {
                    Some(parts) => Handle::Numbered { url, token, parts },
                    None => Handle::Token { url, token },
                }
            }
            (None, None) if !written.parts.is_empty() => {
                let parts = written.parts.iter().map(|url| usable(url)).collect();
                Handle::Parts { url: target.clone(), parts }
            }
            _ => return None,
        };
        let file = match written.octets {
            Some(octets) => path_of(hex::decode(&octets)?),
            None => written.file.into(),
        };
        let (length, modified) = (written.length, written.modified.parse().ok()?);
        let changed = written.changed.and_then(|text| text.parse().ok());
        let inode = written.inode.zip(changed).map(|(number, changed)| InodeState { number, changed });
        let file_state = FileState { length, modified, fingerprint: written.fingerprint, inode };
        let began = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(written.began))?;
        let (note, is_by_name) = (written.note, written.by_name);
        Some(Self { file, target, handle, length, began, note, file_state, is_by_name })
    }

    pub(super) fn to_text(&self) -> String {
        let mut parts = Vec::new();
        let (dialect, url, token) = match &self.handle {
            Handle::Url { url, dialect, .. } => (dialect.to_string(), Some(url.to_string()), None),
            Handle::Token { token, .. } | Handle::Numbered { token, .. } => {
                ("token".to_owned(), None, Some(hex::encode(token.expose())))
            }
            Handle::Parts { parts: urls, .. } => {
                parts = urls.iter().map(|url| url.as_ref().map(Uri::to_string).unwrap_or_default()).collect();
                ("tus1".to_owned(), None, None)
            }
        };
        let is_text = self.file.to_str().is_some();
        let written = EntryFile {
            version: VERSION,
            file: self.file.to_string_lossy().into_owned(),
            octets: (!is_text).then(|| hex::encode(self.file.as_os_str().as_encoded_bytes())),
            by_name: self.is_by_name,
            target: self.target.to_string(),
            length: self.length,
            modified: self.file_state.modified.to_string(),
            fingerprint: self.file_state.fingerprint.clone(),
            inode: self.file_state.inode.map(|inode| inode.number),
            changed: self.file_state.inode.map(|inode| inode.changed.to_string()),
            began: self.began.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs(),
            dialect,
            url,
            token,
            numbered: if let Handle::Numbered { parts, .. } = &self.handle { Some(*parts) } else { None },
            parts,
            note: self.note.clone(),
        };
        serde_json::to_string_pretty(&written).expect("strings and numbers are JSON")
    }
}

/// Returns the file name of the entry for a source and a target key.
pub(super) fn name(file: &Path, target_key: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(file.as_os_str().as_encoded_bytes());
    hash.update([0]);
    hash.update(target_key);
    hex::encode(&hash.finalize()[..16])
}

fn usable(text: &str) -> Option<Uri> {
    let url = text.parse().ok()?;
    Origin::of(&url).is_ok().then_some(url)
}

#[cfg(unix)]
fn path_of(octets: Vec<u8>) -> PathBuf {
    let path: std::ffi::OsString = std::os::unix::ffi::OsStringExt::from_vec(octets);
    path.into()
}

#[cfg(not(unix))]
fn path_of(octets: Vec<u8>) -> PathBuf {
    String::from_utf8_lossy(&octets).into_owned().into()
}
