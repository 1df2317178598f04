//! CPU time, and the machine it was measured on.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The CPU time of this process so far, all threads, user and kernel.
#[must_use]
pub fn used() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::from_secs(seconds) + Duration::from_nanos(u64::try_from(time.tv_nsec).unwrap_or(0))
}

/// Bytes of RAM that this process holds now.
///
/// # Errors
/// When the kernel does not tell.
pub fn resident_bytes() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.map(|kib| kib * 1024).ok_or_else(|| anyhow::anyhow!("no VmRSS in /proc/self/status"))
}

/// One line about this machine: its processor, cores, memory, kernel and load.
#[must_use]
pub fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_once(':'))
            .map(|(_, value)| value.trim().to_owned())
            .unwrap_or_default()
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kib: u64 =
        field(&read("/proc/meminfo"), "MemTotal").trim_end_matches(" kB").trim().parse().unwrap_or(0);
    let kernel = read("/proc/sys/kernel/osrelease");
    let load = read("/proc/loadavg");
    format!(
        "{}; {cores} cores; {} GiB; Linux {}; load before the run {}",
        field(&read("/proc/cpuinfo"), "model name"),
        kib >> 20,
        kernel.trim(),
        load.split(' ').next().unwrap_or_default(),
    )
}
