//! The time inside time-ordered ids. Such an id needs a look-up only in runs whose range of times holds its own.
//!
//! Only a short-cut: what counts is that the same id always gives the same answer, and any id is correct.

/// Milliseconds since the Unix epoch within a `UUIDv7` (36 characters) or a ULID (26 characters); `None` for other ids.
#[must_use]
pub fn id_time(id: &(impl AsRef<[u8]> + ?Sized)) -> Option<u64> {
    TimeReader::default().time(id.as_ref())
}

/// Reads the times of ids one after the other. The first eight digits of a `UUIDv7` are a minute of time: most ids have
/// those of the one before.
#[derive(Clone, Copy, Debug)]
pub struct TimeReader {
    digits: u64,
    number: u32,
}

impl Default for TimeReader {
    fn default() -> Self {
        Self { digits: u64::from_le_bytes(*b"00000000"), number: 0 }
    }
}

impl TimeReader {
    /// Milliseconds since the Unix epoch within the id, as [`id_time`].
    #[must_use]
    #[inline(always)]
    pub fn time(&mut self, id: &[u8]) -> Option<u64> {
        match id.len() {
            36 => self.uuid_v7_time(id),
            26 => ulid_time(id),
            _ => None,
        }
    }

    /// RFC 9562, section 5.7: 48 bits of Unix milliseconds lead, the version digit is 7.
    #[inline(always)]
    fn uuid_v7_time(&mut self, id: &[u8]) -> Option<u64> {
        // "tttttttt" and "-tttt-7v".
        let ([high, low, ..], _) = id.as_chunks::<8>() else { return None };
        let (high, low) = (u64::from_le_bytes(*high), u64::from_le_bytes(*low));
        if low & 0x00ff_ff00_0000_00ff != 0x0037_2d00_0000_002d {
            return None;
        }
        if high != self.digits {
            (self.digits, self.number) = (high, hex_digits(high)?);
        }
        let digit = |place: usize| HEX[usize::from(id[place])];
        let (a, b, c, d) = (digit(9), digit(10), digit(11), digit(12));
        if (a | b | c | d) > 0x0f {
            return None;
        }
        let low = u64::from(a) << 12 | u64::from(b) << 8 | u64::from(c) << 4 | u64::from(d);
        Some(u64::from(self.number) << 16 | low)
    }
}

/// The value of each hexadecimal digit; 0xff for what is none.
const HEX: [u8; 256] = {
    let mut values = [0xff; 256];
    let mut value = 0;
    while value < 16 {
        values[b"0123456789abcdef"[value] as usize] = value as u8;
        values[b"0123456789ABCDEF"[value] as usize] = value as u8;
        value += 1;
    }
    values
};

/// The number that eight hexadecimal digits are, the first byte first; `None` when one is none.
#[inline(always)]
fn hex_digits(word: u64) -> Option<u32> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    // What is a letter if it is a digit at all.
    let letters = word >> 6 & ONES;
    let nibbles = (word & (0x0f * ONES)) + letters * 9;
    // Written again, it must be what was read, but for the case of letters.
    let above_nine = (nibbles + 6 * ONES) >> 4 & ONES;
    let written = nibbles + u64::from(b'0') * ONES + above_nine * u64::from(b'a' - b'9' - 1);
    if (written ^ (word | letters << 5)) | (nibbles & (0xf0 * ONES)) != 0 {
        return None;
    }
    // Pairs of nibbles, then of bytes, then of halves; the first is the most significant.
    let bytes = (nibbles << 4 | nibbles >> 8) & 0x00ff_00ff_00ff_00ff;
    let halves = (bytes | bytes >> 8) & 0x0000_ffff_0000_ffff;
    Some(((halves | halves >> 16) as u32).swap_bytes())
}

/// The ULID specification: 10 characters of Crockford's base 32 are 48 bits of Unix milliseconds.
fn ulid_time(bytes: &[u8]) -> Option<u64> {
    const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    if bytes[0] > b'7' {
        return None;
    }
    bytes[..10].iter().try_fold(0_u64, |time, byte| {
        let digit = DIGITS.iter().position(|digit| *digit == byte.to_ascii_uppercase())?;
        Some(time << 5 | digit as u64)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_ordered_ids_tell_their_time() {
        // The example of RFC 9562, appendix A.6.
        assert_eq!(id_time("017F22E2-79B0-7CC3-98C4-DC0C0C07398F"), Some(0x017f_22e2_79b0));
        assert_eq!(id_time("017f22e2-79b0-7cc3-98c4-dc0c0c07398f"), Some(0x017f_22e2_79b0));
        // The example of the ULID specification.
        assert_eq!(id_time("01ARZ3NDEKTSV4RRFFQ69G5FAV"), Some(1_469_922_850_259));
    }

    #[test]
    fn hexadecimal_digits_are_read_as_the_standard_library_does() {
        let mut word = *b"0123aF9e";
        for place in 0..8 {
            for byte in 0..=255 {
                word[place] = byte;
                let digits = word.iter().all(u8::is_ascii_hexdigit);
                let read = std::str::from_utf8(&word).ok().filter(|_| digits);
                let expected = read.and_then(|text| u32::from_str_radix(text, 16).ok());
                assert_eq!(hex_digits(u64::from_le_bytes(word)), expected, "{word:?}");
            }
            word[place] = b'0' + place as u8;
        }
    }

    #[test]
    fn other_ids_have_none() {
        for id in ["", "invoice-1", "0198c5b6-79b0-4cc3-98c4-dc0c0c07398f", "81ARZ3NDEKTSV4RRFFQ69G5FAV"] {
            assert_eq!(id_time(id), None, "{id}");
        }
        assert_eq!(id_time("é7f22e2-79b0-7cc3-98c4-dc0c0c07398f"), None);
    }
}
