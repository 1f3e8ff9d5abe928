//! Effects and refusals as one line of text each.

use gridcore::effect::{Effect, OfferFate, Party, Transfer};
use gridcore::state::State;
use gridcore::units::{MicroAtp, Span, Time};

/// Whole seconds without a fraction, else with milliseconds.
#[must_use]
pub fn span(span: Span) -> String {
    let ms = span.get();
    if ms.is_multiple_of(1_000) {
        format!("{}s", ms / 1_000)
    } else {
        format!("{}.{:03}s", ms / 1_000, ms % 1_000)
    }
}

/// A point in time, as [`span`].
#[must_use]
pub fn time(at: Time) -> String {
    span(at.since(Time::ZERO))
}

/// Credit in ATP with six decimals.
#[must_use]
pub fn atp(amount: MicroAtp) -> String {
    format!("{}.{:06}", amount.get() / 1_000_000, amount.get() % 1_000_000)
}

/// The devices of a mask.
fn devices(mask: u64) -> String {
    let on: Vec<String> = (0..64).filter(|i| mask >> i & 1 == 1).map(|i| i.to_string()).collect();
    if on.is_empty() { String::new() } else { format!("[{}]", on.join(",")) }
}

fn party(state: &State, party: Party) -> String {
    match party {
        Party::Mint => String::from("mint"),
        Party::Treasury => String::from("treasury"),
        Party::Burn => String::from("burn"),
        Party::Account(id) => state.account(id).spec.name.clone(),
        Party::Held(id) => format!("{}'s hold", state.account(id).spec.name),
    }
}

fn moved(state: &State, t: &Transfer) -> String {
    let (from, to) = (party(state, t.from), party(state, t.to));
    let lease = t.lease.map_or_else(String::new, |lease| format!(" for {lease}"));
    format!("{} {} from {from} to {to}{lease}", t.kind.name(), atp(t.amount))
}

/// One effect as text, unless another tells the same; `state` is the state after the entry.
#[must_use]
pub fn effect(state: &State, effect: &Effect) -> Option<String> {
    Some(match effect {
        Effect::Granted { lease, epoch, job, confidence } => {
            let places = state.leases.get(lease).map(|l| {
                let place = |m: &gridcore::leases::Member| {
                    format!("{}{}", state.nodes[m.node].spec.name, devices(m.devices))
                };
                l.members.iter().map(place).collect::<Vec<_>>().join(" ")
            });
            let places = places.unwrap_or_default();
            let asked = !state.rules.scheduling.min_confidence.is_zero();
            let sure = asked.then(|| format!(", confidence {}", confidence.total().get()));
            format!("start {job} as {lease} {epoch} on {places}{}", sure.unwrap_or_default())
        }
        Effect::Resized { lease, cpu } => format!("{lease} has {}m of CPU", cpu.get()),
        Effect::Evicted { lease, kill_at, reason, .. } => {
            format!("evict {lease}, {}, kill at {}", reason.name(), time(*kill_at))
        }
        // Every order follows from something that has a line of its own.
        Effect::Order { .. } | Effect::Send { .. } => return None,
        Effect::Idle(idle) => {
            let never = String::from("never");
            let reclaim = idle.reclaim_at.map_or(never, time);
            let since = time(idle.since);
            format!("idle {} of {} since {since}, evicted at {reclaim}", idle.lease, idle.job)
        }
        Effect::Closed(end) => {
            let reason = end.reason.map_or("by itself", |reason| reason.name());
            format!("closed {} of {}, {reason}", end.lease, end.job)
        }
        Effect::Finished(end) => {
            let paid = if end.charged.is_zero() {
                String::new()
            } else {
                format!(", charged {}, refunded {}", atp(end.charged), atp(end.refunded))
            };
            format!("finished {} {:?}{paid}", end.job, end.state)
        }
        Effect::Requeued { job, reason, lost } => {
            format!("requeued {job}, {}, lost {}", reason.name(), span(*lost))
        }
        Effect::Drained { node } => {
            let row = &state.nodes[*node];
            format!("drained {}: {}", row.spec.name, row.draining.as_deref().unwrap_or_default())
        }
        Effect::Moved(transfer) => moved(state, transfer),
        Effect::Offer { offer, node, fate } => {
            let name = &state.nodes[*node].spec.name;
            match fate {
                OfferFate::Opened => {
                    let total = state.nodes[*node].offer.as_ref().map(|o| o.total);
                    let total = total.unwrap_or_default();
                    let (cpu, gpu) = (total.cpu.get(), total.gpu.get());
                    format!("offer {offer} of {name} opened: cpu {cpu}m gpu {gpu}m")
                }
                OfferFate::Leased
                | OfferFate::Expired
                | OfferFate::Withdrawn
                | OfferFate::Revoked => format!("offer {offer} of {name} {fate:?}").to_lowercase(),
            }
        }
    })
}
