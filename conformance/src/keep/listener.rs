//! Connections of the callback face that are kept.

use std::rc::Rc;
use std::str::FromStr;
use std::thread;
use std::time::Duration;

use threadwire::{Client, Closed, Config, Connection, Error, Listener, Message, Reply, Server, sleep};

use super::{Doing, Held, Kept, PAUSE, STAGGER, Usage, by_handle, timers, told};

struct Callbacks {
    kept: Rc<Kept>,
    stay: Duration,
}

impl Callbacks {
    fn new(usage: Usage, stay: Duration) -> Callbacks {
        Callbacks { kept: Rc::new(Kept::new(usage, stay)), stay }
    }
}

impl Listener for Callbacks {
    fn on_open(&mut self, ws: &Connection) -> Result<(), Error> {
        if self.kept.usage.held == Held::Handle {
            let (handle, usage, stay) = (ws.handle(), self.kept.usage.clone(), self.stay);
            thread::spawn(move || by_handle::keep(&handle, &Kept::new(usage, stay)));
        } else {
            timers::set(ws, &self.kept);
        }
        Ok(())
    }

    fn on_message(&mut self, _ws: &Connection, _message: Message<'_>) -> Result<(), Error> {
        if self.kept.usage.doing == Doing::Receive {
            self.kept.count();
        }
        Ok(())
    }

    fn on_close(&mut self, _ws: &Connection, closed: &Closed) {
        if self.kept.usage.held != Held::Handle {
            self.kept.tell(Some(closed));
        }
    }
}

pub(super) fn serve(listen: &str, config: Config, stay: Duration) -> Result<(), Error> {
    let server =
        Server::bind(listen)?.config(config).serve(move |request| match Usage::from_str(request.path()) {
            Ok(usage) => Reply::with(Callbacks::new(usage, stay)),
            Err(_) => Reply::status(404),
        })?;
    let stopper = server.stopper();
    ctrlc::set_handler(move || stopper.stop()).map_err(Error::other)?;
    println!("listening on ws://{}", server.local_addr().unwrap());
    server.join()
}

/// All on this thread.
pub(super) fn connect(url: &str, config: &Config, stay: Duration, paths: Vec<Usage>) -> Result<(), Error> {
    let count = paths.len();
    for usage in paths {
        let client = Client::new(&format!("{url}{}", usage.path))?.config(config.clone());
        if let Err(error) = client.connect(Callbacks::new(usage.clone(), stay)) {
            Kept::new(usage, stay).failed(&error);
        }
        sleep(STAGGER)?;
    }
    while told() < count {
        sleep(PAUSE)?;
    }
    Ok(())
}
