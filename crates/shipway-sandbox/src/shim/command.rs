//! How a dyno's command becomes an argument list. The command itself is never taken apart or put together.

use shipway_runtime::{DynoPlan, Root};
use std::path::Path;

/// Sources the app's profile, then becomes the command.
const WITH_PROFILE: &str = r#"for file in .profile.d/*.sh; do [ -r "$file" ] && . "$file"; done
[ -r .profile ] && . ./.profile
unset file
exec /bin/bash -c "$1" bash"#;

/// Limits the number of processes of the user inside, says so on descriptor 9, and becomes the rest.
const LIMITED: &str = r#"ulimit -u "$1" && shift && printf . >&9 && exec "$@" 9>&-"#;

/// The descriptor of [`limited`] that says that the dyno runs.
pub(crate) const READY_FD: i32 = 9;

/// The command, run by a shell, after the app's profile where wanted. The profile is looked for in the working
/// directory.
pub(crate) fn argv(command: &str, profile: bool) -> Vec<String> {
    match profile {
        true => ["/bin/bash", "-c", WITH_PROFILE, "bash", command].map(str::to_owned).into(),
        false => ["/bin/bash", "-c", command].map(str::to_owned).into(),
    }
}

/// The same with at most `pids` processes in the user namespace that it runs in.
pub(crate) fn limited(argv: Vec<String>, pids: u32) -> Vec<String> {
    let pids = pids.to_string();
    let mut limited: Vec<String> = ["/bin/bash", "-c", LIMITED, "bash", &pids].map(str::to_owned).into();
    limited.extend(argv);
    limited
}

/// Whether the app in `directory` has anything to source: without, one shell less is started.
pub(crate) fn has_profile(directory: &Path) -> bool {
    directory.join(".profile").exists() || directory.join(".profile.d").exists()
}

/// Where a dyno starts: a slug's at its home, a build's where the plan says.
pub(crate) fn working_directory(plan: &DynoPlan) -> &str {
    match &plan.root {
        Root::Slug { .. } => "/app",
        Root::Build { working_directory, .. } => working_directory,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_one_argument() {
        let hostile = "echo $(id); `id` ' \" \n";
        assert_eq!(argv(hostile, false), ["/bin/bash", "-c", hostile]);
        assert_eq!(argv(hostile, true)[3..], ["bash", hostile]);
        assert_eq!(limited(argv("x", false), 9)[3..], ["bash", "9", "/bin/bash", "-c", "x"]);
    }
}
