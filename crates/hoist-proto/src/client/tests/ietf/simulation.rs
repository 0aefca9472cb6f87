//! The machine against engine and dialect in all versions: a link that interrupts, delays and loses requests, interim
//! responses that do not all arrive, limits that are not all announced, and a disk that forgets what was not synced. A run
//! is determined by its seed, which the panic of a failing run names.

use std::collections::HashMap;

use super::super::simulation::{BusyLoopCheck, SeededRng};
use super::*;
use crate::dialect::ietf::IetfCodec;
use crate::dialect::ietf::client::response;
use crate::dialect::{Context, Detected, Dialect, DialectOptions, Resource, detect};
use crate::engine::{self, Decision, End, Ending, Plan, Verdict};
use crate::operation::{Decoded, Operation, Reply, Subject};
use crate::policy::{Limits, Policy};
use crate::refusal::{InterruptCause, Reason};
use crate::types::{Durable, Timestamp, UploadId};
use crate::upload::{Phase, TargetResponse, Upload};

mod run;

const SEEDS: u64 = 10_000;
const BASE: &str = "https://h.example/uploads";

/// An upload on the server: its record, its bytes, the number of bytes that survive a crash, and the highest offset that
/// was acknowledged.
#[derive(Default)]
struct StoredUpload {
    record: Option<Upload>,
    bytes: Vec<u8>,
    synced: usize,
    acknowledged: u64,
}

impl StoredUpload {
    fn sync(&mut self) -> Durable {
        self.synced = self.bytes.len();
        Durable::attest(Offset::new(self.synced as u64))
    }

    /// Loses power. Any part of what was not synced may be on the disk nevertheless.
    fn crash(&mut self, dice: &mut SeededRng) {
        let lucky = dice.up_to((self.bytes.len() - self.synced) as u64);
        self.bytes.truncate(self.synced + usize::try_from(lucky).expect("small"));
    }

    /// Checks that acknowledged offsets never decrease and are synced.
    fn acknowledge(&mut self, fields: &HeaderMap, codec: IetfCodec) {
        let Some(offset) = response(codec.version, StatusCode::OK, fields).state.offset else { return };
        assert!(
            offset.get() >= self.acknowledged,
            "the offset went back from {} to {offset}",
            self.acknowledged
        );
        assert!(offset.get() <= self.synced as u64, "{offset} was acknowledged, {} is synced", self.synced);
        self.acknowledged = offset.get();
    }
}

struct Server {
    policy: Policy,
    uploads: HashMap<UploadId, StoredUpload>,
    created: u8,
    /// The representations that the target received.
    delivered: Vec<Vec<u8>>,
    answer: StatusCode,
    now: Timestamp,
    /// The probability of a crash between the last byte and the answer, in percent.
    crashes: u64,
    /// The probability that it drops a complete upload between two requests, in percent.
    drops: u64,
}

/// A request whose content is being received.
struct Intake {
    id: UploadId,
    upload: Upload,
    plan: Plan,
    dialect: Dialect,
    codec: IetfCodec,
}

/// Status and fields.
type Response = (StatusCode, HeaderMap);

impl Intake {
    /// Returns the number of content bytes that are stored, and the end of the content.
    fn fits(&self, arrives: u64, range: &Range<u64>) -> (u64, End) {
        match self.plan.room.bytes {
            room if arrives > room => (room, End::OverLimit),
            _ if arrives < range.end - range.start => {
                (arrives, End::Interrupted(InterruptCause::Disconnected))
            }
            _ => (arrives, End::AllReceived),
        }
    }
}

enum Decided {
    Answered(Response),
    /// The announcement, if any, and the intake of the content.
    Receives(Option<Response>, Box<Intake>),
}

fn heads(head: http::Response<()>) -> Response {
    let (parts, ()) = head.into_parts();
    (parts.status, parts.headers)
}

impl Server {
    fn stored(&mut self, id: UploadId) -> &mut StoredUpload {
        self.uploads.entry(id).or_default()
    }

    /// Loads an upload for a request: earlier requests have ended, their bytes are synced, and a due delivery is done.
    fn load(&mut self, id: UploadId) -> Option<Upload> {
        let stored = self.uploads.get_mut(&id)?;
        let mut upload = Upload { offset: stored.sync(), ..stored.record.clone()? };
        if upload.awaits_delivery() {
            upload.length = Some(upload.offset.offset().into());
            upload.phase = Phase::Received;
            self.finish(upload, false);
            return self.uploads[&id].record.clone();
        }
        Some(upload)
    }

    fn finish(&mut self, upload: Upload, created: bool) -> Reply {
        let id = upload.id;
        let bytes = self.uploads[&id].bytes.clone();
        assert_eq!(upload.length, Some(Length::new(bytes.len() as u64)));
        self.delivered.push(bytes);
        let answer = TargetResponse::of(self.answer);
        let (upload, reply) = engine::deliver(upload, answer, created, &self.policy, self.now);
        self.stored(id).record = Some(upload);
        reply
    }

    /// Decides a request by its head.
    fn begin(&mut self, head: &Request<()>, declared: Option<u64>, dice: &mut SeededRng) -> Decided {
        let (parts, ()) = head.clone().into_parts();
        let below =
            parts.uri.path().strip_prefix("/uploads/").map(|name| name.parse().expect("an id it gave"));
        let place = below.map_or(Resource::Endpoint, Resource::Upload);
        let dialect =
            match detect(&parts, place, DialectOptions { rfc_interim: true, ..DialectOptions::default() }) {
                Detected::Dialect(dialect) => dialect,
                Detected::ByUpload => Dialect::Ietf(IetfCodec::unversioned()),
                other => panic!("no dialect: {other:?} {parts:?}"),
            };
        let Dialect::Ietf(codec) = dialect else { panic!("another dialect: {parts:?}") };
        let decoded = dialect.decode(&parts, place, declared).expect("a well-formed request");
        let Decoded { subject, family, operation } = decoded;
        let id = match subject {
            Subject::Id(id) => id,
            Subject::Fresh => {
                self.created += 1;
                UploadId::from_bits([self.created; 16])
            }
            Subject::Token(_) | Subject::Part(..) => panic!("no upload has a token"),
        };
        assert!(!matches!(operation, Operation::Reject(_)), "a malformed request: {parts:?}");
        let is_complete = self.load(id).is_some_and(|upload| upload.is_complete());
        if is_complete && dice.in_percent(self.drops) {
            self.uploads.remove(&id);
        }
        let known = self.load(id);
        let policy = self.policy.clone();
        let context =
            Context { base: BASE, alias: None, limits: &policy.limits, now: self.now, lifetime: None };
        let request = engine::UploadRequest { id, principal: None, family, operation };
        let (upload, plan) = match engine::decide(known.as_ref(), &request, &policy, self.now) {
            Decision::Create(upload, plan) | Decision::Receive(upload, plan) => (upload, plan),
            Decision::Cancel => {
                self.uploads.remove(&id);
                return Decided::Answered(heads(dialect.encode(&Reply::Cancelled, &context)));
            }
            Decision::Answer(reply) => {
                let answer = heads(dialect.encode(&reply, &context));
                self.stored(id).acknowledge(&answer.1, codec);
                return Decided::Answered(answer);
            }
            Decision::Refuse(refusal) => {
                let answer = heads(dialect.refuse(&refusal, &context));
                if self.uploads.contains_key(&id) {
                    self.stored(id).acknowledge(&answer.1, codec);
                }
                return Decided::Answered(answer);
            }
            Decision::Invalidate(refusal) => panic!("an unexpected refusal: {refusal:?}"),
        };
        assert!(declared.is_none_or(|bytes| bytes <= plan.room.bytes));
        assert_eq!(plan.at, Offset::new(self.stored(id).bytes.len() as u64));
        self.stored(id).record = Some(upload.clone());
        let announced = dialect.announcement(&request.operation, &parts, &upload, &context).map(heads);
        Decided::Receives(announced, Box::new(Intake { id, upload, plan, dialect, codec }))
    }

    /// Receives content, and may sync and acknowledge it by a 104.
    fn feed(&mut self, intake: &Intake, content: &[u8], acknowledges: bool) -> Option<Response> {
        let stored = self.stored(intake.id);
        stored.bytes.extend_from_slice(content);
        if !acknowledges {
            return None;
        }
        let offset = stored.sync();
        let interim = intake.dialect.progress(offset).map(heads)?;
        assert!(!interim.1.contains_key("location"));
        stored.acknowledge(&interim.1, intake.codec);
        Some(interim)
    }

    /// Ends the content. Returns the answer unless the server crashes.
    fn end(&mut self, intake: Intake, how: End, dice: &mut SeededRng) -> Option<Response> {
        let Intake { id, upload, plan, dialect, codec } = intake;
        if dice.in_percent(if how == End::AllReceived { self.crashes } else { 30 }) {
            // The request is never settled: the next one finds the bytes that are on the disk.
            self.stored(id).crash(dice);
            return None;
        }
        let ending = Ending { stored: self.stored(id).sync(), how };
        let (upload, verdict) = engine::settle(upload, &plan, &ending, self.now);
        if dice.in_percent(self.crashes) && !matches!(verdict, Verdict::Remove(_)) {
            // A crash between the record of the last byte and its delivery.
            self.stored(id).record = Some(upload);
            return None;
        }
        let limits = self.policy.limits;
        let context = Context { base: BASE, alias: None, limits: &limits, now: self.now, lifetime: None };
        let answer = match verdict {
            Verdict::Deliver { .. } => heads(dialect.encode(&self.finish(upload, plan.created), &context)),
            Verdict::Acknowledge(reply) => {
                self.stored(id).record = Some(upload);
                heads(dialect.encode(&reply, &context))
            }
            Verdict::Refuse(refusal) => {
                // A client that does not know the limits may send too little without declaring a size.
                let is_little = matches!(refusal.reason, Reason::TooSmall { .. });
                assert!(how != End::AllReceived || is_little, "an unexpected refusal: {refusal:?}");
                self.stored(id).record = Some(upload);
                heads(dialect.refuse(&refusal, &context))
            }
            Verdict::Remove(refusal) => {
                assert!(how != End::AllReceived, "an unexpected refusal: {refusal:?}");
                self.uploads.remove(&id);
                return Some(heads(dialect.refuse(&refusal, &context)));
            }
        };
        self.stored(id).acknowledge(&answer.1, codec);
        Some(answer)
    }
}
