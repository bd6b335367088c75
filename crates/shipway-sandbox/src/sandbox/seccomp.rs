//! The system calls that a dyno may not make.
//!
//! The profile follows Docker's default for a container without capabilities: refused is what only an administrator
//! needs, what reaches into the kernel's less walked corners (the origin of most escapes), and new namespaces. A call
//! that is newer than this list answers "not there", so that programs fall back. Written as BPF by hand: forty
//! comparisons need neither a compiler nor a C library; the kernel caches the answer for calls that always pass.

use libc::{BPF_ABS, BPF_ALU, BPF_AND, BPF_JEQ, BPF_JGE, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W, sock_filter};
use std::io;

/// The newest system call that this list was written against (Linux 6.10, `mseal`).
const NEWEST: u32 = 462;

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xC000_003E;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xC000_00B7;

/// Calls that answer EPERM.
const REFUSED: &[libc::c_long] = &[
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_bpf,
    libc::SYS_chroot,
    libc::SYS_clock_adjtime,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
    libc::SYS_fanotify_init,
    libc::SYS_finit_module,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_init_module,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_kcmp,
    libc::SYS_kexec_file_load,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_lookup_dcookie,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_move_pages,
    libc::SYS_name_to_handle_at,
    libc::SYS_nfsservctl,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_perf_event_open,
    libc::SYS_pivot_root,
    libc::SYS_quotactl,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_setdomainname,
    libc::SYS_sethostname,
    libc::SYS_setns,
    libc::SYS_settimeofday,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_syslog,
    libc::SYS_umount2,
    libc::SYS_unshare,
    libc::SYS_userfaultfd,
    libc::SYS_vhangup,
];

#[cfg(target_arch = "x86_64")]
const REFUSED_HERE: &[libc::c_long] = &[libc::SYS_ioperm, libc::SYS_iopl, libc::SYS_modify_ldt, libc::SYS_uselib];
#[cfg(not(target_arch = "x86_64"))]
const REFUSED_HERE: &[libc::c_long] = &[];

/// `clone` flags that make namespaces.
const NAMESPACES: u32 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u32;

/// Socket families through which the kernel's own doors are reached: AF_ALG, AF_VSOCK, AF_RDS, AF_TIPC.
const REFUSED_FAMILIES: &[i32] = &[38, 40, 21, 30];

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const FIRST_ARGUMENT: u32 = 16;
const SECOND_ARGUMENT: u32 = 24;

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const EPERM: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
const ENOSYS: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;

/// A program under construction. Jumps skip at most one `ret` each, so their distances need no labels.
struct Program(Vec<sock_filter>);

impl Program {
    fn op(&mut self, code: u32, k: u32, jt: u8, jf: u8) -> &mut Self {
        self.0.push(sock_filter { code: code as u16, jt, jf, k });
        self
    }
    fn load(&mut self, offset: u32) -> &mut Self {
        self.op(BPF_LD | BPF_W | BPF_ABS, offset, 0, 0)
    }
    fn ret(&mut self, action: u32) -> &mut Self {
        self.op(BPF_RET | BPF_K, action, 0, 0)
    }
    fn if_equal(&mut self, value: u32, action: u32) -> &mut Self {
        self.op(BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1).ret(action)
    }
}

/// The whole filter.
fn program() -> Vec<sock_filter> {
    let mut p = Program(Vec::new());
    p.load(ARCH).op(BPF_JMP | BPF_JEQ | BPF_K, ARCHITECTURE, 1, 0).ret(libc::SECCOMP_RET_KILL_PROCESS);
    p.load(NUMBER);
    // Also every call of the x32 interface, whose numbers lie far above.
    p.op(BPF_JMP | BPF_JGE | BPF_K, NEWEST + 1, 0, 1).ret(ENOSYS);
    // Its flags lie behind a pointer; without it the C library uses `clone`.
    p.if_equal(libc::SYS_clone3 as u32, ENOSYS);
    for number in REFUSED.iter().chain(REFUSED_HERE) {
        p.if_equal(*number as u32, EPERM);
    }
    // clone: no new namespaces.
    p.op(BPF_JMP | BPF_JEQ | BPF_K, libc::SYS_clone as u32, 0, 5).load(FIRST_ARGUMENT);
    p.op(BPF_ALU | BPF_AND | BPF_K, NAMESPACES, 0, 0).op(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 0).ret(EPERM).ret(ALLOW);
    // ioctl: nothing types into a terminal but its user.
    p.op(BPF_JMP | BPF_JEQ | BPF_K, libc::SYS_ioctl as u32, 0, 4).load(SECOND_ARGUMENT);
    p.if_equal(libc::TIOCSTI as u32, EPERM).ret(ALLOW);
    // socket: only the last block may end without an `ALLOW` of its own.
    p.op(BPF_JMP | BPF_JEQ | BPF_K, libc::SYS_socket as u32, 1, 0).ret(ALLOW).load(FIRST_ARGUMENT);
    for family in REFUSED_FAMILIES {
        p.if_equal(*family as u32, EPERM);
    }
    p.ret(ALLOW);
    p.0
}

/// Confines the calling process, and all that it starts, for good. Privileges must have been given up before.
pub(super) fn confine() -> io::Result<()> {
    let mut filter = program();
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: plain prctl without pointers.
    if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `program` points to `filter`, which has its length and lives through the call.
    if unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program, 0, 0) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the filter answers, by interpreting it.
    fn check(number: libc::c_long, arguments: [u32; 2], expected: u32) {
        let data = |offset| match offset {
            NUMBER => number as u32,
            ARCH => ARCHITECTURE,
            FIRST_ARGUMENT => arguments[0],
            SECOND_ARGUMENT => arguments[1],
            other => panic!("reads {other}"),
        };
        let (program, mut at, mut a) = (program(), 0, 0);
        let answer = loop {
            let op = program[at];
            at += 1;
            let jump = |taken: bool| usize::from(if taken { op.jt } else { op.jf });
            match u32::from(op.code) {
                code if code == BPF_LD | BPF_W | BPF_ABS => a = data(op.k),
                code if code == BPF_ALU | BPF_AND | BPF_K => a &= op.k,
                code if code == BPF_JMP | BPF_JEQ | BPF_K => at += jump(a == op.k),
                code if code == BPF_JMP | BPF_JGE | BPF_K => at += jump(a >= op.k),
                _ => break op.k,
            }
        };
        assert_eq!(answer, expected, "call {number} with {arguments:?}");
    }

    #[test]
    fn calls_are_answered_as_listed() {
        check(libc::SYS_read, [0; 2], ALLOW);
        check(libc::SYS_execve, [0; 2], ALLOW);
        check(libc::SYS_ptrace, [0; 2], ALLOW);
        check(libc::SYS_mount, [0; 2], EPERM);
        check(libc::SYS_unshare, [0; 2], EPERM);
        check(libc::SYS_bpf, [0; 2], EPERM);
        check(libc::SYS_vhangup, [0; 2], EPERM);
        check(libc::SYS_clone3, [0; 2], ENOSYS);
        check(libc::c_long::from(NEWEST), [0; 2], ALLOW);
        check(libc::c_long::from(NEWEST) + 1, [0; 2], ENOSYS);
        check(0x4000_0000, [0; 2], ENOSYS);
        check(libc::SYS_clone, [libc::SIGCHLD as u32, 0], ALLOW);
        check(libc::SYS_clone, [libc::CLONE_NEWUSER as u32 | libc::SIGCHLD as u32, 0], EPERM);
        check(libc::SYS_ioctl, [0, libc::TIOCGWINSZ as u32], ALLOW);
        check(libc::SYS_ioctl, [0, libc::TIOCSTI as u32], EPERM);
        check(libc::SYS_socket, [libc::AF_INET as u32, 0], ALLOW);
        check(libc::SYS_socket, [libc::AF_ALG as u32, 0], EPERM);
        check(libc::SYS_socket, [libc::AF_VSOCK as u32, 0], EPERM);
    }
}
