//! What can go wrong with a stack, each in one line that says what to do.

use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum StackError {
    #[error("{program} is not installed: run `make setup`")]
    NotInstalled { program: &'static str },
    #[error("{program} is not built: run `make build`")]
    NotBuilt { program: String },
    #[error("cannot write to {}: {cause}", .path.display())]
    Folder { path: PathBuf, cause: std::io::Error },
    #[error("a stack is up in {} ({running} processes): `cellctl down` ends it", .folder.display())]
    AlreadyUp { folder: PathBuf, running: usize },
    #[error("the stack in {} has another shape ({held}): `cellctl down --delete` first, or name another --stack", .folder.display())]
    OtherShape { folder: PathBuf, held: String },
    #[error("there is no stack in {}: `cellctl up` starts one", .folder.display())]
    NoStack { folder: PathBuf },
    #[error("the stack has no process or role {name}: it has {known}")]
    NoProcess { name: String, known: String },
    #[error("cannot start {name}: {cause}")]
    Start { name: String, cause: std::io::Error },
    #[error("{name} did not get ready within {seconds} s; its log ends:\n{tail}")]
    NotReady { name: String, seconds: u64, tail: String },
    #[error("{name} ended while starting; its log ends:\n{tail}")]
    Died { name: String, tail: String },
    #[error("port {port} is taken by another program: {name} cannot start")]
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
