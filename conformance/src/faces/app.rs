//! Echo client of the app face, which has no servers.

use std::cell::RefCell;
use std::rc::Rc;

use threadwire::worker::{EventLoop, TimerId};
use threadwire::{App, CloseCode, Connection, Error};

use super::{PATIENCE, Seen, Step, client};

/// Runs an app to its end. How a connection ended is for the callbacks to keep: only that there was none is an error.
fn run(mut app: App) -> Result<(), Error> {
    match app.run_forever() {
        Ok(_) | Err(Error::Ended(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

fn app(url: &str) -> Result<App, Error> {
    // Many cases end with an error, which is for the suite to judge.
    Ok(App::new(&client(url)?)?.on_error(|_ws, _error| {}))
}

pub(super) fn echo(url: &str) -> Result<(), Error> {
    run(app(url)?.on_message(|ws, message| ws.send(message)))
}

pub(super) fn ask(url: &str) -> Result<String, Error> {
    let answer = Rc::new(RefCell::new(None));
    let keep = Rc::clone(&answer);
    run(app(url)?.on_message(move |_ws, message| {
        *keep.borrow_mut() = message.as_text().map(str::to_owned);
    }))?;
    answer.take().ok_or_else(|| Error::other("the server closed without a text message"))
}

/// An exchange that is under way.
struct Exchange {
    seen: Seen,
    /// How many messages and pongs are to come.
    expected: (usize, usize),
    code: CloseCode,
    /// Rings when nothing has come for too long.
    patience: Option<TimerId>,
}

impl Exchange {
    /// After anything has come: closes if that was all, and otherwise has patience anew.
    fn go_on(exchange: &Rc<RefCell<Exchange>>, ws: &Connection) {
        let mut this = exchange.borrow_mut();
        let event_loop = EventLoop::current();
        if let Some(timer) = this.patience.take() {
            event_loop.cancel(timer);
        }
        if this.seen.messages.len() >= this.expected.0 && this.seen.pongs.len() >= this.expected.1 {
            let _ = ws.close_with(this.code, "");
            return;
        }
        let (ws, code) = (ws.clone(), this.code);
        this.patience = Some(event_loop.after(PATIENCE, move || drop(ws.close_with(code, ""))));
    }
}

pub(super) fn exchange(
    url: &str,
    steps: &[Step],
    expected: (usize, usize),
    code: CloseCode,
) -> Result<Seen, Error> {
    let exchange = Rc::new(RefCell::new(Exchange { seen: Seen::default(), expected, code, patience: None }));
    let [opened, heard, ponged, ended] = [(); 4].map(|()| Rc::clone(&exchange));
    let steps: Vec<_> = steps.iter().map(|step| (step.opcode, step.fin, step.payload.clone())).collect();
    let app = app(url)?
        .on_open(move |ws| {
            steps.iter().try_for_each(|(opcode, fin, payload)| ws.send_frame(*opcode, *fin, payload))?;
            Exchange::go_on(&opened, ws);
            Ok::<_, Error>(())
        })
        .on_message(move |ws, message| {
            let is_text = message.as_text().is_some();
            heard.borrow_mut().seen.messages.push((is_text, message.as_bytes().to_vec()));
            Exchange::go_on(&heard, ws);
        })
        .on_pong(move |ws, payload| {
            ponged.borrow_mut().seen.pongs.push(payload.to_vec());
            Exchange::go_on(&ponged, ws);
        })
        .on_close(move |_ws, closed| {
            let mut this = ended.borrow_mut();
            this.seen.closed = Some((closed.code, closed.clean));
            this.seen.error = closed.error.as_ref().map(ToString::to_string);
            if let Some(timer) = this.patience.take() {
                EventLoop::current().cancel(timer);
            }
        });
    run(app)?;
    let seen = std::mem::take(&mut exchange.borrow_mut().seen);
    Ok(seen)
}
