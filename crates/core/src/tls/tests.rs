//! TLS sessions of a client and a server over a pipe that takes and gives as little as it likes.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut, Write as _};
use std::rc::Rc;
use std::sync::Arc;

use proptest::prelude::*;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::ServerName;

use super::{ClientTls, Pem, ServerTls};
use crate::session::{buffers::Buffers, outbox::Outbox};
use crate::tls::session::Session;
use crate::transport::Transport;

/// One direction: what is under way, and how much may be.
struct Half {
    bytes: VecDeque<u8>,
    capacity: usize,
    ended: bool,
    /// Whether nobody is there any more to take it.
    gone: bool,
}

/// One end.
struct End {
    sends: Rc<RefCell<Half>>,
    receives: Rc<RefCell<Half>>,
    /// The most that one call takes or gives.
    most: usize,
    writes: usize,
}

fn pipe(capacity: usize, most: usize) -> (End, End) {
    let half = || Rc::new(RefCell::new(Half { bytes: VecDeque::new(), capacity, ended: false, gone: false }));
    let (one, other) = (half(), half());
    let end = |sends: &Rc<RefCell<Half>>, receives: &Rc<RefCell<Half>>| End {
        sends: Rc::clone(sends),
        receives: Rc::clone(receives),
        most,
        writes: 0,
    };
    (end(&one, &other), end(&other, &one))
}

impl Transport for End {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut half = self.receives.borrow_mut();
        if half.bytes.is_empty() && !half.ended {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = half.bytes.len().min(self.most).min(buffer.len());
        for (place, byte) in buffer.iter_mut().zip(half.bytes.drain(..count)) {
            *place = byte;
        }
        Ok(count)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut half = self.sends.borrow_mut();
        if half.gone {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let count = bytes.len().min(self.most).min(half.capacity - half.bytes.len());
        if count == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        half.bytes.extend(&bytes[..count]);
        self.writes += 1;
        Ok(count)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.sends.borrow_mut().ended = true;
        Ok(())
    }

    fn may_have_more(&self, _count: usize, _room: usize) -> bool {
        true
    }
}

/// A client and a server that are not connected yet.
fn sessions() -> (Session, Session) {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (chain, key) = (Pem::bytes(cert.pem()), Pem::bytes(signing_key.serialize_pem()));
    let client = ClientTls::new().only_roots(chain.clone()).unwrap();
    let (config, name) = client.prepare("localhost").unwrap();
    let server = ServerTls::new(chain, key).unwrap();
    (Session::client(config, name).unwrap(), Session::server(server.current(), Vec::new()).unwrap())
}

/// `None` for what would block.
fn now<T>(result: io::Result<T>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
        Err(error) => panic!("{error}"),
    }
}

fn handshake(client: &mut (Session, End), server: &mut (Session, End)) {
    for _ in 0..100_000 {
        let done = client.0.handshake(&mut client.1).unwrap() & server.0.handshake(&mut server.1).unwrap();
        // The handshake ends only when all bytes have left.
        if done && client.0.push(&mut client.1).unwrap() && server.0.push(&mut server.1).unwrap() {
            return;
        }
    }
    panic!("the handshake does not end");
}

fn connected(capacity: usize, most: usize) -> ((Session, End), (Session, End)) {
    let ((client, server), (here, there)) = (sessions(), pipe(capacity, most));
    let (mut client, mut server) = ((client, here), (server, there));
    handshake(&mut client, &mut server);
    (client, server)
}

fn read(end: &mut (Session, End), size: usize) -> Option<Vec<u8>> {
    let (mut first, mut second) = (vec![0; size / 3], vec![0; size - size / 3]);
    let buffers = &mut [IoSliceMut::new(&mut first), IoSliceMut::new(&mut second)];
    let count = now(end.0.read(&mut end.1, buffers))?;
    first.extend(second);
    first.truncate(count);
    Some(first)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_is_written_is_read_however_little_the_pipe_takes(
        capacity in 1..200_000_usize,
        most in prop_oneof![1..40_usize, 1..100_000_usize],
        sizes in prop::collection::vec(0..150_000_usize, 1..6),
        reads in 1..100_000_usize,
        cut in 0..20_usize,
    ) {
        // A byte at a time, megabytes would take forever.
        let most = most.max(sizes.iter().sum::<usize>() / 5000);
        let capacity = capacity.max(most);
        let (mut client, mut server) = connected(capacity, most);
        let bytes: Vec<u8> = (0..sizes.iter().sum::<usize>()).map(|at| (at * 7 + at / 256) as u8).collect();
        let (mut written, mut read_back) = (0, Vec::new());
        let mut ends: Vec<usize> = sizes.iter().scan(0, |end, size| { *end += size; Some(*end) }).collect();
        while read_back.len() < bytes.len() {
            // One write for each piece, continued where the last one stopped, as an outbox does.
            ends.retain(|end| *end > written);
            if let Some(end) = ends.first() {
                let waiting = &bytes[written..*end];
                let (head, rest) = waiting.split_at(cut.min(waiting.len()));
                let parts = [IoSlice::new(head), IoSlice::new(&[]), IoSlice::new(rest)];
                written += now(client.0.write(&mut client.1, &parts)).unwrap_or(0);
            }
            read_back.extend(read(&mut server, reads.max(bytes.len() / 5000 + 3)).unwrap_or_default());
        }
        prop_assert!(read_back == bytes);
        prop_assert!(read(&mut server, 10).is_none());
        // All encrypted bytes have left: nothing is kept.
        prop_assert_eq!(written, bytes.len());
    }
}

#[test]
fn the_last_byte_counts_when_all_has_left() {
    let (mut client, mut server) = connected(1000, 1000);
    let bytes = [7; 3000];
    let count = client.0.write(&mut client.1, &[IoSlice::new(&bytes)]).unwrap();
    assert_eq!(count, 2999, "all of it is encrypted");
    assert!(now(client.0.write(&mut client.1, &[IoSlice::new(&bytes[count..])])).is_none());
    let mut got = 0;
    while got < 3000 {
        got += read(&mut server, 5000).map_or(0, |bytes| bytes.len());
        client.0.push(&mut client.1).unwrap();
    }
    assert_eq!(client.0.write(&mut client.1, &[IoSlice::new(&bytes[count..])]).unwrap(), 1);
    assert!(read(&mut server, 5000).is_none(), "it has left already");
}

#[test]
fn what_is_written_together_is_one_write_and_as_few_records_as_can_be() {
    let (mut client, mut server) = connected(1 << 20, 1 << 20);
    client.1.writes = 0;
    let parts = [IoSlice::new(&[1; 100]), IoSlice::new(&[2; 14]), IoSlice::new(&[3; 30_000])];
    assert_eq!(client.0.write(&mut client.1, &parts).unwrap(), 30_114);
    assert_eq!(client.1.writes, 1);
    let waiting = server.1.receives.borrow().bytes.len();
    assert!(waiting < 30_114 + 2 * 40, "two records: {waiting}");
    assert_eq!(read(&mut server, 1 << 20).unwrap().len(), 30_114);
}

#[test]
fn bytes_that_find_no_room_are_handed_out_without_the_stream() {
    let (mut client, mut server) = connected(1 << 20, 1 << 20);
    client.0.write(&mut client.1, &[IoSlice::new(&[5; 10_000])]).unwrap();
    assert_eq!(read(&mut server, 10).unwrap(), [5; 10]);
    assert!(server.0.may_have_more());
    while read(&mut server, 1000).is_some_and(|bytes| bytes.len() == 1000) {}
    // Readiness that comes meanwhile is not announced again.
    assert!(server.0.may_have_more());
    client.0.write(&mut client.1, &[IoSlice::new(&[5; 9990])]).unwrap();
    server.1.receives.borrow_mut().ended = true;
    let mut rest = 0;
    while let Some(bytes) = read(&mut server, 1000).filter(|bytes| !bytes.is_empty()) {
        rest += bytes.len();
    }
    assert_eq!(rest, 9990);
}

#[test]
fn a_goodbye_ends_one_half() {
    let (mut client, mut server) = connected(1 << 20, 1 << 20);
    client.0.write(&mut client.1, &[IoSlice::new(b"last")]).unwrap();
    assert!(client.0.say_goodbye(&mut client.1).unwrap());
    assert!(client.0.write(&mut client.1, &[IoSlice::new(b"too late")]).is_err());
    assert_eq!(read(&mut server, 10).unwrap(), b"last");
    assert_eq!(read(&mut server, 10).unwrap(), b"", "the stream below is still open");
    assert_eq!(read(&mut server, 10).unwrap(), b"");
    server.0.write(&mut server.1, &[IoSlice::new(b"answer")]).unwrap();
    assert_eq!(read(&mut client, 10).unwrap(), b"answer");
}

#[test]
fn a_broken_record_is_an_error_behind_what_came_before_it() {
    let (mut client, mut server) = connected(1 << 20, 1 << 20);
    client.0.write(&mut client.1, &[IoSlice::new(b"whole")]).unwrap();
    let before = server.1.receives.borrow().bytes.len();
    client.0.write(&mut client.1, &[IoSlice::new(b"broken")]).unwrap();
    server.1.receives.borrow_mut().bytes[before + 8] ^= 1;
    assert_eq!(read(&mut server, 100).unwrap(), b"whole");
    assert!(server.0.may_have_more());
    for _ in 0..2 {
        let error = server.0.read(&mut server.1, &mut [IoSliceMut::new(&mut [0; 100])]).unwrap_err();
        assert_eq!(error.to_string(), "TLS failed: cannot decrypt peer's message");
    }
    // The peer hears of it.
    let error = client.0.read(&mut client.1, &mut [IoSliceMut::new(&mut [0; 100])]).unwrap_err();
    assert_eq!(error.to_string(), "TLS failed: received fatal alert: BadRecordMac");
}

#[test]
fn records_without_end_are_given_up() {
    let (_, server) = sessions();
    let (mut here, there) = pipe(1 << 20, 1 << 20);
    let mut server = (server, there);
    // A message of the handshake of 16 MiB, a byte in each record.
    here.write(&[22, 3, 1, 0, 4, 1, 0xff, 0xff, 0xff]).unwrap();
    for _ in 0..100_000 {
        here.write(&[22, 3, 1, 0, 1, 0]).unwrap();
    }
    let error = server.0.handshake(&mut server.1).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
}

#[test]
fn keys_are_exchanged_while_messages_go_both_ways() {
    let ((_, server), (mut here, there)) = (sessions(), pipe(1 << 20, 1 << 20));
    let mut server = (server, there);
    // The other side is rustls as it comes.
    let config = ClientTls::new().danger_accept_any_certificate().prepare("localhost").unwrap().0;
    let name = ServerName::try_from("localhost").unwrap();
    let mut client = rustls::ClientConnection::new(Arc::clone(&config), name).unwrap();
    let mut said = Vec::new();
    for round in 0..200_u32 {
        let mut output = Vec::new();
        if !client.is_handshaking() {
            if round % 3 == 0 {
                client.refresh_traffic_keys().unwrap();
            }
            client.writer().write_all(&round.to_be_bytes()).unwrap();
            said.extend(round.to_be_bytes());
        }
        client.write_tls(&mut output).unwrap();
        if !output.is_empty() {
            here.write(&output).unwrap();
        }
        if server.0.handshake(&mut server.1).unwrap() {
            while let Some(bytes) = read(&mut server, 100) {
                server.0.write(&mut server.1, &[IoSlice::new(&bytes)]).unwrap();
            }
        }
        let mut input = [0; 10_000];
        if let Some(count) = now(here.read(&mut input)) {
            let mut input = &input[..count];
            while !input.is_empty() {
                client.read_tls(&mut input).unwrap();
                client.process_new_packets().unwrap();
            }
            let mut heard = vec![0; said.len()];
            let count = now(io::Read::read(&mut client.reader(), &mut heard)).unwrap_or(0);
            assert_eq!(said.drain(..count).collect::<Vec<u8>>(), heard[..count]);
        }
    }
    assert!(said.len() <= 4, "all of it has come back: {}", said.len());
}

/// A session as an outbox writes it.
struct Through<'a>(&'a mut (Session, End));

impl Transport for Through<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.0.read(&mut self.0.1, &mut [IoSliceMut::new(buffer)])
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.0.write(&mut self.0.1, &[IoSlice::new(bytes)])
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.0.1.shutdown_write()
    }

    fn may_have_more(&self, _count: usize, _room: usize) -> bool {
        true
    }

    fn owes(&self) -> bool {
        self.0.0.owes()
    }
}

#[test]
fn a_frame_whose_first_byte_was_encrypted_with_the_last_one_is_not_dropped() {
    let (mut client, mut server) = connected(1000, 1000);
    let (mut outbox, local) = (Outbox::default(), Buffers::current());
    // The longest piece that is encrypted at once ends behind the first byte of the second frame.
    for (byte, length) in [(1, (64 << 10) - 1), (2, 100), (3, 100)] {
        outbox.before_frame(true);
        outbox.end(&local).extend(std::iter::repeat_n(byte, length));
        outbox.mark(true);
    }
    outbox.write(&mut Through(&mut client), &local).unwrap();
    assert!(outbox.is_blocked() && client.0.owes());
    assert_eq!((outbox.drop_oldest(), outbox.drop_oldest()), (true, false));
    let mut got = Vec::new();
    for _ in 0..1000 {
        got.extend(read(&mut server, 5000).unwrap_or_default());
        outbox.unblock();
        outbox.write(&mut Through(&mut client), &local).unwrap();
    }
    assert!(outbox.is_empty());
    assert!(got == [vec![1; (64 << 10) - 1], vec![2; 100]].concat(), "{}", got.len());
}

/// A client that is done, and a server that has not read yet what the client sent last.
fn half_connected() -> ((Session, End), (Session, End)) {
    let ((client, server), (here, there)) = (sessions(), pipe(1 << 20, 1 << 20));
    let (mut client, mut server) = ((client, here), (server, there));
    while !client.0.handshake(&mut client.1).unwrap() {
        assert!(!server.0.handshake(&mut server.1).unwrap());
    }
    (client, server)
}

#[test]
fn what_comes_with_the_end_of_the_handshake_is_read_even_if_it_is_the_end_of_all() {
    for says_goodbye in [true, false] {
        for is_gone in [true, false] {
            let (mut client, mut server) = half_connected();
            client.0.write(&mut client.1, &[IoSlice::new(b"all of it")]).unwrap();
            if says_goodbye {
                client.0.say_goodbye(&mut client.1).unwrap();
            }
            server.1.receives.borrow_mut().ended = true;
            server.1.sends.borrow_mut().gone = is_gone;
            assert!(server.0.handshake(&mut server.1).unwrap());
            assert_eq!(read(&mut server, 4).unwrap(), b"all ");
            assert_eq!(read(&mut server, 100).unwrap(), b"of it");
            assert_eq!(read(&mut server, 100).unwrap(), b"");
        }
    }
}

#[test]
fn an_end_without_data_right_behind_the_handshake_is_an_end() {
    let (mut client, mut server) = half_connected();
    client.0.say_goodbye(&mut client.1).unwrap();
    assert!(server.0.handshake(&mut server.1).unwrap());
    assert_eq!(read(&mut server, 100).unwrap(), b"");
}
