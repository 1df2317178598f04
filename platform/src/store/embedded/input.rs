//! Reads bytes from the front: what is not there is `None`, whatever a length that was read claims.

/// Bytes, and how many of them were read.
pub(super) struct Input<'a> {
    bytes: &'a [u8],
    /// Bytes read so far.
    pub(super) offset: usize,
}

impl<'a> Input<'a> {
    /// Nothing is read yet.
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, offset: 0 }
    }

    /// The next bytes.
    pub(super) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.offset..self.offset.checked_add(length)?)?;
        self.offset += length;
        Some(taken)
    }

    /// The next bytes, as many as fit.
    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }
}
