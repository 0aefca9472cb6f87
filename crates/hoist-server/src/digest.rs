//! End-to-end integrity: hashes while content streams by, compared with what its sender said (RFC 9530, and the checksums of
//! tus 1.0).
//!
//! Owns hashing of one request's content and of whole representations across requests and restarts. The fields are
//! `hoist-proto`'s. A running hash lives in memory only: whoever misses it (after a restart, or because too many were
//! kept) gets it by reading back what is stored.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

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

/// Running hashes that are kept between requests at the same time.
const KEPT_MAX: usize = 4096;

/// Hashes by some functions, over bytes from a known offset on.
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

/// What is to be hashed of one request, and what it should come to.
pub(crate) struct Check {
    dialect: Dialect,
    expected: ExpectedDigests,
    /// Said behind the content.
    trailing: Result<Vec<Digest>, Refusal>,
    content: Option<Hashes>,
    whole: Option<Hashes>,
    /// What came behind the content about the representation.
    behind: Vec<HeaderValue>,
}

/// How content that arrived whole compares with what was said of it.
pub(crate) enum Compared {
    /// It is what it should be, or nobody said anything.
    Right,
    /// It is something else.
    Wrong,
    /// It cannot be told, and should be.
    Unclear(Refusal),
    /// Behind it something was said that nobody had promised: what it hashes to has to be read back.
    Unread(Vec<Digest>),
}

impl Check {
    /// What `dialect` finds in `fields`, a request's header section, to be checked of its content, which begins at `at`;
    /// `whole` are the hashes of the representation up to there, if they are wanted.
    pub(crate) fn of(dialect: Dialect, fields: &HeaderMap, at: Offset, whole: Option<Hashes>) -> Self {
        let expected = dialect.expected_digests(fields);
        let said = expected.header.iter().map(|digest| digest.algorithm);
        let functions = match (&expected.header[..], expected.in_trailer, expected.strictness) {
            ([], false, _) => Vec::new(),
            (_, false, _) => algorithms(said),
            // Which function a trailer will use is not known before it comes.
            (_, true, Strictness::Lenient) => Algorithm::IN_FIELDS.to_vec(),
            (_, true, Strictness::Strict) => checksum::ALGORITHMS.to_vec(),
        };
        let content = (!functions.is_empty()).then(|| Hashes::new(&functions, at));
        Self { dialect, expected, trailing: Ok(Vec::new()), content, whole, behind: Vec::new() }
    }

    /// Whether the content may yet turn out to be none, so that nothing of it may be acknowledged before its end.
    pub(crate) fn is_pending(&self) -> bool {
        self.content.is_some()
    }

    /// Whether content of which it is not known in the end what it hashes to never counts.
    pub(crate) fn is_strict(&self) -> bool {
        self.is_pending() && self.expected.strictness == Strictness::Strict
    }

    /// Takes the next bytes.
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        for hashes in self.content.iter_mut().chain(&mut self.whole) {
            hashes.update(bytes);
        }
    }

    /// Takes the trailers.
    pub(crate) fn trailers(&mut self, fields: &HeaderMap) {
        self.trailing = self.dialect.trailer_digests(fields);
        self.behind.extend(self.dialect.trailer_repr_digest(fields));
    }

    /// What came behind the content about the representation, to be kept with what was said of it before. What is hashed
    /// of it so far need not be what that asks for.
    //= IETF-DIG-08
    pub(crate) fn trailer_repr_digest(&mut self) -> Vec<HeaderValue> {
        if !self.behind.is_empty() {
            self.whole = None;
        }
        std::mem::take(&mut self.behind)
    }

    /// Whether content that arrived whole is what its sender said.
    //= IETF-DIG-06, IETF-DIG-07, TUS1-CHK-08
    pub(crate) fn compare(&mut self) -> Compared {
        let trailing = match &self.trailing {
            Ok(trailing) => trailing,
            Err(refusal) => return Compared::Unclear(refusal.clone()),
        };
        let is_strict = self.expected.strictness == Strictness::Strict;
        let Some(content) = self.content.take() else {
            return if trailing.is_empty() { Compared::Right } else { Compared::Unread(trailing.clone()) };
        };
        let unclear = |wrong| Compared::Unclear(Refusal::field("Upload-Checksum", wrong));
        if is_strict && self.expected.in_trailer && trailing.is_empty() {
            return unclear("was promised behind the content, and did not come");
        }
        if is_strict && !agree(trailing, &self.expected.header) {
            return unclear("says something else behind the content than before it");
        }
        let found = content.digests();
        if agree(&self.expected.header, &found) && agree(trailing, &found) {
            Compared::Right
        } else {
            Compared::Wrong
        }
    }

    /// The hashes of the representation so far.
    pub(crate) fn whole(self) -> Option<Hashes> {
        self.whole
    }
}

/// Whether stored bytes from `at` on are what was said of them.
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

/// Whether nothing that was said is contradicted.
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

/// The running hashes of open uploads.
#[derive(Default)]
pub(crate) struct Digests(Mutex<HashMap<UploadId, Hashes>>);

/// What the creator of an upload said and wants of the whole.
struct Wishes {
    said: Vec<Digest>,
    wanted: Option<Algorithm>,
}

impl Wishes {
    fn of(upload: &Upload) -> Self {
        let fields = &upload.origin.fields;
        Self { said: digest::parse(fields, &REPR_DIGEST), wanted: digest::preferred(fields) }
    }

    fn algorithms(&self) -> Vec<Algorithm> {
        algorithms(self.said.iter().map(|digest| digest.algorithm).chain(self.wanted))
    }
}

impl Digests {
    /// The hashes of an upload's bytes so far, if anybody wants them and they need not be read back for it.
    pub(crate) fn begin(&self, upload: &Upload) -> Option<Hashes> {
        let algorithms = Wishes::of(upload).algorithms();
        if algorithms.is_empty() {
            return None;
        }
        let kept = self.kept().remove(&upload.id);
        let offset = upload.offset.offset();
        if offset == Offset::ZERO {
            Some(Hashes::new(&algorithms, Offset::ZERO))
        } else {
            kept.filter(|kept| kept.at == offset)
        }
    }

    /// Keeps the hashes of an upload for its next request.
    pub(crate) fn keep(&self, upload: &Upload, hashes: Option<Hashes>) {
        let Some(hashes) = hashes.filter(|hashes| hashes.at == upload.offset.offset()) else { return };
        let mut kept = self.kept();
        if kept.len() >= KEPT_MAX
            && let Some(any) = kept.keys().next().copied()
        {
            kept.remove(&any);
        }
        kept.insert(upload.id, hashes);
    }

    /// Whether a whole upload is what its creator said, and the digest its creator wants to be told.
    //= IETF-DIG-01, IETF-DIG-02, IETF-DIG-03, IETF-DIG-04
    pub(crate) async fn finish(
        &self,
        upload: &Upload,
        hashes: Option<Hashes>,
        store: &dyn Store,
    ) -> Result<Outcome, Error> {
        let wishes = Wishes::of(upload);
        let algorithms = wishes.algorithms();
        if algorithms.is_empty() {
            return Ok(Outcome::Right(None));
        }
        let hashes = match hashes.filter(|hashes| hashes.at == upload.offset.offset()) {
            Some(hashes) => hashes,
            None => read_back(upload.id, Offset::ZERO, &algorithms, store).await?,
        };
        let found = hashes.digests();
        if !agree(&wishes.said, &found) {
            return Ok(Outcome::Wrong);
        }
        Ok(Outcome::Right(found.into_iter().find(|digest| Some(digest.algorithm) == wishes.wanted)))
    }

    /// Forgets an upload.
    pub(crate) fn forget(&self, id: UploadId) {
        self.kept().remove(&id);
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, HashMap<UploadId, Hashes>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What comparing a whole representation came to.
pub(crate) enum Outcome {
    /// It is what it should be; its creator wants to be told this.
    Right(Option<Digest>),
    /// It is not.
    Wrong,
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
