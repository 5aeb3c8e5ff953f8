//! A room on one thread: its members there, and the messages that were gathered for them.
//!
//! Nothing here calls back into the program, so a borrow may last for the length of a flush.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use threadwire_proto::{Compress, OpCode};
use threadwire_worker::EventLoop;

use super::compressed::{Deflated, Variant, Variants};
use super::delivery::{Part, Report};
use super::member::Given;
use super::table::Rooms;
use super::threads::{Core, Stay};
use crate::connection::writing::FLUSH_AT;
use crate::{Connection, WhenFull};
use threadwire_core::session::buffers::Buffers;
use threadwire_core::session::send::Framed;

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
pub(super) struct Gathered {
    pub(super) bytes: Vec<u8>,
    pub(super) pieces: Vec<Piece>,
}

/// One frame of them.
pub(super) struct Piece {
    pub(super) span: Span,
    /// Where its payload begins.
    pub(super) payload: usize,
    pub(super) opcode: OpCode,
    pub(super) compress: Compress,
    /// What the threads of the room share of it; none if there is but one.
    pub(super) deflated: Option<Arc<Deflated>>,
    /// Who does not get it. A member has this address as long as the piece is gathered, since to join flushes.
    except: Option<usize>,
    part: Part,
    report: Report,
}

/// Where a frame lies.
#[derive(Clone, Copy)]
pub(super) struct Span {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) is_compressed: bool,
}

/// A message on its way to a room's members.
#[derive(Clone)]
pub(super) struct Letter<'a> {
    pub(super) opcode: OpCode,
    pub(super) header: &'a [u8],
    pub(super) payload: &'a [u8],
    pub(super) compress: Compress,
    /// What the threads of the room share of it; none if there is but one.
    pub(super) deflated: Option<Arc<Deflated>>,
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
        self.stay.road().members.fetch_add(1, Ordering::Relaxed);
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
        self.stay.road().members.fetch_sub(1, Ordering::Relaxed);
        let mut members = self.members.borrow_mut();
        let removed = members.swap_remove(place);
        let moved = members.get(place).map(|member| member.ws.clone());
        // The removed member may be the last owner of its connection.
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
        letter: Letter<'_>,
        except: Option<&Connection>,
        part: Part,
        buffers: &Buffers,
    ) -> bool {
        let place = except.and_then(|ws| ws.place_in(self));
        if let Some(place) = place {
            self.members.borrow_mut()[place].excepted += 1;
        }
        let except = place.and(except).map(Connection::address);
        let mut gathered = self.gathered.borrow_mut();
        let Gathered { bytes, pieces } = &mut *gathered;
        if bytes.capacity() == 0 {
            *bytes = buffers.lend_output();
        }
        let Letter { opcode, header, payload, compress, deflated } = letter;
        let start = bytes.len();
        bytes.extend_from_slice(header);
        bytes.extend_from_slice(payload);
        let (payload, end) = (start + header.len(), bytes.len());
        let span = Span { start, end, is_compressed: false };
        let report = Report::default();
        pieces.push(Piece { span, payload, opcode, compress, deflated, except, part, report });
        end >= FLUSH_AT
    }

    /// Hands what was gathered to the members.
    pub(crate) fn flush(&self, buffers: &Buffers) {
        if !self.has_gathered() {
            return;
        }
        let mut gathered = self.gathered.take();
        let mut variants = Variants::default();
        let mut got_all = 0;
        for member in self.members.borrow_mut().iter_mut() {
            let variant = member.ws.sharing().map(|sharing| variants.of(sharing, &gathered, buffers));
            let bytes = variant.map_or(&gathered.bytes, |variant| &variant.bytes);
            let mut taken = 0;
            if member.excepted == 0 {
                taken = member.ws.offer(bytes);
                if taken > 0 && variant.is_some() {
                    member.ws.sent_shared();
                }
                if taken == bytes.len() {
                    got_all += 1;
                    continue;
                }
            }
            member.serve(&mut gathered, variant, taken);
        }
        variants.recycle(buffers);
        let Gathered { bytes, mut pieces } = gathered;
        buffers.return_output(bytes);
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
    fn serve(&mut self, gathered: &mut Gathered, variant: Option<&Variant>, taken: usize) {
        self.excepted = 0;
        let address = self.ws.address();
        let plain = &gathered.bytes;
        let bytes = variant.map_or(plain, |variant| &variant.bytes);
        for (number, piece) in gathered.pieces.iter_mut().enumerate() {
            let Span { start, end, is_compressed } =
                variant.map_or(piece.span, |variant| variant.spans[number]);
            let given = if piece.except == Some(address) {
                continue;
            } else if end <= taken {
                Given::Delivered
            } else if start < taken {
                self.ws.give_rest(&bytes[taken..end]);
                Given::Delivered
            } else {
                let Piece { opcode, payload, compress, .. } = *piece;
                let (frame, payload) = (&bytes[start..end], &plain[payload..piece.span.end]);
                let framed = Framed { opcode, frame, is_compressed, payload, compress };
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
    pub(super) rooms: Rc<Rooms>,
    pub(crate) branch: Rc<Branch>,
    pub(crate) place: usize,
}
