//! The thread that asks the driver: NVML where it can be loaded, else `nvidia-smi`.

use crate::frame::{Device, DeviceProcess};
use gridcore::units::Bytes;
use nvml_wrapper::bitmasks::event::EventTypes;
use nvml_wrapper::enum_wrappers::device::TemperatureSensor;
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::enums::event::XidError;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{EventSet, Nvml};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, Sender};

/// Names another library than the driver's, for drivers in unusual places.
const LIBRARY: &str = "GRIDLIVE_NVML";
/// Where the driver's library is: the second name comes only with development packages.
const LIBRARIES: [&str; 2] = ["libnvidia-ml.so.1", "libnvidia-ml.so"];
/// Errors that a program can cause by itself: they say nothing of the device (NVIDIA, "XID Errors";
/// the list that the Kubernetes device plugin skips).
const PROGRAMS_FAULTS: [u64; 6] = [13, 31, 43, 45, 68, 109];

/// Answers until nobody asks any more: all devices at each look, `None` where there is no driver.
pub(super) fn run(asked: &Receiver<()>, told: &Sender<Option<Vec<Device>>>, wake: &UnixStream) {
    let answer = |devices| {
        let sent = told.send(devices).is_ok();
        let _ = (&*wake).write(&[1]);
        sent
    };
    while asked.recv().is_ok() {
        let Some(nvml) = load() else {
            if !answer(smi()) {
                return;
            }
            continue;
        };
        let events = watch(&nvml);
        let mut sick = BTreeMap::new();
        loop {
            hear(&events, &mut sick);
            let devices = look(&nvml, &sick);
            // A driver that is gone is looked for again.
            let works = devices.is_some();
            if !answer(devices) {
                return;
            }
            if !works {
                break;
            }
            if asked.recv().is_err() {
                return;
            }
        }
    }
}

/// Loads the driver's library.
fn load() -> Option<Nvml> {
    let given = std::env::var_os(LIBRARY).map(|name| vec![name]);
    let names = given.unwrap_or_else(|| LIBRARIES.map(OsString::from).to_vec());
    names.iter().find_map(|name| Nvml::builder().lib_path(name).init().ok())
}

/// Listens to what the driver says of broken devices; not every device can be listened to.
fn watch(nvml: &Nvml) -> Vec<EventSet<'_>> {
    let listen = |index| {
        let (device, set) = (nvml.device_by_index(index).ok()?, nvml.create_event_set().ok()?);
        device.register_events(EventTypes::CRITICAL_XID_ERROR, set).ok()
    };
    (0..nvml.device_count().unwrap_or(0)).filter_map(listen).collect()
}

/// Notes which devices the driver has called broken since the last look.
fn hear(events: &[EventSet<'_>], sick: &mut BTreeMap<String, String>) {
    for event in events.iter().filter_map(|set| set.wait(0).ok()) {
        let number = match event.event_data {
            Some(XidError::Value(number)) => Some(number),
            Some(XidError::Unknown) | None => None,
        };
        if number.is_some_and(|number| PROGRAMS_FAULTS.contains(&number)) {
            continue;
        }
        if let Ok(uuid) = event.device.uuid() {
            let number = number.map_or_else(|| "of no number".to_owned(), |n| n.to_string());
            sick.insert(uuid, format!("the driver reported XID {number}"));
        }
    }
}

/// Looks at every device that answers; `None` when the driver does not.
fn look(nvml: &Nvml, sick: &BTreeMap<String, String>) -> Option<Vec<Device>> {
    let count = nvml.device_count().ok()?;
    Some((0..count).filter_map(|index| one(nvml, index, sick)).collect())
}

/// Looks at one device; what does not answer at all is left out.
fn one(nvml: &Nvml, index: u32, sick: &BTreeMap<String, String>) -> Option<Device> {
    let device = nvml.device_by_index(index).ok()?;
    let uuid = device.uuid().ok()?;
    let mut sick = sick.get(&uuid).cloned();
    let mut note = |what: &str, error: &NvmlError| {
        sick.get_or_insert_with(|| format!("it does not say {what}: {error}"));
    };
    let memory = device.memory_info().map_err(|e| note("its memory", &e)).ok();
    let compute = device.running_compute_processes();
    let compute = compute.or_else(|_| device.running_compute_processes_v2());
    let compute = compute.map_err(|e| note("who uses it", &e)).unwrap_or_default();
    let busy = match device.utilization_rates() {
        Ok(rates) => u8::try_from(rates.gpu.min(100)).ok(),
        Err(NvmlError::NotSupported) => None,
        Err(error) => {
            note("how busy it is", &error);
            None
        }
    };
    let processes = compute.into_iter().map(|process| DeviceProcess {
        pid: process.pid,
        memory: match process.used_gpu_memory {
            UsedGpuMemory::Used(bytes) => Some(Bytes::new(bytes)),
            UsedGpuMemory::Unavailable => None,
        },
        user: super::user_of(process.pid),
    });
    Some(Device {
        uuid,
        model: device.name().unwrap_or_default(),
        memory: Bytes::new(memory.as_ref().map_or(0, |memory| memory.total)),
        used: Bytes::new(memory.as_ref().map_or(0, |memory| memory.used)),
        busy,
        processes: processes.collect(),
        celsius: device.temperature(TemperatureSensor::Gpu).ok(),
        milliwatts: device.power_usage().ok(),
        millijoules: device.total_energy_consumption().ok(),
        split: device.mig_mode().is_ok_and(|mode| mode.current != 0),
        sick,
    })
}

/// Asks `nvidia-smi`, where the library cannot be loaded; `None` when there is none.
fn smi() -> Option<Vec<Device>> {
    const DEVICES: &str = "--query-gpu=uuid,name,memory.total,memory.used,utilization.gpu,\
                           temperature.gpu,power.draw,mig.mode.current";
    const PROCESSES: &str = "--query-compute-apps=gpu_uuid,pid,used_memory";
    let ask = |query: &str| {
        let mut command = Command::new("nvidia-smi");
        command.args([query, "--format=csv,noheader,nounits"]);
        let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    };
    Some(parse(&ask(DEVICES)?, &ask(PROCESSES)?))
}

/// Parses both answers of `nvidia-smi`; `[N/A]` and the like are `None`.
fn parse(devices: &str, processes: &str) -> Vec<Device> {
    let rows = |text: &str| -> Vec<Vec<String>> {
        let fields = |line: &str| line.split(", ").map(|field| field.trim().to_owned()).collect();
        text.lines().filter(|line| !line.trim().is_empty()).map(fields).collect()
    };
    let mib = |text: Option<&String>| {
        text.and_then(|text| text.parse::<u64>().ok()).map(|mib| Bytes::new(mib << 20))
    };
    let users = rows(processes);
    let device = |row: Vec<String>| {
        let uuid = row.first()?.clone();
        let of_it = |row: &&Vec<String>| row.first() == Some(&uuid);
        let processes = users.iter().filter(of_it).filter_map(|row| {
            let pid = row.get(1)?.parse().ok()?;
            Some(DeviceProcess { pid, memory: mib(row.get(2)), user: super::user_of(pid) })
        });
        let processes = processes.collect();
        let (memory, used) = (mib(row.get(2)), mib(row.get(3)));
        let unknown = memory.is_none() || used.is_none();
        let whole = |field: usize| row.get(field)?.split('.').next()?.parse::<u32>().ok();
        Some(Device {
            uuid,
            model: row.get(1).cloned().unwrap_or_default(),
            memory: memory.unwrap_or_default(),
            used: used.unwrap_or_default(),
            busy: whole(4).and_then(|percent| u8::try_from(percent).ok()),
            processes,
            celsius: whole(5),
            milliwatts: whole(6).map(|watts| watts.saturating_mul(1_000)),
            millijoules: None,
            split: row.get(7).is_some_and(|mode| mode == "Enabled"),
            sick: unknown.then(|| "it does not say its memory".to_owned()),
        })
    };
    rows(devices).into_iter().filter_map(device).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answers_of_nvidia_smi_are_parsed() {
        let devices = "GPU-aa, NVIDIA H200, 143771, 4, 0, 31, 76.31, Disabled\n\
                       GPU-bb, NVIDIA A100, 40960, 20, [N/A], 40, [N/A], Enabled\n\
                       GPU-cc, Tesla K80, [Unknown Error], [N/A], [N/A], [N/A], [N/A], [N/A]\n";
        let found = parse(devices, "GPU-aa, 4294967, 512\nGPU-zz, 1, 1\nGPU-aa, 4294968, [N/A]\n");
        let brief: Vec<(u64, u64, Option<u8>, bool, bool)> = found
            .iter()
            .map(|d| (d.memory.get() >> 20, d.used.get() >> 20, d.busy, d.split, d.sick.is_some()))
            .collect();
        assert_eq!(
            brief,
            [
                (143_771, 4, Some(0), false, false),
                (40_960, 20, None, true, false),
                (0, 0, None, false, true)
            ]
        );
        let process = |pid, memory| DeviceProcess { pid, memory, user: None };
        let half_a_gib = Some(Bytes::new(512 << 20));
        assert_eq!(
            found.first().map(|d| d.processes.clone()),
            Some(vec![process(4_294_967, half_a_gib), process(4_294_968, None)])
        );
        assert_eq!(found.first().and_then(|d| d.milliwatts), Some(76_000));
        assert!(parse("", "").is_empty());
    }
}
