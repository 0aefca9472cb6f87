//! The file format of records: an upload's state as JSON. hoist promises to read every version of it forever.
//!
//! Owns the text of a record, version 1. Leaves the place of records and their durability to the stores.
//!
//! A record is one JSON object with one member per line, so that an operator can read it with `cat`:
//!
//! ```json
//! {
//!   "version": 1,
//!   "id": "1m6rt34g64vr34c1m6rt34g64r",
//!   …
//!   "sha256": "…"
//! }
//! ```
//!
//! The last two lines are always the checksum and the closing brace. The checksum covers the bytes of all lines before
//! them, so a record can be verified without hoist: `head -n -2 record | sha256sum`.
//!
//! Field values and answers may contain any octet. A value that is not UTF-8 is written as `{"hex": "…"}`. Times have a
//! resolution of one millisecond. Unknown members are ignored, and lost when the record is replaced.
//!
//! `events` lists what happened to the upload and is for sinks. Members of an event that are absent were unknown. Its
//! `request` is `"same"` if the event before has the same one.
//!
//! The names of members and values are part of the format, even where the code uses other terms: `makeup` is the
//! [`Composition`], with the values `own`, `part`, `joined` and `numbered`.

use std::time::Duration;

use hoist_proto::hex;
use hoist_proto::types::{Durable, Length, Offset, PartNumber, Principal, Timestamp, UploadId};
use hoist_proto::upload::{
    Completion, Composition, Excess, Family, IndexedParts, Interruption, Origin, PartNumberSet, Phase,
    Semantics, TargetResponse, Upload,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use self::events::EventText;
use crate::store::Error;

mod events;

/// The version that this program writes, and the newest that it reads.
pub const VERSION: u64 = 1;

/// The most bytes of a record. A larger file is not a record.
pub const BYTES_MAX: usize = 16 * 1024 * 1024;

/// The content of a record.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The upload. A record contains no offset: it is zero here, and the store sets it to the length of the content.
    pub upload: Upload,
    /// The length of the content when it was discarded; `None` while the store has it.
    pub discarded: Option<Offset>,
}

/// Returns the length of the content of an upload whose content file is missing, if that is no damage: once it is delivered,
/// a program of the operator's may move the file away.
pub(crate) fn bytes_moved_away(record: &Record) -> Option<Offset> {
    let Phase::Delivered(_) = record.upload.phase else { return None };
    record.upload.length.map(|length| Offset::new(length.get()))
}

/// Encodes a record.
///
/// # Errors
/// Returns [`Error::Damaged`] if the upload's family has no name in this version.
pub fn to_bytes(record: &Record) -> Result<Vec<u8>, Error> {
    let text = serde_json::to_string_pretty(&Version1::of(record))
        .map_err(|error| Error::Damaged(format!("the record cannot be written: {error}")))?;
    let mut text = text.strip_suffix("\n}").unwrap_or(&text).to_owned();
    text.push_str(",\n");
    let sum = hex::encode(&Sha256::digest(text.as_bytes()));
    text.push_str(CHECKSUM);
    text.push_str(&sum);
    text.push_str(CLOSING);
    Ok(text.into_bytes())
}

/// Decodes a record. Accepts any bytes and never panics.
///
/// # Errors
/// Returns [`Error::Damaged`], with the reason, if the bytes are not a complete and unaltered record of a known
/// version.
pub fn from_bytes(bytes: &[u8]) -> Result<Record, Error> {
    if bytes.len() > BYTES_MAX {
        return Err(damaged(format!(
            "the record has {} bytes, which is more than any record has",
            bytes.len()
        )));
    }
    let version1 = match serde_json::from_slice::<Version1>(bytes) {
        Ok(version1) if version1.version == VERSION => version1,
        // The version first: a later one may have other members, and store its checksum differently.
        parsed => return Err(why_unreadable(bytes, parsed.err())),
    };
    if is_intact(bytes) { version1.record() } else { Err(torn()) }
}

fn why_unreadable(bytes: &[u8], error: Option<serde_json::Error>) -> Error {
    match serde_json::from_slice(bytes) {
        Err(_) => torn(),
        Ok(Head { version }) if version != VERSION => damaged(format!(
            "the record has version {version}, but this program reads only version {VERSION}"
        )),
        Ok(_) if !is_intact(bytes) => torn(),
        Ok(_) => damaged(error.map_or_else(String::new, |error| error.to_string())),
    }
}

/// Returns whether bytes are the remains of an unfinished write, as opposed to a record of an unknown version.
pub(crate) fn is_torn(bytes: &[u8]) -> bool {
    let Ok(Head { version }) = serde_json::from_slice(bytes) else { return true };
    version == VERSION && !is_intact(bytes)
}

/// Returns the line of a record that states the time of the upload's creation.
pub(crate) fn creation_line(created: Timestamp) -> String {
    format!("\n  \"created_ms\": {},\n", created.millis())
}

const CHECKSUM: &str = "  \"sha256\": \"";
const CLOSING: &str = "\"\n}\n";

/// Returns whether the checksum matches.
fn is_intact(bytes: &[u8]) -> bool {
    let split = || {
        let (rest, sum) = bytes.strip_suffix(CLOSING.as_bytes())?.split_last_chunk::<64>()?;
        Some((rest.strip_suffix(CHECKSUM.as_bytes())?, sum))
    };
    split().is_some_and(|(body, sum)| hex::encode(&Sha256::digest(body)).as_bytes() == sum)
}

fn damaged(what: impl Into<String>) -> Error {
    Error::Damaged(what.into())
}

fn torn() -> Error {
    damaged("the record is torn or was edited: its checksum does not match")
}

#[derive(Deserialize)]
struct Head {
    version: u64,
}

#[derive(Serialize, Deserialize)]
struct Version1 {
    version: u64,
    id: String,
    #[serde(with = "FamilyName")]
    family: Family,
    #[serde(with = "CompletionName")]
    completion: Completion,
    #[serde(with = "ExcessName")]
    excess: Excess,
    #[serde(with = "InterruptionName")]
    interruption: Interruption,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<String>,
    /// Records of the first versions call it `makeup`.
    #[serde(default, rename = "makeup", skip_serializing_if = "CompositionText::is_direct")]
    composition: CompositionText,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    alias: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    method: String,
    target: String,
    fields: Vec<Field>,
    created_ms: u64,
    touched_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    lifetime_ms: Option<u64>,
    /// Absent from the records of earlier versions, and if zero.
    #[serde(default, skip_serializing_if = "is_zero")]
    resumes: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    length: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    discarded: Option<u64>,
    phase: PhaseName,
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<AnswerText>,
    /// Absent from the records of earlier versions, and if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    events: Vec<EventText>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Family", rename_all = "kebab-case")]
#[non_exhaustive]
enum FamilyName {
    Conventional,
    Token,
    Ietf,
    Tus1,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Completion", rename_all = "kebab-case")]
enum CompletionName {
    AtLength,
    AtLengthOrEnd,
    Explicit,
    ExplicitOrAtLength,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Excess", rename_all = "kebab-case")]
enum ExcessName {
    Invalidates,
    Keeps,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Interruption", rename_all = "kebab-case")]
enum InterruptionName {
    Resumes,
    Discards,
}

/// The source of the content. Absent for uploads with content of their own.
#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum CompositionText {
    #[default]
    #[serde(rename = "own")]
    Direct,
    Part,
    #[serde(rename = "joined")]
    Concatenated(Vec<String>),
    #[serde(rename = "numbered")]
    Indexed {
        highest: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        last: Option<u64>,
        /// The first and last number of each range of parts that were begun. Absent if every part up to the highest one
        /// may have been begun.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        begun: Option<Vec<(u64, u64)>>,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum PhaseName {
    Open,
    Received,
    Delivered,
    Failed,
}

#[derive(Serialize, Deserialize)]
struct AnswerText {
    status: u16,
    fields: Vec<Field>,
    content: Octets,
}

/// `"name: value"`, or name and value apart if the value is not UTF-8. A name contains no colon, so the first one ends
/// it.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Field {
    Text(String),
    Binary { name: String, hex: String },
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Octets {
    Text(String),
    Binary { hex: String },
}

impl Version1 {
    fn of(record: &Record) -> Self {
        let upload = &record.upload;
        let (phase, answer) = match &upload.phase {
            Phase::Open => (PhaseName::Open, None),
            Phase::Received => (PhaseName::Received, None),
            Phase::Delivered(answer) => (PhaseName::Delivered, Some(AnswerText::of(answer))),
            Phase::Failed(answer) => (PhaseName::Failed, Some(AnswerText::of(answer))),
        };
        Self {
            version: VERSION,
            id: upload.id.to_string(),
            family: upload.family,
            completion: upload.semantics.completion,
            excess: upload.semantics.excess,
            interruption: upload.semantics.interruption,
            owner: upload.owner.as_ref().map(|owner| owner.name().to_owned()),
            composition: CompositionText::of(&upload.composition),
            alias: upload.alias.clone(),
            file: upload.file.clone(),
            method: upload.origin.method.to_string(),
            target: upload.origin.target.clone(),
            fields: fields_text(&upload.origin.fields),
            created_ms: upload.created.millis(),
            touched_ms: upload.touched.millis(),
            lifetime_ms: upload.lifetime.map(|life| u64::try_from(life.as_millis()).unwrap_or(u64::MAX)),
            resumes: upload.resumes,
            length: upload.length.map(Length::get),
            discarded: record.discarded.map(Offset::get),
            phase,
            answer,
            events: events::texts(&upload.events),
        }
    }

    fn record(self) -> Result<Record, Error> {
        let answer = self.answer.map(AnswerText::answer).transpose()?;
        let phase = match (self.phase, answer) {
            (PhaseName::Open, None) => Phase::Open,
            (PhaseName::Received, None) => Phase::Received,
            (PhaseName::Delivered, Some(answer)) => Phase::Delivered(answer),
            (PhaseName::Failed, Some(answer)) => Phase::Failed(answer),
            (PhaseName::Open | PhaseName::Received, Some(_)) => {
                return Err(damaged("the record of an open or received upload has an answer"));
            }
            (PhaseName::Delivered | PhaseName::Failed, None) => {
                return Err(damaged("the record of a delivered or failed upload has no answer"));
            }
        };
        let upload = Upload {
            id: self
                .id
                .parse::<UploadId>()
                .map_err(|error| damaged(format!("the record's id is {error}")))?,
            family: self.family,
            semantics: Semantics {
                completion: self.completion,
                excess: self.excess,
                interruption: self.interruption,
            },
            owner: self.owner.map(Principal::new),
            composition: self.composition.composition()?,
            alias: self.alias,
            file: self.file,
            origin: Origin {
                method: Method::from_bytes(self.method.as_bytes())
                    .map_err(|_| damaged("the record's method is not one"))?,
                target: self.target,
                fields: fields_map(self.fields)?,
            },
            created: Timestamp::from_millis(self.created_ms),
            touched: Timestamp::from_millis(self.touched_ms),
            lifetime: self.lifetime_ms.map(Duration::from_millis),
            resumes: self.resumes,
            length: self.length.map(Length::new),
            offset: Durable::ZERO,
            phase,
            events: events::events(self.events)?,
        };
        Ok(Record { upload, discarded: self.discarded.map(Offset::new) })
    }
}

impl CompositionText {
    fn of(composition: &Composition) -> Self {
        match composition {
            Composition::Direct => Self::Direct,
            Composition::Part => Self::Part,
            Composition::Concatenated(parts) => {
                Self::Concatenated(parts.iter().map(UploadId::to_string).collect())
            }
            Composition::Indexed(IndexedParts { started: begun, last }) => {
                let highest = begun.highest();
                let ranges = begun.ranges().map(|(first, last)| (first.get().into(), last.get().into()));
                Self::Indexed {
                    highest: highest.get().into(),
                    last: last.map(|last| last.get().into()),
                    begun: (!begun.covers(highest)).then(|| ranges.collect()),
                }
            }
        }
    }

    fn composition(self) -> Result<Composition, Error> {
        let part =
            |number| PartNumber::new(number).ok_or_else(|| damaged(format!("{number} is not a part number")));
        Ok(match self {
            Self::Direct => Composition::Direct,
            Self::Part => Composition::Part,
            Self::Concatenated(parts) => {
                let ids: Result<_, _> = parts.iter().map(|id| id.parse::<UploadId>()).collect();
                Composition::Concatenated(
                    ids.map_err(|error| damaged(format!("the id of a part is {error}")))?,
                )
            }
            Self::Indexed { highest, last, begun } => {
                let highest = part(highest)?;
                let begun = match begun {
                    None => PartNumberSet::up_to(highest),
                    Some(ranges) => {
                        let ranges = ranges.into_iter().map(|(first, last)| Ok((part(first)?, part(last)?)));
                        let begun = PartNumberSet::of_ranges(ranges.collect::<Result<Vec<_>, Error>>()?);
                        let begun = begun.filter(|begun| begun.highest() == highest);
                        begun.ok_or_else(|| damaged("the numbers of the parts contradict each other"))?
                    }
                };
                Composition::Indexed(IndexedParts { started: begun, last: last.map(part).transpose()? })
            }
        })
    }

    fn is_direct(&self) -> bool {
        matches!(self, Self::Direct)
    }
}

impl AnswerText {
    fn of(answer: &TargetResponse) -> Self {
        Self {
            status: answer.status.as_u16(),
            fields: fields_text(&answer.fields),
            content: match std::str::from_utf8(&answer.content) {
                Ok(text) => Octets::Text(text.to_owned()),
                Err(_) => Octets::Binary { hex: hex::encode(&answer.content) },
            },
        }
    }

    fn answer(self) -> Result<TargetResponse, Error> {
        Ok(TargetResponse {
            status: StatusCode::from_u16(self.status)
                .map_err(|_| damaged(format!("{} is not a status code", self.status)))?,
            fields: fields_map(self.fields)?,
            content: match self.content {
                Octets::Text(text) => text.into_bytes(),
                Octets::Binary { hex } => {
                    hex::decode(&hex).ok_or_else(|| damaged("the answer's content is not hexadecimal"))?
                }
            },
        })
    }
}

fn fields_text(fields: &HeaderMap) -> Vec<Field> {
    let text = |(name, value): (&HeaderName, &HeaderValue)| match std::str::from_utf8(value.as_bytes()) {
        Ok(value) => Field::Text(format!("{name}: {value}")),
        Err(_) => Field::Binary { name: name.to_string(), hex: hex::encode(value.as_bytes()) },
    };
    fields.iter().map(text).collect()
}

fn fields_map(fields: Vec<Field>) -> Result<HeaderMap, Error> {
    let wrong = || damaged("a header field of the record is malformed");
    let mut map = HeaderMap::new();
    for field in fields {
        let (name, value) = match field {
            Field::Text(line) => {
                let (name, value) = line.split_once(": ").ok_or_else(wrong)?;
                (name.to_owned(), value.as_bytes().to_vec())
            }
            Field::Binary { name, hex } => (name, hex::decode(&hex).ok_or_else(wrong)?),
        };
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong())?;
        let value = HeaderValue::from_maybe_shared(bytes::Bytes::from(value)).map_err(|_| wrong())?;
        // `append` would panic if the map were full of distinct names.
        map.try_append(name, value).map_err(|_| wrong())?;
    }
    Ok(map)
}

#[cfg(test)]
mod tests;
