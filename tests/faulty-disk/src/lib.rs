//! A disk that fails when it is told to: loaded before the C library (`LD_PRELOAD`), it answers
//! `fsync` and `fdatasync` of what lies below the folder that `FAULTY_DISK` names with an error
//! of the disk (`EIO`), as long as a file of the folder's name and `.broken` is there.
//!
//! Everything else goes where it always goes, so what was written can be read back, although no disk
//! holds it: that is how Linux behaves after such an error.

#![allow(unsafe_code, reason = "it stands before functions of the C library")]
#![allow(missing_docs, clippy::missing_safety_doc, reason = "fsync(2) documents them")]

use std::ffi::{c_char, c_int, c_void};
use std::path::PathBuf;

/// An error of the disk (errno(3)).
const EIO: c_int = 5;
/// The next library that has a symbol, seen from here (dlsym(3)).
const NEXT: *mut c_void = std::ptr::without_provenance_mut(usize::MAX);

unsafe extern "C" {
    fn dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
    fn __errno_location() -> *mut c_int;
}

/// Returns whether a file lies on the disk that fails, and it fails now.
fn fails(file: c_int) -> bool {
    let Some(folder) = std::env::var_os("FAULTY_DISK").map(PathBuf::from) else { return false };
    let mut told = folder.clone().into_os_string();
    told.push(".broken");
    let path = std::fs::read_link(format!("/proc/self/fd/{file}")).unwrap_or_default();
    path.starts_with(&folder) && PathBuf::from(told).exists()
}

/// Fails, or does what the C library's function of this name does.
fn sync(file: c_int, name: &std::ffi::CStr) -> c_int {
    type Sync = unsafe extern "C" fn(c_int) -> c_int;
    // SAFETY: a name that ends in zero; what is found has the type that fsync(2) says.
    let real = unsafe { dlsym(NEXT, name.as_ptr()) };
    if real.is_null() || fails(file) {
        // SAFETY: it points to this thread's number.
        unsafe { *__errno_location() = EIO };
        return -1;
    }
    // SAFETY: as above.
    unsafe { std::mem::transmute::<*mut c_void, Sync>(real)(file) }
}

#[unsafe(no_mangle)]
pub extern "C" fn fsync(file: c_int) -> c_int {
    sync(file, c"fsync")
}

#[unsafe(no_mangle)]
pub extern "C" fn fdatasync(file: c_int) -> c_int {
    sync(file, c"fdatasync")
}
