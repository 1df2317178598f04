//! What can go wrong around rating.

use pulso_domain::position::Rank;
use pulso_platform::log::LogError;
use pulso_platform::store::StoreError;

use crate::catalog::CatalogError;
use crate::charges::ChargesDamaged;

/// Why the pricing service could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum PricingError {
    /// The document is refused whole; every error of it.
    #[error("the catalog has {} errors; nothing was applied", .0.len())]
    InvalidCatalog(Vec<CatalogError>),
    /// Records of the log from before the start are not folded yet, so the newest catalog is not known.
    #[error("the log is still being read after a start; try again in a moment")]
    NotReady,
    /// Someone else applied another catalog under the same version.
    #[error("another catalog was applied at the same time; plan again")]
    Conflict,
    /// Rows of one month were written while they were read, again and again.
    #[error("the usage of {tenant_id} in {month} keeps changing while it is read; try again")]
    Unsteady {
        /// Whose usage.
        tenant_id: String,
        /// Which month.
        month: String,
    },
    /// The store shows an older row than was handed over.
    #[error(
        "the usage of {product_sku} by {tenant_id} in {month} is older than rank {hwm} in the store; try again"
    )]
    Stale {
        /// Whose usage.
        tenant_id: String,
        /// Which month.
        month: String,
        /// Of what.
        product_sku: String,
        /// How new it must be.
        hwm: Rank,
    },
    /// Bytes in the store are not what was written.
    #[error("the store is damaged at {place}: {detail}")]
    Damaged {
        /// What was read.
        place: String,
        /// What was found.
        detail: String,
    },
    /// The store could not be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The log did not take the catalog.
    #[error(transparent)]
    Log(#[from] LogError),
}

impl PricingError {
    /// Whether the same call may succeed later without anyone's help.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::NotReady | Self::Conflict | Self::Unsteady { .. } | Self::Stale { .. } => true,
            Self::InvalidCatalog(_) | Self::Damaged { .. } => false,
            Self::Store(error) => error.is_retryable(),
            Self::Log(error) => error.is_retryable(),
        }
    }
}

impl From<ChargesDamaged> for PricingError {
    fn from(damaged: ChargesDamaged) -> Self {
        Self::Damaged { place: "charges".to_owned(), detail: damaged.to_string() }
    }
}
