//! Line wrapping by display width, and escaping of control characters.
//!
//! Widths are counted in cells: a grapheme cluster (what a reader takes for one character: a letter with its accents, an
//! emoji with its joiners) takes as many as its display width says, and is never torn apart.

use std::borrow::Cow;

use unicode_segmentation::UnicodeSegmentation;
use unicode_width::UnicodeWidthStr;

/// The character that is shown in place of one that is wider than the terminal.
const TOO_WIDE: &str = "\u{fffd}";
const TAB_STOP: usize = 8;

/// The number of cells that a cluster takes.
pub(crate) fn cells(cluster: &str) -> usize {
    cluster.width()
}

/// Whether a character would do something to the terminal, or to the order in which other characters are shown,
/// instead of being shown.
pub(crate) fn is_harmful(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The text with its control characters written out (`\u{1b}`): it can't move the cursor, change colours, ring, or
/// reverse what is beside it. Tabs and ends of lines stay, `\r\n` as `\n`.
pub(crate) fn harmless(text: &str) -> Cow<'_, str> {
    if !text.contains(|c| is_harmful(c) && c != '\n' && c != '\t') {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\r' if chars.peek() == Some(&'\n') => {}
            '\n' | '\t' => shown.push(c),
            c if is_harmful(c) => shown.extend(c.escape_default()),
            c => shown.push(c),
        }
    }
    Cow::Owned(shown)
}

/// Cuts a text into rows of at most `width` cells, as a [`Printer`](crate::Printer) shows it.
///
/// - Each `\n` begins a new row; a text without any has one row at least, though it may be empty.
/// - Rows are broken between words, at the spaces there, which are left out; and before and after wide characters, as
///   Chinese and Japanese have no spaces. A word longer than a row is cut where the row ends. Spaces at the beginning
///   of a line stay as far as its first word fits behind them, those at its end as far as they fit.
/// - Width is display width: 2 for wide characters, 0 for combining ones, which are never parted from what they
///   combine with. A character wider than the whole row is shown as `�`.
/// - Tabs become spaces up to the next multiple of 8. Control characters are written out, such as `\u{1b}`.
/// - A width of 0 counts as 1.
///
/// ```
/// use threadwire_printer::wrap;
///
/// assert_eq!(wrap("the quick brown fox", 10), ["the quick", "brown fox"]);
/// assert_eq!(wrap("a\n  indented 你好 antidisestablishment", 12), ["a", "  indented", "你好 antidis", "establishmen", "t"]);
/// assert_eq!(wrap("", 10), [""]);
/// assert_eq!(wrap("\x1b[2J", 80), ["\\u{1b}[2J"]);
/// ```
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let text = harmless(text);
    let mut rows = Rows::new(width.max(1));
    for line in text.split('\n') {
        rows.line(line);
    }
    rows.done
}

struct Rows {
    width: usize,
    done: Vec<String>,
    row: String,
    used: usize,
    /// Spaces that are written if something follows them on the same row.
    spaces: usize,
    /// Whether nothing but spaces came on this row.
    blank: bool,
}

impl Rows {
    fn new(width: usize) -> Rows {
        Rows { width, done: Vec::new(), row: String::new(), used: 0, spaces: 0, blank: true }
    }

    fn line(&mut self, line: &str) {
        let mut column = 0;
        let (mut word, mut word_cells) = (String::new(), 0);
        for cluster in line.graphemes(true) {
            let spaces = match cluster {
                " " => 1,
                "\t" => TAB_STOP - column % TAB_STOP,
                _ => 0,
            };
            let width = if spaces > 0 { spaces } else { cells(cluster) };
            column += width;
            if spaces > 0 || width > 1 {
                self.word(&word, word_cells);
                (word, word_cells) = (String::new(), 0);
            }
            match (spaces, width) {
                (0, 2..) => self.word(cluster, width),
                (0, _) => {
                    word += cluster;
                    word_cells += width;
                }
                _ => self.spaces += spaces,
            }
        }
        self.word(&word, word_cells);
        let room = self.width - self.used;
        self.row.extend(std::iter::repeat_n(' ', self.spaces.min(room)));
        self.end_row();
    }

    /// Puts a word behind the spaces that came before it, or into the next row.
    fn word(&mut self, word: &str, width: usize) {
        if word.is_empty() {
            return;
        }
        // The room is subtracted step by step, so that no sum of lengths can overflow.
        let room = (self.width - self.used).saturating_sub(self.spaces);
        let fits = width <= room;
        // A word that fits on no row is cut, and may as well begin on this one.
        let begins_here = width > self.width && room > 0;
        if fits || begins_here {
            self.row.extend(std::iter::repeat_n(' ', self.spaces));
            self.used += self.spaces;
            self.spaces = 0;
        } else if self.blank {
            // An indentation without room for the word behind it.
            self.spaces = 0;
        } else {
            self.end_row();
        }
        self.blank = false;
        if fits {
            self.row += word;
            self.used += width;
        } else {
            word.graphemes(true).for_each(|cluster| self.cluster(cluster));
        }
    }

    fn cluster(&mut self, cluster: &str) {
        let (cluster, width) = match cells(cluster) {
            width if width > self.width => (TOO_WIDE, cells(TOO_WIDE)),
            width => (cluster, width),
        };
        if width > self.width - self.used {
            self.end_row();
            self.blank = false;
        }
        self.row += cluster;
        self.used += width;
    }

    fn end_row(&mut self) {
        self.done.push(std::mem::take(&mut self.row));
        self.used = 0;
        self.spaces = 0;
        self.blank = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every text over an alphabet, up to a length.
    fn texts(alphabet: &[&str], length: usize) -> Vec<String> {
        let mut all = vec![String::new()];
        let mut last = all.clone();
        for _ in 0..length {
            last = last.iter().flat_map(|text| alphabet.iter().map(move |c| format!("{text}{c}"))).collect();
            all.extend_from_slice(&last);
        }
        all
    }

    fn row_cells(row: &str) -> usize {
        row.graphemes(true).map(cells).sum()
    }

    #[test]
    fn every_text_at_every_width_fits_and_loses_nothing_but_spaces() {
        for text in texts(&["a", "b", " ", "\t", "\n", "世", "e\u{301}", "\x1b"], 4) {
            let whole: String = harmless(&text).split_whitespace().collect();
            for width in 0..=9 {
                let rows = wrap(&text, width);
                assert!(!rows.is_empty());
                for row in &rows {
                    assert!(row_cells(row) <= width.max(1), "{text:?} at {width}: {rows:?}");
                    assert!(!row.contains(is_harmful), "{text:?} at {width}: {rows:?}");
                }
                let shown: String = rows.concat().split_whitespace().collect();
                let expected = if width < 2 { whole.replace('世', TOO_WIDE) } else { whole.clone() };
                assert_eq!(shown, expected, "{text:?} at {width}: {rows:?}");
                let lines = text.split('\n').count();
                assert!(rows.len() >= lines, "{text:?} at {width}: {rows:?}");
                if !rows.iter().any(|row| row.trim().is_empty()) {
                    continue;
                }
                // No row is empty that is not an empty line.
                let empty = text.split('\n').filter(|line| line.trim_matches([' ', '\t']).is_empty()).count();
                let empty_rows = rows.iter().filter(|row| row.trim().is_empty()).count();
                assert_eq!(empty_rows, empty, "{text:?} at {width}: {rows:?}");
            }
        }
    }

    #[test]
    fn a_text_that_fits_is_left_alone() {
        for text in texts(&["a", " ", "世", "e\u{301}"], 5) {
            assert_eq!(wrap(&text, 10), [text]);
        }
    }

    #[test]
    fn words_stay_whole_where_a_row_has_room_for_them() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("one two three", 6), ["one", "two", "three"]);
        assert_eq!(wrap("one  two   three", 8), ["one  two", "three"]);
        assert_eq!(wrap("one            two", 8), ["one", "two"], "a gap wider than the row");
    }

    #[test]
    fn a_word_longer_than_the_row_is_cut_and_begins_where_there_is_room() {
        assert_eq!(wrap("abcdefghij", 4), ["abcd", "efgh", "ij"]);
        assert_eq!(wrap("x abcdefghij k", 4), ["x ab", "cdef", "ghij", "k"]);
        assert_eq!(wrap("xyz abcdefghij", 4), ["xyz", "abcd", "efgh", "ij"]);
        assert_eq!(wrap("abc", 1), ["a", "b", "c"]);
        assert_eq!(wrap("a bc", 0), ["a", "b", "c"]);
    }

    #[test]
    fn indentation_stays_if_its_word_fits_behind_it() {
        assert_eq!(wrap("  ab cd", 5), ["  ab", "cd"]);
        assert_eq!(wrap("    abcd", 5), ["abcd"]);
        assert_eq!(wrap("  abcdefgh", 5), ["  abc", "defgh"]);
        assert_eq!(wrap("          abcdefgh", 5), ["abcde", "fgh"]);
    }

    #[test]
    fn nothing_but_spaces_is_one_row() {
        assert_eq!(wrap("   ", 5), ["   "]);
        assert_eq!(wrap(&" ".repeat(1000), 5), ["     "]);
        assert_eq!(wrap(&" ".repeat(1000), 0), [" "]);
        assert_eq!(wrap("ab   ", 3), ["ab "]);
    }

    #[test]
    fn empty_lines_stay() {
        assert_eq!(wrap("", 5), [""]);
        assert_eq!(wrap("\n", 5), ["", ""]);
        assert_eq!(wrap("a\n\nb\n", 5), ["a", "", "b", ""]);
        assert_eq!(wrap("a\r\nb", 5), ["a", "b"]);
    }

    #[test]
    fn width_is_what_is_seen() {
        assert_eq!(wrap("你好世界", 4), ["你好", "世界"]);
        assert_eq!(wrap("你好世界", 5), ["你好", "世界"]);
        assert_eq!(wrap("ab你好", 3), ["ab", "你", "好"]);
        assert_eq!(wrap("e\u{301}e\u{301}e\u{301}", 2), ["e\u{301}e\u{301}", "e\u{301}"]);
        assert_eq!(wrap("👩‍👩‍👧👩‍👩‍👧", 2), ["👩‍👩‍👧", "👩‍👩‍👧"]);
        assert_eq!(wrap("a你", 1), ["a", "�"]);
    }

    #[test]
    fn tabs_reach_to_the_next_multiple_of_eight() {
        assert_eq!(wrap("a\tb", 20), ["a       b"]);
        assert_eq!(wrap("12345678\tb", 20), ["12345678        b"]);
        assert_eq!(wrap("你\tb", 20), ["你      b"]);
        assert_eq!(wrap("a\tb", 4), ["a", "b"]);
    }

    #[test]
    fn control_characters_are_written_out() {
        assert_eq!(wrap("a\x1b[2Jb\r\u{9b}31m\x7f", 80), ["a\\u{1b}[2Jb\\r\\u{9b}31m\\u{7f}"]);
        assert_eq!(wrap("\u{202e}evil", 80), ["\\u{202e}evil"]);
        assert!(
            matches!(harmless("grüße 你好\n\t"), Cow::Borrowed(_)),
            "nothing is copied where nothing is wrong"
        );
    }
}
