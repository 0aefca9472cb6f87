//! Two requests for one upload at the same moment.

use hoist_store::memory::{Faults, MemoryStore};
use hoist_store::store::Store;
use http::StatusCode;

use crate::harness::{Content, Ends, Got, SeededRng, hoist, request, send};
use crate::schedules::read;

const TOKEN: (&str, &str) = ("upload-token", "raced-for");
const RACES: u64 = 1000;

// proves: TOK-APP-04, TOK-APP-02
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_two_appends_at_one_offset_only_one_stores_bytes() {
    let mut superseded = 0;
    for seed in 0..RACES {
        let mut dice = SeededRng(seed);
        let store = MemoryStore::with_faults(seed, Faults { yields_max: 3, ..Faults::NONE });
        let hoist = hoist(&store);
        let created =
            send(&hoist, request("POST", &[TOKEN, ("upload-length", "4000")], Content::none())).await;
        assert_eq!((created.status, created.offset()), (StatusCode::NO_CONTENT, Some(0)));

        let frame_bytes = 1 + dice.below(2000);
        let append = |letter: u8| {
            let hoist = hoist.clone();
            let content = Content::new(&[letter; 4000], frame_bytes, Ends::Whole, Some(4000));
            let request = request("PATCH", &[TOKEN, ("upload-offset", "0")], content);
            tokio::spawn(async move { send(&hoist, request).await })
        };
        let (a, b) = (append(b'a'), append(b'b'));
        let (a, b): (Got, Got) = (a.await.expect("no panic"), b.await.expect("no panic"));
        let winners = [&a, &b].iter().filter(|got| got.status.is_success()).count();
        assert!(winners <= 1, "seed {seed}: both appends at offset 0 succeeded");

        let id = store.list_all().await.expect("readable")[0].id;
        let content = read(&store, id).await;
        let stored = *content.first().expect("one of them stores something");
        assert!(content.iter().all(|byte| *byte == stored), "seed {seed}: bytes of both are stored");
        // The bytes are the winner's. Either its answer says so, or it was superseded with a prefix stored, and the answer to
        // the other states the offset.
        let (winner, other) = if stored == b'a' { (&a, &b) } else { (&b, &a) };
        assert!(!other.status.is_success(), "seed {seed}: {other:?}");
        if winner.status.is_success() {
            assert_eq!(content.len(), 4000, "seed {seed}: {winner:?}");
        } else {
            let answer = (other.status, other.offset());
            assert_eq!(answer, (StatusCode::CONFLICT, Some(content.len())), "seed {seed}: {other:?}");
            superseded += 1;
        }
    }
    assert!(superseded < RACES, "no append ever won");
    println!("{superseded} of {RACES} races ended with a prefix of the superseded append");
}

// proves: TOK-CRE-05
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_creations_of_one_token_one_wins() {
    for seed in 0..100 {
        let store = MemoryStore::with_faults(seed, Faults { yields_max: 3, ..Faults::NONE });
        let hoist = hoist(&store);
        let creations: Vec<_> = (0..8_u8)
            .map(|letter| {
                let hoist = hoist.clone();
                let request =
                    request("POST", &[TOKEN], Content::new(&[letter; 300], 50, Ends::Whole, Some(300)));
                tokio::spawn(async move { send(&hoist, request).await })
            })
            .collect();
        let mut winners = Vec::new();
        for (letter, creation) in (0..8_u8).zip(creations) {
            let got = creation.await.expect("no panic");
            match got.status {
                StatusCode::NO_CONTENT => winners.push(letter),
                StatusCode::CONFLICT => assert!(got.offset().is_some(), "seed {seed}: {got:?}"),
                other => panic!("seed {seed}: {other}"),
            }
        }
        assert_eq!(winners.len(), 1, "seed {seed}");
        let id = store.list_all().await.expect("readable")[0].id;
        assert_eq!(read(&store, id).await, [winners[0]; 300], "seed {seed}");
    }
}
