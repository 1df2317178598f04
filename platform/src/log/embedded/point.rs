//! A [`Point`] of the stream: all that is needed to read on, or to write on, from there.

/// A border between two groups.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Point {
    /// The segment file.
    pub(super) segment: u64,
    /// The byte in it.
    pub(super) byte: u64,
    /// The sequence of the group that begins here.
    pub(super) sequence: u64,
    /// The digest of the group that ends here: of everything before.
    pub(super) digest: u64,
    /// The next offset of each partition.
    pub(super) next_offsets: Vec<u64>,
}

impl Point {
    /// Its place in the stream, for comparisons.
    pub(super) const fn place(&self) -> (u64, u64) {
        (self.segment, self.byte)
    }
}
