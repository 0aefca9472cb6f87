//! Tests of the queue of a sink.

use std::collections::BTreeMap;

use hoist_proto::testing::{self, SeededRng};

use super::*;

const BOUNDS: Bounds = Bounds { uploads: 100, views: 10, sends: 4 };

fn id(number: u64) -> UploadId {
    UploadId::from_bits(u128::from(number).to_be_bytes())
}

fn stored(number: u64) -> EventSource {
    EventSource::Stored(id(number))
}

fn begin(lane: &mut Lane, now: Instant) -> Attempt {
    lane.begin(now).expect("an attempt is due")
}

#[test]
fn the_pause_doubles_up_to_an_hour_and_is_spread() {
    assert_eq!(pause(1, 0.0), PAUSE_MIN);
    assert_eq!(pause(2, 0.5), Duration::from_secs(2));
    assert_eq!((pause(5, 0.0), pause(5, 1.0)), (Duration::from_secs(12), Duration::from_secs(20)));
    for failures in [13, 14, 32, 33, 34, u32::MAX] {
        assert_eq!(pause(failures, 1.0), PAUSE_MAX, "{failures}");
    }
}

#[test]
fn an_upload_has_one_attempt_at_a_time_and_its_records_are_in_order() {
    let (mut lane, now) = (Lane::new(BOUNDS), Instant::now());
    lane.add(stored(1), 1, None, now);
    let first = begin(&mut lane, now);
    lane.add(stored(1), 1, None, now);
    lane.removed(id(1), Some(EventSource::Removed(id(1), 5)), 1, now);
    lane.add(stored(1), 1, None, now);
    assert!(lane.begin(now).is_none(), "the first attempt runs");
    assert_eq!((lane.pending(), lane.sending()), (4, 1));
    lane.end(&first, &[EventKind::Created], Ending::Settled, now);
    let second = begin(&mut lane, now);
    assert_eq!(second.source, EventSource::Removed(id(1), 5));
    assert!(second.delivered.contains(EventKind::Created), "this is known of the removed upload");
    lane.end(&second, &[EventKind::Finished, EventKind::Terminated], Ending::Settled, now);
    let third = begin(&mut lane, now);
    assert_eq!((third.source, third.delivered), (stored(1), Kinds::default()), "another upload");
    lane.end(&third, &[EventKind::Created], Ending::Settled, now);
    assert_eq!((lane.pending(), lane.next()), (0, None));
    assert!(lane.works.is_empty() && lane.due.is_empty());
}

#[test]
fn a_failure_delays_its_upload_and_no_other() {
    let (mut lane, now) = (Lane::new(BOUNDS), Instant::now());
    lane.add(stored(1), 2, None, now);
    let attempt = begin(&mut lane, now);
    lane.end(&attempt, &[], Ending::Failed { spread: 0.5 }, now);
    lane.add(stored(2), 1, None, now);
    assert_eq!(begin(&mut lane, now).source, stored(2));
    assert!(lane.begin(now).is_none());
    lane.add(stored(1), 1, None, now);
    assert!(lane.begin(now).is_none(), "another event does not bring the failed one forward");
    let later = now + Duration::from_secs(1);
    let attempt = begin(&mut lane, later);
    assert_eq!((attempt.source, attempt.failures), (stored(1), 1));
    lane.end(&attempt, &[EventKind::Created], Ending::Failed { spread: 0.5 }, later);
    assert_eq!(lane.next(), Some(later + Duration::from_secs(1)), "the failures are those of the next event");
}

#[test]
fn an_unreachable_sink_is_probed_and_gets_all_events_when_it_answers() {
    let (mut lane, mut now) = (Lane::new(BOUNDS), Instant::now());
    for number in 0..50 {
        lane.add(stored(number), 1, None, now);
    }
    let (start, mut attempts) = (now, 0);
    while now < start + Duration::from_mins(10) {
        now = lane.next().expect("there is more to do").max(now);
        let attempt = begin(&mut lane, now);
        attempts += 1;
        lane.end(&attempt, &[], Ending::Failed { spread: 0.5 }, now);
    }
    assert!(lane.is_unreachable());
    assert!((20..50).contains(&attempts), "{attempts} attempts in ten minutes");
    now = lane.next().expect("there is more to do");
    let attempt = begin(&mut lane, now);
    assert_eq!(lane.next(), None, "one at a time");
    lane.end(&attempt, &[EventKind::Created], Ending::Settled, now);
    let mut running = Vec::new();
    while let Some(attempt) = lane.begin(now) {
        running.push(attempt);
    }
    assert_eq!(running.len(), BOUNDS.sends, "several at once, and at once");
    assert_eq!(lane.pending(), 49);
}

#[test]
fn uploads_that_do_not_fit_are_counted_and_found_by_a_listing() {
    let (mut lane, now) = (Lane::new(BOUNDS), Instant::now());
    for number in 0..250 {
        lane.add(stored(number), 2, None, now);
    }
    assert_eq!((lane.works.len(), lane.pending()), (100, 500));
    assert!(!lane.take_spilled(), "nothing fits");
    let mut settled = 0;
    while lane.pending() > 0 {
        let attempt = begin(&mut lane, now);
        lane.end(&attempt, &[EventKind::Created, EventKind::Finished], Ending::Settled, now);
        settled += 1;
        if lane.take_spilled() {
            for number in settled..250 {
                lane.found(stored(number), 2, now);
            }
        }
    }
    assert_eq!(settled, 250, "each once");
}

#[test]
fn records_in_memory_are_bounded_and_given_to_the_first_attempt_alone() {
    let (mut lane, now) = (Lane::new(BOUNDS), Instant::now());
    for number in 0..20 {
        lane.add(stored(number), 1, Some(Arc::new(testing::upload(id(number)))), now);
    }
    assert_eq!(lane.views, BOUNDS.views);
    let attempt = begin(&mut lane, now);
    assert!(attempt.view.is_some());
    lane.end(&attempt, &[], Ending::Failed { spread: 0.0 }, now);
    lane.add(stored(1), 1, None, now);
    assert_eq!(lane.views, BOUNDS.views - 2, "an upload with a later event is read");
    lane.removed(id(2), None, 0, now);
    assert_eq!((lane.views, lane.works.len()), (BOUNDS.views - 3, 19));
}

/// Uploads are created, finished, removed and created anew while attempts succeed and fail. In the end each record was
/// settled, nothing is left, and no number is wrong.
#[test]
fn whatever_happens_to_uploads_each_record_is_settled_in_order() {
    for seed in 0..200 {
        let mut random = SeededRng(seed);
        let (mut lane, mut now) = (Lane::new(Bounds { uploads: 1000, ..BOUNDS }), Instant::now());
        // The records that the store has, and whether each has been read to its end.
        let mut removals = 0;
        let mut open: BTreeMap<EventSource, bool> = BTreeMap::new();
        let mut running: Vec<Attempt> = Vec::new();
        let mut last: BTreeMap<UploadId, EventSource> = BTreeMap::new();
        for step in 0..400 {
            let number = random.up_to(9);
            match random.below(6) {
                0 | 1 if step < 200 => {
                    lane.add(stored(number), 1, None, now);
                    open.insert(stored(number), true);
                    last.remove(&id(number));
                }
                2 if step < 200 && open.remove(&stored(number)).is_some() => {
                    removals += 1;
                    let source = EventSource::Removed(id(number), removals);
                    lane.removed(id(number), Some(source), 1, now);
                    open.insert(source, true);
                    last.remove(&id(number));
                }
                3 | 4 => {
                    now = lane.next().map_or(now, |next| next.max(now));
                    if let Some(attempt) = lane.begin(now) {
                        let id = attempt.source.id();
                        assert!(running.iter().all(|other| other.source.id() != id), "seed {seed}");
                        let earlier = last.insert(id, attempt.source);
                        assert!(earlier.is_none_or(|earlier| earlier <= attempt.source), "seed {seed}");
                        running.push(attempt);
                    }
                }
                _ if !running.is_empty() => {
                    let at = random.below(running.len());
                    let attempt = running.swap_remove(at);
                    if random.one_in(3) {
                        lane.end(&attempt, &[], Ending::Failed { spread: 0.5 }, now);
                    } else {
                        lane.end(&attempt, &[EventKind::Created], Ending::Settled, now);
                    }
                }
                _ => {}
            }
        }
        let mut attempts = 0;
        loop {
            while let Some(attempt) = running.pop() {
                lane.end(&attempt, &[EventKind::Created], Ending::Settled, now);
            }
            let Some(next) = lane.next() else { break };
            now = next.max(now);
            running.extend(lane.begin(now));
            attempts += 1;
            assert!(attempts < 1000, "seed {seed}: it ends");
        }
        assert!(lane.works.is_empty() && lane.due.is_empty(), "seed {seed}");
        assert_eq!((lane.pending(), lane.views, lane.sending()), (0, 0, 0), "seed {seed}");
    }
}
