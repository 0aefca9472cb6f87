//! Octets in Base64.

use sfv::{Item, Parser};

/// Decodes Base64 in the standard alphabet. The padding may be missing. Returns `None` if the text is anything else.
pub fn decode(encoded: &[u8]) -> Option<Vec<u8>> {
    // The parser of structured fields has the same rules for byte sequences.
    let is_plain = |octet: &u8| octet.is_ascii_alphanumeric() || matches!(octet, b'+' | b'/' | b'=');
    if !encoded.iter().all(is_plain) {
        return None;
    }
    let sequence = [b":", encoded, b":"].concat();
    let item = Parser::new(&sequence).parse::<Item>().ok()?.bare_item;
    item.as_byte_sequence().map(<[u8]>::to_vec)
}

/// Encodes octets in Base64, with padding.
pub fn encode(octets: &[u8]) -> String {
    let sequence = sfv::ItemSerializer::new().bare_item(octets).finish();
    sequence.trim_matches(':').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoded_octets_are_padded_and_read_back() {
        for (octets, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")]
        {
            assert_eq!(encode(octets.as_bytes()), text);
            assert_eq!(decode(text.as_bytes()).as_deref(), Some(octets.as_bytes()));
            let unpadded = text.trim_end_matches('=');
            assert_eq!(decode(unpadded.as_bytes()).as_deref(), Some(octets.as_bytes()));
        }
        for text in ["!!", "Y", "YQ=x", "YQ== Yg=="] {
            assert_eq!(decode(text.as_bytes()), None, "{text}");
        }
    }
}
