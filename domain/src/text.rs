//! Comparing short texts, as every pulse needs several times.

/// Whether two texts are equal. They nearly always are, and most are so short that two words hold them: a call of the
/// general comparison costs more than comparing.
#[must_use]
#[inline(always)]
pub fn is_same(one: &[u8], other: &[u8]) -> bool {
    if one.len() != other.len() || one.len() > 16 {
        return one == other;
    }
    // The first and the last bytes overlap, or are all there are.
    if let (Some(first), Some(last), Some(other_first), Some(other_last)) =
        (one.first_chunk(), one.last_chunk(), other.first_chunk(), other.last_chunk())
    {
        let difference = u64::from_le_bytes(*first) ^ u64::from_le_bytes(*other_first);
        return difference | (u64::from_le_bytes(*last) ^ u64::from_le_bytes(*other_last)) == 0;
    }
    if let (Some(first), Some(last), Some(other_first), Some(other_last)) =
        (one.first_chunk(), one.last_chunk(), other.first_chunk(), other.last_chunk())
    {
        let difference = u32::from_le_bytes(*first) ^ u32::from_le_bytes(*other_first);
        return difference | (u32::from_le_bytes(*last) ^ u32::from_le_bytes(*other_last)) == 0;
    }
    one.iter().zip(other).all(|(one, other)| one == other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_every_length_are_equal_only_when_all_their_bytes_are() {
        for length in 0..40 {
            let text = vec![b'a'; length];
            assert!(is_same(&text, &text.clone()));
            assert!(!is_same(&text, &vec![b'a'; length + 1]));
            for place in 0..length {
                let mut other = text.clone();
                other[place] ^= 0x20;
                assert!(!is_same(&text, &other), "{place} of {length}");
            }
        }
    }
}
