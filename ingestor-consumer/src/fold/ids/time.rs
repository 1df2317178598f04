//! The time inside time-ordered ids. Such an id needs a look-up only in runs whose range of times holds its own.
//!
//! Only a short-cut: what counts is that the same id always gives the same answer, and any id is correct.

/// Milliseconds since the Unix epoch within a `UUIDv7` (36 characters) or a ULID (26 characters); `None` for other ids.
#[must_use]
#[inline]
pub fn id_time(id: &(impl AsRef<[u8]> + ?Sized)) -> Option<u64> {
    let bytes = id.as_ref();
    match bytes.len() {
        36 => uuid_v7_time(bytes),
        26 => ulid_time(bytes),
        _ => None,
    }
}

/// RFC 9562, section 5.7: 48 bits of Unix milliseconds lead, the version digit is 7.
#[inline]
fn uuid_v7_time(bytes: &[u8]) -> Option<u64> {
    if bytes[8] != b'-' || bytes[13] != b'-' || bytes[14] != b'7' {
        return None;
    }
    let (mut time, mut is_hex) = (0_u64, true);
    for place in [0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12] {
        let digit = HEX[usize::from(bytes[place])];
        is_hex &= digit > 0;
        time = time << 4 | u64::from(digit.wrapping_sub(1) & 0xf);
    }
    is_hex.then_some(time)
}

/// Value + 1 of each hexadecimal digit, 0 for other bytes: one load instead of three comparisons.
const HEX: [u8; 256] = {
    let mut table = [0; 256];
    let mut digit = 0;
    while digit < 16 {
        let digits: &[u8; 16] = b"0123456789abcdef";
        table[digits[digit] as usize] = digit as u8 + 1;
        table[digits[digit].to_ascii_uppercase() as usize] = digit as u8 + 1;
        digit += 1;
    }
    table
};

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
    fn other_ids_have_none() {
        for id in ["", "invoice-1", "0198c5b6-79b0-4cc3-98c4-dc0c0c07398f", "81ARZ3NDEKTSV4RRFFQ69G5FAV"] {
            assert_eq!(id_time(id), None, "{id}");
        }
        assert_eq!(id_time("é7f22e2-79b0-7cc3-98c4-dc0c0c07398f"), None);
    }
}
