//! Tests of plain output, without a terminal: texts come out whole, in order, once.

use std::io::{self, PipeReader, Read, Write};
use std::sync::{Arc, Barrier, mpsc};
use std::thread;
use std::time::Duration;

use threadwire_printer::Printer;
use threadwire_worker::{Rejected, Worker, wait_forever};

use crate::{bounded, example};

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
