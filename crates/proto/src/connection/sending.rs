//! Sending on a connection: frames and messages, compressed where that was agreed on.

use crate::{
    Compress, Connection, Deflate, Message, OpCode, Role, SendError, SendOptions, Shared,
    deflate::{Agreement, Compressor, Decompressor, Sharing},
    frame::{self, Header, MAX_CONTROL},
    state::{Action, Input, step},
};

/// Compression.
impl Connection {
    /// The same connection, on which messages may be compressed as was agreed in its opening handshake: see
    /// [`deflate`](crate::deflate), which has an example.
    pub fn with_deflate(mut self, deflate: &Deflate, agreement: Agreement) -> Connection {
        self.reader.set_inflate(Decompressor::new(self.role, agreement));
        self.deflate = Some(Box::new(Compressor::new(self.role, deflate, agreement)));
        self
    }

    /// The agreement on compression; `None` if there is none, or if the connection has ended.
    pub fn deflate(&self) -> Option<Agreement> {
        self.deflate.as_ref().map(|deflate| deflate.agreement())
    }

    /// The settings by which a message for many connections must be compressed, for this one to be among them now: see
    /// [`Sharing`]. `None` if it does not compress, or is in the middle of a message.
    #[inline]
    pub fn sharing(&self) -> Option<Sharing> {
        self.deflate.as_ref().and_then(|deflate| deflate.sharing())
    }

    /// A frame that was compressed for many connections goes to this one's peer.
    #[inline]
    pub fn sent_shared(&mut self) {
        if let Some(deflate) = &mut self.deflate {
            deflate.sent_shared();
        }
    }
}

/// Sending.
impl Connection {
    /// Sends a message in one frame.
    ///
    /// # Errors
    ///
    /// [`SendError::NotOpen`], or [`SendError::MessageUnfinished`] between the fragments of another one.
    #[inline]
    pub fn send(
        &mut self,
        message: Message<'_>,
        shared: &mut Shared,
        out: &mut Vec<u8>,
    ) -> Result<(), SendError> {
        self.send_frame(message.opcode(), true, message.as_bytes(), shared, out)
    }

    /// Sends a frame: a message or a fragment of one, a ping or a pong. Close frames have
    /// [`close`](Connection::close).
    ///
    /// ```
    /// use threadwire_proto::{Config, Connection, OpCode, Role, SendError, Shared};
    ///
    /// let mut server = Connection::new(Role::Server, &Config::default());
    /// let (mut shared, mut out) = (Shared::new(), Vec::new());
    /// server.send_frame(OpCode::Text, false, b"in ", &mut shared, &mut out)?;
    /// server.send_frame(OpCode::Ping, true, b"", &mut shared, &mut out)?; // may come in between
    /// server.send_frame(OpCode::Continuation, true, b"two", &mut shared, &mut out)?;
    /// let once_more = server.send_frame(OpCode::Continuation, true, b"", &mut shared, &mut out);
    /// assert_eq!(once_more, Err(SendError::NothingToContinue));
    /// # Ok::<(), threadwire_proto::SendError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`SendError::NotOpen`]; for data frames in the wrong order [`SendError::NothingToContinue`] or
    /// [`SendError::MessageUnfinished`]; for control frames [`SendError::ControlTooLong`],
    /// [`SendError::FragmentedControl`] or [`SendError::CloseByFrame`]. That fragments of a text are UTF-8 together is
    /// not checked.
    #[inline]
    pub fn send_frame(
        &mut self,
        opcode: OpCode,
        fin: bool,
        payload: &[u8],
        shared: &mut Shared,
        out: &mut Vec<u8>,
    ) -> Result<(), SendError> {
        self.send_frame_with(opcode, fin, payload, SendOptions::default(), shared, out)
    }

    /// As [`send_frame`](Connection::send_frame), with a choice whether the message is compressed if that was agreed on. Control
    /// frames never are.
    #[inline]
    pub fn send_frame_with(
        &mut self,
        opcode: OpCode,
        fin: bool,
        payload: &[u8],
        options: SendOptions,
        shared: &mut Shared,
        out: &mut Vec<u8>,
    ) -> Result<(), SendError> {
        self.begin_frame(opcode, fin, payload.len())?;
        if self.deflate.is_some() && !opcode.is_control() {
            self.write_data(opcode, fin, payload, options, shared, out);
        } else {
            self.write(opcode, fin, payload, shared, out);
        }
        Ok(())
    }

    /// Sends a frame of which the payload is written by the caller, right after the header that this returns: a
    /// long payload then need not be copied. Only for what goes out as it is: a client's payload has to be masked, and some are
    /// compressed, so that a copy is needed anyway; `None` says so, and nothing has happened.
    ///
    /// ```
    /// use threadwire_proto::{Compress, Config, Connection, OpCode, Role};
    ///
    /// let mut server = Connection::new(Role::Server, &Config::default());
    /// let payload = vec![7; 50_000];
    /// let header = server.send_header(OpCode::Binary, true, payload.len(), Compress::Auto)?.expect("it is a server");
    /// assert_eq!(&*header, [0x82, 126, 0xc3, 0x50]); // goes out together with `payload`, in a vectored write
    /// # Ok::<(), threadwire_proto::SendError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`send_frame`](Connection::send_frame).
    #[inline]
    pub fn send_header(
        &mut self,
        opcode: OpCode,
        fin: bool,
        length: usize,
        compress: Compress,
    ) -> Result<Option<frame::EncodedHeader>, SendError> {
        let is_data = !opcode.is_control();
        let deflates =
            is_data && self.deflate.as_ref().is_some_and(|it| it.wants(opcode, fin, length, compress));
        if self.role == Role::Client || deflates {
            return Ok(None);
        }
        self.begin_frame(opcode, fin, length)?;
        if let Some(deflate) = self.deflate.as_mut().filter(|_| is_data) {
            deflate.pass(fin);
        }
        Ok(Some(Header { fin, rsv: 0, opcode, mask: None, length: length as u64 }.encode()))
    }

    /// Checks that a frame may be sent now, and remembers that it was.
    #[inline]
    fn begin_frame(&mut self, opcode: OpCode, fin: bool, length: usize) -> Result<(), SendError> {
        if step(self.state, Input::Send).0 != Action::Write {
            return Err(SendError::NotOpen);
        }
        if opcode.is_control() {
            return match (fin, length) {
                _ if opcode == OpCode::Close => Err(SendError::CloseByFrame),
                (false, _) => Err(SendError::FragmentedControl(opcode)),
                (true, length) if length > MAX_CONTROL => Err(SendError::ControlTooLong { opcode, length }),
                _ => Ok(()),
            };
        }
        match (self.mid_message, opcode == OpCode::Continuation) {
            (false, true) => return Err(SendError::NothingToContinue),
            (true, false) => return Err(SendError::MessageUnfinished),
            _ => {}
        }
        self.mid_message = !fin;
        Ok(())
    }

    /// A data frame, where messages may be compressed.
    fn write_data(
        &mut self,
        opcode: OpCode,
        fin: bool,
        payload: &[u8],
        options: SendOptions,
        shared: &mut Shared,
        out: &mut Vec<u8>,
    ) {
        let Some(deflate) = &mut self.deflate else { return };
        if !deflate.wants(opcode, fin, payload.len(), options.compress) {
            deflate.pass(fin);
            return self.write(opcode, fin, payload, shared, out);
        }
        let engines = &mut shared.pool.engines;
        let deflated = match options.droppable && fin && opcode != OpCode::Continuation {
            true => deflate.deflate_alone(payload, engines),
            false => deflate.deflate(opcode, fin, payload, engines),
        };
        match deflated {
            Some(deflated) => {
                let rsv = if opcode == OpCode::Continuation { 0 } else { Header::RSV1 };
                let mask = (self.role == Role::Client).then(|| shared.keys.next());
                Header { fin, rsv, opcode, mask, length: deflated.len() as u64 }.append_to(out, deflated);
            }
            None => self.write(opcode, fin, payload, shared, out),
        }
    }

    #[inline]
    pub(super) fn write(
        &mut self,
        opcode: OpCode,
        fin: bool,
        payload: &[u8],
        shared: &mut Shared,
        out: &mut Vec<u8>,
    ) {
        let mask = (self.role == Role::Client).then(|| shared.keys.next());
        Header { fin, rsv: 0, opcode, mask, length: payload.len() as u64 }.append_to(out, payload);
    }
}
