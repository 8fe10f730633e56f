//! Backups and restores that are killed, and disks that are full.

use crate::backups::{Acknowledged, LIMIT, agrees, charge, destroy, json, path, refused, run};
use crate::support::World;
use cellar_devstack::Cellctl;
use serde_json::Value;
use std::fs::File;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

fn full() -> bool {
    std::env::var_os("CELLAR_TEST_FULL").is_some()
}

/// A command on the stack of `cellctl`, with its answer in a file.
fn command(cellctl: &Cellctl, arguments: &[&str], answer: &Path) -> Command {
    let mut command = Command::new(cellctl.program());
    command.args(arguments).arg("--stack").arg(cellctl.stack()).stdin(Stdio::null());
    command.stdout(File::create(answer).unwrap()).stderr(Stdio::null());
    command
}

/// Kills it after `delay`, unless it has ended by then.
fn killed_after(mut command: Command, delay: Duration) -> ExitStatus {
    let (mut running, until) = (command.spawn().unwrap(), Instant::now() + delay);
    while Instant::now() < until {
        if let Some(status) = running.try_wait().unwrap() {
            return status;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    running.kill().unwrap();
    running.wait().unwrap()
}

/// Restores, and is killed at a later moment each time until it gets through: what a command leaves, the next one
/// begins anew or goes on from.
pub(crate) async fn restored_though_killed(cellctl: &Cellctl, arguments: &[&str]) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let words = [&["cell", "restore"], arguments, &["--yes", "--json"]].concat();
    let step = Duration::from_millis(if full() { 60 } else { 1_300 });
    tokio::task::block_in_place(|| {
        for kills in 1..2_000 {
            let answer = folder.path().join("answer");
            let status = killed_after(command(cellctl, &words, &answer), step * kills);
            if status.signal().is_none() {
                let said = std::fs::read_to_string(&answer).unwrap();
                assert!(status.success(), "after {kills} kills: {status}: {said}");
                println!("restored after {} kills", kills - 1);
                return serde_json::from_str(&said).unwrap();
            }
        }
        panic!("it never ends");
    })
}

/// Goal: whatever is killed while it copies or lays down leaves a backup that is whole, or says that there is none,
/// and a command that can be given again; what was acknowledged before the last backup is there in the end.
/// Method: kills spread over the whole length of a full backup, of one that adds to it, and of the restore.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_killed_while_it_copies_or_restores_is_given_again_and_nothing_is_lost() {
    let world = World::cell();
    world.bucket_tier("big", LIMIT).await;
    let user = world.user("u@example.org", "big").await;
    let folder = tempfile::tempdir().unwrap();
    let (at, dir) = path(folder.path(), "backup");
    killed_in_its_base(&world.cellctl, &at);

    let backup = ["cell", "backup", &dir];
    let begun = [&backup[..], &["--full"]].concat();
    let began = Instant::now();
    // By a path from where it is given.
    let mut relative = command(&world.cellctl, &["cell", "backup", "backup"], &folder.path().join("answer"));
    assert!(tokio::task::block_in_place(|| relative.current_dir(folder.path()).status()).unwrap().success());
    let lengths = [began.elapsed(), {
        let began = Instant::now();
        run(&world.cellctl, &backup);
        began.elapsed()
    }];
    // Each attempt closes a segment of the log or two, and so many are kept that a backup can be added to.
    let kills = if full() { 30 } else { 3 };
    let mut told: Vec<Acknowledged> = Vec::new();
    for kill in 0..kills {
        for (words, length) in [&begun[..], &backup[..]].iter().zip(lengths) {
            told.push(charge(&world.client, &user, &format!("k{kill}-{}", words.len()), 3).await);
            let held = json(&world.cellctl, &["cell", "backup", "list", &dir, "--json"]);
            let answer = folder.path().join("answer");
            let status = tokio::task::block_in_place(|| {
                killed_after(command(&world.cellctl, words, &answer), length * (2 * kill + 1) / (2 * kills))
            });
            assert!(status.success() || status.signal().is_some(), "{status}: kill {kill} of {words:?}");
            let left = json(&world.cellctl, &["cell", "backup", "list", &dir, "--json"]);
            assert!(left[0]["to"].as_str() >= held[0]["to"].as_str() && left[0]["error"].is_null(), "{left}");
            run(&world.cellctl, &["cell", "backup", "verify", &dir]);
        }
    }
    run(&world.cellctl, &backup);
    run(&world.cellctl, &["cell", "backup", "verify", &dir]);
    destroy(&world.cellctl, None).await;

    let (list, check) = path(folder.path(), "acknowledged");
    std::fs::write(&list, told.iter().map(|charge| charge.line() + "\n").collect::<String>()).unwrap();
    let other = Cellctl::new().unwrap();
    let restored = restored_though_killed(&other, &[&dir, "--check", &check]).await;
    agrees(&restored);
    assert_eq!(restored["lost"]["gone"], serde_json::json!([]));
    let sum = told.iter().map(|charge| charge.tokens).sum();
    let again = World::of(other);
    assert_eq!(again.books(None, &user, "tokens").await, (sum, sum, sum));
    for charged in &told {
        let repeat = charge(&again.client, &charged.user, &charged.key, charged.tokens).await;
        assert_eq!(repeat.charge, charged.charge);
    }
}

/// The first backup of all, killed when its base is being copied: there is none.
fn killed_in_its_base(cellctl: &Cellctl, at: &Path) {
    let folder = tempfile::tempdir().unwrap();
    let dir = at.display().to_string();
    let mut backup = command(cellctl, &["cell", "backup", &dir], &folder.path().join("answer")).spawn().unwrap();
    let until = Instant::now() + Duration::from_secs(30);
    while !at.join("full-1/base.tar.gz").exists() {
        assert!(Instant::now() < until, "nothing is copied");
        std::thread::sleep(Duration::from_millis(1));
    }
    backup.kill().unwrap();
    backup.wait().unwrap();
    let said = refused(cellctl, &["cell", "backup", "verify", &dir]);
    assert!(said.contains("no whole backup"), "{said}");
    let said = refused(&Cellctl::new().unwrap(), &["cell", "restore", &dir, "--yes"]);
    assert!(said.contains("no whole backup"), "{said}");
    assert!(run(cellctl, &["cell", "backup", "list", &dir]).contains("no backup"));
}

/// A disk of its own that can be filled up. Where none can be mounted, no file may grow beyond what is left.
struct SmallDisk {
    folder: tempfile::TempDir,
    mounted: bool,
    left: u64,
}

impl SmallDisk {
    const BYTES: u64 = 96 << 20;

    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={}", Self::BYTES), "cellar-test"]).arg(folder.path());
        let mounted = mount.stderr(Stdio::null()).status().is_ok_and(|status| status.success());
        if !mounted {
            println!("no disk can be mounted here: a limit on the size of files takes its place");
        }
        Self { folder, mounted, left: Self::BYTES }
    }

    fn filler(&self) -> PathBuf {
        self.folder.path().join("filler")
    }

    /// Leaves room for so many bytes.
    fn fill_up(&mut self, left: u64) {
        self.make_room();
        self.left = left;
        if self.mounted {
            let mut filler = File::create(self.filler()).unwrap();
            while filler.write_all(&[0; 4096]).is_ok() {}
            let filled = filler.metadata().unwrap().len();
            filler.set_len(filled.saturating_sub(left)).unwrap();
        }
    }

    fn make_room(&mut self) {
        let _ = std::fs::remove_file(self.filler());
        self.left = Self::BYTES;
    }

    /// What a backup says that finds no room, which is what to do.
    fn has_no_room(&self, cellctl: &Cellctl, arguments: &[&str]) -> String {
        // A file that may not grow is a signal first, which is to be an error.
        let limited = format!("trap '' XFSZ; exec prlimit --fsize={} \"$@\"", self.left);
        let mut words = vec![cellctl.program().as_os_str()];
        if !self.mounted {
            words.splice(0..0, ["sh", "-c", &limited, "sh"].map(AsRef::as_ref));
        }
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).args(arguments).arg("--stack").arg(cellctl.stack());
        let output = tokio::task::block_in_place(|| command.stdin(Stdio::null()).output().unwrap());
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("has no room for it") && said.contains("make room"), "{said}");
        said
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if self.mounted {
            let _ = Command::new("umount").args(["-l"]).arg(self.folder.path()).status();
        }
    }
}

/// Goal: a disk that is full costs no backup that was there, the error says what to do, and when that is done the
/// next backup is whole.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_costs_no_backup_that_was_there_and_the_next_one_is_whole() {
    let world = World::cell();
    let mut disk = SmallDisk::new();
    let (_, dir) = path(disk.folder.path(), "backup");
    let backup = ["cell", "backup", &dir];
    let begun = ["cell", "backup", &dir, "--full"];
    let list = || json(&world.cellctl, &["cell", "backup", "list", &dir, "--json"]);
    disk.fill_up(1 << 20);
    let said = disk.has_no_room(&world.cellctl, &backup);
    assert!(said.contains("there is no backup in it"), "{said}");
    assert_eq!(list(), serde_json::json!([]));
    disk.make_room();
    run(&world.cellctl, &backup);

    let held = list();
    // In the base; in the log or in Redis's copy; at the very first byte.
    for (words, left) in [(&begun[..], 1 << 20), (&backup[..], 16 << 10), (&backup[..], 0)] {
        world.user(&format!("u{left}@example.org"), "free").await;
        disk.fill_up(left);
        let said = disk.has_no_room(&world.cellctl, words);
        assert!(said.contains("is as it was"), "{said}");
        assert_eq!(list(), held);
        run(&world.cellctl, &["cell", "backup", "verify", &dir]);
    }
    disk.make_room();
    for words in [&backup[..], &begun[..]] {
        run(&world.cellctl, words);
        run(&world.cellctl, &["cell", "backup", "verify", &dir]);
    }
    assert!(list()[0]["to"].as_str() > held[0]["to"].as_str());
}
