//! The names that an export tries.

use hoist_proto::types::UploadId;

/// Returns the names for an export, in the order in which to try them: `name` itself, with the short id before its
/// extension, and with the whole id, which is unique. Returns `None` if `name` is not one path segment.
pub(crate) fn candidates(id: UploadId, name: &str) -> Option<[String; 3]> {
    // The longest name that all file systems in use accept, in bytes.
    const NAME_BYTES_MAX: usize = 255;
    if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
        return None;
    }
    let (stem, extension) = match name.rfind('.') {
        Some(dot) if dot > 0 => name.split_at(dot),
        _ => (name, ""),
    };
    let with = |id: String| {
        let stem_bytes_max = NAME_BYTES_MAX.saturating_sub(id.len() + 1 + extension.len());
        format!("{}-{id}{extension}", &stem[..stem.floor_char_boundary(stem_bytes_max)])
    };
    Some([name.to_owned(), with(id.short().to_string()), with(id.to_string())])
}
