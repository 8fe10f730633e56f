//! Real processes, started by each test on ports and folders of its own.

mod accounts;
mod admits;
mod authors;
mod backtest;
mod backup_faults;
mod backup_size;
mod backups;
mod bad_input;
mod cells;
mod certificates;
mod claims;
mod compose;
mod containment;
mod doors;
mod enrolments;
mod fault_table;
mod faults;
mod idempotency;
mod instances;
mod laptop;
mod limits;
mod machine;
mod peppers;
mod policy;
mod replicas;
mod reserve;
mod rollouts;
mod routers;
mod shipping;
#[path = "../policies/spender.rs"]
mod spender;
mod support;
mod terraform;
mod topology;
mod unavailable;
mod world;
