//! Real processes, started by each test on ports and folders of its own.

mod accounts;
mod admits;
mod backups;
mod bad_input;
mod cells;
mod claims;
mod compose;
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
mod routers;
mod support;
mod terraform;
mod topology;
mod unavailable;
mod world;
