//! What a row is called in Pulso: its tenant, its SKU and its pulse id. Each depends on that row alone, so that the same
//! bill, re-sorted or with rows added, counts each row once.

use std::collections::HashMap;
use std::fmt::Write;

use pulso_domain::ids::is_tenant_id;
use sha2::{Digest, Sha256};

/// Characters kept of a name that is no tenant id; with the dash and the digits below, 64.
const KEPT_CHARACTERS: usize = 47;
/// Hex digits of the name's digest that tell mapped names apart.
const DIGEST_DIGITS: usize = 16;

/// The tenant id of a name: itself when it is one, else its allowed characters, a dash and a part of its SHA-256.
#[must_use]
pub fn tenant_id(name: &str) -> String {
    if is_tenant_id(name.as_bytes()) {
        return name.to_owned();
    }
    let allowed = |character: &char| character.is_ascii() && is_tenant_id(&[*character as u8]);
    let mut id: String = name.chars().filter(allowed).take(KEPT_CHARACTERS).collect();
    id.push('-');
    id.push_str(&hex(&Sha256::digest(name.as_bytes()))[..DIGEST_DIGITS]);
    id
}

/// Numbers identical rows and makes ids of all columns. The order of rows and of columns makes no difference.
#[derive(Debug)]
pub struct RowIds {
    /// Column names with their places, by name.
    columns: Vec<(String, usize)>,
    /// What was added to every id, such as the month the bill was moved to.
    salt: String,
    /// How often each row was seen, by the first half of its digest.
    seen: HashMap<u128, u32>,
}

impl RowIds {
    /// For a file with these columns. `salt` makes the same rows other pulses.
    #[must_use]
    pub fn new(header: &csv::StringRecord, salt: &str) -> Self {
        let mut columns: Vec<_> =
            header.iter().enumerate().map(|(place, name)| (name.to_owned(), place)).collect();
        columns.sort();
        Self { columns, salt: salt.to_owned(), seen: HashMap::new() }
    }

    /// The id of the next row of the file.
    pub fn id_of(&mut self, row: &csv::StringRecord) -> String {
        let mut digest = Sha256::new();
        for (name, place) in &self.columns {
            add(&mut digest, name);
            add(&mut digest, row.get(*place).unwrap_or_default());
        }
        add(&mut digest, &self.salt);
        let content = digest.clone().finalize();
        let mut half = [0; 16];
        half.copy_from_slice(&content[..16]);
        let ordinal = self.seen.entry(u128::from_be_bytes(half)).or_insert(0);
        digest.update(ordinal.to_be_bytes());
        *ordinal += 1;
        hex(&digest.finalize())
    }
}

/// A text with its length before it, so that no two lists of texts have the same bytes.
fn add(digest: &mut Sha256, text: &str) {
    digest.update((text.len() as u64).to_be_bytes());
    digest.update(text.as_bytes());
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use pulso_domain::ids::TenantId;

    use super::*;

    #[test]
    fn a_good_tenant_id_stays_and_another_name_is_mapped_to_one() {
        assert_eq!(tenant_id("51738928782"), "51738928782");
        let mapped = tenant_id("/subscriptions/64e355d7-997c-491d-b0c1-8414dccfcf42");
        assert_eq!(&mapped[..48], "subscriptions64e355d7-997c-491d-b0c1-8414dccfcf-");
        assert_eq!(mapped.len(), 64);
        for name in ["ação", "", "a b", &"x".repeat(65), "ü"] {
            assert!(TenantId::new(&tenant_id(name)).is_some(), "{name:?}");
        }
        assert_ne!(tenant_id("a b"), tenant_id("ab "));
        // sha256("a b") begins with c8687a08aa5d6ed2.
        assert_eq!(tenant_id("a b"), "ab-c8687a08aa5d6ed2");
    }

    fn ids(header: &[&str], rows: &[&[&str]], salt: &str) -> Vec<String> {
        let mut ids = RowIds::new(&csv::StringRecord::from(header.to_vec()), salt);
        rows.iter().map(|row| ids.id_of(&csv::StringRecord::from(row.to_vec()))).collect()
    }

    #[test]
    fn identical_rows_are_two_pulses_and_order_makes_no_difference() {
        let first = ids(&["a", "b"], &[&["1", "2"], &["1", "2"], &["3", "4"]], "");
        assert_ne!(first[0], first[1]);
        let mut sorted = first.clone();
        sorted.sort();
        let mut other = ids(&["b", "a"], &[&["4", "3"], &["2", "1"], &["9", "9"], &["2", "1"]], "");
        other.remove(2);
        other.sort();
        assert_eq!(sorted, other);
    }

    #[test]
    fn neighbouring_columns_do_not_run_together_and_the_month_is_part_of_the_id() {
        let columns = ["a", "b"];
        assert_ne!(ids(&columns, &[&["ab", "c"]], ""), ids(&columns, &[&["a", "bc"]], ""));
        assert_ne!(ids(&columns, &[&["a", "b"]], ""), ids(&columns, &[&["a", "b"]], "2026-01"));
    }
}
