//! Graceful shutdown: close codes, grace, and the report of who did not answer.

use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::common::peer::{BINARY, Peer, TEXT, request};
use crate::common::recorder::{Call, End, Log};
use crate::common::{PATIENCE, SOON, Serving, bind, bounded, echo, ignore, patient};
use threadwire::error::SendError;
use threadwire::server::{CloseProblem, Shutdown, ShutdownReport, Spread, Stopper};
use threadwire::worker::{EventLoop, Worker};
use threadwire::{
    CloseCode, Connection, Error, Initiator, Message, Reply, Request, Running, Server, Stopped, connect,
    wait_forever,
};

/// So long that a test which needs it to pass fails.
const NEVER: Duration = Duration::from_secs(3600);

fn within(timeout: Duration) -> Shutdown {
    Shutdown::default().timeout(timeout)
}

/// A peer that answers the close frame, which must be the next it gets, on a thread of its own.
fn answering(mut peer: Peer, code: u16, reason: &'static str) -> JoinHandle<()> {
    thread::spawn(move || {
        assert_eq!(peer.closed(), (code, reason.to_owned()));
        peer.close(code, reason);
        assert!(peer.ended_orderly());
    })
}

fn all(threads: Vec<JoinHandle<()>>) {
    for thread in threads {
        thread.join().unwrap();
    }
}

/// A connection that gets its close frame next, and does not answer.
fn silent(mut peer: Peer, code: u16) -> Peer {
    assert_eq!(peer.code(), code);
    peer
}

/// Waits for something that happens on another thread, and about which that says nothing.
fn until(mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE);
        thread::yield_now();
    }
}

/// How each stands, in the order in which the server met them.
fn standings(report: &ShutdownReport, met: &[SocketAddr]) -> Vec<Option<CloseProblem>> {
    let of = |addr| report.unclean.iter().find(|peer| peer.peer == Some(addr)).map(|peer| peer.problem);
    met.iter().map(|addr| of(*addr)).collect()
}

fn shut_down(stopper: &Stopper, shutdown: Shutdown) -> JoinHandle<Result<ShutdownReport, Error>> {
    let stopper = stopper.clone();
    thread::spawn(move || stopper.shutdown(shutdown))
}

/// A listener that does something as soon as it hears anything, and a server of such, which writes down the addresses of its
/// peers as they come.
fn meeting<F>(server: Server, react: F) -> (Running, Arc<Mutex<Vec<SocketAddr>>>)
where
    F: Fn(&Connection, &str) -> Result<(), Error> + Clone + Send + Sync + 'static,
{
    let met = Arc::new(Mutex::new(Vec::new()));
    let meets = Arc::clone(&met);
    let accept = move |request: &Request| {
        meets.lock().unwrap().extend(request.peer_addr());
        let react = react.clone();
        Reply::with(move |ws: &Connection, message: Message<'_>| react(ws, &message.to_string()))
    };
    (server.serve(accept).unwrap(), met)
}

#[test]
fn every_connection_of_every_worker_is_closed_with_1001_and_counted() {
    for spread in [Spread::RoundRobin, Spread::ReusePort] {
        bounded(move || {
            let log = Log::new();
            let theirs = log.clone();
            let serving = Serving::with(bind().workers(3).spread(spread).config(patient()), move |_| {
                Reply::with(theirs.listener(ignore))
            });
            let peers: Vec<Peer> = (0..12).map(|_| serving.peer()).collect();
            let addr = serving.addr;
            let running = serving.into_running();
            assert_eq!(running.connections(), 12);
            let peers = peers.into_iter().map(|peer| answering(peer, 1001, "")).collect();
            let report = running.shutdown(within(NEVER)).unwrap();
            assert_eq!((report.connections, report.clean, report.refused), (12, 12, 0));
            assert!(report.is_clean());
            assert_eq!(report.to_string(), "12 connections, all closed cleanly");
            assert_eq!(running.connections(), 0);
            assert!(TcpStream::connect(addr).is_err(), "nobody listens there any more");
            running.join().unwrap();
            all(peers);
            assert_eq!(log.ends(), 12);
            let end = Call::Closed(End::clean(Initiator::Local, 1001, ""));
            assert!(log.calls().iter().all(|call| *call == Call::Open || *call == end), "{:?}", log.calls());
        });
    }
}

#[test]
fn the_close_frame_has_the_code_and_reason_of_choice_and_comes_behind_what_was_sent() {
    bounded(|| {
        let (running, _) = meeting(bind().workers(2).config(patient()), |ws, _| {
            (0..3).try_for_each(|number| ws.send(&*number.to_string()))
        });
        let mut peer = Peer::open(running.local_addr().unwrap(), "/");
        // From another thread: it is with the connection's worker, and not on the wire yet.
        peer.send(TEXT, b"go");
        assert_eq!(peer.text(), "0");
        let peer = thread::spawn(move || {
            assert_eq!((peer.text(), peer.text()), ("1".to_owned(), "2".to_owned()));
            answering(peer, 1012, "back soon").join().unwrap();
        });
        let code = CloseCode::SERVICE_RESTART;
        let restart = within(NEVER).code(code).reason("back soon".to_owned());
        assert_eq!(running.shutdown(restart).unwrap().clean, 1);
        running.join().unwrap();
        peer.join().unwrap();
    });
}

#[test]
fn what_a_handle_has_sent_before_leaves_before_the_close_frame() {
    bounded(|| {
        let handles = Arc::new(Mutex::new(Vec::new()));
        let keeps = Arc::clone(&handles);
        let log = Log::new();
        let theirs = log.clone();
        let serving = Serving::with(bind().config(patient()), move |_| {
            let keeps = Arc::clone(&keeps);
            Reply::with(theirs.listener(move |ws, call| {
                if *call == Call::Open {
                    keeps.lock().unwrap().push(ws.handle());
                }
                Ok(())
            }))
        });
        let mut peer = serving.peer();
        let handle = handles.lock().unwrap().pop().unwrap();
        let reading = thread::spawn(move || {
            for number in 0..100 {
                assert_eq!(peer.text(), number.to_string());
            }
            answering(peer, 1001, "").join().unwrap();
        });
        for number in 0..100 {
            handle.send(&*number.to_string()).unwrap();
        }
        let running = serving.into_running();
        assert!(running.shutdown(within(NEVER)).unwrap().is_clean());
        assert!(matches!(handle.send("too late"), Err(Error::Closed)));
        reading.join().unwrap();
        running.join().unwrap();
    });
}

#[test]
fn the_report_says_of_each_how_it_stood() {
    bounded(|| {
        let log = Log::new();
        let notes = log.clone();
        let (running, met) = meeting(bind().workers(3).config(patient()), move |ws, text| match text {
            "flood" => ws.send(&vec![0; 8 << 20]),
            "wait" => {
                notes.note("waits");
                let waited = wait_forever();
                notes.note("was stopped");
                Ok(waited?)
            }
            _ => ws.send(text),
        });
        let addr = running.local_addr().unwrap();
        // In this order: quiet, not reading, waiting, leaving, breaking a rule, answering.
        let quiet = Peer::open(addr, "/");
        let mut narrow = Peer::connect_narrow(addr).upgrade("/");
        narrow.send(TEXT, b"flood");
        assert_eq!(narrow.one_read()[0], BINARY, "the flood has begun");
        let mut waiting = Peer::open(addr, "/");
        waiting.send(TEXT, b"wait");
        log.wait_for(&Call::Note("waits".to_owned()));
        let mut leaving = Peer::open(addr, "/");
        let mut breaking = Peer::open(addr, "/");
        let good: Vec<JoinHandle<()>> = (0..6).map(|_| answering(Peer::open(addr, "/"), 1001, "")).collect();
        let others = thread::spawn(move || {
            assert_eq!(leaving.code(), 1001);
            leaving.reset();
            assert_eq!(breaking.code(), 1001);
            breaking.bytes(crate::common::peer::frame(TEXT, false, b"not masked"));
            assert!(breaking.ended());
        });

        let shutting = shut_down(&running.stopper(), within(NEVER));
        all(good);
        others.join().unwrap();
        until(|| running.connections() == 3);
        let start = Instant::now();
        let report = running.shutdown(within(SOON)).unwrap();
        assert!(start.elapsed() >= SOON, "they had their time");
        assert!(start.elapsed() < PATIENCE / 2);
        assert_eq!(shutting.join().unwrap().unwrap().to_string(), report.to_string());
        assert_eq!((report.connections, report.clean, report.refused), (11, 6, 0));
        assert_eq!(report.unclean.len(), 5);
        let met = met.lock().unwrap().clone();
        let stood = standings(&report, &met);
        assert_eq!(stood[0], Some(CloseProblem::Silent));
        assert!(
            matches!(stood[1], Some(CloseProblem::Unwritten { bytes }) if bytes > 1 << 20),
            "{:?}",
            stood[1]
        );
        assert_eq!(stood[2], Some(CloseProblem::InCallback));
        assert_eq!(stood[3..5], [Some(CloseProblem::Broken), Some(CloseProblem::Broken)]);
        assert!(stood[5..].iter().all(Option::is_none));
        assert!(report.stuck.is_empty(), "{:?}", report.stuck);
        assert_eq!(report.to_string(), "11 connections, 6 closed cleanly and 5 did not");
        let line = report.unclean.iter().find(|peer| peer.peer == Some(met[0])).unwrap().to_string();
        assert_eq!(line, format!("{} did not answer", met[0]));
        // The wait went on until the time had passed, and then ended with the worker.
        running.join().unwrap();
        assert_eq!(log.calls(), ["waits", "was stopped"].map(|text| Call::Note(text.to_owned())));
        assert!(silent(quiet, 1001).ended());
    });
}

#[test]
fn a_late_answer_counts_within_the_time_of_the_shutdown_also_past_the_close_timeout() {
    bounded(|| {
        let config = patient().close_timeout(SOON);
        let serving = Serving::with(bind().config(config), |_| Reply::with(echo));
        let mut peer = serving.peer();
        let late = thread::spawn(move || {
            assert_eq!(peer.code(), 1001);
            // The time of the configuration has to pass.
            thread::sleep(2 * SOON);
            peer.close(1001, "");
            assert!(peer.ended_orderly());
        });
        let running = serving.into_running();
        assert!(running.shutdown(within(NEVER)).unwrap().is_clean());
        running.join().unwrap();
        late.join().unwrap();
    });
}

#[test]
fn those_that_close_already_are_waited_for_too() {
    bounded(|| {
        let (running, _) =
            meeting(bind().config(patient()), |ws, _| ws.close_with(CloseCode::new(4000), "bye"));
        let mut peer = Peer::open(running.local_addr().unwrap(), "/");
        peer.send(TEXT, b"go");
        assert_eq!(peer.code(), 4000);
        let shutting = shut_down(&running.stopper(), within(NEVER));
        peer.close(4000, "");
        assert!(peer.ended_orderly(), "there is no second close frame");
        let report = shutting.join().unwrap().unwrap();
        // The connection may have ended before the shutdown began.
        assert_eq!(report.connections, report.clean);
        running.join().unwrap();
    });
}

#[test]
fn without_connections_it_returns_at_once() {
    bounded(|| {
        let serving = Serving::with(bind().workers(3).config(patient()), |_| Reply::with(echo));
        let running = serving.into_running();
        let report = running.shutdown(within(NEVER)).unwrap();
        assert_eq!((report.connections, report.refused), (0, 0));
        assert!(report.is_clean());
        running.join().unwrap();
    });
}

#[test]
fn a_code_that_must_not_be_sent_is_refused_and_the_server_goes_on() {
    bounded(|| {
        let serving = Serving::with(bind().config(patient()), |_| Reply::with(echo));
        let bystander = serving.bystander();
        let running = serving.into_running();
        let abnormal = within(NEVER).code(CloseCode::ABNORMAL);
        assert!(matches!(running.shutdown(abnormal), Err(Error::Send(SendError::CloseCodeInvalid(1006)))));
        bystander.noticed_nothing();
        running.stop();
        running.join().unwrap();
    });
}

/// A server with a callback that shuts it down when the test says so, and passes on what comes of it. Its worker stands still
/// until then.
fn controlled(server: Server, shutdown: Shutdown) -> (Running, Sender<()>, Receiver<ShutdownReport>) {
    let (go, goes) = mpsc::channel::<()>();
    let (tell, told) = mpsc::channel();
    let control = Arc::new(Mutex::new(Some((goes, tell))));
    let stopper = server.stopper();
    let running = server.serve(move |_: &Request| {
        let (control, stopper, shutdown) = (Arc::clone(&control), stopper.clone(), shutdown.clone());
        Reply::with(move |ws: &Connection, message: Message<'_>| {
            if message.as_text() != Some("shut down") {
                return ws.send(message);
            }
            let (goes, tell) = control.lock().unwrap().take().unwrap();
            ws.send("when you are ready")?;
            ws.flush();
            goes.recv().unwrap();
            let report = stopper.shutdown(shutdown.clone())?;
            ws.send(&*report.to_string())?;
            tell.send(report).unwrap();
            Ok(())
        })
    });
    (running.unwrap(), go, told)
}

#[test]
fn in_a_callback_it_waits_for_all_but_the_callback_which_can_say_what_came_of_it() {
    for workers in [1, 3] {
        bounded(move || {
            let code = CloseCode::new(4001);
            let shutdown = within(NEVER).code(code).reason("by order".to_owned());
            let (running, go, report) = controlled(bind().workers(workers).config(patient()), shutdown);
            let addr = running.local_addr().unwrap();
            let mut admin = Peer::open(addr, "/");
            let peers = (0..5).map(|_| answering(Peer::open(addr, "/"), 4001, "by order")).collect();
            admin.send(TEXT, b"shut down");
            assert_eq!(admin.text(), "when you are ready");
            go.send(()).unwrap();
            assert_eq!(admin.text(), "5 connections, all closed cleanly");
            answering(admin, 4001, "by order").join().unwrap();
            assert!(report.recv().unwrap().is_clean());
            running.join().unwrap();
            all(peers);
        });
    }
}

#[test]
fn what_waits_to_be_accepted_and_half_handshakes_are_answered_with_503() {
    bounded(|| {
        let shutdown = within(NEVER).retry_after(Some(Duration::from_millis(1001)));
        let (running, go, report) = controlled(bind().config(patient()), shutdown);
        let addr = running.local_addr().unwrap();
        let mut half = Peer::connect(addr);
        half.bytes("GET / HTTP/1.1\r\nHost");
        let mut mute = Peer::connect(addr);
        // The admin's connection is accepted behind these two, and read after them.
        let mut admin = Peer::open(addr, "/");
        admin.send(TEXT, b"shut down");
        assert_eq!(admin.text(), "when you are ready");
        // The worker stands still: these wait to be accepted.
        let mut asking = Peer::connect(addr);
        asking.bytes(request("/"));
        let mut late = Peer::connect(addr);
        go.send(()).unwrap();
        for peer in [&mut half, &mut mute, &mut asking, &mut late] {
            let head = peer.head();
            assert!(head.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{head}");
            assert!(head.contains("\r\nConnection: close\r\n"), "{head}");
            assert!(head.contains("\r\nRetry-After: 2\r\n"), "{head}");
            assert!(peer.ended_orderly());
        }
        // Bytes still on their way do not reset the connection.
        half.bytes(": 127.0.0.1\r\n\r\n");
        drop((half, mute, asking, late));
        let report = report.recv().unwrap();
        assert_eq!((report.connections, report.refused), (0, 4));
        assert_eq!(report.to_string(), "0 connections, all closed cleanly; 4 handshakes were refused");
        assert_eq!(admin.text(), report.to_string());
        answering(admin, 1001, "").join().unwrap();
        running.join().unwrap();
        assert!(TcpStream::connect(addr).is_err(), "nobody listens there any more");
    });
}

#[test]
fn a_refused_peer_that_does_not_leave_and_a_hook_that_does_not_answer_have_only_the_time_of_the_shutdown() {
    bounded(|| {
        let log = Log::new();
        let notes = log.clone();
        let running = bind()
            .workers(2)
            .config(patient())
            .serve(move |_: &Request| {
                notes.note("asked");
                let _: Result<(), Stopped> = wait_forever();
                notes.note("answers");
                Reply::with(echo)
            })
            .unwrap();
        let mut asking = Peer::connect(running.local_addr().unwrap());
        asking.bytes(request("/"));
        log.wait_for(&Call::Note("asked".to_owned()));
        let mut half = Peer::connect(running.local_addr().unwrap());
        half.bytes("GET / HTTP/1.1\r\n");
        let report = running.shutdown(within(SOON)).unwrap();
        assert_eq!((report.connections, report.refused, report.stuck.len()), (0, 1, 0));
        running.join().unwrap();
        assert!(half.head().starts_with("HTTP/1.1 503 "));
        assert!(half.ended());
        assert!(asking.ended());
        log.wait_for(&Call::Note("answers".to_owned()));
    });
}

#[test]
fn a_request_that_was_just_sent_is_upgraded_and_closed_or_refused() {
    bounded(|| {
        let serving = Serving::with(bind().workers(2).config(patient()), |_| Reply::with(echo));
        let peers: Vec<JoinHandle<()>> = (0..20)
            .map(|_| {
                let mut peer = Peer::connect(serving.addr);
                peer.bytes(request("/"));
                thread::spawn(move || {
                    let head = peer.head();
                    if head.starts_with("HTTP/1.1 503 ") {
                        assert!(peer.ended_orderly());
                    } else {
                        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
                        answering(peer, 1001, "").join().unwrap();
                    }
                })
            })
            .collect();
        let running = serving.into_running();
        let report = running.shutdown(within(NEVER)).unwrap();
        assert_eq!((report.clean + report.refused, report.is_clean()), (20, true));
        running.join().unwrap();
        all(peers);
    });
}

#[test]
fn those_who_come_later_are_answered_with_503_if_it_keeps_listening() {
    bounded(|| {
        let serving = Serving::with(bind().workers(2).config(patient()), |_| Reply::with(echo));
        let addr = serving.addr;
        let last = serving.peer();
        let running = serving.into_running();
        let shutdown = within(NEVER).keep_listening(true);
        let shutting = shut_down(&running.stopper(), shutdown);
        let mut last = silent(last, 1001);
        for _ in 0..5 {
            let mut peer = Peer::connect(addr);
            peer.bytes(request("/"));
            assert!(peer.head().starts_with("HTTP/1.1 503 "));
            assert!(peer.ended_orderly());
        }
        last.close(1001, "");
        assert!(last.ended_orderly());
        let report = shutting.join().unwrap().unwrap();
        assert_eq!((report.connections, report.clean, report.refused), (1, 1, 5));
        running.join().unwrap();
        assert!(TcpStream::connect(addr).is_err(), "nobody listens there any more");
    });
}

#[test]
fn a_worker_whose_thread_is_blocked_is_named_and_the_others_shut_down() {
    bounded(|| {
        let log = Log::new();
        let notes = log.clone();
        let (release, released) = mpsc::channel::<()>();
        let released = Mutex::new(released);
        let block = Arc::new(move || {
            notes.note("blocked");
            released.lock().unwrap().recv().unwrap();
        });
        let (running, _) = meeting(bind().workers(2).config(patient()), move |ws, text| {
            if text == "block" {
                block();
            }
            ws.send(text)
        });
        let addr = running.local_addr().unwrap();
        // Connections are spread in turn: each has a worker to itself.
        let mut blocked = Peer::open(addr, "/");
        let other = answering(Peer::open(addr, "/"), 1001, "");
        blocked.send(TEXT, b"block");
        log.wait_for(&Call::Note("blocked".to_owned()));
        let shutting = shut_down(&running.stopper(), within(NEVER));
        other.join().unwrap();
        let report = running.shutdown(within(SOON)).unwrap();
        assert_eq!((report.connections, report.clean, report.unclean.len()), (2, 1, 0));
        let [stuck] = &report.stuck[..] else { panic!("{report:?}") };
        assert!(stuck.name.starts_with("threadwire "), "{}", stuck.name);
        assert_eq!(stuck.connections, 1);
        assert!(!report.is_clean());
        assert_eq!(report.to_string(), "2 connections, 1 closed cleanly and 1 did not");
        release.send(()).unwrap();
        running.join().unwrap();
        assert_eq!(blocked.text(), "block", "what the callback sent leaves");
        assert_eq!(blocked.code(), 1001);
        assert!(blocked.ended());
        // The first call had time, and so it was told.
        let report = shutting.join().unwrap().unwrap();
        assert_eq!((report.connections, report.clean, report.stuck.len()), (2, 1, 0));
    });
}

#[test]
fn a_second_shutdown_waits_for_the_same_and_the_earlier_deadline_holds() {
    bounded(|| {
        let (running, met) = meeting(bind().workers(3).config(patient()), |_, _| Ok(()));
        let addr = running.local_addr().unwrap();
        let quiet = Peer::open(addr, "/");
        let stopper = running.stopper();
        let first = shut_down(&stopper, within(NEVER).code(CloseCode::new(4002)));
        let mut quiet = silent(quiet, 4002);
        let third = shut_down(&stopper, within(NEVER));
        let second = running.shutdown(within(SOON)).unwrap();
        assert!(quiet.ended());
        let met = met.lock().unwrap().clone();
        for report in [second, first.join().unwrap().unwrap(), third.join().unwrap().unwrap()] {
            assert_eq!((report.connections, report.clean), (1, 0));
            assert_eq!(standings(&report, &met), [Some(CloseProblem::Silent)]);
        }
        // And one that comes when all is over.
        assert_eq!(running.shutdown(within(NEVER)).unwrap().connections, 1);
        running.join().unwrap();
        assert_eq!(stopper.shutdown(within(NEVER)).unwrap().connections, 1);
    });
}

#[test]
fn two_callbacks_that_shut_down_at_once_do_not_wait_for_each_other() {
    bounded(|| {
        let log = Log::new();
        let notes = log.clone();
        let server = bind().workers(2).config(patient());
        let stopper = server.stopper();
        let meet = Arc::new(std::sync::Barrier::new(2));
        let (running, _) = meeting(server, move |_, _| {
            meet.wait();
            let report = stopper.shutdown(within(NEVER))?;
            notes.note(&report.to_string());
            Ok(())
        });
        let mut peers: Vec<Peer> = (0..2).map(|_| Peer::open(running.local_addr().unwrap(), "/")).collect();
        for peer in &mut peers {
            peer.send(TEXT, b"go");
        }
        let peers = peers.into_iter().map(|peer| answering(peer, 1001, "")).collect();
        running.join().unwrap();
        all(peers);
        let said = Call::Note("0 connections, all closed cleanly".to_owned());
        assert_eq!(log.calls(), [said.clone(), said]);
    });
}

#[test]
fn a_stop_cuts_it_short() {
    bounded(|| {
        let config = patient().close_timeout(SOON);
        let (running, met) = meeting(bind().workers(2).config(config), |_, _| Ok(()));
        let quiet = Peer::open(running.local_addr().unwrap(), "/");
        let good = answering(Peer::open(running.local_addr().unwrap(), "/"), 1001, "");
        let shutting = shut_down(&running.stopper(), within(NEVER));
        let mut quiet = silent(quiet, 1001);
        good.join().unwrap();
        running.stop();
        let report = shutting.join().unwrap().unwrap();
        assert_eq!((report.connections, report.clean), (2, 1));
        let met = met.lock().unwrap().clone();
        assert_eq!(standings(&report, &met), [Some(CloseProblem::Silent), None]);
        assert!(quiet.ended());
        running.join().unwrap();
    });
}

#[test]
fn a_caller_that_is_stopped_stops_the_server() {
    bounded(|| {
        let config = patient().close_timeout(SOON);
        let (running, _) = meeting(bind().config(config), |_, _| Ok(()));
        let quiet = Peer::open(running.local_addr().unwrap(), "/");
        let stopper = running.stopper();
        let caller = Worker::spawn(move || Ok(stopper.shutdown(within(NEVER))));
        let mut quiet = silent(quiet, 1001);
        caller.stop();
        assert!(matches!(caller.join().unwrap().done(), Some(Err(Error::Stopped))));
        running.join().unwrap();
        assert!(quiet.ended());
    });
}

#[test]
fn a_callback_that_waits_above_the_caller_does_not_hold_it_beyond_the_time() {
    bounded(|| {
        let log = Log::new();
        let notes = log.clone();
        let server = bind().config(patient());
        let stopper = server.stopper();
        let (running, _) = meeting(server, move |ws, text| match text {
            "later" => {
                let (stopper, notes) = (stopper.clone(), notes.clone());
                EventLoop::current().after(Duration::ZERO, move || {
                    notes.note(&stopper.shutdown(within(SOON)).unwrap().to_string());
                });
                ws.send("soon")
            }
            _ => {
                notes.note("waits");
                Ok(wait_forever()?)
            }
        });
        let mut caller = Peer::open(running.local_addr().unwrap(), "/");
        let mut waiting = Peer::open(running.local_addr().unwrap(), "/");
        // The timer waits for the shutdown, and what waits inside of it is waited for, until the time has passed.
        caller.send(TEXT, b"later");
        assert_eq!(caller.text(), "soon");
        waiting.send(TEXT, b"wait");
        let calls =
            log.wait(|calls| calls.iter().any(|call| matches!(call, Call::Note(note) if note != "waits")));
        let said = Call::Note("2 connections, 0 closed cleanly and 2 did not".to_owned());
        assert!(calls.contains(&said), "{calls:?}");
        running.join().unwrap();
    });
}

#[test]
fn a_hook_that_shuts_the_server_down_is_not_waited_for_and_its_peer_is_refused() {
    bounded(|| {
        let server = bind().config(patient());
        let stopper = server.stopper();
        let (tell, told) = mpsc::channel();
        let accept = move |request: &Request| {
            if request.path() == "/shutdown" {
                tell.send(stopper.shutdown(within(NEVER)).unwrap()).unwrap();
            }
            Reply::with(echo)
        };
        let running = server.serve(accept).unwrap();
        let other = answering(Peer::open(running.local_addr().unwrap(), "/"), 1001, "");
        let mut asking = Peer::connect(running.local_addr().unwrap());
        asking.bytes(request("/shutdown"));
        assert!(asking.head().starts_with("HTTP/1.1 503 "));
        let report = told.recv().unwrap();
        assert_eq!((report.connections, report.clean), (1, 1));
        running.join().unwrap();
        other.join().unwrap();
    });
}

#[test]
fn it_ends_in_time_also_if_nobody_is_left_to_stop_the_workers() {
    bounded(|| {
        let log = Log::new();
        let notes = log.clone();
        let (running, _) = meeting(bind().config(patient()), move |_, _| {
            notes.note("waits");
            Ok(wait_forever()?)
        });
        let mut waiting = Peer::open(running.local_addr().unwrap(), "/");
        waiting.send(TEXT, b"wait");
        log.wait_for(&Call::Note("waits".to_owned()));
        // A caller that can't return: another of its waits has begun inside of this one.
        let stopper = running.stopper();
        let caller = Worker::spawn(move || {
            EventLoop::current().after(Duration::ZERO, || {
                let _: Result<(), Stopped> = wait_forever();
            });
            Ok(stopper.shutdown(within(SOON)).map(|report| report.connections))
        });
        running.join().unwrap();
        assert!(waiting.code() == 1001 && waiting.ended());
        caller.stop();
        assert!(matches!(caller.join().unwrap().done(), Some(Ok(1))));
    });
}

#[test]
fn a_server_on_the_calling_thread_is_shut_down_by_its_stopper() {
    for workers in [1, 3] {
        bounded(move || {
            let server = bind().workers(workers).config(patient());
            let (addr, stopper) = (server.local_addr().unwrap(), server.stopper());
            let serving = thread::spawn(move || server.run(|_| Reply::with(echo)));
            let peers: Vec<Peer> = (0..6).map(|_| Peer::open(addr, "/")).collect();
            assert_eq!(stopper.connections(), 6);
            let peers = peers.into_iter().map(|peer| answering(peer, 1001, "")).collect();
            let report = stopper.shutdown(within(NEVER)).unwrap();
            assert_eq!((report.connections, report.clean), (6, 6));
            serving.join().unwrap().unwrap();
            all(peers);
        });
    }
}

#[test]
fn a_server_that_was_stopped_before_it_serves_ends_as_soon_as_it_begins() {
    for shuts_down in [false, true] {
        bounded(move || {
            let server = bind().workers(2);
            let stopper = server.stopper();
            if shuts_down {
                assert_eq!(stopper.shutdown(within(NEVER)).unwrap().connections, 0);
            } else {
                stopper.stop();
            }
            server.run(|_| Reply::with(echo)).unwrap();

            let server = bind().workers(2);
            server.stopper().stop();
            server.serve(|_| Reply::with(echo)).unwrap().join().unwrap();
        });
    }
}

#[test]
fn clients_on_the_thread_of_a_server_are_no_connections_of_it() {
    bounded(|| {
        let other = Serving::with(bind().config(patient()), |_| Reply::with(echo));
        let url = other.url("/");
        let (running, _) = meeting(bind().config(patient()), move |ws, _| {
            let back = ws.clone();
            let there = connect(&url, move |_: &Connection, message: Message<'_>| back.send(message))?;
            there.send("by way of another")
        });
        let mut peer = Peer::open(running.local_addr().unwrap(), "/");
        peer.send(TEXT, b"go");
        assert_eq!(peer.text(), "by way of another");
        assert_eq!(running.connections(), 1);
        let peer = answering(peer, 1001, "");
        let report = running.shutdown(within(NEVER)).unwrap();
        assert_eq!((report.connections, report.clean), (1, 1));
        running.join().unwrap();
        peer.join().unwrap();
        other.bystander().noticed_nothing();
    });
}

#[test]
fn connections_are_counted_while_they_come_and_go() {
    bounded(|| {
        let serving = Serving::with(bind().workers(3).config(patient()), |_| Reply::with(echo));
        let mut peers: Vec<Peer> = (0..9).map(|_| serving.peer()).collect();
        let running = serving.into_running();
        assert_eq!(running.connections(), 9);
        // From the middle, so that others move up.
        for left in (0..9).rev() {
            let mut peer = peers.remove(peers.len() / 2);
            peer.close(1000, "");
            assert_eq!(peer.code(), 1000);
            assert!(peer.ended_orderly());
            until(|| running.connections() == left);
        }
        running.stop();
        running.join().unwrap();
    });
}
