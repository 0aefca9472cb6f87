//! The handle of an upload, by which a later run finds it again.

use hoist_proto::types::Token;
use http::Uri;

use crate::dialect::Dialect;

/// The name of an upload, by which a later run resumes it. It is a capability: its holder can continue or cancel the
/// upload.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Handle {
    /// A token, used at an upload URL.
    Token {
        /// The upload URL.
        url: Uri,
        /// The token.
        token: Token,
    },
    /// The upload's own URL.
    Url {
        /// The URL that the caller gave: the upload's own, or the upload URL of the server that named the other. The
        /// caller's header fields are sent to its origin only.
        target: Uri,
        /// The upload's own URL.
        url: Uri,
        /// The dialect of the upload. [`Dialect::Auto`] asks the server.
        dialect: Dialect,
    },
    /// A token whose upload has numbered parts of about the same size.
    Numbered {
        /// The upload URL.
        url: Uri,
        /// The token.
        token: Token,
        /// The number of parts.
        parts: usize,
    },
    /// Partial uploads of tus 1.0, of about the same size, that have not been concatenated yet.
    Parts {
        /// The upload URL.
        url: Uri,
        /// The URLs of the parts, `None` for those that have not been created.
        parts: Vec<Option<Uri>>,
    },
}

impl Handle {
    /// Returns a handle for the upload at this URL, for which the caller vouches.
    pub fn at(url: Uri, dialect: Dialect) -> Self {
        Self::Url { target: url.clone(), url, dialect }
    }

    /// Returns the URL that the caller gave.
    pub(crate) fn target(&self) -> &Uri {
        match self {
            Self::Url { target, .. } => target,
            Self::Token { url, .. } | Self::Numbered { url, .. } | Self::Parts { url, .. } => url,
        }
    }

    /// Returns the URL to query. For an upload in parts, this is the upload URL.
    pub fn url(&self) -> &Uri {
        if let Self::Url { url, .. } = self { url } else { self.target() }
    }

    /// Returns whether the URL that the caller gave is the upload's own, so that the upload was created elsewhere.
    pub(crate) fn is_created_elsewhere(&self) -> bool {
        matches!(self, Self::Url { target, url, .. } if target == url)
    }

    /// Returns the handles of the partial uploads, if there are any.
    pub(crate) fn parts(&self) -> Option<Vec<Self>> {
        let Self::Parts { url: target, parts } = self else { return None };
        let urls = parts.iter().flatten().cloned();
        Some(urls.map(|url| Self::Url { target: target.clone(), url, dialect: Dialect::Tus1 }).collect())
    }
}
