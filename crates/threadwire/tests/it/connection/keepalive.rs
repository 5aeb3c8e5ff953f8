//! Keepalive: when pings are sent, what counts as a sign of life, and when a silent peer is given up.
//!
//! That a byte counted as life is seen by the next ping: as long as nothing has come since the last one, there is no other.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use crate::common::keeping::{
    Keeper, MOMENT, await_frame, await_ping, await_something, await_verdict, giving_up_after, pinging,
    silence,
};
use crate::common::neighbour::Neighbour;
use crate::common::peer::{CLOSE, PING, PONG, Peer, TEXT, frame};
use crate::common::recorder::{Call, Log};
use crate::common::sharing::{fill, pair, pair_with, serving_handles};
use crate::common::{PATIENCE, SOON, Serving, bind, bounded, ignore, patient};
use threadwire::error::TimeoutKind;
use threadwire::frame::{Frame, Level};
use threadwire::keepalive::PingStrategy;
use threadwire::worker::{EventLoop, later};
use threadwire::{
    Client, CloseCode, Config, Connection, Error, Handle, Initiator, Keepalive, Listener, Message, Reply,
    sleep, wait_until,
};

/// A connection and its peer, both on this thread.
fn kept(config: Config) -> (Connection, Peer, Log) {
    let log = Log::new();
    let (ws, peer) = pair(config, &log);
    (ws, peer, log)
}

/// Many times as long as a silent peer has.
const LONG: Duration = Duration::from_millis(60);

// --- The verdict ---

#[test]
fn gives_up_a_silent_peer() {
    bounded(|| {
        let (ws, mut peer, log) = kept(giving_up_after(MOMENT));
        let silent_for = await_verdict(&ws.handle());
        assert!(silent_for >= 2 * MOMENT, "{silent_for:?}");
        assert_eq!(log.ends(), 1);
        let text = format!(
            "closed by us with 1006 (no close frame received) (the peer was silent for {:.1} s)",
            silent_for.as_secs_f64()
        );
        assert_eq!(ws.handle().closed().unwrap().to_string(), text);
        assert_eq!(EventLoop::current().source_count(), 0, "TCP is still there");
        // The peer was pinged first, and told why.
        assert_eq!(peer.frame(), (PING, Vec::new()));
        let (code, reason) = peer.closed();
        assert_eq!(code, 1001);
        assert_eq!(reason, format!("no sign of life for {:.1} s", silent_for.as_secs_f64()));
        assert!(peer.ended_orderly());
    });
}

#[test]
fn a_server_gives_up_a_silent_client() {
    bounded(|| {
        let log = Log::new();
        let (serving, handles) = serving_handles(giving_up_after(MOMENT), &log, ignore);
        let mut peer = serving.peer();
        silence(&handles.recv().unwrap().wait_closed().unwrap());
        assert_eq!(peer.frame(), (PING, Vec::new()));
        assert_eq!(peer.code(), 1001);
        assert!(peer.ended());
        assert_eq!(log.calls().len(), 2, "{:?}", log.calls());
    });
}

#[test]
fn gives_up_a_peer_that_does_not_read_either() {
    bounded(|| {
        let (ws, _peer, log) = kept(giving_up_after(MOMENT));
        fill(&ws);
        await_verdict(&ws.handle());
        assert_eq!(log.ends(), 1);
        assert_eq!(EventLoop::current().source_count(), 0, "it waits for what can't be written");
    });
}

#[test]
fn gives_nobody_up_who_answers() {
    bounded(|| {
        let (ws, mut peer, log) = kept(pinging());
        for _ in 0..5 {
            let payload = await_ping(&mut peer);
            peer.send(PONG, &payload);
        }
        assert!(ws.is_open());
        assert_eq!(log.calls()[..2], [Call::Open, Call::Pong(Vec::new())]);
    });
}

#[test]
fn pings_a_peer_that_does_not_answer_only_once() {
    bounded(|| {
        let (ws, mut peer, _log) = kept(pinging());
        await_ping(&mut peer);
        sleep(5 * MOMENT).unwrap();
        assert!(peer.is_silent());
        assert!(ws.is_open());
    });
}

#[test]
fn without_an_end_to_the_patience_a_peer_is_pinged_and_never_given_up() {
    bounded(|| {
        let (ws, mut peer, _log) = kept(giving_up_after(Duration::MAX));
        for _ in 0..3 {
            await_ping(&mut peer);
            peer.send(PONG, b"");
        }
        await_ping(&mut peer);
        sleep(5 * MOMENT).unwrap();
        assert!(ws.is_open());
    });
}

#[test]
fn times_of_zero_are_taken_for_a_millisecond() {
    bounded(|| {
        let keepalive = Keepalive::default().idle_timeout(Duration::ZERO).reply_timeout(Duration::ZERO);
        let (ws, _peer, _log) = kept(patient().keepalive(keepalive));
        assert!(await_verdict(&ws.handle()) >= 2 * Keepalive::SHORTEST);
    });
}

#[test]
fn without_keepalive_nobody_is_pinged() {
    bounded(|| {
        let (ws, mut peer, _log) = kept(patient());
        sleep(SOON).unwrap();
        assert!(peer.is_silent() && ws.is_open());
        assert_eq!(ws.round_trips(), None);
    });
}

// --- Alive means bytes ---

#[test]
fn half_a_frame_is_a_sign_of_life() {
    bounded(|| {
        let (ws, mut peer, log) = kept(pinging());
        // No pong will come, as it would have to wait behind the message: each ping is answered by a byte of that.
        for byte in frame(TEXT, false, b"slow") {
            await_ping(&mut peer);
            peer.bytes([byte]);
        }
        await_ping(&mut peer);
        assert!(ws.is_open());
        assert_eq!(log.calls(), [Call::Open, Call::text("slow")]);
    });
}

#[test]
fn a_peer_that_sends_and_never_pongs_lives() {
    bounded(|| {
        let (ws, mut peer, log) = kept(pinging());
        for number in 0..5 {
            await_ping(&mut peer);
            peer.send(TEXT, format!("{number}").as_bytes());
        }
        await_ping(&mut peer);
        assert!(ws.is_open());
        assert_eq!(log.calls().len(), 6, "{:?}", log.calls());
    });
}

#[test]
fn a_peer_that_goes_on_to_send_is_not_pinged() {
    bounded(|| {
        let keepalive = Keepalive::default().idle_timeout(SOON).reply_timeout(PATIENCE);
        let (ws, mut peer, _log) = kept(patient().keepalive(keepalive));
        let begun = Instant::now();
        let mut longest = Duration::ZERO;
        while begun.elapsed() < 3 * SOON {
            let sent = Instant::now();
            peer.send(TEXT, b"I'm here");
            sleep(MOMENT).unwrap();
            longest = longest.max(sent.elapsed());
        }
        // If the system has let this thread lie, a ping was due.
        assert!(peer.is_silent() || longest >= SOON);
        assert!(ws.is_open());
    });
}

#[test]
fn the_pings_of_a_peer_are_signs_of_life() {
    bounded(|| {
        for auto_pong in [true, false] {
            let (ws, mut peer, log) = kept(pinging().auto_pong(auto_pong));
            for _ in 0..3 {
                await_ping(&mut peer);
                peer.send(PING, b"and you?");
                if auto_pong {
                    assert_eq!(await_frame(&mut peer), (PONG, b"and you?".to_vec()));
                }
            }
            await_ping(&mut peer);
            assert!(ws.is_open());
            let pings = log.calls().iter().filter(|call| **call == Call::Ping(b"and you?".to_vec())).count();
            assert_eq!(pings, 3, "auto_pong: {auto_pong}");
        }
    });
}

#[test]
fn pongs_count_also_where_pings_are_not_answered_by_themselves() {
    bounded(|| {
        let (ws, mut peer, log) = kept(pinging().auto_pong(false).keep_round_trips(true));
        for round in 0..3 {
            assert_eq!(ws.round_trips().map_or(0, |trips| trips.count), round);
            let payload = await_ping(&mut peer);
            peer.send(PONG, &payload);
            log_pongs(&log, round as usize + 1);
        }
    });
}

/// Lets this thread's loop turn until so many pongs were heard.
fn log_pongs(log: &Log, count: usize) {
    let pongs = || log.calls().iter().filter(|call| matches!(call, Call::Pong(_))).count();
    wait_until(None, || pongs() >= count).unwrap();
    assert_eq!(pongs(), count);
}

#[test]
fn what_comes_while_others_hold_the_thread_counts() {
    bounded(|| {
        let (ws, mut peer, _log) = kept(giving_up_after(SOON));
        for _ in 0..3 {
            await_ping(&mut peer);
            peer.send(PONG, b"");
            // Far past the time that the peer has, and no turn of the loop: what lies unread is read before any verdict.
            thread::sleep(SOON + 2 * MOMENT);
        }
        await_ping(&mut peer);
        assert!(ws.is_open());
    });
}

#[test]
fn what_comes_while_a_timer_holds_the_thread_counts() {
    bounded(|| {
        let (ws, mut peer, _log) = kept(giving_up_after(SOON));
        await_ping(&mut peer);
        let held = Rc::new(Cell::new(None));
        let holds = Rc::clone(&held);
        later(Duration::ZERO, move || {
            peer.send(PONG, b"");
            thread::sleep(2 * SOON);
            holds.set(Some(peer));
        });
        let mut peer = loop {
            sleep(Duration::ZERO).unwrap();
            if let Some(peer) = held.take() {
                break peer;
            }
        };
        await_ping(&mut peer);
        assert!(ws.is_open());
    });
}

// --- Periodic pings ---

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

// --- Our own silence is not the peer's ---

#[test]
fn a_callback_that_waits_is_not_held_against_the_peer() {
    bounded(|| {
        let count = Rc::new(Cell::new(0));
        let counts = Rc::clone(&count);
        let keeper = Keeper::new().message(move |_, _| {
            sleep(LONG)?;
            counts.set(counts.get() + 1);
            Ok(())
        });
        let (ws, mut peer) = pair_with(giving_up_after(2 * MOMENT), keeper);
        peer.send(TEXT, b"wait");
        wait_until(None, || count.get() == 1).unwrap();
        assert!(ws.is_open(), "it was given up while nobody listened to it");
        assert!(peer.is_silent(), "it was pinged while nobody listened to it");
        // The peer really is silent: from now on the full time counts.
        let silent_for = await_verdict(&ws.handle());
        assert!(silent_for >= 3 * MOMENT, "{silent_for:?}");
        assert!(silent_for < PATIENCE);
        assert_eq!(peer.frame().0, PING);
        assert_eq!(peer.code(), 1001);
    });
}

#[test]
fn a_pong_that_comes_while_a_callback_waits_counts() {
    bounded(|| {
        let peer = Rc::new(RefCell::new(None::<Peer>));
        let pongs = Rc::clone(&peer);
        let pings = Rc::new(Cell::new(0));
        let counts = Rc::clone(&pings);
        let keeper = Keeper::new().due(move |ws| {
            ws.probe()?;
            ws.flush();
            counts.set(counts.get() + 1);
            if counts.get() < 3 {
                let pongs = Rc::clone(&pongs);
                later(MOMENT, move || pongs.borrow_mut().as_mut().unwrap().send(PONG, b""));
                sleep(LONG)?;
            }
            Ok(())
        });
        let (ws, theirs) = pair_with(giving_up_after(2 * MOMENT), keeper);
        *peer.borrow_mut() = Some(theirs);
        wait_until(None, || pings.get() == 3 || !ws.is_open()).unwrap();
        assert!(ws.is_open(), "an answer that had come was not seen");
        await_verdict(&ws.handle());
        assert_eq!(pings.get(), 3);
    });
}

#[test]
fn a_pong_that_comes_while_a_callback_waits_and_then_holds_the_thread_counts() {
    bounded(|| {
        let peer = Rc::new(RefCell::new(None::<Peer>));
        let pongs = Rc::clone(&peer);
        let pings = Rc::new(Cell::new(0));
        let counts = Rc::clone(&pings);
        let keeper = Keeper::new().due(move |ws| {
            ws.probe()?;
            ws.flush();
            counts.set(counts.get() + 1);
            if counts.get() == 1 {
                pongs.borrow_mut().as_mut().unwrap().send(PONG, b"");
                // The loop sees that something has come, but it can't be read; then the peer's time passes.
                sleep(MOMENT)?;
                thread::sleep(2 * SOON);
            }
            Ok(())
        });
        let (ws, theirs) = pair_with(giving_up_after(SOON), keeper);
        *peer.borrow_mut() = Some(theirs);
        wait_until(None, || pings.get() == 2 || !ws.is_open()).unwrap();
        assert!(ws.is_open(), "an answer that had come was not seen");
    });
}

#[test]
fn a_pause_is_not_held_against_the_peer() {
    bounded(|| {
        let (ws, mut peer, log) = kept(giving_up_after(2 * MOMENT));
        ws.pause_reading();
        sleep(LONG).unwrap();
        assert!(ws.is_open() && peer.is_silent());
        peer.send(TEXT, b"unread");
        sleep(LONG).unwrap();
        assert!(ws.is_open() && peer.is_silent());
        assert_eq!(log.calls(), [Call::Open]);
        ws.resume_reading();
        await_verdict(&ws.handle());
        assert_eq!(log.calls()[..2], [Call::Open, Call::text("unread")]);
        assert_eq!(peer.frame().0, PING);
        assert_eq!(peer.code(), 1001);
    });
}

#[test]
fn a_pause_after_a_ping_is_not_held_against_the_peer() {
    bounded(|| {
        let (ws, mut peer, _log) = kept(giving_up_after(SOON));
        await_ping(&mut peer);
        ws.pause_reading();
        peer.send(PONG, b"");
        sleep(2 * SOON).unwrap();
        assert!(ws.is_open(), "an answer that was not read does not count");
        ws.resume_reading();
        // The pong is read before anything else, and so there is another ping.
        await_ping(&mut peer);
        await_verdict(&ws.handle());
    });
}

#[test]
fn a_pause_that_a_callback_begins_holds_on_after_it() {
    bounded(|| {
        let keeper = Keeper::new().message(|ws, _| {
            ws.pause_reading();
            sleep(2 * MOMENT)?;
            Ok(())
        });
        let (ws, mut peer) = pair_with(giving_up_after(2 * MOMENT), keeper);
        peer.send(TEXT, b"pause");
        wait_until(None, || ws.is_reading_paused()).unwrap();
        sleep(2 * LONG).unwrap();
        assert!(ws.is_open() && peer.is_silent());
        ws.resume_reading();
        await_verdict(&ws.handle());
    });
}

#[test]
fn a_pause_that_a_callback_ends_is_over_after_it() {
    bounded(|| {
        let keeper = Keeper::new().message(|ws, _| {
            ws.pause_reading();
            sleep(LONG)?;
            ws.resume_reading();
            Ok(())
        });
        let (ws, mut peer) = pair_with(giving_up_after(2 * MOMENT), keeper);
        peer.send(TEXT, b"pause");
        await_verdict(&ws.handle());
    });
}

/// A server that answers with more than it may hold, and so reads no more until that is taken.
fn throttling(config: Config, log: &Log) -> (Serving, Peer, Handle) {
    const LENGTH: usize = 16 << 20;
    let config = config.max_buffered(64 << 10);
    let (serving, handles) = serving_handles(config, log, |ws, call| match call {
        Call::Text(_) => ws.send(&vec![0; LENGTH][..]),
        _ => Ok(()),
    });
    let mut peer = Peer::connect_narrow(serving.addr).upgrade("/");
    let handle = handles.recv().unwrap();
    peer.send(TEXT, b"much");
    log.wait_for(&Call::text("much"));
    (serving, peer, handle)
}

#[test]
fn a_throttled_peer_that_takes_nothing_is_given_up() {
    bounded(|| {
        let (_serving, _peer, handle) = throttling(giving_up_after(MOMENT), &Log::new());
        silence(&handle.wait_closed().unwrap());
    });
}

#[test]
fn a_throttled_peer_that_takes_what_it_is_sent_is_alive() {
    bounded(|| {
        let (_serving, mut peer, handle) = throttling(giving_up_after(LONG), &Log::new());
        let begun = Instant::now();
        while begun.elapsed() < 3 * LONG {
            peer.skip(64 << 10);
            sleep(MOMENT).unwrap();
        }
        assert!(handle.is_open() && handle.buffered() > 0, "{handle:?}");
    });
}

#[test]
fn what_the_callbacks_of_others_wait_for_holds_nothing_up() {
    bounded(|| {
        let (done, finished) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(false)));
        let (ends, finishes) = (Rc::clone(&done), Rc::clone(&finished));
        let waits = Keeper::new().message(move |_, _| {
            wait_until(None, || ends.get())?;
            finishes.set(true);
            Ok(())
        });
        let (_busy, mut busy_peer) = pair_with(patient(), waits);
        // While the other one's callback waits, this one is pinged and given up; that ends the wait.
        let log = Log::new();
        let (ws, mut peer) = pair_with(
            giving_up_after(MOMENT),
            log.listener(move |_, call| {
                done.set(matches!(call, Call::Closed(_)));
                Ok(())
            }),
        );
        busy_peer.send(TEXT, b"wait");
        await_verdict(&ws.handle());
        wait_until(None, || finished.get()).unwrap();
        assert_eq!(peer.frame().0, PING);
    });
}

// --- The end ---

#[test]
fn pings_stop_with_the_close() {
    bounded(|| {
        let (ws, mut peer, _log) = kept(giving_up_after(MOMENT));
        ws.close().unwrap();
        sleep(LONG).unwrap();
        assert_eq!(peer.code(), 1000);
        assert!(peer.is_silent(), "something came behind the close frame");
        peer.close(1000, "");
        peer.end();
        assert!(ws.handle().wait_closed().unwrap().clean);
    });
}

#[test]
fn a_peer_that_does_not_answer_a_close_frame_is_no_silent_one() {
    bounded(|| {
        let close_timeout = 6 * MOMENT;
        let (ws, _peer, _log) = kept(giving_up_after(MOMENT).close_timeout(close_timeout));
        ws.close().unwrap();
        let closed = ws.handle().wait_closed().unwrap();
        assert!(matches!(closed.error, Some(Error::Timeout(TimeoutKind::Close))), "{closed}");
    });
}

#[test]
fn connections_that_have_ended_leave_no_timer_behind() {
    bounded(|| {
        let mut connections = Vec::new();
        for _ in 0..8 {
            let (ws, mut peer, _log) = kept(pinging());
            peer.close(1000, "");
            peer.end();
            ws.wait_closed().unwrap();
            connections.push(ws);
            let (ws, _peer, _log) = kept(giving_up_after(MOMENT));
            await_verdict(&ws.handle());
            connections.push(ws);
            let (ws, _peer, _log) = kept(pinging());
            ws.abort();
            ws.wait_closed().unwrap();
            connections.push(ws);
        }
        // Let what may still be under way come.
        EventLoop::current().update().unwrap();
        let mut looks = 0;
        let until = Instant::now() + 5 * MOMENT;
        let look = || {
            looks += 1;
            false
        };
        EventLoop::current().wait(Some(until), look).unwrap();
        // Once before and once after it has slept, all the time, and once as the last end may have asked for: timers would
        // have woken it more often.
        assert!(looks <= 3, "{looks}");
        drop(connections);
    });
}

#[test]
fn a_listener_is_let_go_of_with_its_connection() {
    bounded(|| {
        let value = Rc::new(());
        let kept = Rc::clone(&value);
        let keeper = Keeper::new().message(move |_, _| {
            let _kept = &kept;
            Ok(())
        });
        let (ws, _peer) = pair_with(giving_up_after(MOMENT), keeper);
        let handle = ws.handle();
        drop(ws);
        await_verdict(&handle);
        assert_eq!(Rc::strong_count(&value), 1);
    });
}

#[test]
fn others_notice_nothing_of_a_verdict() {
    bounded(|| {
        let neighbour = Neighbour::start();
        for _ in 0..10 {
            let (ws, _peer, _log) = kept(giving_up_after(MOMENT));
            await_verdict(&ws.handle());
        }
        neighbour.noticed_nothing();
    });
}

// --- Many ---

#[test]
fn a_server_keeps_two_hundred_connections_alive() {
    bounded(|| {
        const COUNT: usize = 200;
        let log = Log::new();
        let serving = Serving::recording(pinging(), &log, ignore);
        let ours = Log::new();
        let client = Client::new(&serving.url("/")).unwrap().config(patient());
        let pings: Vec<_> = (0..COUNT).map(|_| Rc::new(Cell::new(0))).collect();
        let connections: Vec<_> = pings
            .iter()
            .map(|count| {
                let count = Rc::clone(count);
                let listener = ours.listener(move |_, call| {
                    if matches!(call, Call::Ping(_)) {
                        count.set(count.get() + 1);
                    }
                    Ok(())
                });
                client.connect(listener).unwrap()
            })
            .collect();
        // A second ping says that the first was answered, a third one that the second was.
        wait_until(None, || pings.iter().all(|count| count.get() >= 3)).unwrap();
        assert!(connections.iter().all(Connection::is_open));
        assert_eq!((log.ends(), ours.ends()), (0, 0));
    });
}

#[test]
fn a_server_gives_up_exactly_those_that_are_silent() {
    bounded(|| {
        const COUNT: usize = 100;
        let log = Log::new();
        // The others need no patience with the speed of this machine: they are not pinged.
        let served = log.clone();
        let slow = Keepalive::default().idle_timeout(PATIENCE);
        let theirs = Serving::recording(patient().keepalive(slow), &Log::new(), ignore);
        let serving = Serving::with(bind().config(giving_up_after(2 * MOMENT)), move |_| {
            Reply::with(served.listener(ignore))
        });
        let bystander = theirs.bystander();
        let mut peers: Vec<_> = (0..COUNT).map(|_| serving.peer()).collect();
        log.wait(|calls| calls.iter().filter(|call| matches!(call, Call::Closed(_))).count() == COUNT);
        for peer in &mut peers {
            assert_eq!(peer.frame().0, PING);
            assert_eq!(peer.code(), 1001);
            assert!(peer.ended());
        }
        assert_eq!(log.ends(), COUNT);
        bystander.noticed_nothing();
    });
}

// --- Whose fault it was ---

/// A connection that reads again a second later, and one whose thread is held for that second: both are left meanwhile.
#[test]
fn tells_that_we_had_not_read_before_the_peer_left() {
    const SECOND: Duration = Duration::from_secs(1);
    let leave = |peer: &mut Peer| {
        peer.close(1001, "no sign of life");
        peer.end();
    };
    let held = thread::spawn(move || {
        bounded(move || {
            let (ws, mut peer, _log) = kept(patient());
            EventLoop::current().set_stall_limit(Some(SECOND / 2));
            leave(&mut peer);
            thread::sleep(SECOND);
            let closed = ws.handle().wait_closed().unwrap();
            assert!(closed.unread_for.is_some_and(|time| time >= SECOND), "{closed}");
        });
    });
    bounded(move || {
        let config = || patient().keepalive(Keepalive::default());
        let (slow, mut slow_peer, _log) = kept(config());
        let (quick, mut quick_peer, _log) = kept(config());
        let (ours, mut our_peer, _log) = kept(config());
        let our_handle = ours.handle();
        slow.pause_reading();
        ours.pause_reading();
        quick.pause_reading();
        sleep(MOMENT).unwrap();
        quick.resume_reading();
        leave(&mut slow_peer);
        leave(&mut quick_peer);
        assert_eq!(quick.handle().wait_closed().unwrap().unread_for, None, "that was short");
        sleep(SECOND).unwrap();
        slow.resume_reading();
        ours.close().unwrap();
        leave(&mut our_peer);
        let closed = slow.handle().wait_closed().unwrap();
        let unread_for = closed.unread_for.expect("it was for a second");
        assert!(unread_for >= SECOND, "{unread_for:?}");
        let text = format!(
            "closed by the peer with 1001 (going away): no sign of life; we had not read for {:.1} s",
            unread_for.as_secs_f64()
        );
        assert_eq!(closed.to_string(), text);
        let closed = our_handle.wait_closed().unwrap();
        assert_eq!(
            (closed.initiator, closed.unread_for),
            (Initiator::Local, None),
            "we have closed by ourselves"
        );
    });
    held.join().unwrap();
}
