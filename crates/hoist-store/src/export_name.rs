//! The names that an export tries.

use hoist_proto::types::UploadId;

/// The longest name that all file systems in use accept, in bytes.
const NAME_BYTES_MAX: usize = 255;
/// The most segments of a path. Each costs some system calls.
const SEGMENTS_MAX: usize = 64;

/// Splits the path of an export into its directories and its name. Returns `None` unless each is one path segment.
pub(crate) fn segments(path: &str) -> Option<(Vec<&str>, &str)> {
    let mut segments: Vec<_> = path.split('/').collect();
    let is_sound = |segment: &&str| !matches!(*segment, "" | "." | "..") && !segment.contains('\0');
    if segments.len() > SEGMENTS_MAX || !segments.iter().all(is_sound) {
        return None;
    }
    let name = segments.pop()?;
    Some((segments, name))
}

/// Returns the names for a file, in the order in which to try them: `name` itself, with the short id before its
/// extension, and with the whole id, which is unique.
pub(crate) fn candidates(id: UploadId, name: &str) -> [String; 3] {
    let (stem, extension) = match name.rfind('.') {
        Some(dot) if dot > 0 => name.split_at(dot),
        _ => (name, ""),
    };
    let with = |id: String| with_suffix(stem, &id, extension);
    [name.to_owned(), with(id.short().to_string()), with(id.to_string())]
}

/// Returns the names for a directory, in the order in which to try them. The second is the same for all uploads, so that
/// files that belong together stay together if a file has the first. The third is unique.
pub(crate) fn directory_candidates(id: UploadId, name: &str) -> [String; 3] {
    [name.to_owned(), with_suffix(name, "dir", ""), with_suffix(name, &id.to_string(), "")]
}

fn with_suffix(stem: &str, suffix: &str, extension: &str) -> String {
    let stem_bytes_max = NAME_BYTES_MAX.saturating_sub(suffix.len() + 1 + extension.len());
    format!("{}-{suffix}{extension}", &stem[..stem.floor_char_boundary(stem_bytes_max)])
}
