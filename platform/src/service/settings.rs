//! Settings that roles share: every one is a flag and an environment variable of the same name.
//!
//! Each group is flattened into the commands that need it. None of them is a secret, so all are printed by
//! `--print-config`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::{Serialize, Serializer};

/// Where the one-process shape keeps its log and store.
#[derive(Args, Clone, PartialEq, Eq, Debug, Serialize)]
pub struct DataSettings {
    /// Folder of the log and the store; it is made when it is not there
    #[arg(long, env = "PULSO_DATA_DIR", value_name = "FOLDER", default_value = "./pulso-data")]
    pub data_dir: PathBuf,
}

/// The gRPC listener for pulses.
#[derive(Args, Clone, PartialEq, Eq, Debug, Serialize)]
pub struct IngestListener {
    /// Address that takes pulses by gRPC; port 0 takes a free one
    #[arg(long, env = "PULSO_INGEST_ADDR", value_name = "IP:PORT", default_value = "127.0.0.1:7070")]
    pub ingest_addr: SocketAddr,
}

/// The REST listener.
#[derive(Args, Clone, PartialEq, Eq, Debug, Serialize)]
pub struct ApiListener {
    /// Address of the REST API and its start page; port 0 takes a free one
    #[arg(long, env = "PULSO_API_ADDR", value_name = "IP:PORT", default_value = "127.0.0.1:7080")]
    pub api_addr: SocketAddr,
}

/// What every server has: the admin listener, its end, its logs.
#[derive(Args, Clone, PartialEq, Eq, Debug, Serialize)]
pub struct ProcessSettings {
    /// Address of metrics and health; port 0 takes a free one
    #[arg(long, env = "PULSO_ADMIN_ADDR", value_name = "IP:PORT", default_value = "127.0.0.1:7090")]
    pub admin_addr: SocketAddr,

    /// How long a stop may take: what is in flight is finished, then flushed
    #[arg(long, env = "PULSO_GRACE", value_name = "DURATION", default_value = "25s", value_parser = parse_duration)]
    #[serde(serialize_with = "duration_as_text")]
    pub grace: Duration,

    /// What is logged to stderr: error, warn, info, debug, trace, or directives such as pulso=debug; RUST_LOG goes before it
    #[arg(long, env = "PULSO_LOG_LEVEL", value_name = "LEVEL", default_value = "info")]
    pub log_level: String,

    /// How it is logged: text for people, json for programs, auto for text when stderr is a terminal
    #[arg(long, env = "PULSO_LOG_FORMAT", value_name = "FORMAT", default_value = "auto", value_enum)]
    pub log_format: LogFormat,

    /// Print the settings as JSON and end
    #[arg(long, env = "PULSO_PRINT_CONFIG")]
    #[serde(skip)]
    pub print_config: bool,
}

/// How log lines look.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text when stderr is a terminal, else JSON.
    Auto,
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// Settings as `--print-config` prints them.
#[must_use]
pub fn print_config(settings: &impl Serialize) -> String {
    serde_json::to_string_pretty(settings).expect("settings are plain values with text keys")
}

/// Units of a duration in milliseconds, the largest first.
const DURATION_UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];
/// Units of a size in bytes, the largest first.
const SIZE_UNITS: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// Reads a duration: `250ms`, `90s`, `5m`, `12h`, `35d`.
///
/// # Errors
/// When it is not a whole number with one of these units, or too large.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    parse_with_unit(text, &DURATION_UNITS, "250ms, 90s, 5m, 12h or 35d").map(Duration::from_millis)
}

/// Reads a size in bytes: `512B`, `64KiB`, `4MiB`, `1GiB`.
///
/// # Errors
/// When it is not a whole number with one of these units, or too large.
pub fn parse_size(text: &str) -> Result<u64, String> {
    parse_with_unit(text, &SIZE_UNITS, "512B, 64KiB, 4MiB or 1GiB")
}

/// A duration as [`parse_duration`] reads it, in the largest unit that holds it whole; parts of a millisecond are cut.
#[must_use]
pub fn duration_text(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if millis == 0 {
        return "0s".to_owned();
    }
    let whole = DURATION_UNITS.iter().find(|(_, unit)| millis.is_multiple_of(*unit));
    let (name, unit) = whole.unwrap_or(&("ms", 1));
    format!("{}{name}", millis / unit)
}

fn parse_with_unit(text: &str, units: &[(&str, u64)], examples: &str) -> Result<u64, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let Some((_, factor)) = units.iter().find(|(name, _)| *name == unit) else {
        return Err(format!("write a whole number with its unit, such as {examples}"));
    };
    let number: u64 = match number.parse() {
        Ok(number) => number,
        Err(_) if number.is_empty() => {
            return Err(format!("write a number before the unit, such as {examples}"));
        }
        Err(_) => return Err("the number is too large".to_owned()),
    };
    number.checked_mul(*factor).ok_or_else(|| "the number is too large".to_owned())
}

pub(crate) fn duration_as_text<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&duration_text(*duration))
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Parser, Debug, Serialize)]
    struct Server {
        #[command(flatten)]
        #[serde(flatten)]
        data: DataSettings,
        #[command(flatten)]
        #[serde(flatten)]
        ingest: IngestListener,
        #[command(flatten)]
        #[serde(flatten)]
        api: ApiListener,
        #[command(flatten)]
        #[serde(flatten)]
        process: ProcessSettings,
    }

    #[test]
    fn durations_and_sizes_are_read_as_they_are_written() {
        for (text, seconds) in [("90s", 90), ("5m", 300), ("12h", 43_200), ("35d", 3_024_000), ("0s", 0)] {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        for (text, bytes) in [("512B", 512), ("64KiB", 65_536), ("4MiB", 4_194_304), ("1GiB", 1 << 30)] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_or_size_is_refused_with_examples() {
        for text in [
            "",
            "s",
            "90",
            "1.5h",
            "-5s",
            "5 m",
            "5M",
            "5min",
            "1s1s",
            "99999999999999999999s",
            "999999999999999d",
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        for text in ["", "4MB", "4", "KiB", "4mib", "99999999999999999GiB"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
        assert!(parse_duration("90").unwrap_err().contains("90s"));
    }

    #[test]
    fn a_duration_is_written_as_it_was_read() {
        for text in ["250ms", "1500ms", "90s", "5m", "12h", "35d", "0s"] {
            assert_eq!(duration_text(parse_duration(text).unwrap()), text);
        }
    }

    #[test]
    fn every_flag_is_an_environment_variable_of_the_same_name() {
        Server::command().debug_assert();
        for argument in Server::command().get_arguments() {
            let Some(long) = argument.get_long() else { continue };
            let name = format!("PULSO_{}", long.replace('-', "_").to_uppercase());
            assert_eq!(argument.get_env().and_then(|env| env.to_str()), Some(name.as_str()), "{long}");
        }
    }

    #[test]
    fn the_settings_are_printed_as_they_hold() {
        let server = Server::parse_from(["server", "--grace", "90s", "--api-addr", "127.0.0.1:0"]);
        let printed: serde_json::Value = serde_json::from_str(&print_config(&server)).unwrap();
        assert_eq!(printed["grace"], "90s");
        assert_eq!(printed["api_addr"], "127.0.0.1:0");
        assert_eq!(printed["ingest_addr"], "127.0.0.1:7070");
        assert_eq!(printed["log_format"], "auto");
        assert_eq!(printed["print_config"], serde_json::Value::Null);
    }
}
