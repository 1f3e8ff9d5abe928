//! Credit: balances over time, and who paid whom.

use crate::picture::canvas::{Anchor, Area, Canvas, Style};
use crate::picture::colour::{self, AXIS, BLUE, Colour, INK, PAPER, PRINT, QUIET, mix};
use crate::picture::frame::{Axis, EndLabel, Figure, MARGIN, Panel, SMALL, end_labels, subtitle};
use crate::picture::number::{atp, counted, of_u64, of_usize, precise, ratio, seconds, short};
use crate::picture::series;
use crate::picture::svg::Svg;
use crate::picture::text::{Weight, clean, shorten};
use crate::picture::ticks;
use crate::record::{Party, RunRecord, TransferRow};
use gridcore::units::MicroAtp;
use std::collections::BTreeMap;

/// Room at the left for numbers and at the right for labels.
const SIDES: (f64, f64) = (68.0, 186.0);
/// How many accounts have a colour and a label of their own.
const COLOURED: usize = 8;
/// How many accounts have a label.
const LABELLED: usize = 24;
/// How many accounts have a row in the table of flows.
const ROWS_MAX: usize = 14;

/// The kind of transfer that an administrator mints.
const DEPOSIT: &str = "deposit";
/// The kinds of transfer that grant credit.
const GRANTS: [&str; 3] = ["grant", "newcomer", "award"];

/// Returns the account that a party belongs to.
fn account(party: Party) -> Option<usize> {
    match party {
        Party::Account(id) | Party::Held(id) => usize::try_from(id).ok(),
        Party::Mint | Party::Treasury | Party::Burn => None,
    }
}

/// Credit of each account (available and held) over time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Balances {
    /// Times in seconds.
    pub times: Vec<f64>,
    /// One series per account, in ATP.
    pub series: Vec<Vec<f64>>,
}

/// Adds up the transfers at no more than `points` times.
pub(crate) fn balances(run: &RunRecord, points: usize) -> Balances {
    let size = series::group(run.timeline.len(), points);
    let mut times = series::times(run, size);
    if times.len() < 2 {
        let end = series::end(run);
        times = (0..=100_u64).map(|i| end * of_u64(i) / 100.0).collect();
    }
    let mut now = vec![0.0; run.accounts.len()];
    let mut out = vec![Vec::with_capacity(times.len()); run.accounts.len()];
    let mut rest = run.transfers.iter().peekable();
    for time in &times {
        while let Some(transfer) = rest.next_if(|t| seconds(t.at) <= *time) {
            for (party, sign) in [(transfer.from, -1.0), (transfer.to, 1.0)] {
                if let Some(sum) = account(party).and_then(|id| now.get_mut(id)) {
                    *sum += sign * atp(transfer.amount);
                }
            }
        }
        for (line, sum) in out.iter_mut().zip(&now) {
            line.push(*sum);
        }
    }
    Balances { times, series: out }
}

/// Draws the credit of each account over time.
#[must_use]
pub fn credit(run: &RunRecord) -> Option<Svg> {
    if run.transfers.is_empty() || run.accounts.is_empty() {
        return None;
    }
    let balances = balances(run, 400);
    let all = || balances.series.iter().flatten().copied();
    let (low, high) = (all().fold(f64::INFINITY, f64::min), all().fold(0.0, f64::max));
    let is_zoomed = low > high * 0.4;
    let marks = ticks::around(if is_zoomed { low } else { low.min(0.0) }, high.max(1.0));
    let title = format!("Credit of {} over time", counted(run.accounts.len(), "account"));
    let zero = if is_zoomed { "; the axis does not begin at zero" } else { "" };
    let note = format!("Available and held credit of each account, in ATP{zero}");
    let mut figure = Figure::new(&title, &[subtitle(run), note]);
    let area = figure.panel("", SIDES, 380.0);
    let ends = marks.first().zip(marks.last());
    let y =
        ends.map_or(Axis::linear(1.0), |(low, high)| Axis { low: *low, high: *high, log: false });
    let panel = Panel { area, x: Axis::linear(series::end(run)), y };
    let step = marks.first().zip(marks.get(1)).map_or(1.0, |(a, b)| b - a);
    let digits = |v: f64| if is_zoomed { precise(v, step) } else { short(v) };
    let labelled: Vec<(f64, String)> = marks.iter().map(|v| (*v, digits(*v))).collect();
    panel.grid(&mut figure.canvas, &labelled);
    let ranks = by_range(&balances);
    let mut labels = Vec::new();
    for (id, line) in balances.series.iter().enumerate().rev() {
        let rank = ranks.get(id).copied().unwrap_or(usize::MAX);
        let colour = if rank < COLOURED { colour::series(rank) } else { AXIS };
        figure.canvas.line(panel.path(&balances.times, line), colour, 1.4);
        if rank < if balances.series.len() <= LABELLED { LABELLED } else { COLOURED } {
            let last = line.last().copied().unwrap_or(0.0);
            let text = format!("{} {}", account_name(run, id), digits(last));
            labels.push(EndLabel { y: panel.at(0.0, last).1, text, colour });
        }
    }
    end_labels(&mut figure.canvas, area, labels, SIDES.1 + 24.0);
    panel.foot_time(&mut figure.canvas, "time since the start");
    figure.y += 42.0;
    Some(figure.finish())
}

/// Returns the rank of each account by how far its balance moved, the farthest first.
pub(crate) fn by_range(balances: &Balances) -> Vec<usize> {
    let range = |line: &Vec<f64>| {
        let low = line.iter().copied().fold(f64::INFINITY, f64::min);
        line.iter().copied().fold(f64::NEG_INFINITY, f64::max) - low
    };
    let ranges: Vec<f64> = balances.series.iter().map(range).collect();
    let mut order: Vec<usize> = (0..ranges.len()).collect();
    let of = |id: &usize| ranges.get(*id).copied().unwrap_or(0.0);
    order.sort_by(|a, b| of(b).total_cmp(&of(a)).then(a.cmp(b)));
    let mut ranks = vec![0; order.len()];
    for (rank, id) in order.into_iter().enumerate() {
        if let Some(slot) = ranks.get_mut(id) {
            *slot = rank;
        }
    }
    ranks
}

/// Returns the name of an account, shortened for a label.
fn account_name(run: &RunRecord, id: usize) -> String {
    let name = run.accounts.get(id).map_or("", String::as_str);
    shorten(&clean(name), SMALL, Weight::Regular, 108.0)
}

/// One side of a flow, in the order of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Side {
    Mint,
    Account(usize),
    Others,
    Treasury,
    Burn,
}

/// Draws who paid whom: borrowers in rows, lenders, fees and burned credit in columns.
#[must_use]
pub fn flows(run: &RunRecord) -> Option<Svg> {
    let cells = flow_cells(run);
    if cells.is_empty() {
        return None;
    }
    let sum_of = |keep: &dyn Fn(&TransferRow) -> bool| {
        run.transfers.iter().filter(|t| keep(t)).map(|t| atp(t.amount)).sum::<f64>()
    };
    let between = |t: &TransferRow| match (account(t.from), account(t.to)) {
        (Some(from), Some(to)) => from != to,
        _ => false,
    };
    let paid = sum_of(&between);
    let title = if paid > 0.0 {
        format!("Accounts paid each other {} ATP", short(paid))
    } else {
        "No account paid another".to_owned()
    };
    let note = format!(
        "Rows pay, columns receive, in ATP; fees to the treasury {}, granted {}, refunded {}, \
         burned {}; deposits ({}) and movements between an account's own credit and holds are \
         left out",
        short(sum_of(&|t| t.to == Party::Treasury)),
        short(sum_of(&|t| GRANTS.contains(&t.kind))),
        short(sum_of(&|t| t.kind.contains("refund"))),
        short(sum_of(&|t| t.to == Party::Burn)),
        short(sum_of(&|t| t.kind == DEPOSIT)),
    );
    let mut figure = Figure::new(&title, &[subtitle(run), note]);
    draw_flows(&mut figure, run, &cells);
    Some(figure.finish())
}

/// Adds up what each side paid to each other side; what is deposited is paid by nobody.
fn flow_cells(run: &RunRecord) -> BTreeMap<(Side, Side), f64> {
    let counts = |t: &TransferRow| {
        let inside = account(t.from).is_some() && account(t.from) == account(t.to);
        t.kind != DEPOSIT && !inside
    };
    let payers = largest(run, |t| account(t.from).filter(|_| counts(t)));
    let getters = largest(run, |t| account(t.to).filter(|_| counts(t)));
    let side = |party: Party, shown: &[usize]| match party {
        Party::Mint => Side::Mint,
        Party::Treasury => Side::Treasury,
        Party::Burn => Side::Burn,
        Party::Account(_) | Party::Held(_) => match account(party) {
            Some(id) if shown.contains(&id) => Side::Account(id),
            _ => Side::Others,
        },
    };
    let mut cells = BTreeMap::new();
    for transfer in run.transfers.iter().filter(counts) {
        let pair = (side(transfer.from, &payers), side(transfer.to, &getters));
        *cells.entry(pair).or_insert(0.0) += atp(transfer.amount);
    }
    cells
}

/// Returns the accounts with the largest sums, at most [`ROWS_MAX`].
fn largest(run: &RunRecord, who: impl Fn(&TransferRow) -> Option<usize>) -> Vec<usize> {
    let mut volume = vec![MicroAtp::ZERO; run.accounts.len()];
    for transfer in run.transfers.iter() {
        if let Some(sum) = who(&transfer).and_then(|id| volume.get_mut(id)) {
            *sum = sum.saturating_add(transfer.amount);
        }
    }
    let mut order: Vec<usize> = (0..volume.len()).collect();
    order.sort_by_key(|id| (core::cmp::Reverse(volume.get(*id).copied()), *id));
    order.truncate(ROWS_MAX);
    order
}

/// Draws the table of flows, darker where more was paid.
fn draw_flows(figure: &mut Figure, run: &RunRecord, cells: &BTreeMap<(Side, Side), f64>) {
    let mut payers: Vec<Side> = cells.keys().map(|(from, _)| *from).collect();
    let mut getters: Vec<Side> = cells.keys().map(|(_, to)| *to).collect();
    for sides in [&mut payers, &mut getters] {
        sides.sort_unstable();
        sides.dedup();
    }
    let left = MARGIN + 140.0;
    let top = figure.y + 92.0;
    let room = crate::picture::canvas::WIDTH - left - MARGIN - 64.0;
    let width = (room / of_usize(getters.len())).min(74.0);
    let paid = cells.iter().filter(|((from, _), _)| *from != Side::Mint);
    let most = paid.map(|(_, amount)| *amount).fold(0.0, f64::max);
    let end = Style::new(SMALL, INK).anchored(Anchor::End);
    for (column, to) in getters.iter().enumerate() {
        let x = left + width * (of_usize(column) + 0.5);
        let name = shorten(&side_name(run, *to), SMALL, Weight::Regular, 84.0);
        figure.canvas.upward((x + 4.0, top - 8.0), &name, Style::new(SMALL, INK));
    }
    let sum_x = left + width * of_usize(getters.len()) + 58.0;
    figure.canvas.text((sum_x, top - 8.0), "paid", Style { colour: QUIET, ..end }.bold());
    for (row, from) in payers.iter().enumerate() {
        let y = top + 24.0 * of_usize(row);
        let name = shorten(&side_name(run, *from), SMALL, Weight::Regular, 132.0);
        figure.canvas.text((left - 8.0, y + 16.0), &name, end);
        let paid = getters.iter().filter_map(|to| cells.get(&(*from, *to))).sum::<f64>();
        for (column, to) in getters.iter().enumerate() {
            let area = Area {
                left: left + width * of_usize(column),
                top: y,
                width: width - 1.0,
                height: 23.0,
            };
            // What is minted is not paid by anybody and does not set the scale.
            let most = if *from == Side::Mint { f64::INFINITY } else { most };
            cell(&mut figure.canvas, area, cells.get(&(*from, *to)).copied(), most);
        }
        figure.canvas.text((sum_x, y + 16.0), &short(paid), end.bold());
    }
    let y = top + 24.0 * of_usize(payers.len()) + 18.0;
    figure.canvas.text((left - 8.0, y), "received", Style { colour: QUIET, ..end }.bold());
    for (column, to) in getters.iter().enumerate() {
        let got = payers.iter().filter_map(|from| cells.get(&(*from, *to))).sum::<f64>();
        let style = Style::new(SMALL, INK).anchored(Anchor::Middle).bold();
        figure.canvas.text((left + width * (of_usize(column) + 0.5), y), &short(got), style);
    }
    figure.y = y + 8.0;
}

/// Draws one cell of the table; the shade follows the square root of the amount.
fn cell(canvas: &mut Canvas, area: Area, amount: Option<f64>, most: f64) {
    let empty: Colour = (0xF6, 0xF7, 0xF9);
    let Some(amount) = amount else { return canvas.rect(area, empty) };
    let colour = mix((0xE4, 0xF1, 0xF8), BLUE, ratio(amount, most).sqrt());
    canvas.rect(area, colour);
    let ink = if colour::is_light(colour) { PRINT } else { PAPER };
    let style = Style::new(11.0, ink).anchored(Anchor::Middle);
    canvas.text((area.left + area.width / 2.0, area.top + 16.0), &short(amount), style);
}

/// Names a side of a flow.
fn side_name(run: &RunRecord, side: Side) -> String {
    match side {
        Side::Mint => "mint (grants)".to_owned(),
        Side::Treasury => "treasury (fees)".to_owned(),
        Side::Burn => "burned".to_owned(),
        Side::Others => "other accounts".to_owned(),
        Side::Account(id) => clean(run.accounts.get(id).map_or("", String::as_str)),
    }
}
