//! gridlive
fn main() {}
