//! How single values of a catalog are written: decimals, times and rounding modes as text, never as numbers.

use std::fmt::Display;

use pulso_domain::money::RoundingMode;
use pulso_domain::price::{Percent, UnitPrice};
use pulso_domain::quantity::Quantity;
use pulso_domain::time::Instant;

/// The categories of services in FOCUS 1.2.
pub const SERVICE_CATEGORIES: [&str; 19] = [
    "AI and Machine Learning",
    "Analytics",
    "Business Applications",
    "Compute",
    "Databases",
    "Developer Tools",
    "Multicloud",
    "Identity",
    "Integration",
    "Internet of Things",
    "Management and Governance",
    "Media",
    "Migration",
    "Mobile",
    "Networking",
    "Security",
    "Storage",
    "Web",
    "Other",
];

/// A value that stands in a catalog as text.
pub(crate) trait Word: Sized {
    /// Reads it.
    ///
    /// # Errors
    /// The second half of a sentence whose first is the name of the field.
    fn read(text: &str) -> Result<Self, String>;

    /// Writes it.
    fn written(&self) -> String;
}

impl Word for UnitPrice {
    fn read(text: &str) -> Result<Self, String> {
        Self::parse(text).map_err(|error| error.to_string())
    }
    fn written(&self) -> String {
        self.to_string()
    }
}

impl Word for Percent {
    fn read(text: &str) -> Result<Self, String> {
        Self::parse(text)
            .map_err(|error| format!("{error}; a percentage is 0 to 100 with at most 4 decimals"))
    }
    fn written(&self) -> String {
        self.to_string()
    }
}

impl Word for Quantity {
    fn read(text: &str) -> Result<Self, String> {
        let quantity = Self::parse(text.as_bytes()).map_err(|error| error.to_string())?;
        if quantity.steps() > 0 { Ok(quantity) } else { Err("must be above 0".to_owned()) }
    }
    fn written(&self) -> String {
        self.to_string()
    }
}

impl Word for Instant {
    fn read(text: &str) -> Result<Self, String> {
        let instant = Self::parse_rfc3339(text)
            .ok_or_else(|| "must be a time such as 2026-01-01T00:00:00Z".to_owned())?;
        if instant.seconds().rem_euclid(3600) != 0 || instant.nanos() != 0 {
            return Err("must lie on a whole hour in UTC".to_owned());
        }
        Ok(instant)
    }
    fn written(&self) -> String {
        self.to_string()
    }
}

impl Word for RoundingMode {
    fn read(text: &str) -> Result<Self, String> {
        Self::parse(text).ok_or_else(|| "must be one of half_even, half_up, up, down".to_owned())
    }
    fn written(&self) -> String {
        self.as_str().to_owned()
    }
}

/// Serde of one [`Word`].
pub(crate) mod as_text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use super::Word;

    pub(crate) fn serialize<T: Word, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&value.written())
    }

    pub(crate) fn deserialize<'de, T: Word, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
        let text = String::deserialize(deserializer)?;
        T::read(&text).map_err(|detail| D::Error::custom(super::sentence(&text, &detail)))
    }
}

/// Serde of a [`Word`] that may be absent.
pub(crate) mod as_text_option {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use super::Word;

    pub(crate) fn serialize<T: Word, S: Serializer>(
        value: &Option<T>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => serializer.serialize_str(&value.written()),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, T: Word, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<T>, D::Error> {
        let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
        T::read(&text).map(Some).map_err(|detail| D::Error::custom(super::sentence(&text, &detail)))
    }
}

fn sentence(text: &str, detail: &impl Display) -> String {
    format!("\"{text}\" {detail}")
}
