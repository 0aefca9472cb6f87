//! Directories that `hoist put` uploads to a server with `--files-name '{path}'`: the tree that arrives.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::child_process::{ExitReport, Server, TestDir, hoist};

/// Returns the content of every file below a directory, by its path.
fn tree(top: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![top.to_owned()];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(&directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                waiting.push(path);
            } else {
                let name = path.strip_prefix(top).expect("below").to_str().expect("UTF-8").to_owned();
                found.insert(name, fs::read(&path).expect("readable"));
            }
        }
    }
    found
}

fn serve(place: &TestDir, template: &str, more: &[&str]) -> Server {
    let files = place.text("files");
    let flags = ["--target", "files", "--files-dir", &files, "--files-name", template];
    Server::start(&place.path("data"), &[&flags, more].concat())
}

fn put(place: &TestDir, server: &Server, words: &[&str]) -> ExitReport {
    let mut command = hoist(["put", "--no-resume"].iter().chain(words).chain(&[&*server.url]));
    command.current_dir(place.path("")).output().expect("it runs").into()
}

#[test]
fn a_directory_arrives_as_the_same_tree_in_every_dialect() {
    let place = TestDir::new();
    fs::create_dir_all(place.path("tree/x/deep \u{e4}")).expect("made");
    fs::create_dir_all(place.path("tree/y")).expect("made");
    for name in ["tree/x/same.txt", "tree/y/same.txt", "tree/.hidden", "tree/x/deep \u{e4}/\u{20ac} 1.txt"] {
        place.file(name, name);
    }
    // Large enough for several parts.
    place.file("tree/y/large", vec![7; 3 << 20]);
    let sent = tree(&place.path("tree"));
    let server = serve(&place, "{path}", &[]);
    let cases: [&[&str]; 7] = [
        &["--dialect", "ietf"],
        &["--dialect", "ietf-3"],
        &["--dialect", "token"],
        &["--dialect", "tus1"],
        &["--dialect", "conventional"],
        &["--dialect", "tus1", "--parts", "3"],
        &["--dialect", "token", "--parts", "3"],
    ];
    for flags in cases {
        let ended = put(&place, &server, &[flags, &["tree"]].concat());
        assert_eq!(ended.code, Some(0), "{flags:?}: {ended:?}");
        assert_eq!(tree(&place.path("files/tree")), sent, "{flags:?}");
        fs::remove_dir_all(place.path("files/tree")).expect("removed");
    }
    // The directory itself may have no name.
    let ended = put(&place, &server, &["tree/x/.."]);
    assert_eq!((ended.code, tree(&place.path("files"))), (Some(0), sent.clone()), "{ended:?}");
    // Nothing is overwritten.
    place.file("tree/x/same.txt", "other");
    let ended = put(&place, &server, &["tree/."]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let ended = put(&place, &server, &["tree/x/.."]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let arrived = tree(&place.path("files"));
    assert_eq!(arrived["x/same.txt"], sent["x/same.txt"]);
    let others =
        arrived.iter().filter(|(name, content)| name.starts_with("x/same-") && **content == b"other");
    assert_eq!(others.count(), 1, "{:?}", arrived.keys());
    server.stop();
}

#[test]
fn a_file_where_a_directory_should_be_stays() {
    let place = TestDir::new();
    fs::create_dir_all(place.path("tree/x")).expect("made");
    place.file("tree/x/a", "a");
    place.file("tree/x/b", "b");
    let server = serve(&place, "{path}", &[]);
    place.file("files/tree", "a file");
    let ended = put(&place, &server, &["tree"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let arrived = tree(&place.path("files"));
    let expected = [("tree", "a file"), ("tree-dir/x/a", "a"), ("tree-dir/x/b", "b")];
    assert_eq!(arrived, expected.map(|(name, content)| (name.to_owned(), content.into())).into());
    server.stop();
}

#[test]
fn users_have_directories_of_their_own_or_share_a_tree() {
    for (template, expected) in [
        ("{user}/{path}", ["alice/tree/a", "https%3A%2F%2Fid%201/tree/a"]),
        ("{path}", ["tree/a", "tree/a-"]),
    ] {
        let place = TestDir::new();
        fs::create_dir(place.path("tree")).expect("made");
        let tokens = place.file("tokens", "first-secret alice\nsecond-secret https://id 1\n");
        let server = serve(&place, template, &["--bearer-file", &tokens]);
        for secret in ["first-secret", "second-secret"] {
            place.file("tree/a", secret);
            let ended = put(&place, &server, &["tree", "--bearer", secret]);
            assert_eq!(ended.code, Some(0), "{ended:?}");
        }
        let arrived = tree(&place.path("files"));
        assert_eq!(arrived.len(), 2, "{:?}", arrived.keys());
        for (name, expected) in arrived.keys().zip(expected) {
            assert!(name.starts_with(expected), "{name}");
        }
        server.stop();
    }
}

#[test]
fn without_a_path_in_the_template_only_the_name_counts() {
    let place = TestDir::new();
    fs::create_dir_all(place.path("tree/x")).expect("made");
    place.file("tree/x/a", "a");
    let server = serve(&place, "in-{name}", &[]);
    for dialect in ["ietf", "token", "tus1"] {
        let ended = put(&place, &server, &["tree", "--dialect", dialect]);
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
    let arrived = tree(&place.path("files"));
    assert!(arrived.len() == 3 && arrived.keys().all(|name| name.starts_with("in-a")), "{arrived:?}");
    server.stop();
}

#[test]
fn the_url_below_the_endpoint_names_directories_too() {
    let place = TestDir::new();
    let server = serve(&place, "{path}", &[]);
    for (path, status) in
        [("films/old%20ones/a", "201"), ("films/a?x=/y", "201"), ("films/..%2f..%2fb", "201")]
    {
        let answer = server.request(&format!("PUT /uploads/{path} HTTP/1.1\r\nContent-Length: 0"));
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {answer}");
    }
    let arrived = tree(&place.path("files"));
    assert_eq!(arrived.keys().collect::<Vec<_>>(), ["b", "films/a", "films/old ones/a"]);
    server.stop();
}
