//! The calls of hooks, as the steps of an upload make them, and the effects of the answers.
//!
//! Owns the choice of uploads that have hooks, and the checks of what a hook changes. A change that cannot be made is a
//! mistake of the operator's: the peer gets 500, the log says why, and nothing is stored.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use hoist_proto::amendment::Amendment;
use hoist_proto::dialect::tus1::metadata::{self, Metadata};
use hoist_proto::refusal::{Reason, Refusal};
use hoist_proto::types::UploadId;
use hoist_proto::upload::{Family, Phase, TargetResponse, Upload};
use http::HeaderValue;
use http::request::Parts;

use crate::claim::Claim;
use crate::file_path;
use crate::hook::queue::Background;
use crate::hook::{Answer, Call, CallFiles, Point, Stop};
use crate::request_facts::RequestFacts;
use crate::request_scope::RequestScope;
use crate::shared::Shared;

/// The most octets of a path that a hook chooses for the URL of an upload.
const ALIAS_OCTETS_MAX: usize = 1024;

impl Shared {
    /// Returns a request as the operations on its upload see it.
    pub(crate) fn scope(&self, head: &Parts) -> RequestScope {
        let facts = if self.hooks.is_any() || self.outbox.is_some() {
            RequestFacts::of(head)
        } else {
            RequestFacts::default()
        };
        RequestScope::new(facts)
    }

    /// Asks the hooks whether an upload may be created, and makes the changes that they want. Returns the claim of the upload,
    /// which is another one if they have chosen its URL.
    pub(crate) async fn pre_create(&self, claim: Claim, upload: &mut Upload) -> Result<Claim, Refusal> {
        if !self.hooks.wants(Point::PreCreate) || !upload.has_events() {
            return Ok(claim);
        }
        let call = Call {
            id: String::new(),
            files: None,
            ..self.call(Point::PreCreate, upload, 0, &claim.scope.facts)
        };
        let Answer { amendment, id, metadata, path, .. } = self.hooks.ask(&call, &self.observers).await?;
        if let Some(metadata) = metadata {
            describe(upload, metadata)?;
        }
        if let Some(path) = path {
            if !self.target.takes_paths() {
                return Err(mistaken(upload, "Storage.Path needs a target that has files (--target files)"));
            }
            if !file_path::is_relative(&path) {
                return Err(mistaken(
                    upload,
                    "Storage.Path is not a path beneath the directory of the target",
                ));
            }
            upload.file = Some(path);
        }
        claim.scope.amend(amendment);
        match id {
            Some(alias) => self.rename(claim, upload, alias).await,
            None => Ok(claim),
        }
    }

    /// Gives a new upload the id that belongs to the path of its URL, and returns the claim of that id.
    async fn rename(&self, claim: Claim, upload: &mut Upload, alias: String) -> Result<Claim, Refusal> {
        if upload.family == Family::Token {
            return Err(mistaken(upload, "the ID of a token upload cannot change, because it has no URL"));
        }
        if !is_alias(&alias) {
            return Err(mistaken(
                upload,
                "the ID is not a path of letters, digits and the signs that a URL may have",
            ));
        }
        // An id in the form of the server's own needs no other name.
        let (id, alias) = match alias.parse::<UploadId>() {
            Ok(id) if id.to_string() == alias => (id, None),
            _ => (self.ids.of_alias(&alias), Some(alias)),
        };
        let taken = || mistaken(upload, "the ID is taken by another upload");
        let renamed = self.claims.take_idle(id).await.map_err(|_| taken())?.of(&claim.scope);
        if let Some(known) = self.fetch(&renamed).await? {
            if !known.is_expired(self.clock.now()) {
                return Err(taken());
            }
            self.remove(&renamed, &known, crate::transition::Removal::Expired).await?;
        }
        (upload.id, upload.alias) = (id, alias);
        renamed.scope.set_alias(upload.alias.as_deref());
        Ok(renamed)
    }

    /// Asks the hooks before an upload with all its content becomes complete. Returns their changes to the answer.
    pub(crate) async fn pre_finish(&self, claim: &Claim, upload: &Upload) -> Result<Amendment, Refusal> {
        if !self.asks_before_finish(upload) {
            return Ok(Amendment::default());
        }
        let offset = upload.offset.offset().get();
        let call = self.call(Point::PreFinish, upload, offset, &claim.scope.facts);
        match self.hooks.ask(&call, &self.observers).await {
            Ok(Answer { amendment, .. }) => {
                claim.scope.amend(amendment.clone());
                Ok(amendment)
            }
            Err(refusal) => {
                claim.scope.refuse_finish(refusal.clone());
                Err(refusal)
            }
        }
    }

    /// Returns whether hooks are asked before an upload becomes complete.
    pub(crate) fn asks_before_finish(&self, upload: &Upload) -> bool {
        self.hooks.wants(Point::PreFinish) && upload.has_events()
    }

    /// Asks the hooks before a client cancels an upload.
    pub(crate) async fn pre_terminate(&self, claim: &Claim, upload: &Upload) -> Result<(), Refusal> {
        if !self.hooks.wants(Point::PreTerminate) || !upload.has_events() {
            return Ok(());
        }
        let offset = upload.offset.offset().get();
        let call = self.call(Point::PreTerminate, upload, offset, &claim.scope.facts);
        let Answer { amendment, .. } = self.hooks.ask(&call, &self.observers).await?;
        claim.scope.amend(amendment);
        Ok(())
    }

    /// Tells the hooks of what has happened, without waiting for them.
    pub(crate) fn notify(&self, point: Point, upload: &Upload, offset: u64, request: &RequestFacts) {
        self.notify_stoppable(point, upload, offset, request, None);
    }

    /// Does the same, and lets them end the transfer.
    pub(crate) fn notify_stoppable(
        &self,
        point: Point,
        upload: &Upload,
        offset: u64,
        request: &RequestFacts,
        stop: Option<Arc<Stop>>,
    ) {
        if !self.hooks.wants(point) || !upload.has_events() {
            return;
        }
        let call = Call { stop, ..self.call(point, upload, offset, request) };
        let background = Background {
            hooks: self.hooks.clone(),
            observers: self.observers.clone(),
            tasks: self.tasks.clone(),
            draining: self.draining.clone(),
        };
        self.hook_queue.add(call, &background);
    }

    fn call(&self, point: Point, upload: &Upload, offset: u64, request: &RequestFacts) -> Call {
        let mut files =
            self.store.paths(upload).map(|paths| CallFiles { content: paths.content, record: paths.record });
        if let (Some(files), Some(moved)) = (&mut files, self.file_of(upload)) {
            files.content = moved;
        }
        let mut upload = upload.clone();
        // The content of an answer may be large, and no receiver sees it.
        if let Phase::Delivered(answer) | Phase::Failed(answer) = &mut upload.phase {
            *answer = TargetResponse::of(answer.status);
        }
        Call {
            point,
            id: upload.url_path(),
            upload,
            offset,
            files,
            endpoint: self.endpoint.clone(),
            request: request.clone(),
            stop: None,
            json: OnceLock::new(),
        }
    }

    /// Returns the file of an upload that its target has taken out of the store.
    fn file_of(&self, upload: &Upload) -> Option<PathBuf> {
        let Phase::Delivered(_) = upload.phase else { return None };
        self.target.file(upload)
    }
}

/// Logs a mistake of the operator's, and returns the refusal of the request that meets it.
fn mistaken(upload: &Upload, why: &str) -> Refusal {
    let (hook, upload) = (Point::PreCreate.name(), upload.id.short());
    tracing::error!(hook, %upload, why, "the hook asks for a change that cannot be made; nothing is stored");
    Reason::Internal.into()
}

/// Replaces the metadata of a new upload, and the fields that follow from them.
fn describe(upload: &mut Upload, pairs: Vec<(String, String)>) -> Result<(), Refusal> {
    let pairs: Metadata = pairs.into_iter().map(|(key, text)| (key, text.into_bytes())).collect();
    let Some(value) = metadata::value(&pairs) else {
        let why = "MetaData has a key with other signs than visible ASCII without commas, or is too long";
        return Err(mistaken(upload, why));
    };
    metadata::describe(&mut upload.origin.fields, &pairs, value);
    Ok(())
}

/// Returns whether a text can be the path of an upload's URL below the endpoint, as clients send it.
fn is_alias(text: &str) -> bool {
    let is_plain = |octet: u8| octet.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@%/".contains(&octet);
    let is_segment = |segment: &str| !matches!(segment, "" | "." | "..");
    text.len() <= ALIAS_OCTETS_MAX
        && text.bytes().all(is_plain)
        && text.split('/').all(is_segment)
        && HeaderValue::from_str(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_are_paths_without_signs_that_clients_change() {
        for good in ["a", "a/b/c", "a%20b", "2026-11-28_x~(1)", "a:b@c;d=e,f", "%"] {
            assert!(is_alias(good), "{good}");
        }
        for bad in
            ["", "/a", "a/", "a//b", ".", "a/../b", "./a", "a b", "a?b", "a#b", "a\\b", "\u{e9}", "a\nb"]
        {
            assert!(!is_alias(bad), "{bad:?}");
        }
        assert!(!is_alias(&"a".repeat(ALIAS_OCTETS_MAX + 1)));
    }

    #[test]
    fn metadata_replace_all_that_the_client_said() {
        let mut upload = hoist_proto::testing::upload(UploadId::from_bits([1; 16]));
        upload.origin.fields.insert("content-type", HeaderValue::from_static("image/png"));
        let pair = |key: &str, text: &str| (key.to_owned(), text.to_owned());
        describe(&mut upload, vec![pair("filename", "a.txt"), pair("by", "me")]).expect("good keys");
        assert_eq!(upload.origin.fields["content-disposition"], "attachment; filename*=UTF-8''a.txt");
        assert_eq!(upload.origin.fields["upload-metadata"], "filename YS50eHQ=,by bWU=");
        assert!(!upload.origin.fields.contains_key("content-type"));
        describe(&mut upload, Vec::new()).expect("no keys");
        assert!(upload.origin.fields.is_empty());
        assert!(describe(&mut upload, vec![pair("a b", "c")]).is_err());
    }
}
