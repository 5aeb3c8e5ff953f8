//! Paused reading: by the program, and by the throttle where the peer does not read either.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use crate::common::peer::{BINARY, CLOSE, Host, PING, PONG, Peer, TEXT, masked};
use crate::common::recorder::{Call, End, Log};
use crate::common::sharing::{serving_handles, there};
use crate::common::{Serving, bounded, echo, ignore, patient};
use threadwire::{
    Client, CloseCode, Config, Connection, Error, Handle, Initiator, Message, WhenFull, wait_until,
};

/// Lets the loop of a server turn until everything was read that lay ready in a socket before: see
/// [`Neighbour::go_on`](crate::common::neighbour::Neighbour::go_on).
fn rounds(serving: &Serving) {
    let mut peer = Peer::open(serving.addr, "/echo");
    for round in 0..4u8 {
        peer.send(TEXT, &[b'0' + round]);
        assert_eq!(peer.text().as_bytes(), [b'0' + round]);
    }
    peer.close(1000, "");
    assert_eq!(peer.code(), 1000);
}

/// Pauses at this text.
fn pause_when_told(ws: &Connection, call: &Call) -> Result<(), Error> {
    if *call == Call::text("pause") {
        ws.pause_reading();
    }
    Ok(())
}

fn texts(log: &Log) -> Vec<String> {
    let text = |call| if let Call::Text(text) = call { Some(text) } else { None };
    log.calls().into_iter().filter_map(text).collect()
}

fn paused(log: &Log) -> (Serving, Peer, Handle) {
    let (serving, handles) = serving_handles(patient(), log, pause_when_told);
    let mut peer = serving.peer();
    let handle = handles.recv().unwrap();
    peer.send(TEXT, b"pause");
    log.wait_for(&Call::text("pause"));
    assert!(there(&handle, |ws| ws.is_reading_paused()));
    (serving, peer, handle)
}

#[test]
fn nothing_is_delivered_while_reading_is_paused_and_everything_after() {
    bounded(|| {
        let log = Log::new();
        let (serving, mut peer, handle) = paused(&log);
        for number in 0..10 {
            peer.send(TEXT, number.to_string().as_bytes());
            peer.send(PING, &[number]);
            rounds(&serving);
        }
        assert_eq!(texts(&log), ["pause"]);
        assert!(peer.is_silent(), "a ping was answered");
        // Sending goes on while reading is paused.
        handle.send("to the peer").unwrap();
        assert_eq!(peer.text(), "to the peer");
        assert_eq!(texts(&log), ["pause"]);
        assert!(there(&handle, |ws| {
            ws.resume_reading();
            !ws.is_reading_paused()
        }));
        for number in 0..10 {
            assert_eq!(peer.frame(), (PONG, vec![number]));
        }
        let calls = log.wait(|calls| calls.len() == 22);
        for (number, pair) in (0..10u8).zip(calls[2..].chunks(2)) {
            assert_eq!(pair, [Call::text(&number.to_string()), Call::Ping(vec![number])]);
        }
        // And that is all of it.
        peer.send(TEXT, b"after");
        log.wait_for(&Call::text("after"));
    });
}

#[test]
fn what_was_read_together_with_what_paused_still_comes() {
    bounded(|| {
        let log = Log::new();
        let (serving, handles) = serving_handles(patient(), &log, pause_when_told);
        let mut peer = serving.peer();
        let handle = handles.recv().unwrap();
        peer.bytes([masked(TEXT, b"pause"), masked(TEXT, b"same read"), masked(PING, b"p")].concat());
        log.wait_for(&Call::Ping(b"p".to_vec()));
        assert_eq!(peer.frame(), (PONG, b"p".to_vec()));
        peer.send(TEXT, b"next read");
        rounds(&serving);
        assert_eq!(texts(&log), ["pause", "same read"]);
        handle.run(Connection::resume_reading);
        log.wait_for(&Call::text("next read"));
    });
}

#[test]
fn a_long_message_may_be_paused_in_its_middle() {
    bounded(|| {
        let log = Log::new();
        let (serving, mut peer, handle) = paused(&log);
        let long = vec![7; 1 << 20];
        let bytes = masked(BINARY, &long);
        peer.bytes(&bytes[..1000]);
        handle.run(Connection::resume_reading);
        rounds(&serving);
        handle.run(Connection::pause_reading);
        let mut writer = peer.writer();
        let rest = bytes[1000..].to_vec();
        let writing = thread::spawn(move || writer.bytes(rest));
        rounds(&serving);
        assert_eq!(log.calls().len(), 2);
        handle.run(Connection::resume_reading);
        writing.join().unwrap();
        let calls = log.wait(|calls| calls.len() == 3);
        assert!(calls[2] == Call::Binary(long));
        drop(peer);
    });
}

#[test]
fn a_listener_may_pause_at_each_message() {
    bounded(|| {
        let log = Log::new();
        let (serving, handles) = serving_handles(patient(), &log, |ws, call| {
            if let Call::Text(_) = call {
                assert!(!ws.is_reading_paused());
                ws.pause_reading();
            }
            Ok(())
        });
        let mut peer = serving.peer();
        let handle = handles.recv().unwrap();
        for number in 0..5 {
            peer.send(TEXT, number.to_string().as_bytes());
            log.wait_for(&Call::text(&number.to_string()));
            // This ping was not read together with the message.
            peer.send(PING, &[number]);
            rounds(&serving);
            assert!(peer.is_silent());
            handle.run(Connection::resume_reading);
            assert_eq!(peer.frame(), (PONG, vec![number]));
        }
    });
}

#[test]
fn reading_may_be_paused_before_anything_has_come() {
    bounded(|| {
        let log = Log::new();
        let (serving, handles) = serving_handles(patient(), &log, |ws, call| {
            if *call == Call::Open {
                ws.pause_reading();
            }
            Ok(())
        });
        let mut peer = serving.peer();
        let handle = handles.recv().unwrap();
        peer.send(TEXT, b"early");
        rounds(&serving);
        assert_eq!(log.calls(), [Call::Open]);
        handle.run(Connection::resume_reading);
        log.wait_for(&Call::text("early"));
    });
}

#[test]
fn resuming_within_the_callback_that_paused_loses_nothing() {
    bounded(|| {
        let log = Log::new();
        let (serving, _handles) = serving_handles(patient(), &log, |ws, call| {
            if let Call::Text(_) = call {
                ws.pause_reading();
                ws.resume_reading();
                ws.resume_reading();
            }
            Ok(())
        });
        let mut peer = serving.peer();
        for number in 0..20 {
            peer.send(TEXT, number.to_string().as_bytes());
        }
        log.wait_for(&Call::text("19"));
        assert_eq!(texts(&log).len(), 20);
    });
}

#[test]
fn a_connection_that_reads_nothing_can_be_closed() {
    bounded(|| {
        let log = Log::new();
        let (serving, mut peer, handle) = paused(&log);
        peer.send(TEXT, b"nobody wants this");
        rounds(&serving);
        handle.close_with(CloseCode::new(4000), "enough").unwrap();
        assert_eq!(peer.closed(), (4000, "enough".to_owned()));
        peer.close(4000, "");
        assert!(peer.ended());
        assert_eq!(log.wait_end(), End::clean(Initiator::Local, 4000, "enough"));
        assert_eq!(texts(&log), ["pause"]);
    });
}

#[test]
fn the_close_frame_of_the_peer_is_seen_after_the_pause() {
    bounded(|| {
        let log = Log::new();
        let (serving, mut peer, handle) = paused(&log);
        peer.send(TEXT, b"last words");
        peer.close(4000, "bye");
        rounds(&serving);
        assert!(peer.is_silent() && handle.is_open());
        assert_eq!(log.end(), None);
        handle.run(Connection::resume_reading);
        assert_eq!(peer.code(), 4000);
        assert_eq!(log.wait_end(), End::clean(Initiator::Peer, 4000, "bye"));
        assert_eq!(texts(&log), ["pause", "last words"]);
    });
}

#[test]
fn the_end_of_the_stream_is_seen_after_the_pause() {
    for is_reset in [false, true] {
        bounded(move || {
            let log = Log::new();
            let (serving, mut peer, handle) = paused(&log);
            if is_reset {
                peer.reset();
            } else {
                peer.send(TEXT, b"last words");
                peer.end();
            }
            rounds(&serving);
            assert_eq!(log.end(), None);
            handle.run(Connection::resume_reading);
            let end = log.wait_end();
            assert_eq!((end.code, end.clean, end.initiator), (1006, false, Initiator::Peer));
            assert!(is_reset || texts(&log) == ["pause", "last words"]);
        });
    }
}

#[test]
fn aborting_and_stopping_do_not_wait_for_a_pause() {
    bounded(|| {
        let log = Log::new();
        let (_serving, mut peer, handle) = paused(&log);
        handle.abort();
        assert!(peer.ended());
        assert_eq!(log.wait_end().code, 1006);

        let log = Log::new();
        let (serving, mut peer, _handle) = paused(&log);
        peer.send(TEXT, b"nobody wants this");
        let running = serving.into_running();
        running.stop();
        assert_eq!(peer.code(), 1001);
        peer.close(1001, "");
        assert!(peer.ended());
        running.join().unwrap();
        assert_eq!(log.wait_end(), End::clean(Initiator::Local, 1001, ""));
    });
}

#[test]
fn a_closing_connection_does_not_pause() {
    bounded(|| {
        let log = Log::new();
        let (serving, handles) = serving_handles(patient(), &log, ignore);
        let mut peer = serving.peer();
        let handle = handles.recv().unwrap();
        there(&handle, |ws| {
            ws.close().unwrap();
            ws.pause_reading();
            assert!(!ws.is_reading_paused());
        });
        assert_eq!(peer.code(), 1000);
        peer.close(1000, "");
        assert_eq!(log.wait_end(), End::clean(Initiator::Local, 1000, ""));
        handle.run(Connection::resume_reading);
    });
}

#[test]
fn a_client_may_pause_as_well() {
    bounded(|| {
        let host = Host::listen();
        let url = host.url();
        let host = host.run(|host| host.upgrade(b""));
        let log = Log::new();
        let listener = log.listener(pause_when_told);
        let ws = Client::new(&url).unwrap().config(patient()).connect(listener).unwrap();
        let mut peer = host.join().unwrap();
        peer.send(TEXT, b"pause");
        wait_until(None, || ws.is_reading_paused()).unwrap();
        peer.send(TEXT, b"later");
        let neighbour = crate::common::neighbour::Neighbour::start();
        neighbour.go_on(4);
        assert_eq!(texts(&log), ["pause"]);
        ws.resume_reading();
        neighbour.go_on(4);
        assert_eq!(texts(&log), ["pause", "later"]);
        neighbour.noticed_nothing();
    });
}

/// The length of a request, and how many of them are more than may wait, and more than the system holds besides.
const LENGTH: usize = 64 << 10;
const COUNT: usize = 512;

/// Writes all requests at once, as far as they are taken. Says whether that was all.
fn pipeline(peer: &Peer) -> JoinHandle<bool> {
    let mut writer = peer.writer();
    thread::spawn(move || {
        let request = masked(BINARY, &[7; LENGTH]);
        (0..COUNT).all(|_| writer.try_bytes(&request))
    })
}

/// A server that echoes, gives its handles to the test, and the most that has ever waited.
fn echoing(config: Config) -> (Serving, mpsc::Receiver<Handle>, Arc<AtomicUsize>) {
    let most = Arc::new(AtomicUsize::new(0));
    let measured = Arc::clone(&most);
    let (serving, handles) = serving_handles(config, &Log::new(), move |ws, call| {
        if let Call::Binary(bytes) = call {
            ws.send(bytes)?;
            measured.fetch_max(ws.buffered(), Ordering::SeqCst);
        }
        Ok(())
    });
    (serving, handles, most)
}

fn default_but(change: impl FnOnce(&mut Config)) -> Config {
    let mut config = patient();
    change(&mut config);
    config
}

/// Lets the server go on until it reads no more from that connection.
fn wait_throttled(serving: &Serving, handle: &Handle, limit: usize) {
    let mut before = usize::MAX;
    loop {
        let buffered = there(handle, |ws| ws.buffered());
        rounds(serving);
        if buffered > limit / 2 && buffered == before {
            return;
        }
        before = buffered;
    }
}

#[test]
fn a_peer_that_reads_only_after_all_of_its_requests_gets_every_echo() {
    bounded(|| {
        let config = patient();
        let limit = config.max_buffered;
        assert!(LENGTH * COUNT > limit + (12 << 20), "too little to fill it");
        let (serving, handles, most) = echoing(config);
        let mut peer = Peer::connect_narrow(serving.addr).upgrade("/");
        let handle = handles.recv().unwrap();
        let writing = pipeline(&peer);
        // This connection is throttled, and others are not.
        wait_throttled(&serving, &handle, limit);
        assert!(!writing.is_finished(), "all was read");
        assert!(!there(&handle, |ws| ws.is_reading_paused()), "that is the program's");
        let header = 10;
        for _ in 0..COUNT {
            peer.skip(LENGTH + header);
        }
        assert!(writing.join().unwrap());
        assert!(peer.is_silent() && handle.is_open());
        let most = most.load(Ordering::SeqCst);
        assert!(most > limit / 2 && most <= limit / 2 + (1 << 20), "{most} have waited");
        // And it goes on as before.
        peer.send(BINARY, b"after");
        assert_eq!(peer.frame(), (BINARY, b"after".to_vec()));
    });
}

#[test]
fn a_peer_that_reads_when_it_has_sent_everything_gets_the_last_echoes_too() {
    bounded(|| {
        const SHORT: usize = 16 << 10;
        let limit = 256 << 10;
        let (serving, handles, _) = echoing(default_but(|config| {
            config.max_buffered = limit;
            // The watermarks are no help.
            config.high_watermark = limit;
        }));
        let mut peer = Peer::connect_narrow(serving.addr).upgrade("/");
        let handle = handles.recv().unwrap();
        let mut count = 0;
        let mut send = |peer: &mut Peer| {
            peer.send(BINARY, &[7; SHORT]);
            count += 1;
        };
        while there(&handle, |ws| ws.buffered()) <= limit / 2 {
            send(&mut peer);
        }
        wait_throttled(&serving, &handle, limit);
        // These messages lie in the system's buffers, and the server gets no second readiness event for them.
        (0..3).for_each(|_| send(&mut peer));
        rounds(&serving);
        for _ in 0..count {
            assert_eq!(peer.brief(0), (BINARY, SHORT, Vec::new()));
        }
        assert!(peer.is_silent());
    });
}

#[test]
fn without_throttling_such_a_peer_is_closed_with_1008() {
    bounded(|| {
        let (serving, handles, most) = echoing(default_but(|config| config.throttle = false));
        let mut peer = Peer::connect_narrow(serving.addr).upgrade("/");
        let handle = handles.recv().unwrap();
        let writing = pipeline(&peer);
        // All of it is read.
        assert!(writing.join().unwrap());
        while handle.is_open() {
            rounds(&serving);
        }
        let mut echoes = 0;
        let code = loop {
            match peer.frame() {
                (CLOSE, payload) => break u16::from_be_bytes([payload[0], payload[1]]),
                (_, payload) => assert_eq!(payload.len(), LENGTH),
            }
            echoes += 1;
        };
        assert!(code == 1008 && echoes < COUNT, "{code} after {echoes}");
        assert!(most.load(Ordering::SeqCst) > (16 << 20) - LENGTH);
    });
}

#[test]
fn a_throttled_connection_can_be_closed() {
    bounded(|| {
        let limit = 1 << 20;
        let (serving, handles, _) = echoing(default_but(|config| config.max_buffered = limit));
        let mut peer = Peer::connect_narrow(serving.addr).upgrade("/");
        let handle = handles.recv().unwrap();
        let writing = pipeline(&peer);
        wait_throttled(&serving, &handle, limit);
        handle.close_with(CloseCode::new(4000), "").unwrap();
        let last = std::iter::repeat_with(|| peer.frame()).find(|(first, _)| *first == CLOSE);
        assert_eq!(last.unwrap().1, 4000_u16.to_be_bytes());
        // Bytes that the server has not read by then are read and dropped.
        assert!(writing.join().unwrap());
        peer.close(4000, "");
        assert!(peer.ended());
        assert!(handle.wait_closed().unwrap().clean);
    });
}

#[test]
fn a_pause_and_throttling_do_not_end_each_other() {
    bounded(|| {
        let limit = 1 << 20;
        let (serving, handles, _) = echoing(default_but(|config| config.max_buffered = limit));
        let mut peer = Peer::connect_narrow(serving.addr).upgrade("/");
        let handle = handles.recv().unwrap();
        let writing = pipeline(&peer);
        wait_throttled(&serving, &handle, limit);
        // Resuming does not make room.
        let buffered = there(&handle, |ws| {
            ws.pause_reading();
            ws.resume_reading();
            ws.pause_reading();
            ws.buffered()
        });
        rounds(&serving);
        assert_eq!(there(&handle, |ws| ws.buffered()), buffered);
        // Room does not resume.
        let (mut echoes, mut reads) = (0, 0);
        while reads < buffered {
            assert_eq!(peer.frame().0, BINARY);
            (echoes, reads) = (echoes + 1, reads + LENGTH);
        }
        while there(&handle, |ws| ws.buffered()) > 0 {
            assert_eq!(peer.frame().0, BINARY);
            echoes += 1;
        }
        rounds(&serving);
        assert_eq!(there(&handle, |ws| ws.buffered()), 0);
        assert!(!writing.is_finished() && echoes < COUNT);
        handle.run(Connection::resume_reading);
        for _ in echoes..COUNT {
            assert_eq!(peer.frame().1.len(), LENGTH);
        }
        assert!(writing.join().unwrap());
    });
}

#[test]
fn a_server_that_drops_messages_reads_on() {
    bounded(|| {
        for when_full in [WhenFull::DropOldest, WhenFull::DropNewest] {
            let (serving, handles, most) = echoing(default_but(|config| {
                config.max_buffered = 1 << 20;
                config.when_full = when_full;
            }));
            let mut peer = Peer::connect_narrow(serving.addr).upgrade("/");
            let handle = handles.recv().unwrap();
            assert!(pipeline(&peer).join().unwrap());
            peer.send(PING, b"the last");
            let mut echoes = 0;
            loop {
                match peer.frame() {
                    (BINARY, payload) => assert_eq!(payload.len(), LENGTH),
                    pong => break assert_eq!(pong, (PONG, b"the last".to_vec())),
                }
                echoes += 1;
            }
            assert_eq!(there(&handle, |ws| ws.dropped()) + echoes, COUNT as u64);
            assert!(handle.is_open());
            let most = most.load(Ordering::SeqCst);
            assert!(most <= (1 << 20) + LENGTH + 1000, "{most} have waited with {when_full:?}");
        }
    });
}

#[test]
fn a_client_is_never_throttled() {
    bounded(|| {
        let host = Host::listen();
        let url = host.url();
        let host = host.run(|host| host.upgrade(b""));
        let config = default_but(|config| config.max_buffered = 1 << 20);
        let log = Log::new();
        let ws = Client::new(&url).unwrap().config(config).connect(log.listener(|ws, call| match call {
            Call::Binary(bytes) => echo(ws, Message::from(bytes)),
            _ => Ok(()),
        }));
        let (ws, mut peer) = (ws.unwrap(), host.join().unwrap());
        let mut writer = peer.writer();
        let writing = thread::spawn(move || {
            let request = [&[BINARY, 127][..], &(LENGTH as u64).to_be_bytes(), &[7; LENGTH]].concat();
            (0..COUNT).all(|_| writer.try_bytes(&request))
        });
        // The server reads on, and so reaches its limit.
        wait_until(None, || !ws.is_open()).unwrap();
        let reader = thread::spawn(move || {
            let last = std::iter::repeat_with(|| peer.frame()).find(|(first, _)| *first == CLOSE);
            peer.close(1008, "");
            peer.end();
            last
        });
        ws.wait_closed().unwrap();
        assert!(writing.join().unwrap());
        assert_eq!(reader.join().unwrap().unwrap().1[..2], 1008_u16.to_be_bytes());
    });
}

#[test]
fn a_server_that_sends_much_of_its_own_still_reads() {
    bounded(|| {
        let log = Log::new();
        let config = default_but(|config| config.max_buffered = 4 << 20);
        let (serving, handles) = serving_handles(config, &log, ignore);
        let mut peer = Peer::connect_narrow(serving.addr).upgrade("/");
        let handle = handles.recv().unwrap();
        // More than half of what may wait, but the peer has not asked for it.
        there(&handle, |ws| {
            while ws.buffered() < 3 << 20 {
                ws.send(&[0; LENGTH]).unwrap();
                ws.flush();
            }
        });
        for number in 0..10 {
            peer.send(TEXT, number.to_string().as_bytes());
            log.wait_for(&Call::text(&number.to_string()));
        }
        rounds(&serving);
    });
}
