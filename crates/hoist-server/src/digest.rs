//! End-to-end integrity: hashes content as it arrives, and compares it with the digests that its sender gave (RFC 9530,
//! and the checksums of tus 1.0).
//!
//! Owns hashing the content of one request, and whole representations across requests and restarts. Parsing the fields is
//! in `hoist-proto`. Running hashes are kept in memory only. After a restart, or if too many were kept, the stored bytes
//! are read again.

use std::collections::HashMap;
use std::sync::Mutex;

use hoist_proto::dialect::tus1::checksum;
use hoist_proto::dialect::{Dialect, ExpectedDigests, Strictness};
use hoist_proto::digest::{self, Algorithm, Digest, REPR_DIGEST};
use hoist_proto::refusal::Refusal;
use hoist_proto::types::{Offset, UploadId};
use hoist_proto::upload::Upload;
use hoist_store::store::{Error, Store};
use http::{HeaderMap, HeaderValue};
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest as _, Sha256, Sha512};

use crate::locked;

const HASHES_MAX: usize = 4096;

/// Running hashes of several algorithms over the bytes from one offset on.
#[derive(Clone)]
pub(crate) struct Hashes {
    hashers: Vec<(Algorithm, Hasher)>,
    at: Offset,
}

#[derive(Clone)]
enum Hasher {
    Sha256(Sha256),
    Sha512(Box<Sha512>),
    Sha1(Sha1),
    Md5(Md5),
    Crc32(crc32fast::Hasher),
    Crc32c(u32),
}

impl Hasher {
    fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Sha256 => Self::Sha256(Sha256::new()),
            Algorithm::Sha512 => Self::Sha512(Box::default()),
            Algorithm::Sha1 => Self::Sha1(Sha1::new()),
            Algorithm::Md5 => Self::Md5(Md5::new()),
            Algorithm::Crc32 => Self::Crc32(crc32fast::Hasher::new()),
            Algorithm::Crc32c => Self::Crc32c(0),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Sha512(hasher) => hasher.update(bytes),
            Self::Sha1(hasher) => hasher.update(bytes),
            Self::Md5(hasher) => hasher.update(bytes),
            Self::Crc32(hasher) => hasher.update(bytes),
            Self::Crc32c(sum) => *sum = crc32c::crc32c_append(*sum, bytes),
        }
    }

    fn octets(self) -> Vec<u8> {
        match self {
            Self::Sha256(hasher) => hasher.finalize().to_vec(),
            Self::Sha512(hasher) => hasher.finalize().to_vec(),
            Self::Sha1(hasher) => hasher.finalize().to_vec(),
            Self::Md5(hasher) => hasher.finalize().to_vec(),
            //= TUS1-CHK-10
            Self::Crc32(hasher) => hasher.finalize().to_be_bytes().to_vec(),
            Self::Crc32c(sum) => sum.to_be_bytes().to_vec(),
        }
    }
}

impl Hashes {
    fn new(algorithms: &[Algorithm], at: Offset) -> Self {
        let hasher = |algorithm: &Algorithm| (*algorithm, Hasher::new(*algorithm));
        Self { hashers: algorithms.iter().map(hasher).collect(), at }
    }

    fn update(&mut self, bytes: &[u8]) {
        for (_, hasher) in &mut self.hashers {
            hasher.update(bytes);
        }
        self.at = self.at.advance(bytes.len() as u64).unwrap_or(self.at);
    }

    fn digests(self) -> Vec<Digest> {
        let digest = |(algorithm, hasher): (Algorithm, Hasher)| Digest { algorithm, octets: hasher.octets() };
        self.hashers.into_iter().map(digest).collect()
    }
}

pub(crate) struct Check {
    dialect: Dialect,
    expected: ExpectedDigests,
    trailing: Result<Vec<Digest>, Refusal>,
    content: Option<Hashes>,
    /// The running hashes of the representation, if it is to be hashed.
    pub(crate) whole: Option<Hashes>,
    trailer_repr: Vec<HeaderValue>,
}

pub(crate) enum ContentCheck {
    Match,
    Mismatch,
    /// The check is required and not possible.
    Unverifiable(Refusal),
    /// The trailer section has digests that were not announced. The content must be read back from the store.
    NotHashed(Vec<Digest>),
}

impl Check {
    /// Returns the check that `fields`, the header section, asks for in `dialect`, for content that begins at `at`. `whole`
    /// are the running hashes of the representation up to `at`, if it is to be hashed.
    pub(crate) fn of(dialect: Dialect, fields: &HeaderMap, at: Offset, whole: Option<Hashes>) -> Self {
        let expected = dialect.expected_digests(fields);
        let said = expected.header.iter().map(|digest| digest.algorithm);
        let functions = match (&expected.header[..], expected.in_trailer, expected.strictness) {
            ([], false, _) => Vec::new(),
            (_, false, _) => algorithms(said),
            // The algorithm of a trailer is not known in advance.
            (_, true, Strictness::Lenient) => Algorithm::IN_FIELDS.to_vec(),
            (_, true, Strictness::Strict) => checksum::ALGORITHMS.to_vec(),
        };
        let content = (!functions.is_empty()).then(|| Hashes::new(&functions, at));
        Self { dialect, expected, trailing: Ok(Vec::new()), content, whole, trailer_repr: Vec::new() }
    }

    /// Returns whether the content, or the representation, is hashed as it arrives.
    pub(crate) fn is_hashed(&self) -> bool {
        self.content.is_some() || self.whole.is_some()
    }

    pub(crate) fn is_pending(&self) -> bool {
        self.content.is_some()
    }

    /// Returns whether unverified content must be discarded.
    pub(crate) fn is_strict(&self) -> bool {
        self.is_pending() && self.expected.strictness == Strictness::Strict
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        for hashes in self.content.iter_mut().chain(&mut self.whole) {
            hashes.update(bytes);
        }
    }

    pub(crate) fn trailers(&mut self, fields: &HeaderMap) {
        self.trailing = self.dialect.trailer_digests(fields);
        self.trailer_repr.extend(self.dialect.trailer_repr_digest(fields));
    }

    /// Takes the `Repr-Digest` lines of the trailer section, to be stored with the header fields of the creation. They may
    /// name an algorithm that is not being hashed, so the running hashes of the representation are dropped.
    //= IETF-DIG-08
    pub(crate) fn trailer_repr_digest(&mut self) -> Vec<HeaderValue> {
        if !self.trailer_repr.is_empty() {
            self.whole = None;
        }
        std::mem::take(&mut self.trailer_repr)
    }

    /// Compares complete content with its digests.
    //= IETF-DIG-06, IETF-DIG-07, TUS1-CHK-08
    pub(crate) fn compare(&mut self) -> ContentCheck {
        let trailing = match &self.trailing {
            Ok(trailing) => trailing,
            Err(refusal) => return ContentCheck::Unverifiable(refusal.clone()),
        };
        let is_strict = self.expected.strictness == Strictness::Strict;
        let Some(content) = self.content.take() else {
            return match &trailing[..] {
                [] => ContentCheck::Match,
                given => ContentCheck::NotHashed(given.to_vec()),
            };
        };
        let unverifiable = |wrong| ContentCheck::Unverifiable(Refusal::field("Upload-Checksum", wrong));
        if is_strict && self.expected.in_trailer && trailing.is_empty() {
            return unverifiable("was announced as a trailer and is missing");
        }
        if is_strict && !agree(trailing, &self.expected.header) {
            return unverifiable("differs between the header and the trailer section");
        }
        let found = content.digests();
        if agree(&self.expected.header, &found) && agree(trailing, &found) {
            ContentCheck::Match
        } else {
            ContentCheck::Mismatch
        }
    }
}

/// Returns whether the stored bytes from `at` on match `said`.
pub(crate) async fn is_stored(
    said: &[Digest],
    id: UploadId,
    at: Offset,
    store: &dyn Store,
) -> Result<bool, Error> {
    let functions = algorithms(said.iter().map(|digest| digest.algorithm));
    let hashes = read_back(id, at, &functions, store).await?;
    Ok(agree(said, &hashes.digests()))
}

/// Returns whether no digest in `said` differs from the one of the same algorithm in `found`.
fn agree(said: &[Digest], found: &[Digest]) -> bool {
    said.iter().all(|said| found.iter().all(|found| found.algorithm != said.algorithm || found == said))
}

fn algorithms(all: impl Iterator<Item = Algorithm>) -> Vec<Algorithm> {
    let mut once = Vec::new();
    for algorithm in all {
        if !once.contains(&algorithm) {
            once.push(algorithm);
        }
    }
    once
}

#[derive(Default)]
pub(crate) struct Digests(Mutex<HashMap<UploadId, Hashes>>);

/// Returns the digests that the creation of an upload gave, the algorithm it asked for, and the algorithms of both.
fn requested(upload: &Upload) -> (Vec<Digest>, Option<Algorithm>, Vec<Algorithm>) {
    let fields = &upload.origin.fields;
    let (given, wanted) = (digest::parse(fields, &REPR_DIGEST), digest::preferred(fields));
    let all = algorithms(given.iter().map(|digest| digest.algorithm).chain(wanted));
    (given, wanted, all)
}

impl Digests {
    /// Takes the running hashes of an upload, if its representation is to be hashed. `None` if they would have to be read
    /// back from the store.
    pub(crate) fn begin(&self, upload: &Upload) -> Option<Hashes> {
        let (_, _, algorithms) = requested(upload);
        if algorithms.is_empty() {
            return None;
        }
        let kept = locked(&self.0).remove(&upload.id);
        let offset = upload.offset.offset();
        if offset == Offset::ZERO {
            Some(Hashes::new(&algorithms, Offset::ZERO))
        } else {
            kept.filter(|kept| kept.at == offset)
        }
    }

    /// Keeps the running hashes of an upload for its next request.
    pub(crate) fn keep(&self, upload: &Upload, hashes: Option<Hashes>) {
        let Some(hashes) = hashes.filter(|hashes| hashes.at == upload.offset.offset()) else { return };
        let mut kept = locked(&self.0);
        if kept.len() >= HASHES_MAX
            && let Some(any) = kept.keys().next().copied()
        {
            kept.remove(&any);
        }
        kept.insert(upload.id, hashes);
    }

    /// Compares the complete representation with the digests of its creation, and returns the digest that the creation
    /// asked for.
    //= IETF-DIG-01, IETF-DIG-02, IETF-DIG-03, IETF-DIG-04
    pub(crate) async fn finish(
        &self,
        upload: &Upload,
        hashes: Option<Hashes>,
        store: &dyn Store,
    ) -> Result<ReprCheck, Error> {
        let (given, wanted, algorithms) = requested(upload);
        if algorithms.is_empty() {
            return Ok(ReprCheck::Match(None));
        }
        let hashes = match hashes.filter(|hashes| hashes.at == upload.offset.offset()) {
            Some(hashes) => hashes,
            None => read_back(upload.id, Offset::ZERO, &algorithms, store).await?,
        };
        let found = hashes.digests();
        if !agree(&given, &found) {
            return Ok(ReprCheck::Mismatch);
        }
        Ok(ReprCheck::Match(found.into_iter().find(|digest| Some(digest.algorithm) == wanted)))
    }

    pub(crate) fn forget(&self, id: UploadId) {
        locked(&self.0).remove(&id);
    }
}

/// The result of comparing a complete representation with its digests.
pub(crate) enum ReprCheck {
    /// The digests match, or there are none. Holds the digest that the creation asked for.
    Match(Option<Digest>),
    Mismatch,
}

async fn read_back(
    id: UploadId,
    at: Offset,
    algorithms: &[Algorithm],
    store: &dyn Store,
) -> Result<Hashes, Error> {
    let mut hashes = Hashes::new(algorithms, at);
    let mut reader = store.read(id, at).await?;
    while let Some(bytes) = reader.next().await? {
        hashes.update(&bytes);
    }
    Ok(hashes)
}
