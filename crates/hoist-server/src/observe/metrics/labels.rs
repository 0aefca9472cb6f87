//! The labels of metrics. Each has a closed set of values, so that no peer can add a series, and no label holds the id of an
//! upload, a token or a path.

use hoist_proto::dialect::interop::Interop;
use hoist_proto::upload::Family;

use crate::observe::{Outcome, TargetOutcome, TransferEnding, Transport};

/// A label with a closed set of values.
pub(super) trait Label: Copy + Send + Sync + 'static {
    const NAME: &'static str;
    const VALUES: &'static [Self];

    /// Returns the position in [`VALUES`](Self::VALUES).
    fn index(self) -> usize;

    /// Returns the text of the value, which never changes.
    fn text(self) -> &'static str;
}

/// One label, or several.
pub(super) trait LabelSet: Copy + Send + Sync + 'static {
    /// Returns all sets of values, in the order of their [index](Self::index).
    fn all() -> Vec<Self>;

    fn index(self) -> usize;

    /// Returns the names and values.
    fn pairs(self) -> Vec<(&'static str, &'static str)>;
}

impl<L: Label> LabelSet for L {
    fn all() -> Vec<Self> {
        L::VALUES.to_vec()
    }

    fn index(self) -> usize {
        Label::index(self)
    }

    fn pairs(self) -> Vec<(&'static str, &'static str)> {
        vec![(L::NAME, self.text())]
    }
}

impl<A: Label, B: Label> LabelSet for (A, B) {
    fn all() -> Vec<Self> {
        A::VALUES.iter().flat_map(|a| B::VALUES.iter().map(|b| (*a, *b))).collect()
    }

    fn index(self) -> usize {
        self.0.index() * B::VALUES.len() + self.1.index()
    }

    fn pairs(self) -> Vec<(&'static str, &'static str)> {
        vec![(A::NAME, self.0.text()), (B::NAME, self.1.text())]
    }
}

impl Label for Family {
    const NAME: &'static str = "dialect";
    const VALUES: &'static [Self] = &[Self::Conventional, Self::Token, Self::Ietf, Self::Tus1];

    fn index(self) -> usize {
        match self {
            Self::Conventional => 0,
            Self::Token => 1,
            Self::Ietf => 2,
            Self::Tus1 => 3,
            // The enum is of another crate, which may add to it.
            _ => unreachable!("a new family needs a label here"),
        }
    }

    fn text(self) -> &'static str {
        self.name()
    }
}

impl Label for Outcome {
    const NAME: &'static str = "outcome";
    const VALUES: &'static [Self] =
        &[Self::Complete, Self::Delivered, Self::Failed, Self::Cancelled, Self::Expired, Self::Discarded];

    fn index(self) -> usize {
        match self {
            Self::Complete => 0,
            Self::Delivered => 1,
            Self::Failed => 2,
            Self::Cancelled => 3,
            Self::Expired => 4,
            Self::Discarded => 5,
        }
    }

    fn text(self) -> &'static str {
        self.name()
    }
}

impl Label for Transport {
    const NAME: &'static str = "transport";
    const VALUES: &'static [Self] = &[Self::Http1, Self::Http2, Self::Http3];

    fn index(self) -> usize {
        match self {
            Self::Http1 => 0,
            Self::Http2 => 1,
            Self::Http3 => 2,
        }
    }

    fn text(self) -> &'static str {
        self.name()
    }
}

impl Label for TransferEnding {
    const NAME: &'static str = "ending";
    const VALUES: &'static [Self] = &[
        Self::Complete,
        Self::Cut,
        Self::Superseded,
        Self::Idle,
        Self::Slow,
        Self::Refused,
        Self::Shutdown,
        Self::Operator,
    ];

    fn index(self) -> usize {
        match self {
            Self::Complete => 0,
            Self::Cut => 1,
            Self::Superseded => 2,
            Self::Idle => 3,
            Self::Slow => 4,
            Self::Refused => 5,
            Self::Shutdown => 6,
            Self::Operator => 7,
        }
    }

    fn text(self) -> &'static str {
        self.name()
    }
}

impl Label for TargetOutcome {
    const NAME: &'static str = "outcome";
    const VALUES: &'static [Self] = &[Self::Accepted, Self::Rejected, Self::Failed];

    fn index(self) -> usize {
        match self {
            Self::Accepted => 0,
            Self::Rejected => 1,
            Self::Failed => 2,
        }
    }

    fn text(self) -> &'static str {
        self.name()
    }
}

/// A hook, by the place of its name in [`NAMES`](Self::NAMES).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HookName(usize);

impl HookName {
    const NAMES: [&'static str; 7] = [
        "pre-create",
        "post-create",
        "post-receive",
        "pre-finish",
        "post-finish",
        "pre-terminate",
        "post-terminate",
    ];

    pub(super) fn of(name: &str) -> Option<Self> {
        Self::NAMES.iter().position(|known| *known == name).map(Self)
    }
}

impl Label for HookName {
    const NAME: &'static str = "hook";
    const VALUES: &'static [Self] = &[Self(0), Self(1), Self(2), Self(3), Self(4), Self(5), Self(6)];

    fn index(self) -> usize {
        self.0
    }

    fn text(self) -> &'static str {
        Self::NAMES[self.0]
    }
}

/// The outcome of a call of a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HookOutcome {
    /// The receiver gave an answer, which may decline the request.
    Answered,
    Failed,
}

impl Label for HookOutcome {
    const NAME: &'static str = "outcome";
    const VALUES: &'static [Self] = &[Self::Answered, Self::Failed];

    fn index(self) -> usize {
        match self {
            Self::Answered => 0,
            Self::Failed => 1,
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Failed => "failed",
        }
    }
}

/// All versions after the known ones have one value, because a peer can send any number.
impl Label for Interop {
    const NAME: &'static str = "version";
    const VALUES: &'static [Self] = &[
        Self::V3,
        Self::V4,
        Self::V5,
        Self::V6,
        Self::V7,
        Self::V8,
        Self::V9,
        Self::V10,
        Self::Later(u64::MAX),
        Self::Rfc,
    ];

    fn index(self) -> usize {
        match self {
            Self::V3 => 0,
            Self::V4 => 1,
            Self::V5 => 2,
            Self::V6 => 3,
            Self::V7 => 4,
            Self::V8 => 5,
            Self::V9 => 6,
            Self::V10 => 7,
            Self::Later(_) => 8,
            Self::Rfc => 9,
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::V3 => "3",
            Self::V4 => "4",
            Self::V5 => "5",
            Self::V6 => "6",
            Self::V7 => "7",
            Self::V8 => "8",
            Self::V9 => "9",
            Self::V10 => "10",
            Self::Later(_) => "later",
            Self::Rfc => "rfc",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_complete<L: Label>() {
        for (at, value) in L::VALUES.iter().enumerate() {
            assert_eq!(value.index(), at, "{} {}", L::NAME, value.text());
        }
    }

    #[test]
    fn each_value_has_its_place() {
        assert_complete::<Family>();
        assert_complete::<Outcome>();
        assert_complete::<Transport>();
        assert_complete::<TransferEnding>();
        assert_complete::<TargetOutcome>();
        assert_complete::<Interop>();
        assert_complete::<HookName>();
        assert_complete::<HookOutcome>();
    }

    #[test]
    fn every_hook_has_a_label() {
        for point in crate::hook::Point::ALL {
            assert_eq!(HookName::of(point.name()).map(HookName::text), Some(point.name()));
        }
    }

    #[test]
    fn versions_are_named_by_their_number() {
        for version in Interop::ALL {
            assert_eq!(version.text(), version.to_string());
        }
    }

    #[test]
    fn pairs_of_labels_are_in_the_order_of_their_index() {
        let all = <(Family, Outcome)>::all();
        assert_eq!(all.len(), 24);
        for (at, labels) in all.into_iter().enumerate() {
            assert_eq!(LabelSet::index(labels), at);
            assert_eq!(labels.pairs().len(), 2);
        }
    }
}
