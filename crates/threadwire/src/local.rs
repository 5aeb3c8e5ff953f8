//! What the connections of one thread share: a connection owns buffers only while it has something in them.

use std::cell::RefCell;
use std::rc::Rc;

use slab::Slab;
use threadwire_proto::Shared;

use crate::Connection;
use crate::connection::WeakConnection;
use crate::room::table::Rooms;

/// The size of a receive buffer in bytes: one read takes at most this much (and what is missing of a long payload).
pub(crate) const INPUT_SIZE: usize = 64 << 10;

/// The most receive buffers that are kept. One is enough, unless callbacks wait and others run meanwhile.
const INPUTS_KEPT: usize = 4;
/// The most output buffers that are kept, and the largest of them in bytes.
const OUTPUTS_KEPT: usize = 16;
const LARGEST_OUTPUT_KEPT: usize = 512 << 10;

thread_local! {
    static LOCAL: Rc<Local> = Rc::default();
}

/// One thread's buffers and masking keys.
#[derive(Default)]
pub(crate) struct Local {
    pub(crate) shared: RefCell<Shared>,
    inputs: RefCell<Vec<Box<[u8]>>>,
    outputs: RefCell<Vec<Vec<u8>>>,
    /// The names of listeners: few, and the same for many connections.
    names: RefCell<Vec<&'static str>>,
    /// The connections that have handles.
    shared_ones: RefCell<Slab<(u64, WeakConnection)>>,
    /// The rooms that connections of this thread are in.
    pub(crate) rooms: Rooms,
}

impl Local {
    /// This thread's.
    pub(crate) fn current() -> Rc<Local> {
        LOCAL.try_with(Rc::clone).unwrap_or_default()
    }

    /// Lends a receive buffer. It is moved out, so that it can stay lent while a callback turns the loop.
    #[inline]
    pub(crate) fn lend_input(&self) -> Box<[u8]> {
        let kept = self.inputs.borrow_mut().pop();
        kept.unwrap_or_else(|| vec![0; INPUT_SIZE].into())
    }

    #[inline]
    pub(crate) fn return_input(&self, input: Box<[u8]>) {
        let mut inputs = self.inputs.borrow_mut();
        if inputs.len() < INPUTS_KEPT {
            inputs.push(input);
        }
    }

    /// Takes in a connection that has a handle of this number, which finds it by the place that this returns.
    pub(crate) fn share(&self, number: u64, connection: WeakConnection) -> usize {
        self.shared_ones.borrow_mut().insert((number, connection))
    }

    /// Forgets it.
    pub(crate) fn unshare(&self, place: usize) {
        self.shared_ones.borrow_mut().try_remove(place);
    }

    /// The connection at that place, if its handle has that number.
    #[inline]
    pub(crate) fn connection(&self, place: usize, number: u64) -> Option<Connection> {
        let shared_ones = self.shared_ones.borrow();
        let (_, connection) = shared_ones.get(place).filter(|(shared, _)| *shared == number)?;
        connection.upgrade()
    }

    /// A number that stands for a name.
    pub(crate) fn name_for(&self, name: &'static str) -> u16 {
        let mut names = self.names.borrow_mut();
        let known = names.iter().position(|known| *known == name);
        let place = known.unwrap_or_else(|| {
            names.push(name);
            names.len() - 1
        });
        // With that many of them, those that are left have none.
        place.try_into().unwrap_or(u16::MAX)
    }

    /// The name that a number stands for.
    pub(crate) fn name(&self, number: u16) -> &'static str {
        self.names.borrow().get(usize::from(number)).copied().unwrap_or("a listener")
    }

    /// Lends an empty buffer for output.
    #[inline]
    pub(crate) fn lend_output(&self) -> Vec<u8> {
        self.outputs.borrow_mut().pop().unwrap_or_default()
    }

    #[inline]
    pub(crate) fn return_output(&self, mut output: Vec<u8>) {
        let mut outputs = self.outputs.borrow_mut();
        if outputs.len() < OUTPUTS_KEPT && (1..=LARGEST_OUTPUT_KEPT).contains(&output.capacity()) {
            output.clear();
            outputs.push(output);
        }
    }
}
