//! Requests in no dialect on the URL of an upload. They are answered in the dialect of the upload, or with its content.

use hoist_proto::dialect::ietf::IetfCodec;
use hoist_proto::dialect::{Context, Dialect, Resource, tus1};
use hoist_proto::engine::Decision;
use hoist_proto::operation::{Decoded, Operation, Subject};
use hoist_proto::refusal::{Reason, Refusal};
use hoist_proto::upload::{Family, Phase};
use http::Method;
use http::request::Parts;

use crate::answer::{self, Answer};
use crate::download::download;
use crate::engage::{Admitted, Engaged, FamilyFrom, unsupported};
use crate::intake::Content;
use crate::request_scope::RequestScope;
use crate::shared::{Hoist, Shared};

impl Hoist {
    //= IETF-VER-08
    pub(crate) async fn answer_by_url<B: Content>(
        &self,
        resource: Resource,
        head: &Parts,
        body: B,
        context: &Context<'_>,
        scope: &RequestScope,
    ) -> Result<Answer, Refusal> {
        let shared = self.shared();
        let Resource::Upload(id) = resource else { return Err(Reason::NotFound.into()) };
        let operation = if head.method == Method::DELETE { Operation::Cancel } else { Operation::Retrieve };
        let decoded = Decoded { subject: Subject::Id(id), family: Family::Conventional, operation };
        let mut admitted = shared.admit(decoded, head, scope.clone()).await?;
        if head.method == Method::HEAD
            && let Some((family, reply)) = shared.answer_from_memory(&mut admitted, FamilyFrom::Upload)
            && unsupported(family, &head.method).is_none()
        {
            return Ok(answer::encode(shared.dialect_of(family), Ok(reply), context, scope));
        }
        Box::pin(self.run_by_url(head, body, context, admitted, scope)).await
    }

    async fn run_by_url<B: Content>(
        &self,
        head: &Parts,
        mut body: B,
        context: &Context<'_>,
        admitted: Admitted,
        scope: &RequestScope,
    ) -> Result<Answer, Refusal> {
        let shared = self.shared();
        let claimed = match self.engage(FamilyFrom::Upload, admitted, &head.method, &mut body).await? {
            Engaged::Answered(family, outcome) => {
                return Ok(answer::encode(shared.dialect_of(family), outcome, context, scope));
            }
            Engaged::Claimed(claimed) => claimed,
        };
        if shared.settings.downloads
            && head.method == Method::GET
            && let (Decision::Answer(_), Some(upload)) = (&claimed.decision, &claimed.known)
            && let Phase::Delivered(delivered) = &upload.phase
        {
            return Ok(download(shared, claimed.claim, upload, delivered, head).await);
        }
        let family = claimed.request.family;
        let outcome = match (&claimed.decision, unsupported(family, &head.method)) {
            (Decision::Refuse(refusal), _) => Err(refusal.clone()),
            (_, Some(refusal)) => Err(refusal),
            (Decision::Answer(reply), None) => Ok(reply.clone()),
            (_, None) => self.own(|shared| async move { claimed.answer(&shared).await }).await,
        };
        Ok(answer::encode(shared.dialect_of(family), outcome, context, scope))
    }
}

impl Shared {
    /// Returns the dialect in which a request that names none is answered about an upload of this family.
    fn dialect_of(&self, family: Family) -> Option<Dialect> {
        match family {
            Family::Ietf => Some(Dialect::Ietf(IetfCodec::unversioned())),
            Family::Conventional => Some(Dialect::Conventional),
            Family::Tus1 => Some(self.unversioned_tus()),
            // A token upload has no URL.
            _ => None,
        }
    }

    pub(crate) fn unversioned_tus(&self) -> Dialect {
        Dialect::Tus1(tus1::Tus1Codec::unversioned(self.settings.tus_extensions))
    }
}
