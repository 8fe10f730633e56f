//! Ports of this machine's loopback.

use crate::StackError;
use std::collections::HashMap;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Below the range the kernel takes ports for outgoing connections from, so that none of those can
/// take a port between its choice here and its use.
const PORTS: Range<u16> = 20_000..32_000;
const TRIES_MAX: usize = 10_000;
const FREE_MAX: Duration = Duration::from_secs(3);
const POLL: Duration = Duration::from_millis(10);

/// The ports this process has handed out. They are held open until their server starts: two stacks
/// that are planned at the same time, in two processes, never choose the same ones.
static GIVEN: Mutex<Option<HashMap<u16, Option<TcpListener>>>> = Mutex::new(None);

fn given() -> MutexGuard<'static, Option<HashMap<u16, Option<TcpListener>>>> {
    // A map of ports is whole after every step, whoever panicked.
    GIVEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A port nobody listens on, and that this process has not handed out before.
pub(crate) fn free() -> Result<u16, StackError> {
    let mut given = given();
    let given = given.get_or_insert_default();
    for _ in 0..TRIES_MAX {
        let port = rand::random_range(PORTS);
        if given.contains_key(&port) {
            continue;
        }
        if let Ok(held) = TcpListener::bind(("127.0.0.1", port)) {
            given.insert(port, Some(held));
            return Ok(port);
        }
    }
    Err(StackError::Step { step: "finding a free port", cause: format!("none of {PORTS:?} is free") })
}

/// Never hands out these, of servers that may not run at the moment.
pub(crate) fn keep(ports: impl IntoIterator<Item = u16>) {
    let mut given = given();
    let given = given.get_or_insert_default();
    for port in ports {
        given.entry(port).or_insert(None);
    }
}

/// Lets go of a port for the server that is about to take it, and says whether it is free then.
///
/// It may take a moment: a process that another thread is starting holds a copy of all our sockets
/// until it has become another program.
pub(crate) async fn release(address: Ipv4Addr, port: u16) -> bool {
    if let Some(held) = given().get_or_insert_default().get_mut(&port) {
        *held = None;
    }
    let until = Instant::now() + FREE_MAX;
    while TcpListener::bind((address, port)).is_err() {
        if Instant::now() > until {
            return false;
        }
        tokio::time::sleep(POLL).await;
    }
    true
}
