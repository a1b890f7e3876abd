//! The output file of batch lists: one line per user, continued after an interruption. A Parquet
//! file is made from the lines at the end, because no rows can be appended to it.

use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

#[cfg(feature = "parquet")]
use super::list_table::write_list_table;
use super::progress_file::ProgressFile;
use super::user_list::UserList;

/// Separates the item ids in a CSV file.
const CSV_ITEM_SEPARATOR: &str = "|";
/// The header line of a CSV file.
const CSV_HEADER: &str = "user_id,item_ids";

/// Format of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ListFileFormat {
    /// One JSON object per line.
    Ndjson,
    /// A header, then one record per line, in which `|` separates the item ids.
    Csv,
    /// A Parquet file, one row per item. Until the lists are complete, their lines are NDJSON.
    Parquet,
}

impl ListFileFormat {
    /// The format that the name of a file says.
    pub(super) fn of_file(file: &Path) -> anyhow::Result<Self> {
        match file.extension().map(|extension| extension.to_string_lossy()).as_deref() {
            Some("ndjson" | "jsonl") => Ok(Self::Ndjson),
            Some("csv") => Ok(Self::Csv),
            Some("parquet") if cfg!(feature = "parquet") => Ok(Self::Parquet),
            Some("parquet") => bail!(
                "--output {}: this program was built without Parquet; build it with `--features parquet`, or write an .ndjson or .csv file",
                file.display()
            ),
            _ => bail!("--output {}: the name must end in .ndjson, .jsonl, .csv or .parquet", file.display()),
        }
    }

    /// The line of a user, without the line break.
    fn line(self, list: &UserList) -> anyhow::Result<String> {
        match self {
            Self::Ndjson | Self::Parquet => Ok(serde_json::to_string(list)?),
            Self::Csv => {
                let ids: Vec<_> = list.items.iter().map(|item| item.item_id.as_str()).collect();
                if let Some(id) = ids.iter().find(|id| id.contains(CSV_ITEM_SEPARATOR)) {
                    bail!(
                        "the item id `{id}` contains {CSV_ITEM_SEPARATOR}, which separates the ids in a CSV file; write an .ndjson or .parquet file"
                    );
                }
                let ids = ids.join(CSV_ITEM_SEPARATOR);
                Ok(format!("{},{}", csv_field(&list.user_id), csv_field(&ids)))
            }
        }
    }

    /// The user of a line; `None` if the line is the header or is invalid.
    fn user_of_line(self, line: &str) -> Option<String> {
        match self {
            Self::Ndjson | Self::Parquet => serde_json::from_str::<UserList>(line).ok().map(|list| list.user_id),
            Self::Csv if line == CSV_HEADER => None,
            Self::Csv => first_csv_field(line),
        }
    }
}

/// A field of a CSV record (RFC 4180). Ids contain no line breaks.
fn csv_field(text: &str) -> Cow<'_, str> {
    if text.contains([',', '"']) { format!("\"{}\"", text.replace('"', "\"\"")).into() } else { text.into() }
}

/// The first field of a CSV record.
fn first_csv_field(line: &str) -> Option<String> {
    let Some(quoted) = line.strip_prefix('"') else { return Some(line.split_once(',')?.0.to_owned()) };
    let (mut field, mut characters) = (String::new(), quoted.chars().peekable());
    while let Some(character) = characters.next() {
        match character {
            '"' if characters.peek() == Some(&'"') => field.extend(characters.next()),
            '"' => return Some(field),
            other => field.push(other),
        }
    }
    None
}

/// Writes the file. Until it is complete, the lines are in a file whose name ends in `.unfinished`.
pub(super) struct ListFileWriter {
    output: PathBuf,
    unfinished: PathBuf,
    format: ListFileFormat,
    progress: ProgressFile,
    file: BufWriter<File>,
    /// The user of the last complete line of an earlier run.
    last_user: Option<String>,
    /// Number of lists of this run.
    written_lists: usize,
}

impl ListFileWriter {
    /// Opens the unfinished file of an earlier run with the same arguments, and removes an incomplete
    /// last line. If there is no such file, creates one. A file without lists may come from other
    /// arguments, for example a wrong URL.
    pub(super) fn open<A>(output: &Path, format: ListFileFormat, arguments: &A) -> anyhow::Result<Self>
    where
        A: Serialize + for<'a> Deserialize<'a> + PartialEq,
    {
        let mut name = OsString::from(output);
        name.push(".unfinished");
        let unfinished = PathBuf::from(name);
        let progress = ProgressFile::of_output(output, ".progress");
        let context = || format!("cannot write {}", unfinished.display());
        let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&unfinished);
        let mut file = open.with_context(context)?;
        let (complete_bytes, last_user) = last_complete_line(&file, format).with_context(context)?;
        if last_user.is_some() {
            ensure!(
                progress.read_state::<A>()?.as_ref() == Some(arguments),
                "{} was written with other arguments; run the command with these arguments again, or remove the file to start from the beginning",
                unfinished.display()
            );
        }
        progress.write_state(arguments)?;
        file.set_len(complete_bytes).with_context(context)?;
        file.seek(SeekFrom::End(0)).with_context(context)?;
        let mut file = BufWriter::new(file);
        if complete_bytes == 0 && format == ListFileFormat::Csv {
            writeln!(file, "{CSV_HEADER}").with_context(context)?;
        }
        Ok(Self { output: output.to_owned(), unfinished, format, progress, file, last_user, written_lists: 0 })
    }

    /// The user of the last complete line of an earlier run.
    pub(super) fn last_user(&self) -> Option<&str> {
        self.last_user.as_deref()
    }

    pub(super) fn unfinished_path(&self) -> &Path {
        &self.unfinished
    }

    pub(super) fn write_list(&mut self, list: &UserList) -> anyhow::Result<()> {
        let line = self.format.line(list)?;
        self.written_lists += 1;
        writeln!(self.file, "{line}").with_context(|| format!("cannot write {}", self.unfinished.display()))
    }

    /// Writes buffered lines to the file.
    pub(super) fn flush(&mut self) -> anyhow::Result<()> {
        self.file.flush().with_context(|| format!("cannot write {}", self.unfinished.display()))
    }

    /// Removes the unfinished file and the progress file, if they contain no list.
    pub(super) fn discard_if_empty(self) -> anyhow::Result<()> {
        if self.last_user.is_some() || self.written_lists > 0 {
            return Ok(());
        }
        remove_file(&self.unfinished)?;
        remove_file(self.progress.path())
    }

    /// Replaces the output file by the unfinished file, which is complete, or by a Parquet file of
    /// its lines.
    pub(super) fn finish(mut self) -> anyhow::Result<()> {
        self.flush()?;
        let context = || format!("cannot write {}", self.output.display());
        self.file.get_ref().sync_all().with_context(context)?;
        match self.format {
            ListFileFormat::Ndjson | ListFileFormat::Csv => {
                std::fs::rename(&self.unfinished, &self.output).with_context(context)?;
            }
            ListFileFormat::Parquet => {
                let lines = BufReader::new(File::open(&self.unfinished).with_context(context)?);
                write_list_table(lines, &self.output).with_context(context)?;
                remove_file(&self.unfinished)?;
            }
        }
        remove_file(self.progress.path())
    }
}

fn remove_file(file: &Path) -> anyhow::Result<()> {
    std::fs::remove_file(file).with_context(|| format!("cannot remove {}", file.display()))
}

/// Never called, because [`ListFileFormat::of_file`] refuses the format in a build without it.
#[cfg(not(feature = "parquet"))]
fn write_list_table(_: impl BufRead, _: &Path) -> anyhow::Result<()> {
    bail!("this program was built without Parquet; build it with `--features parquet`")
}

/// The length of the complete lines of a file, and the user of the last of them.
fn last_complete_line(file: &File, format: ListFileFormat) -> anyhow::Result<(u64, Option<String>)> {
    let mut lines = BufReader::new(file);
    let (mut complete_bytes, mut line, mut last) = (0, Vec::new(), Vec::new());
    while lines.read_until(b'\n', &mut line)? > 0 && line.ends_with(b"\n") {
        complete_bytes += line.len() as u64;
        std::mem::swap(&mut line, &mut last);
        line.clear();
    }
    let text = String::from_utf8_lossy(&last);
    let text = text.trim_end_matches('\n');
    let user = format.user_of_line(text);
    ensure!(
        user.is_some() || text.is_empty() || text == CSV_HEADER,
        "its last line is not a list; remove the file to start from the beginning"
    );
    Ok((complete_bytes, user))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::user_list::UserListItem;

    fn list(user: &str, items: &[&str]) -> UserList {
        let item = |id: &&str| UserListItem { item_id: (*id).to_owned(), score: 1.5, source: "network".into() };
        UserList { user_id: user.to_owned(), items: items.iter().map(item).collect(), fallback: "none".into() }
    }

    #[test]
    fn a_line_of_either_format_names_its_user() {
        for format in [ListFileFormat::Ndjson, ListFileFormat::Csv] {
            for user in ["ann", "a,b", "say \"hi\"", "\"", "|"] {
                let line = format.line(&list(user, &["tea", "a,b"])).unwrap();
                assert_eq!(format.user_of_line(&line).as_deref(), Some(user), "{line}");
            }
        }
        assert_eq!(ListFileFormat::Csv.line(&list("ann", &["tea", "cup"])).unwrap(), "ann,tea|cup");
        assert!(ListFileFormat::Csv.line(&list("ann", &["a|b"])).is_err());
    }

    #[test]
    fn an_interrupted_file_is_continued_with_the_same_arguments_only() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("lists.csv");
        let open = |arguments: &str| ListFileWriter::open(&output, ListFileFormat::Csv, &arguments.to_owned());
        open("limit 1").unwrap().discard_if_empty().unwrap();
        assert_eq!(folder.path().read_dir().unwrap().count(), 0);
        let mut writer = open("limit 2").unwrap();
        assert_eq!(writer.last_user(), None);
        writer.write_list(&list("ann", &["tea"])).unwrap();
        writer.file.write_all(b"bob,te").unwrap();
        writer.flush().unwrap();
        writer.discard_if_empty().unwrap();
        assert!(open("limit 3").is_err() && !output.exists());
        let mut writer = open("limit 2").unwrap();
        assert_eq!(writer.last_user(), Some("ann"));
        writer.write_list(&list("bob", &["cup"])).unwrap();
        writer.finish().unwrap();
        assert_eq!(std::fs::read_to_string(&output).unwrap(), "user_id,item_ids\nann,tea\nbob,cup\n");
        assert_eq!(folder.path().read_dir().unwrap().count(), 1, "the other files are removed");
        assert_eq!(open("limit 3").unwrap().last_user(), None, "a complete file is written anew");
    }
}
