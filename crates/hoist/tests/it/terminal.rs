//! The screen that `hoist put` draws on a terminal, through a pseudo-terminal.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::num::NonZero;
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::child_process::{Server, TIMEOUT, TestDir, hoist, spin_until};

const ROWS: u16 = 24;

/// A terminal with a command that writes to it. The command is killed on drop.
struct Terminal {
    controller: File,
    screen: Arc<Mutex<vt100::Parser>>,
    /// Set once the terminal has echoed Ctrl-C.
    has_echoed: Arc<AtomicBool>,
    child: Child,
    reader: Option<JoinHandle<()>>,
}

impl Terminal {
    /// Starts the command on a terminal of this width.
    fn start(place: &TestDir, columns: u16, words: &[&str]) -> Self {
        let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&controller).and_then(|()| unlockpt(&controller)).expect("ours");
        let name = ptsname(&controller, Vec::new()).expect("a name").into_string().expect("UTF-8");
        let side = OpenOptions::new().read(true).write(true).open(name).expect("its other side");
        let controller = File::from(controller);
        resize(&controller, columns);
        let screen = Arc::new(Mutex::new(vt100::Parser::new(cells(ROWS), cells(columns), 0)));
        let mut command = hoist(words);
        command.env("TERM", "xterm-256color").env("XDG_STATE_HOME", place.path("state"));
        let both = |side: &File| Stdio::from(OwnedFd::from(side.try_clone().expect("cloned")));
        command.stdout(both(&side)).stderr(both(&side));
        let child = command.spawn().expect("it runs");
        // The terminal is read until the command, the last writer, closes it.
        drop((command, side));
        let (mut output, shared) = (controller.try_clone().expect("cloned"), Arc::clone(&screen));
        let has_echoed = Arc::new(AtomicBool::new(false));
        let echoed = Arc::clone(&has_echoed);
        let reader = std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // Linux returns EIO once the other side is closed.
            while let Ok(many @ 1..) = output.read(&mut bytes) {
                if bytes[..many].windows(2).any(|two| two == b"^C") {
                    echoed.store(true, Ordering::Relaxed);
                }
                shared.lock().unwrap_or_else(PoisonError::into_inner).process(&bytes[..many]);
            }
        });
        Self { controller, screen, has_echoed, child, reader: Some(reader) }
    }

    /// Returns the rows of the screen that are not empty.
    ///
    /// # Panics
    /// If a bar wraps.
    fn rows(&self) -> Vec<String> {
        let parser = self.screen.lock().unwrap_or_else(PoisonError::into_inner);
        let (screen, (_, columns)) = (parser.screen(), parser.screen().size());
        let rows: Vec<_> = screen.rows(0, columns.get()).collect();
        for (row, at) in rows.iter().zip(0..) {
            assert!(!screen.row_wrapped(at) || !is_bar(row), "{columns}: {rows:?}");
        }
        rows.into_iter().filter(|row| !row.trim().is_empty()).collect()
    }

    /// Waits until the rows have these shapes.
    fn shows(&self, expected: &[&str]) {
        let start = Instant::now();
        loop {
            let rows = self.rows();
            if rows.iter().map(|row| shape(row)).eq(expected.iter().copied()) {
                return;
            }
            assert!(start.elapsed() < TIMEOUT, "{expected:#?}, not {rows:#?}");
            std::thread::yield_now();
        }
    }

    fn resize(&self, columns: u16) {
        self.screen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .screen_mut()
            .set_size(cells(ROWS), cells(columns));
        resize(&self.controller, columns);
    }

    /// Interrupts the command as Ctrl-C does, which the terminal echoes.
    fn interrupt(&mut self) {
        self.controller.write_all(b"\x03").expect("written");
        spin_until(Instant::now(), || self.has_echoed.load(Ordering::Relaxed));
        kill_process(Pid::from_child(&self.child), Signal::INT).expect("signalled");
    }

    /// Waits for the command to end and returns its exit code and the text on the screen, without line breaks.
    fn ended(mut self) -> (Option<i32>, String) {
        let code = self.child.wait().expect("our child").code();
        self.reader.take().map(JoinHandle::join).expect("not joined yet").expect("no panic");
        let rows = self.rows();
        assert!(!rows.iter().any(|row| is_bar(row)), "a bar is left: {rows:#?}");
        let parser = self.screen.lock().unwrap_or_else(PoisonError::into_inner);
        (code, parser.screen().contents())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn resize(controller: &File, columns: u16) {
    let size = Winsize { ws_row: ROWS, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(controller.as_fd(), size).expect("a terminal");
}

fn cells(many: u16) -> NonZero<u16> {
    NonZero::new(many).expect("at least one")
}

fn is_bar(row: &str) -> bool {
    row.contains(" % ") || row.contains("=>") || row.contains("==")
}

/// Returns the words of a row without the bar, with every number as `9` and every unit of bytes as `U`.
fn shape(row: &str) -> String {
    let words = row.split_whitespace().filter(|word| !word.trim_matches(['=', '>']).is_empty());
    let words = words.map(|word| {
        let mut shape = String::new();
        for char in word.chars() {
            match char {
                '0'..='9' | '.' if shape.ends_with('9') => {}
                '0'..='9' => shape.push('9'),
                'B' | 'K' | 'M' | 'G' if shape.ends_with('9') => shape.push('U'),
                char => shape.push(char),
            }
        }
        ["KiB", "MiB", "GiB"].into_iter().fold(shape, |shape, unit| shape.replace(unit, "U"))
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Two files that take half a minute to upload at the rate of [`slow`].
fn films(place: &TestDir) -> String {
    fs::create_dir(place.path("f")).expect("made");
    for name in ["f/one", "f/two"] {
        fs::write(place.path(name), vec![7; 12 << 20]).expect("written");
    }
    place.text("f")
}

fn slow<'a>(films: &'a str, url: &'a str) -> Vec<&'a str> {
    vec!["put", films, url, "--rate", "800K"]
}

#[test]
fn the_bars_fit_40_80_and_120_columns_and_are_gone_after_an_interruption() {
    let place = TestDir::new();
    let server = Server::start(&place.path("data"), &[]);
    let films = films(&place);
    let cases: [(u16, &[&str]); 3] = [
        (40, &["{} 9 % 9:9", "{} 9 % 9:9", "9/9 9U/9U 9U/s 9:9"]),
        (80, &["{} 9 % 9U/9U 9U/s 9:9", "{} 9 % 9U/9U 9U/s 9:9", "9/9 files 9 % 9U/9U 9U/s 9:9"]),
        (
            120,
            &[
                "{} 9 % 9 U of 9 U 9 U/s 9:9 left",
                "{} 9 % 9 U of 9 U 9 U/s 9:9 left",
                "9 of 9 files 9 % 9 U of 9 U 9 U/s 9:9 left",
            ],
        ),
    ];
    for (columns, expected) in cases {
        let mut terminal =
            Terminal::start(&place, columns, &[&slow(&films, &server.url)[..], &["--no-resume"]].concat());
        // The newest bar is on top.
        let name_columns = match columns {
            40 => 12,
            80 => 20,
            _ => 28,
        };
        let names = ["two", "one"].map(|name| {
            let path = format!("{films}/{name}");
            let most = path.len().min(name_columns);
            if path.len() > name_columns { format!("...{}", &path[path.len() - (most - 3)..]) } else { path }
        });
        let names = names.map(|name| shape(&name));
        let expected = [
            expected[0].replace("{}", &names[0]),
            expected[1].replace("{}", &names[1]),
            expected[2].to_owned(),
        ];
        terminal.shows(&expected.each_ref().map(String::as_str));
        terminal.interrupt();
        let (code, text) = terminal.ended();
        assert_eq!(code, Some(130));
        assert!(text.starts_with("hoist: 0 of 2 files uploaded, 0 failed"), "{columns}: {text}");
        assert!(!text.contains("^C"), "{columns}: {text}");
    }
    server.stop();
}

#[test]
fn the_bars_follow_the_width_of_the_terminal() {
    let place = TestDir::new();
    let server = Server::start(&place.path("data"), &[]);
    let film = place.file("film", vec![7; 12 << 20]);
    let mut terminal = Terminal::start(&place, 120, &slow(&film, &server.url));
    let has = |terminal: &Terminal, end: &str| {
        let start = Instant::now();
        while !terminal.rows().iter().any(|row| shape(row).ends_with(end)) {
            assert!(start.elapsed() < TIMEOUT, "{end}: {:#?}", terminal.rows());
            std::thread::yield_now();
        }
    };
    has(&terminal, "9 % 9 U of 9 U 9 U/s 9:9 left");
    terminal.resize(80);
    has(&terminal, "9 % 9U/9U 9U/s 9:9");
    terminal.resize(160);
    has(&terminal, "9 % 9 U of 9 U 9 U/s 9:9 left");
    terminal.interrupt();
    assert_eq!(terminal.ended().0, Some(130));
    server.stop();
}

#[test]
fn the_screen_is_clean_after_success_and_failure() {
    let place = TestDir::new();
    let server = Server::start(&place.path("data"), &[]);
    let (film, missing) = (place.file("film", vec![7; 1 << 20]), place.text("missing"));
    let (code, text) = Terminal::start(&place, 200, &["put", &film, &server.url]).ended();
    assert_eq!(code, Some(0));
    assert!(text.starts_with(&format!("{film}: uploaded 1048576 bytes, ")), "{text}");
    assert_eq!(text.trim_end().lines().count(), 1, "{text}");

    let (code, text) = Terminal::start(&place, 200, &["put", &film, &missing, &server.url]).ended();
    assert_eq!(code, Some(10));
    let lines: Vec<_> = text.trim_end().lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert!(text.contains(&format!("hoist: {missing}: cannot read {missing}: ")), "{text}");
    assert_eq!(lines[2], "hoist: 1 of 2 files uploaded, 1 failed; run the same command again to retry");
    server.stop();
}
