//! What the kernel knows of this process. Where there is no `/proc` nothing is told.

use std::fs;

/// Clock ticks a second in `/proc`. Source: Linux, `include/asm-generic/param.h`: `USER_HZ` is 100 on
/// every architecture that the operator is built for, whatever the kernel counts in.
const TICKS_PER_SECOND: f64 = 100.0;

/// What this process uses, as far as it is known.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Process {
    pub(super) cpu_seconds: Option<f64>,
    pub(super) resident_bytes: Option<f64>,
    pub(super) virtual_bytes: Option<f64>,
    pub(super) open_fds: Option<f64>,
    pub(super) max_fds: Option<f64>,
    pub(super) start_time_seconds: Option<f64>,
}

impl Process {
    /// Asks the kernel.
    pub(super) fn now() -> Self {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let (used, since_boot) = times(&text("/proc/self/stat")).unzip();
        let status = text("/proc/self/status");
        let booted = booted_at(&text("/proc/stat"));
        // One of them is the folder that is being read.
        let open = fs::read_dir("/proc/self/fd").ok().map(|open| open.count().saturating_sub(1));
        Self {
            cpu_seconds: used,
            resident_bytes: kilobytes(&status, "VmRSS:"),
            virtual_bytes: kilobytes(&status, "VmSize:"),
            open_fds: open.and_then(|open| u32::try_from(open).ok()).map(f64::from),
            max_fds: open_max(&text("/proc/self/limits")),
            start_time_seconds: booted.zip(since_boot).map(|(booted, since)| booted + since),
        }
    }
}

/// The processor time that was used and when the process began after the machine, in seconds.
/// Source: proc(5), `/proc/pid/stat`, fields 14, 15 and 22. The name of the program, the second field,
/// may hold spaces and brackets.
fn times(stat: &str) -> Option<(f64, f64)> {
    let (_, behind_name) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = behind_name.split(' ').collect();
    let ticks = |number: usize| fields.get(number - 3)?.trim().parse::<f64>().ok();
    Some(((ticks(14)? + ticks(15)?) / TICKS_PER_SECOND, ticks(22)? / TICKS_PER_SECOND))
}

/// A line such as `VmRSS: 5120 kB`, in bytes.
fn kilobytes(status: &str, name: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kilobytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024.0)
}

/// When the machine was started, in seconds since 1970.
fn booted_at(stat: &str) -> Option<f64> {
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

/// The soft limit of the line of open files; `None` if there is no limit.
fn open_max(limits: &str) -> Option<f64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_the_kernel_are_read() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 4 0 12345 1 2";
        assert_eq!(times(stat), Some((3.0, 123.45)));
        assert_eq!(times("7 (a) S 1"), None);
        let status = "Name:\ta\nVmSize:\t   20 kB\nVmRSS:\t    5 kB\n";
        assert_eq!(kilobytes(status, "VmRSS:"), Some(5120.0));
        assert_eq!(kilobytes(status, "VmSize:"), Some(20480.0));
        assert_eq!(kilobytes("", "VmRSS:"), None);
        assert_eq!(booted_at("cpu 1 2\nbtime 1800000000\n"), Some(1_800_000_000.0));
        let limits =
            "Limit  Soft  Hard  Units\nMax open files            1024      4096    files\n";
        assert_eq!(open_max(limits), Some(1024.0));
        assert_eq!(open_max("Max open files   unlimited   unlimited   files"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_is_known() {
        let Process {
            cpu_seconds,
            resident_bytes,
            virtual_bytes,
            open_fds,
            max_fds: _,
            start_time_seconds,
        } = Process::now();
        assert!(cpu_seconds.is_some());
        assert!(resident_bytes > Some(1e6) && virtual_bytes > resident_bytes);
        assert!(open_fds >= Some(3.0));
        assert!(start_time_seconds > Some(1.6e9));
    }
}
