//! Keepalive pings: periodic ones, and application-level pings of the program's own.

use super::keepalive::kept;
use crate::common::keeping::{
    Keeper, MOMENT, await_frame, await_ping, await_something, await_verdict, giving_up_after, pinging,
};
use crate::common::peer::{CLOSE, PING, PONG, TEXT, frame};
use crate::common::recorder::{Call, Log};
use crate::common::sharing::pair_with;
use crate::common::{PATIENCE, bounded, patient};
use std::cell::RefCell;
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};
use threadwire::frame::{Frame, Level};
use threadwire::keepalive::PingStrategy;
use threadwire::{
    CloseCode, Config, Connection, Error, Initiator, Keepalive, Listener, Message, sleep, wait_until,
};

fn periodic() -> Config {
    let strategy = PingStrategy::Periodically;
    let keepalive = Keepalive::default().idle_timeout(MOMENT).reply_timeout(PATIENCE).strategy(strategy);
    patient().keepalive(keepalive)
}

#[test]
fn pings_periodically_whatever_the_peer_says() {
    bounded(|| {
        let begun = Instant::now();
        let (ws, mut peer, _log) = kept(periodic());
        for count in 1..=5 {
            // Somebody who goes on to send would never be idle.
            while peer.is_silent() {
                peer.send(TEXT, b"here");
                sleep(Duration::from_millis(1)).unwrap();
            }
            assert_eq!(peer.frame().0, PING);
            assert!(begun.elapsed() >= count * MOMENT, "{count} pings after {:?}", begun.elapsed());
        }
        assert!(ws.is_open());
    });
}

#[test]
fn pings_periodically_also_if_nothing_is_answered() {
    bounded(|| {
        let (ws, mut peer, _log) = kept(periodic());
        for _ in 0..4 {
            await_ping(&mut peer);
        }
        assert!(ws.is_open());
    });
}

#[test]
fn periodic_pings_do_not_prolong_a_silent_peers_time() {
    bounded(|| {
        let strategy = PingStrategy::Periodically;
        let keepalive =
            Keepalive::default().idle_timeout(MOMENT).reply_timeout(4 * MOMENT).strategy(strategy);
        let (ws, mut peer, _log) = kept(patient().keepalive(keepalive));
        await_verdict(&ws.handle());
        let mut pings = 0;
        let last = loop {
            match peer.frame() {
                (PING, _) => pings += 1,
                other => break other.0,
            }
        };
        assert_eq!(last, CLOSE);
        // As many as fit into that time; fewer where the system was slow.
        assert!((1..=5).contains(&pings), "{pings}");
    });
}

// --- Pings of the program's own ---

const QUESTION: &str = r#"{"op":"ping"}"#;
const ANSWER: &str = r#"{"op":"pong"}"#;

/// The calls of the listener of an application-level ping, in order.
#[derive(Clone, Default)]
struct Notes(Rc<RefCell<Vec<String>>>);

impl Notes {
    fn push(&self, what: &str, text: &str) {
        self.0.borrow_mut().push(format!("{what} {text}"));
    }

    fn take(&self) -> Vec<String> {
        self.0.take()
    }

    /// Lets the loop turn until so much was noted.
    fn await_count(&self, count: usize) -> Vec<String> {
        wait_until(None, || self.0.borrow().len() >= count).unwrap();
        self.take()
    }
}

/// Asks in JSON.
fn exchange(notes: &Notes) -> Keeper {
    let (asked, told) = (notes.clone(), notes.clone());
    Keeper::new()
        .due(|ws| ws.send(QUESTION))
        .is_pong(move |_, text| {
            asked.push("asked", text);
            text == ANSWER
        })
        .message(move |_, text| {
            told.push("told", text);
            Ok(())
        })
}

/// Texts in one piece, so that they are read at once.
fn texts(texts: &[&str]) -> Vec<u8> {
    texts.iter().flat_map(|text| frame(TEXT, false, text.as_bytes())).collect()
}

#[test]
fn pongs_of_the_programs_own_are_recognised_and_kept_from_it() {
    bounded(|| {
        let notes = Notes::default();
        let (ws, mut peer) = pair_with(pinging(), exchange(&notes));
        for _ in 0..3 {
            assert_eq!(await_frame(&mut peer), (TEXT, QUESTION.into()));
            peer.bytes(texts(&["price 1", ANSWER, "price 2", ANSWER]));
            // The listener is asked only between the ping and its answer; later messages are like any other.
            let expected = [
                "asked price 1".to_owned(),
                "told price 1".to_owned(),
                format!("asked {ANSWER}"),
                "told price 2".to_owned(),
                format!("told {ANSWER}"),
            ];
            assert_eq!(notes.await_count(5), expected);
        }
        assert!(ws.is_open());
    });
}

#[test]
fn nobody_is_asked_what_is_a_pong_before_there_was_a_ping() {
    bounded(|| {
        let notes = Notes::default();
        let keepalive = Some(Keepalive::default());
        let (_ws, mut peer) = pair_with(patient().keepalive(keepalive), exchange(&notes));
        peer.send(TEXT, ANSWER.as_bytes());
        assert_eq!(notes.await_count(1), [format!("told {ANSWER}")]);
    });
}

#[test]
fn a_pong_frame_ends_the_wait_for_one_of_the_programs_own() {
    bounded(|| {
        let notes = Notes::default();
        let (_ws, mut peer) = pair_with(pinging(), exchange(&notes));
        await_frame(&mut peer);
        let bytes = [texts(&["before"]), frame(PONG, false, b""), texts(&["after"])].concat();
        peer.bytes(bytes);
        assert_eq!(notes.await_count(3), ["asked before", "told before", "told after"]);
    });
}

#[test]
fn messages_that_are_no_pongs_keep_a_peer_alive() {
    bounded(|| {
        let notes = Notes::default();
        let (ws, mut peer) = pair_with(pinging(), exchange(&notes));
        for _ in 0..4 {
            // A second question says that the price was life, though it was no answer.
            assert_eq!(await_frame(&mut peer), (TEXT, QUESTION.into()));
            peer.send(TEXT, b"price");
        }
        assert!(ws.is_open());
        assert_eq!(notes.take()[..2], ["asked price", "told price"]);
    });
}

#[test]
fn a_pong_that_is_recognised_later_is_told() {
    bounded(|| {
        let notes = Notes::default();
        let told = notes.clone();
        let keeper = exchange(&notes).is_pong({
            let asked = notes.clone();
            move |_, text| {
                asked.push("asked", text);
                false
            }
        });
        let keeper = keeper.message(move |ws, text| {
            told.push("told", text);
            if text == ANSWER {
                ws.pong_received();
            }
            Ok(())
        });
        let (ws, mut peer) = pair_with(pinging().keep_round_trips(true), keeper);
        for round in 1..=3 {
            await_frame(&mut peer);
            peer.bytes(texts(&[ANSWER, "price"]));
            let expected = [format!("asked {ANSWER}"), format!("told {ANSWER}"), "told price".to_owned()];
            assert_eq!(notes.await_count(3), expected);
            assert_eq!(ws.round_trips().unwrap().count, round);
        }
    });
}

#[test]
fn a_pong_that_nobody_waits_for_is_no_round_trip() {
    bounded(|| {
        let (ws, mut peer, _log) = kept(pinging().keep_round_trips(true));
        ws.pong_received();
        await_ping(&mut peer);
        assert_eq!(ws.round_trips(), None);
        ws.pong_received();
        ws.pong_received();
        assert_eq!(ws.round_trips().unwrap().count, 1);
        // Without keepalive there is nothing to be told.
        let (other, _peer, _log) = kept(patient());
        other.pong_received();
        assert!(other.is_open());
    });
}

#[test]
fn round_trips_of_the_programs_own_pings_are_kept() {
    bounded(|| {
        let notes = Notes::default();
        let (ws, mut peer) = pair_with(pinging().keep_round_trips(true), exchange(&notes));
        assert_eq!(ws.round_trips(), None);
        for round in 1..=3 {
            await_frame(&mut peer);
            let came = Instant::now();
            thread::sleep(MOMENT);
            peer.bytes(texts(&[ANSWER, "end"]));
            notes.await_count(2);
            let trips = ws.round_trips().unwrap();
            assert_eq!(trips.count, round);
            assert!(trips.last >= MOMENT, "{trips:?}");
            assert!(
                trips.min <= trips.p50 && trips.p50 <= trips.max && came.elapsed() >= MOMENT,
                "{trips:?}"
            );
        }
    });
}

/// Recognises pongs at the level of frames.
struct Framed(Log);

impl Listener for Framed {
    fn level(&self) -> Level {
        Level::Frames
    }

    fn on_frame(&mut self, _ws: &Connection, frame: &Frame<'_>) -> Result<(), Error> {
        self.0.note(&format!("{:?} {}", frame.opcode(), String::from_utf8_lossy(frame.payload())));
        Ok(())
    }

    fn on_ping_due(&mut self, ws: &Connection) -> Result<(), Error> {
        ws.send(QUESTION)
    }

    fn is_pong(&mut self, _ws: &Connection, message: Message<'_>) -> bool {
        message.as_text() == Some(ANSWER)
    }
}

#[test]
fn pongs_of_the_programs_own_are_recognised_among_frames() {
    bounded(|| {
        let log = Log::new();
        let (_ws, mut peer) = pair_with(pinging(), Framed(log.clone()));
        await_frame(&mut peer);
        let bytes =
            [frame(TEXT & 0x7f, false, b"a"), frame(0x80, false, b"b"), texts(&[ANSWER, ANSWER])].concat();
        peer.bytes(bytes);
        wait_until(None, || log.calls().len() >= 3).unwrap();
        let expected = ["Text a", "Continuation b", &format!("Text {ANSWER}")];
        assert_eq!(log.calls(), expected.map(|text| Call::Note(text.to_owned())));
    });
}

#[test]
fn a_probe_of_the_programs_is_a_ping() {
    bounded(|| {
        let (ws, mut peer, _log) = kept(patient().keep_round_trips(true));
        ws.probe().unwrap();
        ws.probe().unwrap();
        let (first, second) = (await_ping(&mut peer), await_ping(&mut peer));
        assert_ne!(first, second);
        // Answered out of order, the older one is settled with the newer.
        peer.send(PONG, &second);
        peer.send(PONG, &first);
        peer.send(PONG, b"unasked");
        peer.close(1000, "");
        peer.end();
        ws.wait_closed().unwrap();
        assert_eq!(ws.round_trips().unwrap().count, 1);
        assert!(matches!(ws.probe(), Err(Error::Closed)));
    });
}

#[test]
fn a_callback_for_pings_that_fails_closes() {
    bounded(|| {
        for panics in [false, true] {
            let keeper = Keeper::new().due(move |_| match panics {
                false => Err(Error::other("no ping today")),
                true => panic!("no ping today"),
            });
            let (ws, mut peer) = pair_with(pinging(), keeper);
            await_something(&mut peer);
            assert_eq!(peer.code(), 1011);
            peer.close(1011, "");
            peer.end();
            let closed = ws.handle().wait_closed().unwrap();
            assert!(closed.error.as_ref().unwrap().to_string().contains("no ping today"), "{closed}");
        }
    });
}

#[test]
fn a_look_for_a_pong_that_panics_closes() {
    bounded(|| {
        let keeper = Keeper::new().is_pong(|_, _| panic!("what is this?"));
        let (ws, mut peer) = pair_with(pinging(), keeper);
        await_ping(&mut peer);
        peer.send(TEXT, b"this");
        await_something(&mut peer);
        assert_eq!(peer.code(), 1011);
        peer.close(1011, "");
        peer.end();
        let closed = ws.handle().wait_closed().unwrap();
        assert!(closed.error.as_ref().unwrap().to_string().contains("what is this?"), "{closed}");
    });
}

#[test]
fn a_callback_for_pings_may_close() {
    bounded(|| {
        for aborts in [false, true] {
            let keeper = Keeper::new().due(move |ws| {
                if aborts {
                    ws.abort();
                    return Ok(());
                }
                ws.close_with(CloseCode::new(4000), "idle")
            });
            let (ws, mut peer) = pair_with(giving_up_after(MOMENT), keeper);
            await_something(&mut peer);
            if !aborts {
                assert_eq!(peer.closed(), (4000, "idle".to_owned()));
                peer.close(4000, "");
                peer.end();
            }
            let closed = ws.handle().wait_closed().unwrap();
            assert!(peer.ended());
            assert_eq!((closed.initiator, closed.error.is_none()), (Initiator::Local, true), "{closed}");
        }
    });
}
