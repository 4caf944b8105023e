//! Notice a change -> build -> swap, or keep the old one and say why.

pub mod watch;
