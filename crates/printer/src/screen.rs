//! The model of the terminal's screen, without I/O: every change is text to be written in one piece.
//!
//! The input line is the last row, and it is one row always: what does not fit is scrolled out of it sideways. So
//! whatever is printed replaces that row, and the row is drawn again below. Lines are never left to the terminal to
//! wrap, and wrapping is off while something is drawn: where a terminal finds a character wider than we do, the
//! end of that row is lost, and nothing else.

use std::collections::VecDeque;

use crossterm::Command;
use crossterm::cursor::{MoveTo, MoveToColumn};
use crossterm::terminal::{Clear, ClearType, DisableLineWrap, EnableLineWrap};

use crate::edit::{Edited, Editor};
use crate::keys::Key;
use crate::wrap::{harmless, wrap};

/// The most that is kept of what was printed, in bytes, however few messages that are.
pub(crate) const MOST_BYTES: usize = 1024 * 1024;
/// For terminals that don't know their size.
const USUAL: Size = Size { columns: 80, rows: 24 };

/// The size of a terminal, in cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) columns: usize,
    pub(crate) rows: usize,
}

impl Size {
    /// A size as the system tells it: 0 for what it does not know.
    pub(crate) fn told(columns: u16, rows: u16) -> Size {
        let or = |told: u16, usual| if told == 0 { usual } else { told.into() };
        Size { columns: or(columns, USUAL.columns), rows: or(rows, USUAL.rows) }
    }
}

/// The last messages, to be wrapped again when the width changes.
struct History {
    messages: VecDeque<String>,
    bytes: usize,
    most: usize,
    /// Whether a rule stands above the oldest message.
    begins_with_rule: bool,
}

impl History {
    fn push(&mut self, message: String) {
        self.bytes += message.len();
        self.messages.push_back(message);
        // The newest is kept, however long it is.
        while self.messages.len() > self.most || (self.bytes > MOST_BYTES && self.messages.len() > 1) {
            let oldest = self.messages.pop_front();
            self.bytes -= oldest.map_or(0, |message| message.len());
            self.begins_with_rule = false;
        }
    }

    /// The last rows of the history.
    fn last_rows(&self, count: usize, columns: usize) -> Vec<String> {
        let mut rows = VecDeque::new();
        for message in self.messages.iter().rev() {
            if rows.len() >= count {
                break;
            }
            wrap(message, columns).into_iter().rev().for_each(|row| rows.push_front(row));
        }
        if self.begins_with_rule && rows.len() < count {
            rows.push_front(rule(columns));
        }
        rows.drain(..rows.len().saturating_sub(count));
        rows.into()
    }
}

/// The input line.
struct InputLine {
    prompt: String,
    editor: Editor,
}

pub(crate) struct Screen {
    size: Size,
    history: History,
    line: Option<InputLine>,
}

/// A key that means something to the program.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Pressed {
    Line(String),
    Interrupt,
    End,
    Suspend,
}

impl Screen {
    /// A screen that remembers the last messages, to wrap them again.
    pub(crate) fn new(size: Size, messages: usize) -> Screen {
        let history =
            History { messages: VecDeque::new(), bytes: 0, most: messages, begins_with_rule: false };
        Screen { size, history, line: None }
    }

    #[cfg(not(unix))]
    pub(crate) fn size(&self) -> Size {
        self.size
    }

    /// Draws a rule, above which nothing of the screen's is: before anything is printed.
    pub(crate) fn begin_with_rule(&mut self, out: &mut String) {
        self.history.begins_with_rule = true;
        self.draw(out, |screen, out| {
            write_rows(vec![rule(screen.size.columns)], out);
            screen.draw_line(out);
        });
    }

    /// Begins an input line.
    pub(crate) fn begin_line(&mut self, prompt: &str, out: &mut String) {
        let prompt = harmless(prompt).replace(['\n', '\t'], " ");
        self.line = Some(InputLine { prompt, editor: Editor::default() });
        self.draw(out, |screen, out| screen.draw_line(out));
    }

    /// Ends the input line. Returns whether there was one.
    pub(crate) fn end_line(&mut self, out: &mut String) -> bool {
        let was = self.line.take().is_some();
        if was {
            self.erase_line(out);
        }
        was
    }

    pub(crate) fn has_line(&self) -> bool {
        self.line.is_some()
    }

    /// Takes the input line away, to be drawn again later.
    pub(crate) fn erase_line(&self, out: &mut String) {
        ansi(out, &MoveToColumn(0));
        ansi(out, &Clear(ClearType::FromCursorDown));
    }

    pub(crate) fn print(&mut self, messages: impl IntoIterator<Item = String>, out: &mut String) {
        self.draw(out, |screen, out| {
            for message in messages {
                write_rows(wrap(&message, screen.size.columns), out);
                screen.history.push(message);
            }
            screen.draw_line(out);
        });
    }

    /// The terminal may have got another size. Another width wraps everything again.
    pub(crate) fn resize(&mut self, size: Size, out: &mut String) {
        let is_wider_or_narrower = self.size.columns != size.columns;
        self.size = size;
        if is_wider_or_narrower {
            self.redraw(out);
        } else {
            self.draw(out, |screen, out| screen.draw_line(out));
        }
    }

    /// Draws the whole screen: the last rows of the history, and the input line.
    pub(crate) fn redraw(&mut self, out: &mut String) {
        ansi(out, &MoveTo(0, 0));
        self.draw(out, |screen, out| {
            write_rows(screen.history.last_rows(screen.size.rows - 1, screen.size.columns), out);
            screen.draw_line(out);
        });
    }

    /// Keys were pressed. Without an input line they mean nothing. What they change is drawn once, as they come many
    /// at a time when something is pasted.
    pub(crate) fn keys(&mut self, keys: &[Key], out: &mut String) -> Vec<Pressed> {
        let mut pressed = Vec::new();
        let mut changed = false;
        for &key in keys {
            let Some(line) = self.line.as_mut() else { break };
            match line.editor.key(key) {
                Edited::Refused => out.push('\x07'),
                Edited::Changed => changed = true,
                Edited::Redraw => self.redraw(out),
                Edited::Line(typed) => {
                    let message = format!("{}{typed}", line.prompt);
                    self.print([message], out);
                    pressed.push(Pressed::Line(typed));
                }
                Edited::Interrupt => {
                    changed = true;
                    pressed.push(Pressed::Interrupt);
                }
                Edited::End => pressed.push(Pressed::End),
                Edited::Suspend => pressed.push(Pressed::Suspend),
            }
        }
        if changed {
            self.draw(out, |screen, out| screen.draw_line(out));
        }
        pressed
    }

    /// Draws from the beginning of the current row, over the input line.
    fn draw(&mut self, out: &mut String, what: impl FnOnce(&mut Screen, &mut String)) {
        ansi(out, &DisableLineWrap);
        self.erase_line(out);
        what(self, out);
        ansi(out, &EnableLineWrap);
    }

    fn draw_line(&self, out: &mut String) {
        let Some(line) = &self.line else { return };
        let (before, behind) = line.editor.view(&line.prompt, self.size.columns);
        out.push_str(&before);
        if !behind.is_empty() {
            out.push_str(&behind);
            // Only the terminal knows where it has put the cursor behind this text.
            ansi(out, &MoveToColumn(0));
            out.push_str(&before);
        }
    }
}

/// A line across the terminal.
fn rule(columns: usize) -> String {
    match columns {
        0 | 1 => "#".to_owned(),
        _ => format!("#{}#", "-".repeat(columns - 2)),
    }
}

fn write_rows(rows: Vec<String>, out: &mut String) {
    for row in rows {
        out.push_str(&row);
        out.push_str("\r\n");
    }
}

fn ansi(out: &mut String, command: &impl Command) {
    command.write_ansi(out).expect("a string takes all that is written to it");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A terminal without a window.
    struct Emulator {
        screen: Screen,
        shows: vt100::Parser,
    }

    impl Emulator {
        fn new(columns: u16, rows: u16) -> Emulator {
            Emulator {
                screen: Screen::new(Size::told(columns, rows), 1000),
                shows: vt100::Parser::new(nonzero(rows), nonzero(columns), 0),
            }
        }

        fn with_line(columns: u16, rows: u16) -> Emulator {
            let mut terminal = Emulator::new(columns, rows);
            terminal.with(|screen, out| screen.begin_line("> ", out));
            terminal
        }

        fn with<T>(&mut self, change: impl FnOnce(&mut Screen, &mut String) -> T) -> T {
            let mut out = String::new();
            let result = change(&mut self.screen, &mut out);
            self.shows.process(out.as_bytes());
            result
        }

        fn print(&mut self, text: &str) {
            self.with(|screen, out| screen.print([text.to_owned()], out));
        }

        fn press(&mut self, text: &str) -> Vec<Pressed> {
            let mut keys = Vec::new();
            crate::keys::Decoder::default().decode(text.as_bytes(), |key| keys.push(key));
            self.with(|screen, out| screen.keys(&keys, out))
        }

        fn resize(&mut self, columns: u16, rows: u16) {
            self.shows.screen_mut().set_size(nonzero(rows), nonzero(columns));
            self.with(|screen, out| screen.resize(Size::told(columns, rows), out));
        }

        /// The rows down to that of the cursor, and the cursor's column. Nothing may be below.
        fn shows(&self) -> (Vec<String>, u16) {
            let screen = self.shows.screen();
            let (row, column) = screen.cursor_position();
            let (_, columns) = screen.size();
            let mut rows: Vec<String> = screen.rows(0, columns.get()).collect();
            assert!(
                rows.drain(usize::from(row) + 1..).all(|row| row.is_empty()),
                "something below the cursor"
            );
            (rows, column)
        }
    }

    fn nonzero(number: u16) -> std::num::NonZeroU16 {
        std::num::NonZeroU16::new(number).expect("an emulator has a size")
    }

    #[test]
    fn messages_are_printed_above_the_line_that_is_being_typed() {
        let mut terminal = Emulator::with_line(20, 6);
        assert_eq!(terminal.shows().0, ["> "]);
        terminal.press("hel");
        terminal.print("a message longer than the row");
        assert_eq!(
            terminal.shows(),
            (["a message longer", "than the row", "> hel"].map(String::from).into(), 5)
        );
        terminal.press("lo\x1b[D\x1b[D");
        terminal.print("another");
        assert_eq!(terminal.shows().0[2..], ["another", "> hello"]);
        assert_eq!(terminal.shows().1, 5);
        assert_eq!(terminal.press("\r"), [Pressed::Line("hello".into())]);
        assert_eq!(terminal.shows().0[3..], ["> hello", "> "]);
    }

    #[test]
    fn the_line_stays_whole_at_each_key_and_message_at_every_width() {
        for columns in 1..14 {
            let mut terminal = Emulator::with_line(columns, 5);
            for (number, key) in "ab世c\x1b[Dü\x7f\x01x\x05yz世世\x17q".split_inclusive(|_| true).enumerate()
            {
                terminal.press(key);
                terminal.print(&format!("{number} 你好, message"));
                let (rows, column) = terminal.shows();
                let line = rows.last().expect("the row of the cursor");
                let text = terminal.screen.line.as_ref().expect("an input line");
                let (before, behind) = text.editor.view("> ", columns.into());
                assert_eq!(line.trim_end(), (before.clone() + &behind).trim_end(), "at {columns}");
                let cells: usize =
                    before.chars().map(|c| crate::wrap::cells(c.encode_utf8(&mut [0; 4]))).sum();
                assert_eq!(usize::from(column), cells, "at {columns}");
            }
        }
    }

    #[test]
    fn everything_is_wrapped_again_when_the_width_changes() {
        for with_line in [false, true] {
            let mut terminal = if with_line { Emulator::with_line(30, 8) } else { Emulator::new(30, 8) };
            let line = if with_line { "> typed" } else { "" };
            terminal.press("typed");
            terminal.print("the quick brown fox jumps");
            terminal.print("over the lazy dog");
            assert_eq!(terminal.shows().0, ["the quick brown fox jumps", "over the lazy dog", line]);
            terminal.resize(12, 8);
            let narrow = ["the quick", "brown fox", "jumps", "over the", "lazy dog", line];
            assert_eq!(terminal.shows().0, narrow);
            terminal.resize(12, 4);
            assert_eq!(terminal.shows().0.last().expect("a row"), line);
            terminal.resize(30, 4);
            assert_eq!(terminal.shows().0, ["the quick brown fox jumps", "over the lazy dog", line]);
            terminal.resize(9, 4);
            assert_eq!(terminal.shows().0, ["jumps", "over the", "lazy dog", line]);
        }
    }

    #[test]
    fn every_size_can_be_drawn() {
        let mut terminal = Emulator::with_line(20, 5);
        terminal.press("typing 世界");
        for text in
            ["", " ", "   spaces   ", "averyveryverylongword", "世界世界世界", "a\n\nb\n", "\t\x1b[31m"]
        {
            terminal.print(text);
        }
        for columns in (1..25).rev().chain(1..25) {
            for rows in 1..4 {
                terminal.resize(columns, rows);
                assert_eq!(terminal.shows().0.len(), rows.into(), "{columns}x{rows}");
            }
        }
    }

    #[test]
    fn a_size_of_zero_is_a_size_not_known() {
        assert_eq!(Size::told(0, 0), USUAL);
        assert_eq!(Size::told(100, 0), Size { columns: 100, rows: USUAL.rows });
    }

    #[test]
    fn history_is_bounded_in_messages_and_in_bytes() {
        let mut history = History { messages: VecDeque::new(), bytes: 0, most: 3, begins_with_rule: true };
        assert_eq!(history.last_rows(9, 4), ["#--#"]);
        for number in 0..5 {
            history.push(number.to_string());
        }
        assert_eq!(history.messages, ["2", "3", "4"]);
        assert_eq!(history.last_rows(2, 80), ["3", "4"]);
        assert_eq!(history.last_rows(9, 80), ["2", "3", "4"]);
        assert_eq!(history.last_rows(0, 80), [""; 0]);
        history.push("x".repeat(MOST_BYTES + 1));
        assert_eq!((history.messages.len(), history.bytes), (1, MOST_BYTES + 1), "the newest is kept");
        history.push("y".into());
        assert_eq!((history.messages.len(), history.bytes), (1, 1));
    }

    #[test]
    fn a_rule_is_as_wide_as_the_terminal_and_scrolls_out_with_what_is_printed_first() {
        let mut terminal = Emulator::new(10, 4);
        terminal.with(Screen::begin_with_rule);
        terminal.print("one");
        assert_eq!(terminal.shows().0, ["#--------#", "one", ""]);
        terminal.resize(5, 4);
        assert_eq!(terminal.shows().0, ["#---#", "one", ""]);
        for columns in [1, 2, 3] {
            terminal.resize(columns, 5);
            assert_eq!(terminal.shows().0[0], ["#", "##", "#-#"][usize::from(columns) - 1]);
        }
        terminal.resize(10, 4);
        terminal.print("two\nthree\nfour");
        terminal.resize(12, 4);
        assert_eq!(terminal.shows().0, ["two", "three", "four", ""]);
    }

    #[test]
    fn a_screen_without_history_draws_on() {
        let mut screen = Screen::new(Size::told(10, 5), 0);
        let mut out = String::new();
        screen.print(["gone".to_owned()], &mut out);
        assert!(out.contains("gone\r\n"));
        out.clear();
        screen.resize(Size::told(20, 5), &mut out);
        assert!(!out.contains("gone"));
    }

    #[test]
    fn the_line_is_taken_away_at_the_end() {
        let mut terminal = Emulator::with_line(20, 5);
        terminal.print("said");
        assert_eq!(terminal.press("typed\x03"), [Pressed::Interrupt]);
        assert_eq!(terminal.press("\x04"), [Pressed::End]);
        assert!(terminal.with(Screen::end_line));
        assert_eq!(terminal.shows(), (vec!["said".to_owned(), String::new()], 0));
        assert!(!terminal.with(Screen::end_line));
        assert_eq!(terminal.press("x"), []);
    }

    #[test]
    fn what_is_pasted_is_drawn_once() {
        let mut screen = Screen::new(Size::told(80, 24), 10);
        let mut out = String::new();
        screen.begin_line("> ", &mut out);
        out.clear();
        screen.keys(&[Key::Char('a'); 1000], &mut out);
        assert!(out.len() < 200, "{} bytes", out.len());
    }
}
