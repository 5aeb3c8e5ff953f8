//! The line editor of the input line: keys, cursor, earlier lines, and the view that fits a row.

use std::collections::VecDeque;

use unicode_segmentation::{GraphemeCursor, UnicodeSegmentation};

use crate::keys::Key;
use crate::wrap::cells;

/// The longest line that can be typed or pasted, in bytes.
pub(crate) const LONGEST_LINE: usize = 64 * 1024;
/// The number of lines that the up key reaches.
pub(crate) const REMEMBERED: usize = 1000;

/// The outcome of a key.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Edited {
    /// The line is as it was: the key makes no sense here.
    Refused,
    Changed,
    /// Enter: a line is complete, and the next one begins.
    Line(String),
    Interrupt,
    End,
    Redraw,
    Suspend,
}

/// A line, a cursor in it, and the lines before it.
#[derive(Default)]
pub(crate) struct Editor {
    text: String,
    /// The cursor in bytes, always between two clusters.
    cursor: usize,
    earlier: VecDeque<String>,
    /// The index of the earlier line that is shown, and the text that had been typed before. The earlier lines stay as they were.
    recalled: Option<(usize, String)>,
}

impl Editor {
    pub(crate) fn key(&mut self, key: Key) -> Edited {
        let (before, length) = (self.cursor, self.text.len());
        match key {
            Key::Char(c) => {
                if self.text.len() + c.len_utf8() > LONGEST_LINE {
                    return Edited::Refused;
                }
                self.text.insert(self.cursor, c);
                self.cursor += c.len_utf8();
                self.settle();
            }
            Key::Enter => {
                let line = std::mem::take(&mut self.text);
                self.cursor = 0;
                self.remember(&line);
                return Edited::Line(line);
            }
            Key::Backspace => self.remove(self.left(), self.cursor),
            Key::Delete => self.remove(self.cursor, self.right()),
            Key::Left => self.cursor = self.left(),
            Key::Right => self.cursor = self.right(),
            Key::WordLeft => self.cursor = self.word_left(),
            Key::WordRight => self.cursor = self.word_right(),
            Key::Home => self.cursor = 0,
            Key::End => self.cursor = self.text.len(),
            Key::KillBefore => self.remove(0, self.cursor),
            Key::KillAfter => self.remove(self.cursor, self.text.len()),
            Key::KillWord => self.remove(self.word_left(), self.cursor),
            Key::Up => return self.recall_earlier(),
            Key::Down => return self.recall_later(),
            Key::Interrupt => {
                self.text.clear();
                self.cursor = 0;
                self.recalled = None;
                return Edited::Interrupt;
            }
            Key::EndOrDelete if self.text.is_empty() => return Edited::End,
            Key::EndOrDelete => self.remove(self.cursor, self.right()),
            Key::Redraw => return Edited::Redraw,
            Key::Suspend => return Edited::Suspend,
        }
        if (before, length) == (self.cursor, self.text.len()) { Edited::Refused } else { Edited::Changed }
    }

    fn remove(&mut self, from: usize, to: usize) {
        self.text.drain(from..to);
        self.cursor = from;
        self.settle();
    }

    /// Moves the cursor out of a cluster: a change may have joined the text before the cursor with the text behind it.
    fn settle(&mut self) {
        let mut at = GraphemeCursor::new(self.cursor, self.text.len(), true);
        if !matches!(at.is_boundary(&self.text, 0), Ok(true)) {
            self.cursor = self.right();
        }
    }

    fn left(&self) -> usize {
        let mut at = GraphemeCursor::new(self.cursor, self.text.len(), true);
        at.prev_boundary(&self.text, 0).ok().flatten().unwrap_or(0)
    }

    fn right(&self) -> usize {
        let mut at = GraphemeCursor::new(self.cursor, self.text.len(), true);
        at.next_boundary(&self.text, 0).ok().flatten().unwrap_or(self.text.len())
    }

    fn word_left(&self) -> usize {
        let words = self.text[..self.cursor].trim_end();
        words.rfind(char::is_whitespace).map_or(0, |space| {
            let space_len = words[space..].chars().next().map_or(0, char::len_utf8);
            space + space_len
        })
    }

    fn word_right(&self) -> usize {
        let behind = &self.text[self.cursor..];
        let spaces = behind.len() - behind.trim_start().len();
        let word = behind[spaces..].find(char::is_whitespace).unwrap_or(behind.len() - spaces);
        self.cursor + spaces + word
    }

    fn remember(&mut self, line: &str) {
        self.recalled = None;
        if line.is_empty() || self.earlier.back().is_some_and(|last| last == line) {
            return;
        }
        if self.earlier.len() == REMEMBERED {
            self.earlier.pop_front();
        }
        self.earlier.push_back(line.to_owned());
    }

    fn recall_earlier(&mut self) -> Edited {
        let shown = self.recalled.as_ref().map_or(self.earlier.len(), |(index, _)| *index);
        let Some(index) = shown.checked_sub(1) else { return Edited::Refused };
        let recalled = std::mem::replace(&mut self.text, self.earlier[index].clone());
        let typed = self.recalled.take().map_or(recalled, |(_, typed)| typed);
        self.recalled = Some((index, typed));
        self.cursor = self.text.len();
        Edited::Changed
    }

    fn recall_later(&mut self) -> Edited {
        let Some((index, typed)) = self.recalled.take() else { return Edited::Refused };
        match self.earlier.get(index + 1) {
            Some(line) => {
                self.text.clone_from(line);
                self.recalled = Some((index + 1, typed));
            }
            None => self.text = typed,
        }
        self.cursor = self.text.len();
        Edited::Changed
    }

    /// The part of the line that fits a row of `width` cells: the prompt, if it leaves room for more than itself, and the text
    /// around the cursor. Returns the text before the cursor and the text behind it. A cell is left for the cursor.
    pub(crate) fn view(&self, prompt: &str, width: usize) -> (String, String) {
        let (before, behind) = self.text.split_at(self.cursor);
        let room = width.saturating_sub(1);
        let prompt_cells: usize = prompt.graphemes(true).map(cells).sum();
        // Half of the row at least is for the text.
        let (prompt, room) =
            if prompt_cells <= room / 2 { (prompt, room - prompt_cells) } else { ("", room) };

        // A quarter of the room is kept for what is behind the cursor, if there is that much.
        let (ahead, _) = take(behind.graphemes(true), room / 4);
        let (used, shown_before) = take(before.graphemes(true).rev(), room - ahead);
        let (_, shown_behind) = take(behind.graphemes(true), room - used);
        let before = &before[before.len() - shown_before..];
        (prompt.to_owned() + &displayed(before), displayed(&behind[..shown_behind]))
    }
}

/// A tab in the line that is being typed takes one cell.
fn displayed(text: &str) -> String {
    text.replace('\t', " ")
}

/// The length of the first clusters that fit into `room` cells: in cells, and in bytes.
fn take<'a>(clusters: impl Iterator<Item = &'a str>, room: usize) -> (usize, usize) {
    let (mut used, mut bytes) = (0, 0);
    for cluster in clusters {
        let width = if cluster == "\t" { 1 } else { cells(cluster) };
        if used + width > room {
            break;
        }
        used += width;
        bytes += cluster.len();
    }
    (used, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(text: &str) -> Editor {
        let mut editor = Editor::default();
        for c in text.chars() {
            assert_eq!(editor.key(Key::Char(c)), Edited::Changed);
        }
        editor
    }

    fn press(editor: &mut Editor, keys: &[Key]) {
        for &key in keys {
            assert_eq!(editor.key(key), Edited::Changed, "{key:?}");
        }
    }

    /// The line, with a bar for the cursor.
    fn shown(editor: &Editor) -> String {
        format!("{}|{}", &editor.text[..editor.cursor], &editor.text[editor.cursor..])
    }

    #[test]
    fn keys_edit_the_line() {
        use Key::*;
        for (text, keys, result) in [
            ("hello", &[][..], "hello|"),
            ("hello", &[Backspace], "hell|"),
            ("hello", &[Left, Left], "hel|lo"),
            ("hello", &[Left, Left, Char('X')], "helX|lo"),
            ("hello", &[Left, Left, Backspace], "he|lo"),
            ("hello", &[Left, Left, Delete], "hel|o"),
            ("hello", &[Left, Left, EndOrDelete], "hel|o"),
            ("hello", &[Home], "|hello"),
            ("hello", &[Home, Right], "h|ello"),
            ("hello", &[Home, End], "hello|"),
            ("hello", &[Left, Left, KillBefore], "|lo"),
            ("hello", &[Left, Left, KillAfter], "hel|"),
            ("one two  ", &[KillWord], "one |"),
            ("one two", &[Left, KillWord], "one |o"),
            ("one two", &[WordLeft], "one |two"),
            ("one two", &[WordLeft, WordLeft], "|one two"),
            ("one two", &[Home, WordRight], "one| two"),
            ("one two", &[Home, WordRight, WordRight], "one two|"),
            ("ü\u{3000}世", &[WordLeft, KillWord], "|世"),
        ] {
            let mut editor = typed(text);
            press(&mut editor, keys);
            assert_eq!(shown(&editor), result, "{text:?} {keys:?}");
        }
    }

    #[test]
    fn a_key_without_effect_is_refused() {
        use Key::*;
        let mut editor = Editor::default();
        for key in
            [Backspace, Delete, Left, Right, WordLeft, WordRight, Home, End, Up, Down, KillBefore, KillWord]
        {
            assert_eq!(editor.key(key), Edited::Refused, "{key:?}");
        }
    }

    #[test]
    fn what_a_reader_takes_for_one_character_is_one() {
        use Key::*;
        for cluster in ["ü", "u\u{308}", "世", "👩‍👩‍👧", "🇩🇪", "👍🏽", "a\u{301}\u{302}\u{303}"]
        {
            let mut editor = typed(&format!("x{cluster}y"));
            press(&mut editor, &[Left, Left]);
            assert_eq!(shown(&editor), format!("x|{cluster}y"));
            press(&mut editor, &[Right]);
            assert_eq!(shown(&editor), format!("x{cluster}|y"));
            press(&mut editor, &[Backspace]);
            assert_eq!(shown(&editor), "x|y");
        }
    }

    #[test]
    fn the_cursor_is_never_inside_of_a_character_whatever_is_typed_and_removed() {
        use Key::*;
        let keys = [
            Char('a'),
            Char('\u{301}'),
            Char('🇩'),
            Char('\u{200d}'),
            Char('👩'),
            Left,
            Right,
            Backspace,
            Delete,
            KillWord,
        ];
        for number in 0..keys.len().pow(5) {
            let mut editor = Editor::default();
            let mut rest = number;
            for _ in 0..5 {
                editor.key(keys[rest % keys.len()]);
                rest /= keys.len();
                let boundaries = editor.text.grapheme_indices(true).map(|(at, _)| at);
                assert!(
                    boundaries.chain([editor.text.len()]).any(|at| at == editor.cursor),
                    "{}",
                    shown(&editor)
                );
            }
        }
    }

    #[test]
    fn enter_gives_the_line_and_begins_another() {
        let mut editor = typed("hello");
        editor.key(Key::Left);
        assert_eq!(editor.key(Key::Enter), Edited::Line("hello".into()));
        assert_eq!(shown(&editor), "|");
        assert_eq!(editor.key(Key::Enter), Edited::Line(String::new()));
    }

    #[test]
    fn ctrl_d_ends_only_an_empty_line_and_ctrl_c_drops_one() {
        let mut editor = typed("a");
        assert_eq!(editor.key(Key::EndOrDelete), Edited::Refused);
        assert_eq!(editor.key(Key::Interrupt), Edited::Interrupt);
        assert_eq!(shown(&editor), "|");
        assert_eq!(editor.key(Key::EndOrDelete), Edited::End);
    }

    #[test]
    fn up_and_down_go_through_the_lines_before_and_back_to_what_was_typed() {
        use Key::*;
        let mut editor = Editor::default();
        for line in ["one", "two", "two", "", "three"] {
            line.chars().for_each(|c| _ = editor.key(Char(c)));
            editor.key(Enter);
        }
        press(&mut editor, &[Char('x')]);
        for expected in ["three|", "two|", "one|"] {
            press(&mut editor, &[Up]);
            assert_eq!(shown(&editor), expected);
        }
        assert_eq!(editor.key(Up), Edited::Refused);
        press(&mut editor, &[Char('!'), Down, Up]);
        assert_eq!(shown(&editor), "one|", "an earlier line stays as it was sent");
        press(&mut editor, &[Down, Down, Down]);
        assert_eq!(shown(&editor), "x|");
        assert_eq!(editor.key(Down), Edited::Refused);
        press(&mut editor, &[Up, Up]);
        assert_eq!(editor.key(Enter), Edited::Line("two".into()));
        press(&mut editor, &[Up]);
        assert_eq!(shown(&editor), "two|");
    }

    #[test]
    fn a_line_and_the_number_of_lines_have_bounds() {
        let mut editor = Editor::default();
        for _ in 0..LONGEST_LINE {
            editor.key(Key::Char('a'));
        }
        assert_eq!(editor.key(Key::Char('a')), Edited::Refused);
        for number in 0..REMEMBERED + 5 {
            editor.key(Key::KillBefore);
            number.to_string().chars().for_each(|c| _ = editor.key(Key::Char(c)));
            editor.key(Key::Enter);
        }
        assert_eq!(editor.earlier.len(), REMEMBERED);
        assert_eq!(editor.earlier[0], "5");
    }

    #[test]
    fn a_line_that_fits_is_shown_whole() {
        let mut editor = typed("hello\tworld");
        press(&mut editor, &[Key::WordLeft]);
        assert_eq!(editor.view("> ", 80), ("> hello ".into(), "world".into()));
    }

    #[test]
    fn of_a_long_line_what_is_around_the_cursor_is_shown() {
        let mut editor = typed("abcdefghijklmnopqrstuvwxyz");
        assert_eq!(editor.view("> ", 13), ("> qrstuvwxyz".into(), String::new()));
        press(&mut editor, &[Key::Left; 13]);
        assert_eq!(editor.view("> ", 13), ("> fghijklm".into(), "no".into()));
        press(&mut editor, &[Key::Home]);
        assert_eq!(editor.view("> ", 13), ("> ".into(), "abcdefghij".into()));
        assert_eq!(
            editor.view("a long prompt> ", 13),
            (String::new(), "abcdefghijkl".into()),
            "no room for the prompt"
        );
    }

    #[test]
    fn the_view_fits_at_every_width_and_leaves_a_cell_for_the_cursor() {
        let mut editor = typed("a世\tbu\u{308}👍cd世世世ef");
        loop {
            for width in 0..30 {
                let (before, behind) = editor.view("你> ", width);
                let used: usize = (before.clone() + &behind).graphemes(true).map(cells).sum();
                assert!(used <= width.saturating_sub(1), "{before:?} {behind:?} at {width}");
                assert!(
                    width < 4 || !before.is_empty() || editor.cursor == 0,
                    "{before:?} {behind:?} at {width}"
                );
            }
            if editor.key(Key::Left) == Edited::Refused {
                break;
            }
        }
    }
}
