//! Tests of the input line on a pseudo-terminal: a program of its own, run by a person that is a test.

use std::fs::File;
use std::io::{Read, Write};
use std::num::NonZeroU16;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Child, Command};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, OutputModes, Winsize, tcgetattr, tcsetwinsize};
use threadwire_printer::{Printer, Typed};
use threadwire_worker::{EventLoop, Worker};

use crate::PATIENCE;

const PROGRAM: &str = "PRINTER_TEST_PROGRAM";

/// Not a test but the program that the tests run: this test binary, once more.
#[test]
fn program() {
    if std::env::var_os(PROGRAM).is_none() {
        return;
    }
    let died = catch_unwind(AssertUnwindSafe(converse)).is_err();
    println!("the program goes on{}", if died { " after its panic" } else { "" });
    // Before the harness adds what it has to say.
    std::process::exit(0);
}

fn converse() {
    let (printer, input) = Printer::builder().input("> ").open_with_input().unwrap();
    let input = input.expect("this is a terminal");
    printer.print("ready").unwrap();
    loop {
        let line = match input.read().unwrap() {
            Typed::Line(line) => line,
            Typed::Interrupt => "interrupted".to_owned(),
            Typed::End => return printer.close().unwrap(),
        };
        match &*line {
            "flood" => {
                let printer = printer.clone();
                Worker::spawn(move || {
                    (0..500).for_each(|number| printer.print(format!("message {number}")).unwrap());
                    Ok(())
                });
            }
            "panic elsewhere" => {
                let worker = Worker::<()>::spawn(|| panic!("not our fault"));
                worker.join().unwrap();
                printer.print("survived").unwrap();
            }
            "panic" => panic!("our fault"),
            "stop" => {
                EventLoop::current().remote().stop();
                assert!(input.read().is_err());
                return;
            }
            "second" => {
                let error = Printer::builder().open_with_input().unwrap_err();
                printer.print(format!("refused: {:?}", error.kind())).unwrap();
            }
            "drop the input" => {
                drop(input);
                printer.print("no line").unwrap();
                return printer.close().unwrap();
            }
            other => printer.print(format!("you said {other:?}")).unwrap(),
        }
    }
}

struct Terminal {
    keyboard: File,
    /// Kept open, to see in which mode it is left.
    theirs: OwnedFd,
    program: Child,
    shows: vt100::Parser,
}

impl Terminal {
    fn start(columns: u16, rows: u16) -> Terminal {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&ours).unwrap();
        unlockpt(&ours).unwrap();
        let name = ptsname(&ours, Vec::new()).unwrap();
        let theirs = rustix::fs::open(
            name,
            rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::CLOEXEC,
            rustix::fs::Mode::empty(),
        )
        .unwrap();
        tcsetwinsize(&ours, size(columns, rows)).unwrap();
        let program = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "pseudo_terminal::program", "--nocapture", "--test-threads=1"])
            .env(PROGRAM, "1")
            .env("TERM", "xterm")
            .env("RUST_BACKTRACE", "0")
            .stdin(theirs.try_clone().unwrap())
            .stdout(theirs.try_clone().unwrap())
            .stderr(theirs.try_clone().unwrap())
            .spawn()
            .unwrap();
        let shows = vt100::Parser::new(NonZeroU16::new(rows).unwrap(), NonZeroU16::new(columns).unwrap(), 0);
        let mut terminal = Terminal { keyboard: ours.into(), theirs, program, shows };
        terminal.see("ready\n>");
        assert!(!terminal.is_sane());
        terminal
    }

    fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    fn resize(&mut self, columns: u16, rows: u16) {
        self.shows.screen_mut().set_size(NonZeroU16::new(rows).unwrap(), NonZeroU16::new(columns).unwrap());
        tcsetwinsize(&self.keyboard, size(columns, rows)).unwrap();
        // It is not the program's controlling terminal, so the signal comes from us.
        let killed = Command::new("kill").args(["-WINCH", &self.program.id().to_string()]).status().unwrap();
        assert!(killed.success());
    }

    /// Waits until the screen ends with this, spaces at the ends of rows aside.
    fn see(&mut self, end: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.screen().ends_with(end) {
            let left = deadline.saturating_duration_since(Instant::now());
            let left = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
            let mut fds = [PollFd::new(&self.keyboard, PollFlags::IN)];
            assert_eq!(
                poll(&mut fds, Some(&left)),
                Ok(1),
                "expected {end:?}, but there is:\n{}",
                self.screen()
            );
            let mut bytes = [0; 4096];
            let length = self.keyboard.read(&mut bytes).unwrap();
            self.shows.process(&bytes[..length]);
        }
    }

    fn screen(&self) -> String {
        let contents = self.shows.screen().contents();
        let rows: Vec<&str> = contents.lines().map(str::trim_end).collect();
        rows.join("\n").trim_end().to_owned()
    }

    /// Whether the terminal is as a shell wants it.
    fn is_sane(&self) -> bool {
        let modes = tcgetattr(&self.theirs).unwrap();
        modes.local_modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
            && modes.output_modes.contains(OutputModes::OPOST)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

fn size(columns: u16, rows: u16) -> Winsize {
    Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 }
}

#[test]
fn a_line_is_typed_edited_and_recalled() {
    let mut terminal = Terminal::start(40, 10);
    terminal.press("wolrd\x1b[D\x1b[D\x1b[D\x1b[3~\x1b[Cl\x01hello \x05!\r");
    terminal.see("> hello world!\nyou said \"hello world!\"\n>");
    terminal.press("\x1b[A\x17grüße\r");
    terminal.see("> hello grüße\nyou said \"hello grüße\"\n>");
    terminal.press("dropped\x03");
    terminal.see("you said \"interrupted\"\n>");
    terminal.press("\x04");
    terminal.see("the program goes on");
}

#[test]
fn what_arrives_does_not_tear_the_line_and_a_resize_wraps_it_all_again() {
    let mut terminal = Terminal::start(60, 10);
    terminal.press("flood\rhalf typed\x1b[D\x1b[D");
    terminal.see("message 498\nmessage 499\n> half typed");
    assert_eq!(terminal.shows.screen().cursor_position(), (9, 10));
    terminal.press("\x05\x15the quick brown fox jumps over the lazy dog\r");
    terminal.see("> the quick brown fox jumps over the lazy dog\nyou said \"the quick brown fox jumps over the lazy dog\"\n>");
    terminal.resize(20, 10);
    terminal.see("message 499\n> the quick brown\nfox jumps over the\nlazy dog\nyou said \"the quick\nbrown fox jumps over\nthe lazy dog\"\n>");
    terminal.resize(70, 10);
    terminal.see("> the quick brown fox jumps over the lazy dog\nyou said \"the quick brown fox jumps over the lazy dog\"\n>");
    terminal.press("\x04");
    terminal.see("the program goes on");
    assert!(terminal.is_sane());
}

#[test]
fn the_terminal_is_left_as_it_was_whatever_ends_the_input_line() {
    for (keys, see) in [
        ("\x04", "ready\nthe program goes on"),
        ("stop\r", "> stop\nthe program goes on"),
        ("drop the input\r", "> drop the input\nno line\nthe program goes on"),
        ("panic\r", "the program goes on after its panic"),
    ] {
        let mut terminal = Terminal::start(80, 24);
        terminal.press(keys);
        terminal.see(see);
        assert!(terminal.is_sane(), "after {keys:?}");
    }
}

#[test]
fn a_panic_elsewhere_is_reported_without_stairs_and_the_line_goes_on() {
    let mut terminal = Terminal::start(80, 24);
    terminal.press("panic elsewhere\r");
    terminal.see("survived\n>");
    let screen = terminal.screen();
    let mut rows = screen.lines().skip_while(|row| !row.contains("panicked at"));
    assert!(rows.next().is_some(), "{screen}");
    assert_eq!(rows.next(), Some("not our fault"), "{screen}");
    assert!(!terminal.is_sane(), "raw mode goes on");
    terminal.press("still here\r");
    terminal.see("> still here\nyou said \"still here\"\n>");
    terminal.press("second\r");
    terminal.see("refused: AlreadyExists\n>");
}
