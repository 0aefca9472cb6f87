//! Signatures of deliveries, by Standard Webhooks: a receiver that has the secret can tell that hoist sent an event.
//!
//! Owns the form of secrets and signatures. The signed text is the id of the event, the time of the attempt and the content.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::hmac;
use hoist_proto::base64;

/// A secret that signs deliveries: `whsec_` and 24 to 64 octets in Base64.
#[derive(Clone)]
pub struct Secret(hmac::Key);

/// The text is not a [`Secret`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a secret: it is `whsec_` and 24 to 64 octets in Base64")]
pub struct NotASecret;

const PREFIX: &str = "whsec_";
const OCTETS: std::ops::RangeInclusive<usize> = 24..=64;

impl Secret {
    /// Reads secrets from a text, one a line. Empty lines and lines that begin with `#` are skipped.
    ///
    /// # Errors
    /// Returns the number of the first line that is something else; zero if there is no secret at all. Never the line.
    pub fn parse_lines(text: &str) -> Result<Vec<Self>, usize> {
        let lines = (1_usize..).zip(text.lines().map(str::trim));
        let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        let secrets = lines.map(|(number, line)| line.parse().map_err(|NotASecret| number));
        let secrets = secrets.collect::<Result<Vec<_>, _>>()?;
        if secrets.is_empty() { Err(0) } else { Ok(secrets) }
    }

    fn sign(&self, signed: &[u8]) -> String {
        format!("v1,{}", base64::encode(hmac::sign(&self.0, signed).as_ref()))
    }
}

impl FromStr for Secret {
    type Err = NotASecret;

    fn from_str(text: &str) -> Result<Self, NotASecret> {
        let octets = text.strip_prefix(PREFIX).and_then(|encoded| base64::decode(encoded.as_bytes()));
        let octets = octets.filter(|octets| OCTETS.contains(&octets.len())).ok_or(NotASecret)?;
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &octets)))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Returns the value of `webhook-signature`: one signature for each secret, so that a receiver may know the old one or the
/// new one while they are exchanged. `None` without a secret.
pub(super) fn signatures(secrets: &[Secret], id: &str, seconds: u64, content: &[u8]) -> Option<String> {
    if secrets.is_empty() {
        return None;
    }
    let signed = [format!("{id}.{seconds}.").as_bytes(), content].concat();
    Some(secrets.iter().map(|secret| secret.sign(&signed)).collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification's libraries.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    #[test]
    fn the_signature_is_that_of_the_specification() {
        let secrets = Secret::parse_lines(SECRET).expect("a secret");
        let signed =
            signatures(&secrets, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signed.as_deref(), Some("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="));
    }

    #[test]
    fn several_secrets_sign_several_times() {
        let other = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        let secrets = Secret::parse_lines(&format!("# new\n{SECRET}\n\n  {other}\n")).expect("secrets");
        let signed = signatures(&secrets, "a", 7, b"b").expect("is signed");
        let single =
            |secret: &Secret| signatures(std::slice::from_ref(secret), "a", 7, b"b").expect("is signed");
        assert_eq!(signed, format!("{} {}", single(&secrets[0]), single(&secrets[1])));
        assert_eq!(signatures(&[], "a", 7, b"b"), None);
        assert_eq!(format!("{:?}", secrets[0]), "Secret(…)");
    }

    #[test]
    fn anything_else_is_no_secret() {
        for (text, line) in [
            ("", 0),
            ("# none\n", 0),
            ("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", 1),
            ("whsec_", 1),
            ("whsec_AAAA", 1),
            ("\nwhsec_!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!", 2),
        ] {
            assert_eq!(Secret::parse_lines(text).err(), Some(line), "{text:?}");
        }
    }
}
