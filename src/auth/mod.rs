//! Keys: who may ask the daemon what.
//!
//! A key is written `sq_<id>_<secret>`. The id is public and names the key; the secret is 192 bits from the system's source of chance. Of a key only the digest is kept (SHA-256), so that
//! whoever reads the file `keys.json` can use none of them. A digest that is slow on purpose, such as Argon2, is for secrets that people choose: it makes guessing dear. Nobody guesses
//! one of 2^192, and a slow digest would make each request dear instead.

mod error;
mod file;
mod key;
mod live;
mod ring;
mod scope;

pub use error::KeyError;
pub use file::KeyFile;
pub use key::{Key, KeyId, Secret};
pub use live::Keys;
pub use ring::Ring;
pub use scope::{Scope, Scopes};
