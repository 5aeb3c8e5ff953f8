//! A thread with a function and its arguments, and a list of threads that are joined before a step which needs what all of
//! them have brought.

use std::error::Error;

use threadwire_worker::{Queue, Restartable, Stopped, Worker, join_all, wait_forever};

fn greet(name: &str) -> Result<String, Stopped> {
    Ok(format!("Hello {name}!"))
}

/// Stands for something slow, such as a request to a server.
fn fetch(page: usize) -> String {
    format!("<p>page {page}</p>")
}

/// Needs all pages.
fn compile(pages: &Queue<(usize, String)>) -> Result<String, Box<dyn Error>> {
    if pages.len() < pages.capacity() {
        return Err("some pages are missing".into());
    }
    pages.close();
    let mut pages = pages.iter().map(|page| Ok(page?.into_inner())).collect::<Result<Vec<_>, Stopped>>()?;
    pages.sort(); // they came as they were done
    Ok(pages.into_iter().map(|(_, page)| page).collect())
}

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let greeter = Restartable::new(greet);
    let thread = greeter.start("threading")?;
    assert_eq!(thread.join()?.done().as_deref(), Some("Hello threading!"));
    // One that has ended can be started again; one that runs says so, and gives the arguments back.
    println!("{}", greeter.start("once more")?.join()?.done().ok_or("it was stopped")?);
    let endless = Restartable::new(|_: &str| wait_forever());
    let thread = endless.start("one")?;
    let refused = endless.start("two").unwrap_err();
    println!("{refused}, {:?} comes back", refused.args);
    thread.stop();
    assert!(thread.join()?.was_stopped());

    let pages = Queue::new(20);
    let threads: Vec<_> = (0..20)
        .map(|page| {
            let pages = pages.clone();
            Worker::spawn(move || Ok(pages.put((page, fetch(page))).is_ok()))
        })
        .collect();
    assert!(join_all(threads)?.into_iter().all(|ended| ended.done() == Some(true)));
    let book = compile(&pages)?;
    println!("Done compiling: {book}");
    assert!(book.starts_with("<p>page 0</p><p>page 1</p>") && book.ends_with("<p>page 19</p>"));
    Ok(())
}
