//! What the worst code costs the compiler: `compile_time SHAPE KIB`, for the limits of the gate. The gate is not
//! asked, so that what it refuses can be measured.

use std::fmt::Write;
use std::time::Instant;
use wasmtime::{Config, Engine, Module};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let shape = arguments.next().ok_or("which shape?")?;
    let kib: usize = arguments.next().ok_or("how many KiB?")?.parse()?;
    let module = wat::parse_str(text(&shape, kib * 1024).ok_or("no such shape")?)?;
    let mut config = Config::new();
    config.consume_fuel(true).cranelift_nan_canonicalization(true).wasm_simd(false).wasm_relaxed_simd(false);
    let engine = Engine::new(&config)?;
    let started = Instant::now();
    let compiled = Module::new(&engine, &module).map(|_| ());
    let peak = std::fs::read_to_string("/proc/self/status")?;
    let peak = peak.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default().to_owned();
    println!("{shape:<12} {:>6} KiB  {:>10.3?}  {peak}  {compiled:?}", module.len() / 1024, started.elapsed());
    Ok(())
}

/// About `bytes` of code.
fn text(shape: &str, bytes: usize) -> Option<String> {
    let mut code = String::new();
    let function = |locals: usize, body: &str| {
        format!(
            "(module (memory 1) (func (param i32) (result i32) (local{}) {body} local.get 0))",
            " i32".repeat(locals)
        )
    };
    Some(match shape {
        // One after the other.
        "line" => {
            for n in 0..bytes / 9 {
                let _ = write!(code, "local.get 0 i32.const {} i32.mul local.set 0 ", n * 7919);
            }
            function(0, &code)
        }
        // Everything alive at once.
        "alive" => {
            let locals = (bytes / 14).min(40_000);
            for n in 1..=locals {
                let _ = write!(code, "local.get 0 i32.const {n} i32.mul local.set {n} ");
            }
            for n in 1..=locals {
                let _ = write!(code, "local.get 0 local.get {n} i32.add local.set 0 ");
            }
            function(locals, &code)
        }
        // `nest:20:300`: each of 20 loops, one in the other, may come to each of 300 locals with another value.
        nest if nest.starts_with("nest:") => {
            let (loops, locals) = nest["nest:".len()..].split_once(':')?;
            let (loops, locals): (usize, usize) = (loops.parse().ok()?, locals.parse().ok()?);
            while code.is_empty() || code.len() < 2 * bytes {
                code.push_str(&"loop ".repeat(loops));
                for n in 1..=locals {
                    let _ = write!(code, "local.get {n} i32.const 1 i32.add local.set {n} ");
                }
                code.push_str(&"local.get 0 br_if 0 end ".repeat(loops));
            }
            function(locals, &code)
        }
        // Tables of jumps to a place that has many values.
        "jumps" => {
            let targets = bytes / 2;
            let blocks = 200;
            code.push_str(&"block ".repeat(blocks));
            for n in 1..=1_000 {
                let _ = write!(code, "local.get 0 i32.const {n} i32.add local.set {n} ");
            }
            let _ = write!(code, "local.get 0 br_table ");
            for n in 0..targets {
                let _ = write!(code, "{} ", n % blocks);
            }
            for n in 0..blocks {
                let _ = write!(code, "end local.get {} local.set {} ", n + 1, n + 2);
            }
            function(1_000, &code)
        }
        // Hardly anything, very often.
        "small" => {
            let mut module = String::from("(module ");
            for _ in 0..bytes / 8 {
                module.push_str("(func (param i32) (result i32) local.get 0)");
            }
            module + ")"
        }
        "calls" => {
            let mut module = String::from("(module (func (param i32) (result i32) ");
            for _ in 0..bytes / 6 {
                module.push_str("local.get 0 call 0 local.set 0 ");
            }
            module + "local.get 0))"
        }
        "memory" => {
            for n in 0..bytes / 12 {
                let _ = write!(
                    code,
                    "local.get 0 local.get 0 i64.load offset={} i32.wrap_i64 i32.store offset={} ",
                    n * 8,
                    n * 4
                );
            }
            function(0, &code)
        }
        "choices" => {
            for _ in 0..bytes / 12 {
                code.push_str("local.get 0 if local.get 0 i32.const 1 i32.sub local.set 0 end ");
            }
            function(0, &code)
        }
        "values" => {
            // Blocks that take and give many values, and a table of jumps to them.
            let many = " i32".repeat(1_000);
            let targets = bytes / 2;
            for _ in 0..50 {
                let _ = write!(code, "(block (result{many}) ");
            }
            code.push_str(&"i32.const 1 ".repeat(1_000));
            code.push_str("local.get 0 br_table ");
            for n in 0..targets {
                let _ = write!(code, "{} ", n % 50);
            }
            for _ in 0..50 {
                code.push_str(") ");
            }
            code.push_str(&"drop ".repeat(1_000));
            function(0, &code)
        }
        _ => return None,
    })
}
