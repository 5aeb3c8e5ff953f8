//! Apps that are kept running, each on a thread of its own.

use std::rc::Rc;
use std::thread;
use std::time::Duration;

use threadwire::app::AppHandle;
use threadwire::{App, Client, Config, Error};

use super::{Doing, Held, Kept, PAUSE, STAGGER, Usage, by_handle, timers, told};

pub(super) fn connect(url: &str, config: &Config, stay: Duration, paths: Vec<Usage>) -> Result<(), Error> {
    let count = paths.len();
    for usage in paths {
        let client = Client::new(&format!("{url}{}", usage.path))?.config(config.clone());
        thread::spawn(move || {
            if let Err(error) = run(&client, usage.clone(), stay)
                && !matches!(error, Error::Ended(_))
            {
                Kept::new(usage, stay).failed(&error);
            }
        });
        thread::sleep(STAGGER);
    }
    while told() < count {
        thread::sleep(PAUSE);
    }
    Ok(())
}

fn run(client: &Client, usage: Usage, stay: Duration) -> Result<(), Error> {
    let (held, is_receiving) = (usage.held, usage.doing == Doing::Receive);
    let app = App::new(client)?.on_error(|_ws, _error| {});
    let mut app = if held == Held::Handle {
        let handle = app.handle();
        app.on_open(move |_ws| {
            let (handle, usage) = (handle.clone(), usage.clone());
            thread::spawn(move || keep_by_handle(&handle, &Kept::new(usage, stay)));
        })
    } else {
        let kept = Rc::new(Kept::new(usage, stay));
        let [opened, heard, ended] = [(); 3].map(|()| Rc::clone(&kept));
        let app = app.on_open(move |ws| timers::set(ws, &opened));
        let app = app.on_close(move |_ws, closed| ended.tell(Some(closed)));
        if is_receiving { app.on_message(move |_ws, _message| heard.count()) } else { app }
    };
    app.run_forever().map(drop)
}

/// Uses an app by its handle, on a thread of its own.
fn keep_by_handle(app: &AppHandle, kept: &Kept) {
    let Some(connection) = app.connection() else { return kept.failed(&Error::Closed) };
    by_handle::keep_with(&connection, kept, |text| app.send(text), || app.close());
}
