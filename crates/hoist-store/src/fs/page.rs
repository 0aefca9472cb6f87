//! Pages of a parent directory, on systems whose directories can be continued at a position.
//!
//! A position is the cookie of the file system, as an NFS server uses it. It leads to the next entry without a look at
//! those before, and stays valid while other entries come and go.

use hoist_proto::types::UploadId;

use super::data_dir::DataDir;
use super::layout::ParentDir;
use super::read;
use super::sys::failed;
use crate::store::{Error, Page, Position, UploadGroup};

/// Reads a page of a group. Blocks.
pub(super) fn read_page(
    data_dir: &DataDir,
    group: UploadGroup,
    from: Option<&Position>,
    reads_max: usize,
) -> Result<Page, Error> {
    let parent = match group {
        UploadGroup::Open => ParentDir::Open,
        UploadGroup::Complete => ParentDir::Done,
    };
    let doing = |errno| failed(format!("listing {parent}"), errno);
    let mut names = data_dir.dir_of(parent).entries().map_err(doing)?;
    if let Some(from) = from {
        let cookie = from.as_str().parse().ok().filter(|cookie| *cookie >= 0).ok_or(Error::BadPosition)?;
        // A number that the file system has not given out is refused, or leads to a position near by, or to the end.
        names.seek(cookie).map_err(|_| Error::BadPosition)?;
    }
    let (mut page, mut reads, mut end) = (Page::default(), 0, None);
    while let Some(entry) = names.read() {
        let entry = entry.map_err(doing)?;
        let Some(id) = entry.file_name().to_str().ok().and_then(|name| name.parse::<UploadId>().ok()) else {
            continue;
        };
        if reads == reads_max.max(1) {
            page.next = end;
            break;
        }
        (reads, end) = (reads + 1, Position::new(entry.offset().to_string()));
        page.uploads.extend(read::listed(data_dir, parent, id, false).summary);
    }
    Ok(page)
}
