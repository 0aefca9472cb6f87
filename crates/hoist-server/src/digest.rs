//! End-to-end integrity: hashes while content streams by, compared with what its sender said (RFC 9530).
//!
//! Owns hashing of one request's content and of whole representations across requests and restarts. The fields are
//! `hoist-proto`'s. A running hash lives in memory only: whoever misses it (after a restart, or because too many were
//! kept) gets it by reading back what is stored.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use hoist_proto::digest::{self, Algorithm, CONTENT_DIGEST, Digest, REPR_DIGEST};
use hoist_proto::types::{Offset, UploadId};
use hoist_proto::upload::Upload;
use hoist_store::store::{Error, Store};
use http::{HeaderMap, HeaderValue};
use sha2::{Digest as _, Sha256, Sha512};

/// Running hashes that are kept between requests at the same time.
const KEPT_MAX: usize = 4096;

/// Hashes by some functions, over bytes from a known offset on.
#[derive(Clone)]
pub(crate) struct Hashes {
    hashers: Vec<Hasher>,
    at: Offset,
}

#[derive(Clone)]
enum Hasher {
    Sha256(Sha256),
    Sha512(Box<Sha512>),
}

impl Hashes {
    fn new(algorithms: &[Algorithm]) -> Self {
        let hasher = |algorithm: &Algorithm| match algorithm {
            Algorithm::Sha256 => Hasher::Sha256(Sha256::new()),
            Algorithm::Sha512 => Hasher::Sha512(Box::default()),
        };
        Self { hashers: algorithms.iter().map(hasher).collect(), at: Offset::ZERO }
    }

    fn update(&mut self, bytes: &[u8]) {
        for hasher in &mut self.hashers {
            match hasher {
                Hasher::Sha256(hasher) => hasher.update(bytes),
                Hasher::Sha512(hasher) => hasher.update(bytes),
            }
        }
        self.at = self.at.advance(bytes.len() as u64).unwrap_or(self.at);
    }

    fn digests(self) -> Vec<Digest> {
        let digest = |hasher| match hasher {
            Hasher::Sha256(hasher) => {
                Digest { algorithm: Algorithm::Sha256, octets: hasher.finalize().to_vec() }
            }
            Hasher::Sha512(hasher) => {
                Digest { algorithm: Algorithm::Sha512, octets: hasher.finalize().to_vec() }
            }
        };
        self.hashers.into_iter().map(digest).collect()
    }
}

/// What is to be hashed of one request, and what it should come to.
pub(crate) struct Check {
    said: Vec<Digest>,
    content: Option<Hashes>,
    whole: Option<Hashes>,
    /// Whether digests mean something in the request.
    reads: bool,
    /// What came behind the content about the representation.
    behind: Vec<HeaderValue>,
}

impl Check {
    /// What `fields`, a request's header section, asks for of its content; `whole` are the hashes of the representation
    /// up to where the content begins, if they are wanted.
    pub(crate) fn of(fields: Option<&HeaderMap>, whole: Option<Hashes>) -> Self {
        let said = fields.map(|fields| digest::said(fields, &CONTENT_DIGEST)).unwrap_or_default();
        let promised = fields.is_some_and(|fields| {
            let trailers = fields.get_all(http::header::TRAILER).iter().filter_map(|line| line.to_str().ok());
            trailers
                .flat_map(|line| line.split(','))
                .any(|name| name.trim().eq_ignore_ascii_case("content-digest"))
        });
        let content = match (&said[..], promised) {
            ([], false) => None,
            // Which function a trailer will use is not known before it comes.
            (_, true) => Some(Hashes::new(&Algorithm::ALL)),
            (said, false) => Some(Hashes::new(&algorithms(said.iter().map(|digest| digest.algorithm)))),
        };
        Self { said, content, whole, reads: fields.is_some(), behind: Vec::new() }
    }

    /// Whether the content may yet turn out to be none, so that nothing of it may be acknowledged before its end.
    pub(crate) fn is_pending(&self) -> bool {
        self.content.is_some()
    }

    /// Takes the next bytes.
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        for hashes in self.content.iter_mut().chain(&mut self.whole) {
            hashes.update(bytes);
        }
    }

    /// Takes the trailers.
    pub(crate) fn trailers(&mut self, fields: &HeaderMap) {
        if !self.reads {
            return;
        }
        self.said.extend(digest::said(fields, &CONTENT_DIGEST));
        self.behind.extend(fields.get_all(REPR_DIGEST).iter().cloned());
    }

    /// What came behind the content about the representation, to be kept with what was said of it before. What is hashed
    /// of it so far need not be what that asks for.
    //= IETF-DIG-08
    pub(crate) fn said_behind(&mut self) -> Vec<HeaderValue> {
        if !self.behind.is_empty() {
            self.whole = None;
        }
        std::mem::take(&mut self.behind)
    }

    /// Whether content that arrived whole is what its sender said.
    //= IETF-DIG-06, IETF-DIG-07
    pub(crate) fn holds(&mut self) -> bool {
        let Some(content) = self.content.take() else { return true };
        agree(&self.said, &content.digests())
    }

    /// The hashes of the representation so far.
    pub(crate) fn whole(self) -> Option<Hashes> {
        self.whole
    }
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
        Self { said: digest::said(fields, &REPR_DIGEST), wanted: digest::wanted(fields) }
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
            Some(Hashes::new(&algorithms))
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
            None => read_back(upload.id, &algorithms, store).await?,
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

async fn read_back(id: UploadId, algorithms: &[Algorithm], store: &dyn Store) -> Result<Hashes, Error> {
    let mut hashes = Hashes::new(algorithms);
    let mut reader = store.read(id, Offset::ZERO).await?;
    while let Some(bytes) = reader.next().await? {
        hashes.update(&bytes);
    }
    Ok(hashes)
}
