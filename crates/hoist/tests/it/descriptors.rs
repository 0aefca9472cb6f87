//! A low limit on open files: connections wait, uploads do not fail.

use crate::harness::{Raw, Server, ServerDir};

#[tokio::test]
async fn idle_connections_take_no_descriptor_from_an_upload() {
    let home = ServerDir::new();
    let program = ["sh", "-c", "ulimit -n 64; exec \"$@\"", "sh"].map(str::to_owned);
    let server = Server::under(&home, &program, &[]);
    let mut upload = Raw::connect(&server).await;
    let creation = "POST /uploads HTTP/1.1\r\nhost: h\r\nupload-token: few-files\r\nupload-length: 600\r\n\
                    content-length: 0\r\n\r\n";
    upload.send(creation).await;
    assert_eq!(upload.answer(false).await.expect("an answer").status, 204);
    let mut idle = Vec::new();
    for number in 0..60 {
        idle.push(Raw::connect(&server).await);
        let head = format!(
            "PATCH /uploads HTTP/1.1\r\nhost: h\r\nupload-token: few-files\r\nupload-offset: {}\r\n\
             content-length: 10\r\n\r\n0123456789",
            number * 10
        );
        upload.send(head).await;
        let got = upload.answer(false).await.expect("an answer");
        assert_eq!(got.status, 204, "with {} idle connections: {got:?}", idle.len());
    }
    assert_eq!(home.only_complete(), b"0123456789".repeat(60));
    assert!(home.log().contains("the limit of 64 open files"), "{}", home.log());
}
