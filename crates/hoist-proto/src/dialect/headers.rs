//! The names of the header fields that dialects share.

use http::HeaderName;

/// `Upload-Token`: the client's name for an upload.
pub const UPLOAD_TOKEN: HeaderName = HeaderName::from_static("upload-token");
/// `Upload-Index`: the number of a part.
pub const UPLOAD_INDEX: HeaderName = HeaderName::from_static("upload-index");
/// `Upload-Offset`: the offset at which content begins, or up to which it is stored.
pub const UPLOAD_OFFSET: HeaderName = HeaderName::from_static("upload-offset");
/// `Upload-Length`: the length of the representation in bytes.
pub const UPLOAD_LENGTH: HeaderName = HeaderName::from_static("upload-length");
/// `Upload-Complete`: the completeness of the upload.
pub const UPLOAD_COMPLETE: HeaderName = HeaderName::from_static("upload-complete");
/// `Upload-Incomplete`: the inverse of `Upload-Complete` in old drafts.
pub const UPLOAD_INCOMPLETE: HeaderName = HeaderName::from_static("upload-incomplete");
/// `Upload-Draft-Interop-Version`: the interop version of the drafts that a client or server implements.
pub const INTEROP_VERSION: HeaderName = HeaderName::from_static("upload-draft-interop-version");
/// `Upload-Draft-Version`: the first name of `Upload-Draft-Interop-Version`.
pub const DRAFT_VERSION: HeaderName = HeaderName::from_static("upload-draft-version");
/// `Client-Upload-Token`: the name of `Upload-Token` for a few months in 2020.
pub const CLIENT_UPLOAD_TOKEN: HeaderName = HeaderName::from_static("client-upload-token");
/// `Tus-Resumable`: the tus version of a request or response.
pub const TUS_RESUMABLE: HeaderName = HeaderName::from_static("tus-resumable");
/// `Tus-Version`: the tus versions that a server supports.
pub const TUS_VERSION: HeaderName = HeaderName::from_static("tus-version");
/// `X-HTTP-Method-Override`: the method that a client means but cannot send.
pub const METHOD_OVERRIDE: HeaderName = HeaderName::from_static("x-http-method-override");
/// `Upload-Limit`: the limits of the server.
pub const UPLOAD_LIMIT: HeaderName = HeaderName::from_static("upload-limit");
/// `Accept-Patch`: the media types of appends.
pub const ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");
