//! A `libnvidia-ml.so` without a driver: its devices are the lines of the file that `FAKE_NVML`
//! names, read again at every call, so that a test can let them be used, break or vanish.
//!
//! ```text
//! uuid|name|memory MiB|used MiB|busy %, or - where it cannot be told|flags|pid:MiB,pid:MiB
//! ```
//!
//! Flags, by commas: `lost` (it has fallen off the bus), `mig` (it is split), `xid79` (the driver
//! reports this error). A line `hang` lets every call wait for as long as the line is there, a line
//! `gone` fails every call, as after a driver's upgrade.

#![allow(unsafe_code, non_snake_case, reason = "it is a C library: names and pointers are given")]
#![allow(missing_docs, clippy::missing_safety_doc, reason = "NVIDIA documents each of them")]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::cast_lossless,
    reason = "handles are small numbers"
)]

use nvml_wrapper_sys::bindings::*;
use std::ffi::{c_char, c_uint, c_ulonglong};
use std::time::Duration;

/// One line of the file.
#[derive(Clone, Default)]
struct Line {
    uuid: String,
    name: String,
    memory: u64,
    used: u64,
    busy: Option<u32>,
    flags: Vec<String>,
    processes: Vec<(u32, u64)>,
}

type Code = nvmlReturn_t;
const OK: Code = nvmlReturn_enum_NVML_SUCCESS;
const LOST: Code = nvmlReturn_enum_NVML_ERROR_GPU_IS_LOST;
const UNSUPPORTED: Code = nvmlReturn_enum_NVML_ERROR_NOT_SUPPORTED;
const UNKNOWN: Code = nvmlReturn_enum_NVML_ERROR_UNKNOWN;
const INVALID: Code = nvmlReturn_enum_NVML_ERROR_INVALID_ARGUMENT;
const SMALL: Code = nvmlReturn_enum_NVML_ERROR_INSUFFICIENT_SIZE;
const TIMEOUT: Code = nvmlReturn_enum_NVML_ERROR_TIMEOUT;
const MISMATCH: Code = nvmlReturn_enum_NVML_ERROR_LIB_RM_VERSION_MISMATCH;

/// Reads the file; waits while it says so.
fn lines() -> Result<Vec<Line>, Code> {
    let path = std::env::var_os("FAKE_NVML").ok_or(UNKNOWN)?;
    loop {
        let text = std::fs::read_to_string(&path).map_err(|_| UNKNOWN)?;
        if text.lines().any(|line| line == "gone") {
            return Err(MISMATCH);
        }
        if text.lines().any(|line| line == "hang") {
            let (_keep, silent) = std::sync::mpsc::channel::<()>();
            let _ = silent.recv_timeout(Duration::from_millis(20));
            continue;
        }
        return Ok(text.lines().filter_map(parse).collect());
    }
}

fn parse(line: &str) -> Option<Line> {
    let fields: Vec<&str> = line.split('|').collect();
    let [uuid, name, memory, used, busy, flags, processes] = fields.as_slice() else {
        return None;
    };
    let process = |text: &str| {
        let (pid, mib) = text.split_once(':')?;
        Some((pid.parse().ok()?, mib.parse::<u64>().ok()? << 20))
    };
    Some(Line {
        uuid: (*uuid).to_owned(),
        name: (*name).to_owned(),
        memory: memory.parse::<u64>().ok()? << 20,
        used: used.parse::<u64>().ok()? << 20,
        busy: busy.parse().ok(),
        flags: flags.split(',').map(ToOwned::to_owned).collect(),
        processes: processes.split(',').filter_map(process).collect(),
    })
}

/// Finds the line that a handle stands for: the first is 1.
fn line(device: nvmlDevice_t) -> Result<Line, Code> {
    let number = device as usize;
    let line = lines()?.get(number.wrapping_sub(1)).cloned().ok_or(INVALID)?;
    if line.flags.iter().any(|flag| flag == "lost") { Err(LOST) } else { Ok(line) }
}

/// Turns a result into the code that C wants.
fn code(result: Result<(), Code>) -> Code {
    result.err().unwrap_or(OK)
}

unsafe fn put<T>(to: *mut T, value: T) {
    // SAFETY: the wrapper passes pointers to values of its own.
    unsafe { to.write(value) }
}

unsafe fn text(to: *mut c_char, room: c_uint, text: &str) -> Result<(), Code> {
    let bytes: Vec<c_char> = text.bytes().chain([0]).map(|byte| byte as c_char).collect();
    if bytes.len() > room as usize {
        return Err(SMALL);
    }
    // SAFETY: the buffer has the room that was just compared.
    unsafe { to.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
    Ok(())
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlInit_v2() -> Code {
    code(lines().map(drop))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlShutdown() -> Code {
    OK
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlSystemGetDriverVersion(to: *mut c_char, room: c_uint) -> Code {
    code(unsafe { text(to, room, "580.00.fake") })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetCount_v2(count: *mut c_uint) -> Code {
    code(lines().map(|lines| unsafe { put(count, lines.len() as c_uint) }))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetHandleByIndex_v2(
    index: c_uint,
    device: *mut nvmlDevice_t,
) -> Code {
    let handle = (index as usize + 1) as nvmlDevice_t;
    code(line(handle).map(|_| unsafe { put(device, handle) }))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetUUID(
    device: nvmlDevice_t,
    to: *mut c_char,
    room: c_uint,
) -> Code {
    code(line(device).and_then(|line| unsafe { text(to, room, &line.uuid) }))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetName(
    device: nvmlDevice_t,
    to: *mut c_char,
    room: c_uint,
) -> Code {
    code(line(device).and_then(|line| unsafe { text(to, room, &line.name) }))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMemoryInfo_v2(
    device: nvmlDevice_t,
    to: *mut nvmlMemory_v2_t,
) -> Code {
    code(line(device).map(|line| {
        // SAFETY: the wrapper passes a structure of its own, with its version set.
        let to = unsafe { &mut *to };
        (to.total, to.used, to.reserved) = (line.memory, line.used, 0);
        to.free = line.memory.saturating_sub(line.used);
    }))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetUtilizationRates(
    device: nvmlDevice_t,
    to: *mut nvmlUtilization_t,
) -> Code {
    code(line(device).and_then(|line| {
        let gpu = line.busy.ok_or(UNSUPPORTED)?;
        unsafe { put(to, nvmlUtilization_t { gpu, memory: 0 }) };
        Ok(())
    }))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetComputeRunningProcesses_v3(
    device: nvmlDevice_t,
    count: *mut c_uint,
    to: *mut nvmlProcessInfo_t,
) -> Code {
    code(line(device).and_then(|line| {
        // SAFETY: the wrapper passes a number of its own.
        let room = unsafe { count.read() } as usize;
        unsafe { put(count, line.processes.len() as c_uint) };
        if line.processes.len() > room || (to.is_null() && !line.processes.is_empty()) {
            return Err(SMALL);
        }
        for (i, (pid, bytes)) in line.processes.iter().enumerate() {
            let info = nvmlProcessInfo_t {
                pid: *pid,
                usedGpuMemory: *bytes,
                gpuInstanceId: c_uint::MAX,
                computeInstanceId: c_uint::MAX,
            };
            // SAFETY: there is room for so many, as was just compared.
            unsafe { put(to.add(i), info) };
        }
        Ok(())
    }))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMigMode(
    device: nvmlDevice_t,
    now: *mut c_uint,
    later: *mut c_uint,
) -> Code {
    code(line(device).map(|line| {
        let split = c_uint::from(line.flags.iter().any(|flag| flag == "mig"));
        unsafe { put(now, split) };
        unsafe { put(later, split) };
    }))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetTemperature(
    device: nvmlDevice_t,
    _sensor: nvmlTemperatureSensors_t,
    to: *mut c_uint,
) -> Code {
    code(line(device).map(|_| unsafe { put(to, 41) }))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetPowerUsage(device: nvmlDevice_t, to: *mut c_uint) -> Code {
    code(line(device).map(|_| unsafe { put(to, 75_500) }))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlEventSetCreate(set: *mut nvmlEventSet_t) -> Code {
    // Its one device is noted in it when that is registered.
    let room = Box::into_raw(Box::new(0_usize));
    unsafe { put(set, room.cast()) };
    OK
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlEventSetFree(set: nvmlEventSet_t) -> Code {
    // SAFETY: it was made by the function above.
    drop(unsafe { Box::from_raw(set.cast::<usize>()) });
    OK
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceRegisterEvents(
    device: nvmlDevice_t,
    _kinds: c_ulonglong,
    set: nvmlEventSet_t,
) -> Code {
    code(line(device).map(|_| unsafe { put(set.cast::<usize>(), device as usize) }))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlEventSetWait_v2(
    set: nvmlEventSet_t,
    to: *mut nvmlEventData_t,
    _patience: c_uint,
) -> Code {
    // SAFETY: it was made by the function above.
    let device = unsafe { set.cast::<usize>().read() } as nvmlDevice_t;
    code(line(device).and_then(|line| {
        let number = line.flags.iter().find_map(|flag| flag.strip_prefix("xid")?.parse().ok());
        let eventData: c_ulonglong = number.ok_or(TIMEOUT)?;
        let eventType = c_ulonglong::from(nvmlEventTypeXidCriticalError);
        let (gpuInstanceId, computeInstanceId) = (c_uint::MAX, c_uint::MAX);
        let event =
            nvmlEventData_t { device, eventType, eventData, gpuInstanceId, computeInstanceId };
        unsafe { put(to, event) };
        Ok(())
    }))
}
