//! Events with a name that is chosen at run time.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

/// An event with a name that is chosen at run time, as programs in other languages want it.
///
/// ```
/// use threadwire_worker::{Named, listen_named, wait_until};
/// use std::{cell::Cell, rc::Rc};
/// use threadwire_worker::EventLoop;
///
/// let got = Rc::new(Cell::new(0));
/// let sets = Rc::clone(&got);
/// listen_named("SET", move |event| sets.set(*event.data::<i32>().unwrap()));
/// EventLoop::current().remote().fire(Named::new("SET", 7))?;
/// wait_until(None, || got.get() == 7)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Named {
    name: Arc<str>,
    data: Arc<dyn Any + Send + Sync>,
}

impl Named {
    /// An event with this name, and any data.
    pub fn new(name: impl Into<Arc<str>>, data: impl Any + Send + Sync) -> Named {
        Named { name: name.into(), data: Arc::new(data) }
    }

    /// The name of the event.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The data of the event, if they are of type `D`.
    pub fn data<D: 'static>(&self) -> Option<&D> {
        self.data.downcast_ref()
    }
}

impl fmt::Debug for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Named").field("name", &self.name).finish_non_exhaustive()
    }
}
