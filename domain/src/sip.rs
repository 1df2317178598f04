//! SipHash-1-3 with 128 bits, for texts of known short length that lie in one buffer.
//!
//! The function is the one of the `siphasher` crate, which the tests compare it with. It is here because every pulse is
//! hashed twice over its way, and a hasher that takes its input in pieces spends more on the pieces than on the hash.

/// Bytes of a buffer: the longest text of 194 bytes, its last word with the length, and one word of zeros to read over.
pub(crate) const BUFFER_BYTES: usize = 26 * 8;

/// The state of the hash after some whole words.
#[derive(Clone, Copy, Debug)]
pub(crate) struct State {
    v0: u64,
    v1: u64,
    v2: u64,
    v3: u64,
}

/// What of a text stands behind its last whole word.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Tail {
    word: u64,
    /// Fewer than eight.
    bytes: u32,
}

impl Tail {
    /// Of a text of this length in a buffer.
    pub(crate) const fn of(buffer: &[u8; BUFFER_BYTES], length: usize) -> Self {
        let word = u64::from_le_bytes(buffer.as_chunks::<8>().0[length / 8]);
        let bytes = (length % 8) as u32;
        Self { word: word & !(u64::MAX << (bytes * 8)), bytes }
    }
}

impl State {
    /// As in the reference implementation, with the mark of the 128-bit form.
    #[inline(always)]
    pub(crate) const fn new(key: [u8; 16]) -> Self {
        let key = u128::from_le_bytes(key);
        let (k0, k1) = (key as u64, (key >> 64) as u64);
        Self {
            v0: k0 ^ 0x736f_6d65_7073_6575,
            v1: k1 ^ 0x646f_7261_6e64_6f6d ^ 0xee,
            v2: k0 ^ 0x6c79_6765_6e65_7261,
            v3: k1 ^ 0x7465_6462_7974_6573,
        }
    }

    #[inline(always)]
    const fn round(&mut self) {
        self.v0 = self.v0.wrapping_add(self.v1);
        self.v2 = self.v2.wrapping_add(self.v3);
        self.v1 = self.v1.rotate_left(13) ^ self.v0;
        self.v3 = self.v3.rotate_left(16) ^ self.v2;
        self.v0 = self.v0.rotate_left(32);
        self.v2 = self.v2.wrapping_add(self.v1);
        self.v0 = self.v0.wrapping_add(self.v3);
        self.v1 = self.v1.rotate_left(17) ^ self.v2;
        self.v3 = self.v3.rotate_left(21) ^ self.v0;
        self.v2 = self.v2.rotate_left(32);
    }

    #[inline(always)]
    const fn absorb(&mut self, word: u64) {
        self.v3 ^= word;
        self.round();
        self.v0 ^= word;
    }

    #[inline(always)]
    const fn squeeze(&mut self) -> u64 {
        self.round();
        self.round();
        self.round();
        self.v0 ^ self.v1 ^ self.v2 ^ self.v3
    }
}

impl State {
    /// After these words too.
    #[inline(always)]
    pub(crate) fn after(mut self, words: &[[u8; 8]]) -> Self {
        for word in words {
            self.absorb(u64::from_le_bytes(*word));
        }
        self
    }

    /// The hash of a text of this length: the words that are left, of which the last holds what is no whole word, followed
    /// by zeros.
    #[inline(always)]
    pub(crate) fn finish(self, words: &[[u8; 8]], length: usize) -> u128 {
        let Some((last, whole)) = words.split_last() else { return 0 };
        self.after(whole).end(u64::from_le_bytes(*last), length)
    }

    /// The hash of a text of this length that ends with a UUID, as text; `tail` has what precedes it behind the last whole
    /// word. The words are shifted into place in registers: read from where the parts were just written side by side, the
    /// first and the last would wait for both writes.
    #[inline(always)]
    pub(crate) fn finish_uuid(mut self, tail: Tail, uuid: &[u8; 36], length: usize) -> u128 {
        let (words, [.., a, b, c, d]) = (uuid.as_chunks::<8>().0, *uuid);
        // The mask says what is known, so that the shifts below need not look at whether they are this long.
        let shift = (tail.bytes & 7) * 8;
        let mut before = tail.word;
        for word in words {
            let word = u64::from_le_bytes(*word);
            let wide = u128::from(word) << shift;
            self.absorb(before | wide as u64);
            before = (wide >> 64) as u64;
        }
        let wide = u128::from(u32::from_le_bytes([a, b, c, d])) << shift;
        before |= wide as u64;
        if tail.bytes < 4 {
            return self.end(before, length);
        }
        self.absorb(before);
        self.end((wide >> 64) as u64, length)
    }

    #[inline(always)]
    const fn end(mut self, last: u64, length: usize) -> u128 {
        self.absorb(last | (length as u64) << 56);
        self.v2 ^= 0xee;
        let low = self.squeeze();
        self.v1 ^= 0xdd;
        let high = self.squeeze();
        low as u128 | (high as u128) << 64
    }
}

#[cfg(test)]
mod tests {
    use std::hash::Hasher;

    use siphasher::sip128::{Hasher128, SipHasher13};

    use super::*;

    #[test]
    fn every_length_hashes_as_the_reference_does() {
        let text: Vec<u8> = (0..195_u8).map(|byte| byte.wrapping_mul(37) ^ 5).collect();
        for key in [[0; 16], [0xff; 16], *b"0123456789abcdef"] {
            for length in 0..=194 {
                let mut buffer = [0; BUFFER_BYTES];
                buffer[..length].copy_from_slice(&text[..length]);
                let mut reference = SipHasher13::new_with_key(&key);
                reference.write(&text[..length]);
                let words = &buffer.as_chunks::<8>().0[..=length / 8];
                for known in 0..words.len() {
                    let hash = State::new(key).after(&words[..known]).finish(&words[known..], length);
                    assert_eq!(hash, reference.finish128().as_u128(), "{known} of {length}");
                }
            }
        }
    }
}
