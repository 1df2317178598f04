//! How durations and sizes are written on the command line: `90s`, `5m`, `12h`, `35d`; `64KiB`, `4MiB`.

use std::time::Duration;

/// Reads a duration.
///
/// # Errors
/// Says how to write one.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text);
    let millis = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60 * 1000,
        "h" => 3600 * 1000,
        "d" => 86_400 * 1000,
        _ => return Err("write a duration as 250ms, 90s, 5m, 12h or 35d".to_owned()),
    };
    let number: u64 =
        number.parse().map_err(|_| "write a whole number and a unit, such as 90s".to_owned())?;
    number.checked_mul(millis).map(Duration::from_millis).ok_or_else(|| "is too long".to_owned())
}

/// Reads a size in bytes.
///
/// # Errors
/// Says how to write one.
pub fn parse_size(text: &str) -> Result<usize, String> {
    let (number, unit) = split(text);
    let bytes = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err("write a size as 64KiB, 4MiB or 2GiB".to_owned()),
    };
    let number: usize =
        number.parse().map_err(|_| "write a whole number and a unit, such as 4MiB".to_owned())?;
    number.checked_mul(bytes).ok_or_else(|| "is too large".to_owned())
}

fn split(text: &str) -> (&str, &str) {
    text.split_at(text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_have_a_whole_number_and_a_unit() {
        assert_eq!(parse_duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("35d"), Ok(Duration::from_secs(35 * 86_400)));
        assert_eq!(parse_size("64KiB"), Ok(65_536));
        assert_eq!(parse_size("4MiB"), Ok(4 << 20));
        for bad in ["", "90", "s", "1.5h", "-1s", "5 m", "99999999999999999d"] {
            assert!(parse_duration(bad).is_err(), "{bad:?}");
        }
        assert!(parse_size("4MB").is_err() && parse_size("").is_err());
    }
}
