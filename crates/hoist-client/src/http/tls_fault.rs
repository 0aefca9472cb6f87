//! The reasons why a TLS connection fails, in words. Most of rustls's own texts are Rust code.

use std::io;
use std::time::{Duration, SystemTime};

use rustls::pki_types::{UnixTime, pem};
use rustls::{CertificateError, InvalidMessage};

use crate::error::{Error, TlsFault};
use crate::origin::Origin;

/// The last second of the year 9999, the end of X.509 times.
const LAST_SECOND: u64 = 253_402_300_799;

/// Classifies the error of a TLS handshake with an origin.
pub fn handshake_failure(origin: &Origin, source: io::Error) -> Error {
    let authority = origin.authority();
    let (fault, text) = match rustls_error(&source) {
        Some(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)) => {
            return Error::Scheme { authority, speaks_tls: false };
        }
        Some(rustls::Error::InvalidCertificate(fault)) => certificate_fault(fault),
        // A retry does not change certificates or protocol versions, but it may help after a lost connection.
        Some(error) => (TlsFault::Other, text(error)),
        None => return Error::Connect { authority, source },
    };
    Error::Tls { authority, fault, source: io::Error::new(io::ErrorKind::InvalidData, text) }
}

/// Replaces an error of rustls within an I/O error by one with a readable text.
pub(super) fn in_words(error: io::Error) -> io::Error {
    match rustls_error(&error).map(text) {
        Some(text) => io::Error::new(error.kind(), text),
        None => error,
    }
}

/// Describes why a PEM file is not accepted. The original texts list the octets of lines.
pub(super) fn pem_fault(error: pem::Error) -> io::Error {
    let text = match error {
        pem::Error::Io(error) => return error,
        pem::Error::MissingSectionEnd { .. } => "a section of the PEM file has no END line",
        pem::Error::IllegalSectionStart { .. } => "a BEGIN line of the PEM file is malformed",
        pem::Error::Base64Decode(_) => "a section of the PEM file is not base64",
        pem::Error::SectionTooLarge => "a section of the PEM file is too large",
        _ => "not a PEM file",
    };
    io::Error::new(io::ErrorKind::InvalidData, text)
}

fn rustls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

fn certificate_fault(fault: &CertificateError) -> (TlsFault, String) {
    let (fault, text) = match fault {
        CertificateError::ExpiredContext { not_after, .. } => {
            (TlsFault::Expired, format!("expired on {}", date(*not_after)))
        }
        CertificateError::Expired => (TlsFault::Expired, "has expired".to_owned()),
        CertificateError::NotValidYetContext { not_before, .. } => {
            (TlsFault::NotYetValid, format!("is not valid yet, but from {} on", date(*not_before)))
        }
        CertificateError::NotValidYet => (TlsFault::NotYetValid, "is not valid yet".to_owned()),
        CertificateError::NotValidForNameContext { expected, presented } => {
            let expected = expected.to_str();
            let text = match names(presented).as_str() {
                "" => format!("names no host, so it is not valid for {expected}"),
                names => format!("is valid for {names}, not for {expected}"),
            };
            (TlsFault::WrongName, text)
        }
        CertificateError::NotValidForName => {
            (TlsFault::WrongName, "is not valid for the host in the url".to_owned())
        }
        CertificateError::UnknownIssuer => {
            (TlsFault::UnknownIssuer, "is self-signed, or its issuer is not trusted".to_owned())
        }
        // `openssl req -x509` marks the certificates that it makes as those of an authority.
        CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => {
            (TlsFault::UnknownIssuer, "is self-signed and not trusted".to_owned())
        }
        CertificateError::BadSignature => {
            (TlsFault::UnknownIssuer, "is not signed by an issuer that is trusted".to_owned())
        }
        CertificateError::BadEncoding => (TlsFault::Other, "is malformed".to_owned()),
        CertificateError::Revoked => (TlsFault::Other, "has been revoked".to_owned()),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            (TlsFault::Other, "is not meant for servers".to_owned())
        }
        other => (TlsFault::Other, format!("is not accepted ({})", words(other))),
    };
    (fault, format!("the server's certificate {text}"))
}

/// Describes an error of TLS that is not about the certificate.
fn text(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(fault) => certificate_fault(fault).1,
        rustls::Error::AlertReceived(alert) => {
            format!("the server ended the connection with the TLS alert \"{}\"", words(alert))
        }
        rustls::Error::PeerIncompatible(why) => {
            let why = words(why);
            format!("the server and this client have no version or algorithm of TLS in common ({why})")
        }
        rustls::Error::PeerMisbehaved(why) => format!("the server violates TLS ({})", words(why)),
        rustls::Error::InvalidMessage(why) => format!("the server violates TLS ({})", words(why)),
        rustls::Error::InappropriateMessage { .. } | rustls::Error::InappropriateHandshakeMessage { .. } => {
            "the server violates TLS (unexpected message)".to_owned()
        }
        rustls::Error::NoApplicationProtocol => {
            "the server supports no version of HTTP that this client offers".to_owned()
        }
        rustls::Error::General(text) => text.clone(),
        other => words(other),
    }
}

/// Formats the name of a variant as words: `HandshakeFailure` as "handshake failure".
fn words(variant: &impl std::fmt::Debug) -> String {
    let name = format!("{variant:?}");
    // The name that says most is the innermost: `Other(OtherError(UnsupportedCertVersion))`.
    let inner = name.trim_end_matches(')').rsplit('(').next().unwrap_or_default();
    let mut text = String::new();
    let mut was_lowercase = false;
    for char in inner.chars().take_while(char::is_ascii_alphanumeric) {
        if char.is_ascii_uppercase() && was_lowercase {
            text.push(' ');
        }
        was_lowercase = !char.is_ascii_uppercase();
        text.push(char.to_ascii_lowercase());
    }
    text
}

/// Lists the names in a certificate. rustls presents them as `DnsName("h.example")` and `IpAddress(192.0.2.1)`.
fn names(presented: &[String]) -> String {
    let name = |text: &String| {
        let inner = text.split_once('(').map_or(text.as_str(), |(_, inner)| inner);
        inner.trim_end_matches(')').trim_matches('"').to_owned()
    };
    let names: Vec<_> = presented.iter().take(NAMES_MAX).map(name).collect();
    let more = if presented.len() > NAMES_MAX { " and others" } else { "" };
    names.join(", ") + more
}

/// The most names of a certificate in a message.
const NAMES_MAX: usize = 5;

fn date(time: UnixTime) -> String {
    let since = Duration::from_secs(time.as_secs().min(LAST_SECOND));
    httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + since)
}

#[cfg(test)]
mod tests {
    use rustls::{AlertDescription, OtherError, PeerIncompatible};

    use super::*;

    #[test]
    fn errors_of_tls_are_described_in_words() {
        let at = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let other = || CertificateError::Other(OtherError(std::sync::Arc::new(io::Error::other("x"))));
        let table = [
            (
                rustls::Error::InvalidCertificate(CertificateError::ExpiredContext {
                    time: at(1_600_000_000),
                    not_after: at(1_577_836_800),
                }),
                "the server's certificate expired on Wed, 01 Jan 2020 00:00:00 GMT",
            ),
            (
                rustls::Error::InvalidCertificate(CertificateError::NotValidYetContext {
                    time: at(0),
                    not_before: at(u64::MAX),
                }),
                "the server's certificate is not valid yet, but from Fri, 31 Dec 9999 23:59:59 GMT on",
            ),
            (
                rustls::Error::AlertReceived(AlertDescription::CertificateRequired),
                "the server ended the connection with the TLS alert \"certificate required\"",
            ),
            (
                rustls::Error::PeerIncompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13),
                "the server and this client have no version or algorithm of TLS in common \
                 (server does not support tls12 or13)",
            ),
        ];
        for (error, expected) in table {
            assert_eq!(text(&error), expected);
        }
        let refused = text(&rustls::Error::InvalidCertificate(other()));
        assert!(refused.starts_with("the server's certificate is not accepted"), "{refused}");
        assert!(!refused.contains(['{', '"']), "{refused}");
    }

    #[test]
    fn the_names_of_a_certificate_are_listed_without_their_types() {
        let table: [(&[&str], &str); 4] = [
            (&[], ""),
            (&["DnsName(\"a.example\")"], "a.example"),
            (&["DnsName(\"a.example\")", "IpAddress(192.0.2.1)"], "a.example, 192.0.2.1"),
            (&["a", "b", "c", "d", "e", "f"], "a, b, c, d, e and others"),
        ];
        for (presented, expected) in table {
            let presented: Vec<_> = presented.iter().map(ToString::to_string).collect();
            assert_eq!(names(&presented), expected);
        }
    }
}
