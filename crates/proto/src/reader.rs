//! The receiving half of a connection: bytes in, frames or whole messages out.
//!
//! A frame that lies whole in the input is unmasked there and lent out. Everything else - a header cut in two, a
//! payload of which a part has arrived, the fragments of a message - is kept here: unmasked and checked as it
//! arrives, so that no byte is looked at twice and text fails at the byte that breaks it.

use std::mem;

use crate::assembly::Assembly;
use crate::{
    Buffer, Config, Frame, Level, Limits, Message, OpCode, Pool, Role, Violation,
    deflate::{Decompressor, InflateBuffer},
    frame::{Header, Payload},
    mask, utf8,
};

/// Turns received bytes into checked frames, or into whole messages (see [`Level`]).
///
/// ```
/// use threadwire_proto::{Config, OpCode, Pool, Reader, Role};
///
/// let mut reader = Reader::new(Role::Client, &Config::default());
/// let mut pool = Pool::new();
/// let mut wire = *b"\x81\x02hi\x82";
/// let mut input = &mut wire[..];
/// let frame = reader.next(&mut input, &mut pool)?.unwrap();
/// assert_eq!((frame.opcode(), frame.payload()), (OpCode::Text, &b"hi"[..]));
/// assert!(reader.next(&mut input, &mut pool)?.is_none(), "the second frame has only begun");
/// assert!(!reader.is_idle());
/// # Ok::<(), threadwire_proto::Violation>(())
/// ```
#[derive(Debug)]
pub struct Reader {
    role: Role,
    level: Level,
    limits: Limits,
    assembly: Assembly,
    /// The front of a header that has not arrived whole: `head_size` bytes of it.
    head: [u8; Header::MAX_SIZE],
    head_size: u8,
    arriving: Option<Arriving>,
    /// The payload so far of the data frame that is arriving; of the whole message at [`Level::Messages`].
    body: Buffer,
    /// Bytes at the end of `body`'s room that were read there directly and not looked at yet.
    unread: usize,
    /// Whether more of what is incomplete has arrived since that was asked for.
    has_moved: bool,
    /// The payload so far of the control frame that is arriving, perhaps between the fragments of a message. In a box, as it is
    /// hardly ever needed.
    control: Option<Box<Buffer>>,
    /// If messages may be compressed.
    inflate: Option<Box<Decompressor>>,
}

/// A frame whose header is known and whose payload is still arriving.
#[derive(Debug)]
struct Arriving {
    /// The mask in it is turned to fit the next byte.
    header: Header,
    /// The opcode of the message it belongs to; its own if it is a control frame.
    opcode: OpCode,
    /// Bytes of payload still to come.
    missing: u64,
    is_compressed: bool,
}

impl Reader {
    /// Below this many bytes, the missing part of a payload is not worth a buffer of its own in a vectored read.
    const DIRECT: u64 = 4096;

    /// A reader at the beginning of a connection, of which this end has the role `role`.
    pub fn new(role: Role, config: &Config) -> Reader {
        Reader {
            role,
            level: config.level,
            limits: config.limits,
            assembly: Assembly::default(),
            head: [0; Header::MAX_SIZE],
            head_size: 0,
            arriving: None,
            body: Buffer::default(),
            unread: 0,
            has_moved: false,
            control: None,
            inflate: None,
        }
    }

    /// Messages may be compressed from now on.
    pub(crate) fn set_inflate(&mut self, inflate: Decompressor) {
        self.inflate = Some(Box::new(inflate));
    }

    /// Takes the next frame off the front of `input`; `None` when the input is used up. What a frame lacks is
    /// expected at the front of the next input.
    ///
    /// Where messages are compressed, little input can be a lot of work. So `None` with input that is not used up says that this was as much
    /// as one turn is for: what is left is to be passed again, in front of what comes behind it, when others have
    /// had their turn.
    ///
    /// # Errors
    ///
    /// The [`Violation`] that the peer is guilty of. After it the reader must not be used again: where the next frame
    /// would begin is not known.
    #[inline]
    pub fn next<'b>(
        &mut self,
        input: &mut &'b mut [u8],
        pool: &mut Pool,
    ) -> Result<Option<Frame<'b>>, Violation> {
        loop {
            if self.arriving.is_none() {
                if self.is_turn_over() && !input.is_empty() {
                    return Ok(None);
                }
                let Some(header) = self.header(input)? else { return Ok(None) };
                let opcode = self.check(&header)?;
                let joins = !opcode.is_control()
                    && (self.assembly.is_compressed()
                        || self.level == Level::Messages
                            && (!header.fin || header.opcode == OpCode::Continuation));
                if !joins && header.length <= input.len() as u64 {
                    return self.lend(header, opcode, input).map(Some);
                }
                self.expect(header, opcode, pool);
            }
            match self.arrive(input, pool)? {
                Arrival::Frame(frame) => return Ok(Some(frame)),
                Arrival::Fragment => {}
                Arrival::Partial => return Ok(None),
            }
        }
    }

    /// Takes a whole message off the front of `input`, if it lies there in one frame: by far the commonest case, made
    /// short. `None` if anything else comes next, or if nothing does; nothing has happened then, and
    /// [`next`](Reader::next) deals with it. Always `None` at [`Level::Frames`].
    #[inline]
    pub fn whole_message<'b>(&mut self, input: &mut &'b mut [u8]) -> Option<Message<'b>> {
        if !self.is_idle() || self.level == Level::Frames {
            return None;
        }
        let (header, size) = Header::parse(input).ok()??;
        let is_text = header.opcode == OpCode::Text;
        let is_plain = header.fin
            && header.rsv == 0
            && (is_text || header.opcode == OpCode::Binary)
            && header.mask.is_some() == (self.role == Role::Server)
            && header.length <= (input.len() - size) as u64
            && header.length <= self.limits.max_message as u64;
        if !is_plain {
            return None;
        }
        let length = header.length as usize;
        let payload = &mut input[size..size + length];
        let key = header.mask.unwrap_or_default();
        let is_ascii = match header.mask {
            Some(_) => mask::apply_ascii(payload, key),
            None => false,
        };
        if is_text && !is_ascii && !utf8::is_valid(payload) {
            // As it was, so that it is refused where everything is.
            mask::apply(payload, key);
            return None;
        }
        take(input, size);
        let payload = &*take(input, length);
        Some(if is_text { Message::Text(utf8::trusted(payload)) } else { Message::Binary(payload) })
    }

    /// Whether a data frame is arriving of which 4 KiB or more are still to come, so that there is
    /// [`room`](Reader::room) for it.
    #[inline]
    pub fn is_mid_payload(&self) -> bool {
        let arriving = self.arriving.as_ref();
        arriving.is_some_and(|frame| {
            frame.missing >= Reader::DIRECT && !frame.opcode.is_control() && !frame.is_compressed
        })
    }

    /// Nothing more will be read: frees the memory of incomplete frames.
    pub(crate) fn end(&mut self) {
        self.arriving = None;
        self.unread = 0;
        self.body = Buffer::default();
        self.control = None;
        self.inflate = None;
    }

    /// Whether the connection stands between two messages, with nothing half received.
    #[inline]
    pub fn is_idle(&self) -> bool {
        self.head_size == 0 && self.arriving.is_none() && !self.assembly.in_message()
    }

    /// Whether more of what is incomplete has arrived since this was asked last. Control frames between the fragments of a message
    /// don't count: the message has not come any further by them.
    pub fn take_moved(&mut self) -> bool {
        mem::take(&mut self.has_moved)
    }

    /// How much memory is held for what is incomplete, in bytes.
    #[inline]
    pub fn held(&self) -> usize {
        self.body.capacity()
    }

    /// The room where a long payload that is arriving goes on: a socket may read its next bytes straight into here, and
    /// what does not fit into the next input. Say how many with [`commit`](Reader::commit). `None` unless
    /// [`is_mid_payload`](Reader::is_mid_payload).
    ///
    /// There is room for no more than is missing, nor for more than has arrived (but for 64 KiB, to begin with): a length
    /// that was announced is not memory.
    ///
    /// ```
    /// use threadwire_proto::{Config, Pool, Reader, Role};
    ///
    /// let mut reader = Reader::new(Role::Client, &Config::default());
    /// let mut pool = Pool::new();
    /// let mut header = *b"\x82\x7f\0\0\0\0\0\x01\x86\xa0"; // 100,000 bytes
    /// let mut frame = reader.next(&mut &mut header[..], &mut pool)?;
    /// while let Some(room) = reader.room() {
    ///     room.fill(7); // a socket would read into it
    ///     let count = room.len();
    ///     reader.commit(count);
    ///     frame = reader.next(&mut &mut [][..], &mut pool)?;
    /// }
    /// assert_eq!(frame.expect("all of it has arrived").payload(), [7; 100_000]);
    /// # Ok::<(), threadwire_proto::Violation>(())
    /// ```
    #[inline]
    pub fn room(&mut self) -> Option<&mut [u8]> {
        let missing = self.arriving.as_ref()?.missing;
        self.is_mid_payload().then(|| self.body.room(usize::try_from(missing).unwrap_or(usize::MAX)))
    }

    /// `count` bytes were read into [`room`](Reader::room), and no more than it had. To be followed by
    /// [`next`](Reader::next), which looks at them, before anything else is asked for or committed.
    ///
    /// # Panics
    ///
    /// If that is more than there was room for, or nothing is arriving.
    pub fn commit(&mut self, count: usize) {
        let missing = self.arriving.as_ref().map_or(0, |frame| frame.missing);
        assert!(count as u64 <= missing, "{count} bytes were read into room for {missing}");
        self.unread = count;
    }

    /// The next header, if all of it is there. Bytes of one that is not are kept.
    #[inline]
    fn header(&mut self, input: &mut &mut [u8]) -> Result<Option<Header>, Violation> {
        if self.head_size == 0
            && let Some((header, size)) = Header::parse(input)?
        {
            take(input, size);
            return Ok(Some(header));
        }
        self.cut_header(input)
    }

    /// A header of which a part has arrived before, or of which only a part is there.
    #[cold]
    fn cut_header(&mut self, input: &mut &mut [u8]) -> Result<Option<Header>, Violation> {
        let had = usize::from(self.head_size);
        let more = input.len().min(Header::MAX_SIZE - had);
        self.head[had..had + more].copy_from_slice(&input[..more]);
        match Header::parse(&self.head[..had + more])? {
            Some((header, size)) => {
                take(input, size - had);
                self.head_size = 0;
                self.has_moved |= !(header.opcode.is_control() && self.assembly.in_message());
                Ok(Some(header))
            }
            None => {
                take(input, more);
                self.head_size = (had + more) as u8;
                Ok(None)
            }
        }
    }

    /// Checks a header against the rules that depend on more than itself. Returns the opcode of the message that
    /// the frame belongs to, or its own if it is a control frame.
    #[inline]
    fn check(&mut self, header: &Header) -> Result<OpCode, Violation> {
        if header.rsv != 0 {
            self.check_reserved(header)?;
        }
        match (self.role, header.mask) {
            (Role::Server, None) => return Err(Violation::Unmasked),
            (Role::Client, Some(_)) => return Err(Violation::Masked),
            _ => {}
        }
        if header.opcode.is_control() {
            return Ok(header.opcode);
        }
        match self.level {
            Level::Messages => self.assembly.begin(header, Some(&self.limits)),
            Level::Frames if header.length > self.limits.max_frame as u64 => {
                Err(Violation::FrameTooLong { length: header.length, limit: self.limits.max_frame })
            }
            Level::Frames => self.assembly.begin(header, None),
        }
    }

    /// Checks the reserved bits: RSV1 alone, on the first frame of a message, and only with compression (RFC 7692, section 6).
    #[cold]
    fn check_reserved(&self, header: &Header) -> Result<(), Violation> {
        match header.rsv {
            Header::RSV1 if self.inflate.is_none() => Err(Violation::ReservedBits(header.rsv)),
            Header::RSV1 if !matches!(header.opcode, OpCode::Text | OpCode::Binary) => {
                Err(Violation::CompressedOutOfPlace(header.opcode))
            }
            Header::RSV1 => Ok(()),
            rsv => Err(Violation::ReservedBits(rsv)),
        }
    }

    /// A frame that lies whole in the input.
    #[inline]
    fn lend<'b>(
        &mut self,
        header: Header,
        opcode: OpCode,
        input: &mut &'b mut [u8],
    ) -> Result<Frame<'b>, Violation> {
        let payload = take(input, header.length as usize);
        self.unveil(&header, opcode, payload)?;
        if opcode == OpCode::Text && header.fin {
            self.assembly.finish_text()?;
        }
        Ok(Frame {
            fin: header.fin,
            rsv: header.rsv,
            opcode: header.opcode,
            payload: Payload::Lent(payload),
            is_text: header.fin && header.opcode == OpCode::Text,
            is_last_in_input: !has_whole_frame(input),
        })
    }

    /// Unmasks bytes of a payload and, if they are text, checks them.
    #[inline]
    fn unveil(&mut self, header: &Header, opcode: OpCode, bytes: &mut [u8]) -> Result<(), Violation> {
        match (header.mask, opcode) {
            (Some(key), OpCode::Text) => {
                let ascii = mask::apply_ascii(bytes, key);
                self.assembly.check_text(bytes, ascii)
            }
            (None, OpCode::Text) => self.assembly.check_text(bytes, false),
            (Some(key), _) => {
                mask::apply(bytes, key);
                Ok(())
            }
            (None, _) => Ok(()),
        }
    }

    /// A header has arrived, and its payload will be kept.
    #[cold]
    fn expect(&mut self, header: Header, opcode: OpCode, pool: &mut Pool) {
        let length = usize::try_from(header.length).unwrap_or(usize::MAX);
        let is_compressed = !opcode.is_control() && self.assembly.is_compressed();
        if is_compressed {
            if self.body.is_empty() {
                self.body = pool.take(length.saturating_mul(4));
            }
            if let Some(inflate) = &mut self.inflate {
                inflate.begin_frame(self.body.len());
            }
        } else if !opcode.is_control() {
            if self.body.is_empty() {
                self.body = pool.take(length);
            }
            self.body.reserve(length);
        }
        self.arriving = Some(Arriving { header, opcode, missing: header.length, is_compressed });
    }

    /// Takes what the input has of the payload that is arriving.
    #[cold]
    fn arrive<'b>(&mut self, input: &mut &'b mut [u8], pool: &mut Pool) -> Result<Arrival<'b>, Violation> {
        let Some(mut frame) = self.arriving.take() else { return Ok(Arrival::Partial) };
        let is_control = frame.opcode.is_control();
        if self.unread > 0 || !input.is_empty() {
            self.has_moved |= !(is_control && self.assembly.in_message());
        }

        if self.unread > 0 {
            let mut body = mem::take(&mut self.body);
            let bytes = body.commit(mem::take(&mut self.unread));
            let verdict = self.unveil(&frame.header, frame.opcode, bytes);
            frame.pass(bytes.len());
            self.body = body;
            verdict?;
        }
        let mut here = usize::try_from(frame.missing).unwrap_or(usize::MAX).min(input.len());
        if frame.is_compressed {
            let bytes = &mut input[..here];
            let key = frame.header.mask.unwrap_or_default();
            mask::apply(bytes, key);
            here = self.inflate(&frame, bytes, frame.missing == here as u64, pool)?;
            // What is left for another turn is as it came.
            mask::apply(&mut bytes[here..], mask::rotate(key, here));
            take(input, here);
            if input.is_empty()
                && let Some(inflate) = &mut self.inflate
            {
                inflate.end_turn();
            }
        } else {
            let bytes = take(input, here);
            self.unveil(&frame.header, frame.opcode, bytes)?;
            if is_control { self.control.get_or_insert_default() } else { &mut self.body }.append(bytes);
        }
        frame.pass(here);

        let Header { fin, rsv, .. } = frame.header;
        if frame.missing > 0 {
            self.arriving = Some(frame);
            return Ok(Arrival::Partial);
        }
        let is_last_in_input = !has_whole_frame(input);
        if is_control {
            let payload = Payload::Own(self.control.take().map(|control| *control).unwrap_or_default());
            let opcode = frame.opcode;
            return Ok(Arrival::Frame(Frame { fin, rsv, opcode, payload, is_text: false, is_last_in_input }));
        }
        if fin && frame.opcode == OpCode::Text {
            self.assembly.finish_text()?;
        }
        let opcode = match self.level {
            Level::Messages if !fin => return Ok(Arrival::Fragment),
            Level::Messages => frame.opcode,
            Level::Frames => frame.header.opcode,
        };
        let payload = Payload::Own(mem::take(&mut self.body));
        let is_text = fin && opcode == OpCode::Text;
        Ok(Arrival::Frame(Frame { fin, rsv, opcode, payload, is_text, is_last_in_input }))
    }
}

/// Compressed messages.
impl Reader {
    #[inline]
    fn is_turn_over(&mut self) -> bool {
        self.inflate.as_mut().is_some_and(|inflate| !inflate.may_go_on())
    }

    /// Inflates the part of a frame that has arrived, which is all if `is_whole`, as far as one turn goes, and checks the result. Returns how
    /// much was used.
    fn inflate(
        &mut self,
        frame: &Arriving,
        bytes: &[u8],
        is_whole: bool,
        pool: &mut Pool,
    ) -> Result<usize, Violation> {
        let Some(inflate) = &mut self.inflate else { return Ok(bytes.len()) };
        let limit = match self.level {
            Level::Messages => self.limits.max_message,
            Level::Frames => self.limits.max_frame,
        };
        let mut output = InflateBuffer { body: &mut self.body, limit };
        let before = output.body.len();
        let used = inflate.inflate(bytes, &mut output, &mut pool.engines)?;
        if is_whole && used == bytes.len() {
            inflate.end_frame(frame.header.fin, &mut output, &mut pool.engines)?;
        }
        if frame.opcode == OpCode::Text {
            self.assembly.check_text(&self.body[before..], false)?;
        }
        Ok(used)
    }
}

/// The outcome of [`Reader::arrive`].
enum Arrival<'b> {
    /// The payload is incomplete.
    Partial,
    /// A frame is whole, but not its message.
    Fragment,
    /// A frame, or a message.
    Frame(Frame<'b>),
}

impl Arriving {
    /// `count` bytes of the payload have been dealt with.
    fn pass(&mut self, count: usize) {
        self.missing -= count as u64;
        self.header.mask = self.header.mask.map(|key| mask::rotate(key, count));
    }
}

/// Whether a whole frame lies at the front of `input`, or bytes that can't be one.
#[inline]
fn has_whole_frame(input: &[u8]) -> bool {
    match input {
        [] | [_] => false,
        [_, second, ..] if second & 0x7f <= 125 => {
            let key = if second & 0x80 == 0 { 0 } else { 4 };
            input.len() >= 2 + key + usize::from(second & 0x7f)
        }
        _ => match Header::parse(input) {
            Ok(None) => false,
            Ok(Some((header, size))) => header.length <= (input.len() - size) as u64,
            Err(_) => true,
        },
    }
}

/// Takes the first `count` bytes off the front of `input`.
#[inline]
fn take<'b>(input: &mut &'b mut [u8], count: usize) -> &'b mut [u8] {
    let (front, rest) = mem::take(input).split_at_mut(count);
    *input = rest;
    front
}
