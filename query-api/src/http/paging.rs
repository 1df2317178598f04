//! Page tokens: where the next page begins, bound to the request that it was given out for. A token carries a keyed
//! checksum over both, so that one of another request, or one that was made up, is told.

use pulso_domain::fingerprint::HashKey;
use siphasher::sip128::{Hasher128, SipHasher13};
use std::hash::Hasher;

use crate::problem::{Code, Problem};

const CHECKSUM_BYTES: usize = 16;

/// Makes and reads the tokens of one request.
pub(crate) struct Paging {
    key: [u8; 16],
    request: Vec<u8>,
}

impl Paging {
    /// For a request, named by its operation and every parameter that decides what is listed; not the page size.
    pub(crate) fn new(key: &HashKey, request: &[&str]) -> Self {
        let mut name = Vec::new();
        for part in request {
            name.extend_from_slice(&(part.len() as u64).to_le_bytes());
            name.extend_from_slice(part.as_bytes());
        }
        Self { key: key.bytes(), request: name }
    }

    /// The token of a place.
    pub(crate) fn token(&self, place: &[u8]) -> String {
        let checksum = self.checksum(place);
        let bytes = checksum.iter().chain(place);
        bytes.map(|byte| format!("{byte:02x}")).collect()
    }

    /// The place of a token; `None` for the first page.
    pub(crate) fn place(&self, token: Option<&str>) -> Result<Option<Vec<u8>>, Problem> {
        let Some(token) = token else { return Ok(None) };
        let bytes = from_hex(token).filter(|bytes| bytes.len() >= CHECKSUM_BYTES);
        let place = bytes.and_then(|bytes| {
            let (checksum, place) = bytes.split_at(CHECKSUM_BYTES);
            (checksum == self.checksum(place)).then(|| place.to_vec())
        });
        place.map(Some).ok_or_else(bad_token)
    }

    fn checksum(&self, place: &[u8]) -> [u8; CHECKSUM_BYTES] {
        let mut hasher = SipHasher13::new_with_key(&self.key);
        hasher.write(b"page");
        hasher.write(&(self.request.len() as u64).to_le_bytes());
        hasher.write(&self.request);
        hasher.write(place);
        hasher.finish128().as_u128().to_le_bytes()
    }
}

/// The answer to a token that was not given out.
pub(crate) fn bad_token() -> Problem {
    let detail =
        "use the next_page_token of this very request with the same parameters, or begin without one";
    Problem { field: Some("page_token"), ..Problem::new(Code::InvalidPageToken, detail) }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_back_only_for_the_request_it_was_given_out_for() {
        let key = HashKey::new([3; 16]);
        let paging = Paging::new(&key, &["usage", "acme"]);
        let token = paging.token(b"place");
        assert_eq!(paging.place(Some(&token)).unwrap().as_deref(), Some(&b"place"[..]));
        assert_eq!(paging.place(None).unwrap(), None);
        let others = [
            Paging::new(&key, &["usage", "other"]),
            Paging::new(&key, &["usagea", "cme"]),
            Paging::new(&HashKey::new([4; 16]), &["usage", "acme"]),
        ];
        for other in others {
            assert_eq!(other.place(Some(&token)).unwrap_err().code, Code::InvalidPageToken);
        }
        let mut changed = token.clone();
        changed.replace_range(40..41, if &token[40..41] == "0" { "1" } else { "0" });
        for bad in ["", "a", "zz", "00", &changed, &token[..token.len() - 2]] {
            assert_eq!(paging.place(Some(bad)).unwrap_err().code, Code::InvalidPageToken, "{bad}");
        }
    }
}
