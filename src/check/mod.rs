//! `rookery check`: load a cluster, hurt it, and judge what the clients and the replicas say afterwards.
//!
//! Read in this order: [`history`] and [`parts`] are what is recorded, [`judge`] the pure verdict on it, [`mod@file`] keeps it;
//! [`cast`] says who takes part, [`device`] is one client over a raw [`link`], [`mod@print`] how it tells records apart,
//! [`chain`] how it proves its copy, [`listener`] one behind the client library, [`backend`] the business's; [`cluster`]
//! starts nodes and hurts them, [`drive`] plays the rounds, [`dump`] reads the replicas, [`archive`] what they let go of,
//! [`campaign`] puts it all together and [`mod@run`] is the command. It speaks to the cluster through its public
//! addresses alone; it must never look into a node's memory or files.

pub mod archive;
pub mod backend;
pub mod campaign;
pub mod cast;
pub mod chain;
pub mod cluster;
pub mod device;
pub mod drive;
pub mod dump;
pub mod fault;
pub mod file;
pub mod history;
pub mod judge;
pub mod link;
pub mod listener;
pub mod parts;
pub mod print;
mod report;
pub mod run;
mod settings;
pub mod stage;

pub use run::{CheckArgs, main, run};
pub use settings::Setting;
