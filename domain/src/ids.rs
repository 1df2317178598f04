//! Names that are checked once: a [`TenantId`] that exists is a good one.

use std::fmt;
use std::sync::Arc;

/// Longest tenant id in bytes; short, since it stands in every key of the store.
pub const TENANT_ID_BYTES_MAX: usize = 64;

/// Who is isolated and billed: 1..=64 bytes of `[A-Za-z0-9._-]`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantId(Arc<str>);

impl TenantId {
    /// Checks the text and keeps it; `None` when it is empty, too long or has another character.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        is_tenant_id(text.as_bytes()).then(|| Self(Arc::from(text)))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for TenantId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "TenantId({})", self.0)
    }
}

/// Whether these bytes are a tenant id.
#[must_use]
pub fn is_tenant_id(bytes: &[u8]) -> bool {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=TENANT_ID_BYTES_MAX).contains(&bytes.len()) && bytes.iter().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_id_has_only_its_own_characters_and_bounds() {
        assert!(TenantId::new("acme-1.br_SE").is_some());
        assert!(TenantId::new(&"a".repeat(64)).is_some());
        for bad in ["", "a b", "ação", "a/b", "a\n", &"a".repeat(65)] {
            assert!(TenantId::new(bad).is_none(), "{bad:?}");
        }
    }
}
