//! Deliberate bugs, to show that the checker finds them: see `planted-bugs` in Cargo.toml and scripts/planted-bugs.sh.
//! Without that feature every question is a constant `false`.

pub(crate) use rookery_raft::planted;
