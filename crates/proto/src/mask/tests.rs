//! Tests of the masking routines against each other, and of the simplest against a loop over bytes.

use super::*;

const KEYS: [[u8; 4]; 5] = [[0; 4], [0x37, 0xfa, 0x21, 0x3d], [1, 2, 3, 4], [0xff; 4], [0x80, 0, 0, 0]];
const LENGTHS: std::ops::RangeInclusive<usize> = 0..=300;
const ALIGNMENTS: std::ops::RangeInclusive<usize> = 0..=64;
/// Around the part under test, to see a write outside it.
const GUARD: u8 = 0xa5;

/// What masking is, a byte at a time (RFC 6455, section 5.3).
fn by_bytes(data: &[u8], key: [u8; 4]) -> Vec<u8> {
    data.iter().enumerate().map(|(at, byte)| byte ^ key[at % 4]).collect()
}

/// Bytes in which no two words of a vector are alike.
fn sample(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let step = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    std::iter::repeat_with(step).take(len).collect()
}

/// Runs `check` on a part of each length and alignment, and sees that nothing around it was written.
fn in_every_place(lengths: impl Iterator<Item = usize> + Clone, check: impl Fn(&mut [u8])) {
    for start in ALIGNMENTS {
        for len in lengths.clone() {
            let mut room = vec![GUARD; start + len + 64];
            check(&mut room[start..start + len]);
            assert!(room[..start].iter().chain(&room[start + len..]).all(|byte| *byte == GUARD));
        }
    }
}

/// A vector kernel, as a masked copy that says whether all it wrote is ASCII: for every length from `least`
/// on, every alignment, and data that is ASCII but for one byte.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(super) fn agrees_with_the_portable_code(
    least: usize,
    kernel: impl Fn(&mut [u8], &[u8], [u8; 4]) -> bool,
) {
    let sample = sample(300 + 3);
    in_every_place(least..=300, |dst| {
        for (nth, key) in KEYS.into_iter().enumerate() {
            // The source's alignment changes apart from the destination's.
            let src = &sample[nth % 4..][..dst.len()];
            let mut expected = src.to_vec();
            let ascii = portable::apply(&mut expected, key);
            assert_eq!(kernel(dst, src, key), ascii);
            assert_eq!(dst, expected, "{} bytes, key {key:?}", dst.len());
        }
    });
    finds_the_one_high_byte(least..=300, |data, key| {
        let src = data.to_vec();
        kernel(data, &src, key)
    });
}

/// The verdict of an in-place routine: true for ASCII, false for one high byte, wherever it is.
fn finds_the_one_high_byte(lengths: impl Iterator<Item = usize>, apply: impl Fn(&mut [u8], [u8; 4]) -> bool) {
    let key = [0x37, 0xfa, 0x21, 0x3d];
    for len in lengths {
        // From the second byte of the allocation on, so that no vector is aligned by chance.
        let mut room = vec![GUARD; len + 1];
        let data = &mut room[1..];
        let mut text = vec![b'~'; len];
        data.copy_from_slice(&by_bytes(&text, key));
        assert!(apply(data, key), "{len} bytes of ASCII");
        for at in 0..len {
            text[at] = 0x80;
            data.copy_from_slice(&by_bytes(&text, key));
            assert!(!apply(data, key), "byte {at} of {len} is high");
            text[at] = b'~';
        }
    }
}

#[test]
fn the_portable_code_agrees_with_a_loop_over_bytes() {
    let sample = sample(300);
    in_every_place(LENGTHS, |dst| {
        for key in KEYS {
            let src = &sample[..dst.len()];
            let expected = by_bytes(src, key);
            dst.copy_from_slice(src);
            assert_eq!(portable::apply(dst, key), expected.is_ascii());
            assert_eq!(dst, expected, "in place, {} bytes, key {key:?}", dst.len());
            dst.fill(0);
            portable::copy(dst, src, key);
            assert_eq!(dst, expected, "copied, {} bytes, key {key:?}", dst.len());
            let mut out = vec![GUARD];
            portable::append(&mut out, src, key);
            assert_eq!(out[0], GUARD);
            assert_eq!(out[1..], expected, "appended, {} bytes, key {key:?}", dst.len());
        }
    });
    finds_the_one_high_byte(LENGTHS, portable::apply);
}

#[test]
fn every_routine_agrees_with_a_loop_over_bytes() {
    let sample = sample(300);
    in_every_place(LENGTHS, |dst| {
        for key in KEYS {
            let src = &sample[..dst.len()];
            let expected = by_bytes(src, key);
            dst.copy_from_slice(src);
            apply(dst, key);
            assert_eq!(dst, expected, "apply, {} bytes, key {key:?}", dst.len());
            dst.copy_from_slice(src);
            assert_eq!(apply_ascii(dst, key), expected.is_ascii());
            assert_eq!(dst, expected, "apply_ascii, {} bytes, key {key:?}", dst.len());
            dst.fill(0);
            copy(dst, src, key);
            assert_eq!(dst, expected, "copy, {} bytes, key {key:?}", dst.len());
        }
    });
    finds_the_one_high_byte(LENGTHS, apply_ascii);
}

#[test]
fn appends_behind_what_is_there() {
    let sample = sample(40_000);
    for len in LENGTHS.chain([8191, 8192, 8193, 16_384, 40_000]) {
        // Without room to spare, with just enough, and with more.
        for room in [4, 4 + len, 100_000] {
            let mut out = Vec::with_capacity(room);
            out.extend_from_slice(b"head");
            append(&mut out, &sample[..len], KEYS[1]);
            assert_eq!(out[..4], *b"head");
            assert_eq!(out[4..], by_bytes(&sample[..len], KEYS[1]), "{len} bytes");
        }
    }
}

#[test]
#[should_panic(expected = "a destination as long as its source")]
fn refuses_to_copy_into_another_length() {
    copy(&mut [0; 3], &[0; 4], [0; 4]);
}

#[test]
fn applied_twice_restores() {
    for len in LENGTHS {
        let plain = sample(len);
        let mut data = plain.clone();
        apply(&mut data, KEYS[1]);
        assert!(len == 0 || data != plain);
        apply(&mut data, KEYS[1]);
        assert_eq!(data, plain);
    }
}

#[test]
fn a_key_of_zeros_changes_nothing() {
    for len in LENGTHS {
        let plain = sample(len);
        let mut data = plain.clone();
        apply(&mut data, [0; 4]);
        assert_eq!(data, plain);
    }
}

#[test]
fn a_turned_key_masks_the_rest_of_a_split_payload() {
    let key = KEYS[1];
    let plain = sample(300);
    let whole = by_bytes(&plain, key);
    for split in 0..=plain.len() {
        assert_eq!(rotate(key, split)[0], key[split % 4]);
        let mut data = plain.clone();
        let (front, rest) = data.split_at_mut(split);
        apply(front, key);
        apply(rest, rotate(key, split));
        assert_eq!(data, whole, "split at {split}");
    }
    assert_eq!(rotate(key, usize::MAX), rotate(key, 3));
    assert_eq!(rotate(rotate(key, 2), 3), rotate(key, 5));
}

mod any {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_data_any_key_any_split(
            plain in prop::collection::vec(any::<u8>(), 0..2000),
            key in any::<[u8; 4]>(),
            split in any::<prop::sample::Index>(),
        ) {
            let split = split.index(plain.len() + 1);
            let expected = by_bytes(&plain, key);
            let mut data = plain.clone();
            let (front, rest) = data.split_at_mut(split);
            prop_assert_eq!(apply_ascii(front, key), expected[..split].is_ascii());
            prop_assert_eq!(apply_ascii(rest, rotate(key, split)), expected[split..].is_ascii());
            prop_assert_eq!(&data, &expected);

            let mut out = Vec::new();
            append(&mut out, &plain, key);
            prop_assert_eq!(&out, &expected);
        }
    }
}
