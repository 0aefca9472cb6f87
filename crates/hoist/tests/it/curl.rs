//! Uploads with curl, interrupted and resumed.

use std::ffi::OsStr;
use std::fs;

use tokio::process::Command;

use crate::harness::{Server, ServerDir, TestRequest, Transport, bytes, print_note, within_timeout};

/// Runs curl and returns its standard output, or `None` with a note if curl is not installed.
async fn curl<S: AsRef<OsStr>>(words: impl IntoIterator<Item = S>) -> Option<(bool, String)> {
    let mut command = Command::new("curl");
    command.args(["-sS", "--noproxy", "*"]).args(words).kill_on_drop(true);
    match within_timeout("curl", command.output()).await {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            Some((output.status.success(), text + &String::from_utf8_lossy(&output.stderr)))
        }
        Err(error) => {
            print_note(format_args!("not tested: there is no curl: {error}"));
            None
        }
    }
}

const VERSIONS: [&str; 2] = ["--http1.1", "--http2-prior-knowledge"];

#[tokio::test]
async fn curl_uploads_with_every_method() {
    let home = ServerDir::new();
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
            assert!(home.only_complete() == content, "{version} {way:?}");
            let words = ["-X", "DELETE", "-H", &token, "-w", "%{http_code}", &server.url];
            assert_eq!(curl(words).await.expect("curl is there"), (true, "204".into()));
        }
    }
}

#[tokio::test]
async fn an_ordinary_curl_upload_gets_a_location() {
    let home = ServerDir::new();
    let server = Server::start(&home, &[]);
    let content = bytes(4, 3_000_000);
    let film = home.text("film");
    fs::write(&film, &content).expect("written");
    let (data, directory) = (format!("@{film}"), format!("{}/", server.url));
    let ways: [&[&str]; 3] = [
        &["-T", &film, &directory],
        &["-T", &film, "-H", "Transfer-Encoding: chunked", &directory],
        &["--data-binary", &data, &server.url],
    ];
    for version in VERSIONS {
        for way in ways {
            let Some((is_well, said)) = curl(way.iter().chain(&[version, "-v"])).await else { return };
            let heads = heads(&said);
            let last = heads.last().expect("an answer");
            assert!(is_well && status(last) == "201", "{version} {way:?}: {said}");
            let url = field(last, "location").expect("where it is");
            assert!(url.starts_with(&directory), "{url}");
            assert!(home.only_complete() == content, "{way:?}");
            let words = ["-X", "DELETE", "-w", "%{http_code}", url];
            assert_eq!(curl(words).await.expect("curl is there"), (true, "204".into()), "{url}");
        }
    }
}

// proves: IETF-CRE-20
#[tokio::test]
async fn a_curl_form_is_refused_with_advice() {
    let home = ServerDir::new();
    let server = Server::start(&home, &[]);
    let film = home.text("film");
    fs::write(&film, bytes(6, 1000)).expect("written");
    for version in VERSIONS {
        let part = format!("film=@{film}");
        let words = [version, "-F", &part, "-w", "%{http_code}", &server.url];
        let Some((_, said)) = curl(words).await else { return };
        assert!(said.contains("curl -T FILE") && said.ends_with("415"), "{version}: {said}");
    }
    assert_eq!((home.uploads("open"), home.uploads("done")), (0, 0));
}

// proves: IETF-CRE-20
#[tokio::test]
async fn the_file_of_a_form_is_stored_if_forms_are_accepted() {
    let home = ServerDir::new();
    let files = home.path("files");
    let flags = ["--accept-forms", "--target", "files", "--files-dir", files.to_str().expect("text")];
    let server = Server::start(&home, &flags);
    let content = bytes(7, 3_000_000);
    let film = home.text("film");
    fs::write(&film, &content).expect("written");
    let part = format!("film=@{film};filename=my film.bin");
    for version in VERSIONS {
        let words =
            [version, "-F", "title=x", "-F", &part, "-F", "more=y", "-w", "%{http_code}", &server.url];
        let Some((is_well, said)) = curl(words).await else { return };
        assert!(is_well && said.ends_with("201"), "{version}: {said}");
        assert!(fs::read(files.join("my film.bin")).expect("delivered") == content);
        fs::remove_file(files.join("my film.bin")).expect("removed");
        // A form with two files or with none is refused.
        for form in [&["-F", &*part, "-F", &*part][..], &["-F", "title=x"]] {
            let words = [version, "-w", "%{http_code}", &server.url];
            let (_, said) = curl(form.iter().chain(&words)).await.expect("curl is there");
            // curl 7.88 drops a response that comes before the end of its content over HTTP/2.
            let is_refused = said.ends_with("400") || said.contains("Stream error");
            assert!(is_refused, "{version} {form:?}: {said}");
        }
    }
    assert_eq!(fs::read_dir(&files).expect("a directory").count(), 0);
    assert_eq!(home.uploads("open"), 0);
}

// proves: IETF-CRE-19, TOK-CRE-10
#[tokio::test]
async fn a_content_range_upload_of_curl_is_refused() {
    let home = ServerDir::new();
    let server = Server::start(&home, &[]);
    let film = home.text("film");
    fs::write(&film, bytes(6, 100_000)).expect("written");
    let directory = format!("{}/", server.url);
    for version in VERSIONS {
        for way in
            [&["-C", "100"][..], &["-C", "100", "-X", "POST"], &["-C", "100", "-H", "Upload-Token: abc"]]
        {
            let words = [version, "-T", &film, "-w", "%{http_code}", &directory];
            let Some((_, said)) = curl(way.iter().chain(&words)).await else { return };
            assert!(said.contains("Content-Range") && said.contains("400"), "{version} {way:?}: {said}");
        }
    }
    assert_eq!((home.uploads("open"), home.uploads("done")), (0, 0));
}

// proves: TOK-OFF-01, TOK-APP-01
#[tokio::test]
async fn an_interrupted_curl_upload_is_resumed() {
    for version in VERSIONS {
        let home = ServerDir::new();
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
            Err(error) => return print_note(format_args!("not tested: there is no curl: {error}")),
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
        assert!(home.only_complete() == content);
    }
}

const CREATES: [&str; 4] = ["-H", "Upload-Complete: ?1", "-H", "Upload-Draft-Interop-Version: 8"];

/// Returns the response heads shown by `-v`, in lower case.
fn heads(said: &str) -> Vec<Vec<String>> {
    let mut heads: Vec<Vec<String>> = Vec::new();
    for line in said.lines().filter_map(|line| line.strip_prefix("< ")).map(str::to_lowercase) {
        if line.starts_with("http/") {
            heads.push(Vec::new());
        }
        heads.last_mut().expect("a status line comes first").push(line.trim().to_owned());
    }
    heads
}

/// Returns the status of a head.
fn status(head: &[String]) -> &str {
    head[0].split(' ').nth(1).expect("a status")
}

/// Returns the value of a field of a head.
fn field<'a>(head: &'a [String], name: &str) -> Option<&'a str> {
    head.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

// proves: IETF-CRE-07, IETF-INT-01, IETF-INT-02, IETF-INT-05, IETF-INT-10
#[tokio::test]
async fn curl_shows_interim_responses_with_location_and_offset() {
    for version in VERSIONS {
        let home = ServerDir::new();
        let server = Server::start(&home, &[]);
        let content = bytes(3, 5_000_000);
        let film = home.text("film");
        fs::write(&film, &content).expect("written");
        let words = [version, "-v", "--limit-rate", "1400K", "-T", &film, &server.url];
        let Some((is_well, said)) = curl(CREATES.iter().chain(&words)).await else { return };
        let heads = heads(&said);
        let (last, interims) = heads.split_last().expect("an answer");
        assert!(is_well && status(last) == "201", "{version}: {said}");
        let mut told = interims.iter().filter(|head| status(head) == "104");
        let announced = told.next().expect("an announcement");
        assert!(
            field(announced, "location").is_some() && field(announced, "upload-offset").is_none(),
            "{said}"
        );
        assert_eq!(field(announced, "location"), field(last, "location"));
        let mut offset = 0;
        for progress in told {
            assert_eq!(field(progress, "location"), None, "{said}");
            let now = field(progress, "upload-offset").expect("an offset").parse().expect("an integer");
            assert!(now > offset && now <= content.len(), "{said}");
            offset = now;
        }
        assert!(offset > 0, "no progress was told: {said}");
        let permitted = interims.iter().any(|head| status(head) == "100");
        assert_eq!(permitted, said.to_lowercase().contains("> expect: 100-continue"), "{said}");
        assert!(home.only_complete() == content);
    }
}

// proves: IETF-RET-01, IETF-APP-01, IETF-APP-11
#[tokio::test]
async fn curl_resumes_an_upload_announced_by_104() {
    for version in VERSIONS {
        let home = ServerDir::new();
        let server = Server::start(&home, &[]);
        let content = bytes(4, 3_000_000);
        let film = home.text("film");
        fs::write(&film, &content).expect("written");
        let words = [version, "-v", "--limit-rate", "800K", "--max-time", "1.5", "-T", &film, &server.url];
        let Some((is_well, said)) = curl(CREATES.iter().chain(&words)).await else { return };
        assert!(!is_well, "it had too little time: {said}");
        let upload = field(&heads(&said)[0], "location").expect("an announcement").to_owned();

        let number = CREATES[3];
        let (is_well, head) = curl([version, "-I", "-H", number, &upload]).await.expect("curl is there");
        let head: Vec<_> = head.lines().map(|line| line.trim().to_lowercase()).collect();
        assert!(is_well && status(&head) == "204", "{head:?}");
        assert_eq!(
            (field(&head, "upload-complete"), field(&head, "upload-length")),
            (Some("?0"), Some("3000000"))
        );
        let offset: usize = field(&head, "upload-offset").expect("an offset").parse().expect("an integer");
        assert!((1..content.len()).contains(&offset), "{offset}");

        let tail = home.text("tail");
        fs::write(&tail, &content[offset..]).expect("written");
        let at = format!("Upload-Offset: {offset}");
        let words = [version, "-v", "-X", "PATCH", "-H", "Content-Type: application/partial-upload"];
        let more = ["-H", &at, "-T", &tail, &upload];
        let (is_well, said) = curl(words.iter().chain(&CREATES).chain(&more)).await.expect("curl is there");
        let heads = heads(&said);
        let last = heads.last().expect("an answer");
        assert!(is_well && status(last) == "201", "{said}");
        assert_eq!(field(last, "upload-complete"), Some("?1"));
        assert!(
            heads.iter().all(|head| status(head) != "104" || field(head, "location").is_none()),
            "{said}"
        );
        assert!(home.only_complete() == content);
    }
}

#[tokio::test]
async fn curl_saves_a_download_under_its_name() {
    let home = ServerDir::new();
    let server = Server::start(&home, &["--downloads"]);
    fs::create_dir(home.path("saved")).expect("made");
    for (name, expected) in [("report.pdf", "report.pdf"), ("na\u{ef}ve.txt", "na_ve.txt")] {
        let upload = TestRequest::to("PUT", "/uploads")
            .field("content-disposition", format!("attachment; filename=\"{name}\""));
        let uploaded = server.request(Transport::H1, upload.sized("content")).await;
        let location: http::Uri = uploaded.field("location").expect("a URL").parse().expect("a URL");
        let (url, saved) = (format!("http://{}{}", server.addr, location.path()), home.text("saved"));
        let Some((is_well, said)) = curl(["-OJ", "--output-dir", &saved, &url]).await else { return };
        assert!(is_well, "{said}");
        assert_eq!(fs::read(home.path("saved").join(expected)).expect("saved"), b"content");
    }
    server.stop().await;
}
