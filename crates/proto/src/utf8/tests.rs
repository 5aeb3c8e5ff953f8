//! Tests of the UTF-8 validator against std, for all ways to cut a text.

use super::*;

const VALID: &[&str] = &[
    "",
    "a",
    "Hello, world",
    "\0\u{7f}",
    // The first and the last code point of each length, and those around the surrogates.
    "\u{80}\u{7ff}",
    "\u{800}\u{d7ff}\u{e000}\u{ffff}",
    "\u{10000}\u{10ffff}",
    "\u{40000}\u{fffff}\u{100000}",
    "κόσμε",
    "a\u{e9}b\u{20ac}c\u{1d11e}d",
    "\u{1f469}\u{200d}\u{1f680}",
    "0123456789012345678901234567890123456789012345678901234567890123\u{1f600}0123456789\u{20ac}",
    "\u{20ac}\u{20ac}\u{20ac}\u{20ac}\u{20ac}\u{20ac}\u{20ac}\u{20ac}\u{20ac}\u{20ac}\u{20ac}\u{20ac}\u{20ac}\
     \u{20ac}\u{20ac}\u{20ac}\u{20ac}\u{20ac}\u{20ac}\u{20ac}\u{20ac}\u{20ac}\u{20ac}\u{20ac}\u{20ac}\u{20ac}",
];

const INVALID: &[&[u8]] = &[
    // Bytes that nothing begins with.
    b"\x80",
    b"\xbf",
    b"\x80\x80\x80\x80",
    b"\xc0\xaf",
    b"\xc1\xbf",
    b"\xf5\x80\x80\x80",
    b"\xf8\x88\x80\x80\x80",
    b"\xfc\x84\x80\x80\x80\x80",
    b"\xfe",
    b"\xff",
    // Longer than need be.
    b"\xe0\x80\xaf",
    b"\xe0\x9f\xbf",
    b"\xf0\x80\x80\xaf",
    b"\xf0\x8f\xbf\xbf",
    // Surrogates.
    b"\xed\xa0\x80",
    b"\xed\xbf\xbf",
    b"\xed\xa0\x80\xed\xb0\x80",
    // Above U+10FFFF.
    b"\xf4\x90\x80\x80",
    b"\xf4\xbf\xbf\xbf",
    // Cut short, at the end and before something else.
    b"\xc3",
    b"\xe2\x82",
    b"\xf0\x9d\x84",
    b"\xc3a",
    b"\xe2\x82a",
    b"\xe2\xe2\x82\xac",
    b"\xf0\x9d\x84a",
    b"\xf0\x9d\xc3\xa9",
    // One byte too many.
    b"\xc3\xa9\xa9",
    b"\xe2\x82\xac\x80",
    b"\xf0\x9d\x84\x9e\x80",
    b"ab\xe2\x82\xacc\xffd",
    b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited",
    b"0123456789012345678901234567890123456789012345678901234567890123456789\xf0\x9f\x98",
    b"0123456789012345678901234567890123456789012345678901234567890123456789\x80",
    b"\xff0123456789012345678901234567890123456789012345678901234567890123456789",
];

fn table() -> impl Iterator<Item = &'static [u8]> {
    VALID.iter().map(|text| text.as_bytes()).chain(INVALID.iter().copied())
}

/// The verdict on a text that comes in these pieces.
fn verdict<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<(), InvalidUtf8> {
    let mut validator = Validator::default();
    pieces.into_iter().try_for_each(|piece| validator.feed(piece))?;
    validator.finish()
}

/// How many bytes of `text`, fed one at a time, are accepted.
fn accepted(text: &[u8]) -> usize {
    let mut validator = Validator::default();
    text.iter().take_while(|byte| validator.feed(&[**byte]).is_ok()).count()
}

/// The number of bytes at the front of `text` that some valid text begins with, according to std.
fn continuable(text: &[u8]) -> usize {
    (0..=text.len())
        .rev()
        .find(|&len| match std::str::from_utf8(&text[..len]) {
            Ok(_) => true,
            // Without a length: the end came too early, and the bytes so far are fine.
            Err(error) => error.error_len().is_none(),
        })
        .unwrap_or(0)
}

#[test]
fn the_table_is_what_it_says() {
    assert!(INVALID.iter().all(|text| std::str::from_utf8(text).is_err()));
}

#[test]
fn gives_the_verdict_of_std_for_every_split_in_two() {
    for text in table() {
        let expected = std::str::from_utf8(text).is_ok();
        for split in 0..=text.len() {
            let (one, two) = text.split_at(split);
            assert_eq!(verdict([one, two]).is_ok(), expected, "{text:02x?} at {split}");
        }
    }
}

#[test]
fn gives_the_verdict_of_std_for_every_split_in_three() {
    for text in table() {
        let expected = std::str::from_utf8(text).is_ok();
        for first in 0..=text.len() {
            for second in first..=text.len() {
                let pieces = [&text[..first], &text[first..second], &text[second..]];
                assert_eq!(verdict(pieces).is_ok(), expected, "{text:02x?} at {first} and {second}");
            }
        }
    }
}

#[test]
fn fails_at_the_first_byte_that_no_text_goes_on_with() {
    for text in table() {
        assert_eq!(accepted(text), continuable(text), "{text:02x?}");
    }
    let fails_after = [
        (&b"\xc0\x80"[..], 0),
        (b"\xe0\x80\x80", 1),
        (b"\xed\xa0\x80", 1),
        (b"\xf0\x80\x80\x80", 1),
        (b"\xf4\x90\x80\x80", 1),
        (b"\xf5\x80\x80\x80", 0),
        (b"\xe2\x82\x28", 2),
    ];
    for (text, bytes) in fails_after {
        assert_eq!(accepted(text), bytes, "{text:02x?}");
    }
}

#[test]
fn fails_in_the_piece_that_has_the_first_bad_byte() {
    for text in table() {
        let bad = continuable(text);
        for len in 0..=text.len() {
            // Behind some text, to come by the bulk check as well as by the short one.
            for before in [0, 100] {
                let piece = [&vec![b'x'; before], &text[..len]].concat();
                assert_eq!(Validator::default().feed(&piece).is_ok(), len <= bad, "{text:02x?}, {len} bytes");
            }
        }
    }
}

#[test]
fn every_sequence_of_three_bytes_fails_where_std_says() {
    // Every lead byte, and the bounds of every range of continuation bytes from both sides.
    let edges = [0x00, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc2, 0xe1, 0xff];
    for lead in 0..=0xff {
        for second in edges {
            for third in edges {
                let text = [lead, second, third];
                assert_eq!(accepted(&text), continuable(&text), "{text:02x?}");
                assert_eq!(verdict([&text[..]]).is_ok(), std::str::from_utf8(&text).is_ok(), "{text:02x?}");
            }
        }
    }
}

#[test]
fn every_code_point_passes_byte_by_byte_and_whole() {
    for character in '\0'..=char::MAX {
        let mut buffer = [0; 4];
        let text = character.encode_utf8(&mut buffer).as_bytes();
        assert_eq!(accepted(text), text.len(), "{character:?}");
        assert_eq!(verdict([text]), Ok(()), "{character:?}");
    }
}

#[test]
fn a_failure_lasts_until_the_text_is_finished() {
    let mut validator = Validator::default();
    assert_eq!(validator.feed(b"\xff"), Err(InvalidUtf8));
    assert!(!validator.is_complete());
    assert_eq!(validator.feed(b"fine"), Err(InvalidUtf8));
    assert_eq!(validator.feed(b""), Err(InvalidUtf8));
    assert_eq!(validator.feed_ascii(b"fine"), Err(InvalidUtf8));
    assert_eq!(validator.finish(), Err(InvalidUtf8));
    assert_eq!(validator.feed(b"fine"), Ok(()));
    assert_eq!(validator.finish(), Ok(()));
}

#[test]
fn an_unfinished_code_point_fails_the_end_and_is_forgotten() {
    let mut validator = Validator::default();
    assert_eq!(validator.feed("€".as_bytes()), Ok(()));
    assert!(validator.is_complete());
    assert_eq!(validator.feed(b"\xe2\x82"), Ok(()));
    assert!(!validator.is_complete());
    assert_eq!(validator.finish(), Err(InvalidUtf8));
    assert!(validator.is_complete());
    assert_eq!(validator.feed(b"\xac"), Err(InvalidUtf8), "it does not complete the last text's code point");
}

#[test]
fn ascii_passes_between_code_points_only() {
    let mut validator = Validator::default();
    assert_eq!(validator.feed_ascii(b"a"), Ok(()));
    assert_eq!(validator.feed(b"\xc3"), Ok(()));
    assert_eq!(validator.feed_ascii(b""), Ok(()), "an empty piece does not end a code point");
    assert_eq!(validator.feed(b"\xa9"), Ok(()));
    assert_eq!(validator.feed_ascii(b"b"), Ok(()));
    assert_eq!(validator.feed(b"\xc3"), Ok(()));
    assert_eq!(validator.feed_ascii(b"c"), Err(InvalidUtf8));
    assert_eq!(validator.finish(), Err(InvalidUtf8));
}

/// Work is proportional to the bytes fed because there is nothing else to work on: a validator is three bytes
/// and borrows nothing, so that bytes of an earlier piece are out of its reach.
#[test]
fn keeps_nothing_of_earlier_pieces() {
    fn borrows_nothing<T: Copy + 'static>() {}
    borrows_nothing::<Validator>();
    assert_eq!(size_of::<Validator>(), 3);
}

#[test]
fn four_mebibytes_in_small_pieces_pass_and_fail_as_the_whole_does() {
    // 7 bytes, so that code points lie across the pieces' ends in every way.
    let mut text = "aé𝄞".repeat((4 << 20) / 7).into_bytes();
    assert_eq!(verdict(text.chunks(64)), Ok(()));
    let last = text.len() - 1;
    text[last] = b'a';
    assert_eq!(verdict(text.chunks(64)), Err(InvalidUtf8));
}

#[test]
fn trusts_what_was_validated() {
    for text in VALID {
        assert_eq!(verdict([text.as_bytes()]), Ok(()));
        assert_eq!(trusted(text.as_bytes()), *text);
    }
}

#[test]
#[cfg(debug_assertions)]
#[should_panic(expected = "trusted to be UTF-8")]
fn does_not_trust_blindly_in_debug_builds() {
    trusted(b"\xff");
}

#[test]
fn the_error_names_the_rule() {
    assert_eq!(InvalidUtf8.to_string(), "text is not UTF-8 (RFC 6455, section 8.1)");
}

mod any {
    use proptest::prelude::*;

    use super::*;

    /// Bytes that are valid now and then: text, bytes at the bounds, any bytes; mostly text.
    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let text =
            prop::collection::vec(any::<char>(), 0..60).prop_map(|text| String::from_iter(text).into_bytes());
        let ascii = prop::collection::vec(0..0x80_u8, 0..200);
        let any_bytes = prop::collection::vec(any::<u8>(), 0..3);
        let piece = prop_oneof![4 => text, 4 => ascii, 1 => any_bytes];
        prop::collection::vec(piece, 0..4).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_pieces(
            text in bytes(),
            mut cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        ) {
            let mut cuts = Vec::from_iter(cuts.drain(..).map(|cut| cut.index(text.len() + 1)));
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let pieces = cuts.windows(2).map(|ends| &text[ends[0]..ends[1]]);
            let expected = std::str::from_utf8(&text).is_ok();
            prop_assert_eq!(verdict(pieces.clone()).is_ok(), expected);
            prop_assert_eq!(accepted(&text), continuable(&text));

            // With the cheap way for ASCII pieces.
            let mut validator = Validator::default();
            let fed = pieces.into_iter().try_for_each(|piece| {
                if piece.is_ascii() { validator.feed_ascii(piece) } else { validator.feed(piece) }
            });
            prop_assert_eq!(fed.and_then(|()| validator.finish()).is_ok(), expected);
        }
    }
}
