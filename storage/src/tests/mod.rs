//! Tests of tables on the simulated disk.

mod block;
mod damage;
mod formats;
mod history;
mod model;
mod place;
mod writer;
