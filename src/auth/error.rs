//! What goes wrong with keys.

use std::io;
use std::path::PathBuf;

use super::{KeyId, Scope};

/// Why keys cannot be read or changed. None repeats a key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read.
    #[error("cannot read the keys in {}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The file is not what it should be.
    #[error("{} holds no keys: {reason}; move it away, and make keys anew", file.display())]
    Malformed {
        /// The file.
        file: PathBuf,
        /// Where and why.
        reason: String,
    },
    /// The file cannot be written.
    #[error("cannot write the keys to {}", file.display())]
    Write {
        /// The file.
        file: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The system gives no secret.
    #[error("the system's source of chance gives nothing: {0}")]
    RandomSource(String),
    /// A scope that does not exist.
    #[error("there is no scope {0:?}; there are {all}", all = Scope::ALL.map(Scope::as_str).join(", "))]
    UnknownScope(String),
    /// A key that would open nothing.
    #[error("a key needs a scope at least; there are {}", Scope::ALL.map(Scope::as_str).join(", "))]
    EmptyScopes,
    /// A name that says nothing, or too much.
    #[error("a key's name has 1 to 64 characters, and none that control")]
    InvalidName,
    /// A key that is not there.
    #[error("there is no key {0}; `sequor key list` tells those that there are")]
    NotFound(KeyId),
    /// An id that no key can have.
    #[error("a key's id has 8 hexadecimal digits, such as 1a2b3c4d: it stands in the key between the two underscores")]
    InvalidId,
    /// More keys than are kept.
    #[error("there are {0} keys already, and no more are kept; revoke some")]
    TooManyKeys(usize),
}
