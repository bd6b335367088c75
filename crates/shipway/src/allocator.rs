//! Memory by role: mimalloc where requests are served, the system's allocator where a process must be small.
//!
//! mimalloc keeps some 4 MiB for itself, and there is a shim for every dyno. Which one it is has to be known before the
//! first allocation and never change, so it is read from the process's own command line then.

use mimalloc::MiMalloc;
use rustix::fs::{Mode, OFlags};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU8, Ordering};

/// The roles that serve requests.
const LARGE_ROLES: [&[u8]; 2] = [b"server", b"router"];

const UNKNOWN: u8 = 0;
const SMALL: u8 = 1;
const LARGE: u8 = 2;
static CHOICE: AtomicU8 = AtomicU8::new(UNKNOWN);

/// The allocator of the one binary.
pub struct ByRole;

#[inline]
fn is_large() -> bool {
    match CHOICE.load(Ordering::Relaxed) {
        UNKNOWN => choose(),
        choice => choice == LARGE,
    }
}

/// Must not allocate. The command line does not change, so all threads would choose the same.
#[cold]
fn choose() -> bool {
    let mut line = [0; 256];
    let read = rustix::fs::open(c"/proc/self/cmdline", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .and_then(|file| rustix::io::read(&file, &mut line))
        .unwrap_or(0);
    let role = line[..read].split(|byte| *byte == 0).nth(1);
    let large = role.is_some_and(|role| LARGE_ROLES.contains(&role));
    CHOICE.store(if large { LARGE } else { SMALL }, Ordering::Relaxed);
    large
}

// SAFETY: every call is passed on to one of two allocators, and to the same one in the whole life of the process, so each
// block returns to where it came from; the caller's promises are passed on as they are.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for ByRole {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: see above.
        unsafe { if is_large() { MiMalloc.alloc(layout) } else { System.alloc(layout) } }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: see above.
        unsafe { if is_large() { MiMalloc.alloc_zeroed(layout) } else { System.alloc_zeroed(layout) } }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: see above.
        unsafe { if is_large() { MiMalloc.realloc(block, layout, size) } else { System.realloc(block, layout, size) } }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: see above.
        unsafe { if is_large() { MiMalloc.dealloc(block, layout) } else { System.dealloc(block, layout) } }
    }
}
