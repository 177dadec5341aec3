//! Advice on memory: large pages for big tables, for fewer misses in the host's TLB, where Linux has an advice for it; and
//! what was freed given back.

#[cfg(target_os = "linux")]
mod linux {
    // UNSAFETY: the advice is a system call on an address range.
    #![expect(unsafe_code, reason = "madvise has no safe form")]

    /// Size of a large page, to which the range is cut.
    const LARGE: usize = 2 << 20;

    /// Asks for large pages behind the spare and used capacity of a vector, but for its first `small` elements.
    pub(crate) fn large_pages<T>(table: &mut Vec<T>, small: usize) {
        let small = small.saturating_mul(size_of::<T>());
        let start = (table.as_mut_ptr() as usize).saturating_add(small).next_multiple_of(LARGE);
        let end = (table.as_ptr() as usize).saturating_add(table.capacity() * size_of::<T>());
        let Some(len) = end.checked_sub(start).map(|n| n / LARGE * LARGE).filter(|&n| n > 0) else { return };
        // SAFETY: the range lies in the vector's own allocation, and this advice changes no byte of it. Where the
        // kernel has no large pages it refuses, and nothing is lost.
        let _refused = unsafe { libc::madvise(std::ptr::with_exposed_provenance_mut(start), len, libc::MADV_HUGEPAGE) };
    }
}

#[cfg(not(target_os = "linux"))]
mod other {
    /// There is no such advice.
    pub(crate) fn large_pages<T>(_: &mut Vec<T>, _: usize) {}
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod gnu {
    // UNSAFETY: the allocator's own call.
    #![expect(unsafe_code, reason = "malloc_trim has no safe form")]

    /// Gives memory that was freed back to the host.
    pub(crate) fn give_back_free() {
        // SAFETY: it takes a number, and touches nothing that is in use.
        let _whether_any = unsafe { libc::malloc_trim(0) };
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
mod not_gnu {
    /// Other allocators give back what they like.
    pub(crate) fn give_back_free() {}
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(crate) use gnu::give_back_free;
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) use not_gnu::give_back_free;

#[cfg(target_os = "linux")]
pub(crate) use linux::large_pages;
#[cfg(not(target_os = "linux"))]
pub(crate) use other::large_pages;
