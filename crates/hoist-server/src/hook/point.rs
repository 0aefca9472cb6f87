//! The points in the life of an upload at which receivers are called, with tusd's names.

use std::str::FromStr;

/// A point in the life of an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Point {
    /// Before the upload is created, and before anything is stored.
    PreCreate,
    /// After the upload has been created, before any content.
    PostCreate,
    /// While content arrives, and at the end of a request that brought some.
    PostReceive,
    /// After all content has been stored, before the upload is complete.
    PreFinish,
    /// After the upload has become complete.
    PostFinish,
    /// Before a client cancels the upload.
    PreTerminate,
    /// After a client has cancelled the upload, or a hook has stopped it.
    PostTerminate,
}

impl Point {
    /// All points, in the order in which an upload reaches them.
    pub const ALL: [Self; 7] = [
        Self::PreCreate,
        Self::PostCreate,
        Self::PostReceive,
        Self::PreFinish,
        Self::PostFinish,
        Self::PreTerminate,
        Self::PostTerminate,
    ];

    /// Returns the name, which never changes.
    pub const fn name(self) -> &'static str {
        match self {
            Self::PreCreate => "pre-create",
            Self::PostCreate => "post-create",
            Self::PostReceive => "post-receive",
            Self::PreFinish => "pre-finish",
            Self::PostFinish => "post-finish",
            Self::PreTerminate => "pre-terminate",
            Self::PostTerminate => "post-terminate",
        }
    }
}

/// The error for text that is not the name of a [`Point`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a hook; the hooks are pre-create, post-create, post-receive, pre-finish, post-finish, pre-terminate and \
     post-terminate"
)]
pub struct BadPoint;

impl FromStr for Point {
    type Err = BadPoint;

    fn from_str(text: &str) -> Result<Self, BadPoint> {
        Self::ALL.into_iter().find(|point| point.name() == text).ok_or(BadPoint)
    }
}

/// A set of points. The default is that of tusd: all but the blocking ones at the end of an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Points(u8);

impl Points {
    /// No point.
    pub const NONE: Self = Self(0);

    /// Returns a set of one point.
    pub const fn of(point: Point) -> Self {
        Self(1 << point as u8)
    }

    /// Returns whether a point is in the set.
    pub const fn contains(self, point: Point) -> bool {
        self.0 & Self::of(point).0 != 0
    }

    /// Returns the points of both sets.
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl Default for Points {
    fn default() -> Self {
        Self::of(Point::PreCreate)
            .and(Self::of(Point::PostCreate))
            .and(Self::of(Point::PostReceive))
            .and(Self::of(Point::PostFinish))
            .and(Self::of(Point::PostTerminate))
    }
}

impl FromIterator<Point> for Points {
    fn from_iter<I: IntoIterator<Item = Point>>(points: I) -> Self {
        points.into_iter().fold(Self::NONE, |set, point| set.and(Self::of(point)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_named_as_in_tusd() {
        for point in Point::ALL {
            assert_eq!(point.name().parse(), Ok(point));
        }
        assert_eq!("finish".parse::<Point>(), Err(BadPoint));
    }

    #[test]
    fn pre_finish_and_pre_terminate_are_not_in_the_default() {
        let default: Vec<_> = Point::ALL
            .into_iter()
            .filter(|point| Points::default().contains(*point))
            .map(Point::name)
            .collect();
        assert_eq!(default, ["pre-create", "post-create", "post-receive", "post-finish", "post-terminate"]);
        let two: Points = [Point::PreFinish, Point::PostFinish].into_iter().collect();
        assert!(two.contains(Point::PreFinish) && !two.contains(Point::PreCreate));
    }
}
