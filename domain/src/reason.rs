//! The closed list of reasons: one code for API answers, metric labels and dead letters.

use std::fmt;

/// Why a pulse was refused at the door or dead-lettered by the fold.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Reason {
    /// The id is empty.
    EmptyId = 1,
    /// The id has more than 128 bytes.
    IdTooLong,
    /// The tenant id is empty, too long, or has a character outside `[A-Za-z0-9._-]`.
    InvalidTenant,
    /// The SKU is empty.
    InvalidSku,
    /// The amount is no plain decimal, too precise or too large.
    InvalidAmount,
    /// The amount is negative and the caller may not correct.
    NegativeAmount,
    /// The unit is empty.
    InvalidUnit,
    /// `occurred_at` is missing.
    MissingTime,
    /// `occurred_at` lies outside the years 1 to 9999, or its nanoseconds outside a second.
    InvalidTime,
    /// `occurred_at` lies before the acceptance limit or the horizon's floor.
    TooOld,
    /// `occurred_at` lies too far ahead of the ingestor's clock.
    TooNew,
    /// The unit cannot be converted to the SKU's.
    UnitMismatch,
    /// Too many tags, or one that is too long or has an empty key.
    TagLimit,
    /// A text field has more bytes than it may.
    FieldTooLong,
    /// A text has a control character.
    InvalidText,
    /// A text is not UTF-8.
    InvalidUtf8,
    /// The same tenant and id were counted with another payload.
    IdConflict,
    /// The bytes are no pulse or no record.
    Undecodable,
    /// The pulse stands in a partition that is not its tenant's.
    Misrouted,
    /// The pulse is older than ids are remembered, so a duplicate could not be told.
    BeyondHorizon,
}

impl Reason {
    /// All reasons, in the order of their stored numbers.
    pub const ALL: [Self; 20] = [
        Self::EmptyId,
        Self::IdTooLong,
        Self::InvalidTenant,
        Self::InvalidSku,
        Self::InvalidAmount,
        Self::NegativeAmount,
        Self::InvalidUnit,
        Self::MissingTime,
        Self::InvalidTime,
        Self::TooOld,
        Self::TooNew,
        Self::UnitMismatch,
        Self::TagLimit,
        Self::FieldTooLong,
        Self::InvalidText,
        Self::InvalidUtf8,
        Self::IdConflict,
        Self::Undecodable,
        Self::Misrouted,
        Self::BeyondHorizon,
    ];

    /// The stable code, such as `INVALID_AMOUNT`.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::EmptyId => "EMPTY_ID",
            Self::IdTooLong => "ID_TOO_LONG",
            Self::InvalidTenant => "INVALID_TENANT",
            Self::InvalidSku => "INVALID_SKU",
            Self::InvalidAmount => "INVALID_AMOUNT",
            Self::NegativeAmount => "NEGATIVE_AMOUNT",
            Self::InvalidUnit => "INVALID_UNIT",
            Self::MissingTime => "MISSING_TIME",
            Self::InvalidTime => "INVALID_TIME",
            Self::TooOld => "TOO_OLD",
            Self::TooNew => "TOO_NEW",
            Self::UnitMismatch => "UNIT_MISMATCH",
            Self::TagLimit => "TAG_LIMIT",
            Self::FieldTooLong => "FIELD_TOO_LONG",
            Self::InvalidText => "INVALID_TEXT",
            Self::InvalidUtf8 => "INVALID_UTF8",
            Self::IdConflict => "ID_CONFLICT",
            Self::Undecodable => "UNDECODABLE",
            Self::Misrouted => "MISROUTED",
            Self::BeyondHorizon => "BEYOND_HORIZON",
        }
    }

    /// The reason of a stored number.
    #[must_use]
    pub fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| *reason as u8 == byte)
    }

    /// The reason of a code.
    #[must_use]
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.code() == code)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_code_and_number() {
        for (place, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, place + 1);
            assert_eq!(Reason::from_byte(reason as u8), Some(reason));
            assert_eq!(Reason::from_code(reason.code()), Some(reason));
        }
        assert_eq!(Reason::from_byte(0), None);
        assert_eq!(Reason::from_byte(21), None);
    }
}
