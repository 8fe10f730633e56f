//! What `cellctl` carries of the repository, so that a policy can be written without it. `build.rs` lists the files.

include!(concat!(env!("OUT_DIR"), "/policy_files.rs"));

pub(super) const SDK_MANIFEST: &str = include_str!("../../../policies/sdk/Cargo.toml");
pub(super) const WORKSPACE_MANIFEST: &str = include_str!("../../../Cargo.toml");
pub(super) const WORKSPACE_LOCK: &str = include_str!("../../../Cargo.lock");
/// Makes compiling to WebAssembly possible.
pub(super) const WASM_TARGET: &str = include_str!("../../../scripts/wasm-target");
