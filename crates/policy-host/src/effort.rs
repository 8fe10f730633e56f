//! What a component would cost the compiler, found out by reading it once.
//!
//! A compiler is no function of the bytes alone: some kilobytes of nested loops over some hundred locals keep
//! it busy for longer than a megabyte of ordinary code. What it does there is carry every variable to every
//! place where paths meet, so that is counted; beside it what a function costs by being one, and its size, of
//! which the cost is no multiple either. `examples/compile_time` measures what is left.

use crate::gate::GateError;
use crate::limits::HostLimits;
use wasmparser::{FunctionBody, FunctionSectionReader, Operator, TypeSectionReader};

/// Reads a core module's functions in the order of their sections.
pub(crate) struct Effort {
    limits: HostLimits,
    /// Parameters by type, then the types of the functions that are still to come, the next one last.
    parameters: Vec<u64>,
    functions: Vec<u32>,
    code_bytes: usize,
    carried: u64,
    /// The most that stand in each other.
    loops: usize,
}

impl Effort {
    pub(crate) fn new(limits: &HostLimits) -> Self {
        Self { limits: *limits, parameters: Vec::new(), functions: Vec::new(), code_bytes: 0, carried: 0, loops: 0 }
    }

    pub(crate) fn types(&mut self, types: TypeSectionReader<'_>) -> Result<(), GateError> {
        let max = self.limits.signature_max_values;
        for function in types.into_iter_err_on_gc_types() {
            let function = function.map_err(unread)?;
            let values = function.params().len().max(function.results().len());
            if values > max {
                return Err(too_much(format!("a function or block of {values} values"), format!("{max}")));
            }
            self.parameters.push(function.params().len() as u64);
        }
        Ok(())
    }

    pub(crate) fn functions(&mut self, functions: FunctionSectionReader<'_>) -> Result<(), GateError> {
        let (count, max) = (functions.count(), self.limits.functions_max);
        if count > max {
            return Err(too_much(format!("{count} functions"), format!("{max}")));
        }
        self.functions = functions.into_iter().collect::<Result<_, _>>().map_err(unread)?;
        self.functions.reverse();
        Ok(())
    }

    pub(crate) fn body(&mut self, body: &FunctionBody<'_>) -> Result<(), GateError> {
        let (bytes, max) = (body.range().len(), self.limits.function_max_bytes);
        if bytes > max {
            return Err(too_much(format!("a function of {bytes} bytes"), format!("{max}")));
        }
        self.code_bytes += bytes;
        let max = self.limits.code_max_bytes;
        if self.code_bytes > max {
            return Err(too_much("more code".to_owned(), format!("{max} bytes")));
        }
        // A body without a declaration, or one without a type, is invalid: the compiler says so.
        let parameters = self.functions.pop().and_then(|kind| self.parameters.get(kind as usize));
        let mut variables = parameters.copied().unwrap_or_default();
        for locals in body.get_locals_reader().map_err(unread)? {
            let (count, _) = locals.map_err(unread)?;
            variables += u64::from(count);
        }
        let (mut meetings, mut open, mut loops) = (1_u64, Vec::new(), 0_usize);
        for operator in body.get_operators_reader().map_err(unread)? {
            let operator = operator.map_err(unread)?;
            match &operator {
                Operator::Loop { .. } => {
                    open.push(1);
                    loops += 1;
                    self.loops = self.loops.max(loops);
                }
                Operator::Block { .. } | Operator::If { .. } => open.push(0),
                Operator::End => loops -= open.pop().unwrap_or_default(),
                _ => {}
            }
            let here = match operator {
                Operator::Block { .. } | Operator::Loop { .. } | Operator::If { .. } | Operator::Else => 1,
                Operator::Br { .. } | Operator::BrIf { .. } => 1,
                Operator::BrTable { targets } => u64::from(targets.len()) + 1,
                _ => 0,
            };
            // What a loop brings back is looked for through all that are open.
            meetings = meetings.saturating_add(here * (1 + loops as u64));
        }
        let max = self.limits.nested_loops_max;
        if self.loops > max {
            return Err(too_much(format!("{} loops in each other", self.loops), format!("{max}")));
        }
        self.carried = self.carried.saturating_add(meetings.saturating_mul(variables));
        let max = self.limits.carried_max;
        if self.carried > max {
            let what = format!("code that carries {} variables over its branches", self.carried);
            return Err(too_much(what, format!("{max}")));
        }
        Ok(())
    }
}

fn unread(error: wasmparser::BinaryReaderError) -> GateError {
    GateError::NotAComponent { what: error.to_string() }
}

fn too_much(what: String, max: String) -> GateError {
    GateError::Effort { what, max }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wasmparser::{Parser, Payload};

    /// What is found, and the largest function.
    fn effort(component: &[u8]) -> (Effort, usize) {
        let (mut effort, mut largest) = (Effort::new(&HostLimits::default()), 0);
        for payload in Parser::new(0).parse_all(component) {
            match payload.unwrap() {
                Payload::TypeSection(types) => effort.types(types).unwrap(),
                Payload::FunctionSection(functions) => effort.functions(functions).unwrap(),
                Payload::CodeSectionEntry(body) => {
                    largest = largest.max(body.range().len());
                    effort.body(&body).unwrap();
                }
                _ => {}
            }
        }
        (effort, largest)
    }

    #[test]
    fn ordinary_policies_are_far_below_what_is_compiled() {
        let (running, limits) = (std::env::current_exe().unwrap(), HostLimits::default());
        for name in ["gcra", "monthly-bucket"] {
            let name = format!("policies/{name}.wasm");
            let path = running.ancestors().map(|folder| folder.join(&name)).find(|path| path.is_file());
            let component = std::fs::read(path.expect("the components are built by: make policies")).unwrap();
            let (found, largest) = effort(&component);
            let Effort { code_bytes, carried, loops, .. } = found;
            println!("{name}: {code_bytes} bytes of code, {largest} the largest, {carried} carried, {loops} loops");
            assert!(carried <= limits.carried_max / 4 && loops <= limits.nested_loops_max / 2);
            assert!(largest <= limits.function_max_bytes / 4 && code_bytes <= limits.code_max_bytes / 4);
        }
    }

    #[test]
    fn loops_are_counted_as_deep_as_they_stand_in_each_other() {
        let text = "(component (core module (func (param i32)
            loop block loop loop end end end end loop end)))";
        assert_eq!(effort(&wat::parse_str(text).unwrap()).0.loops, 3);
    }

    #[test]
    fn a_branch_counts_once_for_every_variable_and_a_table_once_more_for_every_place() {
        let text = "(component (core module (func (param i32 i64) (local f32)
            block block local.get 0 br_table 0 1 0 1 end end)))";
        // Entry, two blocks, three places and the one that is left over, by three variables.
        assert_eq!(effort(&wat::parse_str(text).unwrap()).0.carried, (1 + 2 + 4) * 3);
    }
}
