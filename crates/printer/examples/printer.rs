//! A printer on the terminal for many threads: lines wrap at the terminal's width, and again when it is resized.
//!
//! ```text
//! cargo run -p threadwire-printer --example printer -- [DELAY_MS]
//! ```
//!
//! Ends by itself, after a second and a half. With a longer delay there is time to pull at the window.

use std::error::Error;
use std::time::Duration;

use threadwire_printer::Printer;
use threadwire_worker::{Worker, sleep};

/// Prints what the tutorial prints, and what its printer could not.
pub fn run(printer: &Printer, delay: Duration) -> Result<(), Box<dyn Error>> {
    let counter = Worker::spawn({
        let printer = printer.clone();
        move || {
            for last in 1..100 {
                let numbers: Vec<String> = (1..=last).map(|number| number.to_string()).collect();
                if printer.print(numbers.join(" ")).is_err() {
                    break;
                }
                sleep(delay)?;
            }
            Ok(())
        }
    });
    // Anything can be a line: there is no text that ends the printer.
    printer.print("!@#EXIT#@!")?;
    printer.print("words/longer/than/the/terminal/".repeat(8))?;
    printer.print("wide characters, 寬字, count as what they are 。".repeat(4))?;

    counter.join()?;
    printer.print("done")?;
    Ok(())
}

/// On the terminal, with the delay that was given.
pub fn main() -> Result<(), Box<dyn Error>> {
    let delay = std::env::args().nth(1).map_or(Ok(15), |millis| millis.parse())?;
    let printer = Printer::open()?;
    run(&printer, Duration::from_millis(delay))?;
    Ok(printer.close()?)
}
