//! API keys and their scopes.
//!
//! A key has the form `sq_<id>_<secret>`. The id is public and names the key; the secret is 192
//! bits from the system's random source. Only the SHA-256 digest of a key is stored, so the file
//! `keys.json` does not reveal usable keys. A fast digest such as SHA-256 suffices, because a
//! random secret of 192 bits cannot be guessed. A slow digest such as Argon2 is needed only for
//! passwords that people choose; it would make the check of every request expensive.
//!
//! A key with the scope `read-own` signs [user tokens](sign_user_token), with which a browser gets
//! the lists of one user. The signatures use the stored digest of the key, so a process that can
//! read `keys.json` can also sign user tokens.

mod error;
mod key;
mod key_file;
mod key_ring;
mod key_store;
mod scope;
mod user_token;

pub use error::KeyError;
pub use key::{ApiKey, KeyId, Secret};
pub use key_file::KeyFile;
pub use key_ring::KeyRing;
pub use key_store::KeyStore;
pub use scope::{Scope, Scopes};
pub use user_token::{UserToken, is_user_token, sign_user_token};
