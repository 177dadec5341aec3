//! The C library's allocator, set up for a process of many threads of which one allocates much.

/// One arena for all threads, grown by [`STEP`] at a time. An arena of glibc's for another thread than the first grows page
/// by page, a system call each: 600 of them while a container starts. To be called before any thread is started.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "mallopt has no safe form")]
pub fn set_up() {
    // SAFETY: both take two numbers; there is no other thread yet. One that is refused changes nothing.
    let _whether_taken = unsafe { (libc::mallopt(libc::M_ARENA_MAX, 1), libc::mallopt(libc::M_TOP_PAD, STEP)) };
}

/// Other allocators are taken as they are.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn set_up() {}

/// Bytes by which the heap grows.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const STEP: i32 = 256 << 10;
