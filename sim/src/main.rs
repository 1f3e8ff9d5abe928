//! gridsim
fn main() {}
