//! The CSV files: times in seconds with three decimals, amounts with their unit in the column.

use crate::record::{Amounts, Party, RunRecord};
use gridcore::units::{Band, BasisPoints, MicroAtp, Span, Time};
use std::io::{self, Write};

/// One line on its way.
struct Line {
    text: Vec<u8>,
    begun: bool,
}

impl Line {
    fn new() -> Self {
        Self { text: Vec::with_capacity(256), begun: false }
    }

    fn field(&mut self) -> &mut Vec<u8> {
        if self.begun {
            self.text.push(b',');
        }
        self.begun = true;
        &mut self.text
    }

    fn number(&mut self, value: impl Into<u64>) -> &mut Self {
        digits(self.field(), value.into(), 1);
        self
    }

    /// A number of thousandths with three decimals.
    fn milli(&mut self, value: u64) -> &mut Self {
        let text = self.field();
        digits(text, value / 1_000, 1);
        text.push(b'.');
        digits(text, value % 1_000, 3);
        self
    }

    fn time(&mut self, time: Time) -> &mut Self {
        self.milli(time.ms())
    }

    fn span(&mut self, span: Span) -> &mut Self {
        if span == Span::MAX { self.word("") } else { self.milli(span.get()) }
    }

    fn some(&mut self, value: Option<u64>) -> &mut Self {
        match value {
            Some(value) if value < u64::MAX => self.milli(value),
            Some(_) | None => self.word(""),
        }
    }

    /// A plain word that needs no quotes.
    fn word(&mut self, word: &str) -> &mut Self {
        self.field().extend_from_slice(word.as_bytes());
        self
    }

    /// Text from outside, in quotes where it needs them.
    fn text(&mut self, text: &str) -> &mut Self {
        let field = self.field();
        if text.contains(['"', ',', '\n', '\r']) || text.starts_with('#') {
            field.push(b'"');
            field.extend_from_slice(text.replace('"', "\"\"").as_bytes());
            field.push(b'"');
        } else {
            field.extend_from_slice(text.as_bytes());
        }
        self
    }

    fn atp(&mut self, amount: MicroAtp) -> &mut Self {
        let text = self.field();
        digits(text, amount.get() / 1_000_000, 1);
        text.push(b'.');
        digits(text, amount.get() % 1_000_000, 6);
        self
    }

    /// GiB with three decimals.
    fn gib(&mut self, bytes: u64) -> &mut Self {
        let milli = (u128::from(bytes) * 1_000 + (1 << 29)) >> 30;
        self.milli(u64::try_from(milli).unwrap_or(u64::MAX))
    }

    /// Percent with two decimals.
    fn percent(&mut self, points: BasisPoints) -> &mut Self {
        let text = self.field();
        digits(text, u64::from(points.get() / 100), 1);
        text.push(b'.');
        digits(text, u64::from(points.get() % 100), 2);
        self
    }

    /// Cores, GiB and GPUs.
    fn bundle(&mut self, amounts: impl Into<Amounts>) -> &mut Self {
        let bundle = amounts.into();
        self.milli(bundle.cpu.get()).gib(bundle.memory.get()).milli(bundle.gpu.get())
    }

    fn end(&mut self, out: &mut dyn Write) -> io::Result<()> {
        self.text.push(b'\n');
        out.write_all(&self.text)?;
        self.text.clear();
        self.begun = false;
        Ok(())
    }
}

/// Appends a number with at least `least` digits. A million jobs are a hundred million digits: the
/// formatting machinery took as long as the simulation.
fn digits(text: &mut Vec<u8>, mut value: u64, least: usize) {
    let mut buffer = [b'0'; 20];
    let mut at = buffer.len();
    while value > 0 || buffer.len() - at < least {
        at -= 1;
        if let Some(slot) = buffer.get_mut(at) {
            *slot = b'0' + u8::try_from(value % 10).unwrap_or(0);
        }
        value /= 10;
    }
    text.extend_from_slice(buffer.get(at..).unwrap_or_default());
}

/// Returns a name by index.
fn name(names: &[String], index: u32) -> &str {
    names.get(index as usize).map_or("", String::as_str)
}

/// Writes `jobs.csv`.
///
/// # Errors
/// As `out`.
pub fn jobs(run: &RunRecord, out: &mut dyn Write) -> io::Result<()> {
    out.write_all(
        b"job_id,name,account,pool,priority,submit_s,start_s,end_s,wait_s,run_s,limit_s,cpu_cores,\
          memory_gb,gpus,gpu_share,gpu_memory_gb,nodes,state,attempts,preemptions,lost_work_s,\
          charged_atp,refunded_atp\n",
    )?;
    let mut line = Line::new();
    let mut nodes = String::new();
    for (i, job) in (1_u64..).zip(&run.jobs) {
        nodes.clear();
        for (n, node) in job.nodes.as_slice().iter().enumerate() {
            if n > 0 {
                nodes.push(' ');
            }
            nodes.push_str(run.nodes.get(*node as usize).map_or("", |node| &node.name));
        }
        line.number(i).text(&job.name).text(name(&run.accounts, job.account));
        line.text(name(&run.pools, job.pool)).number(job.priority).time(job.submit);
        line.some(job.start.map(Time::ms)).some(job.end.map(Time::ms));
        line.span(job.wait).span(job.run).some(job.limit.map(Span::get));
        line.milli(job.needs.cpu.get()).gib(job.needs.memory.get());
        let share = u64::from(job.gpu_share).max(1);
        line.number(job.needs.gpu.get() / share).milli(u64::from(job.gpu_share));
        line.gib(job.gpu_memory).text(&nodes).word(job.state.name());
        line.number(job.attempts).number(job.preemptions).span(job.lost);
        line.atp(job.charged).atp(job.refunded).end(out)?;
    }
    Ok(())
}

/// Writes `leases.csv`.
///
/// # Errors
/// As `out`.
pub fn leases(run: &RunRecord, out: &mut dyn Write) -> io::Result<()> {
    out.write_all(
        b"lease_id,job_id,attempt,node,cpu_cores,memory_gb,gpus,devices,granted_s,ended_s,why,\
          held_atp,settled_atp,unpaid_terms,metered_terms,expired_terms,metering\n",
    )?;
    let mut line = Line::new();
    for lease in &run.leases {
        line.number(lease.lease).number(lease.job).number(lease.attempt);
        line.text(run.nodes.get(lease.node as usize).map_or("", |node| &node.name));
        line.bundle(lease.needs);
        let devices: Vec<String> =
            (0..64).filter(|i| lease.gpus & 1 << i != 0).map(|i: u32| i.to_string()).collect();
        line.word(&devices.join(" ")).time(lease.granted);
        line.some(lease.ended.map(Time::ms)).word(lease.why);
        line.atp(lease.held).atp(lease.settled).number(lease.unpaid_terms);
        line.number(lease.metered_terms).number(lease.expired_terms);
        let metering = (lease.metered_terms > 0).then(|| lease.metering.to_string());
        line.word(&metering.unwrap_or_default()).end(out)?;
    }
    Ok(())
}

/// Writes `nodes.csv`.
///
/// # Errors
/// As `out`.
pub fn nodes(run: &RunRecord, out: &mut dyn Write) -> io::Result<()> {
    out.write_all(
        b"time_s,node,owner_cpu_percent,owner_memory_percent,owner_gpu_percent,lent_cpu_percent,\
          lent_memory_percent,lent_gpu_percent,offered_cpu_percent,offered_memory_percent,\
          offered_gpu_percent,pressure_percent,state\n",
    )?;
    let mut line = Line::new();
    let count = run.nodes.len().max(1);
    for (samples, row) in run.node_samples.chunks(count).zip(&run.timeline) {
        for (sample, node) in samples.iter().zip(&run.nodes) {
            line.time(row.at).text(&node.name);
            for points in sample.owner.iter().chain(&sample.lent).chain(&sample.offered) {
                line.percent(*points);
            }
            line.percent(sample.pressure).word(sample.state).end(out)?;
        }
    }
    Ok(())
}

/// Writes `timeline.csv`.
///
/// # Errors
/// As `out`.
pub fn timeline(run: &RunRecord, out: &mut dyn Write) -> io::Result<()> {
    let mut header = "time_s".to_owned();
    let bands = Band::ALL.map(Band::name);
    let lent = bands.map(|band| format!("lent_{band}"));
    let groups = ["capacity", "owner"].into_iter().map(str::to_owned).chain(lent);
    for group in groups.chain(["offered", "lendable"].map(str::to_owned)) {
        for resource in ["cpu_cores", "memory_gb", "gpus"] {
            header.push_str(&format!(",{group}_{resource}"));
        }
    }
    for band in bands {
        header.push_str(&format!(",queued_{band}"));
    }
    header.push_str(",running");
    for what in ["price", "demand"] {
        for resource in ["cpu", "memory", "gpu"] {
            header.push_str(&format!(",{what}_{resource}_ppm"));
        }
    }
    for band in bands {
        header.push_str(&format!(",wait_{band}_s"));
    }
    header
        .push_str(",offers_opened,offers_leased,offers_expired,offers_withdrawn,offers_revoked\n");
    out.write_all(header.as_bytes())?;
    let mut line = Line::new();
    for row in &run.timeline {
        line.time(row.at).bundle(row.capacity).bundle(row.owner);
        for lent in &row.lent {
            line.bundle(*lent);
        }
        line.bundle(row.offered).bundle(row.lendable);
        for count in row.queued {
            line.number(count);
        }
        line.number(row.running);
        for price in row.price_ppm {
            line.number(price);
        }
        for demand in row.demand_ppm {
            match demand {
                Some(demand) => line.number(demand),
                None => line.word(""),
            };
        }
        for wait in row.wait {
            line.some(wait.map(Span::get));
        }
        for count in row.offers {
            line.number(count);
        }
        line.end(out)?;
    }
    Ok(())
}

/// Writes `ledger.csv`.
///
/// # Errors
/// As `out`.
pub fn ledger(run: &RunRecord, out: &mut dyn Write) -> io::Result<()> {
    out.write_all(b"transfer_id,time_s,from,to,amount_atp,kind,lease_id\n")?;
    let held: Vec<String> = run.accounts.iter().map(|name| format!("{name}:held")).collect();
    let party = |party: Party| match party {
        Party::Mint => "MINT",
        Party::Treasury => "TREASURY",
        Party::Burn => "BURN",
        Party::Account(id) => name(&run.accounts, id),
        Party::Held(id) => name(&held, id),
    };
    let mut line = Line::new();
    for row in run.transfers.iter() {
        line.number(row.id).time(row.at).text(party(row.from)).text(party(row.to));
        line.atp(row.amount).word(row.kind);
        match row.lease {
            Some(lease) => line.number(lease),
            None => line.word(""),
        };
        line.end(out)?;
    }
    Ok(())
}

/// Writes `decisions.csv`.
///
/// # Errors
/// As `out`.
pub fn decisions(run: &RunRecord, out: &mut dyn Write) -> io::Result<()> {
    out.write_all(b"time_s,kind,job_id,lease_id,nodes,reason,confidence\n")?;
    let mut line = Line::new();
    for row in &run.decisions {
        let nodes: Vec<&str> = row
            .nodes
            .iter()
            .map(|node| run.nodes.get(*node as usize).map_or("", |node| node.name.as_str()))
            .collect();
        line.time(row.at).word(row.kind).number(row.job).number(row.lease);
        line.text(&nodes.join(" ")).word(&row.reason);
        match row.confidence {
            Some(confidence) => line.number(confidence),
            None => line.word(""),
        };
        line.end(out)?;
    }
    Ok(())
}
