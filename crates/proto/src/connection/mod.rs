//! An open connection without I/O: received bytes in and events out, messages in and bytes out, and the close handshake.

mod sending;
mod shared_frame;

use std::time::{Duration, Instant};

use crate::{
    CloseCode, CloseFrame, Config, Frame, Message, OpCode, Pool, Reader, Role, SendError, Violation,
    close::fit_reason,
    deflate::Compressor,
    mask::Keys,
    state::{Action, Input, State, step},
};

/// Thirty years.
const NEVER: Duration = Duration::from_secs(60 * 60 * 24 * 365 * 30);

/// Memory for long payloads and masking keys, shared by the connections of one thread.
///
/// ```
/// use threadwire_proto::{Config, Connection, Role, Shared};
///
/// let (mut shared, mut out) = (Shared::new(), Vec::new());
/// let mut clients = [(); 3].map(|()| Connection::new(Role::Client, &Config::default()));
/// for client in &mut clients {
///     client.send("hi".into(), &mut shared, &mut out)?;
/// }
/// assert_eq!(out.len(), 3 * (2 + 4 + 2), "each has a header, a masking key of its own, and a payload");
/// # Ok::<(), threadwire_proto::SendError>(())
/// ```
#[derive(Debug, Default)]
pub struct Shared {
    /// Buffers for payloads that arrive in pieces.
    pub pool: Pool,
    /// Masking keys for what clients send.
    pub keys: Keys,
}

impl Shared {
    /// An empty pool, and keys from the system's random source.
    pub fn new() -> Shared {
        Shared::default()
    }
}

/// Something that the peer did.
///
/// ```
/// use threadwire_proto::{Config, Connection, Event, OpCode, Role, Shared};
///
/// let mut server = Connection::new(Role::Server, &Config::default());
/// let (mut shared, mut out) = (Shared::new(), Vec::new());
/// let mut wire = *b"\x89\x80\0\0\0\0\x88\x80\0\0\0\0"; // a ping and a close frame
/// let mut input = &mut wire[..];
/// while let Some(event) = server.receive(&mut input, &mut shared, &mut out) {
///     match &event {
///         Event::Frame(frame) => assert_eq!(frame.opcode(), OpCode::Ping),
///         Event::Close(_) => println!("closed: {:?}", server.closing()),
///         Event::Failed(violation) => panic!("{violation}"),
///     }
///     event.recycle(&mut shared.pool);
/// }
/// assert_eq!(out, b"\x8a\0\x88\0", "both were answered");
/// ```
#[derive(Debug)]
pub enum Event<'b> {
    /// A message (or a data frame, at [`Level::Frames`](crate::Level::Frames)), a ping or a pong. A ping was
    /// answered already, unless that was switched off.
    Frame(Frame<'b>),
    /// The peer closes, or answers our closing. The frame has its code and reason; [`Connection::closing`] keeps
    /// them.
    Close(Frame<'b>),
    /// The peer broke a rule. A close frame that says so was written, unless one was sent before.
    Failed(Violation),
}

impl<'b> Event<'b> {
    /// The frame that has arrived, if one has.
    #[inline]
    pub fn frame(&self) -> Option<&Frame<'b>> {
        match self {
            Event::Frame(frame) | Event::Close(frame) => Some(frame),
            Event::Failed(_) => None,
        }
    }

    /// Gives the frame's memory back, if it has any.
    #[inline]
    pub fn recycle(self, pool: &mut Pool) {
        match self {
            Event::Frame(frame) | Event::Close(frame) => frame.recycle(pool),
            Event::Failed(_) => {}
        }
    }
}

/// The side that began to close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Initiator {
    /// This side: by a call, or because the peer broke a rule.
    Local,
    /// The peer: by a close frame, or by ending TCP.
    Peer,
}

/// The progress and outcome of a close handshake (RFC 6455, section 7.1).
///
/// ```
/// use threadwire_proto::{CloseCode, Config, Connection, Initiator, Role, Shared};
///
/// let mut server = Connection::new(Role::Server, &Config::default());
/// let mut unmasked = *b"\x81\x02hi";
/// server.receive(&mut &mut unmasked[..], &mut Shared::new(), &mut Vec::new());
/// let closing = server.closing().expect("a rule was broken");
/// assert_eq!((closing.initiator, closing.code()), (Initiator::Local, CloseCode::PROTOCOL_ERROR));
/// assert_eq!(closing.reason(), "a client's frame is not masked");
/// assert!(!closing.is_clean());
/// ```
#[derive(Clone, Debug)]
pub struct Closing {
    /// The side that began.
    pub initiator: Initiator,
    /// The code and reason of the close frame that we sent.
    pub sent: Option<(Option<CloseCode>, String)>,
    /// The code and reason of the close frame that the peer sent.
    pub received: Option<(Option<CloseCode>, String)>,
    /// The rule that the peer broke, if that is why.
    pub violation: Option<Violation>,
    /// Whether the peer took longer than the configured time to answer.
    pub timed_out: bool,
    /// Whether the peer ended TCP before the closing handshake was complete.
    pub lost: bool,
    /// Whether this side did, once its close frame had left: it did not wait for the peer's answer.
    pub left: bool,
    deadline: Option<Instant>,
}

impl Closing {
    fn begun_by(initiator: Initiator) -> Closing {
        Closing {
            initiator,
            sent: None,
            received: None,
            violation: None,
            timed_out: false,
            lost: false,
            left: false,
            deadline: None,
        }
    }

    /// Whether both sides sent a close frame, and neither broke a rule.
    pub fn is_clean(&self) -> bool {
        self.sent.is_some() && self.received.is_some() && self.violation.is_none()
    }

    /// The close code of the connection (RFC 6455, section 7.1.5): the peer's, or 1005 if its close frame had none;
    /// where the peer broke a rule, the code for that; where this side [left](Closing::left), the code that it gave; 1006 where
    /// there was no close frame.
    pub fn code(&self) -> CloseCode {
        match (&self.received, &self.violation, &self.sent) {
            (_, Some(violation), _) => violation.code(),
            (Some((code, _)), None, _) => code.unwrap_or(CloseCode::NO_STATUS),
            (None, None, Some((code, _))) if self.left => code.unwrap_or(CloseCode::NO_STATUS),
            (None, None, _) => CloseCode::ABNORMAL,
        }
    }

    /// The reason that belongs to [`code`](Closing::code); empty if there is none.
    pub fn reason(&self) -> &str {
        match (&self.received, &self.sent, &self.violation) {
            // The peer was told of the broken rule, unless a close frame of another kind had been sent before.
            (_, Some((code, reason)), Some(violation)) if *code == Some(violation.code()) => reason,
            (Some((_, reason)), _, None) => reason,
            _ => "",
        }
    }
}

/// An open connection.
///
/// The connection writes to no socket: its output is appended to a vector that the caller passes in and empties.
///
/// ```
/// use threadwire_proto::{Config, Connection, Frame, Role, SendError, Shared};
///
/// /// What an echo does with what it has read; `out` is written to the socket then.
/// fn echo(
///     server: &mut Connection,
///     mut input: &mut [u8],
///     shared: &mut Shared,
///     out: &mut Vec<u8>,
/// ) -> Result<(), SendError> {
///     while let Some(event) = server.receive(&mut input, shared, out) {
///         if let Some(message) = event.frame().and_then(Frame::message) {
///             server.send(message, shared, out)?;
///         }
///         event.recycle(&mut shared.pool);
///     }
///     Ok(())
/// }
///
/// let mut server = Connection::new(Role::Server, &Config::default());
/// let mut out = Vec::new();
/// let mut wire = *b"\x81\x82\0\0\0\0hi";
/// echo(&mut server, &mut wire, &mut Shared::new(), &mut out)?;
/// assert_eq!(out, b"\x81\x02hi");
/// # Ok::<(), SendError>(())
/// ```
#[derive(Debug)]
pub struct Connection {
    reader: Reader,
    role: Role,
    state: State,
    auto_pong: bool,
    /// Whether a message of ours was begun with a fragment and not finished.
    mid_message: bool,
    /// [`Config::close_timeout`] in nanoseconds: half as long as a `Duration`, in every connection.
    close_timeout: u64,
    closing: Option<Box<Closing>>,
    /// The last ping that was not answered at once, as the peer does not read what we send.
    late_pong: Option<Box<[u8]>>,
    /// Whether the peer's end waits until the program has dealt with what came before it.
    defers: bool,
    /// The peer's end, if it waits.
    deferred: Option<Box<PeerEnd>>,
    /// If messages may be compressed.
    deflate: Option<Box<Compressor>>,
}

/// What of the peer's doing ends a connection.
#[derive(Debug)]
enum PeerEnd {
    Close(Option<CloseCode>, String),
    Violation(Violation),
}

impl Connection {
    /// With this many bytes waiting to be written, pings are not answered one by one any more: only the last one
    /// is, once the output has drained (RFC 6455, section 5.5.3, allows that). A peer that pings and never reads
    /// can't fill our memory with pongs.
    pub const PONG_ROOM: usize = 64 << 10;

    /// A connection whose opening handshake has just been completed.
    pub fn new(role: Role, config: &Config) -> Connection {
        Connection {
            reader: Reader::new(role, config),
            role,
            state: State::Open,
            auto_pong: config.auto_pong,
            mid_message: false,
            close_timeout: config.close_timeout.as_nanos().try_into().unwrap_or(u64::MAX),
            closing: None,
            late_pong: None,
            defers: false,
            deferred: None,
            deflate: None,
        }
    }

    /// Takes the next event off the front of `input`; `None` when the input is used up, or where messages are compressed, when what was
    /// used of it is enough for one turn ([`Reader::next`]). What has to be answered (pings, close frames, broken rules) is
    /// answered by appending to `out`.
    ///
    /// Once the connection is closed or failed, input is dropped unread.
    ///
    /// Pass all output that waits to be written as `out`, not a vector of its own for each call: by its length the
    /// connection sees that the peer does not read, and stops answering every single ping ([`PONG_ROOM`]).
    ///
    /// [`PONG_ROOM`]: Connection::PONG_ROOM
    #[inline]
    pub fn receive<'b>(
        &mut self,
        input: &mut &'b mut [u8],
        shared: &mut Shared,
        out: &mut Vec<u8>,
    ) -> Option<Event<'b>> {
        loop {
            if matches!(self.state, State::Closed | State::Failed | State::Ended) || self.deferred.is_some() {
                *input = &mut [];
                return None;
            }
            match self.reader.next(input, &mut shared.pool) {
                Ok(None) => return None,
                Ok(Some(frame)) if !frame.opcode().is_control() && self.state == State::Open => {
                    return Some(Event::Frame(frame));
                }
                Ok(Some(frame)) if self.defers && self.defer_close(&frame) => {
                    frame.recycle(&mut shared.pool);
                    *input = &mut [];
                    return None;
                }
                Ok(Some(frame)) => {
                    if let Some(event) = self.receive_slowly(frame, shared, out) {
                        return Some(event);
                    }
                }
                Err(violation) => {
                    *input = &mut [];
                    if self.defers && self.state == State::Open {
                        self.deferred = Some(Box::new(PeerEnd::Violation(violation)));
                        return None;
                    }
                    self.fail(violation, shared, out);
                    return Some(Event::Failed(violation));
                }
            }
        }
    }

    /// Takes a message off the front of `input`, if the connection is open and the message lies there whole, in one
    /// frame: the commonest case, made short. `None` says nothing: ask [`receive`](Connection::receive).
    ///
    /// ```
    /// use threadwire_proto::{Config, Connection, Message, Role, Shared};
    ///
    /// let mut client = Connection::new(Role::Client, &Config::default());
    /// let mut wire = *b"\x81\x02hi\x89\0";
    /// let mut input = &mut wire[..];
    /// assert_eq!(client.receive_message(&mut input), Some(Message::Text("hi")));
    /// assert_eq!(client.receive_message(&mut input), None, "it is a ping");
    /// assert!(client.receive(&mut input, &mut Shared::new(), &mut Vec::new()).is_some());
    /// ```
    #[inline]
    pub fn receive_message<'b>(&mut self, input: &mut &'b mut [u8]) -> Option<Message<'b>> {
        if self.state == State::Open && self.deferred.is_none() {
            self.reader.whole_message(input)
        } else {
            None
        }
    }

    /// A frame that needs more than to be handed on.
    #[cold]
    fn receive_slowly<'b>(
        &mut self,
        frame: Frame<'b>,
        shared: &mut Shared,
        out: &mut Vec<u8>,
    ) -> Option<Event<'b>> {
        let input = match frame.opcode() {
            OpCode::Ping => Input::Ping,
            OpCode::Pong => Input::Pong,
            OpCode::Close => Input::Close,
            _ => Input::Data,
        };
        let mut close = None;
        if input == Input::Close {
            match CloseFrame::parse(frame.payload()) {
                Ok(CloseFrame { code, reason }) => close = Some((code, reason.to_owned())),
                Err(violation) => {
                    self.fail(violation, shared, out);
                    return Some(Event::Failed(violation));
                }
            }
        }
        let (action, next) = step(self.state, input);
        self.state = next;
        match action {
            Action::Deliver => return Some(Event::Frame(frame)),
            Action::AnswerPing => {
                if self.auto_pong && out.len() > Connection::PONG_ROOM {
                    self.late_pong = Some(frame.payload().into());
                } else if self.auto_pong {
                    // A pong to the last ping answers all pings before it too (RFC 6455, section 5.5.3).
                    self.late_pong = None;
                    self.write(OpCode::Pong, true, frame.payload(), shared, out);
                }
                return Some(Event::Frame(frame));
            }
            Action::AnswerClose => {
                let code = close.as_ref().and_then(|close| close.0);
                self.write_close(CloseFrame { code, reason: "" }, Initiator::Peer, shared, out);
            }
            Action::Complete => {}
            _ => {
                frame.recycle(&mut shared.pool);
                return None;
            }
        }
        self.closing_by(Initiator::Peer).received = close;
        Some(Event::Close(frame))
    }

    /// Notes a close frame instead of answering it. False for another frame, or one that is to be dealt with at once.
    #[cold]
    fn defer_close(&mut self, frame: &Frame<'_>) -> bool {
        if frame.opcode() != OpCode::Close || self.state != State::Open {
            return false;
        }
        let Ok(CloseFrame { code, reason }) = CloseFrame::parse(frame.payload()) else { return false };
        self.deferred = Some(Box::new(PeerEnd::Close(code, reason.to_owned())));
        true
    }

    /// Whether from now on a close frame that the peer sends while the connection is open, or a rule that it breaks, is only noted, and the input behind it dropped, until
    /// [`end_deferred`](Connection::end_deferred) is called: for a caller that queues what has arrived, so that the answers
    /// to what came before still leave before our close frame. A rule about close codes and reasons is told at once.
    ///
    /// ```
    /// use threadwire_proto::{Config, Connection, Event, Role, SendError, Shared};
    ///
    /// let mut server = Connection::new(Role::Server, &Config::default());
    /// let (mut shared, mut out) = (Shared::new(), Vec::new());
    /// server.defer_end(true);
    /// let mut wire = *b"\x81\x82\0\0\0\0hi\x83\x80\0\0\0\0"; // a message, and an opcode that does not exist
    /// let mut input = &mut wire[..];
    /// let mut queue = Vec::new();
    /// while let Some(event) = server.receive(&mut input, &mut shared, &mut out) {
    ///     queue.extend(event.frame().and_then(|frame| frame.message()).map(|message| message.to_owned()));
    /// }
    /// assert!(server.has_deferred_end());
    /// for message in queue {
    ///     server.send(message.as_message(), &mut shared, &mut out)?; // it can still be answered
    /// }
    /// assert!(matches!(server.end_deferred(&mut shared, &mut out), Some(Err(_))));
    /// assert!(out.starts_with(b"\x81\x02hi\x88"));
    /// # Ok::<(), SendError>(())
    /// ```
    #[inline]
    pub fn defer_end(&mut self, defers: bool) {
        self.defers = defers;
    }

    /// Whether the peer has closed, or broken a rule, and that is only [noted](Connection::defer_end) so far.
    #[inline]
    pub fn has_deferred_end(&self) -> bool {
        self.deferred.is_some()
    }

    /// Whether the peer has closed, and that is only [noted](Connection::defer_end) so far.
    pub fn has_deferred_close(&self) -> bool {
        matches!(self.deferred.as_deref(), Some(PeerEnd::Close(..)))
    }

    /// Deals with the end that was noted, if one was: the peer's close frame is answered, or the connection fails for the rule that was
    /// broken, which is the error, and a close frame that says so is written.
    pub fn end_deferred(&mut self, shared: &mut Shared, out: &mut Vec<u8>) -> Option<Result<(), Violation>> {
        match *self.deferred.take().filter(|_| self.state == State::Open)? {
            PeerEnd::Violation(violation) => {
                self.fail(violation, shared, out);
                Some(Err(violation))
            }
            PeerEnd::Close(code, reason) => {
                self.state = step(self.state, Input::Close).1;
                self.write_close(CloseFrame { code, reason: "" }, Initiator::Peer, shared, out);
                self.closing_by(Initiator::Peer).received = Some((code, reason));
                Some(Ok(()))
            }
        }
    }

    fn fail(&mut self, violation: Violation, shared: &mut Shared, out: &mut Vec<u8>) {
        let (action, next) = step(self.state, Input::Violation);
        self.state = next;
        if action == Action::Fail {
            let reason = violation.to_string();
            let frame = CloseFrame { code: Some(violation.code()), reason: fit_reason(&reason) };
            self.write_close(frame, Initiator::Local, shared, out);
        }
        self.closing_by(Initiator::Local).violation = Some(violation);
    }

    /// Closes: sends a close frame, after which nothing more is sent, and what the peer still sends is dropped until
    /// it answers. A connection that is closing already is left as it is. Where the peer's close frame was only
    /// [noted](Connection::defer_end) so far, this answers it.
    ///
    /// ```
    /// use threadwire_proto::{CloseCode, CloseFrame, Config, Connection, Role, Shared, state::State};
    ///
    /// let mut client = Connection::new(Role::Client, &Config::default());
    /// let mut server = Connection::new(Role::Server, &Config::default());
    /// let (mut shared, mut there, mut back) = (Shared::new(), Vec::new(), Vec::new());
    /// let frame = CloseFrame { code: Some(CloseCode::NORMAL), reason: "done" };
    /// client.close(frame, &mut shared, &mut there)?;
    /// server.receive(&mut &mut there[..], &mut shared, &mut back);
    /// client.receive(&mut &mut back[..], &mut shared, &mut Vec::new());
    /// assert!(client.closing().is_some_and(|closing| closing.is_clean()));
    /// assert!(server.should_end_tcp() && !client.should_end_tcp());
    /// client.tcp_ended();
    /// assert_eq!(client.state(), State::Ended);
    /// # Ok::<(), threadwire_proto::SendError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`CloseFrame::check`]; the connection is as it was then.
    pub fn close(
        &mut self,
        frame: CloseFrame<'_>,
        shared: &mut Shared,
        out: &mut Vec<u8>,
    ) -> Result<(), SendError> {
        frame.check()?;
        let (action, next) = step(self.state, Input::SendClose);
        self.state = next;
        if action != Action::Write {
            return Ok(());
        }
        match self.deferred.take().map(|end| *end) {
            None => self.write_close(frame.fitted(), Initiator::Local, shared, out),
            Some(PeerEnd::Close(code, reason)) => {
                self.state = step(self.state, Input::Close).1;
                self.write_close(frame.fitted(), Initiator::Peer, shared, out);
                self.closing_by(Initiator::Peer).received = Some((code, reason));
            }
            Some(PeerEnd::Violation(violation)) => {
                self.state = step(self.state, Input::Violation).1;
                self.write_close(frame.fitted(), Initiator::Local, shared, out);
                self.closing_by(Initiator::Local).violation = Some(violation);
            }
        }
        Ok(())
    }

    /// Whether [`drained`](Connection::drained) would write something.
    #[inline]
    pub fn has_late_pong(&self) -> bool {
        self.late_pong.is_some()
    }

    /// The output was written out: answers a ping that had to wait for that. See
    /// [`PONG_ROOM`](Connection::PONG_ROOM).
    ///
    /// ```
    /// use threadwire_proto::{Config, Connection, Role, Shared};
    ///
    /// let mut client = Connection::new(Role::Client, &Config::default());
    /// let mut shared = Shared::new();
    /// let mut out = vec![0; Connection::PONG_ROOM + 1]; // what the peer does not read
    /// let mut pings = *b"\x89\x01a\x89\x01b";
    /// let mut input = &mut pings[..];
    /// while client.receive(&mut input, &mut shared, &mut out).is_some() {}
    /// assert!(client.has_late_pong());
    /// out.clear(); // it was written at last
    /// client.drained(&mut shared, &mut out);
    /// assert_eq!(out.len(), 2 + 4 + 1, "one pong, for the last of them");
    /// ```
    #[inline]
    pub fn drained(&mut self, shared: &mut Shared, out: &mut Vec<u8>) {
        if self.late_pong.is_some() && self.state == State::Open {
            let payload = self.late_pong.take().unwrap_or_default();
            self.write(OpCode::Pong, true, &payload, shared, out);
        }
    }

    /// TCP ended, orderly or not. Before the peer's close frame that is [`Closing::lost`].
    pub fn tcp_ended(&mut self) {
        let (action, next) = step(self.state, Input::TcpEnded);
        self.state = next;
        let deferred = self.deferred.take();
        let closing = self.closing_by(Initiator::Peer);
        closing.lost |= action == Action::Lost;
        if let Some(PeerEnd::Close(code, reason)) = deferred.map(|end| *end) {
            closing.received = Some((code, reason));
        }
        self.let_go();
    }

    /// We end TCP, whatever state the connection is in.
    ///
    /// See [`leave`](Connection::leave) for an end after a close frame.
    pub fn abort(&mut self) {
        self.state = step(self.state, Input::TcpEnded).1;
        self.closing_by(Initiator::Local);
        self.let_go();
    }

    /// This side ends TCP when its close frame has left, and does not wait for the peer's answer.
    ///
    /// ```
    /// use threadwire_proto::{CloseCode, CloseFrame, Config, Connection, Role, Shared};
    ///
    /// let mut client = Connection::new(Role::Client, &Config::default());
    /// let frame = CloseFrame { code: Some(CloseCode::GOING_AWAY), reason: "" };
    /// client.close(frame, &mut Shared::new(), &mut Vec::new())?;
    /// client.leave();
    /// let closing = client.closing().expect("it was begun");
    /// assert_eq!((closing.code(), closing.is_clean()), (CloseCode::GOING_AWAY, false));
    /// # Ok::<(), threadwire_proto::SendError>(())
    /// ```
    pub fn leave(&mut self) {
        let was_over = self.state == State::Ended;
        self.abort();
        self.closing_by(Initiator::Local).left = !was_over;
    }

    /// When closing is to be given up: [`Config::close_timeout`] after the first call that finds the connection no
    /// longer open. `None` while it is open, and after its end.
    pub fn deadline(&mut self, now: Instant) -> Option<Instant> {
        if matches!(self.state, State::Open | State::Ended) {
            return None;
        }
        let after = Duration::from_nanos(self.close_timeout);
        let closing = self.closing_by(Initiator::Local);
        // A time that the clock can't count to is so far off that it never comes.
        let deadline = || now.checked_add(after).unwrap_or_else(|| now + NEVER);
        Some(*closing.deadline.get_or_insert_with(deadline))
    }

    /// Gives closing up if its [`deadline`](Connection::deadline) has passed. Returns whether the connection has
    /// ended.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// use threadwire_proto::{CloseFrame, Config, Connection, Role, Shared};
    ///
    /// let mut server = Connection::new(Role::Server, &Config::default());
    /// let now = Instant::now();
    /// assert_eq!(server.deadline(now), None);
    /// server.close(CloseFrame { code: None, reason: "" }, &mut Shared::new(), &mut Vec::new())?;
    /// let deadline = server.deadline(now).expect("it is closing");
    /// assert_eq!(deadline, now + Duration::from_secs(5));
    /// assert!(!server.expire(now) && server.expire(deadline));
    /// assert!(server.closing().is_some_and(|closing| closing.timed_out));
    /// # Ok::<(), threadwire_proto::SendError>(())
    /// ```
    pub fn expire(&mut self, now: Instant) -> bool {
        if self.deadline(now).is_some_and(|deadline| deadline <= now) {
            let (action, next) = step(self.state, Input::Deadline);
            self.state = next;
            self.closing_by(Initiator::Local).timed_out = action == Action::GiveUp;
            self.let_go();
        }
        self.state == State::Ended
    }

    /// Whether this side should end TCP once the output is written: a server after both close frames, and either
    /// side after a broken rule (RFC 6455, sections 7.1.1 and 7.1.7). A client lets the server go first.
    #[inline]
    pub fn should_end_tcp(&self) -> bool {
        match self.state {
            State::Open | State::Closing => false,
            State::Closed => self.role == Role::Server,
            State::Failed | State::Ended => true,
        }
    }

    /// Whether a message of ours was begun with a fragment, and not finished.
    #[inline]
    pub fn is_mid_message(&self) -> bool {
        self.mid_message
    }

    /// The state of the connection.
    #[inline]
    pub fn state(&self) -> State {
        self.state
    }

    /// The end of the connection that this is.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The progress of closing; `None` while the connection is open.
    pub fn closing(&self) -> Option<&Closing> {
        self.closing.as_deref()
    }

    /// The receiving half, for reading straight into a long payload: see [`Reader::room`].
    #[inline]
    pub fn reader(&mut self) -> &mut Reader {
        &mut self.reader
    }

    /// Whether the peer has finished every message and frame that it has begun.
    #[inline]
    pub fn is_between_messages(&self) -> bool {
        self.reader.is_idle()
    }

    /// How much memory is held for what has arrived and is incomplete, in bytes.
    #[inline]
    pub fn held(&self) -> usize {
        self.reader.held()
    }

    /// The end of the connection: memory that is kept for messages is of no use any more.
    fn let_go(&mut self) {
        self.reader.end();
        self.deflate = None;
    }

    fn closing_by(&mut self, initiator: Initiator) -> &mut Closing {
        self.closing.get_or_insert_with(|| Box::new(Closing::begun_by(initiator)))
    }

    fn write_close(
        &mut self,
        frame: CloseFrame<'_>,
        initiator: Initiator,
        shared: &mut Shared,
        out: &mut Vec<u8>,
    ) {
        let (payload, length) = frame.payload();
        self.write(OpCode::Close, true, &payload[..length], shared, out);
        self.closing_by(initiator).sent = Some((frame.code, frame.reason.to_owned()));
    }
}
