//! The most memory that the process held.

use std::fs;

/// The peak of resident memory in bytes, as the kernel counted it (`VmHWM` of `/proc/self/status`);
/// `None` where there is no such file.
pub fn peak_resident_bytes() -> Option<u64> {
    high_water_mark(&fs::read_to_string("/proc/self/status").ok()?)
}

fn high_water_mark(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_line_is_read() {
        let status = "Name:\tx\nVmPeak:\t   9000 kB\nVmHWM:\t    1234 kB\nVmRSS:\t 7 kB\n";
        assert_eq!(high_water_mark(status), Some(1234 * 1024));
        assert_eq!(high_water_mark("Name:\tx\n"), None);
        assert_eq!(high_water_mark("VmHWM:\tmany\n"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_holds_memory() {
        assert!(peak_resident_bytes().unwrap() > 1 << 20);
    }
}
