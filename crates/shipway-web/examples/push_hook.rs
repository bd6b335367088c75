//! The hook alone, for tests and measurements without the whole binary.

fn main() -> std::process::ExitCode {
    shipway_git::proc_receive_main()
}
