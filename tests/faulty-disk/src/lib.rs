//! A disk that fails when it is told to: loaded before the C library (`LD_PRELOAD`), it answers
//! `fsync` and `fdatasync` of what lies below the folder that `FAULTY_DISK` names with an error
//! of the disk (`EIO`), as long as a file of the folder's name and `.broken` is there.
//!
//! Everything else goes where it always goes, so what was written can be read back, although no disk
//! holds it: that is how Linux behaves after such an error. What `pwrite` is given for such files is
//! noted in a file of the folder's name and `.writes`, where there is one: path, place and bytes.

#![allow(unsafe_code, reason = "it stands before functions of the C library")]
#![allow(missing_docs, clippy::missing_safety_doc, reason = "fsync(2) documents them")]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::io::Write;
use std::path::PathBuf;

/// An error of the disk (errno(3)).
const EIO: c_int = 5;
/// The next library that has a symbol, seen from here (dlsym(3)).
const NEXT: *mut c_void = std::ptr::without_provenance_mut(usize::MAX);

unsafe extern "C" {
    fn dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
    fn __errno_location() -> *mut c_int;
}

/// Returns the path of a file on the disk that fails, and the file beside its folder with this
/// ending, where there is one.
fn told(file: c_int, ending: &str) -> Option<(PathBuf, PathBuf)> {
    let folder = std::env::var_os("FAULTY_DISK").map(PathBuf::from)?;
    let mut beside = folder.clone().into_os_string();
    beside.push(ending);
    let path = std::fs::read_link(format!("/proc/self/fd/{file}")).ok()?;
    let beside = PathBuf::from(beside);
    (path.starts_with(&folder) && beside.exists()).then_some((path, beside))
}

/// Finds what the C library has by this name.
fn real(name: &CStr) -> *mut c_void {
    // SAFETY: a name that ends in zero.
    let found = unsafe { dlsym(NEXT, name.as_ptr()) };
    assert!(!found.is_null(), "the C library has no {name:?}");
    found
}

/// Fails, or does what the C library's function of this name does.
fn sync(file: c_int, name: &CStr) -> c_int {
    type Sync = unsafe extern "C" fn(c_int) -> c_int;
    if told(file, ".broken").is_some() {
        // SAFETY: it points to this thread's number.
        unsafe { *__errno_location() = EIO };
        return -1;
    }
    // SAFETY: it has the type that fsync(2) says.
    unsafe { std::mem::transmute::<*mut c_void, Sync>(real(name))(file) }
}

#[unsafe(no_mangle)]
pub extern "C" fn fsync(file: c_int) -> c_int {
    sync(file, c"fsync")
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwrite64(
    file: c_int,
    bytes: *const c_void,
    count: usize,
    place: i64,
) -> isize {
    type Write = unsafe extern "C" fn(c_int, *const c_void, usize, i64) -> isize;
    if let Some((path, beside)) = told(file, ".writes") {
        let notes = std::fs::File::options().append(true).open(beside);
        let line = format!("{} {place} {count}\n", path.display());
        let _ = notes.and_then(|mut notes| notes.write_all(line.as_bytes()));
    }
    // SAFETY: it has the type that pwrite(2) says, and the caller keeps to it.
    unsafe {
        std::mem::transmute::<*mut c_void, Write>(real(c"pwrite64"))(file, bytes, count, place)
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn fdatasync(file: c_int) -> c_int {
    sync(file, c"fdatasync")
}
