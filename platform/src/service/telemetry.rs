//! Logs to stderr and the recorder of metrics.
//!
//! A log line is one line: control characters in what is logged are escaped, so that no client's text can forge a line
//! or steer a terminal.

use std::io::{self, IsTerminal, Write};
use std::sync::OnceLock;

use metrics::{describe_gauge, gauge};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

use super::settings::LogFormat;

/// A gauge that is always 1; its labels say which build this is.
pub const BUILD_INFO: &str = "pulso_build_info";

/// The engine of the embedded store tells much at info that only its own authors need.
const QUIET: [&str; 2] = ["fjall=warn", "lsm_tree=warn"];
/// Borders of every histogram in seconds: from a fold of one batch to a start after a crash.
const SECONDS_BUCKETS: [f64; 14] =
    [0.000_1, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

/// Why telemetry cannot start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// What to log is not understood.
    #[error("the log level {level:?} is not understood ({reason}); use error, warn, info, debug or trace")]
    Level {
        /// What was given.
        level: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The recorder of metrics cannot be made.
    #[error("metrics cannot be recorded: {0}")]
    Metrics(#[from] BuildError),
}

impl TelemetryError {
    /// Never: both are a matter of settings.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        false
    }
}

/// Starts logging to stderr. `RUST_LOG`, when it is set, goes before `level`. A second call changes nothing.
///
/// # Errors
/// When the level is not understood.
pub fn start_logs(level: &str, format: LogFormat) -> Result<(), TelemetryError> {
    let filter = filter(&std::env::var("RUST_LOG").unwrap_or_default(), level)?;
    let as_text = match format {
        LogFormat::Auto => io::stderr().is_terminal(),
        LogFormat::Text => true,
        LogFormat::Json => false,
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_writer(|| OneLine { inner: io::stderr() });
    // An error says that logging has started already, which is as good.
    let _ = if as_text { builder.try_init() } else { builder.json().flatten_event(true).try_init() };
    Ok(())
}

/// The filter from the environment's directives, or the setting's.
fn filter(from_environment: &str, level: &str) -> Result<EnvFilter, TelemetryError> {
    let level = if from_environment.is_empty() { level } else { from_environment };
    let refused = |reason: String| TelemetryError::Level { level: level.to_owned(), reason };
    if level.trim().is_empty() {
        return Err(refused("it is empty".to_owned()));
    }
    // Alone, a word names a level; the filter would take any other for the name of a target, and show nothing.
    let is_word = level.trim().chars().all(char::is_alphanumeric);
    if is_word && level.trim().parse::<tracing::level_filters::LevelFilter>().is_err() {
        return Err(refused("it is none of error, warn, info, debug, trace and off".to_owned()));
    }
    let quiet = QUIET.iter().filter(|target| !level.contains(target.split('=').next().unwrap_or(target)));
    let directives: Vec<&str> = quiet.copied().chain([level]).collect();
    EnvFilter::try_new(directives.join(",")).map_err(|error| refused(error.to_string()))
}

/// Passes on each event as one line, with control characters escaped.
struct OneLine<W> {
    inner: W,
}

impl<W: Write> Write for OneLine<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.inner.write_all(escape(line).as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// One event as one line; the newline at its end stays.
fn escape(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let (text, end) = text.strip_suffix('\n').map_or((text.as_ref(), ""), |text| (text, "\n"));
    let mut escaped = String::with_capacity(text.len() + 1);
    for character in text.chars() {
        if character.is_control() {
            escaped.extend(character.escape_default());
        } else {
            escaped.push(character);
        }
    }
    escaped.push_str(end);
    escaped
}

/// Installs the recorder of metrics and returns what renders them; a second call returns the same.
///
/// # Errors
/// When the recorder cannot be made.
pub fn install_metrics() -> Result<PrometheusHandle, TelemetryError> {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    if let Some(handle) = HANDLE.get() {
        return Ok(handle.clone());
    }
    let buckets = Matcher::Suffix("_seconds".to_owned());
    let builder = PrometheusBuilder::new().set_buckets_for_metric(buckets, &SECONDS_BUCKETS)?;
    Ok(HANDLE.get_or_init(|| install(builder)).clone())
}

fn install(builder: PrometheusBuilder) -> PrometheusHandle {
    let recorder = builder.build_recorder();
    let handle = recorder.handle();
    if metrics::set_global_recorder(recorder).is_err() {
        tracing::warn!("another recorder of metrics was installed before; /metrics will be empty");
    }
    describe_gauge!(BUILD_INFO, "always 1; which build this is");
    gauge!(BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    handle
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_of_clients_cannot_forge_a_line() {
        let mut written = Vec::new();
        let event = "INFO id=a\r\nERROR forged\u{1b}[31m\u{7f}\u{85} ção\n";
        OneLine { inner: &mut written }.write_all(event.as_bytes()).unwrap();
        let line = String::from_utf8(written).unwrap();
        assert_eq!(line, "INFO id=a\\r\\nERROR forged\\u{1b}[31m\\u{7f}\\u{85} ção\n");
    }

    #[test]
    fn the_environment_goes_before_the_setting_and_the_engine_is_quiet() {
        assert_eq!(filter("", "info").unwrap().to_string().matches("warn").count(), 2);
        assert!(filter("debug", "info").unwrap().to_string().contains("debug"));
        assert!(!filter("fjall=debug", "info").unwrap().to_string().contains("fjall=warn"));
    }

    #[test]
    fn a_level_that_is_not_understood_is_refused() {
        for level in ["", " ", "pulso=loud"] {
            let error = filter("", level).unwrap_err();
            assert!(error.to_string().contains("use error, warn, info"), "{error}");
        }
    }

    #[test]
    fn logs_and_metrics_may_be_started_twice() {
        start_logs("info", LogFormat::Auto).unwrap();
        start_logs("info", LogFormat::Json).unwrap();
        install_metrics().unwrap();
        let rendered = install_metrics().unwrap().render();
        assert!(rendered.contains("pulso_build_info{version="), "{rendered}");
    }
}
