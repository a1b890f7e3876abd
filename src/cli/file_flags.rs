//! Flags for the layout of event and item files.

use anyhow::{Context, bail, ensure};
use clap::{Args, ValueEnum};

use crate::ingest::{
    ColumnMapping, EventField, EventPreset, ItemFileFormat, ItemFileReader, Preset, TableFormat, TimeFormat, TimeUnit,
};

/// Flags that describe the layout of a file of events or items.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct FileFlags {
    /// Column or field names in the file, such as user=uid. Events have the fields user, item,
    /// time, type, value, session, consent, id, recommendation_id, currency, quantity; items have
    /// `item` and their attributes. In NDJSON, context.user.id names a field of nested objects.
    #[arg(long, value_name = "FIELD=NAME", value_delimiter = ',')]
    map: Vec<String>,
    /// Kind of the events without a kind.
    #[arg(long = "type", value_name = "KIND")]
    default_kind: Option<String>,
    /// Names of kinds in the file, such as addtocart=cart,transaction=purchase.
    #[arg(long = "kind", value_name = "NAME=KIND", value_delimiter = ',')]
    kinds: Vec<String>,
    /// Separator of the columns of CSV: one character, or `tab` [default: detected: comma, tab,
    /// semicolon or bar].
    #[arg(long, value_name = "CHARACTER")]
    delimiter: Option<String>,
    /// Names of the columns of CSV without a header, in their order, such as user,item,time.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    columns: Vec<String>,
    /// Unit of the timestamps [default: detected: RFC 3339 text, or numbers of seconds,
    /// milliseconds, microseconds or nanoseconds by their magnitude]. Without it, a number that
    /// would be a time in 1970 is rejected.
    #[arg(long, value_name = "UNIT")]
    time_unit: Option<TimestampUnit>,
    /// Time zone of dates and times without an offset, such as Europe/Berlin, +02:00 or UTC
    /// [default: UTC with --time-unit iso; otherwise such timestamps are rejected].
    #[arg(long, value_name = "ZONE")]
    time_zone: Option<String>,
}

/// Unit of timestamps.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum TimestampUnit {
    /// Seconds since 1970.
    S,
    /// Milliseconds since 1970.
    Ms,
    /// Microseconds since 1970.
    Us,
    /// Nanoseconds since 1970.
    Ns,
    /// ISO 8601, such as 2014-04-01T01:15:41Z, "2014-04-01 01:15:41" or 2014-04-01.
    Iso,
}

impl FileFlags {
    /// The mapping of a file of events.
    pub(super) fn event_mapping(&self) -> anyhow::Result<ColumnMapping> {
        let mut mapping =
            ColumnMapping::new(self.time_format()?, self.default_kind.clone()).with_table_format(self.table_format()?);
        for (field, name) in parse_pairs("map", "FIELD=NAME", &self.map)? {
            let known = EventField::from_name(field);
            let field = known.with_context(|| {
                format!("invalid --map {field}={name}: the fields are user, item, time, type, value, session, consent, id, recommendation_id, currency and quantity")
            })?;
            mapping = mapping.with_column(field, name.to_owned());
        }
        for (name, kind) in parse_pairs("kind", "NAME=KIND", &self.kinds)? {
            mapping = mapping.with_kind_name(name.to_owned(), kind.to_owned());
        }
        Ok(mapping)
    }

    /// The converter of a preset of events.
    pub(super) fn event_preset(&self, preset: Preset) -> anyhow::Result<EventPreset> {
        self.ensure_preset_flags(preset)?;
        ensure!(self.delimiter.is_none(), "--delimiter does not apply to --preset {}", preset.name());
        let kinds = parse_pairs("kind", "NAME=KIND", &self.kinds)?;
        let kinds: Vec<_> = kinds.into_iter().map(|(name, kind)| (name.to_owned(), kind.to_owned())).collect();
        EventPreset::new(preset, &kinds).with_context(|| format!("--preset {} is not one of events", preset.name()))
    }

    /// The separator of a table of a catalog preset; `None` if it is detected.
    pub(super) fn preset_delimiter(&self, preset: Preset) -> anyhow::Result<Option<u8>> {
        self.ensure_preset_flags(preset)?;
        ensure!(self.kinds.is_empty(), "--kind applies to events, not to --preset {}", preset.name());
        Ok(self.table_format()?.delimiter)
    }

    /// Checks that no flag describes a table.
    pub(super) fn ensure_no_table_flags(&self, what: &str) -> anyhow::Result<()> {
        ensure!(self.delimiter.is_none(), "--delimiter does not apply to {what}");
        ensure!(self.columns.is_empty(), "--columns does not apply to {what}");
        Ok(())
    }

    /// Checks that no flag is given.
    pub(super) fn ensure_unused(&self, what: &str) -> anyhow::Result<()> {
        self.ensure_no_table_flags(what)?;
        ensure!(self.kinds.is_empty(), "--kind does not apply to {what}");
        self.ensure_no_layout_flags(what)
    }

    /// Checks that no flag describes a layout, which the preset determines.
    fn ensure_preset_flags(&self, preset: Preset) -> anyhow::Result<()> {
        ensure!(self.columns.is_empty(), "--columns does not apply to --preset {}", preset.name());
        self.ensure_no_layout_flags(&format!("--preset {}, which determines the layout", preset.name()))
    }

    fn ensure_no_layout_flags(&self, what: &str) -> anyhow::Result<()> {
        let flags = [
            ("--map", !self.map.is_empty()),
            ("--type", self.default_kind.is_some()),
            ("--time-unit", self.time_unit.is_some()),
            ("--time-zone", self.time_zone.is_some()),
        ];
        match flags.into_iter().find(|(_, is_given)| *is_given) {
            None => Ok(()),
            Some((flag, _)) => bail!("{flag} does not apply to {what}"),
        }
    }

    /// The format of a file of items.
    pub(super) fn item_format(&self) -> anyhow::Result<ItemFileFormat> {
        ensure!(
            self.default_kind.is_none() && self.kinds.is_empty(),
            "--type and --kind apply to events, not to --items"
        );
        let mut names = Vec::new();
        for (field, name) in parse_pairs("map", "FIELD=NAME", &self.map)? {
            let known = ItemFileReader::field_from_name(field);
            let field =
                known.with_context(|| format!("invalid --map {field}={name}: an item has no field `{field}`"))?;
            names.push((field, name.to_owned()));
        }
        Ok(ItemFileFormat { names, time: self.time_format()?, table: self.table_format()? })
    }

    fn table_format(&self) -> anyhow::Result<TableFormat> {
        let delimiter = match self.delimiter.as_deref() {
            None => None,
            Some("tab" | "\\t") => Some(b'\t'),
            Some(text) => {
                let byte =
                    text.bytes().next().filter(|byte| text.len() == 1 && byte.is_ascii() && !b"\"\r\n".contains(byte));
                Some(byte.with_context(|| {
                    format!("invalid --delimiter {text}: write one ASCII character other than a quote, or `tab`")
                })?)
            }
        };
        Ok(TableFormat { delimiter, columns: (!self.columns.is_empty()).then(|| self.columns.clone()) })
    }

    fn time_format(&self) -> anyhow::Result<TimeFormat> {
        let unit = match self.time_unit {
            None => TimeUnit::Auto,
            Some(TimestampUnit::S) => TimeUnit::Seconds,
            Some(TimestampUnit::Ms) => TimeUnit::Milliseconds,
            Some(TimestampUnit::Us) => TimeUnit::Microseconds,
            Some(TimestampUnit::Ns) => TimeUnit::Nanoseconds,
            Some(TimestampUnit::Iso) => TimeUnit::Iso8601,
        };
        Ok(TimeFormat::new(unit, self.time_zone.as_deref())?)
    }
}

/// The two sides of each `LEFT=RIGHT` of a flag.
fn parse_pairs<'p>(flag: &str, form: &str, values: &'p [String]) -> anyhow::Result<Vec<(&'p str, &'p str)>> {
    let mut pairs: Vec<(&str, &str)> = Vec::new();
    for pair in values {
        let (left, right) = pair.split_once('=').with_context(|| format!("invalid --{flag} {pair}: write {form}"))?;
        let earlier = pairs.iter().find(|(known, _)| *known == left);
        if let Some((_, earlier)) = earlier {
            bail!("invalid --{flag} {pair}: an earlier --{flag} says {left}={earlier}");
        }
        pairs.push((left, right));
    }
    Ok(pairs)
}
