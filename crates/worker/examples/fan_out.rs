//! Fan-out and join: one big job as many small ones at the same time, and a step that needs the results of all of them.

use std::error::Error;

use threadwire_worker::{Async, Pool, PromiseError, Stopped};

/// Stands for something slow, such as a request to a server.
fn fetch(page: u32) -> Result<String, Stopped> {
    Ok(format!("<p>page {page}</p>"))
}

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    // A thread for each: every one begins at once.
    let pages: Vec<Async<String>> = (1..=5).map(|page| Async::run(move || fetch(page))).collect();
    let book: Result<String, PromiseError> = pages.iter().map(Async::get).collect();
    println!("{}", book?);

    // A few threads for many: in order, whoever is done first.
    let pool = Pool::new(4);
    let book: Result<String, PromiseError> = pool.map(1..=20, fetch).collect();
    let book = book?;
    println!("{} pages, {} bytes", book.matches("<p>").count(), book.len());
    assert!(book.starts_with("<p>page 1</p><p>page 2</p>") && book.ends_with("<p>page 20</p>"));
    pool.shutdown()?;
    Ok(())
}
