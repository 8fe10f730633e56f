//! A copy of the quota Redis's append-only files while it writes them.

use anyhow::{Context, bail, ensure};
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;
use std::time::Duration;

/// The server's own list of the files that together are its data.
const LIST: &str = "appendonly.aof.manifest";
/// A rewrite changes the list twice, and takes seconds.
const TRIES_MAX: u32 = 100;
const TRY_AGAIN: Duration = Duration::from_millis(50);

/// Copies what the files in `from` held at some moment of the call, and nothing that was written earlier is
/// left out.
///
/// A rewrite replaces files and deletes the old ones. So those that the list names are opened, and the list
/// is read again: if it has not changed, every file of it was there together, and an open file stays when its
/// name goes. The server is told nothing, so a copy that is killed leaves nothing to be put right. The last
/// file may end in the middle of an entry, which the server cuts off when it loads it.
pub(super) fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let cannot = || format!("cannot copy {}", from.display());
    for _ in 0..TRIES_MAX {
        let list = std::fs::read_to_string(from.join(LIST)).with_context(cannot)?;
        let Some(files) = opened(from, &list).with_context(cannot)? else {
            std::thread::sleep(TRY_AGAIN);
            continue;
        };
        if std::fs::read_to_string(from.join(LIST)).with_context(cannot)? != list {
            std::thread::sleep(TRY_AGAIN);
            continue;
        }
        std::fs::create_dir_all(to).with_context(cannot)?;
        for (name, mut file) in files {
            // As long as it is now: a busy server would be followed for ever.
            let bytes = file.metadata().with_context(cannot)?.len();
            let mut copy = File::create(to.join(&name)).with_context(cannot)?;
            std::io::copy(&mut Read::by_ref(&mut file).take(bytes), &mut copy).with_context(cannot)?;
            copy.sync_all().with_context(cannot)?;
        }
        let path = to.join(LIST);
        std::fs::write(&path, list).and_then(|()| File::open(&path)?.sync_all()).with_context(cannot)?;
        return File::open(to)?.sync_all().with_context(cannot);
    }
    bail!("{} is rewritten all the time", from.display());
}

/// The files that `list` names, open. None: one has gone meanwhile.
fn opened(folder: &Path, list: &str) -> anyhow::Result<Option<Vec<(String, File)>>> {
    let mut files = Vec::new();
    for line in list.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let after = |word: &str| words.iter().position(|held| *held == word).and_then(|n| words.get(n + 1)).copied();
        let (Some(name), Some(kind)) = (after("file"), after("type")) else {
            bail!("{LIST} has a line of another form: {line}");
        };
        // Of an earlier rewrite, on their way out.
        if kind == "h" {
            continue;
        }
        ensure!(!name.contains('/'), "{LIST} names a file elsewhere: {line}");
        match File::open(folder.join(name)) {
            Ok(file) => files.push((name.to_owned(), file)),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Some(files))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_list_names_is_copied_and_what_is_on_its_way_out_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        std::fs::create_dir(&from).unwrap();
        let list = "file a.1.base.rdb seq 1 type b\nfile a.0.incr.aof seq 0 type h\nfile a.1.incr.aof seq 1 type i\n";
        for (name, text) in [("a.1.base.rdb", "base"), ("a.0.incr.aof", "old"), ("a.1.incr.aof", "new"), (LIST, list)] {
            std::fs::write(from.join(name), text).unwrap();
        }
        copy(&from, &to).unwrap();
        let mut names: Vec<_> = std::fs::read_dir(&to).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["a.1.base.rdb", "a.1.incr.aof", LIST]);
        std::fs::write(from.join(LIST), "file ../secret seq 1 type i\n").unwrap();
        assert!(copy(&from, &to).is_err());
    }
}
