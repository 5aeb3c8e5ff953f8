//! TLS against OpenSSL: its own commands, and Python.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use crate::common::certificates::{Authority, Files, expired};
use crate::common::peer::{CLOSE, TEXT, frame, masked, request, upgraded};
use crate::common::secure::{FACES, Secure};
use crate::common::tool::Tool;
use crate::common::{SOON, bounded, patient};
use threadwire::error::TlsProblem;
use threadwire::server::ServerTls;
use threadwire::tls::{ClientCertificates, Pem};
use threadwire::{Client, Connection, Error, Message, blocking, wait_until};

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// `openssl s_client`, connected to a server whose certificate it has to trust.
fn s_client(addr: SocketAddr, root: &Path, more: &[&str]) -> Option<Tool> {
    let connect = addr.to_string();
    let mut arguments = vec!["s_client", "-connect", &connect, "-CAfile", text(root), "-verify_return_error"];
    arguments.extend(["-servername", "localhost", "-verify_hostname", "localhost"]);
    arguments.extend(more);
    Tool::start("openssl", &arguments)
}

#[test]
fn its_client_talks_to_our_server_in_every_version() {
    bounded(|| {
        let (server, authority) = Secure::trusted();
        let files = Files::empty();
        let root = files.write("ca.pem", &authority.text());
        for version in ["-tls1_2", "-tls1_3"] {
            let Some(mut tool) = s_client(server.addr(), &root, &["-quiet", "-alpn", "http/1.1", version])
            else {
                return;
            };
            tool.say(request("/"));
            tool.hear("HTTP/1.1 101 Switching Protocols");
            tool.hear("\r\n\r\n");
            for size in [5, 1000, 100_000] {
                let payload = vec![b'x'; size];
                tool.say(masked(TEXT, &payload));
                let expected = frame(TEXT, false, &payload);
                assert!(tool.bytes(expected.len()) == expected, "{version}, {size}");
            }
            tool.say(masked(CLOSE, &[3, 232]));
            assert_eq!(tool.bytes(4), [CLOSE, 2, 3, 232]);
        }
    });
}

#[test]
fn its_client_may_exchange_keys_and_may_not_renegotiate() {
    bounded(|| {
        let (server, authority) = Secure::trusted();
        let files = Files::empty();
        let root = files.write("ca.pem", &authority.text());
        let Some(mut tool) = s_client(server.addr(), &root, &["-tls1_3"]) else { return };
        tool.hear("Verify return code: 0 (ok)");
        tool.say(request("/"));
        tool.hear("101 Switching Protocols");
        // The peer asks for new keys on both sides.
        tool.say("K\n");
        tool.hear("KEYUPDATE");
        tool.say(masked(TEXT, b"with other keys"));
        tool.hear(frame(TEXT, false, b"with other keys"));

        let Some(mut tool) = s_client(server.addr(), &root, &["-tls1_2"]) else { return };
        tool.say(request("/"));
        tool.hear("101 Switching Protocols");
        tool.say("R\n");
        tool.hear("RENEGOTIATING");
        tool.hear("no renegotiation");
    });
}

#[test]
fn its_client_shows_a_certificate_or_is_refused() {
    bounded(|| {
        let (authority, people) = (Authority::new("authority"), Authority::new("people"));
        let tls = authority.sign(&["localhost"]).server();
        let server =
            Secure::with(tls.client_certificates(ClientCertificates::Required(people.pem())).unwrap());
        let files = Files::empty();
        let root = files.write("ca.pem", &authority.text());
        let someone = people.sign(&["someone"]);
        let (chain, key) = (files.write("me.pem", &someone.chain), files.write("me.key", &someone.key));
        let Some(mut tool) =
            s_client(server.addr(), &root, &["-quiet", "-cert", text(&chain), "-key", text(&key)])
        else {
            return;
        };
        tool.say(request("/"));
        tool.hear("101 Switching Protocols");
        let Some(mut tool) = s_client(server.addr(), &root, &["-quiet"]) else { return };
        tool.hear("certificate required");
        // Somebody else's.
        let stranger = Authority::new("strangers").sign(&["someone"]);
        let (chain, key) = (files.write("he.pem", &stranger.chain), files.write("he.key", &stranger.key));
        let showing = ["-quiet", "-cert", text(&chain), "-key", text(&key)];
        let Some(mut tool) = s_client(server.addr(), &root, &showing) else { return };
        tool.hear("unknown ca");
    });
}

/// `openssl s_server` with a certificate of this authority, and its port.
fn s_server(authority: &Authority, files: &Files, more: &[&str]) -> Option<(Tool, u16)> {
    let identity = authority.sign(&["localhost"]);
    let (chain, key) = (files.write("s.pem", &identity.chain), files.write("s.key", &identity.key));
    let mut arguments = vec!["s_server", "-accept", "127.0.0.1:0", "-cert", text(&chain), "-key", text(&key)];
    arguments.extend(more);
    let mut tool = Tool::start("openssl", &arguments)?;
    tool.hear("ACCEPT 127.0.0.1:");
    let port = String::from_utf8(tool.hear("\n")).unwrap().trim().parse().unwrap();
    Some((tool, port))
}

/// Connects, and talks; the server is played by hand. It does not end TCP by itself.
fn talk(tool: &mut Tool, client: &Client) -> Result<(), Error> {
    let client = client.clone().config(patient().close_timeout(SOON));
    let talking = std::thread::spawn(move || {
        let mut ws = blocking::connect(&client)?;
        ws.send("hello")?;
        assert_eq!(ws.recv()?.unwrap(), vec![b'x'; 70_000][..]);
        ws.close()?;
        Ok(())
    });
    let head = String::from_utf8(tool.hear("\r\n\r\n")).unwrap();
    let start = head.find("GET /").unwrap();
    tool.say(upgraded(&head[start..]));
    assert_eq!(tool.bytes(2), [TEXT, 0x85]);
    tool.bytes(9);
    tool.say(frame(0x82, false, &vec![b'x'; 70_000]));
    tool.bytes(8);
    tool.say(frame(CLOSE, false, &[3, 232]));
    talking.join().unwrap()
}

#[test]
fn our_client_talks_to_its_server_in_every_version() {
    bounded(|| {
        let authority = Authority::new("authority");
        let files = Files::empty();
        for version in ["-tls1_2", "-tls1_3"] {
            let Some((mut tool, port)) = s_server(&authority, &files, &["-alpn", "http/1.1", version]) else {
                return;
            };
            let url = format!("wss://localhost:{port}/");
            let client = Client::new(&url).unwrap().tls(authority.trusted()).config(patient());
            talk(&mut tool, &client).unwrap();
        }
    });
}

#[test]
fn our_client_shows_its_server_a_certificate() {
    bounded(|| {
        let (authority, people) = (Authority::new("authority"), Authority::new("people"));
        let files = Files::empty();
        let roots = files.write("people.pem", &people.text());
        // TLS 1.2 has no alert of its own for a certificate that is missing.
        for version in ["-tls1_2", "-tls1_3"] {
            let wants = ["-CAfile", text(&roots), "-Verify", "2", "-verify_return_error", version];
            let Some((mut tool, port)) = s_server(&authority, &files, &wants) else { return };
            let me = people.sign(&["someone"]);
            let tls = authority.trusted().identity(me.chain(), me.key()).unwrap();
            let client = Client::new(&format!("wss://localhost:{port}/")).unwrap().config(patient());
            talk(&mut tool, &client.clone().tls(tls)).unwrap();
            for (face, connect) in FACES {
                let error = connect(&client.clone().tls(authority.trusted())).unwrap_err();
                let problem = problem(&error);
                assert_eq!(problem, &TlsProblem::ClientCertificate, "{face}, {version}: {error:#}");
                assert!(!error.is_transient());
            }
        }
    });
}

/// The problem with TLS.
fn problem(error: &Error) -> &TlsProblem {
    match error {
        Error::Tls(error) => &error.problem,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_server_that_has_nothing_in_common_with_our_client_is_told_as_such() {
    bounded(|| {
        let authority = Authority::new("authority");
        let files = Files::empty();
        for old in [
            ["-tls1_2", "-cipher", "AES128-SHA:@SECLEVEL=0"],
            ["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"],
            ["-tls1_3", "-groups", "P-521"],
        ] {
            let Some((_tool, port)) = s_server(&authority, &files, &old) else { return };
            let client = Client::new(&format!("wss://localhost:{port}/")).unwrap().config(patient());
            for (face, connect) in FACES {
                let error = connect(&client.clone().tls(authority.trusted())).unwrap_err();
                assert_eq!(problem(&error), &TlsProblem::Incompatible, "{face}, {old:?}: {error:#}");
                assert!(!error.is_transient());
            }
        }
    });
}

#[test]
fn a_certificate_that_its_req_command_makes_is_a_root_for_itself() {
    bounded(|| {
        let files = Files::empty();
        let (chain, key) = (files.path("c.pem"), files.path("c.key"));
        let mut arguments =
            vec!["req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
        arguments.extend(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]);
        arguments.extend(["-out", text(&chain), "-keyout", text(&key)]);
        match std::process::Command::new("openssl").args(arguments).output() {
            Ok(made) => assert!(made.status.success(), "{made:?}"),
            Err(error) => return eprintln!("skipped: {error}"),
        }
        let accept = ["s_server", "-accept", "127.0.0.1:0", "-cert", text(&chain), "-key", text(&key)];
        let Some(mut tool) = Tool::start("openssl", &accept) else { return };
        tool.hear("ACCEPT 127.0.0.1:");
        let port = String::from_utf8(tool.hear("\n")).unwrap();
        let client = Client::new(&format!("wss://localhost:{}/", port.trim())).unwrap();
        let trust = threadwire::client::ClientTls::new().only_roots(Pem::file(&chain)).unwrap();
        talk(&mut tool, &client.tls(trust)).unwrap();
    });
}

/// A server that echoes the payloads of short text frames, and takes leave in TLS.
const PYTHON_SERVER: &str = r#"
import base64, hashlib, socket, ssl, sys
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
def take(stream, count):
    data = b""
    while len(data) < count:
        more = stream.recv(count - len(data))
        if not more: raise EOFError
        data += more
    return data
while True:
    plain, _ = listener.accept()
    try:
        stream = context.wrap_socket(plain, server_side=True)
    except ssl.SSLError as error:
        print("refused:", error.reason, flush=True)
        continue
    head = b""
    while not head.endswith(b"\r\n\r\n"): head += take(stream, 1)
    key = [line.split(b": ")[1] for line in head.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key")][0]
    accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
    stream.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " + accept + b"\r\n\r\n")
    while True:
        first, length = take(stream, 2)
        length &= 0x7f
        mask, data = take(stream, 4), take(stream, length)
        data = bytes(b ^ mask[i % 4] for i, b in enumerate(data))
        stream.sendall(bytes([first, length]) + data)
        if first == 0x88: break
    stream.unwrap()
    print("clean", flush=True)
"#;

#[test]
fn our_clients_take_leave_of_a_server_in_python() {
    bounded(|| {
        let authority = Authority::new("authority");
        let files = Files::empty();
        let identity = authority.sign(&["localhost"]);
        let (chain, key) = (files.write("s.pem", &identity.chain), files.write("s.key", &identity.key));
        let arguments = ["-c", PYTHON_SERVER, text(&chain), text(&key)];
        let Some(mut tool) = Tool::start("python3", &arguments) else { return };
        let port = String::from_utf8(tool.hear("\n")).unwrap();
        let client = Client::new(&format!("wss://localhost:{}/", port.trim())).unwrap().config(patient());
        for (face, connect) in FACES {
            connect(&client.clone().tls(authority.trusted()))
                .unwrap_or_else(|error| panic!("{face}: {error:#}"));
            tool.hear("clean\n");
            // The server receives the alert of a client that refuses its certificate.
            connect(&client.clone().tls(Authority::new("another").trusted())).unwrap_err();
            tool.hear("UNKNOWN_CA\n");
        }
    });
}

/// A client that sends a text, prints the answer, and takes leave in TLS.
const PYTHON_CLIENT: &str = r#"
import socket, ssl, sys
context = ssl.create_default_context(cafile=sys.argv[1])
context.set_alpn_protocols(["http/1.1"])
with socket.create_connection(("127.0.0.1", int(sys.argv[2]))) as plain:
    stream = context.wrap_socket(plain, server_hostname="localhost")
    stream.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                   b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
    head = b""
    while not head.endswith(b"\r\n\r\n"): head += stream.recv(1)
    stream.sendall(bytes([0x81, 0x85, 0, 0, 0, 0]) + b"hello")
    answer = b""
    while len(answer) < 7: answer += stream.recv(7 - len(answer))
    print(answer[2:].decode(), stream.version(), stream.selected_alpn_protocol())
    stream.sendall(bytes([0x88, 0x82, 0, 0, 0, 0, 3, 232]))
    answer = b""
    while len(answer) < 4: answer += stream.recv(4 - len(answer))
    stream.unwrap()
    print("clean")
"#;

#[test]
fn a_client_in_python_takes_leave_of_our_servers() {
    bounded(|| {
        let (server, authority) = Secure::trusted();
        let files = Files::empty();
        let root = files.write("ca.pem", &authority.text());
        #[cfg_attr(not(feature = "aio"), allow(unused_mut, reason = "with `aio` there is a second server"))]
        let mut ports = vec![server.addr().port()];
        #[cfg(feature = "aio")]
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        #[cfg(feature = "aio")]
        {
            let tls = authority.sign(&["localhost"]).server();
            let server = runtime.block_on(threadwire::aio::Server::bind("127.0.0.1:0")).unwrap().tls(tls);
            ports.push(server.local_addr().unwrap().port());
            runtime.spawn(server.serve(|_, mut ws| async move {
                while let Some(message) = ws.recv().await.unwrap() {
                    ws.send(&message).await.unwrap();
                }
            }));
        }
        for port in ports {
            let arguments = ["-c", PYTHON_CLIENT, text(&root), &port.to_string()];
            let Some(mut tool) = Tool::start("python3", &arguments) else { return };
            tool.hear("hello TLSv1.3 http/1.1\nclean\n");
        }
    });
}

#[test]
fn its_client_notices_an_expired_certificate_and_that_it_was_reloaded() {
    bounded(|| {
        let authority = Authority::new("authority");
        let files = Files::empty();
        let root = files.write("ca.pem", &authority.text());
        let old = authority.sign_with(&["localhost"], expired);
        let (chain, key) = (files.write("a.pem", &old.chain), files.write("a.key", &old.key));
        let server = Secure::with(ServerTls::new(Pem::file(&chain), Pem::file(&key)).unwrap());
        let Some(mut tool) = s_client(server.addr(), &root, &[]) else { return };
        tool.hear("certificate has expired");
        let new = authority.sign(&["localhost"]);
        files.write("a.pem", &new.chain);
        files.write("a.key", &new.key);
        server.tls.reload().unwrap();
        let Some(mut tool) = s_client(server.addr(), &root, &[]) else { return };
        tool.hear("Verify return code: 0 (ok)");
    });
}

#[test]
fn many_of_its_clients_are_served_at_once() {
    bounded(|| {
        let (server, authority) = Secure::trusted();
        let files = Files::empty();
        let root = files.write("ca.pem", &authority.text());
        let mut tools = Vec::new();
        for _ in 0..5 {
            let Some(tool) = s_client(server.addr(), &root, &["-quiet"]) else { return };
            tools.push(tool);
        }
        for tool in &mut tools {
            tool.say(request("/"));
        }
        for tool in tools.iter_mut().rev() {
            tool.hear("\r\n\r\n");
            tool.say(masked(TEXT, b"hello"));
        }
        // Ours is among them.
        let heard = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let (tell, client) = (Arc::clone(&heard), server.client(authority.trusted()));
        let ws = client
            .connect(move |_: &Connection, _: Message<'_>| {
                tell.store(true, std::sync::atomic::Ordering::SeqCst);
                Ok(())
            })
            .unwrap();
        ws.send("hello").unwrap();
        wait_until(None, || heard.load(std::sync::atomic::Ordering::SeqCst)).unwrap();
        for tool in &mut tools {
            tool.hear(frame(TEXT, false, b"hello"));
        }
    });
}
