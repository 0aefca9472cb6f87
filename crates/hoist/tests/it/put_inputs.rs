//! The inputs of `hoist put`: many files, directories, patterns and pipes, and failures of some of them.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::child_process::{ExitReport, Server, TestDir, hoist};

/// A directory, a server with `--target files`, and a journal.
struct Bench {
    place: TestDir,
    server: Server,
}

impl Bench {
    fn new() -> Self {
        let place = TestDir::new();
        let files = place.text("files");
        let more = ["--target", "files", "--files-dir", &files];
        let server = Server::start(&place.path("data"), &more);
        Self { place, server }
    }

    fn put(&self, words: &[&str]) -> ExitReport {
        let mut command = hoist(["put"].iter().chain(words).chain(&[&*self.server.url]));
        command.env("XDG_STATE_HOME", self.place.path("state")).current_dir(self.place.path(""));
        command.output().expect("it runs").into()
    }

    /// Returns the names of the delivered files.
    fn arrived(&self) -> Vec<String> {
        let entries = fs::read_dir(self.place.path("files")).expect("a directory");
        let mut names: Vec<_> =
            entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8")).collect();
        names.sort();
        names
    }

    fn state(&self, folder: &str) -> usize {
        fs::read_dir(self.place.path("state/hoist").join(folder)).map_or(0, Iterator::count)
    }
}

fn names(ended: &ExitReport) -> Vec<Value> {
    let events = ended.events();
    let mut names: Vec<_> =
        events.iter().filter(|event| event["event"] == "begin").map(|event| event["name"].clone()).collect();
    names.sort_by_key(ToString::to_string);
    names
}

#[test]
fn directories_patterns_and_files_are_uploaded_together() {
    let bench = Bench::new();
    fs::create_dir_all(bench.place.path("films/old")).expect("made");
    for name in ["films/b.mkv", "films/old/a.mkv", "song.ogg", "x.txt", "y.txt"] {
        bench.place.file(name, name);
    }
    let ended = bench.put(&["films", "song.ogg", "*.txt", "--json", "--parallel", "2"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(names(&ended), ["films/b.mkv", "films/old/a.mkv", "song.ogg", "x.txt", "y.txt"]);
    let end = ended.event("end");
    assert_eq!((&end["files"], &end["done"], &end["exit"]), (&5.into(), &5.into(), &0.into()), "{end}");
    assert_eq!(bench.arrived().len(), 5, "{:?}", bench.arrived());
    assert_eq!(fs::read(bench.place.path("files/song.ogg")).expect("there"), b"song.ogg");
    assert_eq!((bench.state("uploads"), bench.state("batches")), (0, 0), "nothing is left of it");
    bench.server.stop();
}

#[test]
fn a_failed_file_does_not_stop_the_others_and_is_retried() {
    let bench = Bench::new();
    for name in ["a", "c"] {
        bench.place.file(name, name);
    }
    let ended = bench.put(&["a", "b", "c"]);
    assert_eq!(ended.code, Some(10), "{ended:?}");
    assert!(ended.stderr.contains("b: cannot read b: no such file"), "{}", ended.stderr);
    assert_eq!(bench.arrived(), ["a", "c"]);
    // The file that now exists is uploaded, and so is the changed one, but not the others.
    for (name, content) in [("b", "b"), ("c", "changed")] {
        bench.place.file(name, content);
    }
    let ended = bench.put(&["a", "b", "c", "--json"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.event("skipped")["file"], "a");
    assert_eq!(ended.event("end")["skipped"], 1);
    assert_eq!(bench.arrived().len(), 4, "{:?}", bench.arrived());
    assert_eq!(bench.state("batches"), 0, "all is done");
    // After that it is a new upload.
    assert_eq!(bench.put(&["a", "b", "c", "--json"]).event("end")["done"], 3);
    bench.server.stop();
}

#[test]
fn runs_over_many_files_have_one_exit_code() {
    let bench = Bench::new();
    bench.place.file("a", "a");
    let cases: [(&[&str], i32); 5] = [
        (&["none", "neither"], 8),
        (&["a", "none"], 10),
        (&["none", "a", "--bearer-file", "none"], 8),
        (&["no*ne"], 8),
        (&["a", "a", "--name", "b"], 2),
    ];
    for (words, code) in cases {
        let ended = bench.put(words);
        assert_eq!(ended.code, Some(code), "{words:?}: {ended:?}");
    }
    fs::create_dir(bench.place.path("empty")).expect("made");
    let ended = bench.put(&["empty"]);
    assert_eq!(ended.code, Some(8), "{ended:?}");
    assert!(ended.stderr.contains("no file"), "{}", ended.stderr);
    bench.server.stop();
}

#[test]
fn every_name_given_is_uploaded_whatever_it_links_to() {
    let bench = Bench::new();
    let link = |target: &str, name: &str| {
        std::os::unix::fs::symlink(target, bench.place.path(name)).expect("linked");
    };
    bench.place.file("a", "content");
    link("a", "b");
    fs::create_dir(bench.place.path("dir")).expect("made");
    bench.place.file("dir/c", "content");
    link("dir", "also");
    let ended = bench.put(&["a", "b", "dir", "also", "./a", "--json"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(names(&ended), ["a", "also/c", "b", "dir/c"]);
    assert_eq!(bench.arrived().len(), 4, "{:?}", bench.arrived());
    assert!(ended.stderr.contains("./a is given twice and uploaded once"), "{}", ended.stderr);
    assert_eq!((bench.state("uploads"), bench.state("batches")), (0, 0));
    bench.server.stop();
}

#[test]
fn other_spellings_of_a_directory_and_of_the_url_continue_a_batch() {
    let bench = Bench::new();
    fs::create_dir(bench.place.path("dir")).expect("made");
    bench.place.file("dir/a", "content");
    let slashed = format!("{}/", bench.server.url);
    // The file that cannot be read keeps the batch unfinished.
    let put = |words: &[&str], url: &str| -> ExitReport {
        let mut command = hoist(["put", "none", "--json"].iter().chain(words).chain(&[url]));
        command.env("XDG_STATE_HOME", bench.place.path("state")).current_dir(bench.place.path(""));
        command.output().expect("it runs").into()
    };
    assert_eq!(put(&["dir"], &bench.server.url).event("end")["done"], 1);
    for (dir, url) in [("dir/", &bench.server.url), ("./dir", &slashed), ("dir/../dir/.", &slashed)] {
        let end = put(&[dir], url).event("end").clone();
        assert_eq!((&end["done"], &end["skipped"]), (&0.into(), &1.into()), "{dir} {url}: {end}");
    }
    assert_eq!((bench.arrived(), bench.state("batches")), (vec!["a".to_owned()], 1));
    bench.server.stop();
}

#[test]
fn a_name_or_a_token_is_for_a_single_file() {
    let bench = Bench::new();
    fs::create_dir(bench.place.path("dir")).expect("made");
    bench.place.file("dir/a", "content");
    bench.place.file("dir/b", "content");
    for (flag, value) in [("--name", "x"), ("--token", "secret-enough-for-all")] {
        for (file, why) in [("dir", "dir is a directory"), ("dir/*", "'dir/*' matches 2")] {
            let ended = bench.put(&[file, flag, value]);
            assert_eq!(ended.code, Some(2), "{ended:?}");
            let message = format!("{flag} is for a single file, and {why}; leave out {flag}");
            assert!(ended.stderr.contains(&message), "{}", ended.stderr);
        }
    }
    let ended = bench.put(&["dir/[a]", "--name", "x"]);
    assert_eq!((ended.code, bench.arrived()), (Some(0), vec!["x".to_owned()]), "{ended:?}");
    bench.server.stop();
}

#[test]
fn a_pipe_is_read_to_its_end() {
    let bench = Bench::new();
    let script = format!(
        "mkfifo pipe && {{ echo through a pipe > pipe & }} && '{}' put pipe '{}' --name piped --no-resume",
        env!("CARGO_BIN_EXE_hoist"),
        bench.server.url
    );
    let mut shell = std::process::Command::new("sh");
    let output = shell.args(["-c", &script]).current_dir(bench.place.path("")).output().expect("it runs");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(fs::read(bench.place.path("files/piped")).expect("there"), b"through a pipe\n");
    bench.server.stop();
}

/// Returns the unfinished uploads of a file, from `hoist ls`.
fn listed(state: &Path) -> Vec<Value> {
    let mut command = hoist(["ls", "--json"]);
    let ended: ExitReport = command.env("XDG_STATE_HOME", state).output().expect("it runs").into();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    ended.events()
}

#[test]
fn an_unfinished_upload_is_listed_queried_by_file_and_cancelled() {
    let bench = Bench::new();
    let state = bench.place.path("state");
    let film = bench.place.file("film", vec![7; 4 << 20]);
    assert_eq!(listed(&state), Vec::<Value>::new());
    // The command stops on the signal, with part of the file on the server.
    let mut command = hoist(["put", &film, &bench.server.url, "--rate", "2MB", "--json"]);
    command.env("XDG_STATE_HOME", &state);
    let put = crate::child_process::ChildProcess::start(command);
    while !put.line().contains("\"progress\"") {}
    crate::child_process::spin_until(std::time::Instant::now(), || !listed(&state).is_empty());
    let second: ExitReport = {
        let mut command = hoist(["put", &film, &bench.server.url]);
        command.env("XDG_STATE_HOME", &state).output().expect("it runs").into()
    };
    assert_eq!(second.code, Some(11), "{second:?}");
    put.signal(rustix::process::Signal::TERM);
    assert_eq!(put.ended().code, Some(143));

    let all = listed(&state);
    assert_eq!((all.len(), &all[0]["to"]), (1, &Value::from(&*bench.server.url)));
    let request = |words: &[&str]| -> ExitReport {
        let mut command = hoist(words);
        command
            .env("XDG_STATE_HOME", &state)
            .current_dir(bench.place.path(""))
            .output()
            .expect("it runs")
            .into()
    };
    let table = request(&["ls"]).stdout;
    assert!(table.starts_with("FILE ") && table.contains("4.0 MiB"), "{table}");
    let status = request(&["status", "film", "--json"]).events().remove(0);
    assert_eq!((&status["length"], &status["complete"]), (&(4 << 20).into(), &false.into()), "{status}");
    let own = all[0]["url"].as_str().expect("its URL");
    let by_url = request(&["status", own, "--json"]).events().remove(0);
    assert_eq!(by_url["offset"], status["offset"]);
    assert_eq!(request(&["status", "film", "--to", "http://h/other"]).code, Some(6));

    // A changed file is uploaded from the start, with a message.
    bench.place.file("film", "other");
    let ended = request(&["put", "film", &bench.server.url]);
    assert!(
        ended.code == Some(0) && ended.stderr.contains("started again, because the file has changed"),
        "{ended:?}"
    );
    assert_eq!(fs::read(bench.place.path("files/film")).expect("there"), b"other");
    assert_eq!(request(&["cancel", "film"]).code, Some(6), "it is not under way any more");
    assert_eq!(request(&["status", own]).code, Some(6), "the upload of the earlier content is cancelled");

    let creation = "POST /uploads HTTP/1.1\r\nUpload-Complete: ?0\r\nUpload-Draft-Interop-Version: 10\r\n\
                    Content-Length: 0";
    let created = bench.server.request(creation);
    let location = created.lines().find_map(|line| line.strip_prefix("Location: ")).expect("a URL");
    let id = location.rsplit('/').next().expect("a segment");
    let url = format!("{}/{id}", bench.server.url);
    assert_eq!(request(&["cancel", &url]).stdout, "cancelled\n");
    assert_eq!(request(&["status", &url]).code, Some(6));
    bench.server.stop();
}
