//! What of a job is refused at once: what is malformed, and what could never run.

use crate::bundle::{Bundle, GPUS_MAX};
use crate::caps::over_requests;
use crate::command::{JobSpec, Near};
use crate::config::{Backfill, JOBS_MAX, MEMBERS_MAX};
use crate::deny::{Denied, first_short};
use crate::ids::{AccountId, NodeId};
use crate::placement::{members_on, suits};
use crate::shapes::Shape;
use crate::state::State;
use crate::tags::TAGS_MAX;
use alloc::collections::BTreeMap;
use alloc::string::String;

/// Most jobs that one may wait for.
const AFTER_MAX: usize = 1_024;

/// Refuses a malformed job, but for what its shape holds: see [`check_shape`].
pub(super) fn check_spec(state: &State, account: AccountId, spec: &JobSpec) -> Result<(), Denied> {
    if state.ledger.accounts.find(account).is_none() {
        return Err(Denied::NoAccount(account));
    }
    if let Some(gone) = spec.after.iter().find(|on| state.jobs.get(on).is_none()) {
        return Err(Denied::NoJob(*gone));
    }
    let promised = state.reserved.get(&spec.pool).map_or(0, BTreeMap::len);
    if spec.reserve && promised >= Backfill::RESERVATIONS_MAX {
        let max = Backfill::RESERVATIONS_MAX as u64;
        return Err(Denied::Full { what: "the list of reservations".into(), max });
    }
    check_numbers(state, spec)?;
    if let Some(most) = over_requests(state, account, spec.task) {
        return Err(Denied::TooManyRequests { account, most });
    }
    if state.jobs.len() >= JOBS_MAX {
        return Err(Denied::Full { what: "the list of jobs".into(), max: JOBS_MAX as u64 });
    }
    Ok(())
}

/// Refuses a malformed shape. One that is known has passed this.
pub(super) fn check_shape(state: &State, spec: &JobSpec) -> Result<(), Denied> {
    if state.pools.find(spec.pool).is_none() {
        return Err(Denied::NoPool(spec.pool));
    }
    let data = match &spec.near {
        Some(Near::Node(node)) => Some(node),
        Some(Near::Zone(_)) | None => None,
    };
    let mut named = spec.preferred.iter().chain(&spec.excluded).chain(data);
    if let Some(node) = named.find(|node| state.nodes.find(**node).is_none()) {
        return Err(Denied::NoNode(*node));
    }
    if spec.needs.is_zero() {
        return Err(Denied::Empty);
    }
    let gpus = spec.needs.gpus;
    within("gpus", u64::from(gpus.count), usize::from(gpus.count) <= GPUS_MAX, "at most 64")?;
    within(
        "gpu_share",
        u64::from(gpus.share.get()),
        gpus.share <= crate::units::PerMille::WHOLE && (gpus.count == 0) == gpus.share.is_zero(),
        "1 to 1,000 thousandths with a GPU, else 0",
    )?;
    let members = u64::from(spec.members);
    within("members", members, (1..=MEMBERS_MAX).contains(&spec.members), "1 to 1,024")?;
    let words = spec.labels.iter().map(|need| need.any_of.len()).max().unwrap_or(0);
    let texts = spec.labels.iter().flat_map(|need| need.any_of.iter().chain([&need.key]));
    let longest = texts.map(String::len).max().unwrap_or(0);
    within("labels", spec.labels.len() as u64, spec.labels.len() <= 64, "at most 64")?;
    within("label values", words as u64, words <= 64, "at most 64")?;
    within("label length", longest as u64, longest <= 253, "at most 253")?;
    let preferred = spec.preferred.len();
    within("preferred nodes", preferred as u64, preferred <= 64, "at most 64")?;
    check_company(spec)
}

/// Refuses too many tags, or nodes that it must not take, and words that are too long.
fn check_company(spec: &JobSpec) -> Result<(), Denied> {
    let lists = [
        ("excluded nodes", spec.excluded.len()),
        ("tags", spec.tags.len()),
        ("affinity", spec.affinity.len()),
        ("anti-affinity", spec.anti_affinity.len()),
    ];
    for (what, len) in lists {
        if len > TAGS_MAX {
            let range = "at most 64".into();
            return Err(Denied::Range { what: what.into(), value: len as u64, range });
        }
    }
    let zone = match &spec.near {
        Some(Near::Zone(zone)) => Some(zone),
        Some(Near::Node(_)) | None => None,
    };
    let words = spec.tags.iter().chain(&spec.affinity).chain(&spec.anti_affinity).chain(zone);
    if let Some(len) = words.map(String::len).find(|len| !(1..=253).contains(len)) {
        let (what, range) = ("length of a tag or zone".into(), "1 to 253".into());
        return Err(Denied::Range { what, value: len as u64, range });
    }
    Ok(())
}

/// Refuses a job that could never run.
pub(super) fn check_room(state: &State, shape: &Shape) -> Result<(), Denied> {
    if let Some(quota) = &state.pools[shape.pool].spec.quota
        && let Some((dimension, needed, quota)) = first_short(&shape.total(), quota)
    {
        return Err(Denied::OverQuota { dimension, needed, quota });
    }
    let nodes = &state.pools[shape.pool].nodes;
    if could_hold(state, shape, nodes) {
        return Ok(());
    }
    let need = shape.needs.bundle();
    let rooms = nodes.iter().map(|n| {
        let spec = &state.nodes[*n].spec;
        spec.capacity.meet(&spec.share_max)
    });
    let most = rooms.fold(Bundle::ZERO, |most, room| most.zip(&room, u64::max));
    let (dimension, needed, most) = first_short(&need, &most)
        .or_else(|| first_short(&need, &Bundle::ZERO))
        .unwrap_or((crate::bundle::Dimension::Cpu, 0, 0));
    Err(Denied::NoMatchingNode { pool: shape.pool, dimension, most, needed })
}

/// Returns whether all members of a job could run on these nodes, were they empty.
pub(super) fn could_hold(state: &State, shape: &Shape, nodes: &[NodeId]) -> bool {
    let mut left = u32::from(shape.members);
    for node in nodes.iter().filter(|node| suits(state, shape, **node)) {
        // All of one member already fits an empty node that suits.
        let alone = shape.spread || shape.members == 1;
        left -= if alone { 1 } else { members_on(state.nodes[*node].emptied(), shape).min(left) };
        if left == 0 {
            return true;
        }
    }
    false
}

/// Refuses a number of a job that is not in its range.
fn within(what: &'static str, value: u64, ok: bool, range: &'static str) -> Result<(), Denied> {
    if ok { Ok(()) } else { Err(Denied::Range { what: what.into(), value, range: range.into() }) }
}

/// Refuses numbers of a job that are not in their ranges.
fn check_numbers(state: &State, spec: &JobSpec) -> Result<(), Denied> {
    let after = spec.after.len();
    within(
        "min",
        spec.extra.get(),
        spec.extra.is_zero() || (spec.members == 1 && !spec.needs.cpu.is_zero()),
        "above 0 cores, and left out of a gang: its members cannot run with less",
    )?;
    within(
        "max_price",
        0,
        spec.price_max.is_none_or(|price| !price.is_zero()),
        "above 0, or left out",
    )?;
    within("limit", 0, spec.limit.is_none_or(|limit| !limit.is_zero()), "above 0")?;
    within("after", after as u64, after <= AFTER_MAX, "at most 1,024 jobs")?;
    within(
        "after",
        after as u64,
        after == 0 || !(spec.refuse_if_busy || spec.reserve),
        "empty where a job is refused when it cannot start at once, or where a place is kept",
    )?;
    within(
        "begin",
        spec.begin.unwrap_or_default().ms(),
        spec.begin.is_none() || !spec.refuse_if_busy,
        "left out where a job is refused when it cannot start at once",
    )?;
    within(
        "reserve",
        1,
        !spec.reserve || (spec.begin.is_some_and(|at| at > state.now) && spec.limit.is_some()),
        "of a job that begins later and has a limit",
    )
}
