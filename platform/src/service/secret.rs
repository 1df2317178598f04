//! Secrets among the settings: never printed, also not by `--print-config` or in an error; given by value or in a file.

use std::fmt;
use std::path::Path;

use serde::{Serialize, Serializer};

/// What stands in the place of a secret wherever settings are shown.
const REDACTED: &str = "***";

/// A text that must not be shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps a text from being shown.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for the one who needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(REDACTED)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(REDACTED)
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

/// The secret of a setting that may be given by value or in a file; line ends behind it are left out.
///
/// # Errors
/// When both are given, or the file cannot be read. `flag` names the setting in the sentence.
pub fn resolve(flag: &str, value: Option<&Secret>, file: Option<&Path>) -> Result<Option<Secret>, String> {
    match (value, file) {
        (Some(_), Some(_)) => Err(format!("{flag} and {flag}-file are both given; leave one out")),
        (Some(secret), None) => Ok(Some(secret.clone())),
        (None, Some(path)) => match std::fs::read_to_string(path) {
            Ok(text) => Ok(Some(Secret::new(text.trim_end_matches(['\r', '\n'])))),
            Err(error) => Err(format!("{flag}-file {} cannot be read: {error}", path.display())),
        },
        (None, None) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_never_shown() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret:?}"), "***");
        assert_eq!(serde_json::to_string(&secret).unwrap(), "\"***\"");
        assert_eq!(secret.expose(), "hunter2");
    }

    #[test]
    fn a_secret_comes_by_value_or_from_a_file_but_not_from_both() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        std::fs::write(&file, " a b \r\n").unwrap();
        let value = Secret::new("c");
        assert_eq!(resolve("--p", None, Some(&file)), Ok(Some(Secret::new(" a b "))));
        assert_eq!(resolve("--p", Some(&value), None), Ok(Some(value.clone())));
        assert_eq!(resolve("--p", None, None), Ok(None));
        assert!(resolve("--p", Some(&value), Some(&file)).unwrap_err().contains("--p-file"));
        assert!(
            resolve("--p", None, Some(&folder.path().join("none"))).unwrap_err().contains("cannot be read")
        );
    }
}
