//! Hostile tokens and file names: they stay harmless, and tokens do not appear in names, files or logs.

use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::{Raw, Server, ServerDir, TRANSPORTS, TestRequest, Transport, V2, bytes};

fn base64(octets: &[u8], alphabet: &[u8; 64]) -> String {
    let mut text = String::new();
    for group in octets.chunks(3) {
        let bits =
            group.iter().fold(0_u32, |bits, octet| bits << 8 | u32::from(*octet)) << (8 * (3 - group.len()));
        for place in 0..=group.len() {
            let digit = usize::try_from(bits >> (18 - 6 * place) & 63).expect("six bits");
            text.push(char::from(alphabet[digit]));
        }
    }
    text
}

const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

fn byte_sequence(octets: &[u8]) -> String {
    let digits = base64(octets, STANDARD);
    let padding = "=".repeat((4 - digits.len() % 4) % 4);
    format!(":{digits}{padding}:")
}

/// Returns all encodings in which a secret could leak.
fn spellings(octets: &[u8]) -> Vec<Vec<u8>> {
    let hex: String = octets.iter().flat_map(|octet| [octet >> 4, octet & 15].map(digit)).collect();
    let percent: String =
        octets.iter().flat_map(|octet| ['%', digit(octet >> 4), digit(octet & 15)]).collect();
    let percent = percent.to_uppercase();
    let list = format!("{octets:?}");
    let texts = [hex.to_uppercase(), hex, percent, base64(octets, STANDARD), base64(octets, URL), list];
    texts
        .map(String::into_bytes)
        .into_iter()
        .chain([octets.to_vec(), octets.escape_ascii().to_string().into()])
        .collect()
}

fn digit(nibble: u8) -> char {
    char::from_digit(nibble.into(), 16).expect("four bits")
}

fn walk(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("a directory") {
        let entry = entry.expect("an entry");
        found.push(entry.path());
        if entry.file_type().expect("a type").is_dir() {
            walk(&entry.path(), found);
        }
    }
}

fn holds(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// Returns the token in all forms of the field.
fn forms(secret: &[u8]) -> Vec<String> {
    let mut forms = vec![byte_sequence(secret)];
    let is_visible = secret.iter().all(|octet| (0x20..0x7f).contains(octet));
    if let Some(text) = str::from_utf8(secret).ok().filter(|_| is_visible) {
        forms.push(format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")));
        if !text.contains([' ', ',', '"', ':']) {
            forms.push(text.to_owned());
        }
    }
    forms
}

/// Creates an upload with a token, after requests that are refused. The upload is kept.
async fn upload(server: &Server, home: &ServerDir, transport: Transport, forms: &[String], content: &[u8]) {
    for (number, form) in forms.iter().enumerate() {
        if number > 0 {
            assert_eq!(server.request(transport, TestRequest::new("DELETE", form)).await.status, 204);
        }
        let request =
            TestRequest::new("POST", form).with(V2).field("upload-incomplete", "?1").sized(&content[..100]);
        let made = server.request(transport, request).await;
        assert_eq!((made.status, made.offset()), (201, Some(100)), "{form}");
        assert_eq!(server.request(transport, TestRequest::new("POST", form)).await.status, 409);
        // All forms denote the same token.
        for other in forms {
            assert_eq!(server.offset(transport, other).await, Ok(100), "{form} is not {other}");
        }
        assert_eq!(server.request(transport, TestRequest::append(form, 7).sized(b"wrong")).await.status, 409);
        let done = server.request(transport, TestRequest::append(form, 100).sized(&content[100..])).await;
        assert!(done.is_complete());
        assert!(home.done().iter().any(|stored| stored == content));
    }
}

// proves: TOK-TOKEN-01, TOK-TOKEN-02, TOK-TOKEN-04
#[tokio::test]
async fn hostile_tokens_are_harmless_and_never_leak() {
    let secrets = [
        b"../../../../../../etc/passwd".to_vec(),
        b"/etc/../tmp/absolute-path".to_vec(),
        b"..\\..\\windows\\system32".to_vec(),
        b"content/../record.new".to_vec(),
        b"'; rm -rf --no-preserve-root /; '".to_vec(),
        b"$(touch /tmp/hoist-was-here)`id`".to_vec(),
        b"%2e%2e%2f%00%0d%0aX-Injected:1".to_vec(),
        b"a \"quoted\" and \\ escaped token".to_vec(),
        b"<script>alert(document.cookie)</script>".to_vec(),
        b"{\"upload\":\"json-in-a-token\"}".to_vec(),
        b"\0NUL\0octets\0in\0a\0token".to_vec(),
        "\u{1f4a3}".repeat(9).into_bytes(),
        vec![0xff; 40],
        bytes(1, 32),
        bytes(2, 256),
    ];
    let home = ServerDir::new();
    let server = Server::start(&home, &["--log-level", "trace"]);
    for (number, secret) in secrets.iter().enumerate() {
        let forms = forms(secret);
        for transport in TRANSPORTS {
            upload(&server, &home, transport, &forms, &bytes(1000 + number as u64, 300)).await;
            if transport == TRANSPORTS[0] {
                assert_eq!(
                    server.request(transport, TestRequest::new("DELETE", &forms[0])).await.status,
                    204
                );
            }
        }
    }
    assert_eq!(home.uploads("done"), secrets.len());

    // An invalid token may be a mistyped secret.
    let long = "secret-and-too-long".repeat(20);
    for bad in [&long, "secret-with,a-comma", "secret-with a-space"] {
        for transport in TRANSPORTS {
            let got = server.request(transport, TestRequest::new("POST", bad).sized(b"hello")).await;
            assert_eq!(got.status, 400, "{bad}");
        }
    }
    for bad in [&b"secret-with-a-\0-in-it"[..], b"secret-with-\xff-in-it"] {
        let mut raw = Raw::connect(&server).await;
        let head = b"POST /uploads HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nUpload-Token: ";
        raw.send([head, bad, b"\r\n\r\nx"].concat()).await;
        assert_eq!(raw.answer(false).await.expect("an answer").status, 400);
    }
    server.stop().await;
    assert!(!Path::new("/tmp/hoist-was-here").exists());
    hold_nothing_of(&home, &secrets);
}

/// Searches all names and files, including the log.
fn hold_nothing_of(home: &ServerDir, secrets: &[Vec<u8>]) {
    let mut paths = Vec::new();
    walk(&home.path(""), &mut paths);
    for path in &paths {
        let name = path.to_str().expect("names of our own");
        let text = if path.is_file() { fs::read(path).expect("readable") } else { Vec::new() };
        assert!(!path.ends_with("log") || text.len() > 1000, "a log at trace has something to say");
        for spelling in secrets.iter().flat_map(|secret| spellings(secret)) {
            assert!(!holds(name.as_bytes(), &spelling), "a token in a file name: {name}");
            assert!(!holds(&text, &spelling), "{:?} in {name}", spelling.escape_ascii().to_string());
        }
        assert!(!holds(&text, b"secret-"), "what is no token is in {name}");
    }
}

// proves: TOK-CRE-07, IETF-CRE-15, IETF-SEC-04
#[tokio::test]
async fn hostile_file_names_stay_in_their_directory() {
    for template in ["{name}", "{path}"] {
        hostile_file_names_stay_in(template).await;
    }
}

async fn hostile_file_names_stay_in(template: &str) {
    let home = ServerDir::new();
    let files = home.text("files");
    let flags = ["--target", "files", "--files-dir", &files, "--files-name", template];
    let server = Server::start(&home, &flags);
    let dispositions: Vec<Vec<u8>> = vec![
        b"attachment; filename=\"../../escaped\"".to_vec(),
        b"attachment; filename=\"/etc/escaped\"".to_vec(),
        b"attachment; filename=..".to_vec(),
        b"attachment; filename=\".\"".to_vec(),
        b"attachment; filename=\"\"".to_vec(),
        b"attachment; filename=\"a\\\"b\\\\c/d\"".to_vec(),
        b"attachment; filename*=UTF-8''..%2F..%2Fescaped%00.txt".to_vec(),
        b"attachment; filename*=UTF-8''nul%00byte".to_vec(),
        b"attachment; filename*=UTF-8''%FF%FE%80".to_vec(),
        b"attachment; filename*=UTF-8''%0d%0aline%1b[2J".to_vec(),
        b"attachment; filename=\"caf\xe9\"".to_vec(),
        b"attachment; filename=\"caf\xc3\xa9\"".to_vec(),
        [b"attachment; filename=\"".to_vec(), vec![b'n'; 5000], b"\"".to_vec()].concat(),
        ["attachment; filename*=UTF-8''".as_bytes().to_vec(), "%F0%9F%92%A3".repeat(300).into_bytes()]
            .concat(),
        b"attachment; filename=\"lock\"".to_vec(),
        b"attachment; filename=\"../data/open/escaped\"".to_vec(),
        b"attachment; filename=\"d/../../data/escaped\"".to_vec(),
        b"attachment; filename=\"//escaped\"".to_vec(),
        b"attachment; filename=\"C:\\\\escaped\"".to_vec(),
        b"attachment; filename*=UTF-8''d%2F%00%2F%2e%2e%2Fescaped".to_vec(),
        [b"attachment; filename=\"".to_vec(), b"d/".repeat(2000), b"deep\"".to_vec()].concat(),
        [
            b"attachment; filename=\"".to_vec(),
            [vec![b'd'; 300], b"/".to_vec()].concat().repeat(12),
            b"\"".to_vec(),
        ]
        .concat(),
        b"attachment; filename=\"{id}{name}{date}\"".to_vec(),
        b"attachment; filename=\"-rf\"".to_vec(),
        b"; ; filename".to_vec(),
    ];
    let mut sent = Vec::new();
    for (number, disposition) in dispositions.iter().enumerate() {
        let dialects = [
            format!("Upload-Token: name-{number}"),
            "Upload-Draft-Interop-Version: 8\r\nUpload-Complete: ?1".into(),
        ];
        for dialect in dialects {
            let content = bytes(number as u64, 50);
            let mut raw = Raw::connect(&server).await;
            let head = format!(
                "POST /uploads HTTP/1.1\r\nHost: a\r\n{dialect}\r\nContent-Length: 50\r\nContent-Disposition: "
            );
            raw.send([head.as_bytes(), disposition, b"\r\n\r\n", &content].concat()).await;
            let got = raw.answer(false).await.expect("an answer");
            assert!(
                got.status < 300 && got.is_complete(),
                "{:?}: {got:?}",
                disposition.escape_ascii().to_string()
            );
            sent.push(content);
        }
    }
    for (number, path) in
        ["/uploads/..%2f..%2fescaped", "/uploads/%00", "/uploads/a%ffb", "/uploads/plain.txt"]
            .iter()
            .enumerate()
    {
        let content = bytes(100 + number as u64, 50);
        let request =
            TestRequest::to("POST", path).field("upload-token", format!("path-{number}")).sized(&content);
        let got = server.request(TRANSPORTS[number % 2], request).await;
        if got.status < 300 {
            sent.push(content);
        } else {
            assert!(matches!(got.status, 400 | 404), "{path}: {got:?}");
        }
    }
    server.stop().await;

    let mut stored = Vec::new();
    let mut paths = Vec::new();
    walk(Path::new(&files), &mut paths);
    for path in paths.iter().filter(|path| !path.is_dir()) {
        assert!(path.symlink_metadata().expect("a file").is_file(), "{}", path.display());
        let below = path.strip_prefix(&files).expect("below").to_str().expect("UTF-8");
        let is_nested = below.contains('/');
        assert!(!is_nested || template == "{path}", "{below}");
        assert!(!below.contains("/.") && !below.starts_with('.'), "{below:?}");
        assert!(!below.chars().any(char::is_control), "{below:?}");
        stored.push(fs::read(path).expect("readable"));
    }
    stored.sort();
    sent.sort();
    assert!(stored == sent, "each upload is one file");
    let beside: Vec<_> = fs::read_dir(home.path(""))
        .expect("ours")
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    assert_eq!(beside.len(), 3, "data, files and log, and nothing beside them: {beside:?}");
}
