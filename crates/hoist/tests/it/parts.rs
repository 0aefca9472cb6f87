//! One upload in many concurrent parts, over HTTP/1.1 and HTTP/2, with cuts and a killed server.

use crate::harness::{
    Cut, Exchange, SeededRng, Server, ServerDir, TRANSPORTS, TestRequest, Transport, print_note, seeds,
    within_timeout,
};

const TOKEN: &str = "in-many-parts";
const PARTS: usize = 64;

fn of_part(request: TestRequest, part: usize) -> TestRequest {
    request.field("upload-index", format_args!("{part}{}", if part + 1 == PARTS { ";last" } else { "" }))
}

/// Sends one part with random cuts. Returns whether its last request completed the whole upload.
async fn send(server: &Server, part: usize, content: &[u8], mut rng: SeededRng, mut cuts: usize) -> bool {
    let mut acknowledged = 0;
    loop {
        let transport = TRANSPORTS[rng.below(2)];
        let got = server.request(transport, of_part(TestRequest::new("HEAD", TOKEN), part)).await;
        let at = got.offset().filter(|_| got.status == 204);
        assert!(matches!(got.status, 204 | 404), "part {part}: {got:?}");
        let from = at.unwrap_or(0);
        assert!(from >= acknowledged, "part {part} went back from {acknowledged} to {from}");
        acknowledged = from;
        let request = at.map_or_else(|| TestRequest::new("POST", TOKEN), |at| TestRequest::append(TOKEN, at));
        let request = of_part(request, part).sized(&content[from..]);
        if cuts == 0 || from == content.len() {
            let got = server.request(transport, request).await;
            // A cut request may still have been processed.
            if got.status == 409 && got.offset() > at {
                continue;
            }
            assert_eq!((got.status, got.offset()), (204, Some(content.len())), "part {part}: {got:?}");
            return got.is_complete();
        }
        cuts -= 1;
        let limit = rng.below(request.h1().len());
        let mut exchange =
            Exchange::begin(server, transport, request, limit as u64).await.expect("the server listens");
        if within_timeout("the part is answered or cut", exchange.reached()).await.is_none() {
            let how = [Cut::Fin, Cut::Rst, Cut::HalfClose, Cut::Stream][rng.below(4)];
            let how = if transport == Transport::H1 && matches!(how, Cut::Stream) { Cut::Rst } else { how };
            exchange.cut(how).await;
        }
    }
}

/// Sends all parts concurrently, each with up to `cuts` cuts. Returns the number of requests that completed the whole
/// upload.
async fn send_all(server: &Server, parts: &[Vec<u8>], rng: &mut SeededRng, cuts: usize) -> usize {
    let sending = parts.iter().enumerate().map(|(number, part)| {
        let rng = SeededRng(rng.next());
        async move { send(server, number, part, rng, cuts).await }
    });
    let mut completed = 0;
    let mut sending: Vec<_> = sending.map(Box::pin).collect();
    // Polled in one task, so that the requests are concurrent.
    std::future::poll_fn(|cx| {
        sending.retain_mut(|part| match part.as_mut().poll(cx) {
            std::task::Poll::Ready(is_last) => {
                completed += usize::from(is_last);
                false
            }
            std::task::Poll::Pending => true,
        });
        if sending.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    completed
}

// proves: TOK-IDX-01, TOK-IDX-02, TOK-IDX-03, TOK-IDX-04, TOK-IDX-04a, TOK-IDX-05
#[tokio::test]
async fn sixty_four_parallel_parts_become_one_upload() {
    for seed in seeds(0..2) {
        let mut rng = SeededRng(seed);
        let parts: Vec<_> = (0..PARTS)
            .map(|_| {
                let bytes = [1, 3000, 60_000][rng.below(3)] + rng.below(5000);
                rng.bytes(bytes)
            })
            .collect();
        let home = ServerDir::new();
        let mut server = Server::start(&home, &["--durability", ["disk", "os"][rng.below(2)]]);
        // The first half with cuts, then the server is killed, then everything.
        let half =
            within_timeout("the first half", send_all(&server, &parts[..PARTS / 2], &mut rng, 4)).await;
        assert_eq!(half, 0, "complete before it is");
        server.kill();
        server = Server::start(&home, &["--durability", "os"]);
        let completed = within_timeout("all parts", send_all(&server, &parts, &mut rng, 3)).await;
        print_note(format_args!("seed {seed}: told {completed} times that it is complete"));
        assert!(completed >= 1, "nobody was told");
        let whole = server.request(TRANSPORTS[rng.below(2)], TestRequest::new("HEAD", TOKEN)).await;
        assert!(whole.is_complete(), "{whole:?}");
        let content = parts.concat();
        assert_eq!(whole.offset(), Some(content.len()));
        let stored: Vec<_> = home.done().into_iter().filter(|stored| stored.len() == content.len()).collect();
        assert!(stored.len() == 1 && stored[0] == content, "seed {seed}: other bytes than were sent");
        let gone = server.request(Transport::H1, TestRequest::new("DELETE", TOKEN)).await;
        assert_eq!(gone.status, 204);
        assert_eq!(home.uploads("open") + home.uploads("done"), 0, "something of it is left");
    }
}
