//! Errors of reading and changing API keys.

use std::io;
use std::path::PathBuf;

/// Errors of reading and changing API keys. No message contains a key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read.
    #[error("cannot read the keys in {}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// The error of the operating system.
        #[source]
        source: io::Error,
    },
    /// The file is not a valid key file.
    #[error("{} is not a valid key file: {reason}; move it away and create new keys", file.display())]
    Malformed {
        /// The file.
        file: PathBuf,
        /// The syntax error or the unsupported format.
        reason: String,
    },
    /// The file cannot be written.
    #[error("cannot write the keys to {}", file.display())]
    Write {
        /// The file.
        file: PathBuf,
        /// The error of the operating system.
        #[source]
        source: io::Error,
    },
    /// The system's random source failed.
    #[error("the system's random source failed: {0}")]
    RandomSource(String),
    /// No scope has this name.
    #[error("unknown scope {name:?}; known scopes: {known}")]
    UnknownScope {
        /// The unknown name.
        name: String,
        /// The names of all scopes.
        known: String,
    },
    /// The list of scopes is empty.
    #[error("a key needs at least one scope; known scopes: {known}")]
    EmptyScopes {
        /// The names of all scopes.
        known: String,
    },
    /// The key's name is empty, too long or contains control characters.
    #[error("invalid key name: it must have 1 to 64 characters and no control characters")]
    InvalidName,
    /// The text does not have the form of a key.
    #[error("this is not an API key; a key has the form sq_…, as `sequor key create` prints it")]
    InvalidKey,
    /// No key has this id.
    #[error("there is no key {0}; `sequor key list` lists the keys")]
    NotFound(String),
    /// The text does not have the form of a key id.
    #[error(
        "invalid key id: it must have 8 hexadecimal digits, such as 1a2b3c4d (the part of the key between the two underscores)"
    )]
    InvalidId,
    /// The file already holds the largest allowed number of keys.
    #[error("there are already {0} keys, which is the limit; revoke a key first")]
    TooManyKeys(usize),
}
