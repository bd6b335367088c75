//! Dyno sizes: what one dyno may use. Defined by the operator, with four defaults.

use crate::names::NameError;
use serde::{Deserialize, Serialize};

/// What one dyno may use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DynoSize {
    /// The name on the wire and in commands, in lower case: `standard-1x`.
    pub name: String,
    /// Memory in MiB above which R14 is logged; twice this is the hard limit (R15).
    pub memory_mib: u64,
    /// Relative share of the processor when it is contended (cgroup v2 weight, 1 to 10,000).
    pub cpu_weight: u32,
    /// How many processes and threads at most.
    pub pids: u32,
    /// Size of the dyno's disk (its writable `/app` and `/tmp`) in MiB.
    pub disk_mib: u64,
}

impl DynoSize {
    /// The hard memory limit in bytes.
    pub fn memory_limit_bytes(&self) -> u64 {
        self.memory_mib * 2 * 1024 * 1024
    }

    /// How people read the name: `Standard-1X`, `Basic`.
    pub fn display_name(&self) -> String {
        self.name
            .split('-')
            .map(|part| {
                if part.starts_with(|c: char| c.is_ascii_digit()) {
                    part.to_ascii_uppercase()
                } else {
                    let mut c = part.chars();
                    c.next().map_or(String::new(), |f| f.to_ascii_uppercase().to_string() + c.as_str())
                }
            })
            .collect::<Vec<_>>()
            .join("-")
    }
}

/// The sizes of a platform, in the order in which they are listed. The second is the default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DynoSizes(pub Vec<DynoSize>);

impl Default for DynoSizes {
    fn default() -> Self {
        let size = |name: &str, memory_mib, cpu_weight, pids, disk_mib| DynoSize {
            name: name.into(),
            memory_mib,
            cpu_weight,
            pids,
            disk_mib,
        };
        Self(vec![
            size("eco", 512, 50, 256, 1024),
            size("basic", 512, 100, 256, 2048),
            size("standard-1x", 512, 100, 256, 2048),
            size("standard-2x", 1024, 200, 512, 4096),
        ])
    }
}

impl DynoSizes {
    /// The size that new process types get.
    pub fn default_size(&self) -> &DynoSize {
        self.0.get(1).or(self.0.first()).expect("a platform has at least one dyno size")
    }

    /// Finds a size by its name in any case.
    pub fn find(&self, name: &str) -> Result<&DynoSize, NameError> {
        let wanted = name.to_ascii_lowercase();
        self.0.iter().find(|s| s.name == wanted).ok_or_else(|| NameError {
            what: "dyno size",
            given: name.chars().take(80).collect(),
            problem: format!(
                "is not one of this platform's: {}",
                self.0.iter().map(|s| s.name.as_str()).collect::<Vec<_>>().join(", ")
            ),
        })
    }
}
