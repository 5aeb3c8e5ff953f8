//! The decompressor of a connection: inflate of incoming messages (RFC 7692, section 7.2.2).

use super::engines::{EndOfBlock, Engine, InflateEngine, Inflated, Ticket};
use super::history::History;
use super::{Agreement, Engines, TAIL};
use crate::{Buffer, Role, Violation};

/// The largest window of any stream, in bytes.
const LARGEST_WINDOW: usize = 32 << 10;

/// The most streams that one message may consist of: to begin another costs thousands of times the two bytes that ask for it.
const MOST_STREAMS: u8 = 64;

/// The work of one turn, counted in bytes that are made of what has arrived: about 0.1 ms. 65 KB of input can be the front of 64 MB.
pub(crate) const TURN: usize = 64 << 10;

/// So much input is looked at before the work is counted.
const PIECE: usize = 4 << 10;

/// What costs time beside the bytes that are made, in such bytes: a byte of input, as blocks that say nothing have headers all the same; a
/// frame; another stream.
const COST_OF_INPUT: usize = 4;
const COST_OF_FRAME: usize = 256;
const COST_OF_STREAM: usize = 2 << 10;

/// Room is made for at least so many bytes: smaller buffers are not used again.
const SMALLEST_ROOM: usize = 4 << 10;

/// A stored block of nothing: what a compressor ends a message with, of which all but the first byte is the tail.
const EMPTY_BLOCK: [u8; 1 + TAIL.len()] = [0, 0, 0, 0xff, 0xff];

/// Bytes that are no part of a tail, where the input has no more.
const NO_TAIL: [u8; TAIL.len()] = [1; TAIL.len()];

/// The receiving half.
#[derive(Debug)]
pub(crate) struct Decompressor {
    takeover: bool,
    window_bits: u8,
    /// The window of earlier messages; without takeover only of the message that is arriving.
    history: History,
    ticket: Option<Ticket>,
    /// The engine of the message that is arriving.
    under_way: Option<InflateEngine>,
    /// Whether the last block was marked as the final one of its stream. Another stream may follow (RFC 7692, section 7.2.3.4).
    is_at_end: bool,
    /// The number of streams that the message has begun anew.
    restarts: u8,
    /// The place in the output where the frame begins that is arriving.
    frame: usize,
    /// The last bytes of the message's input, the latest one last.
    last: [u8; TAIL.len()],
    /// The work since the turn began.
    work: usize,
    /// Whether the turn is over, and more input is there.
    is_paused: bool,
}

/// The buffer for inflated bytes, with its limit.
pub(crate) struct InflateBuffer<'a> {
    pub(crate) body: &'a mut Buffer,
    /// The limit on all inflated bytes of the message.
    pub(crate) limit: usize,
}

impl Decompressor {
    pub(crate) fn new(role: Role, agreement: Agreement) -> Decompressor {
        let (window_bits, no_takeover) = match role {
            Role::Server => (agreement.client_max_window_bits, agreement.client_no_context_takeover),
            Role::Client => (agreement.server_max_window_bits, agreement.server_no_context_takeover),
        };
        Decompressor {
            takeover: !no_takeover,
            // A peer of zlib's family that was asked for 8 does 9.
            window_bits: window_bits.max(9),
            history: History::default(),
            ticket: None,
            under_way: None,
            is_at_end: false,
            restarts: 0,
            frame: 0,
            last: NO_TAIL,
            work: 0,
            is_paused: false,
        }
    }

    /// Whether there is work left for this turn. If not, the next call begins another turn.
    #[inline]
    pub(crate) fn may_go_on(&mut self) -> bool {
        if std::mem::take(&mut self.is_paused) {
            self.work = 0;
        }
        self.is_paused = self.work >= TURN;
        !self.is_paused
    }

    /// All input is used up: what comes next is for another turn in any case.
    pub(crate) fn end_turn(&mut self) {
        self.work = 0;
        self.is_paused = false;
    }

    /// A frame begins, whose bytes will lie from there on.
    pub(crate) fn begin_frame(&mut self, at: usize) {
        self.frame = at;
        self.work += COST_OF_FRAME;
    }

    /// Inflates the part of a frame that has arrived, or as much of it as is work for one turn: the next call begins another turn then.
    /// Returns how much was used.
    ///
    /// # Errors
    ///
    /// [`Violation::CorruptDeflate`], or [`Violation::InflatedTooLong`] as soon as it is more than the limit.
    pub(crate) fn inflate(
        &mut self,
        input: &[u8],
        output: &mut InflateBuffer<'_>,
        engines: &mut Engines,
    ) -> Result<usize, Violation> {
        if !self.may_go_on() && !input.is_empty() {
            return Ok(0);
        }
        let mut engine = self.engine(engines);
        let used = self.run(&mut engine, input, output);
        self.remember(&input[..*used.as_ref().unwrap_or(&0)]);
        self.under_way = Some(engine);
        self.is_paused = used.as_ref().is_ok_and(|used| *used < input.len());
        used
    }

    fn remember(&mut self, input: &[u8]) {
        let new = &input[input.len().saturating_sub(self.last.len())..];
        self.last.rotate_left(new.len());
        let old = self.last.len() - new.len();
        self.last[old..].copy_from_slice(new);
    }

    /// The engine of the message that is arriving.
    fn engine(&mut self, engines: &mut Engines) -> InflateEngine {
        match self.under_way.take() {
            Some(engine) => engine,
            None => engines.inflate.take((), self.ticket.take(), &self.history),
        }
    }

    fn run(
        &mut self,
        engine: &mut InflateEngine,
        input: &[u8],
        output: &mut InflateBuffer<'_>,
    ) -> Result<usize, Violation> {
        let mut rest = input;
        loop {
            if self.is_at_end {
                if rest.is_empty() {
                    return Ok(input.len());
                }
                self.restarts += 1;
                if self.restarts > MOST_STREAMS {
                    return Err(Violation::CorruptDeflate("it has too many last blocks"));
                }
                self.work += COST_OF_STREAM;
                self.restart(engine, &output.body[self.frame..]);
            }
            // What the engine still has to say of input that is used up is little, and no more input would bring it.
            let left = TURN.saturating_sub(self.work);
            if left == 0 && !rest.is_empty() {
                return Ok(input.len() - rest.len());
            }
            let piece = &rest[..rest.len().min(PIECE)];
            let wanted = (4 * piece.len()).max(SMALLEST_ROOM);
            // One byte more than there may be, to see that there is more.
            let room = output.body.room_within(wanted, output.limit.saturating_add(1));
            let size = if rest.is_empty() { room.len() } else { room.len().min(left) };
            let Inflated { used, made, is_end } =
                engine.run(piece, &mut room[..size]).map_err(Violation::CorruptDeflate)?;
            output.body.commit(made);
            if output.body.len() > output.limit {
                return Err(Violation::InflatedTooLong { limit: output.limit });
            }
            self.work += made + COST_OF_INPUT * used;
            rest = &rest[used..];
            self.is_at_end = is_end;
            if rest.is_empty() && (made < size || is_end) {
                return Ok(input.len());
            }
        }
    }

    /// Another stream follows, which may refer to the window all the same.
    fn restart(&mut self, engine: &mut InflateEngine, frame: &[u8]) {
        self.is_at_end = false;
        engine.reset();
        let mut parts = self.history.parts().into_iter().chain([frame]).collect::<Vec<_>>();
        // No more than can be referred to, which is the end of it.
        let mut left = LARGEST_WINDOW;
        for said in parts.iter_mut().rev() {
            *said = &said[said.len().saturating_sub(left)..];
            left -= said.len();
        }
        parts.into_iter().filter(|said| !said.is_empty()).for_each(|said| engine.prime(said));
    }

    /// A frame has arrived; `fin` if its message has.
    ///
    /// # Errors
    ///
    /// As [`inflate`](Decompressor::inflate); and if the message is not at the end of a block.
    pub(crate) fn end_frame(
        &mut self,
        fin: bool,
        output: &mut InflateBuffer<'_>,
        engines: &mut Engines,
    ) -> Result<(), Violation> {
        if fin {
            // Even a message of no bytes is the end of one.
            let mut engine = self.engine(engines);
            self.end_message(&mut engine, output)?;
            self.restarts = 0;
            self.last = NO_TAIL;
            if self.takeover {
                self.ticket = engines.inflate.keep(engine);
            } else {
                engines.inflate.release(engine);
                self.history.clear();
                return Ok(());
            }
        }
        self.history.append(&output.body[self.frame..], 1 << self.window_bits);
        Ok(())
    }

    /// The message is at its end. Some peers leave the tail there, or a part of it: that is one message and no other all the same, as
    /// the engine knows how much of the tail it has seen.
    fn end_message(
        &mut self,
        engine: &mut InflateEngine,
        output: &mut InflateBuffer<'_>,
    ) -> Result<(), Violation> {
        if self.is_at_end {
            // Some peers leave out the empty block that belongs behind a final one.
            self.restart(engine, &output.body[self.frame..]);
            return Ok(());
        }
        let end = match self.last {
            TAIL => engine.end_of_block(&EMPTY_BLOCK),
            [.., 0, 0, 0xff] => engine.end_of_block(&TAIL[3..]),
            _ => engine.end_of_block(&TAIL),
        };
        match (end, self.last) {
            (EndOfBlock::Reached, _) => Ok(()),
            // The lengths of the empty block had begun. The engine can't go on; but nothing comes behind that block.
            (EndOfBlock::BadLengths { used: 3 }, [.., 0])
            | (EndOfBlock::BadLengths { used: 2 }, [.., 0, 0]) => {
                self.restart(engine, &output.body[self.frame..]);
                Ok(())
            }
            _ => Err(Violation::DeflateCut),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deflate::Deflate;

    fn server() -> Decompressor {
        let deflate = Deflate::new();
        let agreement = deflate.answer(&[deflate.offer()]).expect("it takes its own offers");
        Decompressor::new(Role::Server, agreement)
    }

    /// How often input has to be passed until it is used up. Never is more made at a time than is for one turn.
    fn turns(mut input: &[u8], limit: usize) -> (usize, usize) {
        let (mut inflate, mut engines, mut body) = (server(), Engines::default(), Buffer::default());
        inflate.begin_frame(0);
        for turns in 1.. {
            let before = body.len();
            let mut output = InflateBuffer { body: &mut body, limit };
            let used = inflate.inflate(input, &mut output, &mut engines).expect("it is fine");
            assert!(body.len() - before <= TURN + SMALLEST_ROOM, "{}", body.len() - before);
            input = &input[used..];
            if input.is_empty() {
                return (turns, body.len());
            }
        }
        unreachable!()
    }

    #[test]
    fn a_bomb_takes_many_turns_and_none_of_them_is_long() {
        let mut engine = super::super::engines::DeflateEngine::make(super::super::engines::DeflateKind {
            window_bits: 12,
            level: 9,
            mem_level: 9,
        });
        let mut bomb = Vec::new();
        let made = engine.run(&vec![0; 8 << 20], 0, &mut bomb);
        let (turns, length) = turns(&bomb[..made], 16 << 20);
        assert_eq!(length, 8 << 20);
        assert!((128..200).contains(&turns), "{turns}");
    }

    #[test]
    fn so_do_blocks_that_say_nothing() {
        let empty = EMPTY_BLOCK.repeat(64 << 10);
        let (turns, length) = turns(&empty, 1 << 20);
        assert_eq!(length, 0);
        assert!(turns >= empty.len() * COST_OF_INPUT / (2 * TURN), "{turns}");
    }
}
