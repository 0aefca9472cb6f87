//! A file's name as a field.

use http::HeaderValue;

/// `Content-Disposition` with a file name, in the form every server reads and in the one that holds all of Unicode
/// (RFC 6266, RFC 8187).
pub(crate) fn disposition(name: &str) -> HeaderValue {
    use std::fmt::Write as _;
    let plain: String =
        name.chars()
            .map(|char| {
                if char.is_ascii_graphic() && !matches!(char, '"' | '\\') || char == ' ' { char } else { '_' }
            })
            .collect();
    let mut text = format!("attachment; filename=\"{plain}\"");
    if plain != name {
        text.push_str("; filename*=UTF-8''");
        for byte in name.bytes() {
            if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
                text.push(char::from(byte));
            } else {
                let _ = write!(text, "%{byte:02X}");
            }
        }
    }
    HeaderValue::try_from(text).expect("visible ASCII and spaces")
}
