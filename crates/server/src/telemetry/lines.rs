//! Log lines on their way to standard error, which may be a disk that is full or a pipe that nobody reads.

use prometheus_client::metrics::counter::Counter;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;
use tracing_subscriber::fmt::MakeWriter;

/// Lines that wait to be written: some 2 MB. Who writes them is a thread that does nothing else, so they wait only
/// while standard error does not take them.
const LINES_MAX: usize = 8_192;
/// For so long a process that ends waits for its last lines.
const FLUSH_MAX: Duration = Duration::from_secs(1);

enum Said {
    Line(Vec<u8>),
    /// Everything before it is written once this is heard.
    Flush(SyncSender<()>),
}

/// Cheap to clone. Never waits for whoever reads.
#[derive(Clone)]
pub(super) struct Lines {
    said: SyncSender<Said>,
    lost: Counter,
}

impl Lines {
    pub(super) fn start(lost: Counter) -> io::Result<Self> {
        // A file of its own: the standard library's takes a closed standard error for one that was written to.
        let file = io::stderr().as_fd().try_clone_to_owned().map(File::from);
        let (said, lines) = sync_channel(LINES_MAX);
        let counts = lost.clone();
        std::thread::Builder::new().name("log".into()).spawn(move || write_all(file.ok(), &lines, &counts))?;
        Ok(Self { said, lost })
    }

    /// Waits, but not for long, until what was said is written.
    pub(super) fn flush(&self) {
        let (written, heard) = sync_channel(1);
        if self.said.try_send(Said::Flush(written)).is_ok() {
            let _ = heard.recv_timeout(FLUSH_MAX);
        }
    }
}

fn write_all(mut file: Option<impl Write>, lines: &Receiver<Said>, lost: &Counter) {
    for said in lines {
        match said {
            Said::Line(line) => {
                if file.as_mut().is_none_or(|file| file.write_all(&line).is_err()) {
                    lost.inc();
                }
            }
            Said::Flush(written) => _ = written.send(()),
        }
    }
}

impl Write for Lines {
    /// One line, whole.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // What was left out is not even an empty line.
        if !line.is_empty() && self.said.try_send(Said::Line(line.to_vec())).is_err() {
            self.lost.inc();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'w> MakeWriter<'w> for Lines {
    type Writer = Self;

    fn make_writer(&'w self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Full;

    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted() {
        let (lost, (said, lines)) = (Counter::default(), sync_channel(4));
        let mut writer = Lines { said, lost: lost.clone() };
        writer.write_all(b"one\n").unwrap();
        writer.write_all(b"two\n").unwrap();
        drop(writer);
        write_all(Some(Full), &lines, &lost);
        assert_eq!(lost.get(), 2);
    }

    #[test]
    fn lines_that_nobody_reads_are_counted_and_nobody_waits() {
        let (lost, (said, lines)) = (Counter::default(), sync_channel(2));
        let mut writer = Lines { said, lost: lost.clone() };
        for _ in 0..5 {
            writer.write_all(b"line\n").unwrap();
        }
        assert_eq!(lost.get(), 3);
        drop(lines);
    }
}
