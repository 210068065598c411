//! `rookery check`: load a cluster, hurt it, and judge what the clients and the replicas say afterwards.
//!
//! Read in this order: [`history`] is what is recorded, [`judge`] is the pure verdict on it, [`file`] keeps it.
//! It speaks to the cluster through the wire protocol alone; it must never look into a node's memory or files.

pub mod file;
pub mod history;
pub mod judge;
