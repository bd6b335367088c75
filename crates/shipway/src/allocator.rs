//! Memory by role: mimalloc in the router, the system's allocator where a process must be small.
//!
//! mimalloc keeps some 4 MiB for itself, and there is a shim for every dyno; in the server it held on to 30 MiB that were
//! free, with 20 apps, where the system's allocator needs 5 MiB in all. Which one it is has to be known before the first
//! allocation and never change, so it is read from the process's own command line then.
//!
//! mimalloc is called directly: the usual binding asks for every block by its alignment, which for most sizes over 1 KiB
//! takes a slower road and a larger block, although mimalloc aligns every block of 16 bytes or more to 16.

use libmimalloc_sys as mimalloc;
use rustix::fs::{Mode, OFlags};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU8, Ordering};

/// The role whose every request allocates a few dozen times.
const FAST_ROLE: &[u8] = b"router";

const UNKNOWN: u8 = 0;
const SMALL: u8 = 1;
const FAST: u8 = 2;
static CHOICE: AtomicU8 = AtomicU8::new(UNKNOWN);

/// The allocator of the one binary.
pub struct ByRole;

#[inline]
fn is_fast() -> bool {
    match CHOICE.load(Ordering::Relaxed) {
        UNKNOWN => choose(),
        choice => choice == FAST,
    }
}

/// Must not allocate. The command line does not change, so all threads would choose the same.
#[cold]
fn choose() -> bool {
    let mut line = [0; 256];
    let read = rustix::fs::open(c"/proc/self/cmdline", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .and_then(|file| rustix::io::read(&file, &mut line))
        .unwrap_or(0);
    // Options may stand before the role.
    let fast = line[..read].split(|byte| *byte == 0).skip(1).any(|word| word == FAST_ROLE);
    if fast {
        // mimalloc asks for pages of 2 MiB, of which a router uses a part: 10 MiB of memory for a hundredth of its time.
        // Where the kernel has no such pages there is nothing to refuse.
        let _ = rustix::thread::disable_transparent_huge_pages(true);
    }
    CHOICE.store(if fast { FAST } else { SMALL }, Ordering::Relaxed);
    fast
}

/// Whether any block of this layout is aligned enough: mimalloc aligns to 16, and blocks under 16 bytes to 8.
#[inline]
fn is_usual(layout: Layout) -> bool {
    layout.align() <= 8 || (layout.align() == 16 && layout.size() >= 16)
}

// SAFETY: every call is passed on to one of two allocators, and to the same one in the whole life of the process, so each
// block returns to where it came from; the caller's promises are passed on as they are. mimalloc frees and resizes blocks
// of any alignment alike.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for ByRole {
    // Not inlined: it would make hyper's making of its header buffers too large to be inlined itself, and then they are
    // filled, 64 KiB for each request, instead of left as they are.
    #[inline(never)]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: see above.
        unsafe {
            match is_fast() {
                true if is_usual(layout) => mimalloc::mi_malloc(layout.size()).cast(),
                true => mimalloc::mi_malloc_aligned(layout.size(), layout.align()).cast(),
                false => System.alloc(layout),
            }
        }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: see above.
        unsafe {
            match is_fast() {
                true if is_usual(layout) => mimalloc::mi_zalloc(layout.size()).cast(),
                true => mimalloc::mi_zalloc_aligned(layout.size(), layout.align()).cast(),
                false => System.alloc_zeroed(layout),
            }
        }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: see above. A block that shrinks under 16 bytes may lose an alignment of 16.
        unsafe {
            match is_fast() {
                true if layout.align() <= 8 => mimalloc::mi_realloc(block.cast(), size).cast(),
                true => mimalloc::mi_realloc_aligned(block.cast(), size, layout.align()).cast(),
                false => System.realloc(block, layout, size),
            }
        }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: see above.
        unsafe { if is_fast() { mimalloc::mi_free(block.cast()) } else { System.dealloc(block, layout) } }
    }
}
