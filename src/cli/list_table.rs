//! Batch lists as a Parquet file: one row per recommended item.

use anyhow::Context;
use parquet::basic::{Compression, LogicalType, Repetition, Type as PhysicalType};
use parquet::data_type::{ByteArray, ByteArrayType, DataType, FloatType, Int32Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::{Type, TypePtr};
use std::fs::{File, Permissions};
use std::io::BufRead;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use super::user_list::UserList;

/// A row group ends after the list with which it has this number of rows. It bounds the memory of
/// the writer: lists of 20 items fill a row group with about 3,300 users.
const ROW_GROUP_ROWS: usize = 1 << 16;

/// The mode of the output file before the umask applies, like that of any new file.
const OUTPUT_MODE: u32 = 0o666;

/// The columns of the rows that wait for their row group.
#[derive(Debug, Default)]
struct ListColumns {
    user_ids: Vec<ByteArray>,
    /// Counted from 1.
    positions: Vec<i32>,
    item_ids: Vec<ByteArray>,
    scores: Vec<f32>,
    sources: Vec<ByteArray>,
    fallbacks: Vec<ByteArray>,
}

impl ListColumns {
    fn row_count(&self) -> usize {
        self.positions.len()
    }

    /// Appends a row per item of the list.
    fn push_list(&mut self, list: UserList) {
        let (user, fallback) =
            (ByteArray::from(list.user_id.into_bytes()), ByteArray::from(list.fallback.into_owned().into_bytes()));
        for (position, item) in (1..).zip(list.items) {
            self.user_ids.push(user.clone());
            self.positions.push(position);
            self.item_ids.push(item.item_id.into_bytes().into());
            self.scores.push(item.score);
            self.sources.push(item.source.into_owned().into_bytes().into());
            self.fallbacks.push(fallback.clone());
        }
    }

    /// Writes the rows as a row group, in the order of [`table_schema`].
    fn write_row_group(&self, writer: &mut SerializedFileWriter<&File>) -> anyhow::Result<()> {
        let mut group = writer.next_row_group()?;
        write_column::<ByteArrayType>(&mut group, &self.user_ids)?;
        write_column::<Int32Type>(&mut group, &self.positions)?;
        write_column::<ByteArrayType>(&mut group, &self.item_ids)?;
        write_column::<FloatType>(&mut group, &self.scores)?;
        write_column::<ByteArrayType>(&mut group, &self.sources)?;
        write_column::<ByteArrayType>(&mut group, &self.fallbacks)?;
        group.close()?;
        Ok(())
    }
}

/// Writes the next column of a row group. It has a value in each row.
fn write_column<T: DataType>(group: &mut SerializedRowGroupWriter<'_, &File>, values: &[T::T]) -> anyhow::Result<()> {
    let mut column = group.next_column()?.context("the schema has fewer columns than a row")?;
    column.typed::<T>().write_batch(values, None, None)?;
    column.close()?;
    Ok(())
}

/// The schema: required columns only.
fn table_schema() -> anyhow::Result<TypePtr> {
    let column = |name: &str, physical: PhysicalType, logical: Option<LogicalType>| -> anyhow::Result<TypePtr> {
        let builder = Type::primitive_type_builder(name, physical).with_repetition(Repetition::REQUIRED);
        Ok(Arc::new(builder.with_logical_type(logical).build()?))
    };
    let text = |name: &str| column(name, PhysicalType::BYTE_ARRAY, Some(LogicalType::String));
    let columns = vec![
        text("user_id")?,
        column("position", PhysicalType::INT32, None)?,
        text("item_id")?,
        column("score", PhysicalType::FLOAT, None)?,
        text("source")?,
        text("fallback")?,
    ];
    Ok(Arc::new(Type::group_type_builder("batch_lists").with_fields(columns).build()?))
}

/// Converts lines of JSON, one list per line, to the Parquet file `output`. The file appears once
/// it is complete and on the disk.
pub(super) fn write_list_table(lines: impl BufRead, output: &Path) -> anyhow::Result<()> {
    write_in_groups(lines, output, ROW_GROUP_ROWS)
}

fn write_in_groups(lines: impl BufRead, output: &Path, group_rows: usize) -> anyhow::Result<()> {
    let folder = output.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let table = tempfile::Builder::new().permissions(Permissions::from_mode(OUTPUT_MODE)).tempfile_in(folder)?;
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
    let mut writer = SerializedFileWriter::new(table.as_file(), table_schema()?, Arc::new(properties))?;
    let mut columns = ListColumns::default();
    for line in lines.lines() {
        columns.push_list(serde_json::from_str(&line?).context("a line is not a list")?);
        if columns.row_count() >= group_rows {
            columns.write_row_group(&mut writer)?;
            columns = ListColumns::default();
        }
    }
    if columns.row_count() > 0 {
        columns.write_row_group(&mut writer)?;
    }
    writer.close()?;
    table.as_file().sync_all()?;
    table.persist(output)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::user_list::UserListItem;
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::RowAccessor;

    fn list(user: &str, items: &[(&str, f32)]) -> UserList {
        let item = |&(id, score): &(&str, f32)| UserListItem { item_id: id.into(), score, source: "network".into() };
        UserList { user_id: user.into(), items: items.iter().map(item).collect(), fallback: "none".into() }
    }

    fn json_lines(lists: &[UserList]) -> Vec<u8> {
        lists
            .iter()
            .flat_map(|list| serde_json::to_string(list).unwrap().into_bytes().into_iter().chain(*b"\n"))
            .collect()
    }

    #[test]
    fn a_reader_gets_a_row_per_item_and_row_groups_of_whole_lists() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("lists.parquet");
        let lists = [
            list("ann", &[("tea", 1.5), ("a|b", 0.1)]),
            list("bob", &[]),
            list("zoë", &[("tea", f32::MIN_POSITIVE)]),
            list("eve", &[("cup", -2.0)]),
        ];
        write_in_groups(&json_lines(&lists)[..], &output, 2).unwrap();
        assert_eq!(folder.path().read_dir().unwrap().count(), 1, "no temporary file remains");

        let reader = SerializedFileReader::new(File::open(&output).unwrap()).unwrap();
        let groups: Vec<_> = reader.metadata().row_groups().iter().map(|group| group.num_rows()).collect();
        assert_eq!(groups, [2, 2]);
        let names: Vec<_> =
            reader.metadata().file_metadata().schema_descr().columns().iter().map(|c| c.name().to_owned()).collect();
        assert_eq!(names, ["user_id", "position", "item_id", "score", "source", "fallback"]);
        let rows = reader.get_row_iter(None).unwrap().map(|row| {
            let row = row.unwrap();
            assert_eq!((row.get_string(4).unwrap().as_str(), row.get_string(5).unwrap().as_str()), ("network", "none"));
            let text = |column| row.get_string(column).unwrap().clone();
            (text(0), row.get_int(1).unwrap(), text(2), row.get_float(3).unwrap())
        });
        let expected = [
            ("ann", 1, "tea", 1.5),
            ("ann", 2, "a|b", 0.1),
            ("zoë", 1, "tea", f32::MIN_POSITIVE),
            ("eve", 1, "cup", -2.0),
        ];
        assert_eq!(rows.collect::<Vec<_>>(), expected.map(|(u, p, i, s)| (u.to_owned(), p, i.to_owned(), s)));
    }

    #[test]
    fn no_list_gives_a_readable_file_and_an_invalid_line_gives_none() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("lists.parquet");
        assert!(write_list_table(&b"{}\n"[..], &output).is_err());
        assert_eq!(folder.path().read_dir().unwrap().count(), 0);
        write_list_table(&b""[..], &output).unwrap();
        let reader = SerializedFileReader::new(File::open(&output).unwrap()).unwrap();
        assert_eq!(reader.metadata().file_metadata().num_rows(), 0);
    }
}
