//! Output and exit codes of the commands.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// A command that is ended with the test, whatever happens.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    fn start(args: &[&str]) -> Running {
        let mut command = Command::new(env!("CARGO_BIN_EXE_threadwire"));
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Running(command.spawn().unwrap())
    }

    fn out(&mut self) -> BufReader<ChildStdout> {
        BufReader::new(self.0.stdout.take().unwrap())
    }

    fn signal(&self, name: &str) {
        let killed = Command::new("kill").args([name, &self.0.id().to_string()]).status().unwrap();
        assert!(killed.success());
    }

    fn type_in(&mut self, text: &str) {
        self.0.stdin.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// Ctrl-D.
    fn end_input(&mut self) {
        self.0.stdin = None;
    }

    /// The exit code, and what was printed on stderr.
    fn end(mut self) -> (Option<i32>, String) {
        let mut err = String::new();
        self.0.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        (self.0.wait().unwrap().code(), err)
    }
}

fn line(from: &mut impl BufRead) -> String {
    let mut line = String::new();
    from.read_line(&mut line).unwrap();
    line
}

/// A server on a port of the system's choice, and its URL.
fn serve(args: &[&str]) -> (Running, String) {
    let mut server = Running::start(&[&["serve", "--listen", "127.0.0.1:0"], args].concat());
    let says = line(&mut server.out());
    let url = says.strip_prefix("listening on ").expect("it says where it listens").trim_end().to_owned();
    (server, url)
}

/// The server's answers to a request for a page, and to one for a connection with this origin.
fn ask(url: &str, path: &str, headers: &str) -> String {
    let mut stream = TcpStream::connect(url.strip_prefix("ws://").unwrap()).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: a\r\n{headers}\r\n").unwrap();
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).unwrap();
    answer
}

const UPGRADE: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

#[test]
fn the_log_shows_frames_at_level_trace_and_no_credentials() {
    let (_server, url) = serve(&[]);
    let mut command = Command::new(env!("CARGO_BIN_EXE_threadwire"));
    command.args(["connect", &format!("{url}/?token=1234")]).env("THREADWIRE_LOG", "trace");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut client = Running(command.spawn().unwrap());
    client.type_in("hello\n");
    client.end_input();
    let (code, log) = client.end();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("text, 5 bytes: \"hello\""), "{log}");
    assert!(log.contains("/?token=***"), "{log}");
    assert!(!log.contains("1234"), "{log}");
}

#[test]
fn serve_listens_in_several_places_and_says_where() {
    let path = std::env::temp_dir().join(format!("threadwire-serve-{}.sock", std::process::id()));
    let unix = path.to_str().unwrap();
    let mut server =
        Running::start(&["serve", "--listen", "127.0.0.1:0", "--unix", unix, "--listen", "127.0.0.1:0"]);
    let mut out = server.out();
    let said = [line(&mut out), line(&mut out), line(&mut out)];
    assert_eq!(said[2], format!("listening on unix:{unix}\n"));
    for said in &said[..2] {
        let url = said.strip_prefix("listening on ").unwrap().trim_end();
        assert_eq!(ask(url, "/healthz", ""), "HTTP/1.1 200 OK\r\n");
    }
    let mut stream = std::os::unix::net::UnixStream::connect(&path).unwrap();
    write!(stream, "GET / HTTP/1.1\r\nHost: a\r\n{UPGRADE}\r\n").unwrap();
    assert_eq!(line(&mut BufReader::new(&stream)), "HTTP/1.1 101 Switching Protocols\r\n");
    drop(stream);
    server.signal("-TERM");
    assert_eq!(server.end().0, Some(0));
    assert!(!path.exists());
}

#[test]
fn serve_lets_in_so_many_and_pages_of_some_origins_only() {
    let (_server, url) =
        serve(&["--max-connections", "1", "--origin", "https://example.com", "--health", "/well"]);
    let with = |origin: &str| format!("{UPGRADE}{origin}");
    assert_eq!(ask(&url, "/", &with("Origin: https://evil.test\r\n")), "HTTP/1.1 403 Forbidden\r\n");
    assert_eq!(ask(&url, "/well", ""), "HTTP/1.1 200 OK\r\n");
    let mut client = Running::start(&["connect", &url]);
    client.type_in("hello\n");
    assert_eq!(line(&mut client.out()), "hello\n");
    let refused = ask(&url, "/", &with("Origin: https://example.com\r\n"));
    assert_eq!(refused, "HTTP/1.1 503 Service Unavailable\r\n");
    let (code, error) = failure(&["serve", "--listen", "127.0.0.1:0", "--origin", "example.com"]);
    assert_eq!(code, Some(2));
    assert!(error.contains("\"example.com\" is no origin"), "{error}");
}

fn run(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_threadwire")).args(args).stdin(Stdio::null()).output().unwrap()
}

/// How a command fails: its exit code and the one line that says why.
fn failure(args: &[&str]) -> (Option<i32>, String) {
    let output = run(args);
    assert!(output.stdout.is_empty(), "{output:?}");
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn lines_go_out_messages_come_in_and_ctrl_d_closes_with_1000() {
    for workers in ["1", "3"] {
        let (server, url) = serve(&["--workers", workers]);
        let mut client = Running::start(&["connect", &url]);
        let mut out = client.out();
        for text in ["hello\n", "grüße 你好\n", "\n"] {
            client.type_in(text);
            assert_eq!(line(&mut out), text);
        }
        client.end_input();
        let (code, err) = client.end();
        assert_eq!(code, Some(0), "{err}");
        assert!(err.contains("closed by us with 1000 (normal closure)"), "{err}");
        server.signal("-TERM");
        assert_eq!(server.end(), (Some(0), String::new()));
    }
}

#[test]
fn what_answers_piped_lines_is_printed_before_the_connection_is_closed() {
    let (_server, url) = serve(&[]);
    let mut client = Running::start(&["connect", &url]);
    client.type_in("one\ntwo");
    client.end_input();
    let mut printed = String::new();
    client.out().read_to_string(&mut printed).unwrap();
    assert_eq!(printed, "one\ntwo\n");
    let (code, err) = client.end();
    assert_eq!(code, Some(0), "{err}");
    let said: Vec<&str> = err.lines().collect();
    assert!(said[0] == "connected" && said[1].starts_with("closed by us with 1000"), "{err}");
}

#[test]
fn without_lingering_the_connection_closes_when_the_last_line_has_left() {
    let (_server, url) = serve(&[]);
    let output = run(&["connect", &url, "--no-linger"]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(0), 0));
    assert_eq!(run(&["connect", &url, "--linger", "0"]).status.code(), Some(0));
    assert_eq!(run(&["connect", &url, "--linger", "1", "--keep-open"]).status.code(), Some(2));
}

#[test]
fn a_connection_that_is_kept_open_ends_with_the_server_s_close() {
    let (server, url) = serve(&[]);
    let mut client = Running::start(&["connect", &url, "--keep-open"]);
    client.type_in("hello\n");
    client.end_input();
    assert_eq!(line(&mut client.out()), "hello\n");
    server.signal("-TERM");
    let (code, err) = client.end();
    assert!(code == Some(0) && err.contains("closed by the peer with 1001"), "{err}");
}

#[test]
fn piped_bytes_that_are_no_text_are_told_or_sent_as_binary_messages() {
    let (_server, url) = serve(&[]);
    for (options, code, said, printed) in [
        (&[][..], 1, "line 2 of standard input is not UTF-8, from its byte 1 on", "ok\n"),
        (&["--binary"], 0, "closed by us with 1000", "<2 bytes: 6f 6b>\n<2 bytes: ff fe>\n"),
    ] {
        let mut client = Running::start(&[&["connect", &url], options].concat());
        client.0.stdin.as_mut().unwrap().write_all(b"ok\n\xff\xfe\n").unwrap();
        client.end_input();
        let mut shown = String::new();
        client.out().read_to_string(&mut shown).unwrap();
        let (ended, err) = client.end();
        assert_eq!(ended, Some(code), "{err}");
        assert!(err.contains(said), "{err}");
        // What arrives before the input ends in an error may be printed.
        assert!(shown == printed || (code == 1 && shown.is_empty()), "{shown}");
    }
}

#[test]
fn more_than_the_write_buffer_holds_is_piped_to_a_server_that_is_slow() {
    const LINE: usize = 64 << 10;
    const LINES: usize = 30 * 16;
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}", socket.local_addr().unwrap());
    let written = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&written);
    let server = thread::spawn(move || {
        let mut peer = accept_by_hand(&socket);
        // Reads when the client is stuck: its write buffer is full, and it must not give up.
        let mut before = usize::MAX;
        while before != seen.load(Ordering::Relaxed) {
            before = seen.load(Ordering::Relaxed);
            thread::sleep(Duration::from_millis(100));
        }
        let mut frames = 0;
        let mut head = [0; 2];
        while peer.read_exact(&mut head).is_ok() && head[0] == 0x81 {
            let mut length = [0; 8 + 4];
            peer.read_exact(&mut length).unwrap();
            peer.read_exact(&mut [0; LINE]).unwrap();
            frames += 1;
        }
        frames
    });
    let mut client = Running::start(&["connect", &url, "--no-linger"]);
    let line = [&[b'x'; LINE][..], b"\n"].concat();
    for _ in 0..LINES {
        client.0.stdin.as_mut().unwrap().write_all(&line).unwrap();
        written.fetch_add(1, Ordering::Relaxed);
    }
    client.end_input();
    assert_eq!(server.join().unwrap(), LINES);
}

#[test]
fn a_reader_who_has_gone_ends_a_client_quietly() {
    let (_server, url) = serve(&[]);
    for args in
        [&["connect", &url, "--keep-open"][..], &["ping", &url, "--interval", "0", "--count", "1000000"]]
    {
        let mut client = Running::start(args);
        client.type_in("one\n");
        let mut out = client.out();
        line(&mut out);
        drop(out);
        // More than once: a process that another test begins may hold the pipe for a moment.
        while client.0.try_wait().unwrap().is_none() {
            let _ = client.0.stdin.as_mut().unwrap().write_all(b"two\n");
            thread::sleep(Duration::from_millis(10));
        }
        let (code, err) = client.end();
        assert_eq!(code, Some(0), "{err}");
        assert!(!err.contains("panicked") && !err.contains("threadwire:"), "{err}");
    }
}

#[test]
fn a_server_serves_whether_or_not_somebody_reads_where_it_listens() {
    let path = std::env::temp_dir().join(format!("threadwire-unread-{}.sock", std::process::id()));
    let mut command = Command::new(env!("CARGO_BIN_EXE_threadwire"));
    command.args(["serve", "--unix", path.to_str().unwrap()]).stdin(Stdio::null()).stderr(Stdio::piped());
    let mut closed = Running(command.stdout(Stdio::piped()).spawn().unwrap());
    drop(closed.0.stdout.take());
    while std::os::unix::net::UnixStream::connect(&path).is_err() {
        assert!(closed.0.try_wait().unwrap().is_none(), "it has ended");
        thread::sleep(Duration::from_millis(10));
    }
    drop(closed);
    let _ = std::fs::remove_file(path);
}

#[cfg(target_os = "linux")]
#[test]
fn output_that_can_t_be_written_is_told() {
    let full = || std::fs::File::options().write(true).open("/dev/full").unwrap();
    let (_server, url) = serve(&[]);
    for (args, input) in [(&["connect", &url][..], "hello\n"), (&["ping", &url], "")] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_threadwire"));
        command.args(args).stdin(Stdio::piped()).stdout(full()).stderr(Stdio::piped());
        let mut client = Running(command.spawn().unwrap());
        client.type_in(input);
        client.end_input();
        let (code, err) = client.end();
        assert_eq!(code, Some(1), "{err}");
        assert!(
            err.contains("can't write to standard output: no space left on device")
                && !err.contains("panicked"),
            "{err}"
        );
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_threadwire"));
    command
        .args(["serve", "--listen", "127.0.0.1:0"])
        .stdin(Stdio::null())
        .stdout(full())
        .stderr(Stdio::piped());
    let mut server = Running(command.spawn().unwrap());
    let mut err = BufReader::new(server.0.stderr.take().unwrap());
    assert!(line(&mut err).contains("can't write to standard output: no space left on device"));
    server.signal("-TERM");
    assert_eq!(server.0.wait().unwrap().code(), Some(0));
}

#[cfg(target_os = "linux")]
#[test]
fn a_signal_that_was_ignored_at_the_start_stays_ignored() {
    for (trap, signal, ends) in
        [("", "-HUP", true), ("trap '' HUP; ", "-HUP", false), ("trap '' INT; ", "-INT", false)]
    {
        let mut command = Command::new("sh");
        let script = format!("{trap}exec {} serve --listen 127.0.0.1:0", env!("CARGO_BIN_EXE_threadwire"));
        command.args(["-c", &script]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut server = Running(command.spawn().unwrap());
        let mut out = server.out();
        let url = line(&mut out).replace("listening on ", "");
        server.signal(signal);
        if !ends {
            assert_eq!(ask(url.trim_end(), "/healthz", ""), "HTTP/1.1 200 OK\r\n");
            server.signal("-TERM");
        }
        assert_eq!(server.end(), (Some(0), String::new()));
    }
}

#[test]
fn a_header_may_have_a_space_after_its_colon_whatever_its_name() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}", socket.local_addr().unwrap());
    let server = thread::spawn(move || {
        let mut head = BufReader::new(socket.accept().unwrap().0);
        (0..).map(|_| line(&mut head)).take_while(|line| line != "\r\n").collect::<String>()
    });
    failure(&["connect", &url, "-H", "Host: other", "-H", "Origin:\thttps://a.example "]);
    let head = server.join().unwrap();
    assert!(head.contains("Host: other\r\n") && head.contains("Origin: https://a.example\r\n"), "{head}");
}

/// Ctrl-C, and the exit code after it; or SIGTERM's where the tests themselves were started with Ctrl-C ignored, as a shell's `&` does, and
/// the commands ignore it as well.
fn interrupt() -> (&'static str, i32) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    if ignored & 0b10 == 0 { ("-INT", 130) } else { ("-TERM", 143) }
}

#[test]
fn signals_close_every_connection_with_1001() {
    for signal in ["-TERM", interrupt().0] {
        let (server, url) = serve(&["--workers", "2"]);
        let mut clients: Vec<Running> = (0..4).map(|_| Running::start(&["connect", &url])).collect();
        for client in &mut clients {
            client.type_in("there?\n");
            assert_eq!(line(&mut client.out()), "there?\n");
        }
        server.signal(signal);
        assert_eq!(server.end(), (Some(0), String::new()));
        for client in clients {
            let (code, err) = client.end();
            assert_eq!(code, Some(0), "{err}");
            assert!(err.contains("closed by the peer with 1001 (going away)"), "{err}");
        }
    }
}

/// The server's end of a connection, whose handshake is made by hand.
fn accept_by_hand(socket: &TcpListener) -> TcpStream {
    let (mut peer, _) = socket.accept().unwrap();
    let mut head = BufReader::new(peer.try_clone().unwrap());
    let mut accept = String::new();
    loop {
        let line = line(&mut head);
        if let Some(key) =
            line.to_ascii_lowercase().starts_with("sec-websocket-key:").then(|| line[18..].trim().to_owned())
        {
            accept = threadwire::proto::handshake::accept_key(&key);
        }
        if line == "\r\n" {
            break;
        }
    }
    write!(
        peer,
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    )
    .unwrap();
    peer
}

/// A connection that never answers: made by hand.
fn silent(url: &str) -> TcpStream {
    let mut peer = TcpStream::connect(url.strip_prefix("ws://").unwrap()).unwrap();
    peer.write_all(
        b"GET / HTTP/1.1\r\nHost: there\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
          Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    )
    .unwrap();
    let mut head = BufReader::new(peer.try_clone().unwrap());
    while line(&mut head) != "\r\n" {}
    peer
}

#[test]
fn a_signal_to_a_server_has_it_say_who_did_not_answer() {
    let (server, url) = serve(&[]);
    let peer = silent(&url);
    server.signal(interrupt().0);
    let said = format!(
        "1 connection, 0 closed cleanly and 1 did not\n  {} did not answer\n",
        peer.local_addr().unwrap()
    );
    assert_eq!(server.end(), (Some(0), said));
}

#[test]
fn a_second_signal_ends_a_server_at_once() {
    let (server, url) = serve(&[]);
    let mut peer = silent(&url);
    let (signal, code) = interrupt();
    server.signal(signal);
    // The close frame: it shuts down, and waits for the answer.
    peer.read_exact(&mut [0; 4]).unwrap();
    server.signal(signal);
    assert_eq!(server.end(), (Some(code), String::new()));
}

#[test]
fn ctrl_c_ends_a_client_with_130() {
    let (_server, url) = serve(&[]);
    let mut client = Running::start(&["connect", &url]);
    client.type_in("there?\n");
    assert_eq!(line(&mut client.out()), "there?\n");
    let (signal, expected) = interrupt();
    client.signal(signal);
    let (code, err) = client.end();
    assert_eq!(code, Some(expected));
    assert!(err.contains("closed by us with 1001"), "{err}");
}

#[test]
fn pings_are_timed_and_summed_up() {
    let (_server, url) = serve(&[]);
    let mut client = Running::start(&["ping", &url, "--count", "3", "--interval", "0"]);
    let mut out = client.out();
    assert!(line(&mut out).starts_with("connected to 127.0.0.1:"));
    for number in 1..=3 {
        let said = line(&mut out);
        assert!(said.trim_start().starts_with(&number.to_string()) && said.ends_with(" ms\n"), "{said:?}");
    }
    let said = line(&mut out);
    assert!(said.starts_with("3 pings: best "), "{said:?}");
    assert_eq!(client.end().0, Some(0));
}

#[test]
fn a_server_that_answers_no_ping_is_told_of() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}", server.local_addr().unwrap());
    let client = Running::start(&["ping", &url, "--timeout", "0.1"]);
    let (code, said) = client.end();
    assert_eq!(
        (code, said.as_str()),
        (
            Some(1),
            "threadwire: opening the connection took too long; it was waiting for 127.0.0.1 to answer the request\n"
        )
    );
    assert_eq!(Running::start(&["ping", &url, "--timeout=-1"]).end().0, Some(2));
}

#[test]
fn a_refused_connection_names_the_address() {
    let addr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (code, err) = failure(&["connect", &format!("ws://{addr}/")]);
    assert_eq!(code, Some(1));
    assert_eq!(err, format!("threadwire: can't connect to {addr}: connection refused\n"));
}

#[test]
fn a_bad_url_says_which_part_is_wrong_and_exits_with_2() {
    for (url, says) in [
        ("http://127.0.0.1/", "its scheme is \"http\", expected ws"),
        ("127.0.0.1", "its scheme is missing"),
        ("ws://127.0.0.1:x/", "its port is not a number"),
        ("ws://", "its host is missing"),
        ("ws://127.0.0.1/#top", "its fragment has no meaning here"),
    ] {
        let (code, err) = failure(&["connect", url]);
        assert_eq!(code, Some(2), "{url}: {err}");
        assert!(err.contains(says), "{url}: {err}");
    }
}

#[test]
fn an_address_in_use_is_named() {
    let (_server, url) = serve(&[]);
    let addr = url.strip_prefix("ws://").unwrap();
    let (code, err) = failure(&["serve", "--listen", addr]);
    assert_eq!(code, Some(1));
    assert_eq!(err, format!("threadwire: can't listen on {addr}: address already in use\n"));
}

#[test]
fn bad_options_exit_with_2() {
    for args in [&["serve", "--workers", "0"][..], &["serve", "--nonsense"], &["connect"], &["nonsense"]] {
        assert_eq!(run(args).status.code(), Some(2), "{args:?}");
    }
}

#[test]
fn a_server_that_is_no_websocket_server_is_called_so() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = socket.local_addr().unwrap();
    let server = thread::spawn(move || {
        let (mut peer, _) = socket.accept().unwrap();
        let mut head = [0; 1024];
        let _ = peer.read(&mut head).unwrap();
        peer.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").unwrap();
    });
    let (code, err) = failure(&["connect", &format!("ws://{addr}/")]);
    server.join().unwrap();
    assert_eq!(code, Some(1));
    assert!(
        err.contains("the server answered the opening handshake with status 404 (Not Found), expected 101"),
        "{err}"
    );
}

/// A file that is removed with the test.
struct File(PathBuf);

impl File {
    fn with(name: &str, text: &str) -> File {
        let path = std::env::temp_dir().join(format!("threadwire-cli-{}-{name}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        File(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn tls_is_spoken_on_both_sides_and_strangers_are_refused() {
    let identity = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let chain = File::with("chain.pem", &identity.cert.pem());
    let key = File::with("key.pem", &identity.signing_key.serialize_pem());
    let (server, url) = serve(&["--tls-cert", chain.path(), "--tls-key", key.path()]);
    let port = url.strip_prefix("wss://127.0.0.1:").unwrap();
    let url = format!("wss://localhost:{port}");
    for trust in [&["--ca", chain.path()][..], &["--insecure"]] {
        let mut client = Running::start(&[&["connect", &url], trust].concat());
        client.type_in("hello\n");
        assert_eq!(line(&mut client.out()), "hello\n");
        client.end_input();
        assert_eq!(client.end().0, Some(0));
        let pinged = run(&[&["ping", "--count", "1", &url], trust].concat());
        assert!(pinged.status.success(), "{pinged:?}");
    }
    let stranger = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let other = File::with("other.pem", &stranger.cert.pem());
    let (code, said) = failure(&["connect", &url, "--ca", other.path()]);
    assert_eq!(code, Some(1));
    assert!(
        said.starts_with("threadwire: no TLS connection with localhost: its certificate is self-signed"),
        "{said}"
    );
    let (code, said) = failure(&["connect", &url, "--ca", key.path()]);
    assert_eq!(code, Some(2));
    assert!(said.contains("has no certificate in it, expected -----BEGIN CERTIFICATE-----"), "{said}");
    assert_eq!(failure(&["serve", "--tls-cert", chain.path()]).0, Some(2), "a certificate needs its key");
    let (code, said) = failure(&["serve", "--tls-cert", other.path(), "--tls-key", key.path()]);
    assert_eq!(code, Some(2));
    assert!(said.contains("is not the key of the first certificate in"), "{said}");
    server.signal("-TERM");
    assert_eq!(server.end(), (Some(0), String::new()));
}

#[test]
fn a_client_goes_through_a_proxy_and_says_who_it_is() {
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = proxy.local_addr().unwrap();
    let server = thread::spawn(move || {
        let (mut peer, _) = proxy.accept().unwrap();
        let mut heads = Vec::new();
        for answer in ["HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"] {
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                let mut byte = [0];
                peer.read_exact(&mut byte).unwrap();
                head.push(byte[0].into());
            }
            heads.push(head);
            peer.write_all(answer.as_bytes()).unwrap();
        }
        heads
    });
    let (proxy, url) = (format!("http://me:pass@{addr}"), "ws://feed.example/");
    let (code, err) =
        failure(&["connect", url, "--proxy", &proxy, "-u", "Aladdin:open sesame", "-H", "X-Feed: prices"]);
    let heads = server.join().unwrap();
    assert!(heads[0].starts_with("CONNECT feed.example:80 ") && heads[0].contains("Basic bWU6cGFzcw==\r\n"));
    assert!(
        heads[1].contains("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n")
            && heads[1].contains("X-Feed: prices\r\n")
    );
    assert_eq!(code, Some(1));
    assert!(err.contains("404") && !err.contains("sesame") && !err.contains("pass"), "{err}");

    let (code, err) = failure(&["connect", url, "--proxy", "gopher://me:pass@a/"]);
    assert!(code == Some(2) && err.contains("its scheme is") && !err.contains("pass"), "{err}");
    let (code, err) = failure(&["connect", url, "-H", "secret"]);
    assert!(code == Some(2) && err.contains("expected NAME: VALUE") && !err.contains("secret"), "{err}");
    let (code, _) = failure(&["connect", url, "-u", "a:b", "--bearer", "c"]);
    assert_eq!(code, Some(2));
}
