//! What can go wrong with a stack, each in one line that says what to do.

use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum StackError {
    #[error("{program} is not installed: run `make setup`")]
    NotInstalled { program: &'static str },
    #[error("{program} is not installed, and a directory on Cassandra needs it: run `make setup-cassandra`")]
    NotInstalledForCassandra { program: &'static str },
    #[error("{program} is not built: run `make build`")]
    NotBuilt { program: String },
    #[error("cannot write to {}: {cause}", .path.display())]
    Folder { path: PathBuf, cause: std::io::Error },
    #[error("a stack is up in {} ({who}): `cellctl down --stack {}` ends it", .folder.display(), .folder.display())]
    AlreadyUp { folder: PathBuf, who: String },
    #[error("another command is at work on the stack in {}: try again when it is done", .folder.display())]
    Busy { folder: PathBuf },
    #[error(
        "the stack in {} has another shape ({held}) than what is asked for ({asked}): `{start} --stack {}` without more options starts it as it is; or give another --stack; `cellctl down --delete --stack {}` removes it with its data",
        .folder.display(), .folder.display(), .folder.display()
    )]
    OtherShape { folder: PathBuf, held: String, asked: String, start: &'static str },
    #[error(
        "the data of {name} is gone from {}: a cell of a world that was backed up is laid down there again by `cellctl cell restore`; one that is alone by the same with another --stack; `cellctl down --delete --stack {}` forgets this stack",
        .place.display(), .folder.display()
    )]
    DataGone { folder: PathBuf, name: String, place: PathBuf },
    #[error("there is no stack in {}: `cellctl up` starts one", .folder.display())]
    NoStack { folder: PathBuf },
    #[error("the stack has no process or role {name}: it has {known}")]
    NoProcess { name: String, known: String },
    #[error("cannot start {name}: there is no {}: run `make setup build`", .program.display())]
    Gone { name: String, program: PathBuf },
    #[error("cannot start {name}: {cause}")]
    Start { name: String, cause: std::io::Error },
    #[error("{name} did not get ready within {seconds} s; its log ends:\n{tail}")]
    NotReady { name: String, seconds: u64, tail: String },
    #[error("{name} ended while starting; its log ends:\n{tail}")]
    Died { name: String, tail: String },
    #[error(
        "port {port} is taken by another program: {name} cannot start; end that program, or give a new stack another port"
    )]
    PortTaken { name: String, port: u16 },
    #[error("the state of the stack in {} cannot be read: {cause}", .path.display())]
    State { path: PathBuf, cause: String },
    #[error("{step} failed: {cause}")]
    Step { step: &'static str, cause: String },
}

impl StackError {
    pub(crate) fn folder(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |cause| StackError::Folder { path, cause }
    }
}
