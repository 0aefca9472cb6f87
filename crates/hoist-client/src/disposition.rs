//! The name of a file as a header field.

use http::HeaderValue;

/// Returns a `Content-Disposition` with a file name, in ASCII for every server and in UTF-8 where the name needs it (RFC
/// 6266, RFC 8187).
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
    HeaderValue::try_from(text).expect("the value is visible ASCII and spaces")
}
