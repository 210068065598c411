//! The wire format from outside: what goes in comes out, and nothing that comes in does harm.
//!
//! Read in this order: [`bodies`] (every kind of frame as one enum), [`strategies`] (random ones), then the tests:
//! [`ids`], [`codes`], [`roundtrip`], [`hostile`], [`stream`]; and what others build on: [`vectors`] with its
//! [`cases`] and their [`json`] (those of groups and of what is the user's own in files of their own, those of [`live`],
//! [`join`], [`digest`], [`versions`] and [`admin`] in one each), and [`pages`], which holds the documents to the code.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking and says why"
)]

mod admin;
mod bodies;
mod cases;
mod codes;
mod digest;
mod group_cases;
mod group_json;
mod group_strategies;
mod hostile;
mod ids;
mod invalid;
mod join;
mod json;
mod live;
mod own_cases;
mod own_json;
mod own_strategies;
mod pages;
mod roundtrip;
mod strategies;
mod stream;
mod vectors;
mod versions;
