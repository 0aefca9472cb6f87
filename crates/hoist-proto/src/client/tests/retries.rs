//! Pauses between attempts, and their bound.

use super::*;

#[test]
fn pauses_grow_with_jitter_and_honour_retry_after() {
    let retries = Retries::default();
    let second = |seconds| Duration::from_secs(seconds);
    for (attempt, most) in
        [(1, second(1) / 2), (2, second(1)), (3, second(2)), (7, second(30)), (90, second(30))]
    {
        assert_eq!(retries.wait(attempt, 0), Duration::ZERO);
        assert!(retries.wait(attempt, u64::MAX) <= most);
        assert!(retries.wait(attempt, u64::MAX) + Duration::from_micros(1) >= most);
        let half = retries.wait(attempt, u64::MAX / 2);
        assert!(half < most && half > most / 3, "{attempt}: {half:?}");
    }

    let mut uploader = uploader(100);
    run(&mut uploader, &[("POST 0-100", Answers(503, "Retry-After: 20"))]);
    let Step::Wait(wait) = uploader.step() else { panic!("no pause") };
    assert!((second(20)..second(21)).contains(&wait), "{wait:?}");
    assert!(matches!(uploader.step(), Step::Send(_)));

    // A pause beyond the retry budget ends the upload at once.
    let mut uploader = self::uploader(100);
    run(&mut uploader, &[("POST 0-100", Answers(503, "Retry-After: 99999999999999999999"))]);
    assert!(matches!(
        ends(&mut uploader),
        Err(Failure::Exhausted { attempts: 1, last: AttemptError::Status(_) })
    ));
}

#[test]
fn retries_are_bounded_and_renewed_by_progress() {
    // In number.
    let mut uploader = uploader(100);
    run(&mut uploader, &[("POST 0-100", Lost(Some(0)))]);
    for _ in 0..5 {
        run(&mut uploader, &[("HEAD", Lost(Some(0)))]);
    }
    assert_eq!(ends(&mut uploader), Err(Failure::Exhausted { attempts: 6, last: AttemptError::Lost }));

    // In time.
    let mut uploader = resumed(100);
    uploader.step();
    uploader.on_lost(true, moment(1_000_000));
    uploader.step();
    uploader.step();
    uploader.on_lost(true, moment(1_300_001));
    assert!(matches!(ends(&mut uploader), Err(Failure::Exhausted { attempts: 2, .. })));

    // Each acknowledged byte renews both.
    let mut uploader = resumed(100);
    for at in 1..100_u64 {
        let offset: &'static str = Box::leak(format!("Upload-Offset: {at}").into_boxed_str());
        let append: &'static str = Box::leak(format!("PATCH {at}-100 at {at}").into_boxed_str());
        run(
            &mut uploader,
            &[("HEAD", Lost(Some(0))), ("HEAD", Answers(204, offset)), (append, Lost(Some(1)))],
        );
    }
    assert_eq!(uploader.attempts_repeated(), 198);

    // An offset that alternates is no progress.
    let mut uploader = resumed(100);
    run(&mut uploader, &[("HEAD", Answers(204, "Upload-Offset: 50"))]);
    for _ in 0..3 {
        run(&mut uploader, &[("PATCH 50-100 at 50", Answers(409, "Upload-Offset: 10"))]);
        if let Step::Failed(_) = uploader.clone().step() {
            break;
        }
        run(&mut uploader, &[("PATCH 10-100 at 10", Answers(409, "Upload-Offset: 50"))]);
    }
    assert!(matches!(ends(&mut uploader), Err(Failure::Exhausted { attempts: 6, .. })));
}
