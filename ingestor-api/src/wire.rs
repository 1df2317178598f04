//! Writing protobuf by hand: the few primitives that the record and the answer need. As any encoder of proto3, fields
//! with the value 0 are left out, so that the bytes are those that the generated types would make.

/// Writes a base-128 varint.
#[inline]
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value as u8) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// The bytes that [`put_varint`] writes.
#[inline]
pub(crate) const fn varint_len(value: u64) -> usize {
    // 9/64 of the highest bit's place, rounded up: the usual way to divide by 7 without dividing.
    ((64 - (value | 1).leading_zeros()) as usize * 9 + 64) / 64
}

/// Writes a number field unless it is 0. `tag` is the field's key, one byte.
#[inline]
pub(crate) fn put_number(out: &mut Vec<u8>, tag: u8, value: u64) {
    if value != 0 {
        out.push(tag);
        put_varint(out, value);
    }
}

/// The bytes that [`put_number`] writes.
#[inline]
pub(crate) const fn number_len(value: u64) -> usize {
    if value == 0 { 0 } else { 1 + varint_len(value) }
}

/// Writes a length-delimited field, also when it is empty.
#[inline]
pub(crate) fn put_bytes(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    if bytes.len() < 0x80 {
        out.extend_from_slice(&[tag, bytes.len() as u8]);
    } else {
        out.push(tag);
        put_varint(out, bytes.len() as u64);
    }
    out.extend_from_slice(bytes);
}

/// The bytes that [`put_bytes`] writes for so many.
#[inline]
pub(crate) const fn bytes_len(length: usize) -> usize {
    1 + varint_len(length as u64) + length
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_those_of_what_is_written() {
        let borders = (0..64).flat_map(|bit| [(1_u64 << bit) - 1, 1 << bit]).chain([u64::MAX]);
        for value in borders {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            assert_eq!(out.len(), varint_len(value), "{value}");
            let decoded = prost::encoding::decode_varint(&mut &out[..]).expect("a varint");
            assert_eq!(decoded, value);
        }
    }
}
