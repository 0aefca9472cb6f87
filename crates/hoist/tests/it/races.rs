//! Concurrent requests for one upload on separate connections.

use crate::harness::{
    SeededRng, Server, ServerDir, TRANSPORTS, TestRequest, TestResponse, TransportError, print_note, seeds,
};

// proves: TOK-APP-04, TOK-APP-02
#[tokio::test]
async fn one_of_two_appends_at_the_same_offset_wins() {
    let home = ServerDir::new();
    let server = Server::start(&home, &["--durability", "os"]);
    let mut prefixes = 0;
    for seed in seeds(0..1000) {
        let mut rng = SeededRng(seed);
        let token = format!("raced-for-{seed}");
        let length = 1 + [4000, 100_000, 700_000][rng.below(3)] + rng.below(4000);
        let base = rng.below(3) * 100;
        let request =
            TestRequest::new("POST", &token).field("upload-length", base + length).sized(vec![b'-'; base]);
        assert_eq!(
            server.request(TRANSPORTS[rng.below(2)], request).await.offset(),
            Some(base),
            "seed {seed}"
        );

        let mut append = |letter: u8| {
            let request = TestRequest::append(&token, base).sized(vec![letter; length]);
            server.try_request(TRANSPORTS[rng.below(2)], request)
        };
        let (a, b): (Result<TestResponse, TransportError>, Result<TestResponse, TransportError>) =
            tokio::join!(append(b'a'), append(b'b'));
        let won =
            |got: &Result<TestResponse, TransportError>| got.as_ref().is_ok_and(|got| got.status == 204);
        assert!(!(won(&a) && won(&b)), "seed {seed}: both appends at one offset succeeded");
        for got in [&a, &b].into_iter().flatten() {
            assert!(matches!(got.status, 204 | 409), "seed {seed}: {got:?}");
        }

        let offset = server.offset(TRANSPORTS[0], &token).await.expect("it is there");
        let mut contents = home.open();
        contents.extend(home.done());
        assert_eq!(contents.len(), 1);
        let content = contents.remove(0);
        assert_eq!(offset, content.len(), "seed {seed}: an offset that is not what is stored");
        let appended = &content[base..];
        let first = appended.first().copied();
        assert!(appended.iter().all(|byte| Some(*byte) == first), "seed {seed}: bytes of both are stored");
        if let Some(winner) = first {
            let (told, other) = if winner == b'a' { (&a, &b) } else { (&b, &a) };
            assert!(!won(other), "seed {seed}: told that its bytes are stored: {other:?}");
            assert!(!won(told) || appended.len() == length, "seed {seed}: {told:?}");
            prefixes += u32::from(!won(told));
        }
        assert_eq!(server.request(TRANSPORTS[1], TestRequest::new("DELETE", &token)).await.status, 204);
    }
    print_note(format_args!("{prefixes} races ended with a prefix of the one that was overtaken"));
}

// proves: IETF-CON-02, IETF-APP-07
#[tokio::test]
async fn the_bytes_of_one_of_two_draft_appends_are_stored() {
    let home = ServerDir::new();
    let server = Server::start(&home, &["--durability", "os"]);
    let version = ("upload-draft-interop-version", "8");
    for seed in seeds(0..60) {
        let mut rng = SeededRng(seed);
        let (base, length) = (rng.below(3) * 100, 1 + [4000, 100_000, 700_000][rng.below(3)]);
        let create = TestRequest::to("POST", "/uploads").with(version).field("upload-complete", "?0");
        let created = server.request(TRANSPORTS[rng.below(2)], create.sized(vec![b'-'; base])).await;
        let url: http::Uri = created.field("location").expect("where it is").parse().expect("a URL");
        let request = |method| TestRequest::to(method, url.path()).with(version);
        let finish = ["?0", "?1"][rng.below(2)];
        let mut append = |letter: u8| {
            let append = request("PATCH").field("content-type", "application/partial-upload");
            let append = append.field("upload-offset", base).field("upload-complete", finish);
            server.try_request(TRANSPORTS[rng.below(2)], append.sized(vec![letter; length]))
        };
        let (a, b): (Result<TestResponse, TransportError>, Result<TestResponse, TransportError>) =
            tokio::join!(append(b'a'), append(b'b'));
        let won = |got: &Result<TestResponse, TransportError>| got.as_ref().is_ok_and(|got| got.status < 300);
        assert!(!(won(&a) && won(&b)), "seed {seed}: both appends at one offset succeeded");
        for got in [&a, &b].into_iter().flatten() {
            assert!(got.status < 300 || got.status == 409, "seed {seed}: {got:?}");
        }
        let state = server.request(TRANSPORTS[0], request("HEAD")).await;
        let mut contents = home.open();
        contents.extend(home.done());
        assert_eq!(contents.len(), 1);
        let content = contents.remove(0);
        assert_eq!(state.offset(), Some(content.len()), "seed {seed}: an offset that is not what is stored");
        let appended = &content[base..];
        let first = appended.first().copied();
        assert!(appended.iter().all(|byte| Some(*byte) == first), "seed {seed}: bytes of both are stored");
        let told = if first == Some(b'a') { (&a, &b) } else { (&b, &a) };
        assert!(!won(told.1), "seed {seed}: told that its bytes are stored: {told:?}");
        assert!(!won(told.0) || appended.len() == length, "seed {seed}: {told:?}");
        assert_eq!(
            state.is_complete(),
            won(told.0) && finish == "?1",
            "seed {seed}: {state:?} after {told:?}"
        );
        assert_eq!(server.request(TRANSPORTS[1], request("DELETE")).await.status, 204);
    }
}

// proves: TOK-CRE-05
#[tokio::test]
async fn one_of_many_creations_with_the_same_token_wins() {
    let home = ServerDir::new();
    let server = Server::start(&home, &["--durability", "os"]);
    for seed in seeds(0..30) {
        let token = format!("wanted-{seed}");
        let creation = |letter: u8| {
            let request = TestRequest::new("POST", &token).sized(vec![letter; 30_000]);
            server.request(TRANSPORTS[usize::from(letter % 2)], request)
        };
        let answers: [TestResponse; 4] =
            tokio::join!(creation(0), creation(1), creation(2), creation(3)).into();
        let won: Vec<_> = (0_u8..).zip(&answers).filter(|(_, got)| got.status == 204).collect();
        assert_eq!(won.len(), 1, "seed {seed}: {answers:?}");
        assert!(answers.iter().all(|got| matches!(got.status, 204 | 409)), "seed {seed}: {answers:?}");
        assert!(home.only_complete() == vec![won[0].0; 30_000], "seed {seed}");
        assert_eq!(server.request(TRANSPORTS[0], TestRequest::new("DELETE", &token)).await.status, 204);
    }
}
