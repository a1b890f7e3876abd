//! Keys: who may ask the daemon what.
//!
//! A key is written `sq_<id>_<secret>`. The id is public and names the key; the secret is 192 bits
//! from the system's source of chance. Of a key only the digest is kept (SHA-256), so that whoever
//! reads the file `keys.json` can use none of them. A digest that is slow on purpose, such as
//! Argon2, is for secrets that people choose: it makes guessing dear. Nobody guesses one of 2^192,
//! and a slow digest would make each request dear instead.

mod error;
mod key;
mod key_file;
mod key_ring;
mod key_store;
mod scope;

pub use error::KeyError;
pub use key::{ApiKey, KeyId, Secret};
pub use key_file::KeyFile;
pub use key_ring::KeyRing;
pub use key_store::KeyStore;
pub use scope::{Scope, Scopes};
