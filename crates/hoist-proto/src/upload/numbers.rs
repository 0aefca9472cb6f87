//! [`IndexedParts`]: the numbers of an upload's parts.

use crate::types::PartNumber;

/// The part numbers of an upload, as far as they are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexedParts {
    /// The numbers of all parts that were started. Some of these parts may have been removed since.
    pub started: PartNumberSet,
    /// The number that the client declared to be the last.
    pub last: Option<PartNumber>,
}

/// A non-empty set of part numbers, compact if it has few gaps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartNumberSet {
    /// The first and last number of each range, in order and with gaps between them.
    ranges: Vec<(u16, u16)>,
}

impl PartNumberSet {
    /// Returns the set of one number.
    pub fn with(number: PartNumber) -> Self {
        Self { ranges: vec![(number.get(), number.get())] }
    }

    /// Returns the set of all numbers up to this one.
    pub fn up_to(highest: PartNumber) -> Self {
        Self { ranges: vec![(0, highest.get())] }
    }

    /// Returns the set of ranges, given by their first and last numbers, or `None` if they are out of order, adjacent
    /// or empty.
    pub fn of_ranges(ranges: impl IntoIterator<Item = (PartNumber, PartNumber)>) -> Option<Self> {
        let ranges: Vec<_> = ranges.into_iter().map(|(first, last)| (first.get(), last.get())).collect();
        let is_sound = ranges.iter().all(|(first, last)| first <= last)
            && ranges.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0);
        (is_sound && !ranges.is_empty()).then_some(Self { ranges })
    }

    /// Returns the first and last number of each range, in order.
    pub fn ranges(&self) -> impl Iterator<Item = (PartNumber, PartNumber)> {
        let number = |number: u16| PartNumber::new(number.into()).unwrap_or(PartNumber::FIRST);
        self.ranges.iter().map(move |(first, last)| (number(*first), number(*last)))
    }

    /// Returns the highest number.
    pub fn highest(&self) -> PartNumber {
        self.ranges().last().map_or(PartNumber::FIRST, |(_, last)| last)
    }

    /// Returns whether the set contains every number up to `last`.
    pub fn covers(&self, last: PartNumber) -> bool {
        self.ranges.first().is_some_and(|range| range.0 == 0 && range.1 >= last.get())
    }

    /// Returns all numbers, in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = PartNumber> {
        let numbers = self.ranges.iter().flat_map(|(first, last)| *first..=*last);
        numbers.map(|number| PartNumber::new(number.into()).unwrap_or(PartNumber::FIRST))
    }

    /// Returns the set with one more number.
    pub fn and(mut self, number: PartNumber) -> Self {
        let number = number.get();
        let behind = self.ranges.partition_point(|(first, _)| *first <= number);
        if behind > 0 && self.ranges[behind - 1].1 >= number {
            return self;
        }
        let joins_before = behind > 0 && self.ranges[behind - 1].1 + 1 == number;
        let joins_behind = self.ranges.get(behind).is_some_and(|(first, _)| *first == number + 1);
        match (joins_before, joins_behind) {
            (true, true) => {
                let (_, last) = self.ranges.remove(behind);
                self.ranges[behind - 1].1 = last;
            }
            (true, false) => self.ranges[behind - 1].1 = number,
            (false, true) => self.ranges[behind].0 = number,
            (false, false) => self.ranges.insert(behind, (number, number)),
        }
        self
    }

    /// Returns the set without the numbers above this one, or the whole set if none would be left.
    pub fn without_above(mut self, highest: PartNumber) -> Self {
        let highest = highest.get();
        if self.ranges.first().is_none_or(|(first, _)| *first > highest) {
            return self;
        }
        self.ranges.retain(|(first, _)| *first <= highest);
        if let Some((_, last)) = self.ranges.last_mut() {
            *last = highest.min(*last);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn n(number: u16) -> PartNumber {
        PartNumber::new(number.into()).expect("in range")
    }

    #[test]
    fn a_set_contains_all_added_numbers_in_any_order() {
        for seed in 0..200_u64 {
            let mut state = seed;
            let mut next = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                u16::try_from((state >> 33) % 40).expect("small")
            };
            let first = next();
            let (mut set, mut model) = (PartNumberSet::with(n(first)), BTreeSet::from([first]));
            for _ in 0..30 {
                let number = next();
                set = set.and(n(number));
                model.insert(number);
                let numbers: Vec<_> = set.iter().map(PartNumber::get).collect();
                assert_eq!(numbers, model.iter().copied().collect::<Vec<_>>(), "{seed}");
                assert_eq!(PartNumberSet::of_ranges(set.ranges()).as_ref(), Some(&set), "{seed}");
                assert_eq!(set.highest(), n(*model.last().expect("not empty")));
                for last in 0..40 {
                    assert_eq!(set.covers(n(last)), (0..=last).all(|number| model.contains(&number)));
                }
                let bound = next();
                let left = set.clone().without_above(n(bound));
                let expected: Vec<_> = model.range(..=bound).copied().collect();
                if !expected.is_empty() {
                    assert_eq!(left.iter().map(PartNumber::get).collect::<Vec<_>>(), expected, "{seed}");
                }
            }
        }
    }

    #[test]
    fn invalid_ranges_are_not_a_set() {
        for ranges in [&[][..], &[(3, 2)], &[(0, 4), (5, 6)], &[(4, 5), (0, 1)]] {
            let ranges = ranges.iter().map(|(first, last)| (n(*first), n(*last)));
            assert_eq!(PartNumberSet::of_ranges(ranges), None);
        }
    }
}
