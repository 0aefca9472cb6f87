//! The client everybody has: uploads with curl, cut and continued.

use std::ffi::OsStr;
use std::fs;

use tokio::process::Command;

use crate::harness::{Home, Server, bytes, say, soon};

/// Runs curl to its end; its standard output. Nothing, and the reason, where there is none.
async fn curl<S: AsRef<OsStr>>(words: impl IntoIterator<Item = S>) -> Option<(bool, String)> {
    let mut command = Command::new("curl");
    command.args(["-sS", "--noproxy", "*"]).args(words).kill_on_drop(true);
    match soon("curl", command.output()).await {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            Some((output.status.success(), text + &String::from_utf8_lossy(&output.stderr)))
        }
        Err(error) => {
            say(format_args!("not tested: there is no curl: {error}"));
            None
        }
    }
}

const VERSIONS: [&str; 2] = ["--http1.1", "--http2-prior-knowledge"];

#[tokio::test]
async fn curl_uploads_in_every_way_it_knows() {
    let home = Home::new();
    let server = Server::start(&home, &[]);
    let content = bytes(1, 3_000_000);
    let film = home.text("film");
    fs::write(&film, &content).expect("written");
    let data = format!("@{film}");
    let ways: [&[&str]; 5] = [
        &["-T", &film, "-X", "POST"],
        &["-T", &film],
        &["--data-binary", &data],
        &["-T", &film, "-X", "POST", "-H", "Transfer-Encoding: chunked"],
        &["-T", &film, "-X", "POST", "-H", "Upload-Draft-Interop-Version: 2"],
    ];
    for version in VERSIONS {
        for (number, way) in ways.iter().enumerate() {
            let token = format!("Upload-Token: curl-{number}");
            let words = [version, "-H", &token, "-w", "%{http_code}", &server.url];
            let Some((is_well, said)) = curl(way.iter().chain(&words)).await else { return };
            let expected = if number == 4 { "201" } else { "204" };
            assert!(is_well && said.ends_with(expected), "{version} {way:?}: {said}");
            assert!(home.sole() == content, "{version} {way:?}");
            let words = ["-X", "DELETE", "-H", &token, "-w", "%{http_code}", &server.url];
            assert_eq!(curl(words).await.expect("curl is there"), (true, "204".into()));
        }
    }
}

// proves: TOK-OFF-01, TOK-APP-01
#[tokio::test]
async fn curl_is_cut_and_goes_on_where_it_was() {
    for version in VERSIONS {
        let home = Home::new();
        let server = Server::start(&home, &[]);
        let content = bytes(2, 5_000_000);
        let film = home.text("film");
        fs::write(&film, &content).expect("written");
        let token = "Upload-Token: :MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI=:";
        let mut command = Command::new("curl");
        let words = [
            "-sS",
            "--noproxy",
            "*",
            "--limit-rate",
            "400K",
            version,
            "-X",
            "POST",
            "-H",
            token,
            "-T",
            &film,
            &server.url,
        ];
        let mut first = match command.args(words).kill_on_drop(true).spawn() {
            Ok(first) => first,
            Err(error) => return say(format_args!("not tested: there is no curl: {error}")),
        };
        home.holds(100_000).await;
        first.kill().await.expect("it runs");

        for limit in [Some("0.7"), None] {
            let (is_well, head) =
                curl([version, "-I", "-H", token, &server.url]).await.expect("curl is there");
            assert!(is_well && head.contains(" 204"), "{head}");
            let field = head
                .lines()
                .find_map(|line| line.to_lowercase().strip_prefix("upload-offset: ").map(str::to_owned));
            let offset: usize = field.expect("an offset").trim().parse().expect("a number");
            assert!((100_000..content.len()).contains(&offset), "{offset}");
            let tail = home.text("tail");
            fs::write(&tail, &content[offset..]).expect("written");
            let at = format!("Upload-Offset: {offset}");
            let mut words =
                vec![version, "-X", "PATCH", "-H", token, "-H", &at, "-T", &tail, "-w", "%{http_code}"];
            if let Some(seconds) = limit {
                words.extend(["--limit-rate", "400K", "--max-time", seconds]);
            }
            words.push(&server.url);
            let (is_well, said) = curl(words).await.expect("curl is there");
            assert_eq!(is_well, limit.is_none(), "{said}");
        }
        assert!(home.sole() == content);
    }
}
