//! Plays a history again on a core that is restored from its own snapshot before every entry:
//! nothing that is not in the state may decide.

use crate::world::World;
use gridcore::config::Config;
use gridcore::effect::Effect;
use gridcore::grid::Grid;
use gridcore::units::Time;

/// How many effects are shown before the first that differs.
const SHOWN: usize = 6;

/// Plays the entries of a world again, restored before every one of them.
///
/// # Errors
/// What followed otherwise, and after which entry.
pub fn decides_the_same(config: &Config, world: &World) -> Result<(), String> {
    let mut grid = Grid::new(config.clone(), Time::ZERO).map_err(|error| error.to_string())?;
    let went: Vec<&Effect> = world.effects.iter().map(|(_, effect)| effect).collect();
    let mut effects = Vec::new();
    for entry in &world.entries {
        grid = Grid::restore(&grid.snapshot()).map_err(|error| error.to_string())?;
        let before = effects.len();
        let _ = grid.apply(entry, &mut effects);
        let mut new = effects.iter().skip(before).zip(before..);
        if let Some((other, at)) = new.find(|(new, at)| went.get(*at) != Some(new)) {
            let shown = went.iter().enumerate().skip(at.saturating_sub(SHOWN)).take(SHOWN + 1);
            let shown: Vec<String> = shown.map(|(i, effect)| format!("{i} {effect:?}")).collect();
            let shown = shown.join("\n");
            return Err(format!("{entry:?}\nrestored before that: {other:?}\nelse: {shown}"));
        }
    }
    if effects.len() != went.len() || grid.digest() != world.grid.digest() {
        return Err(format!("{} effects instead of {}, or digests", effects.len(), went.len()));
    }
    Ok(())
}
