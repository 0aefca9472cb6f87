//! Octets as hexadecimal digits.

/// Writes octets as lower-case hexadecimal digits.
pub fn encode(octets: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let nibbles = octets.iter().flat_map(|octet| [octet >> 4, octet & 15]);
    nibbles.map(|nibble| char::from(DIGITS[usize::from(nibble)])).collect()
}

/// Reads octets from hexadecimal digits of either case. Returns `None` if the text is anything else.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    let nibble = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|&[high, low]| Some(nibble(high)? << 4 | nibble(low)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_octets_read_back() {
        let octets: Vec<u8> = (0..=255).collect();
        assert_eq!(decode(&encode(&octets)), Some(octets));
        assert_eq!(encode(b"\x0f\xa0"), "0fa0");
        assert_eq!(decode("0FA0"), Some(b"\x0f\xa0".to_vec()));
        for text in ["0", "0g", "+f", "é"] {
            assert_eq!(decode(text), None, "{text}");
        }
    }
}
