//! What it costs that requests are traced, as they are unless an operator says otherwise: the same load on two stacks,
//! one whose spans go to a collector and one that has none, in turn, in one run.

use crate::kind::Kind;
use crate::people::Tier;
use crate::plan::TELEMETRY_UP;
use crate::run::{Load, Measured};
use crate::target::Target;
use anyhow::Result;
use cellar_devstack::Cellctl;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What tracing may cost of the throughput.
const MUST: f64 = 0.97;
/// One of each pair goes first in turn; what the machine does besides is then much the same for both.
const PAIRS_MIN: u64 = 4;
/// How long each of a pair has the machine.
const SLICE: Duration = Duration::from_secs(5);
/// Before the first pair, uncounted: caches and connections become warm.
const WARM: Duration = Duration::from_secs(3);

pub(crate) async fn measure(length: Duration, connections: usize, users: usize) -> Result<()> {
    let collector = Collector::start()?;
    let pairs = (length.as_secs() / (2 * SLICE.as_secs())).max(PAIRS_MIN);
    let plain = Target::on(Cellctl::new()?, TELEMETRY_UP, Tier::AckRedis, users).await?;
    let mut stack = Cellctl::new()?;
    for program in ["ROUTER", "CELL"] {
        stack.environment(&format!("CELLAR_{program}__OTLP_ENDPOINT"), &collector.url);
    }
    let traced = Target::on(stack, TELEMETRY_UP, Tier::AckRedis, users).await?;
    println!("{pairs} pairs of {} s each, {connections} connections, through the router, everysec", SLICE.as_secs());
    for (name, kind) in [("consume", Kind::Consume), ("profile read, cached", Kind::Profile)] {
        for side in [&plain, &traced] {
            Load { kind, connections, length: WARM }.run(side).await?;
        }
        let mut sides = [Vec::new(), Vec::new()];
        for n in 0..pairs {
            // Which one goes first changes: a machine that becomes slower is slower for both.
            for side in [n % 2, (n + 1) % 2] {
                let target = if side == 0 { &plain } else { &traced };
                let measured = Load { kind, connections, length: SLICE }.run(target).await?;
                anyhow::ensure!(measured.tally.failed == 0, "{} answers failed", measured.tally.failed);
                sides[side as usize].push(measured);
            }
        }
        print(name, &sides);
    }
    println!("the collector took {} messages", collector.messages.load(Ordering::Relaxed));
    Ok(())
}

fn print(name: &str, [plain, traced]: &[Vec<Measured>; 2]) {
    let mut ratios: Vec<f64> = plain.iter().zip(traced).map(|(plain, traced)| traced.rate() / plain.rate()).collect();
    ratios.sort_by(f64::total_cmp);
    let (least, median, most) = (ratios[0], ratios[ratios.len() / 2], ratios[ratios.len() - 1]);
    let mean = |side: &[Measured]| side.iter().map(Measured::rate).sum::<f64>() / side.len() as f64;
    let total = |side: &[Measured]| side.iter().map(Measured::rate).sum::<f64>();
    let of_all = total(traced) / total(plain);
    println!("{name}: {:.0}/s without, {:.0}/s traced", mean(plain), mean(traced));
    let verdict = if of_all >= MUST { "" } else { "  MISSED" };
    println!("  of all {of_all:.4}; of a pair: median {median:.4}, {least:.4} to {most:.4}   must {MUST}{verdict}");
    for role in ["router", "cell"] {
        let cpu =
            |side: &[Measured]| side.iter().filter_map(|one| one.cpu_us.get(role)).sum::<f64>() / side.len() as f64;
        println!("  {role:<7} {:.2} µs a request without, {:.2} traced", cpu(plain), cpu(traced));
    }
}

/// Takes what is exported, and drops it.
struct Collector {
    url: String,
    messages: Arc<AtomicU64>,
}

impl Collector {
    fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let (url, messages) = (format!("http://{}", listener.local_addr()?), Arc::<AtomicU64>::default());
        let counts = messages.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let counts = counts.clone();
                std::thread::spawn(move || {
                    while take(&stream).is_some() {
                        counts.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        Ok(Self { url, messages })
    }
}

/// One request of a connection; none once it is closed.
fn take(mut stream: &TcpStream) -> Option<()> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"))?.trim().parse().ok()?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").ok()
}
