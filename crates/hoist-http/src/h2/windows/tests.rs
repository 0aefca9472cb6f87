//! The growth of windows: when it is asked for, how far it goes, and the budget it is taken from.

use std::pin::pin;
use std::task::{Context, Waker};

use super::*;
use crate::exchange::poll_once;

const MIB: u32 = 1 << 20;

fn left(budget: &Budget) -> u64 {
    budget.0.load(Ordering::Relaxed)
}

fn windows(budget: &Budget) -> Windows {
    let limits = Limits {
        h2_stream_window_bytes: MIB,
        h2_stream_window_bytes_max: 8 * MIB,
        h2_connection_window_bytes: 2 * MIB,
        ..Default::default()
    };
    Windows::new(budget, &limits)
}

/// Doubles the window of the streams. Returns it and the connection's window.
fn grow(windows: &mut Windows, streams: usize) -> Option<(u32, u32)> {
    let stream = windows.grow(streams)?;
    windows.stream_has_grown(stream);
    Some((stream / MIB, windows.connection() / MIB))
}

#[test]
fn the_budget_is_shared_and_given_back() {
    let budget = Budget::new(5 << 20);
    let first = budget.take(4 << 20);
    let second = budget.take(4 << 20);
    let third = budget.take(4 << 20);
    assert_eq!([first.bytes, second.bytes, third.bytes], [4 << 20, 1 << 20, CONNECTION_WINDOW_MIN]);
    drop(first);
    assert_eq!(budget.take(8 << 20).bytes, 4 << 20);
    let mut lease = budget.take(1 << 20);
    assert!(lease.grow(1 << 20) && !lease.grow(2 << 20) && lease.bytes == 2 << 20);
    lease.shrink(1 << 20);
    assert_eq!((lease.bytes, left(&budget)), (1 << 20, 3 << 20));
    drop(lease);
    assert_eq!(left(&budget), 4 << 20);
}

#[test]
fn windows_grow_to_their_maximum_and_leave_room_for_another_stream() {
    let budget = Budget::new(64 << 20);
    let mut windows = windows(&budget);
    assert_eq!((windows.stream(), windows.connection()), (MIB, 2 * MIB));
    let grown: Vec<_> = std::iter::from_fn(|| grow(&mut windows, 1)).collect();
    assert_eq!(grown, [(2, 3), (4, 5), (8, 9)]);
    assert_eq!(windows.fit(3), Some(25 * MIB));
    assert_eq!(left(&budget), 39 << 20);
    drop(windows);
    assert_eq!(left(&budget), 64 << 20);
}

#[test]
fn windows_grow_at_once_to_what_a_long_link_needs_and_the_budget_allows() {
    // 10 Gbit/s in 25 ms are 29 MiB.
    for (round_trip_millis, budget_mib, max_mib, grown) in [
        (19, 256, 64, vec![2, 4, 8, 16, 32, 64]),
        (25, 256, 16, vec![16]),
        (25, 256, 64, vec![29, 59, 64]),
        (25, 20, 16, vec![8]),
        (25, 5, 16, vec![2]),
        (25, 3, 16, vec![]),
    ] {
        let budget = Budget::new(budget_mib << 20);
        let limits = Limits {
            h2_stream_window_bytes: MIB,
            h2_stream_window_bytes_max: max_mib * MIB,
            h2_connection_window_bytes: 2 * MIB,
            ..Default::default()
        };
        let mut windows = Windows::new(&budget, &limits);
        windows.usage().measured(Duration::from_millis(round_trip_millis));
        let next = || {
            windows.usage().half_used(Duration::ZERO);
            grow(&mut windows, 1).map(|(stream, _)| stream)
        };
        let all: Vec<_> = std::iter::from_fn(next).collect();
        assert_eq!(all, grown, "{round_trip_millis} ms, {budget_mib} and {max_mib} MiB");
        assert_eq!(u64::from(windows.connection()) + left(&budget), budget_mib << 20);
    }
}

#[test]
fn windows_of_many_connections_stay_within_the_budget() {
    let budget = Budget::new(16 << 20);
    let mut all: Vec<_> = (0..9).map(|_| windows(&budget)).collect();
    // The last connection has what the protocol gives to all.
    assert_eq!((all[8].connection(), left(&budget)), (CONNECTION_WINDOW_MIN, 0));
    assert!(all.iter_mut().all(|windows| windows.grow(1).is_none() && windows.fit(9).is_none()));
    all.truncate(2);
    while all.iter_mut().any(|windows| grow(windows, 1).is_some()) {}
    let granted: u64 = all.iter().map(|windows| u64::from(windows.connection())).sum();
    assert_eq!(granted + left(&budget), 16 << 20);
    assert!(all.iter().all(|windows| windows.stream() > MIB));
}

#[tokio::test]
async fn larger_windows_are_asked_for_when_a_round_trip_uses_half_of_one() {
    for (round_trip_millis, took_millis, grows) in
        [(100, 1, true), (100, 100, true), (100, 101, false), (1, 1, true), (0, 0, false)]
    {
        let usage = Arc::new(Usage::new(MIB));
        let _stream = StreamUsage::new(&usage, None);
        let mut asked = pin!(usage.growth_wanted());
        usage.half_used(Duration::from_millis(took_millis));
        assert!(poll_once(asked.as_mut()).await.is_pending(), "the round trip is unknown");
        usage.measurement_wanted().await;
        usage.measured(Duration::from_secs(1));
        usage.measured(Duration::from_millis(round_trip_millis));
        usage.half_used(Duration::from_millis(took_millis));
        assert_eq!(poll_once(asked.as_mut()).await.is_ready(), grows, "{round_trip_millis} {took_millis}");
    }
}

#[test]
fn windows_grow_for_announced_content_when_its_consumer_waits() {
    for (round_trip_millis, length_mib, grown) in
        [(100, 5, Some(4)), (100, 64, Some(16)), (100, 1, None), (1, 64, None), (u64::MAX, 64, None)]
    {
        let budget = Budget::new(64 << 20);
        let limits = Limits { h2_stream_window_bytes: MIB, ..Default::default() };
        let mut windows = Windows::new(&budget, &limits);
        if round_trip_millis < u64::MAX {
            windows.usage().measured(Duration::from_millis(round_trip_millis));
        }
        let usage = Arc::clone(windows.usage());
        let mut stream = StreamUsage::new(&usage, Some(length_mib << 20));
        stream.took(MIB as usize);
        let mut asked = pin!(usage.growth_wanted());
        assert!(asked.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        stream.waits();
        let is_asked = asked.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready();
        assert_eq!(
            is_asked.then(|| grow(&mut windows, 1).unwrap().0),
            grown,
            "{round_trip_millis} ms, {length_mib} MiB"
        );
        // Once: what the budget refuses is not asked for again and again.
        let mut again = pin!(usage.growth_wanted());
        stream.waits();
        assert!(again.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
}

#[test]
fn a_window_is_given_back_when_the_peer_has_used_it_up() {
    let budget = Budget::new(64 << 20);
    let mut windows = windows(&budget);
    assert_eq!(windows.fit(9), Some(10 * MIB));
    assert_eq!(windows.fit(1), Some(2 * MIB));
    // The peer may still send what it was granted.
    assert_eq!(left(&budget), 54 << 20);
    windows.usage().released(3 << 20);
    assert_eq!(windows.fit(4), Some(5 * MIB));
    // Three of the eight were used up, and three are taken again.
    assert_eq!((windows.excess, left(&budget)), (2 * MIB, 57 << 20));
    windows.usage().released(3 << 20);
    assert_eq!(windows.fit(1), Some(2 * MIB));
    assert_eq!((windows.excess, left(&budget)), (3 * MIB, 59 << 20));
}
