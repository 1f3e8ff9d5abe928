//! `validate`.

use super::many::ManyArgs;
use super::{RuleArgs, show};
use crate::output::Staging;
use crate::swarm::Verdict;
use crate::validate::{Base, Failing, choices, smaller};
use clap::Args;
use std::num::NonZeroU16;
use std::path::PathBuf;

/// Options of `validate`.
#[derive(Debug, Args)]
pub(super) struct ValidateArgs {
    #[command(flatten)]
    scenario: RuleArgs,
    /// How many cases are generated.
    #[arg(long, short = 'n', value_name = "N", default_value_t = 200)]
    cases: u64,
    /// Seed of the cases.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Most nodes of a case: some of every kind that the scenario names.
    #[arg(long, value_name = "N", default_value_t = NonZeroU16::MIN.saturating_add(7))]
    nodes: NonZeroU16,
    /// File of the smallest failing case [default: reports/out/SCENARIO-case.yaml].
    #[arg(long)]
    out: Option<PathBuf>,
    #[command(flatten)]
    many: ManyArgs,
}

/// Plays generated cases under a scenario's rules; writes the first that fails, made smaller.
pub(super) fn validate(args: &ValidateArgs) -> anyhow::Result<()> {
    let (path, sets) = args.scenario.file_and_sets();
    let base = Base::read(path, &sets, args.nodes.get().into())?;
    let play = |number| match base.play(args.seed, &choices(args.seed, number)) {
        Ok(verdict) => verdict,
        Err(error) => Verdict { broken: vec![error.to_string()], ..Verdict::default() },
    };
    let sum = args.many.play("cases", 0..args.cases, play)?;
    let Some((number, what)) = sum.failed.first() else { return Ok(()) };
    show::note(&format!("case {number} fails: {what}; making it smaller"));
    let small = smaller(&base, args.seed, *number).unwrap_or_else(|| Failing {
        seed: args.seed,
        choices: choices(args.seed, *number),
        what: what.clone(),
    });
    let what = &small.what;
    let default = || PathBuf::from("reports/out").join(format!("{}.yaml", base.name()));
    let file = args.out.clone().unwrap_or_else(default);
    let about = format!(
        "The smallest case found that breaks a promise under the rules of {}:\n{what}\n\
         Reproduce it: gridsim run --check {}",
        path.display(),
        file.display()
    );
    let folder = file.parent().unwrap_or(std::path::Path::new("."));
    let name = file.file_name().and_then(|name| name.to_str()).unwrap_or("case.yaml");
    let text = base.text(&about, small.seed, &small.choices);
    let mut staging = Staging::begin(folder)?;
    staging.write(name, |out| out.write_all(text.as_bytes()))?;
    staging.finish()?;
    let (failed, all) = (sum.failed.len(), sum.played);
    anyhow::bail!(
        "{failed} of {all} cases failed: {what}\nreproduce the smallest with: \
         gridsim run --check {}",
        file.display()
    )
}
