//! The printer where there is no terminal: what is printed comes out, whole, in order, once. And on a terminal: a
//! program of its own, run by a person that is a test.

#[path = "it/common/mod.rs"]
pub mod common;
#[path = "../examples/printer.rs"]
pub mod example;

use std::io::{self, PipeReader, Read, Write};
use std::sync::{Arc, Barrier, mpsc};
use std::thread;
use std::time::Duration;

use common::bounded;
use threadwire_worker::printer::Printer;
use threadwire_worker::{Rejected, Worker, wait_forever};

/// A printer whose lines arrive at a pipe.
fn piped() -> (Printer, PipeReader) {
    let (from, into) = io::pipe().unwrap();
    (Printer::builder().plain(into).open().unwrap(), from)
}

/// An output that does what it is told to, write by write.
struct Told(mpsc::Receiver<io::Result<()>>);

impl Write for Told {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.recv().unwrap_or(Ok(())).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn texts_of_many_threads_come_out_whole_and_in_each_ones_order() {
    bounded(|| {
        const THREADS: usize = 8;
        const TEXTS: usize = 500;
        let (printer, mut from) = piped();
        let reader = thread::spawn(move || {
            let mut all = String::new();
            from.read_to_string(&mut all).unwrap();
            all
        });
        let begin = Arc::new(Barrier::new(THREADS));
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (printer, begin) = (printer.clone(), Arc::clone(&begin));
                thread::spawn(move || {
                    begin.wait();
                    for text in 0..TEXTS {
                        printer.print(format!("{thread} {text}\n{thread} {text} goes on")).unwrap();
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        printer.close().unwrap();

        let all = reader.join().unwrap();
        let mut next = [0; THREADS];
        let mut lines = all.lines();
        while let Some(line) = lines.next() {
            let thread: usize = line.split(' ').next().unwrap().parse().unwrap();
            assert_eq!(line, format!("{thread} {}", next[thread]));
            assert_eq!(lines.next().unwrap(), format!("{line} goes on"), "torn");
            next[thread] += 1;
        }
        assert_eq!(next, [TEXTS; THREADS]);
    });
}

#[test]
fn plain_lines_are_neither_wrapped_nor_dangerous() {
    bounded(|| {
        let (printer, mut from) = piped();
        let long = "long ".repeat(100);
        for text in ["", "!@#EXIT#@!", "\ttab", "\x1b[31mred\x07", "two\r\nlines", &long] {
            printer.print(text).unwrap();
        }
        printer.close().unwrap();
        let mut all = String::new();
        from.read_to_string(&mut all).unwrap();
        assert_eq!(all, format!("\n!@#EXIT#@!\n\ttab\n\\u{{1b}}[31mred\\u{{7}}\ntwo\nlines\n{long}\n"));
    });
}

#[test]
fn close_writes_what_was_printed_and_refuses_what_comes_later() {
    bounded(|| {
        let (go, told) = mpsc::channel();
        let printer = Printer::builder().plain(Told(told)).open().unwrap();
        printer.print("one").unwrap();
        let closing = thread::spawn({
            let printer = printer.clone();
            move || printer.close()
        });
        // It takes texts until it is closed, and has not written the first one yet.
        while printer.print("more").is_ok() {
            thread::yield_now();
        }
        assert!(!closing.is_finished(), "it waits for the output");
        drop(go);
        closing.join().unwrap().unwrap();
        assert_eq!(printer.print("late"), Err(Rejected));
        printer.close().unwrap();
    });
}

#[test]
fn the_last_clone_closes() {
    bounded(|| {
        let (printer, mut from) = piped();
        let clone = printer.clone();
        drop(printer);
        clone.print("still open").unwrap();
        drop(clone);
        let mut all = String::new();
        from.read_to_string(&mut all).unwrap();
        assert_eq!(all, "still open\n");
    });
}

#[test]
fn an_output_that_fails_ends_the_printer_and_close_says_why() {
    bounded(|| {
        let (go, told) = mpsc::channel();
        let printer = Printer::builder().plain(Told(told)).open().unwrap();
        go.send(Err(io::Error::other("out of paper"))).unwrap();
        while printer.print("text").is_ok() {
            thread::yield_now();
        }
        assert_eq!(printer.close().unwrap_err().to_string(), "out of paper");
        printer.close().unwrap();
    });
}

#[test]
fn an_output_that_panics_ends_the_printer() {
    struct Panics;
    impl Write for Panics {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            // Not `panic!`, whose message would be in the way of a test that passes.
            std::panic::resume_unwind(Box::new("jammed"));
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    bounded(|| {
        let printer = Printer::builder().plain(Panics).open().unwrap();
        while printer.print("text").is_ok() {
            thread::yield_now();
        }
        assert_eq!(printer.close().unwrap_err().to_string(), "the printer panicked");
    });
}

#[test]
fn a_slow_output_holds_up_who_prints() {
    /// Is slower than who prints.
    struct Slow {
        writes: usize,
        taken: usize,
        takes: mpsc::Receiver<()>,
    }
    const TEXTS: usize = 20;
    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.writes += 1;
            // One is being written, and one waits: that is a megabyte.
            let most = TEXTS.min(self.writes + 1);
            while self.taken < most {
                self.takes.recv().unwrap();
                self.taken += 1;
            }
            // Few: where the processors are busy, each may take long.
            (0..5).for_each(|_| thread::yield_now());
            assert!(self.takes.try_recv().is_err(), "more than a megabyte was taken");
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    bounded(|| {
        let (take, takes) = mpsc::channel();
        let printer = Printer::builder().plain(Slow { writes: 0, taken: 0, takes }).open().unwrap();
        for _ in 0..TEXTS {
            printer.print("x".repeat(1024 * 1024)).unwrap();
            take.send(()).unwrap();
        }
        printer.close().unwrap();
    });
}

#[test]
fn close_lets_go_of_those_who_wait_for_a_slow_output() {
    bounded(|| {
        let (go, told) = mpsc::channel();
        let printer = Printer::builder().plain(Told(told)).open().unwrap();
        let flood = thread::spawn({
            let printer = printer.clone();
            move || while printer.print("x".repeat(1024 * 1024)).is_ok() {}
        });
        let closing = thread::spawn(move || printer.close());
        flood.join().unwrap();
        drop(go);
        closing.join().unwrap().unwrap();
    });
}

#[test]
fn a_worker_that_is_stopped_can_print_on_its_way_out() {
    bounded(|| {
        struct Farewell(Printer);
        impl Drop for Farewell {
            fn drop(&mut self) {
                self.0.print("goodbye").unwrap();
            }
        }
        let (printer, mut from) = piped();
        let worker = Worker::spawn({
            let farewell = Farewell(printer.clone());
            move || {
                let _farewell = farewell;
                wait_forever()
            }
        });
        worker.stop();
        assert!(worker.join().unwrap().was_stopped());
        printer.close().unwrap();
        let mut all = String::new();
        from.read_to_string(&mut all).unwrap();
        assert_eq!(all, "goodbye\n");
    });
}

#[test]
fn without_a_terminal_there_is_no_input_line() {
    bounded(|| {
        let (_from, into) = io::pipe().unwrap();
        let (printer, input) = Printer::builder().input("> ").plain(into).open_with_input().unwrap();
        assert!(input.is_none());
        printer.close().unwrap();
    });
}

#[test]
fn the_example_ends_by_itself_and_prints_every_line() {
    bounded(|| {
        let (printer, mut from) = piped();
        let reader = thread::spawn(move || {
            let mut all = String::new();
            from.read_to_string(&mut all).unwrap();
            all
        });
        example::run(&printer, Duration::ZERO).unwrap();
        printer.close().unwrap();
        let lines = reader.join().unwrap();
        let counted = lines.lines().filter(|line| line.starts_with("1 2 3")).count();
        assert_eq!((lines.lines().count(), counted), (103, 97), "{lines}");
        assert_eq!(lines.lines().last(), Some("done"));
    });
}

/// A program on a pseudo-terminal, and what a person would see.
#[cfg(unix)]
mod on_a_terminal {
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
    use threadwire_worker::printer::{Printer, Typed};
    use threadwire_worker::{EventLoop, Worker};

    use super::common::PATIENCE;

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
                .args(["--exact", "on_a_terminal::program", "--nocapture", "--test-threads=1"])
                .env(PROGRAM, "1")
                .env("TERM", "xterm")
                .env("RUST_BACKTRACE", "0")
                .stdin(theirs.try_clone().unwrap())
                .stdout(theirs.try_clone().unwrap())
                .stderr(theirs.try_clone().unwrap())
                .spawn()
                .unwrap();
            let shows =
                vt100::Parser::new(NonZeroU16::new(rows).unwrap(), NonZeroU16::new(columns).unwrap(), 0);
            let mut terminal = Terminal { keyboard: ours.into(), theirs, program, shows };
            terminal.see("ready\n>");
            assert!(!terminal.is_sane());
            terminal
        }

        fn press(&mut self, keys: &str) {
            self.keyboard.write_all(keys.as_bytes()).unwrap();
        }

        fn resize(&mut self, columns: u16, rows: u16) {
            self.shows
                .screen_mut()
                .set_size(NonZeroU16::new(rows).unwrap(), NonZeroU16::new(columns).unwrap());
            tcsetwinsize(&self.keyboard, size(columns, rows)).unwrap();
            // It is not the program's controlling terminal, so the signal comes from us.
            let killed =
                Command::new("kill").args(["-WINCH", &self.program.id().to_string()]).status().unwrap();
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
}
