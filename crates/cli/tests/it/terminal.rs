//! `threadwire connect` on a pseudo-terminal.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

const PATIENCE: Duration = Duration::from_secs(10);

/// A command that is ended with the test, whatever happens.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn serve() -> (Running, String) {
    let mut server = Command::new(env!("CARGO_BIN_EXE_threadwire"));
    let server = server.args(["serve", "--listen", "127.0.0.1:0"]).stdout(Stdio::piped());
    let mut server = Running(server.spawn().unwrap());
    let mut says = String::new();
    BufReader::new(server.0.stdout.take().unwrap()).read_line(&mut says).unwrap();
    (server, says.trim_end().replace("listening on ", ""))
}

/// A terminal on which a client runs.
struct Terminal {
    keyboard: File,
    /// Kept open, to see in which mode it is left.
    theirs: OwnedFd,
    client: Running,
    /// All that was written to it, with the commands that draw.
    written: String,
}

impl Terminal {
    fn connect(url: &str) -> Terminal {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&ours).unwrap();
        unlockpt(&ours).unwrap();
        let name = ptsname(&ours, Vec::new()).unwrap();
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let theirs = rustix::fs::open(name, flags, Mode::empty()).unwrap();
        tcsetwinsize(&ours, Winsize { ws_col: 80, ws_row: 24, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        let client = Command::new(env!("CARGO_BIN_EXE_threadwire"))
            .args(["connect", url])
            .env("TERM", "xterm")
            .stdin(theirs.try_clone().unwrap())
            .stdout(theirs.try_clone().unwrap())
            .stderr(theirs.try_clone().unwrap())
            .spawn()
            .unwrap();
        let mut terminal =
            Terminal { keyboard: ours.into(), theirs, client: Running(client), written: String::new() };
        terminal.see("Ctrl-D closes\r\n> ");
        terminal
    }

    fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until this was written, and forgets it and what came before.
    fn see(&mut self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.written.find(text) {
                self.written.drain(..at + text.len());
                return;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let left = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
            let mut fds = [PollFd::new(&self.keyboard, PollFlags::IN)];
            assert_eq!(poll(&mut fds, Some(&left)), Ok(1), "no {text:?} in {:?}", self.written);
            let mut bytes = [0; 4096];
            let length = self.keyboard.read(&mut bytes).unwrap();
            self.written += &String::from_utf8_lossy(&bytes[..length]);
        }
    }

    /// The exit code, and whether the terminal was left as a shell wants it.
    fn end(mut self) -> (Option<i32>, bool) {
        let code = self.client.0.wait().unwrap().code();
        let modes = tcgetattr(&self.theirs).unwrap().local_modes;
        (code, modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG))
    }
}

#[test]
fn messages_appear_above_the_line_that_is_typed_and_ctrl_d_closes_with_1000() {
    let (_server, url) = serve();
    let mut terminal = Terminal::connect(&url);
    // Half of the next line is typed when the answer to the first one comes.
    terminal.press("hello\rhalf");
    terminal.see("> hello\r\n");
    terminal.see("hello\r\n");
    terminal.see("> half");
    terminal.press("\x15\x04");
    terminal.see("closed by us with 1000 (normal closure)");
    assert_eq!(terminal.end(), (Some(0), true));
}

#[test]
fn ctrl_c_ends_with_130_and_leaves_the_terminal_as_it_was() {
    let (_server, url) = serve();
    let mut terminal = Terminal::connect(&url);
    terminal.press("half\x03");
    terminal.see("closed by us with 1001");
    assert_eq!(terminal.end(), (Some(130), true));
}

#[test]
fn a_server_that_goes_away_ends_the_line() {
    let (server, url) = serve();
    let mut terminal = Terminal::connect(&url);
    terminal.press("half");
    terminal.see("half");
    let killed = Command::new("kill").args(["-TERM", &server.0.id().to_string()]).status().unwrap();
    assert!(killed.success());
    terminal.see("closed by the peer with 1001 (going away)");
    assert_eq!(terminal.end(), (Some(0), true));
}

#[test]
fn a_terminal_that_goes_away_ends_the_client() {
    let (_server, url) = serve();
    let Terminal { keyboard, mut client, .. } = Terminal::connect(&url);
    drop(keyboard);
    let deadline = Instant::now() + PATIENCE;
    let ended = loop {
        if let Some(ended) = client.0.try_wait().unwrap() {
            break ended;
        }
        assert!(Instant::now() < deadline, "it still runs");
        std::thread::yield_now();
    };
    assert_eq!(ended.code(), Some(0));
}
