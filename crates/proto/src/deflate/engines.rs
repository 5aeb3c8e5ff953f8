//! Compression engines of a thread, shared by all its connections, and kept within a budget.
//!
//! An engine that has done a message is put on a shelf, and the connection gets a ticket for it. If nobody else has taken
//! it when the connection's next message comes, it goes on where it was: that costs nothing. Otherwise, for the same
//! price in memory whatever the number of connections, another engine is reset and primed with the end of what the
//! connection has said.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};

use zlib_rs::{DeflateConfig, DeflateFlush, InflateFlush, Status};

use super::budget::{self, Share};
use super::history::History;

/// The engines that wait, and memory to work in.
#[derive(Debug, Default)]
pub(crate) struct Engines {
    pub(super) deflate: Shelf<DeflateEngine>,
    pub(super) inflate: Shelf<InflateEngine>,
    /// Scratch memory for output, all of it initialised.
    pub(super) scratch: Vec<u8>,
}

/// The common ground of engines of both directions.
pub(super) trait Engine {
    /// The kind of the engine: engines of the same kind can stand in for each other.
    type Kind: Copy + PartialEq;

    fn make(kind: Self::Kind) -> Self;
    fn kind(&self) -> Self::Kind;
    /// About how many bytes one takes.
    fn size(kind: Self::Kind) -> usize;
    /// Forgets all that was said.
    fn reset(&mut self);
    /// Primes the engine with earlier messages, behind those that it knows.
    fn prime(&mut self, said: &[u8]);
}

/// Engines that wait for their connections, or for others.
#[derive(Debug)]
pub(super) struct Shelf<E> {
    /// The number of the shelf, unique over all threads.
    number: u32,
    places: Vec<Option<ShelvedEngine<E>>>,
    /// The places where none is: the last one first.
    vacant: Vec<u32>,
    /// The number of times that an engine was put here.
    clock: u64,
}

#[derive(Debug)]
struct ShelvedEngine<E> {
    engine: E,
    /// The time at which the engine was put here; 0 if no ticket asks for it as it is.
    since: u64,
}

/// Says where an engine waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticket {
    shelf: u32,
    place: u32,
    since: u64,
}

impl<E> Default for Shelf<E> {
    fn default() -> Shelf<E> {
        static SHELVES: AtomicU32 = AtomicU32::new(0);
        Shelf {
            number: SHELVES.fetch_add(1, Ordering::Relaxed),
            places: Vec::new(),
            vacant: Vec::new(),
            clock: 0,
        }
    }
}

impl<E: Engine> Shelf<E> {
    /// The engine of a ticket, as it was left; or another one of that kind that is primed with the window.
    #[inline]
    pub(super) fn take(&mut self, kind: E::Kind, ticket: Option<Ticket>, history: &History) -> E {
        if let Some(ticket) = ticket.filter(|ticket| ticket.shelf == self.number)
            && let Some(place) = self.places.get_mut(ticket.place as usize)
            && let Some(kept) = place.take_if(|kept| kept.since == ticket.since)
        {
            self.vacant.push(ticket.place);
            return kept.engine;
        }
        let mut engine = self.any(kind);
        for said in history.parts().into_iter().filter(|said| !said.is_empty()) {
            engine.prime(said);
        }
        engine
    }

    /// An engine that knows of nothing.
    pub(super) fn any(&mut self, kind: E::Kind) -> E {
        let kept = self.places.iter().enumerate().filter_map(|(place, kept)| Some((place, kept.as_ref()?)));
        let same = kept.clone().filter(|(_, kept)| kept.engine.kind() == kind);
        let oldest = same.min_by_key(|(_, kept)| kept.since);
        let is_short = budget::is_exceeded_by(E::size(kind));
        let forgotten = self.forgotten();
        let (place, makes_room) = match oldest {
            Some((place, kept)) if is_short || kept.since <= forgotten => (Some(place), false),
            _ if is_short => (kept.min_by_key(|(_, kept)| kept.since).map(|(place, _)| place), true),
            _ => (None, false),
        };
        let taken = place.and_then(|place| self.places[place].take());
        if let (Some(place), Some(_)) = (place, &taken) {
            self.vacant.push(place as u32);
        }
        match taken.filter(|_| !makes_room) {
            Some(ShelvedEngine { mut engine, .. }) => {
                engine.reset();
                engine
            }
            None => E::make(kind),
        }
    }

    /// Puts an engine back that may be asked for as it is.
    #[inline]
    pub(super) fn keep(&mut self, engine: E) -> Option<Ticket> {
        self.clock += 1;
        let since = self.clock;
        let place = self.put(ShelvedEngine { engine, since })?;
        Some(Ticket { shelf: self.number, place, since })
    }

    /// Puts an engine back that knows nothing that anybody needs.
    #[inline]
    pub(super) fn release(&mut self, engine: E) {
        self.put(ShelvedEngine { engine, since: 0 });
    }

    /// What was put here up to this time, and not asked for while all others were, several times over, will hardly be soon:
    /// perhaps its connection is no more.
    fn forgotten(&self) -> u64 {
        self.clock.saturating_sub(4 * self.places.len() as u64 + 64)
    }

    /// Gives an engine up that was forgotten. False if there is none.
    fn give_up_forgotten(&mut self) -> bool {
        let forgotten = self.forgotten();
        let is_forgotten =
            |kept: &Option<ShelvedEngine<E>>| kept.as_ref().is_some_and(|kept| kept.since <= forgotten);
        let Some(place) = self.places.iter().position(is_forgotten) else { return false };
        self.places[place] = None;
        self.vacant.push(place as u32);
        true
    }

    fn put(&mut self, kept: ShelvedEngine<E>) -> Option<u32> {
        // One is kept in any case, so that no thread has to make one for each message.
        let is_first = self.places.len() == self.vacant.len();
        if !is_first && budget::is_exceeded_by(0) && !self.give_up_forgotten() {
            return None;
        }
        match self.vacant.pop() {
            Some(place) => {
                self.places[place as usize] = Some(kept);
                Some(place)
            }
            None => {
                self.places.push(Some(kept));
                Some((self.places.len() - 1) as u32)
            }
        }
    }
}

/// The settings that a deflate engine was made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct DeflateKind {
    pub(super) window_bits: u8,
    pub(super) level: u8,
    pub(super) mem_level: u8,
}

pub(super) struct DeflateEngine {
    /// Boxed, as an engine moves with each message, and each connection has room for one.
    engine: Box<zlib_rs::Deflate>,
    kind: DeflateKind,
    _share: Share,
}

impl DeflateEngine {
    /// Compresses all of it into `out` from `made` on, up to a byte's end that the peer can read to. Returns how far it has come
    /// then. `out` grows as needed.
    pub(super) fn run(&mut self, mut said: &[u8], mut made: usize, out: &mut Vec<u8>) -> usize {
        loop {
            // Once that is enough, nearly always; and always more than a flush takes, which would be begun anew otherwise.
            let room = said.len() + said.len() / 8 + 64;
            if out.len() < made + room {
                out.resize(made + room, 0);
            }
            let (before_in, before_out) = (self.engine.total_in(), self.engine.total_out());
            let status = self.engine.compress(said, &mut out[made..], DeflateFlush::SyncFlush);
            debug_assert!(matches!(status, Ok(Status::Ok | Status::BufError)), "{status:?}");
            said = &said[(self.engine.total_in() - before_in) as usize..];
            made += (self.engine.total_out() - before_out) as usize;
            if said.is_empty() && made < out.len() {
                return made;
            }
        }
    }
}

impl Engine for DeflateEngine {
    type Kind = DeflateKind;

    fn make(kind: DeflateKind) -> DeflateEngine {
        let mut config = DeflateConfig::new(i32::from(kind.level));
        config.window_bits = -i32::from(kind.window_bits);
        config.mem_level = i32::from(kind.mem_level);
        let engine = Box::new(zlib_rs::Deflate::new_with_config(config));
        DeflateEngine { engine, kind, _share: Share::of(DeflateEngine::size(kind)) }
    }

    fn kind(&self) -> DeflateKind {
        self.kind
    }

    /// The window twice, a link for each of its bytes, the hash table (which has the same size for every setting), the
    /// symbols of a block, the codes.
    fn size(kind: DeflateKind) -> usize {
        (4 << kind.window_bits) + (128 << 10) + (7 << (kind.mem_level + 6)) + (13 << 8)
    }

    fn reset(&mut self) {
        self.engine.reset();
    }

    fn prime(&mut self, said: &[u8]) {
        let primed = self.engine.set_dictionary(said);
        debug_assert!(primed.is_ok(), "{primed:?}");
    }
}

pub(super) struct InflateEngine {
    /// Boxed for the same reason as that of [`DeflateEngine`].
    engine: Box<zlib_rs::Inflate>,
    _share: Share,
}

/// The outcome of a call to [`InflateEngine::run`].
pub(super) struct Inflated {
    /// The number of bytes of the input that were used.
    pub(super) used: usize,
    /// The number of bytes that were made.
    pub(super) made: usize,
    /// Whether a stream has ended: with a block that is marked as the final one.
    pub(super) is_end: bool,
}

impl InflateEngine {
    /// Goes on as far as input and room last. The error is zlib's description of the problem with the input.
    pub(super) fn run(&mut self, input: &[u8], room: &mut [u8]) -> Result<Inflated, &'static str> {
        self.go(input, room, InflateFlush::SyncFlush)
    }

    fn go(&mut self, input: &[u8], room: &mut [u8], flush: InflateFlush) -> Result<Inflated, &'static str> {
        let (before_in, before_out) = (self.engine.total_in(), self.engine.total_out());
        let status = self.engine.decompress(input, room, flush);
        let used = (self.engine.total_in() - before_in) as usize;
        let made = (self.engine.total_out() - before_out) as usize;
        match status {
            Ok(status) => Ok(Inflated { used, made, is_end: status == Status::StreamEnd }),
            Err(_) => Err(self.engine.error_message().unwrap_or("it is no deflate stream")),
        }
    }

    /// Goes on by bytes that the peer has left out, which must end a block and say nothing. (If they don't, the engine is good for nothing
    /// any more.)
    pub(super) fn end_of_block(&mut self, left_out: &[u8]) -> EndOfBlock {
        // The engine is to stop at the end of the block, and so not to look at the byte behind it.
        let mut input = [0; 6];
        input[..left_out.len()].copy_from_slice(left_out);
        let before = self.engine.total_in();
        let ended = self.go(&input[..left_out.len() + 1], &mut [0; 8], InflateFlush::Block);
        let used = (self.engine.total_in() - before) as usize;
        match ended {
            Ok(ended) if used == left_out.len() && ended.made == 0 && !ended.is_end => EndOfBlock::Reached,
            Err("invalid stored block lengths") => EndOfBlock::BadLengths { used },
            _ => EndOfBlock::Elsewhere,
        }
    }
}

/// Where [`InflateEngine::end_of_block`] has come to.
pub(super) enum EndOfBlock {
    /// The end of a block that says nothing.
    Reached,
    /// The lengths of a stored block, which these bytes complete, and which contradict each other.
    BadLengths {
        used: usize,
    },
    Elsewhere,
}

impl Engine for InflateEngine {
    type Kind = ();

    /// The largest window: it takes what was made for any other.
    fn make((): ()) -> InflateEngine {
        let engine = Box::new(zlib_rs::Inflate::new(false, 15));
        InflateEngine { engine, _share: Share::of(InflateEngine::size(())) }
    }

    fn kind(&self) {}

    /// The window, and the tables of two codes.
    fn size((): ()) -> usize {
        47 << 10
    }

    fn reset(&mut self) {
        self.engine.reset(false);
    }

    fn prime(&mut self, said: &[u8]) {
        let primed = self.engine.set_dictionary(said);
        debug_assert!(primed.is_ok(), "{primed:?}");
    }
}

impl fmt::Debug for DeflateEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DeflateEngine").field(&self.kind).finish()
    }
}

impl fmt::Debug for InflateEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InflateEngine")
    }
}
