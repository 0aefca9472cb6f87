//! Uploads whose content comes from other uploads: checks on the parts, their numbers, and their joint progress.
//!
//! The server finds the parts, and a store joins them.

use std::collections::HashSet;

use super::limits::{exceeded_size, over_limit};
use super::{UploadRequest, is_visible, new_upload};
use crate::operation::Create;
use crate::policy::{Limits, Policy};
use crate::refusal::{Reason, Refusal};
use crate::types::{Durable, Length, PartNumber, Timestamp};
use crate::upload::{Composition, IndexedParts, Part, PartNumberSet, State, Upload};

/// The joint progress of parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartsProgress {
    /// The number of bytes without a gap: the first parts that are complete, and the bytes of the first incomplete one.
    pub offset: Durable,
    /// The sum of the lengths, if the length of every part is known.
    pub length: Option<Length>,
    /// True if all parts are complete.
    pub complete: bool,
}

/// Returns the joint progress of parts, given in the order of their content. `None` stands for a part that does not exist.
//= TOK-IDX-03, TOK-IDX-04, TUS1-CAT-04, TUS1-CAT-13
pub fn progress<'a>(parts: impl IntoIterator<Item = Option<&'a Upload>>) -> PartsProgress {
    let mut progress = PartsProgress { offset: Durable::ZERO, length: Some(Length::new(0)), complete: true };
    for part in parts {
        if progress.complete {
            let stored = part.map_or(Durable::ZERO, |part| part.offset);
            progress.offset = Durable::joined([progress.offset, stored]).unwrap_or(progress.offset);
        }
        progress.complete &= part.is_some_and(Upload::is_complete);
        let length = part.and_then(|part| part.length);
        progress.length = match (progress.length, length) {
            (Some(sum), Some(length)) => sum.get().checked_add(length.get()).map(Length::new),
            (None, _) | (_, None) => None,
        };
    }
    progress
}

/// Creates an upload that concatenates `parts`, given in the order in which `create` names them.
///
/// # Errors
/// Returns [`Reason::UnusablePart`] if a part does not exist, is not a partial upload, is named twice, or is incomplete where
/// the server does not wait for parts; [`Reason::TooLarge`] if the parts exceed the size limit.
//= TUS1-CAT-05, TUS1-CAT-06, TUS1-CAT-09, TUS1-CAT-14
pub fn compose(
    create: &Create,
    request: &UploadRequest,
    parts: &[Option<Upload>],
    policy: &Policy,
    now: Timestamp,
) -> Result<Upload, Refusal> {
    refuse_repeated(&create.composition)?;
    for (position, part) in (1..).zip(parts) {
        let problem = match part.as_ref().filter(|part| is_visible(part, request) && !part.is_expired(now)) {
            None => "does not exist",
            Some(part) if part.composition != Composition::Part => "is not a partial upload",
            Some(part) if !part.is_complete() && !create.waits_for_parts => "is not complete",
            Some(_) => continue,
        };
        return Err(unusable(position, problem));
    }
    let length = progress(parts.iter().map(Option::as_ref)).length;
    check_total_length(length, &policy.limits)?;
    Ok(Upload { length, ..new_upload(create, request, policy, now) })
}

/// The refusal of the part at a position, counted from one.
fn unusable(position: u64, problem: &str) -> Refusal {
    Reason::UnusablePart { detail: format!("part {position} {problem}").into() }.into()
}

/// Refuses to name a part twice, which costs the client a few bytes and the server a copy of the part.
//= TUS1-CAT-15
fn refuse_repeated(composition: &Composition) -> Result<(), Refusal> {
    let Composition::Concatenated(ids) = composition else { return Ok(()) };
    let mut seen = HashSet::new();
    match (1..).zip(ids).find(|(_, id)| !seen.insert(**id)) {
        Some((position, _)) => Err(unusable(position, "is named a second time")),
        None => Ok(()),
    }
}

/// Checks the total length of parts against the size limit.
///
/// # Errors
/// Returns [`Reason::TooLarge`] if `length` exceeds it.
pub fn check_total_length(length: Option<Length>, limits: &Limits) -> Result<(), Refusal> {
    exceeded_size(length, limits).map_or(Ok(()), |bound| Err(over_limit(bound, None)))
}

/// Creates the upload to which the first created part belongs.
pub fn create_indexed(
    create: &Create,
    request: &UploadRequest,
    part: Part,
    policy: &Policy,
    now: Timestamp,
) -> Upload {
    let started = PartNumberSet::with(part.number);
    let parts = IndexedParts { started, last: part.last.then_some(part.number) };
    let composition = Composition::Indexed(parts);
    Upload { composition, length: None, ..new_upload(create, request, policy, now) }
}

/// Returns the known parts of an upload after a request on `part`. `highest` is the highest number of an existing part.
///
/// # Errors
/// Returns [`Reason::ConflictingParts`] if the upload has no numbered parts, if another part is the last one, or if a part
/// would come after the last one.
//= TOK-IDX-03, TOK-IDX-06
pub fn add_part(whole: &Upload, part: Part, highest: PartNumber) -> Result<IndexedParts, Refusal> {
    let conflict = || Reason::ConflictingParts.with_state(State { part: Some(part), ..whole.into() });
    let Composition::Indexed(IndexedParts { started, last }) = &whole.composition else {
        return Err(conflict());
    };
    let started = started.clone().without_above(highest).and(part.number);
    let last = match (*last, part.last) {
        (Some(known), true) if known != part.number => return Err(conflict()),
        (Some(known), _) => Some(known),
        (None, is_last) => is_last.then_some(part.number),
    };
    if last.is_some_and(|last| started.highest() > last) {
        return Err(conflict());
    }
    Ok(IndexedParts { started, last })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::{HeaderMap, Method};

    use super::*;
    use crate::operation::{BelowMinSize, Content, Finish, OnExisting, Operation};
    use crate::refusal::SizeLimit;
    use crate::types::{Offset, Principal, UploadId};
    use crate::upload::{Completion, Excess, Family, Interruption, Origin, Phase, Semantics, TargetResponse};

    const NOW: Timestamp = Timestamp::from_millis(1_000);
    const ID: UploadId = UploadId::from_bits([9; 16]);

    fn part(stored: u64, length: Option<u64>, complete: bool) -> Upload {
        let offset = Durable::attest(Offset::new(stored));
        Upload {
            id: UploadId::from_bits([1; 16]),
            family: Family::Tus1,
            semantics: Semantics {
                completion: Completion::AtLength,
                excess: Excess::Keeps,
                interruption: Interruption::Resumes,
            },
            owner: None,
            composition: Composition::Part,
            alias: None,
            file: None,
            origin: Origin { method: Method::POST, target: "/uploads".into(), fields: HeaderMap::new() },
            created: NOW,
            touched: NOW,
            lifetime: Some(Duration::from_mins(1)),
            resumes: 0,
            events: Vec::new(),
            length: length.map(Length::new),
            offset,
            phase: if complete {
                Phase::Delivered(TargetResponse::of(http::StatusCode::NO_CONTENT))
            } else {
                Phase::Open
            },
        }
    }

    fn joint(parts: &[Option<Upload>]) -> (u64, Option<u64>, bool) {
        let PartsProgress { offset, length, complete } = progress(parts.iter().map(Option::as_ref));
        (offset.offset().get(), length.map(Length::get), complete)
    }

    // proves: TOK-IDX-03, TOK-IDX-04, TUS1-CAT-04, TUS1-CAT-13
    #[test]
    fn progress_ends_at_the_first_gap() {
        let (full, half, open) =
            (Some(part(10, Some(10), true)), Some(part(5, Some(10), false)), Some(part(3, None, false)));
        assert_eq!(joint(&[]), (0, Some(0), true));
        assert_eq!(joint(&[full.clone(), full.clone()]), (20, Some(20), true));
        assert_eq!(joint(&[full.clone(), half.clone(), full.clone()]), (15, Some(30), false));
        assert_eq!(joint(&[full.clone(), None, full.clone()]), (10, None, false));
        assert_eq!(joint(&[open, full.clone()]), (3, None, false));
        assert_eq!(joint(&[half, None]), (5, None, false));
        assert_eq!(joint(&[Some(part(0, Some(u64::MAX), false)), full]).1, None, "no overflow");
    }

    fn composed(parts: &[Option<Upload>], waits: bool, size_max: Option<u64>) -> Result<Upload, Refusal> {
        let ids = (1..).take(parts.len()).map(|number| UploadId::from_bits([number; 16])).collect();
        composed_of(ids, parts, waits, size_max)
    }

    fn composed_of(
        ids: Vec<UploadId>,
        parts: &[Option<Upload>],
        waits: bool,
        size_max: Option<u64>,
    ) -> Result<Upload, Refusal> {
        let sample = part(0, None, false);
        let create = Create {
            semantics: sample.semantics,
            length: None,
            content: Content { bytes: Some(0), finish: Finish::Here },
            on_existing: OnExisting::Refuse,
            below_min_size: BelowMinSize::Resumes,
            composition: Composition::Concatenated(ids),
            waits_for_parts: waits,
            origin: sample.origin,
        };
        let operation = Operation::Create(create.clone());
        let request = UploadRequest { id: ID, principal: None, family: Family::Tus1, operation };
        let policy = Policy { limits: Limits { size_max, ..Limits::default() }, ..Policy::default() };
        compose(&create, &request, parts, &policy, NOW)
    }

    // proves: TUS1-CAT-05, TUS1-CAT-06, TUS1-CAT-14
    #[test]
    fn only_partial_uploads_are_concatenated() {
        let (full, half) = (part(10, Some(10), true), part(5, Some(10), false));
        let upload = composed(&[Some(full.clone()), Some(full.clone())], false, Some(20)).expect("sound");
        assert_eq!((upload.length, upload.phase), (Some(Length::new(20)), Phase::Open));
        let waiting = composed(&[Some(full.clone()), Some(half.clone())], true, None).expect("sound");
        assert_eq!(waiting.length, Some(Length::new(20)));
        let unusable = [
            None,
            Some(half),
            Some(Upload { composition: Composition::Direct, ..full.clone() }),
            Some(Upload { composition: Composition::Concatenated(vec![]), ..full.clone() }),
            Some(Upload { owner: Some(Principal::new("ben")), ..full.clone() }),
            Some(Upload { family: Family::Ietf, ..full.clone() }),
            Some(Upload {
                touched: Timestamp::from_millis(0),
                lifetime: Some(Duration::ZERO),
                ..full.clone()
            }),
        ];
        for part in unusable {
            let refused = composed(&[Some(full.clone()), part.clone()], false, None);
            assert!(
                matches!(refused, Err(Refusal { reason: Reason::UnusablePart { .. }, state: None })),
                "{part:?}"
            );
        }
        let refused = composed(&[Some(full.clone()), Some(full)], false, Some(19));
        assert!(refused == Err(Reason::TooLarge { limit: SizeLimit::Representation, bytes_max: 19 }.into()));
    }

    // proves: TUS1-CAT-15
    #[test]
    fn a_part_named_a_second_time_is_refused() {
        let full = Some(part(10, Some(10), true));
        for count in [2, 300] {
            for waits in [false, true] {
                let parts = vec![full.clone(); count];
                let refused = composed_of(vec![ID; count], &parts, waits, None);
                let Err(Refusal { reason: Reason::UnusablePart { detail }, .. }) = refused else {
                    panic!("{count}: {refused:?}")
                };
                assert_eq!(detail, "part 2 is named a second time");
            }
        }
    }

    // proves: TOK-IDX-03, TOK-IDX-06
    #[test]
    fn part_numbers_that_contradict_each_other_are_refused() {
        let n = |number| PartNumber::new(number).expect("in range");
        // The highest and the last known part, the part of the request, and the highest and the last part afterwards.
        let cases = [
            ((3, None), (2, false), Some((3, None))),
            ((3, None), (5, false), Some((5, None))),
            ((3, None), (3, true), Some((3, Some(3)))),
            ((3, None), (7, true), Some((7, Some(7)))),
            ((3, None), (2, true), None),
            ((3, Some(3)), (3, true), Some((3, Some(3)))),
            ((3, Some(3)), (0, false), Some((3, Some(3)))),
            ((3, Some(3)), (4, false), None),
            ((3, Some(3)), (2, true), None),
            ((2, Some(5)), (5, false), Some((5, Some(5)))),
        ];
        for ((highest, last), (asked, is_last), expected) in cases {
            let numbers = IndexedParts { started: PartNumberSet::up_to(n(highest)), last: last.map(n) };
            let whole = Upload { composition: Composition::Indexed(numbers), ..part(0, None, false) };
            let found = add_part(&whole, Part { number: n(asked), last: is_last }, n(highest)).ok();
            let found = found.map(|numbers| (numbers.started.highest(), numbers.last));
            let expected = expected.map(|(highest, last): (_, Option<u64>)| (n(highest), last.map(n)));
            assert_eq!(found, expected, "{highest} {last:?} {asked} {is_last}");
        }
        let plain = part(0, None, false);
        let part = Part { number: n(0), last: false };
        assert!(matches!(
            add_part(&plain, part, n(0)),
            Err(Refusal { reason: Reason::ConflictingParts, .. })
        ));
    }
}
