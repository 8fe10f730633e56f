//! The maxima of everything a policy may take.

use cellar_model::ARTIFACT_BYTES_MAX;

/// What one host grants. The defaults serve; tests and benches make them smaller.
#[derive(Clone, Copy, Debug)]
pub struct HostLimits {
    /// Bytes of a component.
    pub component_max_bytes: usize,
    /// Bytes of code, and of one function. A policy in Rust has some 200 KiB, and 10 in the largest.
    pub code_max_bytes: usize,
    pub function_max_bytes: usize,
    pub functions_max: u32,
    /// Parameters or results of one function or block.
    pub signature_max_values: usize,
    /// Variables carried to places where paths of a function meet, within loops once more for each, over all
    /// functions.
    pub carried_max: u64,
    /// Loops that stand in each other in one function: what they cost grows with the square of it.
    pub nested_loops_max: usize,
    /// Linear memory of one instance, declared and grown.
    pub memory_max_bytes: usize,
    /// Elements of all its tables: what indirect calls need, not a second heap.
    pub table_max_elements: usize,
    /// Stack of one call. Rust keeps its own data stack in linear memory, so little is needed.
    pub stack_max_bytes: usize,
    /// Fuel of one `decide` or `migrate`, about one unit an instruction: a runaway policy holds its
    /// shard for about a millisecond, an honest one needs a few hundred.
    pub decide_fuel: u64,
    /// Fuel of one `describe` or `configure`, which parse JSON and run when a tier is loaded.
    pub configure_fuel: u64,
    /// Calls after which an instance is made anew: a slow leak in a policy ends there.
    pub recycle_after_calls: u64,
    /// Policy versions one `Stores` keeps an instance of; the least recently used one goes. More
    /// than all tiers of a catalog name at once.
    pub instances_max: usize,
    /// Faults in a row that open a version's breaker: of four users at least.
    pub breaker_faults: u32,
    /// Calls an open breaker refuses before it lets one through to see.
    pub breaker_refusals: u32,
    /// Faults in a row for one user after which a version is not asked for him: so many of his count
    /// towards the version's own breaker, so one user alone does not open that.
    pub user_faults: u32,
    /// His calls that are refused before one goes through to see. An endless loop costs a millisecond: less
    /// than a hundredth of that is left of each.
    pub user_refusals: u32,
    /// Bytes of a user's state in one slot: it travels with every commit.
    pub state_max_bytes: usize,
    /// Bytes of compiled parameters, and of the settings they are compiled from.
    pub parameters_max_bytes: usize,
}

impl Default for HostLimits {
    fn default() -> Self {
        Self {
            component_max_bytes: ARTIFACT_BYTES_MAX,
            code_max_bytes: 1 << 20,
            function_max_bytes: 64 << 10,
            functions_max: 4_096,
            signature_max_values: 64,
            carried_max: 2_000_000,
            nested_loops_max: 16,
            memory_max_bytes: 1 << 20,
            table_max_elements: 10_000,
            stack_max_bytes: 256 << 10,
            decide_fuel: 1_000_000,
            configure_fuel: 100_000_000,
            recycle_after_calls: 1_000_000,
            instances_max: 32,
            breaker_faults: 16,
            breaker_refusals: 1_000,
            user_faults: 4,
            user_refusals: 100,
            state_max_bytes: 4 << 10,
            parameters_max_bytes: 64 << 10,
        }
    }
}
