//! Where the process's memory comes from: mimalloc, asked without a wish for alignment where none is
//! needed.
//!
//! **Why mimalloc.** A request holds a future and buffers of several kilobytes, sizes at which the C
//! library's allocator leaves its fast paths.
//!
//! **Why not its own crate.** That one asks for an alignment each time, also where every block has it:
//! a call of 60 allocations then spends a twentieth of its instructions on looking, and a block that must
//! lie on 128 bytes (the task of a connection) is asked for with 127 more, which is the next class of
//! sizes and a kilobyte of each open stream.
//!
//! **The rule.** A block of 16 bytes and more lies on 16, a smaller one on 8 (`MI_MAX_ALIGN_SIZE` and the
//! bins of `page-queue.c`); up to there, and where the size is no less than the alignment, as the C
//! standard wants it of `malloc`, none is asked for. Above, a plain block is tried first, because one
//! whose class is a multiple of the alignment has it by its place; where it has not, it is given back.
//!
//! The only `unsafe` of the project: a global allocator cannot be had without.
#![expect(unsafe_code, reason = "a global allocator is an unsafe trait")]

use libmimalloc_sys::{
    mi_free, mi_malloc, mi_malloc_aligned, mi_realloc, mi_realloc_aligned, mi_zalloc, mi_zalloc_aligned,
};
use std::alloc::{GlobalAlloc, Layout};

/// Alignment that every block has that is as large.
const NATURAL: usize = 16;

/// mimalloc as Rust's allocator.
pub(crate) struct Allocator;

/// Whether each block of such a size lies as is wanted.
#[inline]
const fn is_natural(size: usize, alignment: usize) -> bool {
    alignment <= NATURAL && alignment <= size
}

// SAFETY: mimalloc keeps what the trait asks for: blocks do not overlap, live until they are freed, and
// lie as `layout` wants them, by the rule above or because it was looked at. Nothing here unwinds.
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let (size, alignment) = (layout.size(), layout.align());
        // SAFETY: any size may be asked for, and the alignment of a layout is a power of two.
        unsafe {
            if is_natural(size, alignment) {
                return mi_malloc(size).cast();
            }
            let block: *mut u8 = mi_malloc(size).cast();
            if block.addr() & (alignment - 1) == 0 {
                return block;
            }
            mi_free(block.cast());
            mi_malloc_aligned(size, alignment).cast()
        }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, _: Layout) {
        // SAFETY: the caller hands back what came from here.
        unsafe { mi_free(block.cast()) }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let (size, alignment) = (layout.size(), layout.align());
        // SAFETY: as in `alloc`.
        unsafe {
            if is_natural(size, alignment) {
                mi_zalloc(size).cast()
            } else {
                mi_zalloc_aligned(size, alignment).cast()
            }
        }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller hands over what came from here.
        unsafe {
            if is_natural(size, layout.align()) {
                mi_realloc(block.cast(), size).cast()
            } else {
                mi_realloc_aligned(block.cast(), size, layout.align()).cast()
            }
        }
    }
}
