//! Receivers beside the listener, on whatever thread: what arrives is put into their queues here.

use std::rc::Rc;
use std::sync::Arc;

use threadwire_proto::Message;
use threadwire_proto::keepalive::Hold;

use super::Connection;
use super::flags::Flags;
use crate::connection::messages::inbox::{Inbox, Put};
use crate::{Closed, Handle};

impl Connection {
    /// Puts a message into the queues of those who want it.
    pub(super) fn tell_receivers(&self, message: Message<'_>) {
        // Their filters may call back.
        let receivers = self.with_extras(|extras| Some(Rc::clone(&extras.receivers))).unwrap_or_default();
        let mut is_news = false;
        for receiver in receivers.iter() {
            is_news |= receiver.put(message) != Put::Done;
        }
        drop(receivers);
        if is_news {
            self.look_at_receivers();
        }
    }

    pub(super) fn tell_receivers_of_the_end(&self, closed: &Arc<Closed>) {
        let receivers = self.with_extras(|extras| Some(std::mem::take(&mut extras.receivers)));
        for receiver in receivers.unwrap_or_default().iter() {
            receiver.end(closed);
        }
    }

    /// Forgets those that have gone, and finds out whether anybody is so far behind that nothing more is to be read.
    pub(crate) fn look_at_receivers(&self) {
        let mut gone = Vec::new();
        let looked = self.with_extras(|extras| {
            let receivers = Rc::make_mut(&mut extras.receivers);
            gone.extend(receivers.extract_if(.., |receiver| receiver.is_gone()));
            Some(receivers.iter().any(|receiver| receiver.is_full()))
        });
        let (is_behind, was_behind) = (looked.unwrap_or(false), self.has(Flags::BEHIND));
        self.set_inspects();
        if is_behind != was_behind && self.is_open() {
            self.set(Flags::BEHIND, is_behind);
            match is_behind {
                true => self.hold_pulse(Hold::NotReading),
                false => self.read_on(),
            }
        }
        // Their filters are the program's, and may call back.
        drop(gone);
    }
}

impl Handle {
    /// Has the connection fill this queue from now on.
    pub(crate) fn add_receiver(&self, inbox: &Arc<Inbox>) {
        let entry = Entry(Some((self.clone(), Arc::clone(inbox))));
        self.run(move |ws| entry.begin(ws));
    }
}

/// A receiver on its way to the connection. If it comes too late, it is told of the end.
struct Entry(Option<(Handle, Arc<Inbox>)>);

impl Entry {
    fn begin(mut self, ws: &Connection) {
        if let Some((_, inbox)) = self.0.take() {
            let mut extras = ws.0.extras.borrow_mut();
            Rc::make_mut(&mut extras.get_or_insert_default().receivers).push(inbox);
            drop(extras);
            ws.set_inspects();
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if let Some((handle, inbox)) = self.0.take()
            && let Some(closed) = handle.closed()
        {
            inbox.end(&closed);
        }
    }
}
