//! One upload in many parts at the same time, over both HTTPs, each part cut again and again and the server killed once.

use crate::harness::{Ask, Cut, Dice, Exchange, Home, Server, WIRES, Wire, say, seeds, soon};

const TOKEN: &str = "in-many-parts";
const PARTS: usize = 64;

fn of_part(ask: Ask, part: usize) -> Ask {
    ask.field("upload-index", format_args!("{part}{}", if part + 1 == PARTS { ";last" } else { "" }))
}

/// Sends one part, with cuts by the dice. Whether this was the request that completed the whole.
async fn send(server: &Server, part: usize, content: &[u8], mut dice: Dice, mut cuts: usize) -> bool {
    let mut acknowledged = 0;
    loop {
        let wire = WIRES[dice.below(2)];
        let got = server.ask(wire, of_part(Ask::new("HEAD", TOKEN), part)).await;
        let at = got.offset().filter(|_| got.status == 204);
        assert!(matches!(got.status, 204 | 404), "part {part}: {got:?}");
        let from = at.unwrap_or(0);
        assert!(from >= acknowledged, "part {part} went back from {acknowledged} to {from}");
        acknowledged = from;
        let ask = at.map_or_else(|| Ask::new("POST", TOKEN), |at| Ask::append(TOKEN, at));
        let ask = of_part(ask, part).sized(&content[from..]);
        if cuts == 0 || from == content.len() {
            let got = server.ask(wire, ask).await;
            // What was cut may have been under way still, and come in between.
            if got.status == 409 && got.offset() > at {
                continue;
            }
            assert_eq!((got.status, got.offset()), (204, Some(content.len())), "part {part}: {got:?}");
            return got.is_complete();
        }
        cuts -= 1;
        let limit = dice.below(ask.h1().len());
        let mut exchange =
            Exchange::begin(server, wire, ask, limit as u64).await.expect("the server listens");
        if soon("the part is answered or cut", exchange.reached()).await.is_none() {
            let how = [Cut::Fin, Cut::Rst, Cut::HalfClose, Cut::Stream][dice.below(4)];
            let how = if wire == Wire::H1 && matches!(how, Cut::Stream) { Cut::Rst } else { how };
            exchange.cut(how).await;
        }
    }
}

/// All parts at once, each cut up to `cuts` times. How many requests were told that they completed the whole.
async fn send_all(server: &Server, parts: &[Vec<u8>], dice: &mut Dice, cuts: usize) -> usize {
    let sending = parts.iter().enumerate().map(|(number, part)| {
        let dice = Dice(dice.next());
        async move { send(server, number, part, dice, cuts).await }
    });
    let mut completed = 0;
    let mut sending: Vec<_> = sending.map(Box::pin).collect();
    // Polled side by side in one task: the requests are in flight together.
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
async fn sixty_four_parts_in_parallel_are_one_upload_in_the_end() {
    for seed in seeds(0..2) {
        let mut dice = Dice(seed);
        let parts: Vec<_> = (0..PARTS)
            .map(|_| {
                let bytes = [1, 3000, 60_000][dice.below(3)] + dice.below(5000);
                dice.bytes(bytes)
            })
            .collect();
        let home = Home::new();
        let mut server = Server::start(&home, &["--durability", ["disk", "os"][dice.below(2)]]);
        // The first half with cuts, then the end of the process, then all of it.
        let half = soon("the first half", send_all(&server, &parts[..PARTS / 2], &mut dice, 4)).await;
        assert_eq!(half, 0, "complete before it is");
        server.kill();
        server = Server::start(&home, &["--durability", "os"]);
        let completed = soon("all parts", send_all(&server, &parts, &mut dice, 3)).await;
        say(format_args!("seed {seed}: told {completed} times that it is complete"));
        assert!(completed >= 1, "nobody was told");
        let whole = server.ask(WIRES[dice.below(2)], Ask::new("HEAD", TOKEN)).await;
        assert!(whole.is_complete(), "{whole:?}");
        let content = parts.concat();
        assert_eq!(whole.offset(), Some(content.len()));
        let stored: Vec<_> = home.done().into_iter().filter(|stored| stored.len() == content.len()).collect();
        assert!(stored.len() == 1 && stored[0] == content, "seed {seed}: other bytes than were sent");
        let gone = server.ask(Wire::H1, Ask::new("DELETE", TOKEN)).await;
        assert_eq!(gone.status, 204);
        assert_eq!(home.uploads("open") + home.uploads("done"), 0, "something of it is left");
    }
}
