//! The choice of HTTP version.

/// The version of HTTP to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Http2 {
    /// HTTP/2 if the server selects it during the TLS handshake, HTTP/1.1 otherwise.
    #[default]
    Auto,
    /// HTTP/2 without negotiation, in cleartext too.
    PriorKnowledge,
    /// HTTP/1.1.
    Never,
}
