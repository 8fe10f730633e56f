//! How long one decision takes, and the fuel of the last: `decide_time COMPONENT SETTINGS_JSON [CALLS [MODEL]]`.

use cellar_policy_host::{Host, HostLimits, Operation, Request, Stores};
use std::time::Instant;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let component = std::fs::read(arguments.next().ok_or("which component?")?)?;
    let settings = arguments.next().ok_or("which settings?")?;
    let calls: u64 = arguments.next().map_or(Ok(2_000_000), |calls| calls.parse())?;
    let model = arguments.next();
    let attributes: Vec<(&str, &str)> = model.iter().map(|model| ("model", model.as_str())).collect();

    let host = Host::new(HostLimits::default())?;
    let started = Instant::now();
    let policy = host.load(&component)?;
    println!("load      {:?}", started.elapsed());
    let parameters = policy.configure(&settings)?;

    let mut stores = Stores::new(&host);
    let (mut state, mut admitted) = (Vec::new(), 0_u64);
    for round in ["warm-up  ", "decide   "] {
        let started = Instant::now();
        for n in 0..calls {
            let request = Request {
                operation: Operation::Consume,
                now_us: 1_700_000_000_000_000 + n,
                cost: 1,
                held: 0,
                held_at_us: 0,
                attributes: &attributes,
            };
            let outcome = stores.decide(&policy, &parameters, &state, &request)?;
            admitted += u64::from(outcome.admitted);
            if let Some(next) = outcome.state {
                state = next;
            }
        }
        println!("{round} {:.3} µs a call", started.elapsed().as_secs_f64() * 1e6 / calls as f64);
    }
    println!("fuel      {}", stores.fuel_burnt(&policy));
    println!("admitted  {admitted} of {}", 2 * calls);
    Ok(())
}
