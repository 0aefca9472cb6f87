//! What the machine makes of the answers where nothing can be resumed: one ordinary request.
//!
//! It is made again only where the first one cannot have been carried out, or where its method promises that twice is the
//! same as once.

use http::{HeaderMap, Method, Request, StatusCode};

use super::{Aim, Failure, Moment, Trouble, Uploader};
use crate::dialect::answer::{self, Said};
use crate::operation::Operation;
use crate::types::Offset;

/// The head of the request.
pub(super) fn request(target: &str, operation: &Operation) -> Result<Request<()>, http::Error> {
    let mut head = Request::builder().uri(target).body(())?;
    if let Operation::Create(create) = operation {
        *head.method_mut() = create.origin.method.clone();
        head.headers_mut().extend(create.origin.fields.clone());
    }
    Ok(head)
}

impl Uploader {
    pub(super) fn plain_lost(&mut self, reached: bool, moment: Moment) {
        match self.aim {
            // What was not sent whole was not carried out.
            Aim::Create if reached && self.sent_all() && self.origin.method != Method::PUT => {
                self.fail(Failure::Unanswered);
            }
            Aim::Create => self.again(Aim::Create, Trouble::Lost, None, moment),
            Aim::Retrieve | Aim::Append | Aim::Replay | Aim::Cancel(_) | Aim::Done | Aim::Failed(_) => {}
        }
    }

    pub(super) fn plain_answered(&mut self, status: StatusCode, fields: &HeaderMap, moment: Moment) {
        let trouble = Trouble::Status(status);
        match (self.aim, answer::said(status)) {
            (Aim::Create, Said::Done) => {
                self.place(Offset::new(self.under_way.end));
                self.aim = Aim::Done;
            }
            (Aim::Create, Said::Later)
                if answer::is_in_doubt(status) && self.sent_all() && self.origin.method != Method::PUT =>
            {
                self.fail(Failure::Rejected(status));
            }
            (Aim::Create, Said::Later) => {
                self.again(Aim::Create, trouble, answer::retry_after(fields), moment);
            }
            (Aim::Create, Said::Conflict | Said::Unknown | Said::No) => self.fail(Failure::Rejected(status)),
            (Aim::Retrieve | Aim::Append | Aim::Replay | Aim::Cancel(_) | Aim::Done | Aim::Failed(_), _) => {}
        }
    }
}
