//! Stands for `cellar-cell` and `cellar-router` in the tests of this crate: takes its ports and says
//! that it is ready. `migrate` does nothing.

use std::io::{Read, Write};
use std::net::TcpListener;

fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.get(1).is_some_and(|first| first == "migrate") {
        return Ok(());
    }
    let config = std::fs::read_to_string(arguments.last().map_or("", String::as_str))?;
    let address = |key: &str| {
        let line = config.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = "));
        line.unwrap_or_default().trim_matches('"').to_owned()
    };
    let _listener = TcpListener::bind(address("listen"))?;
    for stream in TcpListener::bind(address("admin_listen"))?.incoming() {
        let mut stream = stream?;
        let _ = stream.read(&mut [0; 1024])?;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")?;
    }
    Ok(())
}
