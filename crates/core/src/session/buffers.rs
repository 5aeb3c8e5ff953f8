//! Receive buffers, output buffers and masking keys of one thread: a connection owns buffers only while it has something in
//! them.

use std::cell::RefCell;
use std::rc::Rc;

use threadwire_proto::Shared;

/// The size of a receive buffer in bytes: one read takes at most this much (and what is missing of a long payload).
pub const INPUT_SIZE: usize = 64 << 10;

/// The most receive buffers that are kept. One is enough, unless callbacks wait and others run meanwhile.
const INPUTS_KEPT: usize = 4;
/// The most output buffers that are kept, and the largest of them in bytes.
const OUTPUTS_KEPT: usize = 16;
const LARGEST_OUTPUT_KEPT: usize = 512 << 10;

thread_local! {
    static BUFFERS: Rc<Buffers> = Rc::default();
}

/// Buffers that are lent to the connections of one thread while they read and write.
#[derive(Default)]
pub struct Buffers {
    /// Memory of the protocol, and masking keys.
    pub shared: RefCell<Shared>,
    inputs: RefCell<Vec<Box<[u8]>>>,
    outputs: RefCell<Vec<Vec<u8>>>,
}

impl Buffers {
    /// This thread's.
    pub fn current() -> Rc<Buffers> {
        BUFFERS.try_with(Rc::clone).unwrap_or_default()
    }

    /// Lends a receive buffer. It is moved out, so that it can stay lent while a callback turns the loop.
    #[inline]
    pub fn lend_input(&self) -> Box<[u8]> {
        let kept = self.inputs.borrow_mut().pop();
        kept.unwrap_or_else(|| vec![0; INPUT_SIZE].into())
    }

    #[inline]
    pub fn return_input(&self, input: Box<[u8]>) {
        let mut inputs = self.inputs.borrow_mut();
        if inputs.len() < INPUTS_KEPT {
            inputs.push(input);
        }
    }

    /// Lends an empty buffer for output.
    #[inline]
    pub fn lend_output(&self) -> Vec<u8> {
        self.outputs.borrow_mut().pop().unwrap_or_default()
    }

    #[inline]
    pub fn return_output(&self, mut output: Vec<u8>) {
        let mut outputs = self.outputs.borrow_mut();
        if outputs.len() < OUTPUTS_KEPT && (1..=LARGEST_OUTPUT_KEPT).contains(&output.capacity()) {
            output.clear();
            outputs.push(output);
        }
    }
}
