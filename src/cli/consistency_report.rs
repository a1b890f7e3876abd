//! The report of a consistency check.

use rustc_hash::FxHashMap;
use serde::Serialize;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::store::{DamageFinding, DamageRemedy, STORE_FORMAT, StoreCounts, StoreError};

/// Report of a consistency check.
#[derive(Debug, Serialize)]
pub(super) struct ConsistencyReport {
    data_dir: PathBuf,
    format: u32,
    counts: StoreCounts,
    damages: Vec<DamageFinding>,
    /// Differences that changed settings explain; they are not damage.
    differences: Vec<String>,
}

/// The report shows at most this many findings of each kind.
const MAX_SHOWN_PER_KIND: usize = 3;

impl ConsistencyReport {
    pub(super) fn new(
        dir: &Path,
        format: u32,
        counts: StoreCounts,
        damages: Vec<DamageFinding>,
        differences: Vec<String>,
    ) -> Self {
        Self { data_dir: dir.to_owned(), format, counts, damages, differences }
    }

    /// A report for a store that cannot be opened.
    pub(super) fn from_open_error(dir: &Path, error: &StoreError) -> Self {
        let damage =
            DamageFinding { location: "store".to_owned(), reason: error.to_string(), remedy: DamageRemedy::Backup };
        Self::new(dir, STORE_FORMAT, StoreCounts::default(), vec![damage], Vec::new())
    }

    /// The same report under the name of another directory. A restore checks a temporary directory
    /// and reports its target.
    pub(super) fn with_data_dir(mut self, dir: &Path) -> Self {
        self.data_dir = dir.to_owned();
        self
    }

    pub(super) fn damages(&self) -> &[DamageFinding] {
        &self.damages
    }

    /// Returns an error if there is any damage, so that the exit code is not 0. The error only
    /// counts the damages; the report lists them.
    pub(super) fn ensure_undamaged(&self) -> anyhow::Result<()> {
        let dir = self.data_dir.display();
        match (self.damages.len(), self.damages_by_kind().len()) {
            (0, _) => Ok(()),
            (1, _) => anyhow::bail!("{dir} is damaged in one place"),
            (count, 1) => anyhow::bail!("{dir} is damaged in {count} places, all of one kind"),
            (count, kinds) => anyhow::bail!("{dir} is damaged in {count} places, of {kinds} kinds"),
        }
    }

    /// The damages by kind, in the order of each kind's first damage. Damages of one kind have the
    /// same remedy, lie in the same part of the store, and have reasons that differ only in
    /// numbers.
    fn damages_by_kind(&self) -> Vec<Vec<&DamageFinding>> {
        let mut kinds: Vec<Vec<&DamageFinding>> = Vec::new();
        let mut indices = FxHashMap::default();
        for damage in &self.damages {
            let part = damage.location.split([',', ':', ' ']).next().unwrap_or_default();
            let reason: String = damage.reason.chars().filter(|letter| !letter.is_ascii_digit()).collect();
            let kind = (part, reason, damage.remedy.as_str());
            let index = *indices.entry(kind).or_insert(kinds.len());
            match kinds.get_mut(index) {
                Some(known) => known.push(damage),
                None => kinds.push(vec![damage]),
            }
        }
        kinds
    }
}

impl fmt::Display for ConsistencyReport {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = &self.counts;
        writeln!(out, "{}, format {}", self.data_dir.display(), self.format)?;
        writeln!(out, "  journal entries   {:>12}   in {} records", counts.entries, counts.records)?;
        writeln!(out, "    events          {:>12}", counts.events)?;
        writeln!(out, "    impressions     {:>12}", counts.impressions)?;
        writeln!(out, "    item changes    {:>12}", counts.item_changes)?;
        writeln!(out, "    model changes   {:>12}", counts.model_changes)?;
        writeln!(out, "    merges of users {:>12}", counts.merges)?;
        writeln!(out, "    consent         {:>12}", counts.consent_changes)?;
        writeln!(out, "    erasures due    {:>12}", counts.erasures)?;
        writeln!(out, "    erased entries  {:>12}", counts.blanks)?;
        writeln!(out, "  item names        {:>12}", counts.items)?;
        writeln!(out, "  session records   {:>12}", counts.sessions)?;
        writeln!(out, "  checkpoints       {:>12}", counts.checkpoints)?;
        write!(out, "  damages           {:>12}", self.damages.len())?;
        for difference in &self.differences {
            write!(out, "\nsettings: {difference}")?;
        }
        for kind in self.damages_by_kind() {
            for damage in kind.iter().take(MAX_SHOWN_PER_KIND) {
                write!(out, "\n{}: {}", damage.location, damage.reason)?;
            }
            if kind.len() > MAX_SHOWN_PER_KIND {
                write!(
                    out,
                    "\n… and {} more of this kind; `sequor verify --json FILE` lists them all",
                    kind.len() - MAX_SHOWN_PER_KIND
                )?;
            }
            if let Some(damage) = kind.first() {
                write!(out, "\n  -> {}", damage.remedy.as_str())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_of_one_cause_are_shown_together() {
        let finding =
            |location: &str, reason: String, remedy| DamageFinding { location: location.to_owned(), reason, remedy };
        let mut damages: Vec<_> = (0..956)
            .map(|user| {
                let reason = format!("the record ends at offset {user}; all records should reach 1000");
                finding(&format!("sessions, {user:08x}"), reason, DamageRemedy::Rebuild)
            })
            .collect();
        let report = |damages: &[DamageFinding]| {
            ConsistencyReport::new(Path::new("/d"), STORE_FORMAT, StoreCounts::default(), damages.to_vec(), Vec::new())
        };
        let error = report(&damages).ensure_undamaged().unwrap_err().to_string();
        assert_eq!(error, "/d is damaged in 956 places, all of one kind");
        let text = report(&damages).to_string();
        assert_eq!(text.matches("the record ends at offset").count(), MAX_SHOWN_PER_KIND, "{text}");
        assert!(text.contains("… and 953 more of this kind") && text.matches("  -> ").count() == 1, "{text}");
        damages.push(finding("origin", "its checksum does not match".to_owned(), DamageRemedy::Backup));
        let error = report(&damages).ensure_undamaged().unwrap_err().to_string();
        assert_eq!(error, "/d is damaged in 957 places, of 2 kinds");
    }
}
