//! Creates the uploads that a case presupposes, and deletes all uploads after it.

use std::collections::BTreeSet;

use super::super::case::{
    Case, Expect, FieldLines, GivenUpload, OffsetSpec, RequestSpec, RequestTarget, Status,
};
use super::super::request_builder::RequestBuilder;
use super::super::version::{CorpusDialect, Version};
use super::super::wire::{Exchange, Outgoing};
use super::{CaseRun, Differences};

impl CaseRun {
    /// Creates the given uploads of a case.
    pub(super) async fn set_up(&mut self, case: &Case) -> Result<(), Differences> {
        for (name, upload) in &case.given.uploads {
            self.create_given(upload, Some(name)).await.map_err(|why| setup_failed(&why))?;
        }
        match case.given.upload() {
            Some(upload) => self.create_given(&upload, None).await.map_err(|why| setup_failed(&why)),
            None => Ok(()),
        }
    }

    async fn create_given(&mut self, upload: &GivenUpload, name: Option<&String>) -> Result<(), Differences> {
        if self.version.dialect() == CorpusDialect::Tus1 {
            return self.create_given_tus(upload, name).await;
        }
        let creation = RequestSpec {
            complete: Some(false),
            length: upload.length,
            fields: upload.fields.clone(),
            content: upload.content.clone(),
            names: name.cloned(),
            ..RequestSpec::of("POST")
        };
        self.step(&creation, &Expect::success()).await?;
        if !upload.complete {
            return Ok(());
        }
        let append = RequestSpec {
            to: RequestTarget::Upload,
            complete: Some(true),
            offset: Some(OffsetSpec::Word("told".into())),
            ..RequestSpec::of("PATCH")
        };
        self.step(&append, &Expect::success()).await
    }

    /// Creates an upload with the core protocol and the creation extension only, plus deferral if the length is
    /// unknown.
    async fn create_given_tus(
        &mut self,
        upload: &GivenUpload,
        name: Option<&String>,
    ) -> Result<(), Differences> {
        let GivenUpload { content, length, complete, fields } = upload;
        let bytes = content.as_ref().map_or(0, |content| content.bytes().len() as u64);
        let mut creation = RequestSpec {
            length: length.or_else(|| complete.then_some(bytes)),
            fields: fields.clone(),
            names: name.cloned(),
            ..RequestSpec::of("POST")
        };
        if creation.length.is_none() {
            let defer = ("Upload-Defer-Length".to_owned(), FieldLines::One("1".into()));
            creation.fields.extend([defer]);
        }
        self.step(&creation, &Expect::success()).await?;
        if bytes == 0 {
            return Ok(());
        }
        let append = RequestSpec {
            to: RequestTarget::Upload,
            offset: Some(OffsetSpec::Is(0)),
            content: content.clone(),
            ..RequestSpec::of("PATCH")
        };
        self.step(&append, &Expect::success()).await
    }

    /// Deletes all uploads of the run.
    pub(super) async fn clean_up(&mut self) {
        let cancel = RequestSpec { to: RequestTarget::Upload, ..RequestSpec::of("DELETE") };
        let paths: BTreeSet<String> = match self.version.dialect() {
            CorpusDialect::Token => [self.endpoint.path().to_owned()].into(),
            CorpusDialect::Ietf | CorpusDialect::Tus1 => self.uploads.paths().collect(),
        };
        for path in paths {
            if let Ok(outgoing) = self.outgoing(&cancel)
                && let Ok(Exchange::Complete(responses)) =
                    self.exchange(&Outgoing { target: path.clone(), ..outgoing }).await
                && responses.success().is_some()
            {
                self.created.remove(&path);
            }
        }
        // Uploads of ordinary requests are deleted by ordinary requests.
        self.created.remove(self.endpoint.path());
        let plain = RequestBuilder {
            version: Version::Rfc,
            endpoint: &self.endpoint,
            token: "",
            uploads: &self.uploads,
        };
        for path in &self.created {
            if let Ok(outgoing) = plain.outgoing(&RequestSpec::of("DELETE")) {
                let _ = self.exchange(&Outgoing { target: path.clone(), ..outgoing }).await;
            }
        }
    }
}

fn setup_failed(why: &[String]) -> Differences {
    why.iter().map(|why| format!("cannot set up the case: {why}")).collect()
}

impl Expect {
    fn success() -> Self {
        Self { status: Some(Status::Class("2xx".into())), ..Self::default() }
    }
}
