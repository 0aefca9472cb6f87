//! Uploads made of others: what their parts must be, which numbers they may have, and how far they are together.
//!
//! Pure, like all of the engine. Who finds the parts, and who joins them, is elsewhere.

use std::collections::HashSet;

use super::{UploadRequest, is_of};
use crate::operation::Create;
use crate::policy::{Limits, Policy};
use crate::refusal::{Limit, Refusal};
use crate::types::{Durable, LARGEST_INTEGER, Length, PartNumber, Timestamp};
use crate::upload::{Composition, IndexedParts, Part, PartNumberSet, Phase, State, Upload};

/// How far some parts are together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gathered {
    /// How much of the whole is there without a gap: the first parts, and of the first incomplete one what there is.
    pub offset: Durable,
    /// How long the parts are together, where that is known of all of them.
    pub length: Option<Length>,
    /// Whether all of them are complete.
    pub complete: bool,
}

/// How far parts are together, in the order in which they follow one upon the other. `None` is one that is not there.
//= TOK-IDX-03, TOK-IDX-04, TUS1-CAT-04, TUS1-CAT-13
pub fn gather<'a>(parts: impl IntoIterator<Item = Option<&'a Upload>>) -> Gathered {
    let mut gathered = Gathered { offset: Durable::ZERO, length: Some(Length::new(0)), complete: true };
    for part in parts {
        if gathered.complete {
            let stored = part.map_or(Durable::ZERO, |part| part.offset);
            gathered.offset = Durable::joined([gathered.offset, stored]).unwrap_or(gathered.offset);
        }
        gathered.complete &= part.is_some_and(Upload::is_complete);
        let length = part.and_then(|part| part.length);
        gathered.length = match (gathered.length, length) {
            (Some(sum), Some(length)) => sum.get().checked_add(length.get()).map(Length::new),
            (None, _) | (_, None) => None,
        };
    }
    gathered
}

/// The new upload that is to be made of `parts`, in the order in which `create` names them.
///
/// # Errors
/// A refusal when one of them is not there, is no part, or is not complete and should be, or when they are too long
/// together.
//= TUS1-CAT-05, TUS1-CAT-06, TUS1-CAT-09, TUS1-CAT-14
pub fn compose(
    create: &Create,
    request: &UploadRequest,
    parts: &[Option<Upload>],
    policy: &Policy,
    now: Timestamp,
) -> Result<Upload, Refusal> {
    refuse_repeated(&create.composition)?;
    for (place, part) in (1..).zip(parts) {
        let no_part = |wrong: &str| Err(Refusal::NoPart { wrong: format!("part {place} {wrong}").into() });
        match part.as_ref().filter(|part| is_of(part, request) && !part.is_expired(now)) {
            None => return no_part("is not there"),
            Some(part) if part.composition != Composition::Part => return no_part("is not a partial upload"),
            Some(part) if !part.is_complete() && !create.waits_for_parts => {
                return no_part("is not complete");
            }
            Some(_) => {}
        }
    }
    let gathered = gather(parts.iter().map(Option::as_ref));
    require_room(gathered.length, &policy.limits)?;
    Ok(Upload {
        id: request.id,
        family: request.family,
        semantics: create.semantics,
        owner: request.principal.clone(),
        composition: create.composition.clone(),
        origin: create.origin.clone(),
        created: now,
        touched: now,
        lifetime: policy.lifetime,
        length: gathered.length,
        offset: Durable::ZERO,
        phase: Phase::Open,
    })
}

/// Refuses to name a part twice. A name costs the client a few octets and the server the part's whole length, so the work
/// is bounded by what was uploaded only if each part is joined once. tus 1.0 has no word on it, and no client does it.
//= TUS1-CAT-15
fn refuse_repeated(composition: &Composition) -> Result<(), Refusal> {
    let Composition::Concatenated(ids) = composition else { return Ok(()) };
    let mut seen = HashSet::new();
    match (1..).zip(ids).find(|(_, id)| !seen.insert(**id)) {
        Some((place, _)) => {
            Err(Refusal::NoPart { wrong: format!("part {place} is named a second time").into() })
        }
        None => Ok(()),
    }
}

/// Refuses parts that are longer together than the largest upload.
pub fn require_room(length: Option<Length>, limits: &Limits) -> Result<(), Refusal> {
    let most = limits.size_max.unwrap_or(LARGEST_INTEGER).min(LARGEST_INTEGER);
    match length {
        Some(length) if length.get() > most => {
            Err(Refusal::TooLarge { limit: Limit::Size, bytes: most, state: None })
        }
        Some(_) | None => Ok(()),
    }
}

/// The upload of which a request begins the first part that anybody hears of.
pub fn number_first(
    create: &Create,
    request: &UploadRequest,
    part: Part,
    policy: &Policy,
    now: Timestamp,
) -> Upload {
    let numbers =
        IndexedParts { started: PartNumberSet::with(part.number), last: part.last.then_some(part.number) };
    Upload {
        id: request.id,
        family: request.family,
        semantics: create.semantics,
        owner: request.principal.clone(),
        composition: Composition::Indexed(numbers),
        origin: create.origin.clone(),
        created: now,
        touched: now,
        lifetime: policy.lifetime,
        length: None,
        offset: Durable::ZERO,
        phase: Phase::Open,
    }
}

/// What a request on `part` says of the numbers of an upload's parts. `highest` is the highest of which there is anything.
///
/// # Errors
/// A refusal when the upload has no numbered parts, when there is another last one, or when one would be behind the last.
//= TOK-IDX-03, TOK-IDX-06
pub fn number(whole: &Upload, part: Part, highest: PartNumber) -> Result<IndexedParts, Refusal> {
    let mixed = || Refusal::Mixed(State { part: Some(part), ..whole.into() });
    let Composition::Indexed(IndexedParts { started, last }) = &whole.composition else {
        return Err(mixed());
    };
    let started = started.clone().without_above(highest).and(part.number);
    let last = match (*last, part.last) {
        (Some(known), true) if known != part.number => return Err(mixed()),
        (Some(known), _) => Some(known),
        (None, said) => said.then_some(part.number),
    };
    if last.is_some_and(|last| started.highest() > last) {
        Err(mixed())
    } else {
        Ok(IndexedParts { started, last })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::{HeaderMap, Method};

    use super::*;
    use crate::operation::{BelowMinSize, Content, Finish, OnExisting, Operation};
    use crate::types::{Offset, Principal, UploadId};
    use crate::upload::{Completion, Excess, Family, Interruption, Origin, Semantics, TargetResponse};

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
            origin: Origin { method: Method::POST, target: "/uploads".into(), fields: HeaderMap::new() },
            created: NOW,
            touched: NOW,
            lifetime: Some(Duration::from_mins(1)),
            length: length.map(Length::new),
            offset,
            phase: if complete {
                Phase::Delivered(TargetResponse::of(http::StatusCode::NO_CONTENT))
            } else {
                Phase::Open
            },
        }
    }

    fn told(parts: &[Option<Upload>]) -> (u64, Option<u64>, bool) {
        let Gathered { offset, length, complete } = gather(parts.iter().map(Option::as_ref));
        (offset.offset().get(), length.map(Length::get), complete)
    }

    // proves: TOK-IDX-03, TOK-IDX-04, TUS1-CAT-04, TUS1-CAT-13
    #[test]
    fn parts_are_as_far_as_the_first_gap() {
        let (full, half, open) =
            (Some(part(10, Some(10), true)), Some(part(5, Some(10), false)), Some(part(3, None, false)));
        assert_eq!(told(&[]), (0, Some(0), true));
        assert_eq!(told(&[full.clone(), full.clone()]), (20, Some(20), true));
        assert_eq!(told(&[full.clone(), half.clone(), full.clone()]), (15, Some(30), false));
        assert_eq!(told(&[full.clone(), None, full.clone()]), (10, None, false));
        assert_eq!(told(&[open, full.clone()]), (3, None, false));
        assert_eq!(told(&[half, None]), (5, None, false));
        assert_eq!(told(&[Some(part(0, Some(u64::MAX), false)), full]).1, None, "no overflow");
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
    fn an_upload_is_made_of_parts_and_of_nothing_else() {
        let (full, half) = (part(10, Some(10), true), part(5, Some(10), false));
        let upload = composed(&[Some(full.clone()), Some(full.clone())], false, Some(20)).expect("sound");
        assert_eq!((upload.length, upload.phase), (Some(Length::new(20)), Phase::Open));
        let waiting = composed(&[Some(full.clone()), Some(half.clone())], true, None).expect("sound");
        assert_eq!(waiting.length, Some(Length::new(20)));
        let strange = [
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
        for part in strange {
            let refused = composed(&[Some(full.clone()), part.clone()], false, None);
            assert!(matches!(refused, Err(Refusal::NoPart { .. })), "{part:?}");
        }
        let refused = composed(&[Some(full.clone()), Some(full)], false, Some(19));
        assert!(matches!(refused, Err(Refusal::TooLarge { limit: Limit::Size, bytes: 19, .. })));
    }

    // proves: TUS1-CAT-15
    #[test]
    fn a_part_named_a_second_time_is_refused() {
        let full = Some(part(10, Some(10), true));
        for count in [2, 300] {
            for waits in [false, true] {
                let parts = vec![full.clone(); count];
                let refused = composed_of(vec![ID; count], &parts, waits, None);
                let Err(Refusal::NoPart { wrong }) = refused else { panic!("{count}: {refused:?}") };
                assert_eq!(wrong, "part 2 is named a second time");
            }
        }
    }

    // proves: TOK-IDX-03, TOK-IDX-06
    #[test]
    fn numbers_contradict_each_other_or_do_not() {
        let n = |number| PartNumber::new(number).expect("in range");
        // The highest and the last known, then the part, and what is known afterwards.
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
            let found = number(&whole, Part { number: n(asked), last: is_last }, n(highest)).ok();
            let found = found.map(|numbers| (numbers.started.highest(), numbers.last));
            let expected = expected.map(|(highest, last): (_, Option<u64>)| (n(highest), last.map(n)));
            assert_eq!(found, expected, "{highest} {last:?} {asked} {is_last}");
        }
        let plain = part(0, None, false);
        let part = Part { number: n(0), last: false };
        assert!(matches!(number(&plain, part, n(0)), Err(Refusal::Mixed(_))));
    }
}
