//! Errors of API keys.

use std::io;
use std::path::PathBuf;

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
    #[error("{} is no valid key file: {reason}; move it away and create new keys", file.display())]
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
    /// The system's random source failed.
    #[error("the system's random source failed: {0}")]
    RandomSource(String),
    /// A scope that does not exist.
    #[error("unknown scope {name:?}; known scopes: {known}")]
    UnknownScope {
        /// The unknown name.
        name: String,
        /// The names of all scopes.
        known: String,
    },
    /// A key that would open nothing.
    #[error("a key needs at least one scope; known scopes: {known}")]
    EmptyScopes {
        /// The names of all scopes.
        known: String,
    },
    /// A name that says nothing, or too much.
    #[error("invalid key name: it must have 1 to 64 characters and no control characters")]
    InvalidName,
    /// A key that is not there.
    #[error("there is no key {0}; `sequor key list` lists the keys")]
    NotFound(String),
    /// An id that no key can have.
    #[error("invalid key id: it must have 8 hexadecimal digits, such as 1a2b3c4d (the part of the key between the two underscores)")]
    InvalidId,
    /// More keys than are kept.
    #[error("there are already {0} keys, the most allowed; revoke some")]
    TooManyKeys(usize),
}
