//! What the system knows of this process, under the names that all exporters use.

use std::fs;
use std::time::Duration;

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage};
use nix::sys::time::TimeValLike as _;

/// What could be read; nothing where there is no /proc.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Process {
    /// User and system time.
    pub(crate) cpu: Option<Duration>,
    pub(crate) resident_bytes: Option<u64>,
    pub(crate) virtual_bytes: Option<u64>,
    pub(crate) open_files: Option<usize>,
    pub(crate) max_files: Option<u64>,
}

impl Process {
    /// As it is now.
    pub(crate) fn read() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let usage = getrusage(UsageWho::RUSAGE_SELF).ok();
        let cpu = usage.map(|it| it.user_time() + it.system_time());
        let cpu = cpu.and_then(|it| u64::try_from(it.num_microseconds()).ok());
        Self {
            cpu: cpu.map(Duration::from_micros),
            resident_bytes: kilobytes(&status, "VmRSS:"),
            virtual_bytes: kilobytes(&status, "VmSize:"),
            open_files: fs::read_dir("/proc/self/fd").ok().map(Iterator::count),
            max_files: getrlimit(Resource::RLIMIT_NOFILE).ok().map(|(soft, _)| soft),
        }
    }
}

/// `VmRSS:     12345 kB`, in bytes.
fn kilobytes(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let number: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    number.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_memory_files_and_a_limit() {
        let process = Process::read();
        assert!(process.resident_bytes.is_some_and(|it| it > 1_000_000), "{process:?}");
        assert!(process.virtual_bytes >= process.resident_bytes, "{process:?}");
        assert!(process.open_files.is_some_and(|it| it > 2), "{process:?}");
        assert!(process.max_files.is_some_and(|it| it > 2), "{process:?}");
        assert!(process.cpu.is_some(), "{process:?}");
    }
}
