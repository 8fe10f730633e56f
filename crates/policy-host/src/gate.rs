//! What a component must be before a compiler sees it.

use crate::effort::Effort;
use crate::limits::HostLimits;
use wasmparser::{MemoryType, Parser, Payload};

/// Why a component is not let in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GateError {
    #[error("the component has {bytes} bytes; at most {max} are let in")]
    TooLarge { bytes: usize, max: usize },
    #[error("not a WebAssembly component: {what}")]
    NotAComponent { what: String },
    #[error("the component imports {name:?}; a policy imports nothing")]
    Imports { name: String },
    #[error("the component has {found} core modules; a policy has one")]
    CoreModules { found: usize },
    #[error("the component declares {what}; at most {max_bytes} bytes of plain memory are granted")]
    Memory { what: String, max_bytes: usize },
    #[error("the component has {what}; at most {max} are compiled")]
    Effort { what: String, max: String },
    #[error("the component does not compile: {what}")]
    DoesNotCompile { what: String },
    #[error("the component does not export cellar:policy/policy@1.0.0: {what}")]
    Interface { what: String },
    #[error("the component does not describe itself: {what}")]
    Describe { what: String },
}

/// Reads the sections, and of the code what it would cost the compiler. Whether it is valid is the compiler's
/// to say.
pub(crate) fn check(component: &[u8], limits: &HostLimits) -> Result<(), GateError> {
    let (bytes, max) = (component.len(), limits.component_max_bytes);
    if bytes > max {
        return Err(GateError::TooLarge { bytes, max });
    }
    if !Parser::is_component(component) {
        return Err(GateError::NotAComponent { what: "it has no component header".to_owned() });
    }
    let (mut core_modules, mut effort) = (0, Effort::new(limits));
    // Components inside the component are how an interface is exported; what they import, the outer
    // one gives them. Only the outermost one's imports come from outside.
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(component) {
        match payload.map_err(|e| GateError::NotAComponent { what: e.to_string() })? {
            Payload::ComponentSection { .. } => depth += 1,
            Payload::ModuleSection { .. } => {
                depth += 1;
                core_modules += 1;
            }
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(imports) if depth == 0 => {
                if let Some(import) = imports.into_iter().next() {
                    let import = import.map_err(|e| GateError::NotAComponent { what: e.to_string() })?;
                    return Err(GateError::Imports { name: import.name.name.to_owned() });
                }
            }
            Payload::MemorySection(memories) => {
                if memories.count() > 1 {
                    return Err(refused_memory("several memories".to_owned(), limits));
                }
                for memory in memories {
                    let memory = memory.map_err(|e| GateError::NotAComponent { what: e.to_string() })?;
                    check_memory(&memory, limits)?;
                }
            }
            Payload::TypeSection(types) => effort.types(types)?,
            Payload::FunctionSection(functions) => effort.functions(functions)?,
            Payload::CodeSectionEntry(body) => effort.body(&body)?,
            _ => {}
        }
    }
    match core_modules {
        1 => Ok(()),
        found => Err(GateError::CoreModules { found }),
    }
}

/// Only what is there from the start: growing beyond the grant is refused when it is tried.
fn check_memory(memory: &MemoryType, limits: &HostLimits) -> Result<(), GateError> {
    const PAGE_BYTES: u64 = 64 << 10;
    if memory.shared || memory.memory64 || memory.page_size_log2.is_some() {
        return Err(refused_memory("a shared, 64-bit or odd memory".to_owned(), limits));
    }
    let bytes = memory.initial.saturating_mul(PAGE_BYTES);
    if bytes > limits.memory_max_bytes as u64 {
        return Err(refused_memory(format!("{bytes} bytes of memory"), limits));
    }
    Ok(())
}

fn refused_memory(what: String, limits: &HostLimits) -> GateError {
    GateError::Memory { what, max_bytes: limits.memory_max_bytes }
}
