//! What Prometheus' client libraries tell of a process
//! (<https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics>), from `/proc`.

use std::{fmt::Write as _, fs};

/// The lines; what can't be read is left out.
pub(super) fn render() -> String {
    let mut text = String::new();
    if let Some(process) = fs::read_to_string("/proc/self/stat").ok().as_deref().and_then(Process::of) {
        let Process { cpu_s, threads, age_of_boot_s, virtual_bytes, resident_bytes } = process;
        metric(&mut text, "process_cpu_seconds_total", "counter", "User and system time", cpu_s);
        metric(&mut text, "process_threads", "gauge", "Threads", threads);
        metric(&mut text, "process_virtual_memory_bytes", "gauge", "Virtual memory", virtual_bytes);
        metric(&mut text, "process_resident_memory_bytes", "gauge", "Resident memory", resident_bytes);
        if let Some(boot_s) = boot_time_s() {
            let start = boot_s + age_of_boot_s;
            metric(&mut text, "process_start_time_seconds", "gauge", "Start, in seconds since 1970", start);
        }
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        // One of them is the folder itself.
        let open = u32::try_from(open.count().saturating_sub(1)).unwrap_or(u32::MAX);
        metric(&mut text, "process_open_fds", "gauge", "Open file descriptors", open.into());
    }
    let limit = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE);
    if let Ok((soft, _)) = limit {
        metric(&mut text, "process_max_fds", "gauge", "Limit of open file descriptors", number(soft));
    }
    text
}

/// Writing into a string can't fail.
fn metric(text: &mut String, name: &str, kind: &str, help: &str, value: f64) {
    writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}").ok();
}

/// The fields of `/proc/PID/stat` (`proc_pid_stat(5)`) that are shown.
#[derive(Debug, PartialEq)]
struct Process {
    cpu_s: f64,
    threads: f64,
    /// From the machine's start to the process's.
    age_of_boot_s: f64,
    virtual_bytes: f64,
    resident_bytes: f64,
}

impl Process {
    fn of(stat: &str) -> Option<Self> {
        // The name of the program is in parentheses, and may have any character.
        let (_, fields) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        // The state, field 3, is the first one here.
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok().map(self::number);
        let ticks_a_second = number(rustix::param::clock_ticks_per_second());
        Some(Self {
            cpu_s: (field(14)? + field(15)?) / ticks_a_second,
            threads: field(20)?,
            age_of_boot_s: field(22)? / ticks_a_second,
            virtual_bytes: field(23)?,
            resident_bytes: field(24)? * number(rustix::param::page_size() as u64),
        })
    }
}

/// When the machine was started, in seconds since 1970 (`btime` of `/proc/stat`).
fn boot_time_s() -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let line = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
    line.trim().parse().ok()
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn number(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_all_of_them() {
        let text = render();
        for name in [
            "process_cpu_seconds_total ",
            "process_threads ",
            "process_virtual_memory_bytes ",
            "process_resident_memory_bytes ",
            "process_start_time_seconds ",
            "process_open_fds ",
            "process_max_fds ",
        ] {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).expect(name);
            assert!(line.parse::<f64>().unwrap() >= 0.0, "{name}{line}");
        }
    }

    #[test]
    fn a_name_with_parentheses_hides_no_field() {
        let fields = "S 1 1 1 0 -1 0 0 0 0 0 100 50 0 0 20 0 7 0 1000 4096 2 0";
        let process = Process::of(&format!("9 (a) b (c)) {fields}")).unwrap();
        assert!((process.threads - 7.0).abs() < f64::EPSILON);
        assert!((process.virtual_bytes - 4096.0).abs() < f64::EPSILON);
        assert_eq!(Process::of("9 (a) S"), None);
    }
}
