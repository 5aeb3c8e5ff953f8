//! Unmasking (RFC 6455, section 5.3) without intrinsics: loops over words that the compiler turns into vector code.

/// XORs `payload` with `key` where it is.
pub(crate) fn unmask(payload: &mut [u8], key: [u8; 4]) {
    let word = wide(key);
    let (words, tail) = payload.as_chunks_mut::<8>();
    for chunk in words {
        *chunk = (u64::from_ne_bytes(*chunk) ^ word).to_ne_bytes();
    }
    for (byte, key) in tail.iter_mut().zip(wide(key).to_ne_bytes()) {
        *byte ^= key;
    }
}

/// Writes `payload` XORed with `key` to `out`, which is as long.
pub(crate) fn unmask_into(out: &mut [u8], payload: &[u8], key: [u8; 4]) {
    let word = wide(key);
    let (to, to_tail) = out.as_chunks_mut::<8>();
    let (from, from_tail) = payload.as_chunks::<8>();
    for (to, from) in to.iter_mut().zip(from) {
        *to = (u64::from_ne_bytes(*from) ^ word).to_ne_bytes();
    }
    for ((to, from), key) in to_tail.iter_mut().zip(from_tail).zip(word.to_ne_bytes()) {
        *to = from ^ key;
    }
}

/// The key twice, in memory order.
fn wide([a, b, c, d]: [u8; 4]) -> u64 {
    u64::from_ne_bytes([a, b, c, d, a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_loops_agree_with_the_definition_at_every_length() {
        let key = [0x11, 0x80, 0xfe, 0x03];
        for length in 0..200 {
            let masked: Vec<u8> = (0..length).map(|i| (i * 7) as u8).collect();
            let plain: Vec<u8> = masked.iter().enumerate().map(|(i, byte)| byte ^ key[i % 4]).collect();
            let mut in_place = masked.clone();
            unmask(&mut in_place, key);
            assert_eq!(in_place, plain);
            let mut copied = vec![0; length];
            unmask_into(&mut copied, &masked, key);
            assert_eq!(copied, plain);
        }
    }
}
