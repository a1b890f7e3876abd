//! The id of a journal. If the daemon's address changes, clients recognise the journal by its id.

use super::{Store, StoreError};
use std::io::{ErrorKind, Write};

/// Name of the file in the data directory.
const JOURNAL_ID_FILE: &str = "journal-id";

impl Store {
    /// The id of the journal; `None` before the first call of [`Store::ensure_journal_id`].
    #[must_use]
    pub fn journal_id(&self) -> Option<&str> {
        self.shared.journal_id.get().map(String::as_str)
    }

    /// Reads the id of the journal. If the journal has no id, gives it the id that `new` returns.
    /// Backups do not contain the id: a restored journal may lack entries of the original, so it
    /// gets another id.
    ///
    /// # Errors
    /// Any I/O error.
    pub fn ensure_journal_id(&self, new: impl FnOnce() -> String) -> Result<(), StoreError> {
        let path = self.dir().join(JOURNAL_ID_FILE);
        let id = match std::fs::read_to_string(&path) {
            Ok(text) if !text.trim().is_empty() => text.trim().to_owned(),
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(StoreError::io("reading", &path)(error)),
            Ok(_) | Err(_) => {
                let id = new();
                let replace = || {
                    let mut file = tempfile::NamedTempFile::new_in(self.dir())?;
                    file.write_all(id.as_bytes())?;
                    file.as_file().sync_all()?;
                    file.persist(&path).map_err(|error| error.error)
                };
                replace().map_err(StoreError::io("writing", &path))?;
                id
            }
        };
        self.shared.journal_id.get_or_init(|| id);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::StoreOptions;

    #[test]
    fn the_journal_id_stays_with_its_data_directory() {
        let home = tempfile::tempdir().unwrap();
        let open = |new: &str| {
            let store = Store::open(home.path(), &StoreOptions::default()).unwrap();
            assert_eq!(store.journal_id(), None);
            store.ensure_journal_id(|| new.to_owned()).unwrap();
            store.journal_id().unwrap().to_owned()
        };
        assert_eq!([open("a"), open("b")], ["a", "a"]);
    }
}
