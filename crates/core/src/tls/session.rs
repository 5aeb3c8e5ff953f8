//! TLS session: one side of a TLS connection, over any byte stream, for every face.
//!
//! rustls holds no buffers here (its "unbuffered" interface): what is read lies in memory that the connections of a thread
//! share, is decrypted there, and goes from there into the caller's buffer; what is written is gathered into as few records
//! as it fits in, and leaves in one system call. A session owns memory only while a record is incomplete, the caller had no
//! room for all that a read has brought, or the system did not take all that was encrypted: each of these is less than two of
//! the buffers that are lent.
//!
//! What was encrypted must leave as it is, so it counts as gone when it is encrypted, but for its last byte. That one counts
//! when all of it has left: so the writer has something left to write for as long as it is needed, and needs to know
//! nothing of records. A frame of which that byte is a part has begun to leave, and must not be dropped any more: as it may be
//! the first byte of one, the session [says](Session::owes) that it is owed.

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut};
use std::sync::Arc;

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::pki_types::ServerName;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, InsufficientSizeError, ReadEarlyData,
    UnbufferedStatus,
};
use rustls::{ClientConfig, CommonState, ServerConfig};

use super::scratch::{self, SIZE};
use super::{TlsFailure, TlsInfo};
use crate::transport::Transport;

/// How much is encrypted for one system call: four of the longest records.
const PIECE: usize = 64 << 10;
/// Upper bound of the headers and tags of that many records, with some to spare for records of TLS itself.
const OVERHEAD: usize = 2 << 10;
/// Room for a record that is incomplete, so that the rest of it can be read: 2^14 and what encryption adds (RFC 8446,
/// section 5.2).
const RECORD: usize = (16 << 10) + 512;
/// The most that is kept of what is incomplete: a message of the handshake may have 64 KiB (RFC 8446, section 4).
const MOST_KEPT: usize = 96 << 10;
/// As much may be read at once that has no bytes for the caller in it.
const MOST_FOR_NOTHING: usize = 1 << 20;

/// One side of a TLS connection.
pub struct Session {
    side: Side,
    /// Bytes of records or handshake messages that are not complete.
    kept: Vec<u8>,
    /// Whether that was read by somebody else, and was not looked at.
    is_unseen: bool,
    /// Decrypted bytes for which the caller had no room, and how many of them were handed out.
    plain: Vec<u8>,
    taken: usize,
    /// Encrypted bytes that have not left, and how many of them have.
    sealed: Vec<u8>,
    left: usize,
    /// Whether the last byte that was encrypted is still to be counted.
    owes: bool,
    may_have_more: bool,
    input: Input,
    /// Whether the peer was told that nothing more will come.
    said_goodbye: bool,
}

/// How far the peer's half is.
enum Input {
    Open,
    /// The peer has sent `close_notify`, or the stream has ended.
    Ended,
    /// Nothing of it can be understood any more.
    Broken(rustls::Error),
}

enum Side {
    Client(UnbufferedClientConnection),
    Server(UnbufferedServerConnection),
}

/// The common interface of both sides of rustls, which has no trait for it.
trait Peer {
    type Data;

    fn process<'c, 'i>(&'c mut self, bytes: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;

    /// Whether something of TLS itself is to be sent.
    fn has_output(&self) -> bool;

    /// Early data of a client, if a program's own settings allow it.
    fn read_early(_data: ReadEarlyData<'_, '_, Self::Data>, _sink: &mut Sink<'_, '_>) {}
}

impl Peer for UnbufferedClientConnection {
    type Data = ClientConnectionData;

    fn process<'c, 'i>(&'c mut self, bytes: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(bytes)
    }

    fn has_output(&self) -> bool {
        self.wants_write()
    }
}

impl Peer for UnbufferedServerConnection {
    type Data = ServerConnectionData;

    fn process<'c, 'i>(&'c mut self, bytes: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(bytes)
    }

    fn has_output(&self) -> bool {
        self.wants_write()
    }

    fn read_early(mut data: ReadEarlyData<'_, '_, Self::Data>, sink: &mut Sink<'_, '_>) {
        while let Some(Ok(record)) = data.next_record() {
            sink.take(record.payload);
        }
    }
}

/// Has one of two types do the same.
macro_rules! with_peer {
    ($side:expr, $peer:ident => $does:expr) => {
        match $side {
            Side::Client($peer) => $does,
            Side::Server($peer) => $does,
        }
    };
}

/// Where decrypted bytes go: into the caller's buffers, and what has no room there, behind them.
struct Sink<'a, 'b> {
    buffers: &'a mut [IoSliceMut<'b>],
    /// Which of them is next, and how much of it is full.
    next: usize,
    filled: usize,
    total: usize,
    rest: &'a mut Vec<u8>,
}

impl Sink<'_, '_> {
    fn take(&mut self, mut bytes: &[u8]) {
        while let (Some(buffer), false) = (self.buffers.get_mut(self.next), bytes.is_empty()) {
            let room = &mut buffer[self.filled..];
            let count = room.len().min(bytes.len());
            room[..count].copy_from_slice(&bytes[..count]);
            bytes = &bytes[count..];
            self.filled += count;
            self.total += count;
            if self.filled == buffer.len() {
                (self.next, self.filled) = (self.next + 1, 0);
            }
        }
        self.rest.extend_from_slice(bytes);
    }
}

/// The result of processing records.
#[derive(Default)]
struct Worked {
    /// How many bytes are done with.
    done: usize,
    /// Whether the peer has said that nothing more will come.
    ended: bool,
    error: Option<rustls::Error>,
}

/// Takes in records: bytes for the caller go into `sink`, what has to be answered into `answers`.
fn work<P: Peer>(peer: &mut P, bytes: &mut [u8], sink: &mut Sink<'_, '_>, answers: &mut Vec<u8>) -> Worked {
    let mut worked = Worked::default();
    loop {
        let UnbufferedStatus { mut discard, state } = peer.process(&mut bytes[worked.done..]);
        let goes_on = match state {
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                while let Some(record) = traffic.next_record() {
                    match record {
                        Ok(record) => {
                            discard += record.discard;
                            sink.take(record.payload);
                        }
                        Err(error) => worked.error = Some(error),
                    }
                }
                worked.error.is_none()
            }
            Ok(ConnectionState::ReadEarlyData(early)) => {
                P::read_early(early, sink);
                true
            }
            Ok(ConnectionState::EncodeTlsData(data)) => {
                encode(data, answers);
                true
            }
            // These bytes leave before all later ones.
            Ok(ConnectionState::TransmitTlsData(data)) => {
                data.done();
                true
            }
            Ok(ConnectionState::PeerClosed) => {
                worked.ended = true;
                true
            }
            // The bytes hold nothing more.
            Ok(_) => false,
            Err(error) => {
                worked.error = Some(error);
                false
            }
        };
        worked.done += discard;
        if !goes_on {
            break;
        }
    }
    if worked.error.is_some() {
        // The peer is told what was wrong.
        while peer.has_output()
            && let Ok(ConnectionState::EncodeTlsData(data)) = peer.process(&mut []).state
        {
            encode(data, answers);
        }
    }
    worked
}

/// Appends what TLS itself has to say.
fn encode<D>(mut data: EncodeTlsData<'_, D>, output: &mut Vec<u8>) {
    if let Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) = data.encode(&mut [])
    {
        let start = output.len();
        output.resize(start + required_size, 0);
        let count = data.encode(&mut output[start..]).unwrap_or(0);
        output.truncate(start + count);
    }
}

/// Encrypts `bytes`, or the end of what is sent if there are none, behind the first `start` bytes of `output`. Returns where
/// that ends.
fn seal(
    peer: &mut impl Peer,
    kept: &mut [u8],
    bytes: Option<&[u8]>,
    output: &mut Vec<u8>,
) -> Result<usize, rustls::Error> {
    let mut end = 0;
    loop {
        match peer.process(kept).state? {
            ConnectionState::EncodeTlsData(data) => {
                let mut own = Vec::new();
                encode(data, &mut own);
                if output.len() < end + own.len() {
                    output.resize(end + own.len(), 0);
                }
                output[end..end + own.len()].copy_from_slice(&own);
                end += own.len();
            }
            ConnectionState::TransmitTlsData(data) => data.done(),
            // The next read finds the end.
            ConnectionState::PeerClosed => {}
            ConnectionState::WriteTraffic(mut traffic) => loop {
                let room = &mut output[end..];
                let sealed = match bytes {
                    Some(bytes) => traffic.encrypt(bytes, room),
                    None => traffic.queue_close_notify(room),
                };
                match sealed {
                    Ok(count) => return Ok(end + count),
                    Err(EncryptError::InsufficientSize(InsufficientSizeError { required_size })) => {
                        output.resize(end + required_size, 0);
                    }
                    Err(EncryptError::EncryptExhausted) => return Err(rustls::Error::EncryptError),
                }
            },
            _ => return Err(rustls::Error::HandshakeNotComplete),
        }
    }
}

/// Making one.
impl Session {
    /// The side that says hello.
    pub fn client(config: Arc<ClientConfig>, name: ServerName<'static>) -> Result<Session, rustls::Error> {
        Ok(Session::of(Side::Client(UnbufferedClientConnection::new(config, name)?)))
    }

    /// The side that is greeted, by a client whose first bytes may have been read before.
    pub fn server(config: Arc<ServerConfig>, early: Vec<u8>) -> Result<Session, rustls::Error> {
        let session = Session::of(Side::Server(UnbufferedServerConnection::new(config)?));
        Ok(Session { is_unseen: !early.is_empty(), kept: early, ..session })
    }

    fn of(side: Side) -> Session {
        Session {
            side,
            kept: Vec::new(),
            is_unseen: false,
            plain: Vec::new(),
            taken: 0,
            sealed: Vec::new(),
            left: 0,
            owes: false,
            may_have_more: true,
            input: Input::Open,
            said_goodbye: false,
        }
    }

    fn common(&self) -> &CommonState {
        with_peer!(&self.side, peer => peer)
    }

    pub fn is_handshaking(&self) -> bool {
        self.common().is_handshaking()
    }

    /// The result of the handshake.
    pub fn info(&self) -> TlsInfo {
        let common = self.common();
        TlsInfo {
            peer_certificates: common.peer_certificates().unwrap_or_default().to_vec(),
            alpn: common.alpn_protocol().map(<[u8]>::to_vec),
            is_resumed: common.handshake_kind() == Some(rustls::HandshakeKind::Resumed),
            version: common.protocol_version(),
            cipher_suite: common.negotiated_cipher_suite().map(|suite| suite.suite()),
        }
    }

    /// Whether the first byte of what is to be written next has left already.
    #[inline]
    pub fn owes(&self) -> bool {
        self.owes
    }

    /// Whether something that was encrypted has not left yet.
    #[inline]
    pub fn has_unsent(&self) -> bool {
        self.left < self.sealed.len()
    }

    /// Whether there may be more to read, after the last read.
    #[inline]
    pub fn may_have_more(&self) -> bool {
        self.may_have_more || self.taken < self.plain.len() || !matches!(self.input, Input::Open)
    }
}

/// Reading.
impl Session {
    /// Goes on with the handshake until it needs to wait for the stream. Returns whether it is done.
    pub fn handshake(&mut self, io: &mut impl Transport) -> io::Result<bool> {
        while self.is_handshaking() {
            // Data behind the handshake is kept for the next read.
            match self.fill(io, &mut []) {
                // The end may have come together with the last bytes of the handshake: the next read finds it, behind the data.
                Ok(0) if self.is_handshaking() && !matches!(self.input, Input::Open) => {
                    return Err(early_end());
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(!self.is_handshaking())
    }

    /// Reads what has arrived, and goes on with the handshake if that is not done.
    #[inline]
    pub fn read(&mut self, io: &mut impl Transport, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        if self.taken < self.plain.len() {
            return Ok(self.hand_out(buffers));
        }
        self.fill(io, buffers)
    }

    /// Hands out what was decrypted before.
    fn hand_out(&mut self, buffers: &mut [IoSliceMut<'_>]) -> usize {
        // This call may answer new readiness of the stream.
        self.may_have_more = true;
        let mut total = 0;
        for buffer in buffers {
            let waiting = &self.plain[self.taken..];
            let count = waiting.len().min(buffer.len());
            buffer[..count].copy_from_slice(&waiting[..count]);
            self.taken += count;
            total += count;
        }
        if self.taken == self.plain.len() {
            (self.plain, self.taken) = (Vec::new(), 0);
        }
        total
    }

    fn fill(&mut self, io: &mut impl Transport, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        match &self.input {
            Input::Open => {}
            Input::Ended => return Ok(0),
            Input::Broken(error) => return Err(self.failure(error.clone())),
        }
        if self.is_handshaking() {
            self.begin()?;
            self.push(io)?;
        }
        let mut scratch = scratch::lend(self.kept.len() + RECORD);
        let result = self.fill_through(io, buffers, &mut scratch);
        scratch::give_back(scratch);
        result
    }

    /// A client speaks first.
    fn begin(&mut self) -> io::Result<()> {
        let nowhere = &mut Sink { buffers: &mut [], next: 0, filled: 0, total: 0, rest: &mut self.plain };
        if with_peer!(&self.side, peer => peer.wants_write()) {
            let worked = with_peer!(&mut self.side, peer => {
                work(peer, &mut self.kept, nowhere, &mut self.sealed)
            });
            self.kept.drain(..worked.done);
        }
        Ok(())
    }

    fn fill_through(
        &mut self,
        io: &mut impl Transport,
        buffers: &mut [IoSliceMut<'_>],
        scratch: &mut [u8],
    ) -> io::Result<usize> {
        let wanted: usize = buffers.iter().map(|buffer| buffer.len()).sum();
        let mut for_nothing = 0;
        loop {
            let start = self.kept.len();
            if start + RECORD > scratch.len() {
                // The incomplete part of the handshake fills the scratch memory: the next call takes more.
                self.may_have_more = true;
                return if start > MOST_KEPT {
                    Err(self.break_off(too_long(), io))
                } else {
                    self.fill(io, buffers)
                };
            }
            scratch[..start].copy_from_slice(&self.kept);
            // No more than the caller has room for, but a whole record.
            let end = scratch.len().min(wanted.max(start + RECORD));
            let room = end - start;
            let count = if std::mem::take(&mut self.is_unseen) {
                self.may_have_more = true;
                0
            } else {
                match io.read(&mut scratch[start..end]) {
                    Ok(0) => return self.end_of_stream(),
                    Ok(count) => {
                        self.may_have_more = io.may_have_more(count, room);
                        count
                    }
                    Err(error) => {
                        self.may_have_more = false;
                        return Err(error);
                    }
                }
            };
            let was_handshaking = self.is_handshaking();
            let bytes = &mut scratch[..start + count];
            let mut sink = Sink { buffers, next: 0, filled: 0, total: 0, rest: &mut self.plain };
            let had = self.sealed.len();
            let worked = with_peer!(&mut self.side, peer => {
                work(peer, bytes, &mut sink, &mut self.sealed)
            });
            let total = sink.total;
            self.kept.clear();
            self.kept.extend_from_slice(&bytes[worked.done..]);
            if self.kept.is_empty() {
                self.kept = Vec::new();
            }
            if worked.ended {
                self.input = Input::Ended;
            }
            if let Some(error) = worked.error {
                self.input = Input::Broken(error);
                // The alert is sent if the stream takes it; the error itself is known.
                let _ = self.push(io);
            } else if (self.sealed.len() > had || was_handshaking)
                && let Err(error) = self.push(io)
                && total == 0
                && self.plain.is_empty()
            {
                // With data at hand the peer's last bytes are read first: the next write fails as well.
                return Err(error);
            }
            if total > 0 || buffers.is_empty() && !self.plain.is_empty() {
                return Ok(total);
            }
            match &self.input {
                Input::Open => {}
                Input::Ended => return Ok(0),
                Input::Broken(error) => return Err(self.failure(error.clone())),
            }
            for_nothing += count;
            if was_handshaking && !self.is_handshaking() && buffers.is_empty() {
                return Ok(0);
            }
            // There is nothing for the caller, so the stream itself has to report that there is no more. Its end may have been
            // announced with these bytes, and would not be announced a second time.
            if for_nothing > MOST_FOR_NOTHING {
                return Err(self.break_off(for_nothing_at_all(), io));
            }
        }
    }

    /// The stream has ended. Without a word before, that may be somebody else's doing (RFC 8446, section 6.1); but what is
    /// carried here has an end of its own.
    fn end_of_stream(&mut self) -> io::Result<usize> {
        self.may_have_more = false;
        if self.is_handshaking() {
            return Err(early_end());
        }
        tracing::debug!(
            in_a_record = !self.kept.is_empty(),
            "the peer ended the stream without a TLS close_notify alert"
        );
        self.kept = Vec::new();
        self.input = Input::Ended;
        Ok(0)
    }

    /// The peer goes too far.
    fn break_off(&mut self, error: rustls::Error, io: &mut impl Transport) -> io::Error {
        self.input = Input::Broken(error.clone());
        let _ = self.push(io);
        self.failure(error)
    }

    fn failure(&self, error: rustls::Error) -> io::Error {
        TlsFailure { error, has_agreed: self.common().negotiated_cipher_suite().is_some() }.into()
    }
}

fn early_end() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the peer ended the stream during the TLS handshake")
}

fn too_long() -> rustls::Error {
    rustls::Error::General("a message of the handshake has no end".to_owned())
}

fn for_nothing_at_all() -> rustls::Error {
    rustls::Error::General("a megabyte of records has no data in it".to_owned())
}

/// Writing.
impl Session {
    /// Writes until the stream takes no more; nothing before the handshake is done.
    pub fn write(&mut self, io: &mut impl Transport, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.is_handshaking() && !self.handshake(io)? {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if !self.push(io)? {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if self.said_goodbye {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        // The byte that has left already.
        let skipped = usize::from(self.owes);
        let mut output = scratch::lend(PIECE + OVERHEAD);
        let result = self.seal(parts, skipped, &mut output).and_then(|(count, end)| {
            self.owes = false;
            self.send(io, &output[..end])?;
            Ok(count)
        });
        scratch::give_back(output);
        let count = skipped + result?;
        self.owes = !self.sealed.is_empty();
        match count - usize::from(self.owes) {
            0 if self.owes => Err(io::ErrorKind::WouldBlock.into()),
            count => Ok(count),
        }
    }

    /// Encrypts the first bytes behind those that are skipped. Returns how many, and where their records end.
    fn seal(
        &mut self,
        parts: &[IoSlice<'_>],
        mut skipped: usize,
        output: &mut Vec<u8>,
    ) -> io::Result<(usize, usize)> {
        let mut rest = parts.iter().filter_map(|part| {
            let here = skipped.min(part.len());
            skipped -= here;
            Some(&part[here..]).filter(|part| !part.is_empty())
        });
        let Some(first) = rest.next() else { return Ok((0, 0)) };
        let mut second = rest.next();
        if second.is_none() {
            let bytes = &first[..first.len().min(PIECE)];
            return Ok((bytes.len(), self.seal_one(bytes, output)?));
        }
        // Side by side: a header must not be a record of its own.
        let mut joined = scratch::lend(PIECE);
        let mut end = 0;
        let mut part = Some(first);
        while let Some(bytes) = part {
            let count = bytes.len().min(PIECE - end);
            joined[end..end + count].copy_from_slice(&bytes[..count]);
            end += count;
            part = second.take().or_else(|| rest.next()).filter(|_| end < PIECE);
        }
        let sealed = self.seal_one(&joined[..end], output);
        scratch::give_back(joined);
        Ok((end, sealed?))
    }

    fn seal_one(&mut self, bytes: &[u8], output: &mut Vec<u8>) -> io::Result<usize> {
        let sealed = with_peer!(&mut self.side, peer => seal(peer, &mut self.kept, Some(bytes), output));
        sealed.map_err(TlsFailure::io)
    }

    /// Sends what is encrypted; keeps what the stream does not take.
    fn send(&mut self, io: &mut impl Transport, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match io.write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.sealed.extend_from_slice(bytes);
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Sends encrypted bytes that wait, until the stream takes no more. Returns whether all have left.
    #[inline]
    pub fn push(&mut self, io: &mut impl Transport) -> io::Result<bool> {
        while self.left < self.sealed.len() {
            match io.write(&self.sealed[self.left..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => self.left += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        if self.left > 0 {
            (self.sealed, self.left) = (Vec::new(), 0);
        }
        Ok(true)
    }

    /// Tells the peer that nothing more will come. Whether that has left.
    pub fn say_goodbye(&mut self, io: &mut impl Transport) -> io::Result<bool> {
        if !self.said_goodbye && !self.is_handshaking() && !matches!(self.input, Input::Broken(_)) {
            self.said_goodbye = true;
            let mut output = scratch::lend(OVERHEAD);
            let sealed = with_peer!(&mut self.side, peer => seal(peer, &mut self.kept, None, &mut output));
            if let Ok(end) = sealed {
                self.sealed.extend_from_slice(&output[..end]);
            }
            scratch::give_back(output);
        }
        self.push(io)
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let common = self.common();
        f.debug_struct("Session")
            .field("version", &common.protocol_version())
            .field("is_handshaking", &common.is_handshaking())
            .finish_non_exhaustive()
    }
}

/// No less than what is lent: a read takes as much as a plain one does.
const _: () = assert!(SIZE >= PIECE);
