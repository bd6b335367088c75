//! Dyno sizes: what one dyno may use. Defined by the operator, with four defaults.

use crate::names::NameError;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// How a size is written.
const FORM: &str = "write it as NAME=MEMORY_MIB, such as large=2048 or large=2048,cpu=400,pids=1024,disk=8192";
/// Longest name of a size, in characters.
const MAX_NAME: usize = 30;
/// Memory of a size in MiB; twice as much is the hard limit.
const MEMORY_MIB: RangeInclusive<u64> = 32..=1 << 20;
/// What the control group `cpu.weight` takes.
const CPU_WEIGHT: RangeInclusive<u64> = 1..=10_000;
/// Fewer than this many processes and threads start no app.
const PIDS: RangeInclusive<u64> = 16..=1 << 20;
/// Disk of a size in MiB.
const DISK_MIB: RangeInclusive<u64> = 16..=1 << 20;

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
    /// Changes the size of that name, or adds one at the end, which has of the default size what is not said.
    pub fn define(&mut self, wanted: &SizeDefinition) {
        let at = self.0.iter().position(|size| size.name == wanted.name).unwrap_or_else(|| {
            let new = DynoSize { name: wanted.name.clone(), ..self.default_size().clone() };
            self.0.push(new);
            self.0.len() - 1
        });
        let size = &mut self.0[at];
        size.memory_mib = wanted.memory_mib;
        size.cpu_weight = wanted.cpu_weight.unwrap_or(size.cpu_weight);
        size.pids = wanted.pids.unwrap_or(size.pids);
        size.disk_mib = wanted.disk_mib.unwrap_or(size.disk_mib);
    }
}

/// A size as the operator writes it: `large=2048,cpu=400,pids=1024,disk=8192`. Only the memory must be said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SizeDefinition {
    /// In lower case: letters, digits and dashes, 30 at most.
    pub name: String,
    /// As in [`DynoSize`], 32 to 1,048,576.
    pub memory_mib: u64,
    /// As in [`DynoSize`].
    pub cpu_weight: Option<u32>,
    /// As in [`DynoSize`], 16 to 1,048,576.
    pub pids: Option<u32>,
    /// As in [`DynoSize`], 16 to 1,048,576.
    pub disk_mib: Option<u64>,
}

impl FromStr for SizeDefinition {
    type Err = String;

    /// Errors: a sentence with what is wrong and how it is written.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split(',');
        let (name, memory) = parts.next().and_then(|first| first.split_once('=')).ok_or(FORM)?;
        let name = name.to_ascii_lowercase();
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let begins = name.starts_with(|c: char| c.is_ascii_lowercase());
        if !begins || name.ends_with('-') || name.len() > MAX_NAME || !name.bytes().all(plain) {
            return Err(format!(
                "the name of a dyno size begins with a letter and has letters, digits and dashes, {MAX_NAME} at most; {FORM}"
            ));
        }
        let memory_mib = number(&name, "memory in MiB", memory, MEMORY_MIB)?;
        let mut size = Self { name, memory_mib, cpu_weight: None, pids: None, disk_mib: None };
        for part in parts {
            let (key, value) = part.split_once('=').ok_or(FORM)?;
            let before = match key {
                "cpu" => size.cpu_weight.replace(small(number(&size.name, "cpu", value, CPU_WEIGHT)?)).is_some(),
                "pids" => size.pids.replace(small(number(&size.name, "pids", value, PIDS)?)).is_some(),
                "disk" => size.disk_mib.replace(number(&size.name, "disk in MiB", value, DISK_MIB)?).is_some(),
                _ => return Err(format!("beside the memory of {} there are cpu, pids and disk; {FORM}", size.name)),
            };
            if before {
                return Err(format!("{key} of {} is said twice; keep one of them", size.name));
            }
        }
        Ok(size)
    }
}

impl fmt::Display for SizeDefinition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.memory_mib)?;
        let rest =
            [("cpu", self.cpu_weight.map(u64::from)), ("pids", self.pids.map(u64::from)), ("disk", self.disk_mib)];
        for (key, value) in rest {
            if let Some(value) = value {
                write!(f, ",{key}={value}")?;
            }
        }
        Ok(())
    }
}

fn number(name: &str, what: &str, given: &str, bounds: RangeInclusive<u64>) -> Result<u64, String> {
    let number = given.parse().ok().filter(|n| given.bytes().all(|b| b.is_ascii_digit()) && bounds.contains(n));
    number.ok_or_else(|| format!("{what} of {name} is a whole number from {} to {}", bounds.start(), bounds.end()))
}

/// A number whose bounds fit.
fn small(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_as_an_operator_writes_them() {
        let check = |given: &str, expected: &str| {
            let got = given.parse::<SizeDefinition>().map_or_else(|e| e, |size| size.to_string());
            assert!(got.starts_with(expected), "{given}: {got}");
        };
        check("Large=2048", "large=2048");
        check("standard-1x=768,disk=16,cpu=10000,pids=16", "standard-1x=768,cpu=10000,pids=16,disk=16");
        check("large", "write it as NAME=MEMORY_MIB, such as large=2048");
        check("large=", "memory in MiB of large is a whole number from 32 to 1048576");
        check("large=2G", "memory in MiB of large is a whole number");
        check("large=+64", "memory in MiB of large is a whole number");
        check("large=31", "memory in MiB of large is a whole number");
        check("large=99999999999999999999", "memory in MiB of large is a whole number");
        check("large=64,cpu=0", "cpu of large is a whole number from 1 to 10000");
        check("large=64,pids=15", "pids of large is a whole number from 16 to 1048576");
        check("large=64,disk=", "disk in MiB of large is a whole number from 16 to 1048576");
        check("large=64,cpu", "write it as NAME=MEMORY_MIB");
        check("large=64,swap=1", "beside the memory of large there are cpu, pids and disk");
        check("large=64,cpu=1,cpu=2", "cpu of large is said twice");
        for name in ["", "1x", "-a", "a-", "a b", "a/b", "ä", &"a".repeat(31)] {
            check(&format!("{name}=64"), "the name of a dyno size begins with a letter");
        }
    }

    #[test]
    fn a_default_is_changed_and_a_new_size_has_the_rest_of_the_default_one() {
        let mut sizes = DynoSizes::default();
        for given in ["standard-2x=3072,cpu=300", "huge=8192,disk=9000"] {
            sizes.define(&given.parse().unwrap());
        }
        let shown = |name: &str| {
            let size = sizes.find(name).unwrap();
            format!("{} {} {} {}", size.memory_mib, size.cpu_weight, size.pids, size.disk_mib)
        };
        assert_eq!(shown("standard-2x"), "3072 300 512 4096");
        assert_eq!(shown("HUGE"), "8192 100 256 9000");
        assert_eq!(sizes.0.last().unwrap().display_name(), "Huge");
        assert_eq!(sizes.default_size().name, "basic");
    }
}
