//! Completions in real shells, on a pseudo-terminal, and manual pages in real readers.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::child_process::{TIMEOUT, TestDir, run};
use crate::harness::print_note;

/// The words that a shell completes: the beginning of a command line, and the words that follow when every completion is
/// inserted.
const CASES: &[(&str, &[&str])] = &[
    ("hoist put ", &["a film.mkv", "b.txt", "sub"]),
    ("hoist put a", &["a film.mkv"]),
    ("hoist put --ca b", &["b.txt"]),
    ("hoist put --method ", &["post", "put"]),
    ("hoist put --dialect t", &["token", "token-0", "token-1", "token-2", "token-draft", "tus1"]),
    ("hoist status b", &["b.txt"]),
    ("hoist cancel b", &["b.txt"]),
    ("hoist demo b", &["b.txt"]),
    ("hoist man ", &["sub"]),
    ("hoist completions ", &["bash", "elvish", "fish", "powershell", "zsh"]),
    ("hoist serve --data ", &["sub"]),
    ("hoist serve --files-dir ", &["sub"]),
    ("hoist serve --tls-cert ", &["a film.mkv", "b.txt", "sub"]),
    ("hoist serve --durability ", &["disk", "os"]),
    ("hoist serve --interim ", &["always", "auto", "never"]),
    ("hoist serve --log-format ", &["human", "json"]),
    ("hoist serve --log-level ", &["debug", "error", "info", "trace", "warn"]),
    ("hoist serve --target ", &["files", "keep"]),
    ("hoist serve --jwt-algorithm E", &["ES256", "ES384", "EdDSA"]),
    ("hoist serve --tus-disable ter", &["termination"]),
    ("hoist serve --downloads --durab", &["--durability"]),
    ("hoist config check --durability ", &["disk", "os"]),
    ("hoist config print --durab", &["--durability"]),
    ("hoist dns-record --location ", &["absolute", "relative"]),
    ("hoist check --dialect ", &["ietf", "token", "tus1"]),
    ("hoist check --http ", &["h1", "h2"]),
    ("hoist check --level m", &["may", "must"]),
    ("hoist check --interop a", &["all"]),
    ("hoist check --offers ", &["downloads", "proxies"]),
    ("hoist check --junit b", &["b.txt"]),
];

/// A directory with files to complete, and the completion script of a shell.
fn directory(shell: &str) -> TestDir {
    let place = TestDir::new();
    fs::create_dir_all(place.path("home/sub")).expect("made");
    for name in ["a film.mkv", "b.txt"] {
        place.file(&format!("home/{name}"), "");
    }
    place.file("script", run(&["completions", shell]).stdout);
    place
}

/// Returns whether a program is installed. Prints a note if it is not.
fn is_installed(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok();
    if !found {
        print_note(format_args!("there is no {program}: NOT tested with it"));
    }
    found
}

/// A shell on a pseudo-terminal, killed on drop.
struct InteractiveShell {
    child: Child,
    terminal: File,
    output: mpsc::Receiver<Vec<u8>>,
    shown: String,
}

impl InteractiveShell {
    /// Starts a shell that prints the words of a `hoist` command instead of running it.
    fn start(mut command: Command, place: &TestDir) -> Self {
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&terminal).and_then(|()| unlockpt(&terminal)).expect("unlocked");
        let name = ptsname(&terminal, Vec::new()).expect("a name").into_string().expect("text");
        let side = || Stdio::from(File::options().read(true).write(true).open(&name).expect("opened"));
        command.current_dir(place.path("home")).env("TERM", "dumb").env("INPUTRC", "/dev/null");
        let child = command.stdin(side()).stdout(side()).stderr(side()).spawn().expect("it runs");
        // The command holds open files of its own.
        drop(command);
        let terminal = File::from(terminal);
        let mut reader = terminal.try_clone().expect("cloned");
        let (pieces, output) = mpsc::channel();
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(length @ 1..) = reader.read(&mut piece) {
                if pieces.send(piece[..length].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self { child, terminal, output, shown: String::new() }
    }

    /// Waits for `text` on the terminal and returns what was shown up to its end.
    fn wait_for(&mut self, text: &str) -> String {
        loop {
            if let Some(at) = self.shown.find(text) {
                let rest = self.shown.split_off(at + text.len());
                return std::mem::replace(&mut self.shown, rest);
            }
            let piece = self.output.recv_timeout(TIMEOUT);
            let piece = piece.unwrap_or_else(|_| panic!("no {text} on the terminal: {}", self.shown));
            self.shown.push_str(&String::from_utf8_lossy(&piece));
        }
    }

    /// Types `line`, inserts all completions and returns those, in order.
    fn completions(&mut self, line: &str) -> Vec<String> {
        self.wait_for("ready> ");
        // Ctrl-X a: insert all completions.
        writeln!(self.terminal, "{line}\x18a").expect("typed");
        let shown = self.wait_for("<end>");
        let (_, words) = shown.split_once("<word>").unwrap_or_else(|| panic!("{line}: {shown}"));
        let words = words.trim_end_matches("<end>").split("<word>").map(str::to_owned).collect::<Vec<_>>();
        new_words(line, &words)
    }
}

impl Drop for InteractiveShell {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns the words that completion added to `line`, sorted.
fn new_words(line: &str, words: &[String]) -> Vec<String> {
    // The last word of the line is complete if a space follows; otherwise it is replaced.
    let typed = line.split(' ').skip(1).count() - 1;
    let mut words: Vec<String> =
        words[typed..].iter().map(|word| word.trim_end_matches('/').to_owned()).collect();
    words.sort();
    words
}

fn completes(mut completions: impl FnMut(&str) -> Vec<String>) {
    for (line, expected) in CASES {
        let found = completions(line);
        assert_eq!(found, *expected, "{line}");
    }
}

#[test]
fn bash_completes_values_files_and_directories() {
    if !is_installed("bash") {
        return;
    }
    let place = directory("bash");
    let start = "hoist() { printf '<word>%s' \"$@\"; printf '<end>\\n'; }\nsource ../script\nPS1='ready> '\n\
                 bind '\"\\C-xa\": insert-completions'\nbind 'set enable-bracketed-paste off'\n";
    let start = place.file("start", start);
    let mut command = Command::new("bash");
    command.args(["--noprofile", "--rcfile", &start, "-i"]);
    let mut shell = InteractiveShell::start(command, &place);
    completes(|line| shell.completions(line));
    for (line, expected) in [
        ("hoist put --dialect=tok", &["token", "token-0", "token-1", "token-2", "token-draft"][..]),
        ("hoist serve --durability=", &["disk", "os"]),
    ] {
        let found = shell.completions(line);
        let found: Vec<_> = found.iter().map(|word| word.trim_start_matches("--dialect=")).collect();
        let found: Vec<_> = found.iter().map(|word| word.trim_start_matches("--durability=")).collect();
        assert_eq!(found, expected, "{line}");
    }
}

#[test]
fn zsh_completes_values_files_and_directories() {
    if !is_installed("zsh") {
        return;
    }
    let place = directory("zsh");
    let start = "hoist() { printf '<word>%s' \"$@\"; printf '<end>\\n' }\nautoload -U compinit; compinit -u -D\n\
                 source ../script\nzstyle ':completion:all-matches:*' completer _all_matches _complete\n\
                 zstyle ':completion:all-matches:*' insert yes\nzle -C all-matches complete-word _generic\n\
                 bindkey '^Xa' all-matches\nunsetopt prompt_sp prompt_cr\nPS1='ready> '\n";
    place.file(".zshrc", start);
    let mut command = Command::new("zsh");
    command.args(["-d", "-i"]).env("ZDOTDIR", place.path(""));
    let mut shell = InteractiveShell::start(command, &place);
    completes(|line| {
        let found = shell.completions(line);
        found.iter().map(|word| word.trim_end_matches('=').to_owned()).collect()
    });
}

#[test]
fn fish_completes_values_files_and_directories() {
    if !is_installed("fish") {
        return;
    }
    let place = directory("fish");
    let complete = |line: &str| {
        let script = "source ../script; complete -C $argv[1]";
        let mut fish = Command::new("fish");
        fish.args(["--no-config", "-c", script, line]).current_dir(place.path("home"));
        let output = fish.env("HOME", place.path("")).output().expect("it runs");
        let wrong = String::from_utf8_lossy(&output.stderr);
        assert!(wrong.is_empty(), "{line}: {wrong}");
        let found = String::from_utf8_lossy(&output.stdout).into_owned();
        let words = found.lines().map(|line| line.split('\t').next().unwrap_or_default());
        let mut words: Vec<_> = words.map(|word| word.trim_end_matches('/').to_owned()).collect();
        words.sort();
        words
    };
    completes(complete);
}

#[test]
fn manual_pages_have_the_usual_sections_and_no_errors() {
    let place = TestDir::new();
    let pages = place.text("man");
    assert_eq!(run(&["man", &pages]).code, Some(0));
    let (man, mandoc) = (is_installed("man"), is_installed("mandoc"));
    for entry in fs::read_dir(&pages).expect("pages") {
        let path = entry.expect("an entry").path();
        let (text, name) = (fs::read_to_string(&path).expect("read"), path.display().to_string());
        for section in ["NAME", "SYNOPSIS", "DESCRIPTION", "EXIT STATUS", "SEE ALSO"] {
            assert!(
                text.contains(&format!("\n.SH \"{section}\"\n"))
                    || text.contains(&format!("\n.SH {section}\n")),
                "{name}: no {section}"
            );
        }
        if man {
            let read = Command::new("man").args(["--warnings", "-l", &name]).env("MANPAGER", "cat").output();
            let wrong = String::from_utf8_lossy(&read.expect("it runs").stderr).into_owned();
            assert_eq!(wrong, "", "{name}");
        }
        if mandoc {
            let lint = Command::new("mandoc").args(["-Tlint", "-Wwarning", &name]).output().expect("it runs");
            let found = String::from_utf8_lossy(&lint.stdout).into_owned();
            // A build has no date.
            let found: Vec<_> = found.lines().filter(|line| !line.contains("missing date")).collect();
            assert!(found.is_empty(), "{found:#?}");
        }
    }
    let read = |name: &str| fs::read_to_string(format!("{pages}/{name}.1")).expect("a page");
    for (name, sections) in [
        ("hoist", &["ENVIRONMENT", "FILES", "EXAMPLES"][..]),
        ("hoist-serve", &["ENVIRONMENT", "FILES", "EXAMPLES"]),
        ("hoist-put", &["ENVIRONMENT", "FILES", "EXAMPLES"]),
        ("hoist-ls", &["ENVIRONMENT", "FILES", "EXAMPLES"]),
        ("hoist-config-check", &["ENVIRONMENT", "EXAMPLES"]),
        ("hoist-completions", &["EXAMPLES"]),
    ] {
        let page = read(name);
        assert!(sections.iter().all(|section| page.contains(&format!(".SH {section}\n"))), "{name}: {page}");
    }
}

#[test]
fn other_commands_refer_to_serve_for_its_flags() {
    for verb in ["config check", "config print", "dns-record"] {
        let words: Vec<_> = verb.split(' ').chain(["--help"]).collect();
        let help = run(&words).stdout;
        assert!(help.contains("hoist serve --help") && help.contains("--config"), "{verb}: {help}");
        assert!(!help.contains("--max-age") && help.lines().count() < 25, "{verb}: {help}");
    }
}
