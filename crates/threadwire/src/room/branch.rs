//! A room on one thread: its members there, and the messages that were gathered for them.
//!
//! Nothing here calls back into the program, so a borrow may last for the length of a flush.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use threadwire_proto::OpCode;
use threadwire_worker::EventLoop;

use super::delivery::{Part, Report};
use super::homes::{Core, Stay};
use crate::connection::rooms::Given;
use crate::local::Local;
use crate::{Connection, WhenFull};

/// With this many bytes gathered, they leave without waiting for the loop's next turn.
const FLUSH_AT: usize = 128 << 10;

/// For how many messages there is room that is kept.
const PIECES_KEPT: usize = 64;

pub(crate) struct Branch {
    stay: Stay,
    members: RefCell<Vec<Member>>,
    gathered: RefCell<Gathered>,
}

/// Small, and all that it takes for most of them to pass on to the socket: they are read one after the other.
struct Member {
    ws: Connection,
    /// None for the connection's own.
    when_full: Option<WhenFull>,
    /// How many of the gathered messages are not for this one.
    excepted: u32,
}

/// Frames without a mask, to be written as they are to any number of sockets.
#[derive(Default)]
struct Gathered {
    bytes: Vec<u8>,
    pieces: Vec<Piece>,
}

/// One frame of them.
struct Piece {
    start: usize,
    /// Where its payload begins.
    payload: usize,
    end: usize,
    opcode: OpCode,
    /// Who does not get it. A member has this address as long as the piece is gathered, since to join flushes.
    except: Option<usize>,
    part: Part,
    report: Report,
}

/// A frame that was gathered: what a member needs of it that can't take it as a part of the whole.
#[derive(Clone, Copy)]
pub(crate) struct Framed<'a> {
    pub(crate) opcode: OpCode,
    /// Header and payload, not masked.
    pub(crate) frame: &'a [u8],
    pub(crate) payload: &'a [u8],
}

impl Branch {
    pub(super) fn new(core: &Arc<Core>) -> Branch {
        let stay = Stay::new(core, &EventLoop::current().remote());
        Branch { stay, members: RefCell::default(), gathered: RefCell::default() }
    }

    pub(super) fn core(&self) -> &Arc<Core> {
        self.stay.core()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members.borrow().is_empty()
    }

    pub(crate) fn has_gathered(&self) -> bool {
        !self.gathered.borrow().pieces.is_empty()
    }

    /// Takes a member in, at the place that this returns.
    pub(super) fn add(&self, ws: Connection, when_full: Option<WhenFull>) -> usize {
        self.core().members.fetch_add(1, Ordering::Relaxed);
        let mut members = self.members.borrow_mut();
        members.push(Member { ws, when_full, excepted: 0 });
        members.len() - 1
    }

    pub(super) fn set_policy(&self, place: usize, when_full: Option<WhenFull>) {
        self.members.borrow_mut()[place].when_full = when_full;
    }

    /// Takes a member out. Another one may have its place now: it is returned.
    pub(super) fn remove(&self, place: usize) -> Option<Connection> {
        self.core().members.fetch_sub(1, Ordering::Relaxed);
        let mut members = self.members.borrow_mut();
        let removed = members.swap_remove(place);
        let moved = members.get(place).map(|member| member.ws.clone());
        // It may be the last that is left of a connection.
        drop(members);
        drop(removed);
        moved
    }

    /// The member that came last, if there is one.
    pub(super) fn last(&self) -> Option<Connection> {
        self.members.borrow().last().map(|member| member.ws.clone())
    }

    #[cfg(test)]
    pub(super) fn excepts_nobody(&self) -> bool {
        self.members.borrow().iter().all(|member| member.excepted == 0)
    }

    /// Puts a message behind those that are gathered. True if it is too much to wait with.
    pub(super) fn gather(
        &self,
        (header, payload): (&[u8], &[u8]),
        opcode: OpCode,
        except: Option<&Connection>,
        part: Part,
        local: &Local,
    ) -> bool {
        let place = except.and_then(|ws| ws.place_in(self));
        if let Some(place) = place {
            self.members.borrow_mut()[place].excepted += 1;
        }
        let except = place.and(except).map(Connection::address);
        let mut gathered = self.gathered.borrow_mut();
        let Gathered { bytes, pieces } = &mut *gathered;
        if bytes.capacity() == 0 {
            *bytes = local.lend_output();
        }
        let start = bytes.len();
        bytes.extend_from_slice(header);
        bytes.extend_from_slice(payload);
        let (payload, end) = (start + header.len(), bytes.len());
        pieces.push(Piece { start, payload, end, opcode, except, part, report: Report::default() });
        end >= FLUSH_AT
    }

    /// Hands what was gathered to the members.
    pub(crate) fn flush(&self, local: &Local) {
        if !self.has_gathered() {
            return;
        }
        let Gathered { bytes, mut pieces } = self.gathered.take();
        let mut got_all = 0;
        for member in self.members.borrow_mut().iter_mut() {
            let mut taken = 0;
            if member.excepted == 0 {
                taken = member.ws.offer(&bytes);
                if taken == bytes.len() {
                    got_all += 1;
                    continue;
                }
            }
            member.serve(&bytes, &mut pieces, taken);
        }
        local.return_output(bytes);
        let mut total = Report::default();
        for piece in &mut pieces {
            piece.report.delivered += got_all;
            total += piece.report;
        }
        self.core().totals.add(total);
        for piece in pieces.drain(..) {
            piece.part.finish(piece.report);
        }
        let mut gathered = self.gathered.borrow_mut();
        if gathered.pieces.capacity() == 0 && pieces.capacity() <= PIECES_KEPT {
            gathered.pieces = pieces;
        }
    }
}

impl Member {
    /// Hands the messages over one by one, of which so many bytes have left already.
    #[cold]
    fn serve(&mut self, bytes: &[u8], pieces: &mut [Piece], taken: usize) {
        self.excepted = 0;
        let address = self.ws.address();
        for piece in pieces {
            let given = if piece.except == Some(address) {
                continue;
            } else if piece.end <= taken {
                Given::Delivered
            } else if piece.start < taken {
                self.ws.give_rest(&bytes[taken..piece.end]);
                Given::Delivered
            } else {
                let Piece { start, payload, end, opcode, .. } = *piece;
                let framed = Framed { opcode, frame: &bytes[start..end], payload: &bytes[payload..end] };
                self.ws.give(framed, self.when_full)
            };
            let report = &mut piece.report;
            match given {
                Given::Delivered => report.delivered += 1,
                Given::Dropped => report.dropped += 1,
                Given::Skipped => report.skipped += 1,
            }
        }
    }
}

/// The place of a member in a room: part of the connection.
pub(crate) struct Seat {
    pub(crate) branch: Rc<Branch>,
    pub(crate) place: usize,
}
