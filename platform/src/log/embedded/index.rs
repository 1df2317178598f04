//! The sparse index of one segment: every so many bytes, a [`Point`] from which reading can begin. For full segments it
//! also lies on disk, under a checksum. It is never trusted for content: what is read from a point is chained to it.

use std::path::Path;

use xxhash_rust::xxh3::xxh3_64;

use super::folder::segment_path;
use super::format::u64_at;
use super::point::Point;

/// How many bytes of stream lie between two points, at least: a seek reads about this much in vain.
pub(super) const INDEX_BYTES: u64 = 64 * 1024;

const MAGIC: u64 = u64::from_le_bytes(*b"PULSOIX1");
const FIXED_WORDS: usize = 4;

/// Points of one segment, in order.
#[derive(Clone, Debug)]
pub(super) struct Index {
    segment: u64,
    partitions: usize,
    /// For each point: byte, sequence, digest, next offsets.
    words: Vec<u64>,
}

impl Index {
    /// An index that begins with the first point of its segment.
    pub(super) fn new(first: &Point) -> Self {
        let mut index =
            Self { segment: first.segment, partitions: first.next_offsets.len(), words: Vec::new() };
        index.push(first);
        index
    }

    /// Takes a point in when it is far enough from the last one.
    pub(super) fn offer(&mut self, point: &Point) {
        let last = self.words[self.words.len() - self.stride()];
        if point.byte >= last + INDEX_BYTES {
            self.push(point);
        }
    }

    fn push(&mut self, point: &Point) {
        self.words.extend([point.byte, point.sequence, point.digest]);
        self.words.extend(&point.next_offsets);
    }

    const fn stride(&self) -> usize {
        3 + self.partitions
    }

    fn point(&self, words: &[u64]) -> Point {
        Point {
            segment: self.segment,
            byte: words[0],
            sequence: words[1],
            digest: words[2],
            next_offsets: words[3..].to_vec(),
        }
    }

    /// The last point at or before this offset of the partition.
    pub(super) fn before(&self, partition: u32, offset: u64) -> Point {
        let column = 3 + partition as usize;
        let (mut low, mut high) = (0, self.words.len() / self.stride());
        while high - low > 1 {
            let middle = low.midpoint(high);
            if self.words[middle * self.stride() + column] <= offset {
                low = middle;
            } else {
                high = middle;
            }
        }
        self.point(&self.words[low * self.stride()..(low + 1) * self.stride()])
    }

    /// The first point behind this byte.
    pub(super) fn after(&self, byte: u64) -> Option<Point> {
        self.words.chunks_exact(self.stride()).find(|words| words[0] > byte).map(|words| self.point(words))
    }

    /// The file's bytes. `seal` says which content the segment had: a digest that depends on all of it.
    pub(super) fn encode(&self, seal: u64) -> Vec<u8> {
        let head = [MAGIC, self.segment, self.partitions as u64, seal];
        let words = head.iter().chain(&self.words);
        let mut out: Vec<u8> = words.flat_map(|word| word.to_le_bytes()).collect();
        let checksum = xxh3_64(&out);
        out.extend(checksum.to_le_bytes());
        out
    }

    /// Reads a file back; `None` when it is not the index of that very content.
    pub(super) fn decode(bytes: &[u8], first: &Point, seal: u64) -> Option<Self> {
        if !bytes.len().is_multiple_of(8) || bytes.len() < 8 * (FIXED_WORDS + 1) {
            return None;
        }
        let (body, checksum) = bytes.split_at(bytes.len() - 8);
        if xxh3_64(body) != u64_at(checksum, 0) {
            return None;
        }
        let words: Vec<u64> = body.chunks_exact(8).map(|word| u64_at(word, 0)).collect();
        let (head, words) = words.split_at(FIXED_WORDS);
        let partitions = first.next_offsets.len();
        let ours = head == [MAGIC, first.segment, partitions as u64, seal];
        let whole = !words.is_empty() && words.len().is_multiple_of(3 + partitions);
        (ours && whole).then(|| Self { segment: first.segment, partitions, words: words.to_vec() })
    }
}

/// Writes the index beside its segment. It may fail: then it is made again when it is next needed.
pub(super) fn keep(folder: &Path, index: &Index, seal: u64) {
    let path = super::folder::index_path(folder, index.segment);
    let fresh = path.with_extension("idx-new");
    let written = std::fs::write(&fresh, index.encode(seal)).and_then(|()| std::fs::rename(&fresh, &path));
    if let Err(error) = written {
        let _ = std::fs::remove_file(&fresh);
        let segment = segment_path(folder, index.segment).display().to_string();
        tracing::warn!(segment, %error, "the index of a log segment was not kept");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(byte: u64, next: u64) -> Point {
        Point { segment: 3, byte, sequence: next + 1, digest: byte ^ 7, next_offsets: vec![next, next / 2] }
    }

    #[test]
    fn a_kept_index_reads_back_and_finds_points() {
        let mut index = Index::new(&point(96, 10));
        for step in 1..50 {
            index.offer(&point(96 + step * 40_000, 10 + step * 5));
        }
        let back = Index::decode(&index.encode(9), &point(96, 10), 9).expect("whole");
        assert_eq!(back.words, index.words);
        assert_eq!(back.before(0, 10), point(96, 10));
        let found = back.before(0, 100);
        assert!(found.next_offsets[0] <= 100 && found.next_offsets[0] > 80, "{found:?}");
        assert!(back.after(found.byte).expect("more follow").next_offsets[0] > 100);
        assert!(Index::decode(&index.encode(9), &point(96, 10), 8).is_none(), "another content");
    }

    #[test]
    fn every_flipped_byte_of_a_kept_index_is_noticed() {
        let bytes = Index::new(&point(96, 10)).encode(1);
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 0x10;
            assert!(Index::decode(&bad, &point(96, 10), 1).is_none(), "byte {at}");
        }
    }
}
